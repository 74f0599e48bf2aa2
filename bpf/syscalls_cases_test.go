package bpf

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// The tests count system calls that nothing else on a machine is likely to make:
// the probe sees the whole node.

// start runs one act in a child of the test binary and returns its pipes.
func start(t *testing.T, act string) (*exec.Cmd, io.WriteCloser, io.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SONDE_TEST_ACT="+act)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, in, out
}

// run runs one act to its end.
func run(t *testing.T, act string) {
	t.Helper()
	cmd, _, out := start(t, act)
	if _, err := io.Copy(os.Stderr, out); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s: %v", act, err)
	}
}

// rareSleep waits on an empty epoll instance through the one call for it that
// hardly anybody makes, epoll_pwait2, with all signals blocked.
func rareSleep(d time.Duration) error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ts, mask := unix.NsecToTimespec(int64(d)), ^uint64(0)
	var ev unix.EpollEvent
	if _, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 1,
		uintptr(unsafe.Pointer(&ts)), uintptr(unsafe.Pointer(&mask)), unsafe.Sizeof(mask)); errno != 0 {
		return errno
	}
	return nil
}

func (s *Syscalls) unpaired(tb testing.TB, reason string) uint64 {
	tb.Helper()
	for _, st := range s.read(tb).Unpaired {
		if st.Reason == reason {
			return st.Count
		}
	}
	tb.Fatalf("no reason %q", reason)
	return 0
}

// ppoll waits on nothing, the rarest of sleeps, with all signals blocked: Go's
// scheduler sends some.
func ppoll(d time.Duration) unix.Errno {
	ts, mask := unix.NsecToTimespec(int64(d)), ^uint64(0)
	_, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, 0, 0, uintptr(unsafe.Pointer(&ts)),
		uintptr(unsafe.Pointer(&mask)), unsafe.Sizeof(mask), 0)
	return errno
}

// syscallActs are the workloads of this file.
func syscallActs() {
	acts["noop"] = func() error { return nil }
	acts["rare-sleep"] = func() error {
		runtime.LockOSThread()
		fmt.Println(unix.Gettid())
		return rareSleep(700 * time.Millisecond)
	}
	acts["ppoll"] = func() error {
		runtime.LockOSThread()
		fmt.Println(unix.Gettid())
		if errno := ppoll(700 * time.Millisecond); errno != 0 {
			return errno
		}
		return nil
	}
	acts["exec-from-thread"] = execFromThread
	acts["seccomp"] = seccompDenied
}

// execFromThread replaces the process from a thread that is not its leader.
func execFromThread() error {
	if os.Getenv("SONDE_TEST_EXECED") != "" {
		return nil
	}
	fault := make(chan error)
	for range 2 { // one of two locked goroutines is not on the leader
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == unix.Getpid() {
				select {}
			}
			path := []byte("/proc/self/exe\x00")
			act, env := []byte("SONDE_TEST_ACT=exec-from-thread\x00"), []byte("SONDE_TEST_EXECED=1\x00")
			argv := []*byte{&path[0], nil}
			envp := []*byte{&act[0], &env[0], nil}
			at := unix.AT_FDCWD
			_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(at), uintptr(unsafe.Pointer(&path[0])),
				uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envp[0])), 0, 0)
			fault <- errno
		}()
	}
	return <-fault
}

// seccompDenied makes 100 calls that a filter refuses before their entry is seen.
func seccompDenied() error {
	runtime.LockOSThread()
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.SYS_SCHED_GET_PRIORITY_MIN},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0); err != nil {
		return err
	}
	for range 100 {
		if _, _, errno := unix.RawSyscall(unix.SYS_SCHED_GET_PRIORITY_MIN, 0, 0, 0); errno != unix.EPERM {
			return fmt.Errorf("filtered call: %w, want EPERM", errno)
		}
	}
	return nil
}

func TestSyscallDurationIsTheCalls(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		s := newSyscalls(t, k, SyscallsOptions{})
		const n, each = 10, 20 * time.Millisecond
		began := time.Now()
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for range n {
			if err := rareSleep(each); err != nil {
				t.Fatal(err)
			}
		}
		took := time.Since(began)
		for _, st := range s.read(t).Calls {
			if st.Syscall != "epoll_pwait2" || st.Outcome != "success" {
				continue
			}
			if st.Count != n {
				t.Errorf("counted %d of %d", st.Count, n)
			}
			if sum := time.Duration(st.Duration.Sum); sum < n*each || sum > took {
				t.Errorf("sum %v, want between %v and %v", sum, n*each, took)
			}
			for i, c := range st.Duration.Counts {
				if upper := st.Duration.First + int32(i); upper <= -23 && c > 0 { // 2^(-23/4) s = 18.6 ms
					t.Errorf("%d calls in bucket %d, below the time each took", c, upper)
				}
			}
		}
	})
}

