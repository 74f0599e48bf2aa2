package bpf

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// The machine forks and execs while these tests run, and the counters are those
// of the whole node. What makes the tests exact nevertheless: with the points
// on from before the probe is attached, every count is also an event that names
// its process. So counts are compared with events, all of them, and events of
// the test's own children with what the test did.

// Acts of children; SONDE_TEST_ARG is the argument.

func actExit() error {
	code, err := strconv.Atoi(os.Getenv("SONDE_TEST_ARG"))
	if err == nil {
		os.Exit(code)
	}
	return err
}

func actSleep() error {
	d, err := time.ParseDuration(os.Getenv("SONDE_TEST_ARG"))
	time.Sleep(d)
	return err
}

// actThreads ends with many threads at once: exit_group finds them all asleep in the kernel.
func actThreads() error {
	n, err := strconv.Atoi(os.Getenv("SONDE_TEST_ARG"))
	if err != nil {
		return err
	}
	var asleep sync.WaitGroup
	for range n {
		asleep.Add(1)
		go func() {
			runtime.LockOSThread()
			asleep.Done()
			unix.Poll(nil, -1)
		}()
	}
	asleep.Wait()
	os.Exit(0)
	return nil
}

// actNest starts itself as many levels deep as it is told.
func actNest() error {
	n, err := strconv.Atoi(os.Getenv("SONDE_TEST_ARG"))
	if err != nil || n == 0 {
		return err
	}
	os.Setenv("SONDE_TEST_ARG", strconv.Itoa(n-1))
	// Not os/exec, which forks once more to try out the system.
	files := []uintptr{0, 1, 2}
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{Env: os.Environ(), Files: files})
	if err != nil {
		return err
	}
	_, err = syscall.Wait4(pid, nil, 0, nil)
	return err
}

