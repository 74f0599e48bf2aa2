package e2e

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// acts are workloads that run in a child of the test binary.
var acts = map[string]func() error{
	"sleep-calls":        sleepCalls,
	"fork-storm":         forkStorm,
	"join":               join,
	"eat":                eat,
	"ballast":            ballast,
	"confine":            confine,
	"shift-clock":        shiftClock,
	"connections":        manyConnections,
	"long-args":          longArguments,
	"nothing":            func() error { return nil },
	"talk-to-public":     talkToPublic,
	"listen":             listen,
	"listen-anywhere":    listenAnywhere,
	"listen-from-thread": listenFromThread,
	"join-mounts":        joinMounts,
	"load-module":        loadModule,
	"load-program":       loadProgram,
	"attach":             attach,
	"be-traced":          beTraced,
	"exec-from-thread":   execFromThread,
	"wait":               wait,
	"wordy":              wordy,
}

// wait lasts until its standard input is closed.
func wait() error {
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// act prepares a child for one workload.
func act(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), "SONDE_E2E_ACT="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// sleepTime is what every call of sleepCalls takes, at least.
const sleepTime = 20 * time.Millisecond

// sleepCalls makes calls of known duration, all signals blocked, until killed or
// for ten seconds.
func sleepCalls() error {
	runtime.LockOSThread()
	fd, err := unix.EpollCreate1(0)
	if err != nil {
		return err
	}
	var ev unix.EpollEvent
	mask := ^uint64(0)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		ts := unix.NsecToTimespec(int64(sleepTime))
		if _, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(fd), uintptr(unsafe.Pointer(&ev)), 1,
			uintptr(unsafe.Pointer(&ts)), uintptr(unsafe.Pointer(&mask)), 8); errno != 0 {
			return errno
		}
	}
	return nil
}

// forkStorm starts and ends forkStormSize processes as fast as it can.
func forkStorm() error {
	for range forkStormSize {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{"SONDE_E2E_ACT=nothing"}
		if err := cmd.Run(); err != nil {
			return err
		}
	}
	return nil
}

const forkStormSize = 1000

// A real Prometheus stores the native histograms, and its quantile lies within
// one bucket of a duration that we know.
func TestPrometheusQuantileIsTrue(t *testing.T) {
	a := startAgent(t)
	for _, native := range []bool{true, false} {
		t.Run(fmt.Sprintf("native=%v", native), func(t *testing.T) {
			p := startPrometheus(t, a, native)
			child := act(t, "sleep-calls")
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { child.Process.Kill(); child.Wait() }()
			expr := `histogram_quantile(0.99, sum by (syscall) (rate(sonde_syscall_duration_seconds{syscall="epoll_pwait2"}[1m])))`
			low, high := 1/math.Exp2(0.25), math.Exp2(0.5) // the bucket of schema 2 and one beside it
			if !native {
				expr = `histogram_quantile(0.99, sum by (syscall, le) (rate(sonde_syscall_duration_seconds_bucket{syscall="epoll_pwait2"}[1m])))`
				low, high = 0.5, 2 // one of powers of two
			}
			var got float64
			p.waitFor(t, "a quantile", func() bool {
				v, ok := p.query(t, expr)
				got = v
				return ok && !math.IsNaN(v)
			})
			if truth := sleepTime.Seconds(); got < truth*low || got > truth*high {
				t.Errorf("quantile 0.99 is %.4f s of calls that take %.4f s", got, truth)
			}
			counter := `sum(rate(sonde_syscalls_total{syscall="epoll_pwait2"}[10s]))`
			p.waitFor(t, "a rate", func() bool { v, ok := p.query(t, counter); return ok && v > 10 })
		})
	}
}

// The reader is stopped under a fork storm: the ring fills, counts stay exact,
// the ledger closes, and everything recovers by itself.
func TestStoppedReaderLosesEventsNotCounts(t *testing.T) {
	a := startAgent(t, "--limits.ring-bytes=256KiB")
	pid := a.cmd.Process.Pid
	forksBefore := a.counts(t)["forks"]
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	kernelBefore := nodeForks(t)
	storm := act(t, "fork-storm")
	if err := storm.Run(); err != nil {
		t.Fatal(err)
	}
	kernelForks := nodeForks(t) - kernelBefore
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// A node is never silent, and one scrape reads its counters one after the
	// other: a loss shows as a difference that stays, not as one that passes.
	var c map[string]float64
	waitUntil(t, func() error {
		c = a.counts(t)
		if c["attempted"] != c["submitted"]+c["dropped"] || c["read"] != c["submitted"] {
			return fmt.Errorf("the ledger does not close: %v", c)
		}
		if c["execs"] != c["exec events"] {
			return fmt.Errorf("not every counted exec was an attempted event: %v", c)
		}
		return nil
	})
	if c["dropped"] == 0 {
		t.Errorf("the ring of a stopped reader lost nothing: the storm was too small to prove anything: %v", c)
	}
	if c["execs"] < forkStormSize {
		t.Errorf("counted %v execs of at least %d", c["execs"], forkStormSize)
	}
	if forks := c["forks"] - forksBefore; forks < kernelForks {
		t.Errorf("counted %v forks, the kernel %v", forks, kernelForks)
	}
}

// counts reads the event ledger and what it is compared with, since the agent's start.
func (a *agent) counts(t *testing.T) map[string]float64 {
	t.Helper()
	f := a.families(t)
	return map[string]float64{
		"attempted":   sum(f, "sonde_events_attempted_total"),
		"submitted":   sum(f, "sonde_events_submitted_total"),
		"dropped":     sum(f, "sonde_events_dropped_total", "stage=ring"),
		"read":        sum(f, "sonde_events_read_total"),
		"forks":       sum(f, "sonde_process_forks_total"),
		"execs":       sum(f, "sonde_process_execs_total"),
		"exec events": sum(f, "sonde_events_attempted_total", "point=process/exec"),
	}
}

// nodeForks is the kernel's own count of forks, threads included.
func nodeForks(t *testing.T) float64 {
	t.Helper()
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "processes "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("/proc/stat has no line of processes")
	return 0
}

// waitUntil asks again until ok has no objection.
func waitUntil(t *testing.T, ok func() error) {
	t.Helper()
	waitFor(t, 30*time.Second, ok)
}

func waitFor(t *testing.T, patience time.Duration, ok func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited %v: %v", patience, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
