package state

import (
	"testing"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// What a process has started is below it, also when one between has ended.
func TestBelow(t *testing.T) {
	f := newFixture(t, nil)
	shell, between, last := named(10, 1, "sh"), named(11, 2, "sh"), named(12, 3, "sh")
	shell.PPID, between.PPID, last.PPID = 9, 10, 11
	f.fork(shell, between)
	f.fork(between, last)
	f.exit(between)
	stranger := named(20, 4, "sh")
	stranger.PPID = 10
	for _, test := range []struct {
		of   event.Process
		pids []uint32
		want bool
	}{
		{last, []uint32{12}, true},
		{last, []uint32{5, 11}, true},
		{last, []uint32{10}, true},
		{last, []uint32{5}, false},
		{shell, []uint32{11, 12}, false},
		{stranger, []uint32{10}, true}, // its parent is known by the event
		{stranger, []uint32{11}, false},
	} {
		ev := event.Event{Process: test.of}
		if got := f.Below(&ev, test.pids); got != test.want {
			t.Errorf("%d below %v: %v", test.of.PID, test.pids, got)
		}
	}
	ev := event.Event{Process: last, Source: event.SourceGVisor}
	if f.Below(&ev, []uint32{10}) {
		t.Error("a sandbox's process is below one of the machine")
	}
	ev.Source = event.SourceKernel
	if n := testing.AllocsPerRun(100, func() { f.Below(&ev, []uint32{10}) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
