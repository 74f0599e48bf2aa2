package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// join joins the cgroup whose file of members is its first argument and becomes
// the program that follows.
func join() error {
	if err := os.WriteFile(os.Args[1], []byte("0"), 0); err != nil {
		return err
	}
	return become(os.Args[2:])
}

// become becomes another program.
func become(args []string) error {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SONDE_E2E_ACT=") {
			env = append(env, v)
		}
	}
	return unix.Exec(args[0], args, env)
}

// eat joins the cgroup whose file of members is its argument, and takes memory
// until it dies of it.
func eat() error {
	if err := os.WriteFile(os.Args[1], []byte("0"), 0); err != nil {
		return err
	}
	for {
		b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += os.Getpagesize() {
			b[i] = 1
		}
	}
}

const (
	tooSmall = 16 << 20 // bytes in which the sensor cannot start
	tiny     = 8 << 20
)

// die waits for the end of a sensor that was told to, or could not, go on.
func (a *agent) die(t *testing.T) syscall.WaitStatus {
	t.Helper()
	waitUntil(t, func() error {
		if !a.exited() {
			return errors.New("the sensor has not ended")
		}
		return nil
	})
	a.cmd.Wait()
	return a.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// terminations are the ends of earlier runs, by reason.
func (a *agent) terminations(t *testing.T) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, m := range a.families(t)["sonde_sensor_terminations_total"].GetMetric() {
		if n := m.GetCounter().GetValue(); n > 0 {
			all[m.GetLabel()[0].GetValue()] = n
		}
	}
	return all
}

// sensorKills are the kills of earlier runs by the OOM killer.
func (a *agent) sensorKills(t *testing.T) float64 {
	return sum(a.families(t), "sonde_oom_kills_total", "victim=sensor")
}

// What ended a run is told by the next one: in the metrics, in the log once, as
// JSON. Each with a real end.
func TestNextStartTellsHowItEnded(t *testing.T) {
	a := startAgent(t)
	want := map[string]float64{}
	for _, end := range []struct {
		reason string
		make   func(*agent)
	}{
		{"signal", func(a *agent) { a.cmd.Process.Kill() }},
		{"crash", func(a *agent) { a.cmd.Process.Signal(unix.SIGSEGV) }}, // Go prints its stack and exits with 2
		{"clean", func(a *agent) { a.cmd.Process.Signal(unix.SIGTERM) }},
	} {
		began := time.Now()
		end.make(a)
		a.die(t)
		want[end.reason]++
		a = a.again(t, "")
		a.tells(t, want)
		if n := strings.Count(a.log.String(), "earlier run of the sensor ended"); n != 1 || !strings.Contains(a.log.String(), "reason="+end.reason) {
			t.Errorf("%s: told %d times:\n%s", end.reason, n, a.log)
		}
		when := sum(a.families(t), "sonde_sensor_last_termination_timestamp_seconds", "reason="+end.reason)
		if when < float64(began.Unix()-1) || when > float64(time.Now().Unix()+1) {
			t.Errorf("%s: at %.0f, not since %d", end.reason, when, began.Unix())
		}
	}
	if report, err := os.ReadFile(filepath.Join(a.dir, "state", "crash-last.log")); err != nil || !strings.Contains(string(report), "SIGSEGV") {
		t.Errorf("report of the crash: %q, %v", report, err)
	}
	if n := a.sensorKills(t); n != 0 {
		t.Errorf("%v OOM kills of the sensor", n)
	}
}

// tells checks the counts of ends in the metrics and in the JSON.
func (a *agent) tells(t *testing.T, want map[string]float64) {
	t.Helper()
	var p struct {
		BlackBox struct {
			Pinned       string
			Terminations []struct {
				Reason string
				Count  float64
			}
		} `json:"black_box"`
	}
	a.ask(t, "/state/pipeline", &p)
	shown := map[string]float64{}
	for _, n := range p.BlackBox.Terminations {
		if n.Count > 0 {
			shown[n.Reason] = n.Count
		}
	}
	got := a.terminations(t)
	for _, reason := range []string{"oom_kill", "signal", "crash", "clean", "error", "unknown"} {
		if got[reason] != want[reason] || shown[reason] != want[reason] {
			t.Errorf("ended by %s: %v in metrics, %v in JSON, want %v", reason, got[reason], shown[reason], want[reason])
		}
	}
	if p.BlackBox.Pinned != filepath.Join(a.pins, "oom") {
		t.Errorf("pinned in %q", p.BlackBox.Pinned)
	}
}

// In a cgroup too small to live the kernel kills it, and the next start says so;
// a stranger that is killed in another cgroup is another victim.
func TestKilledForWantOfMemory(t *testing.T) {
	a := startAgent(t)
	a.stop(t)
	doomed := launchIn(t, testenv.MemoryCgroup(t, tooSmall), a.dir, a.pins)
	if status := doomed.die(t); status.Signal() != unix.SIGKILL {
		t.Fatalf("with %d bytes it ended with %v:\n%s", tooSmall, doomed.cmd.ProcessState, doomed.log)
	}
	a = a.again(t, "")
	a.tells(t, map[string]float64{"clean": 1, "oom_kill": 1})
	if n := a.sensorKills(t); n != 1 {
		t.Errorf("%v OOM kills of the sensor, want 1", n)
	}
	others := func() float64 {
		return sum(a.families(t), "sonde_oom_kills_total", "victim=other", "scope=cgroup")
	}
	before := others()
	if err := act(t, "eat", filepath.Join(testenv.MemoryCgroup(t, tiny), "cgroup.procs")).Run(); err == nil {
		t.Error("the stranger was not killed")
	}
	if n := others() - before; n < 1 {
		t.Errorf("%v OOM kills of others, at least one was made", n)
	}
	if n := a.sensorKills(t); n != 1 {
		t.Errorf("%v OOM kills of the sensor after that of a stranger, want 1", n)
	}
}