// actStorm forks for a while: the children fail to exec and exit with status 253.
func actStorm() error {
	d, err := time.ParseDuration(os.Getenv("SONDE_TEST_ARG"))
	for end := time.Now().Add(d); time.Now().Before(end); {
		if _, err := syscall.ForkExec("/nonexistent", nil, nil); !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	return err
}

// act prepares the test binary to run as a child with an act.
func act(name, arg string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	// The race detector would sleep for a second before each exit.
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", "SONDE_TEST_ACT="+name, "SONDE_TEST_ARG="+arg)
	cmd.Stderr = os.Stderr
	return cmd
}

// runAct runs an act to its end and returns its wait status.
func runAct(tb testing.TB, name, arg string) syscall.WaitStatus {
	tb.Helper()
	cmd := act(name, arg)
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		tb.Fatal(err)
	}
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// startAct starts an act; the child is killed and waited for with the test.
func startAct(tb testing.TB, name, arg string) *exec.Cmd {
	tb.Helper()
	cmd := act(name, arg)
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return cmd
}

func newProcesses(tb testing.TB, k *Kernel, opts ProcessesOptions) *Processes {
	tb.Helper()
	p, err := NewProcesses(k, opts)
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func (p *Processes) mustRead(tb testing.TB) ProcessStats {
	tb.Helper()
	s, err := p.Read()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func (s *ProcessStats) exits() uint64 {
	return s.ExitsZero + s.ExitsNonzero + s.ExitsSignal + s.ExitsOOM
}

// recordProcesses attaches the probe with all its points on.
func recordProcesses(t *testing.T, k *Kernel, opts ProcessesOptions) (*Processes, *Events) {
	t.Helper()
	runAct(t, "exit", "0") // what the Go runtime tries out at the first child is behind us
	if err := k.SetPoints(event.ProcessExec, event.ProcessFork, event.ProcessExit); err != nil {
		t.Fatal(err)
	}
	e, err := NewEvents(k, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return newProcesses(t, k, opts), e
}

// stop detaches the probe and returns every event it sent. A lost one fails the test.
func stop(t *testing.T, k *Kernel, e *Events) []event.Event {
	t.Helper()
	k.Detach()
	time.Sleep(10 * time.Millisecond) // a program may still be running on another CPU
	if err := e.Flush(); err != nil {
		t.Fatal(err)
	}
	var all []event.Event
	for {
		var ev event.Event
		err := e.Next(&ev)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, ev.Clone())
	}
}

// tally counts what events say in the shape of the probe's counters.
func tally(events []event.Event) ProcessStats {
	var s ProcessStats
	for i := range events {
		ev := &events[i]
		switch {
		case ev.Point == event.ProcessExec:
			s.Execs++
		case ev.Point == event.ProcessFork:
			s.ForksProcess++
		case ev.Exit.OOMKilled:
			s.ExitsOOM++
		case ev.Exit.Signal != 0:
			s.ExitsSignal++
		case ev.Exit.Code != 0:
			s.ExitsNonzero++
		default:
			s.ExitsZero++
		}
	}
	return s
}

// own keeps the events of the test's own children: forks by it, execs and exits of them.
func own(k *Kernel, events []event.Event) []event.Event {
	self := k.Self().PID
	return slices.DeleteFunc(slices.Clone(events), func(ev event.Event) bool {
		if ev.Point == event.ProcessFork {
			return ev.Process.PID != self
		}
		return ev.Process.PPID != self
	})
}

// countersOnly keeps what tally fills.
func countersOnly(s ProcessStats) ProcessStats {
	return ProcessStats{
		Execs: s.Execs, ForksProcess: s.ForksProcess,
		ExitsZero: s.ExitsZero, ExitsNonzero: s.ExitsNonzero, ExitsSignal: s.ExitsSignal, ExitsOOM: s.ExitsOOM,
	}
}

// eachLastThread runs a test with the tracepoint's own word for the last thread
// and without, as on older kernels; and with either attach kind by the way.
func eachLastThread(t *testing.T, f func(t *testing.T, k *Kernel, opts ProcessesOptions)) {
	t.Run("group_dead", func(t *testing.T) {
		f(t, newKernel(t, Options{Attach: AttachTpBTF}), ProcessesOptions{})
	})
	t.Run("no group_dead", func(t *testing.T) {
		f(t, newKernel(t, Options{Attach: AttachRawTp}), ProcessesOptions{noGroupDead: true})
	})
}

// needAllRuns asks that the kernel has skipped no run of the probe's programs.
// Where tracepoints can be preempted (seen on 7.2), it skips a program while
// another task of the same CPU is in the middle of it, and says so.
func needAllRuns(t *testing.T, k *Kernel) {
	t.Helper()
	programs, err := k.Programs()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if p.Missed > 0 {
			testenv.Skip(t, fmt.Sprintf("the kernel skipped %d runs of %s", p.Missed, p.Program))
		}
	}
}

func TestProcessesCountExactly(t *testing.T) {
	eachLastThread(t, func(t *testing.T, k *Kernel, opts ProcessesOptions) {
		p, e := recordProcesses(t, k, opts)
		for range 10 {
			runAct(t, "exit", "0")
		}
		for range 7 {
			if got := runAct(t, "exit", "3").ExitStatus(); got != 3 {
				t.Fatalf("child ended with %d", got)
			}
		}
		for _, sig := range []syscall.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGTERM, unix.SIGKILL} {
			cmd := act("sleep", "1m")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			cmd.Process.Signal(sig)
			cmd.Wait()
		}
		for range 5 { // forks that never exec
			syscall.ForkExec("/nonexistent", nil, nil)
		}
		all := stop(t, k, e)
		needAllRuns(t, k)
		s := p.mustRead(t)
		if diff := cmp.Diff(tally(all), countersOnly(s)); diff != "" {
			t.Errorf("counters differ from events (-events +counters):\n%s", diff)
		}
		mine := tally(own(k, all))
		want := ProcessStats{Execs: 21, ForksProcess: 26, ExitsZero: 10, ExitsNonzero: 12, ExitsSignal: 4}
		if diff := cmp.Diff(want, mine); diff != "" {
			t.Errorf("events of own children (-want +got):\n%s", diff)
		}
		if n := s.Lifetime.Count(); n != s.exits() {
			t.Errorf("%d lifetimes for %d exits", n, s.exits())
		}
		if n := s.LineageDepth.Count(); n != s.ForksProcess {
			t.Errorf("%d depths for %d new processes", n, s.ForksProcess)
		}
	})
}

// Process and thread creations are counted by the kernel itself, for the node
// as a whole: the distance between its count and ours never changes. A creation
// under way makes it greater for an instant, so the least of several readings
// is taken; a lost one makes it greater for good, one counted twice smaller.
func TestForksMatchTheKernelsCount(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		p := newProcesses(t, k, ProcessesOptions{})
		before := forkDistance(t, p)
		first := p.mustRead(t)
		for range 2 {
			runAct(t, "storm", "50ms")
		}
		runAct(t, "threads", "50")
		last := p.mustRead(t)
		after := forkDistance(t, p)
		needAllRuns(t, k)
		if after != before {
			t.Errorf("lost %d forks (negative: counted twice)", after-before)
		}
		if n := last.ForksThread - first.ForksThread; n < 50 {
			t.Errorf("50 threads were started, %d counted", n)
		}
	})
}

