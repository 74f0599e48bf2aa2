package state

import (
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// walk is one Survey of the given things, to its end.
func (f *fixture) walk(processes []ProcessSeed, sockets ...Socket) Drift {
	v := f.Survey()
	f.clock.pass(time.Millisecond)
	for _, p := range processes {
		v.Process(p)
	}
	for _, k := range sockets {
		v.Socket(k)
	}
	return v.Finish(true, true)
}

func TestSeed(t *testing.T) {
	f := newFixture(t, nil)
	parent, child := named(100, 10, "sh"), named(101, 20, "nginx")
	child.PPID = 100
	child.CgroupID = 7
	drift := f.walk(
		[]ProcessSeed{ // the child first, as a walk may find it
			{Process: child, LoginUID: 1000, Exe: "/usr/sbin/nginx", Args: []byte("nginx\x00-g")},
			{Process: parent, LoginUID: NoLoginUID, Exe: "/bin/sh"},
		},
		Socket{Conn: conn(1, true, "10.0.0.1:80", "10.0.0.2:41000"), Owner: child},
		Socket{Conn: conn(2, true, "0.0.0.0:80", ""), Owner: child, Listener: true},
		Socket{Conn: conn(3, true, "10.0.0.1:41000", "10.0.0.9:53"), Owner: child, RoleUnknown: true},
	)
	if drift != (Drift{}) {
		t.Errorf("seeding is drift: %+v", drift)
	}
	p, _ := f.Process(101)
	if want := "101 /usr/sbin/nginx < 100 /bin/sh"; ancestry(p) != want || p.LoginUID != 1000 || p.Args != "nginx\x00-g" {
		t.Errorf("%+v, want %s", p, want)
	}
	wantLines(t, "seeded", f.shown(Query{}), "aaaaaaaaaaaa to 10.0.0.9 53", "aaaaaaaaaaaa from 10.0.0.2 80")
	if _, rows := f.Endpoints(Query{Detail: true}); len(rows) != 1 || rows[0].Exe != "/usr/sbin/nginx" {
		t.Errorf("endpoints %+v", rows)
	}
	// the end of a seeded one comes as an event
	f.Apply(closed(conn(1, true, "10.0.0.1:80", "10.0.0.2:41000")))
	wantLines(t, "closed", f.shown(Query{}), "aaaaaaaaaaaa to 10.0.0.9 53")
}

// TestDriftIsMendedByTheSecondSurvey: one Survey may look at a moment that events
// have not told of yet, two that agree may not.
func TestDriftIsMendedByTheSecondSurvey(t *testing.T) {
	f := newFixture(t, nil)
	ghost, missed := owner(1, 7), owner(2, 7)
	f.exec(ghost, "/ghost")
	f.open(ghost, conn(1, false, "10.0.0.1:1", "10.0.0.2:1"))
	f.listen(ghost, "0.0.0.0:1")
	f.clock.pass(time.Second)
	f.walk([]ProcessSeed{{Process: ghost}}, Socket{Conn: conn(1, false, "10.0.0.1:1", "10.0.0.2:1"), Owner: ghost})

	there := []Socket{
		{Conn: conn(11, false, "10.0.0.1:2", "10.0.0.3:1"), Owner: missed},
		{Conn: conn(12, true, "0.0.0.0:2", ""), Owner: missed, Listener: true},
	}
	f.clock.pass(time.Second)
	if d := f.walk([]ProcessSeed{{Process: missed}}, there...); d != (Drift{Endpoints: 1}) { // unseen for the second time
		t.Errorf("first Survey: %+v", d)
	}
	wantLines(t, "after one", f.shown(Query{}), "aaaaaaaaaaaa to 10.0.0.2 1")
	f.clock.pass(time.Second)
	if d := f.walk([]ProcessSeed{{Process: missed}}, there...); d != (Drift{Processes: 2, Connections: 2, Endpoints: 1}) {
		t.Errorf("second Survey: %+v", d)
	}
	wantLines(t, "after two", f.shown(Query{}), "aaaaaaaaaaaa to 10.0.0.3 1")
	if p, _ := f.Process(1); p.ExitedNS == 0 {
		t.Errorf("the ghost lives: %+v", p)
	}
	if s := f.table(t, "connection"); s.Drift != 2 {
		t.Errorf("%+v, want a drift of 2", s)
	}
	f.clock.pass(time.Second)
	if d := f.walk([]ProcessSeed{{Process: missed}}, there...); d != (Drift{}) {
		t.Errorf("nothing was amiss: %+v", d)
	}
}

// What is known is alive, and nothing more is to be asked about it.
func TestSurveyKnows(t *testing.T) {
	f := newFixture(t, nil)
	known, strange := owner(1, 7), owner(2, 7)
	f.walk([]ProcessSeed{{Process: known, Exe: "/known"}})
	for range 3 {
		f.clock.pass(time.Second)
		v := f.Survey()
		f.clock.pass(time.Millisecond)
		if !v.Known(&known) || v.Known(&strange) {
			t.Errorf("known: %v, %v", v.Known(&known), v.Known(&strange))
		}
		if d := v.Finish(true, true); d != (Drift{}) {
			t.Errorf("mended: %+v", d)
		}
	}
	if p, _ := f.Process(1); p.ExitedNS != 0 || p.Exe != "/known" {
		t.Errorf("%+v", p)
	}
}

func TestSurveySparesTheYoungAndTheUnwalked(t *testing.T) {
	f := newFixture(t, nil)
	f.walk(nil)
	old := owner(1, 7)
	f.exec(old, "/old")
	f.open(old, conn(1, false, "10.0.0.1:1", "10.0.0.2:1"))
	f.clock.pass(time.Second)
	for range 3 {
		v := f.Survey()
		f.open(old, conn(2, false, "10.0.0.1:2", "10.0.0.2:2")) // younger than the Survey
		v.Finish(false, false)                                  // the walk failed
		f.clock.pass(time.Second)
	}
	if n := len(f.shown(Query{})); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// TestSurveyAfterTheEnd: a socket that the walk saw, and whose end came before the
// walk could say so, is not entered again.
func TestSurveyAfterTheEnd(t *testing.T) {
	f := newFixture(t, nil)
	f.walk(nil)
	c := conn(1, false, "10.0.0.1:1", "10.0.0.2:1")
	closing := f.open(owner(1, 7), c)
	v := f.Survey()
	closing()
	v.Socket(Socket{Conn: c, Owner: owner(1, 7)})
	v.Finish(true, true)
	wantLines(t, "ended", f.shown(Query{}))
	f.walk(nil)
	wantLines(t, "ended", f.shown(Query{}))
}

func TestSurveyMeasuresBytes(t *testing.T) {
	f := newFixture(t, nil)
	c := conn(1, false, "10.0.0.1:1", "10.0.0.2:1")
	f.open(owner(1, 7), c)
	c.Sent, c.Received = 10, 20
	f.walk(nil, Socket{Conn: c, Owner: owner(1, 7)})
	_, rows := f.Connections(Query{Detail: true})
	for r := range rows {
		if !r.Measured || r.Sent != 10 || r.Received != 20 {
			t.Errorf("%+v", r)
		}
	}
}

func TestSurveyNumbersGoRound(t *testing.T) {
	f := newFixture(t, nil)
	p := owner(1, 7)
	f.exec(p, "/p")
	for i := range 600 {
		f.clock.pass(time.Second)
		if d := f.walk([]ProcessSeed{{Process: p}}); d != (Drift{}) {
			t.Fatalf("Survey %d: %+v", i, d)
		}
	}
}

// TestCoarseStart: a process that /proc told, its start in whole ticks, is the same as
// the one that an event tells exactly, whichever comes first; its end too. Another
// process of that pid is not.
func TestCoarseStart(t *testing.T) {
	const tick = 500 * procfs.TickNS
	coarse, exact, later := named(1, tick, "init"), named(1, tick+1234, "init"), named(1, tick+procfs.TickNS, "other")
	child := named(2, tick+5678, "child")
	child.PPID = 1
	fork := event.Event{Point: event.ProcessFork, TimeNS: 900 * second, Process: exact, Child: child}
	one := func(t *testing.T, f *fixture, start uint64) {
		t.Helper()
		if p, _ := f.Process(1); p.StartNS != start || f.processes.len() != 2 || len(f.processes.index) != 2 {
			t.Errorf("%d processes, pid 1 started at %d, want 2 and %d", f.processes.len(), p.StartNS, start)
		}
		if p, _ := f.Process(2); ancestry(p) != "2 /sbin/init < 1 /sbin/init" {
			t.Errorf("the child is %s", ancestry(p))
		}
	}
	seed := []ProcessSeed{{Process: coarse, Exe: "/sbin/init"}}
	t.Run("proc first", func(t *testing.T) {
		f := newFixture(t, nil)
		f.walk(seed)
		f.Apply(&fork)
		one(t, f, tick+1234)
		f.walk(append(seed, ProcessSeed{Process: child}))
		one(t, f, tick+1234)
		f.Apply(&event.Event{Point: event.ProcessExit, TimeNS: 901 * second, Process: exact})
		if p, _ := f.Process(1); p.ExitedNS == 0 {
			t.Error("it lives on after its exit")
		}
	})
	t.Run("event first", func(t *testing.T) {
		f := newFixture(t, nil)
		f.exec(exact, "/sbin/init")
		f.Apply(&fork)
		f.walk(append(seed, ProcessSeed{Process: child}))
		one(t, f, tick+1234)
	})
	t.Run("exit first", func(t *testing.T) {
		f := newFixture(t, nil)
		f.walk(seed)
		f.Apply(&event.Event{Point: event.ProcessExit, TimeNS: 901 * second, Process: exact})
		if p, _ := f.Process(1); p.ExitedNS == 0 || p.StartNS != tick+1234 {
			t.Errorf("after its exit: %+v", p)
		}
	})
	t.Run("another", func(t *testing.T) {
		f := newFixture(t, nil)
		f.walk(seed)
		f.exec(later, "/other")
		if p, _ := f.Process(1); f.processes.len() != 2 || p.StartNS != later.StartNS {
			t.Errorf("%d processes, the last one %+v", f.processes.len(), p)
		}
	})
}
