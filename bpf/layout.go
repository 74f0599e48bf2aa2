package bpf

import (
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf"
)

// Layout is how a map lies in kernel memory.
type Layout struct {
	kind       ebpf.MapType
	key, value uint32
}

// Bytes returns what the map takes with room for n entries, less what does not grow
// with them; 0 for kinds that keep values by CPU.
func (l Layout) Bytes(n uint64) uint64 {
	const bucket, header = 16, 48 // of a hash map, which has a power of two of buckets
	key, value := uint64(l.key+7)&^7, uint64(l.value+7)&^7
	switch {
	case n == 0:
		return 0
	case l.kind == ebpf.RingBuf:
		return n
	case l.kind == ebpf.Array:
		return n * value
	case l.kind == ebpf.Hash || l.kind == ebpf.LRUHash:
		return n*(header+key+value) + bucket<<bits.Len64(n-1)
	}
	return 0
}

// sizedMaps are the maps whose size is an option, by the objects that define them.
var sizedMaps = []struct {
	probe string
	load  func() (*ebpf.CollectionSpec, error)
	maps  []string
}{
	{"kernel", loadKernel, []string{"events"}},
	{"process", loadProcess, []string{"alive"}},
	{"syscalls", loadSyscalls, []string{"threads"}},
	{"tcp", loadTcp, []string{"sockets"}},
	{"udp", loadUdp, []string{"flows", "sockets"}},
}

// Layouts returns the layouts of the maps whose size is an option, by the names that
// MapStat has for them. cgroupV1 says that workloads are told apart by their cgroups
// of v1, which takes more. The call takes some 20 ms: it reads the objects.
func Layouts(cgroupV1 bool) (map[string]Layout, error) {
	all := map[string]Layout{}
	for _, o := range sizedMaps {
		spec, err := o.load()
		if err != nil {
			return nil, fmt.Errorf("parse %s object: %w", o.probe, err)
		}
		if o.probe == "tcp" && !cgroupV1 {
			if err := cutLastMember(spec.Maps["sockets"]); err != nil {
				return nil, fmt.Errorf("size map sockets: %w", err)
			}
		}
		for _, name := range o.maps {
			m := spec.Maps[name]
			all[o.probe+"_"+name] = Layout{m.Type, m.KeySize, m.ValueSize}
		}
	}
	return all, nil
}