func forkDistance(t *testing.T, p *Processes) int64 {
	least := int64(1) << 62
	for range 50 {
		ours := p.mustRead(t)
		least = min(least, kernelForks(t)-int64(ours.ForksProcess+ours.ForksThread))
		time.Sleep(time.Millisecond)
	}
	return least
}

// kernelForks reads the line "processes" of /proc/stat: processes and threads created since boot.
func kernelForks(t *testing.T) int64 {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "processes "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no line \"processes\" in /proc/stat")
	return 0
}

// The gauge is exact although processes come and go while the probe attaches.
func TestLiveProcesses(t *testing.T) {
	run := func(t *testing.T, k *Kernel, opts ProcessesOptions) {
		if int(k.Self().PID) != os.Getpid() {
			testenv.Skip(t, "needs the initial pid namespace: /proc is the measure")
		}
		opts.Listed = procfs.New(procfs.Options{})
		storm := startAct(t, "storm", "200ms")
		p := newProcesses(t, k, opts)
		if err := storm.Wait(); err != nil {
			t.Fatal(err)
		}
		if off := liveDistance(t, p); off != 0 {
			t.Errorf("gauge is off by %d", off)
		}
		child := startAct(t, "sleep", "1m")
		threads := startAct(t, "threads", "20")
		threads.Wait()
		child.Process.Kill()
		child.Wait()
		needAllRuns(t, k)
		if off := liveDistance(t, p); off != 0 {
			t.Errorf("gauge is off by %d after a process came and went", off)
		}
	}
	eachLastThread(t, run)
	t.Run("no iterator", func(t *testing.T) { run(t, newKernel(t, Options{refuseIterators: true}), ProcessesOptions{}) })
	// Processes beyond the map's bound stay in the gauge: those from before would not, so none is seeded.
}

// liveDistance is how far the gauge is off. Readings between which the number of
// processes changed are left out, of the others the median is taken: what a
// process under way adds to one of them is gone in the next.
func liveDistance(t *testing.T, p *Processes) int64 {
	t.Helper()
	var off []int64
	for range 500 {
		before := countRunning(t)
		live := p.mustRead(t).Live
		if countRunning(t) == before {
			off = append(off, live-before)
		}
		if len(off) == 21 {
			slices.Sort(off)
			return off[len(off)/2]
		}
	}
	t.Skip("the number of processes never stood still")
	return 0
}

