package bpf

import (
	"fmt"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
)

// counters is a map with one element for each possible CPU, mapped into this
// process: to read it is to copy memory, and stays possible when nothing counts any
// more. A T consists of 64-bit counters and nothing else, histograms included. It is
// safe for concurrent use.
type counters[T any] struct {
	name   string
	memory *ebpf.Memory
	cpus   int

	mu  sync.Mutex // guards what follows
	cpu T          // one CPU's, as copied last
}

// sizeCounters gives the map of that name its elements, before it is loaded.
func sizeCounters(spec *ebpf.CollectionSpec, name string) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count CPUs: %w", err)
	}
	spec.Maps[name].MaxEntries = uint32(cpus)
	return nil
}

// openCounters maps the map of that name of a loaded object.
func openCounters[T any](o *object, name string) (*counters[T], error) {
	m := o.coll.Maps[name]
	memory, err := m.Memory()
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	return &counters[T]{name: name, memory: memory, cpus: int(m.MaxEntries())}, nil
}

// sum adds all CPUs' counters up into total, whatever that held.
func (c *counters[T]) sum(total *T) error { return c.sumPart(total, 0, unsafe.Sizeof(*total)) }

// sumPart is sum for the bytes from begin to end of a T alone, both multiples of 8.
func (c *counters[T]) sumPart(total *T, begin, end uintptr) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := unsafe.Sizeof(c.cpu)
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&c.cpu)), size)[begin:end]
	from, to := words(&c.cpu)[begin/8:end/8], words(total)[begin/8:end/8]
	clear(to)
	for cpu := range c.cpus {
		if _, err := c.memory.ReadAt(raw, int64(uintptr(cpu)*size+begin)); err != nil {
			return fmt.Errorf("read %s: %w", c.name, err)
		}
		for i, n := range from {
			to[i] += n
		}
	}
	return nil
}

// words is a struct of 64-bit counters as the words that it consists of.
func words[T any](t *T) []uint64 {
	return unsafe.Slice((*uint64)(unsafe.Pointer(t)), unsafe.Sizeof(*t)/8)
}
