package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// The sensor meets faults. Each ends in a stated outcome, and what is lost has a name.

// tmpfs mounts one and returns its directory.
func tmpfs(t *testing.T, options string, flags uintptr) string {
	t.Helper()
	testenv.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		testenv.Skip(t, "needs to mount: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Without bpffs the sensor works, says what it cannot know, and the next start
// tells an end from what the run left: a clean stop, but not who sent a signal.
func TestFaultNoBPFFS(t *testing.T) {
	occupied := t.TempDir()
	if err := os.WriteFile(filepath.Join(occupied, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pins := filepath.Join(occupied, "sonde")
	a := launchIn(t, "", t.TempDir(), pins)
	a.waitReady(t)
	said := false
	for _, m := range a.families(t)["sonde_probe_info"].GetMetric() {
		said = said || has(m, []string{"probe=oom"}) && strings.Contains(m.String(), "not pinned")
	}
	if !said {
		t.Error("probe_info does not say that the oom probe is not pinned")
	}
	if code := a.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	a = a.again(t, "")
	a.cmd.Process.Kill()
	a.die(t)
	a = a.again(t, "")
	if got := a.terminations(t); len(got) != 2 || got["clean"] != 1 || got["unknown"] != 1 {
		t.Errorf("ends: %v, want one clean and one unknown", got)
	}
}

// A state directory that cannot be written is refused at the start, by its exit code.
func TestFaultStateReadOnly(t *testing.T) {
	dir := tmpfs(t, "size=64k", unix.MS_RDONLY)
	a := launch(t, "--state.dir="+dir)
	if status := a.die(t); status.ExitStatus() != 22 || !strings.Contains(a.log.String(), dir) {
		t.Errorf("ended with %v, want exit code 22:\n%s", a.cmd.ProcessState, a.log)
	}
}

// A full one costs the memory of this run, which is said, and nothing else.
func TestFaultStateFull(t *testing.T) {
	dir := tmpfs(t, "size=8k", 0)
	for i := range 4 {
		_ = os.WriteFile(filepath.Join(dir, fmt.Sprint("fill", i)), make([]byte, 4096), 0o600) // until it is full
	}
	a := startAgent(t, "--state.dir="+dir)
	if !strings.Contains(a.log.String(), "black box not kept") || !strings.Contains(a.log.String(), "no space left") {
		t.Errorf("the log does not say that the black box is not kept:\n%s", a.log)
	}
	if n := sum(a.families(t), "sonde_probe_attached"); n == 0 {
		t.Error("no probe is attached")
	}
	if code := a.stop(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, a.log)
	}
}

// Pins removed behind its back: it counts on, since it holds the programs too; how
// it ends then is unknown to the next start, and said so.
func TestFaultPinsRemoved(t *testing.T) {
	a := startAgent(t)
	if err := os.RemoveAll(a.pins); err != nil {
		t.Fatal(err)
	}
	before := sum(a.families(t), "sonde_oom_kills_total", "victim=other")
	if err := act(t, "eat", filepath.Join(testenv.MemoryCgroup(t, tiny), "cgroup.procs")).Run(); err == nil {
		t.Error("nobody was killed")
	}
	if n := sum(a.families(t), "sonde_oom_kills_total", "victim=other"); n <= before {
		t.Errorf("%v kills, %v before one was made", n, before)
	}
	a.cmd.Process.Kill()
	a.die(t)
	a = a.again(t, "")
	if got := a.terminations(t); len(got) != 1 || got["unknown"] != 1 {
		t.Errorf("ends: %v, want one unknown", got)
	}
}

// shiftClock becomes the program that follows, in a namespace whose boot clock is ahead
// by as many seconds as its argument says.
func shiftClock() error {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return err
	}
	return become(append([]string{unshare, "--time", "--boottime", os.Args[1]}, os.Args[2:]...))
}

// A clock that is not the kernel's, by a jump or by a namespace: every event is told
// as an anomaly and taken all the same.
func TestFaultClockStepped(t *testing.T) {
	const day = "86400"
	dir, pins := directories(t)
	a := launchBy(t, []string{"shift-clock", day}, dir, pins)
	a.waitReady(t)
	before := a.families(t)
	for range 20 {
		if err := act(t, "nothing").Run(); err != nil {
			t.Fatal(err)
		}
	}
	after := a.families(t)
	grown := func(name string, labels ...string) float64 {
		return sum(after, name, labels...) - sum(before, name, labels...)
	}
	if forks := grown("sonde_process_forks_total", "type=process"); forks < 20 {
		t.Errorf("counted %v forks, at least 20 were made", forks)
	}
	waitUntil(t, func() error {
		after = a.families(t)
		const anomalies, submitted = "sonde_event_clock_anomalies_total", "sonde_events_submitted_total"
		// All since the start: what was in the ring at the first look is read after it.
		if n, of, more := sum(after, anomalies, "kind=distant_past"), sum(after, submitted), grown(anomalies, "kind=distant_past"); more < 60 || n > of {
			return fmt.Errorf("%v anomalies of %v events, %v of them new; 20 processes were forked, executed and ended", n, of, more)
		}
		return nil
	})
	if lost := sum(after, "sonde_events_dropped_total"); lost != 0 {
		t.Errorf("%v events are lost", lost)
	}
	var all []struct{ PID int }
	a.ask(t, "/state/processes", &all)
	if !slices.Contains(all, struct{ PID int }{os.Getpid()}) {
		t.Error("this process is not known")
	}
}

// A program detached behind its back: the probe says that it is not attached any more
// and why, and the others count on.
func TestFaultProbeDetached(t *testing.T) {
	a := startAgent(t)
	attached := func() float64 { return sum(a.families(t), "sonde_probe_attached", "probe=udp") }
	if attached() != 1 {
		t.Fatalf("the udp probe is not attached:\n%s", a.log)
	}
	if n := a.severCgroupLinks(t); n == 0 {
		t.Fatal("the sensor holds no link to a cgroup")
	}
	waitUntil(t, func() error {
		if attached() != 0 || !strings.Contains(a.log.String(), "udp_egress was detached by somebody else") {
			return fmt.Errorf("the udp probe counts as attached:\n%s", a.log)
		}
		return nil
	})
	f := a.families(t)
	said := false
	for _, m := range f["sonde_probe_info"].GetMetric() {
		said = said || has(m, []string{"probe=udp"}) && strings.Contains(m.String(), "udp_ingress was detached by somebody else")
	}
	if others := sum(f, "sonde_probe_attached"); !said || others < 5 {
		t.Errorf("probe_info says so: %v, %v probes are attached", said, others)
	}
	if code := a.stop(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, a.log)
	}
}

// severCgroupLinks detaches the sensor's links to cgroups, as anybody with the
// privilege can, and returns how many there were.
func (a *agent) severCgroupLinks(t *testing.T) (n int) {
	t.Helper()
	for o := range a.held(t) {
		if o.kind != "link" {
			continue
		}
		l, err := link.NewFromID(link.ID(o.id))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		info, err := l.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Cgroup() == nil {
			continue
		}
		if err := l.Detach(); err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// The reader stalled: what finds the ring full is lost by name, counts are exact, and
// the books close when it reads again.
func TestFaultReaderStalled(t *testing.T) {
	a := startAgent(t, "--limits.ring-bytes=256KiB")
	before, kernelBefore := a.settled(t)
	if err := a.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for range 100 { // each takes more than 4 KiB of the ring
		if err := act(t, "nothing", strings.Repeat("x", 4096)).Run(); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	after, kernelAfter := a.settled(t)
	grown := func(name string, labels ...string) float64 {
		return sum(after, name, labels...) - sum(before, name, labels...)
	}
	if forks, kernel := grown("sonde_process_forks_total"), kernelAfter-kernelBefore; forks != kernel || forks < 100 {
		t.Errorf("counted %v forks, the kernel %v", forks, kernel)
	}
	waitUntil(t, func() error { // an event may be on its way
		after = a.families(t)
		attempted, submitted, dropped := grown("sonde_events_attempted_total"), grown("sonde_events_submitted_total"), grown("sonde_events_dropped_total", "stage=ring")
		if attempted != submitted+dropped || dropped == 0 {
			return fmt.Errorf("attempted %v, submitted %v, dropped %v", attempted, submitted, dropped)
		}
		return nil
	})
	if lost := grown("sonde_events_dropped_total", "stage=decode"); lost != 0 {
		t.Errorf("%v events were lost after the ring", lost)
	}
}

// A map that is full is counted as such: what is missing in the counts has a number.
func TestFaultMapFull(t *testing.T) {
	a := startAgent(t, "--limits.connections=1024")
	h := hold(t, 1500)
	h.wait(t)
	waitUntil(t, func() error {
		if n := sum(a.families(t), "sonde_bpf_map_update_failures_total", "map=tcp_sockets"); n < 1500*2-1024 {
			return fmt.Errorf("%v sockets found no room", n)
		}
		return nil
	})
	h.release(t)
}

// A thousand clients that never finish asking do not keep a scrape waiting.
func TestFaultSlowClients(t *testing.T) {
	a := startAgent(t)
	for range 1000 {
		c, err := net.Dial("tcp", a.address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("GET /metrics HTTP/1.1\r\nHost: sonde\r\nX-Slow: ")); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	if n := sum(a.families(t), "sonde_probe_attached"); n == 0 {
		t.Error("no probe is attached")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("a scrape beside them took %v", took)
	}
	if code := a.stop(t); code != 0 {
		t.Errorf("exit code %d with clients that wait:\n%s", code, a.log)
	}
}

// SIGTERM in the middle of a storm is a clean stop like any other.
func TestFaultStopUnderLoad(t *testing.T) {
	a := startAgent(t, "--limits.ring-bytes=256KiB")
	var storms []*exec.Cmd
	for range 2 {
		storm := act(t, "fork-storm")
		if err := storm.Start(); err != nil {
			t.Fatal(err)
		}
		storms = append(storms, storm)
	}
	waitUntil(t, func() error {
		if n := sum(a.families(t), "sonde_process_execs_total"); n < 50 {
			return fmt.Errorf("%v execs", n)
		}
		return nil
	})
	if code := a.stop(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, a.log)
	}
	for _, storm := range storms {
		storm.Process.Kill()
		_ = storm.Wait()
	}
	a = a.again(t, "")
	if got := a.terminations(t); got["clean"] != 1 {
		t.Errorf("ends: %v, want one clean", got)
	}
}