func countRunning(t *testing.T) (n int64) {
	t.Helper()
	proc := procfs.New(procfs.Options{})
	pids, err := proc.Processes(uint32(os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		if proc.Running(pid) {
			n++
		}
	}
	return n
}

// A process from before the probe was attached is no fork, but its end is one.
func TestSeededProcess(t *testing.T) {
	eachLastThread(t, func(t *testing.T, k *Kernel, opts ProcessesOptions) {
		child := startAct(t, "sleep", "1m")
		pid := uint32(child.Process.Pid)
		if int(k.Self().PID) != os.Getpid() {
			testenv.Skip(t, "needs the initial pid namespace: the child's pid is compared")
		}
		time.Sleep(50 * time.Millisecond)
		_, e := recordProcesses(t, k, opts)
		child.Process.Kill()
		child.Wait()
		var seen []event.Point
		for _, ev := range stop(t, k, e) {
			if ev.Process.PID == pid || ev.Child.PID == pid {
				seen = append(seen, ev.Point)
				if ev.Exit.LifetimeNS < uint64(50*time.Millisecond) {
					t.Errorf("lived %v", time.Duration(ev.Exit.LifetimeNS))
				}
			}
		}
		if diff := cmp.Diff([]event.Point{event.ProcessExit}, seen); diff != "" {
			t.Errorf("events of the child (-want +got):\n%s", diff)
		}
	})
}

// Of many threads that end at the same moment, one ends the process.
func TestThreadGroupEndsOnce(t *testing.T) {
	eachLastThread(t, func(t *testing.T, k *Kernel, opts ProcessesOptions) {
		p, e := recordProcesses(t, k, opts)
		const rounds = 12
		for range rounds {
			runAct(t, "threads", "16")
		}
		all := stop(t, k, e)
		needAllRuns(t, k)
		if diff := cmp.Diff(tally(all), countersOnly(p.mustRead(t))); diff != "" {
			t.Errorf("counters differ from events (-events +counters):\n%s", diff)
		}
		want := ProcessStats{Execs: rounds, ForksProcess: rounds, ExitsZero: rounds}
		if diff := cmp.Diff(want, tally(own(k, all))); diff != "" {
			t.Errorf("events of own children (-want +got):\n%s", diff)
		}
	})
}

// A full map of processes takes nothing from the counts.
func TestFullProcessMap(t *testing.T) {
	eachLastThread(t, func(t *testing.T, k *Kernel, opts ProcessesOptions) {
		opts.Max = 4
		p, e := recordProcesses(t, k, opts)
		seeded := p.mustRead(t).Live
		const rounds = 6
		for range rounds {
			runAct(t, "threads", "8")
		}
		all := stop(t, k, e)
		needAllRuns(t, k)
		s := p.mustRead(t)
		want := ProcessStats{Execs: rounds, ForksProcess: rounds, ExitsZero: rounds}
		if diff := cmp.Diff(want, tally(own(k, all))); diff != "" {
			t.Errorf("events of own children (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(tally(all), countersOnly(s)); diff != "" {
			t.Errorf("counters differ from events (-events +counters):\n%s", diff)
		}
		var failures uint64
		if err := p.obj.coll.Variables["alive_failures"].Get(&failures); err != nil {
			t.Fatal(err)
		}
		if failures < rounds {
			t.Errorf("map of 4 found full %d times", failures)
		}
		if seeded > 8 {
			t.Errorf("%d processes seeded into a map of 4", seeded)
		}
	})
}

// The depth of a new process is the number of its ancestors. A dozen levels are
// deeper than anything else on a machine goes, so that bucket is the test's own.
func TestLineageDepth(t *testing.T) {
	k := newKernel(t, Options{})
	p := newProcesses(t, k, ProcessesOptions{})
	const levels = 12
	first := ancestors(t) + 1
	last := first + levels - 1
	before := p.mustRead(t).LineageDepth
	if err := act("nest", strconv.Itoa(levels-1)).Run(); err != nil {
		t.Fatal(err)
	}
	after := p.mustRead(t).LineageDepth
	needAllRuns(t, k)

	index := func(depth int) int { return int(math.Ceil(4 * math.Log2(float64(depth)))) } // schema 2
	var got, want uint64
	for i := index(last); i < len(after.Counts); i++ {
		got += after.Counts[i] - before.Counts[i]
	}
	for d := first; d <= last; d++ {
		if index(d) == index(last) {
			want++
		}
	}
	if got != want {
		t.Errorf("%d processes as deep as the deepest, want %d of depths %d to %d", got, want, first, last)
	}
}

// ancestors walks up /proc from the test itself.
func ancestors(t *testing.T) int {
	t.Helper()
	n := 0
	for pid := "self"; pid != "0"; n++ {
		b, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		pid = strings.Fields(rest)[1]
	}
	return n - 1
}
