package state

import (
	"testing"
	"time"
)

// look is one Survey that has a list of sockets only.
func (f *fixture) look(processes []ProcessSeed, list ...Socket) Drift {
	v := f.Survey()
	f.clock.pass(time.Millisecond)
	for _, p := range processes {
		v.Process(p)
	}
	v.Listed(list)
	return v.Finish(true, false)
}

// listed is a socket as a list has it: without an identity, and of its owner the pid.
func listed(pid uint32, inbound bool, local, remote string) Socket {
	k := Socket{Conn: conn(0, inbound, local, remote), Listener: remote == ""}
	k.Owner.PID = pid
	return k
}

// What a list shows is in the picture with its owner, once, whether events tell of it or
// not, and leaves it when it is on the list no more.
func TestListedSockets(t *testing.T) {
	f := newFixture(t, nil)
	p := owner(5, 7)
	server := listed(5, true, "10.0.0.1:80", "10.0.0.2:41000")
	client := listed(5, false, "10.0.0.1:42000", "10.0.0.9:443")
	listener := listed(5, true, "0.0.0.0:80", "")
	nobodys := listed(0, false, "10.0.0.1:43000", "10.0.0.9:444")
	processes := []ProcessSeed{{Process: p, Exe: "/usr/sbin/nginx"}}
	list := []Socket{server, client, listener, listener, nobodys}
	if d := f.look(processes, list...); d != (Drift{}) {
		t.Errorf("seeding is drift: %+v", d)
	}
	// from before, at the end of the list and not on it, and young
	told := f.connect(p, "10.0.0.1:44000", "10.0.0.9:445")
	f.connect(p, "10.0.0.1:45000", "10.0.0.9:446")
	list = append(list, listed(5, false, "10.0.0.1:44000", "10.0.0.9:445"))
	all := []string{"aaaaaaaaaaaa to 10.0.0.9 443", "aaaaaaaaaaaa to 10.0.0.9 445", "aaaaaaaaaaaa to 10.0.0.9 446", "aaaaaaaaaaaa from 10.0.0.2 80", "host to 10.0.0.9 444"}
	for range 3 {
		f.clock.pass(time.Second)
		if d := f.look(processes, list...); d != (Drift{}) {
			t.Errorf("nothing has changed: %+v", d)
		}
		wantLines(t, "listed", f.shown(Query{}), all...)
	}
	if total, rows := f.Endpoints(Query{Raw: true, Detail: true}); total != 2 || rows[0].PID != 5 || rows[0].Exe != "/usr/sbin/nginx" {
		t.Errorf("endpoints %+v", rows)
	}
	_, rows := f.Connections(Query{Detail: true})
	for r := range rows {
		if r.Measured {
			t.Errorf("a list counts no bytes: %+v", r)
		}
	}

	told()
	for i, want := range []Drift{{}, {Connections: 3, Endpoints: 1}, {}} {
		f.clock.pass(time.Second)
		if d := f.look(processes, listener); d != want {
			t.Errorf("look %d: %+v, want %+v", i, d, want)
		}
	}
	wantLines(t, "after the end", f.shown(Query{}), "aaaaaaaaaaaa to 10.0.0.9 446")
}

// Events may tell later of what a list has shown first: it is there once then, too.
func TestListedThenTold(t *testing.T) {
	f := newFixture(t, nil)
	f.look(nil, listed(0, false, "10.0.0.1:1", "10.0.0.2:53"))
	f.connect(owner(5, 7), "10.0.0.1:1", "10.0.0.2:53")
	for range 2 {
		f.clock.pass(time.Second)
		f.look(nil, listed(0, false, "10.0.0.1:1", "10.0.0.2:53"))
	}
	wantLines(t, "told", f.shown(Query{}), "aaaaaaaaaaaa to 10.0.0.2 53")
}
