package state

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// subject is what an event of a process is given now.
func (f *fixture) subject(p event.Process) event.Subject {
	ev := event.Event{Point: event.NetworkConnect, Process: p}
	f.Describe(&ev)
	return ev.Subject
}

// Events of a process in turn: each has the program that the process was then.
func TestDescribe(t *testing.T) {
	f := newFixture(t, nil)
	v := f.Survey()
	login, shell := named(9, 1, "login"), named(10, 2, "sh")
	shell.PPID = 9
	v.Process(ProcessSeed{Process: login, LoginUID: NoLoginUID, Exe: "/bin/login"})
	v.Process(ProcessSeed{Process: shell, LoginUID: 1000, Exe: "/bin/sh", Args: []byte("sh\x00"), Cwd: "/root"})
	v.Finish(false, false)
	child := named(11, 3, "sh")
	child.PPID, child.CgroupID = 10, 7
	f.fork(shell, child)

	loginID := event.ExecID{PID: 9, ExecNS: login.StartNS}
	parent := event.Actor{
		ExecID: event.ExecID{PID: 10, ExecNS: shell.StartNS}, UID: shell.UID, LoginUID: 1000,
		Exe: "/bin/sh", Args: "sh\x00", Cwd: "/root", Seeded: true,
	}
	forked := event.Actor{
		ExecID: event.ExecID{PID: 11, ExecNS: child.StartNS}, UID: child.UID, LoginUID: 1000,
		Exe: "/bin/sh", Args: "sh\x00", Cwd: "/root", Container: web, Forked: true,
	}
	listing := forked
	listing.ExecNS, listing.Exe, listing.Args, listing.Cwd, listing.Forked = 500, "/bin/ls", "ls\x00-l\x00", "/tmp", false
	want := func(when string, of event.Process, want event.Subject) {
		t.Helper()
		if diff := cmp.Diff(want, f.subject(of)); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	want("seeded", shell, event.Subject{Process: parent, Parent: event.Actor{
		ExecID: loginID, UID: login.UID, LoginUID: NoLoginUID, Exe: "/bin/login", Seeded: true,
	}})
	want("after the fork", child, event.Subject{Process: forked, Parent: parent, Grandparent: loginID})
	thread := child
	thread.TID++
	want("of a thread", thread, event.Subject{Process: forked, Parent: parent, Grandparent: loginID})

	ev := event.Event{Point: event.ProcessExec, TimeNS: 500, Process: child}
	f.editor.Set(&ev, event.TextPath, []byte("/bin/ls"), false)
	f.editor.Set(&ev, event.TextArgs, []byte("ls\x00-l\x00"), false)
	f.editor.Set(&ev, event.TextCwd, []byte("/tmp"), false)
	f.Apply(&ev)
	want("after the exec", child, event.Subject{Process: listing, Parent: parent, Grandparent: loginID})
	before := f.subject(child)
	f.clock.Store(600)
	f.exec(child, "/bin/cat")
	if got := f.subject(child).Process; got.Exe != "/bin/cat" || got.ExecNS != 600 || got.Args != "" {
		t.Errorf("after another exec: %+v", got)
	}
	if diff := cmp.Diff(event.Subject{Process: listing, Parent: parent, Grandparent: loginID}, before); diff != "" {
		t.Errorf("an event from before the other exec: %s", diff)
	}

	again := named(11, 700, "new") // the pid is used again
	want("of somebody else with that pid", again, event.Subject{})
	again.PPID = 10
	want("and with a parent that is known", again, event.Subject{Parent: parent, Grandparent: loginID})
	f.exit(child)
	if got := f.subject(child).Process; got.Exe != "/bin/cat" {
		t.Errorf("after its end: %+v", got)
	}
	f.exec(shell, "/bin/bash")
	if got := f.subject(shell).Process; got.Seeded || got.Forked || got.ExecNS != 600 {
		t.Errorf("seeded, and executes something else: %+v", got)
	}
	ev.Subject = event.Subject{}
	if n := testing.AllocsPerRun(100, func() { f.Describe(&ev) }); n > 0 || ev.Subject.Process.PID != 11 {
		t.Errorf("%v allocations for %+v", n, ev.Subject)
	}
	ev = event.Event{Point: event.NetworkConnect, Process: again}
	if n := testing.AllocsPerRun(100, func() { f.Describe(&ev); f.Below(&ev, []uint32{1}) }); n > 0 || ev.Subject.Parent.PID != 10 {
		t.Errorf("%v allocations for a stranger, %+v", n, ev.Subject)
	}
}

// Whom a process descends from is told beyond its parent, the nearest first.
func TestAncestors(t *testing.T) {
	f := newFixture(t, nil)
	const depth = maxLineage + 3
	chain := make([]event.Process, depth)
	for i := range chain {
		chain[i] = named(uint32(100+i), uint64(i+1), "sh")
		chain[i].PPID = uint32(100 + i - 1)
		f.exec(chain[i], fmt.Sprint("/bin/", i))
	}
	for _, of := range []int{0, 1, 2, 3, depth - 1} {
		ev := event.Event{Process: chain[of]}
		f.Ancestors(&ev, &f.editor)
		n := of - 2
		for id, exe := range ev.Ancestors {
			if want := chain[n].PID; id.PID != want || string(exe) != fmt.Sprint("/bin/", n) {
				t.Errorf("of %d: %v executes %s, want process %d", of, id, exe, want)
			}
			n--
		}
		if last := max(of-1-maxLineage, -1); n != last && of > 1 {
			t.Errorf("of %d: the last one is %d, want %d", of, n+1, last+1)
		}
	}
	ev := event.Event{Process: chain[3], Data: make([]byte, 0, event.AncestorsLen)}
	if n := testing.AllocsPerRun(100, func() { ev.Data = ev.Data[:0]; f.Ancestors(&ev, &f.editor) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A start that /proc told in whole ticks is told exactly later: the process stays known
// by the name that it was given first.
func TestExecIDStays(t *testing.T) {
	f := newFixture(t, nil)
	v := f.Survey()
	coarse := named(10, 0, "sh")
	coarse.StartNS = 5 * second
	v.Process(ProcessSeed{Process: coarse, LoginUID: NoLoginUID, Exe: "/bin/sh"})
	v.Finish(true, false)
	before := f.subject(coarse).Process.ExecID
	exact := coarse
	exact.StartNS += 1234
	if after := f.subject(exact).Process.ExecID; before.PID != 10 || after != before {
		t.Errorf("%+v became %+v", before, after)
	}
}
