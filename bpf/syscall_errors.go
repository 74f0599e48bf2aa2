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

// ReadErrors returns the failed calls by errno. Errors that found the kernel's
// table of 2048 pairs full are summed up per call under errno "other".
func (s *Syscalls) ReadErrors() ([]SyscallErrorStat, error) {
	type pair struct{ syscall, errno string }
	sums := map[pair]uint64{}
	m := s.obj.coll.Maps["errors"]
	var (
		cursor ebpf.MapBatchCursor
		keys   = make([]uint32, errorsAtATime)
		values = make([]uint64, errorsAtATime*ebpf.MustPossibleCPU())
		cpus   = ebpf.MustPossibleCPU()
	)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			var sum uint64
			for _, v := range values[i*cpus : (i+1)*cpus] {
				sum += v
			}
			sums[pair{rowName(keys[i] >> 16), errnoName(keys[i] & 0xffff)}] += sum
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read errors: %w", err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refreshTail(); err != nil {
		return nil, err
	}
	for row, n := range s.sum.ErrorsOther {
		if n > 0 {
			sums[pair{rowName(uint32(row)), nameOther}] += n
		}
	}
	stats := make([]SyscallErrorStat, 0, len(sums))
	for p, n := range sums {
		stats = append(stats, SyscallErrorStat{Syscall: p.syscall, Errno: p.errno, Count: n})
	}
	return stats, nil
}

// ReadUnpaired returns the calls that could not be timed, by reason; every
// reason is present.
func (s *Syscalls) ReadUnpaired() ([]UnpairedStat, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refreshTail(); err != nil {
		return nil, err
	}
	stats := make([]UnpairedStat, len(unpairedReasons))
	for i, reason := range unpairedReasons {
		stats[i] = UnpairedStat{Reason: reason, Count: s.sum.Unpaired[i]}
	}
	return stats, nil
}
