package bpf

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func newSyscalls(tb testing.TB, k *Kernel, opts SyscallsOptions) *Syscalls {
	tb.Helper()
	s, err := NewSyscalls(k, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// read is Read for tests.
func (s *Syscalls) read(tb testing.TB) SyscallStats {
	tb.Helper()
	stats, err := s.Read()
	if err != nil {
		tb.Fatal(err)
	}
	return stats
}

// count returns the calls of one system call and outcome.
func (s *Syscalls) count(tb testing.TB, name, outcome string) (n uint64) {
	tb.Helper()
	for _, st := range s.read(tb).Calls {
		if st.Syscall == name && st.Outcome == outcome {
			n += st.Count
		}
	}
	return n
}

// unseen is the most calls that can be missing from the counts: those for which the
// kernel skipped both programs of a tracepoint. It does where tracepoints are
// preemptible and a third task came while two were in the middle of theirs.
func unseen(tb testing.TB, k *Kernel) (n uint64) {
	tb.Helper()
	programs, err := k.Programs()
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range programs {
		if strings.HasSuffix(p.Program, "_again") {
			n += p.Missed
		}
	}
	return n
}

func (s *Syscalls) errorCount(tb testing.TB, name, errno string) uint64 {
	tb.Helper()
	for _, st := range s.read(tb).Errors {
		if st.Syscall == name && st.Errno == errno {
			return st.Count
		}
	}
	return 0
}

func TestSyscallsCountExactly(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		s := newSyscalls(t, k, SyscallsOptions{})
		const n = 100_000
		for range n {
			unix.RawSyscall(unix.SYS_SCHED_GET_PRIORITY_MAX, 0, 0, 0)
		}
		for range 1000 {
			unix.RawSyscall(unix.SYS_SCHED_GET_PRIORITY_MAX, 99, 0, 0)
		}
		if got := s.count(t, "sched_get_priority_max", "success"); got != n {
			t.Errorf("success: counted %d of %d", got, n)
		}
		if got := s.count(t, "sched_get_priority_max", "error"); got != 1000 {
			t.Errorf("error: counted %d of 1000", got)
		}
		if got := s.errorCount(t, "sched_get_priority_max", "EINVAL"); got != 1000 {
			t.Errorf("EINVAL: counted %d of 1000", got)
		}
	})
}
