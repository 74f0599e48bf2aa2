package bpf

import (
	"errors"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// actEnd is a sensor, pinned in the directory that follows the way in which it
// ends, as the cases below call it.
func actEnd() error {
	how, dir, _ := strings.Cut(os.Getenv("SONDE_TEST_ARG"), ":")
	k, err := Load(Options{RingBytes: 1 << 16})
	if err != nil {
		return err
	}
	o, err := NewOOM(k, OOMOptions{PinDir: dir})
	if err != nil {
		return err
	}
	if o.PinnedIn() == "" {
		return errors.New(o.Status().Reason)
	}
	switch how {
	case "panic":
		panic("as told")
	case "nil":
		var nothing *OOM
		_ = nothing.pinned // a SIGSEGV, which Go turns into an exit code
	case "clean", "clean, then an error":
		if err := o.Retire(); err != nil {
			return err
		}
		if how != "clean" {
			os.Exit(24)
		}
	case "kill":
		unix.Kill(os.Getpid(), unix.SIGKILL)
		select {}
	case "abort":
		debug.SetTraceback("crash")
		panic("as told")
	case "error":
		os.Exit(13)
	case "second signal":
		os.Exit(128 + int(unix.SIGTERM))
	}
	return nil
}

// How a sensor ends is known to the next one: the way, the time, the status.
func TestEndsOfTheSensor(t *testing.T) {
	dir := privatePins(t)
	var want []SensorEnd
	for i, c := range []struct {
		how, reason  string
		code, signal int
	}{
		{how: "clean", reason: "clean"},
		{how: "panic", reason: "crash", code: 2},
		{how: "nil", reason: "crash", code: 2},
		{how: "abort", reason: "crash", signal: int(unix.SIGABRT)},
		{how: "kill", reason: "signal", signal: int(unix.SIGKILL)},
		{how: "second signal", reason: "signal", code: 143},
		{how: "error", reason: "error", code: 13},
		{how: "clean, then an error", reason: "error", code: 24},
	} {
		if testing.Short() && i%2 != 0 {
			continue // each is a process that loads the programs
		}
		cmd := act("end", c.how+":"+dir)
		cmd.Stderr = nil
		var exit interface{ ExitCode() int }
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(c.how, err)
		}
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		if max(status.ExitStatus(), 0) != c.code || c.signal != 0 && int(status.Signal()) != c.signal {
			t.Fatalf("%s: ended with %v", c.how, cmd.ProcessState)
		}
		want = append(want, SensorEnd{Seq: uint64(len(want) + 1), Reason: c.reason, PID: uint32(cmd.Process.Pid), ExitCode: c.code, Signal: c.signal})
	}
	pid := starve(t, "sensor", smallCgroup(t)+":"+dir)
	want = append(want, SensorEnd{Seq: uint64(len(want) + 1), Reason: "oom_kill", PID: pid, Signal: int(unix.SIGKILL)})

	o := newPinnedOOM(t, newKernel(t, Options{}), dir)
	ends, err := o.Ends()
	must(t, "read ends", err)
	for i, e := range ends {
		if e.TimeNS <= e.SinceNS || e.SinceNS < e.StartNS || e.StartNS == 0 {
			t.Errorf("%s: began %d, watched from %d, ended %d", e.Reason, e.StartNS, e.SinceNS, e.TimeNS)
		}
		if killed := e.Kill != nil; killed != (e.Reason == "oom_kill") {
			t.Errorf("%s: chosen by the OOM killer: %v", e.Reason, killed)
		}
		if i < len(want) {
			want[i].TimeNS, want[i].SinceNS, want[i].StartNS, want[i].Kill = e.TimeNS, e.SinceNS, e.StartNS, e.Kill
		}
	}
	diffEnds(t, want, ends)
	if k := ends[len(ends)-1].Kill; k == nil || k.PID != pid || k.Scope != "cgroup" || k.CgroupLimit != smallMemory {
		t.Errorf("kill of the sensor: %+v", k)
	}
	checkEndings(t, o, ends)
}

func diffEnds(t *testing.T, want, got []SensorEnd) {
	t.Helper()
	for i := range max(len(want), len(got)) {
		if i >= len(want) || i >= len(got) || want[i] != got[i] {
			t.Fatalf("end %d: want %+v, got %+v", i, want, got)
		}
	}
}

// checkEndings compares the counts with the ends, where all ends are remembered.
func checkEndings(t *testing.T, o *OOM, ends []SensorEnd) {
	t.Helper()
	stats, err := o.Endings()
	must(t, "read counts", err)
	for _, s := range stats {
		var n, last uint64
		for _, e := range ends {
			if e.Reason == s.Reason {
				n, last = n+1, e.TimeNS
			}
		}
		if s.Count != n || s.LastNS != last {
			t.Errorf("%d ends by %s, the last at %d; remembered are %d, at %d", s.Count, s.Reason, s.LastNS, n, last)
		}
	}
}

// An end that no program saw is unknown, and entered once. While two generations
// see each end, it is counted once.
func TestEndsSeenByNobodyAndByTwo(t *testing.T) {
	dir := privatePins(t)
	first := newPinnedOOM(t, newKernel(t, Options{}), dir)
	generation, err := first.Generation()
	must(t, "identify", err)
	lost := oomIdentity{Pid: 1 << 30, StartNs: 1}
	must(t, "enter a run", first.obj.coll.Maps["sensors"].Put(lost, oomRun{SinceNs: 5}))
	for range 2 {
		k := newKernel(t, Options{}) // its links and those of first stay open beside the pinned ones
		o := newPinnedOOM(t, k, dir)
		if next, err := o.Generation(); err != nil || next != generation {
			t.Errorf("generation %d, before %d: %v", next, generation, err)
		}
	}
	cmd := act("end", "error:"+dir)
	cmd.Run()
	ends, err := first.Ends()
	must(t, "read ends", err)
	if len(ends) != 3 {
		t.Fatalf("ends: %+v", ends)
	}
	if ends[0].PID != lost.Pid || ends[0].Reason != "unknown" || ends[0].TimeNS != 0 || ends[0].SinceNS != 5 {
		t.Errorf("an end that nobody saw: %+v", ends[0])
	}
	if ends[1].PID != uint32(os.Getpid()) || ends[1].Reason != "unknown" {
		t.Errorf("a sensor that lives, but in whose place another one is: %+v", ends[1])
	}
	if ends[2].PID != uint32(cmd.Process.Pid) || ends[2].Reason != "error" {
		t.Errorf("an end that many saw: %+v", ends[2])
	}
	checkEndings(t, first, ends)
}