func TestSyscallsUnderWayAtAttachAreNotTimed(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		cmd, _, out := start(t, "rare-sleep")
		var tid int
		if _, err := fmt.Fscan(out, &tid); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		s := newSyscalls(t, k, SyscallsOptions{})
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if got := s.count(t, "epoll_pwait2", "success"); got != 0 {
			t.Errorf("timed %d calls whose start was not seen", got)
		}
		if got := s.unpaired(t, "attach"); got == 0 {
			t.Error("the call under way at attach is not accounted for")
		}
	})
}

func TestSyscallsRestartedAreErrorsOfTheirOwn(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		s := newSyscalls(t, k, SyscallsOptions{})
		cmd, _, out := start(t, "ppoll")
		var tid int
		if _, err := fmt.Fscan(out, &tid); err != nil {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
		for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT} {
			if err := unix.Kill(cmd.Process.Pid, sig); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		if got := s.errorCount(t, "ppoll", "restart"); got != 1 {
			t.Errorf("restarted %d times, want 1", got)
		}
		if got := s.count(t, "ppoll", "success"); got == 0 { // others may poll too
			t.Error("the restarted call did not end in success")
		}
	})
}

func TestSyscallsExecFromThreadKeepsItsEntry(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		s := newSyscalls(t, k, SyscallsOptions{})
		for range 5 {
			run(t, "exec-from-thread")
		}
		if got := s.count(t, "execveat", "success"); got != 5 {
			t.Errorf("counted %d of 5 execveat calls from threads", got)
		}
	})
}

func TestSyscallsRefusedBySeccompAreUnpaired(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		s := newSyscalls(t, k, SyscallsOptions{})
		before := s.unpaired(t, "seccomp")
		run(t, "seccomp")
		if got := s.unpaired(t, "seccomp") - before; got != 100 {
			t.Errorf("counted %d of 100 refused calls", got)
		}
		if got := s.count(t, "sched_get_priority_min", "error") + s.count(t, "sched_get_priority_min", "success"); got != 0 {
			t.Errorf("timed %d calls that never entered", got)
		}
	})
}

func TestSyscallsOutsideTheTable(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	s := newSyscalls(t, k, SyscallsOptions{})
	compat := map[string]uintptr{"amd64": 0x40000000 + unix.SYS_GETPID}[runtime.GOARCH]
	for range 1000 {
		unix.RawSyscall(syscallTable+100, 0, 0, 0)
		if compat != 0 {
			unix.RawSyscall(compat, 0, 0, 0)
		}
	}
	if got := s.count(t, "other", "error"); got != 1000 {
		t.Errorf("numbers beyond the table: counted %d of 1000", got)
	}
	if compat != 0 {
		if got := s.count(t, "compat", "error") + s.count(t, "compat", "success"); got != 1000 {
			t.Errorf("x32 calls: counted %d of 1000", got)
		}
	}
}

// exit32 writes a program of 32-bit code that does nothing but this exit call.
func exit32(t *testing.T, call byte) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		testenv.Skip(t, "the program is i386 code")
	}
	const at, size = 0x8048000, 52 + 32 + 12 // one header, one segment, the code
	words := func(all ...uint32) (b []byte) {
		for _, w := range all {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		return b
	}
	image := append([]byte("\x7fELF\x01\x01\x01"), make([]byte, 9)...)
	image = append(image, words(3<<16|2, 1, at+52+32, 52, 0, 0, 32<<16|52, 1, 0)...) // an executable for the 386
	image = append(image, words(1, 0, at, at, size, size, 5, 0x1000)...)             // all of it, to be run
	image = append(image, 0xb8, call, 0, 0, 0, 0x31, 0xdb, 0xcd, 0x80, 0, 0, 0)      // mov eax, call; xor ebx, ebx; int 0x80
	path := filepath.Join(t.TempDir(), "exit32")
	must(t, "write program", os.WriteFile(path, image, 0o700))
	return path
}

// A 32-bit process that ends is a call that is counted, though it never returns.
func TestSyscallsCompatExitsAreCounted(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		const exit, exitGroup, n = 1, 252, 10
		one, group := exit32(t, exit), exit32(t, exitGroup)
		s := newSyscalls(t, k, SyscallsOptions{})
		for range n {
			for _, path := range []string{one, group} {
				must(t, "run "+path, exec.Command(path).Run())
			}
		}
		if got := s.count(t, "compat", "success"); got != 2*n {
			t.Errorf("counted %d of %d exits", got, 2*n)
		}
		for _, st := range s.read(t).Calls {
			if st.Syscall == "compat" && st.Duration != nil {
				t.Errorf("%d calls that never return have a duration", st.Duration.Count())
			}
		}
	})
}

