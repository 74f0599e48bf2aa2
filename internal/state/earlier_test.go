package state

import (
	"slices"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Those are told of that were there before, live, and are what they were.
func TestEarlier(t *testing.T) {
	f := newFixture(t, nil)
	v := f.Survey()
	seed := func(pid uint32, exe string) event.Process {
		p := named(pid, uint64(pid)+5, "x")
		p.CgroupID = 7
		v.Process(ProcessSeed{Process: p, LoginUID: 1000, Exe: exe, Args: []byte(exe + "\x00-x\x00"), Cwd: "/srv"})
		return p
	}
	_, gone, changed, _ := seed(10, "/bin/stays"), seed(11, "/bin/gone"), seed(12, "/bin/changes"), seed(13, "") // a kernel thread
	v.Finish(true, false)
	f.exit(gone)
	f.exec(changed, "/bin/other")
	f.fork(changed, named(14, 900, "new"))

	var pids []uint32
	f.Earlier(&f.editor, func(ev *event.Event) bool {
		pids = append(pids, ev.Process.PID)
		who := ev.Subject.Process
		if ev.Point != event.ProcessExec || ev.TimeNS != f.clock.Load() || ev.Process.TID != 10 || !who.Seeded || who.PID != 10 || who.Container != web || who.LoginUID != 1000 ||
			string(ev.Executable()) != "/bin/stays" || string(ev.Text(event.TextArgs)) != "/bin/stays\x00-x\x00" || string(ev.Text(event.TextCwd)) != "/srv" {
			t.Errorf("%+v", ev)
		}
		return true
	})
	if !slices.Equal(pids, []uint32{10}) {
		t.Errorf("told of %v", pids)
	}

	f = newFixture(t, nil)
	v = f.Survey()
	for pid := range uint32(2 * chunkSlots) {
		seed(pid+1, "/bin/stays")
	}
	n := 0
	f.Earlier(&f.editor, func(*event.Event) bool { n++; return n < chunkSlots+5 })
	if n != chunkSlots+5 {
		t.Errorf("%d after no more were wanted", n)
	}
}
