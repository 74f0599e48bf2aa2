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

// Maps describes every map of every probe, by name: its probe's and its own. A
// shared map is the kernel object's and counted once. It costs three system
// calls per map and a walk over the maps of the node, so it is for scrapes.
func (k *Kernel) Maps() ([]MapStat, error) {
	fills, err := k.fills()
	if err != nil {
		return nil, err
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	var stats []MapStat
	for _, o := range k.objects {
		for name, m := range o.coll.Maps {
			if !slices.Contains(o.own, name) && !strings.HasPrefix(name, ".") {
				continue // shared
			}
			s, err := o.mapStat(name, m, fills)
			if err == nil {
				s.UpdateFailures, err = k.updateFailures(o, name)
			}
			if err != nil {
				return nil, fmt.Errorf("describe map %s of %s: %w", name, o.probe, err)
			}
			stats = append(stats, s)
		}
	}
	slices.SortFunc(stats, func(a, b MapStat) int { return cmp.Compare(a.Map, b.Map) })
	return stats, nil
}

func (o *object) mapStat(name string, m *ebpf.Map, fills map[ebpf.MapID]uint64) (MapStat, error) {
	s := MapStat{Map: o.probe + "_" + strings.TrimPrefix(name, "."), MaxEntries: uint64(m.MaxEntries())}
	info, err := m.Info()
	if err != nil {
		return s, err
	}
	memory, _ := info.Memlock()
	layout := Layout{m.Type(), m.KeySize(), m.ValueSize()}
	s.MemoryBytes = max(memory, layout.Bytes(s.MaxEntries)) // before 6.4 the kernel counts values only, and a ring as nothing
	if id, ok := info.ID(); ok && counted(m.Type()) {
		if n, ok := fills[id]; ok {
			s.Entries = &n
		}
	}
	return s, nil
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
