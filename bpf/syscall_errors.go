package bpf

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// The kernel's own return codes for a call that will be, or was, restarted
// (include/linux/errno.h); they never reach user space as errno.
const (
	errRestartFirst = 512
	errRestartLast  = 516
)

// errnoName returns the symbolic name of an errno as a label value.
func errnoName(errno uint32) string {
	if errno >= errRestartFirst && errno <= errRestartLast {
		return "restart"
	}
	if name := unix.ErrnoName(unix.Errno(errno)); name != "" {
		return name
	}
	return nameOther
}

// errorsAtATime bounds the memory for one step of reading the table: 8 bytes for
// each entry and CPU.
const errorsAtATime = 512

// errorTable reads the kernel's table of failed calls. It keeps its memory from one
// reading to the next.
type errorTable struct {
	keys   []uint32
	values []uint64 // of one CPU after the other, for each key
	sums   map[errorPair]uint64
	stats  []SyscallErrorStat
}

type errorPair struct{ syscall, errno string }

// read returns the failed calls by errno. beyond counts, by row, those that found
// the table full: they are shown with errno "other", and folded is in how many rows
// there are any.
func (t *errorTable) read(m *ebpf.Map, beyond []uint64) (stats []SyscallErrorStat, folded uint64, err error) {
	if err := t.readMap(m); err != nil {
		return nil, 0, fmt.Errorf("read errors: %w", err)
	}
	for row, n := range beyond {
		if n > 0 {
			folded++
			t.sums[errorPair{rowName(uint32(row)), nameOther}] += n
		}
	}
	t.stats = t.stats[:0]
	for p, n := range t.sums {
		t.stats = append(t.stats, SyscallErrorStat{Syscall: p.syscall, Errno: p.errno, Count: n})
	}
	return t.stats, folded, nil
}

// readMap adds up the table over all CPUs.
func (t *errorTable) readMap(m *ebpf.Map) error {
	cpus := ebpf.MustPossibleCPU()
	if t.sums == nil {
		t.keys, t.values = make([]uint32, errorsAtATime), make([]uint64, errorsAtATime*cpus)
		t.sums = map[errorPair]uint64{}
	}
	clear(t.sums)
	for cursor := (ebpf.MapBatchCursor{}); ; {
		n, err := m.BatchLookup(&cursor, t.keys, t.values, nil)
		for i := range n {
			p := errorPair{rowName(t.keys[i] >> 16), errnoName(t.keys[i] & 0xffff)}
			for _, v := range t.values[i*cpus : (i+1)*cpus] {
				t.sums[p] += v
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
