package bpf

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

//go:generate go tool bpf2go -cc clang-16 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type fill fills fills.bpf.c -- -Iheaders

// failuresSuffix names the variable in which an object counts what it could not
// enter in a map: the map's name and this.
const failuresSuffix = "_failures"

// mapDescription is what does not change of a map while it lives.
type mapDescription struct {
	id     ebpf.MapID // 0 where its entries are not counted
	memory uint64     // bytes
}

// describe looks at the object's maps, those that are not shared, once: the kernel
// tells what a map takes in a file of /proc, and Maps is called twice a scrape. Every
// map that is filled for long is preallocated.
func (o *object) describe() error {
	o.described = map[string]mapDescription{}
	for name, m := range o.coll.Maps {
		if !slices.Contains(o.own, name) && !strings.HasPrefix(name, ".") {
			continue // shared
		}
		info, err := m.Info()
		if err != nil {
			return fmt.Errorf("describe map %s: %w", name, err)
		}
		memory, _ := info.Memlock()
		layout := Layout{m.Type(), m.KeySize(), m.ValueSize()}
		d := mapDescription{memory: max(memory, layout.Bytes(uint64(m.MaxEntries())))} // before 6.4 the kernel counts values only, and a ring as nothing
		if counted(m.Type()) {
			d.id, _ = info.ID()
		}
		o.described[name] = d
	}
	return nil
}

// Maps describes every map of every probe, by name: its probe's and its own. A
// shared map is the kernel object's and counted once. It costs a walk over the maps
// of the node, so it is for scrapes.
func (k *Kernel) Maps() ([]MapStat, error) {
	fills, err := k.fills()
	if err != nil {
		return nil, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	var stats []MapStat
	for _, o := range k.objects {
		for name, d := range o.described {
			s := MapStat{
				Map: o.probe + "_" + strings.TrimPrefix(name, "."), MaxEntries: uint64(o.coll.Maps[name].MaxEntries()),
				MemoryBytes: d.memory,
			}
			if n, ok := fills[d.id]; ok {
				s.Entries = &n
			}
			if s.UpdateFailures, err = k.updateFailures(o, name); err != nil {
				return nil, fmt.Errorf("describe map %s of %s: %w", name, o.probe, err)
			}
			stats = append(stats, s)
		}
	}
	slices.SortFunc(stats, func(a, b MapStat) int { return cmp.Compare(a.Map, b.Map) })
	return stats, nil
}

// updateFailures adds up what the objects that use a map could not enter in it.
func (k *Kernel) updateFailures(o *object, name string) (sum uint64, err error) {
	users := []*object{o}
	if k.shared[name] != nil {
		users = k.objects
	}
	for _, user := range users {
		if v := user.coll.Variables[name+failuresSuffix]; v != nil {
			var n uint64
			if err := v.Get(&n); err != nil {
				return 0, err
			}
			sum += n
		}
	}
	return sum, nil
}

// counted tells whether the kernel keeps the number of entries of such a map.
func counted(t ebpf.MapType) bool {
	return t == ebpf.Hash || t == ebpf.PerCPUHash || t == ebpf.LRUHash || t == ebpf.LRUCPUHash
}

// loadFills loads the iterator over maps. A kernel without one, or without the
// number of entries (before 6.6), is no error: the numbers are absent then.
func (k *Kernel) loadFills() error {
	spec, err := loadFills()
	if err != nil {
		return fmt.Errorf("parse fills object: %w", err)
	}
	if o, err := k.load(blueprint{probe: "fills", spec: spec}); err == nil {
		k.fillCounter = o.coll.Programs["fills"]
	}
	return nil
}

// fills returns the number of entries of every map of the node; it is nil where
// the kernel does not tell.
func (k *Kernel) fills() (map[ebpf.MapID]uint64, error) {
	if k.fillCounter == nil {
		return nil, nil
	}
	raw, err := readIterator(k.fillCounter)
	if err != nil {
		return nil, fmt.Errorf("iterate maps: %w", err)
	}
	list := make([]fillsFill, len(raw)/int(unsafe.Sizeof(fillsFill{})))
	if _, err := binary.Decode(raw, binary.NativeEndian, list); err != nil {
		return nil, fmt.Errorf("decode map fills: %w", err)
	}
	fills := make(map[ebpf.MapID]uint64, len(list))
	for _, f := range list {
		fills[ebpf.MapID(f.Id)] = f.Entries
	}
	return fills, nil
}

// runIterator runs an iterator program that works by what it does to maps.
func runIterator(prog *ebpf.Program) error {
	_, err := readIterator(prog)
	return err
}

// readIterator runs an iterator program over all its objects and returns what it wrote.
func readIterator(prog *ebpf.Program) ([]byte, error) {
	it, err := link.AttachIter(link.IterOptions{Program: prog})
	if err != nil {
		return nil, plainErrno(err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return nil, plainErrno(err)
	}
	defer r.Close()
	return io.ReadAll(r)
}