// hammer makes calls from many threads at once.
func hammer(threads, calls int) {
	var wg sync.WaitGroup
	for range threads {
		wg.Go(func() {
			runtime.LockOSThread() // the thread ends here too: slots come and go
			for range calls {
				unix.RawSyscall(unix.SYS_SCHED_GET_PRIORITY_MAX, 0, 0, 0)
			}
		})
	}
	wg.Wait()
}

func TestSyscallsManyThreadsFewSlots(t *testing.T) {
	for _, c := range []struct {
		slots       uint32
		preemptible bool
	}{{DefaultThreadSlots, false}, {64, false}, {1, false}, {DefaultThreadSlots, true}} {
		slots := c.slots
		t.Run(fmt.Sprintf("slots=%d,preemptible=%v", slots, c.preemptible), func(t *testing.T) {
			k := newKernel(t, Options{RingBytes: 1 << 20, preemptible: c.preemptible})
			s := newSyscalls(t, k, SyscallsOptions{ThreadSlots: slots})
			calls := 1000
			if testing.Short() {
				calls = 200
			}
			hammer(200, calls)
			hammer(200, calls)
			n := uint64(2 * 200 * calls)
			if got, skipped := s.count(t, "sched_get_priority_max", "success"), unseen(t, k); got > n || got+skipped < n {
				t.Errorf("counted %d of %d, and the kernel skipped %d", got, n, skipped)
			}
			if got := s.unpaired(t, "no_slot"); got != 0 {
				t.Errorf("%d calls found no slot", got)
			}
		})
	}
}

// Beyond all slots calls are not timed, but each of them is accounted for.
func TestSyscallsNoSlotIsCounted(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	s := newSyscalls(t, k, SyscallsOptions{ThreadSlots: 1, ThreadsOverflow: 1})
	hammer(50, 1000)
	timed, untimed := s.count(t, "sched_get_priority_max", "success"), s.unpaired(t, "no_slot")
	if untimed == 0 || mapFailures(t, k, "syscalls_threads_overflow") == 0 {
		t.Error("50 threads found room in two places")
	}
	if skipped := unseen(t, k); timed+untimed+skipped < 50_000 {
		t.Errorf("%d timed, %d without a slot and %d skipped do not cover 50000 calls", timed, untimed, skipped)
	}
}

func TestSyscallsBeyondAllHistogramsAreOther(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	s := newSyscalls(t, k, SyscallsOptions{histLimit: 2}) // none but "other"
	const n = 5000
	for range n {
		unix.RawSyscall(unix.SYS_SCHED_GET_PRIORITY_MAX, 0, 0, 0)
	}
	if got := s.count(t, "sched_get_priority_max", "success"); got != 0 {
		t.Errorf("%d calls have a histogram although none was free", got)
	}
	// It is the pair that is folded, once, however often it is called.
	if got := s.count(t, "other", "success"); got < n {
		t.Errorf("other has %d calls, want at least %d", got, n)
	}
	if got := s.read(t).FoldedCalls; got == 0 || got > syscallRows*outcomes {
		t.Errorf("folded %d pairs of call and outcome", got)
	}
}

// Errors that find their table full are summed up per call, and each is counted.
func TestSyscallErrorsBeyondTheTableAreOther(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	s := newSyscalls(t, k, SyscallsOptions{Errors: 1})
	const n = 5000
	for range n {
		unix.RawSyscall(unix.SYS_SCHED_GET_PRIORITY_MAX, 99, 0, 0)
		unix.RawSyscall(unix.SYS_SCHED_GET_PRIORITY_MIN, 99, 0, 0)
	}
	stats := s.read(t)
	var other uint64
	for _, e := range stats.Errors {
		if e.Syscall == "sched_get_priority_max" || e.Syscall == "sched_get_priority_min" {
			if e.Errno != "other" && e.Errno != "EINVAL" {
				t.Errorf("%d calls with %s", e.Count, e.Errno)
			}
			other += e.Count
		}
	}
	if other != 2*n {
		t.Errorf("counted %d of %d errors", other, 2*n)
	}
	if got := mapFailures(t, k, "syscalls_errors"); stats.FoldedErrors == 0 || got < n {
		t.Errorf("%d calls have folded errors, %d errors found no place; want at least 1 and %d", stats.FoldedErrors, got, n)
	}
}

// mapFailures returns how often a map had no room.
func mapFailures(tb testing.TB, k *Kernel, name string) uint64 {
	tb.Helper()
	maps, err := k.Maps()
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range maps {
		if m.Map == name {
			return m.UpdateFailures
		}
	}
	tb.Fatalf("no map %s", name)
	return 0
}
