package state

import (
	"testing"

	"github.com/sonde-ebpf/sonde/internal/event"
)

func TestDescribe(t *testing.T) {
	f := newFixture(t, nil)
	v := f.Survey()
	shell := named(10, 1, "sh")
	v.Process(ProcessSeed{Process: shell, LoginUID: 1000, Exe: "/bin/sh", Args: []byte("sh\x00"), Cwd: "/root"})
	v.Finish(false, false)
	child := named(11, 2, "sh")
	child.PPID = 10
	f.fork(shell, child)
	forked, ok := f.Describe(11, child.StartNS)
	if !ok || !forked.Forked || forked.Seeded || forked.Exe != "/bin/sh" || forked.Cwd != "/root" || forked.LoginUID != 1000 || forked.ExecNS != child.StartNS {
		t.Errorf("after the fork: %+v", forked)
	}
	f.clock.Store(500)
	ev := event.Event{Point: event.ProcessExec, TimeNS: 500, Process: child}
	f.editor.Set(&ev, event.TextPath, []byte("/bin/ls"), false)
	f.editor.Set(&ev, event.TextArgs, []byte("ls\x00-l\x00"), false)
	f.editor.Set(&ev, event.TextCwd, []byte("/tmp"), false)
	f.Apply(&ev)
	f.exit(child)
	got, ok := f.Describe(11, child.StartNS)
	want := Description{
		PID: 11, UID: child.UID, LoginUID: 1000, StartNS: child.StartNS, ExecNS: 500, Comm: child.Comm,
		Exe: "/bin/ls", Args: "ls\x00-l\x00", Cwd: "/tmp", Cgroup: child.CgroupID, ParentPID: 10, ParentStartNS: shell.StartNS,
	}
	if got.Container = ""; !ok || got != want {
		t.Errorf("after its end: %+v, want %+v", got, want)
	}
	if parent, ok := f.Describe(10, shell.StartNS); !ok || !parent.Seeded || parent.Forked {
		t.Errorf("seeded: %+v", parent)
	}
	if d, ok := f.Describe(11, shell.StartNS); ok {
		t.Errorf("another process with that pid: %+v", d)
	}
	if n := testing.AllocsPerRun(100, func() { f.Describe(11, child.StartNS) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
