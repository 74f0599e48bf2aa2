package blackbox

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var began = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func begin(t *testing.T, dir string, run Run, seen Seen) (*Box, []End) {
	t.Helper()
	b := Open(dir)
	untold, err := b.Begin(run, seen)
	if err != nil {
		t.Fatal(err)
	}
	return b, untold
}

func counted(totals Totals) map[string]uint64 {
	n := map[string]uint64{}
	for reason, tally := range totals.Ends {
		n[reason] = tally.Count
	}
	return n
}

// What no program saw is judged by what the run left behind.
func TestJudgedWithoutPins(t *testing.T) {
	run := Run{PID: 7, Started: began, Boot: "a", Own: Kills{"own:1", 3}, Parent: Kills{"parent:2", 5}}
	for _, c := range []struct {
		name   string
		leave  func(*testing.T, *Box)
		next   func(*Run)
		reason string
	}{
		{name: "clean", leave: ends(0), reason: Clean},
		{name: "error", leave: ends(21), reason: Error},
		{name: "second signal", leave: ends(143), reason: Signal},
		{name: "crash", leave: crashes, reason: Crash},
		{name: "reset", next: func(r *Run) { r.Boot = "b" }, reason: Unknown},
		{name: "own cgroup", next: func(r *Run) { r.Own.Count++ }, reason: OOMKill},
		{name: "somebody else's kill", next: func(r *Run) { r.Parent.Count++ }, reason: Unknown},
		{name: "cgroup made anew", next: func(r *Run) { r.Own, r.Parent.Count = Kills{"own:9", 0}, 6 }, reason: OOMKill},
		{name: "cgroup made anew without a kill", next: func(r *Run) { r.Own = Kills{"own:9", 0} }, reason: Unknown},
		{name: "nothing left", reason: Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			b, untold := begin(t, dir, run, Seen{Generation: "a/1"})
			if len(untold) > 0 || b.Last() != nil {
				t.Errorf("before the first run there was %+v", untold)
			}
			if c.leave != nil {
				c.leave(t, b)
			}
			next := run
			next.PID++
			if c.next != nil {
				c.next(&next)
			}
			b, untold = begin(t, dir, next, Seen{Generation: "a/2"})
			if len(untold) != 1 || untold[0].Reason != c.reason || untold[0].PID != run.PID {
				t.Errorf("told %+v, want reason %s", untold, c.reason)
			}
			if diff := cmp.Diff(map[string]uint64{c.reason: 1}, counted(b.Totals())); diff != "" {
				t.Errorf("totals (-want +got):\n%s", diff)
			}
			if want := c.reason == OOMKill; (b.Totals().Kills["cgroup"] == 1) != want {
				t.Errorf("kills: %v", b.Totals().Kills)
			}
		})
	}
}

func ends(code int) func(*testing.T, *Box) {
	return func(t *testing.T, b *Box) {
		if err := b.End(began.Add(time.Hour), code); err != nil {
			t.Fatal(err)
		}
	}
}

func crashes(t *testing.T, b *Box) {
	if err := os.WriteFile(b.crash, []byte("panic: as told"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// What the kernel saw is taken once, and kept when its counts begin anew.
func TestSeenByTheKernel(t *testing.T) {
	dir := t.TempDir()
	run := Run{PID: 7, Started: began, Boot: "a"}
	seen := Seen{Generation: "a/1", Totals: *newTotals()}
	b, _ := begin(t, dir, run, seen)

	killed := End{Reason: OOMKill, Time: began.Add(time.Minute), PID: 7}
	seen.Totals.Ends[OOMKill] = Tally{1, killed.Time}
	seen.Totals.Kills["global"] = 1
	seen.Ends = []SeenEnd{{1, killed}}
	crashes(t, b) // what the kernel saw counts more
	b, untold := begin(t, dir, run, seen)
	if diff := cmp.Diff([]End{killed}, untold); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
	want := b.Totals()
	for range 2 { // told once
		if b, untold = begin(t, dir, run, seen); len(untold) > 0 {
			t.Errorf("told again: %+v", untold)
		}
		if diff := cmp.Diff(&killed, b.Last()); diff != "" {
			t.Errorf("last end (-want +got):\n%s", diff)
		}
	}
	// the machine is started anew: the kernel's counts are gone, and the last end is unknown
	run.Boot = "b"
	b, untold = begin(t, dir, run, Seen{Generation: "b/1"})
	if len(untold) != 1 || untold[0].Reason != Unknown || *b.Last() != untold[0] {
		t.Errorf("after a reset: %+v", untold)
	}
	want.Ends[Unknown] = Tally{Count: 1}
	if diff := cmp.Diff(want, b.Totals()); diff != "" {
		t.Errorf("totals (-want +got):\n%s", diff)
	}
	if data, err := os.ReadFile(filepath.Join(dir, LastCrashFile)); err != nil || string(data) != "panic: as told" {
		t.Errorf("last crash: %q, %v", data, err)
	}
	if info, err := os.Stat(b.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v", info, err)
	}
}

// A file that cannot be read or written is told, and nothing else is lost by it.
func TestUnusableFile(t *testing.T) {
	dir := t.TempDir()
	b := Open(dir)
	if err := os.WriteFile(b.path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := Seen{Generation: "a/1", Totals: *newTotals()}
	seen.Totals.Ends[Clean] = Tally{Count: 3}
	if _, err := b.Begin(Run{PID: 7}, seen); err == nil {
		t.Error("a file that is none was read")
	}
	b = Open(filepath.Join(dir, "absent"))
	if _, err := b.Begin(Run{PID: 7}, seen); err == nil {
		t.Error("a file was written in a directory that does not exist")
	}
	if n := counted(b.Totals())[Clean]; n != 3 {
		t.Errorf("%d clean ends of 3", n)
	}
}
