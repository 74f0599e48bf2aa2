package state

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// named is a process with a start time and a name.
func named(pid uint32, startNS uint64, comm string) event.Process {
	p := event.Process{PID: pid, TID: pid, PPID: 1, UID: 1000, StartNS: startNS}
	copy(p.Comm[:], comm)
	return p
}

func ancestry(p Process) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", p.PID, p.Exe)
	for _, a := range p.Lineage {
		fmt.Fprintf(&b, " < %d %s", a.PID, a.Exe)
		if a.Exited {
			b.WriteString(" exited")
		}
	}
	return b.String()
}

func TestLineage(t *testing.T) {
	f := newFixture(t, nil)
	init, shell, child := named(1, 1, "init"), named(100, 1000, "sh"), named(101, 1001, "sh")
	f.exec(init, "/sbin/init")
	f.fork(init, shell)
	f.exec(shell, "/bin/sh")
	f.fork(shell, child)
	p, ok := f.Process(101)
	if want := "101 /bin/sh < 100 /bin/sh < 1 /sbin/init"; !ok || ancestry(p) != want {
		t.Errorf("after fork: %s, want %s", ancestry(p), want)
	}
	f.exec(child, "/usr/bin/curl")
	f.exit(shell)
	p, _ = f.Process(101)
	if want := "101 /usr/bin/curl < 100 /bin/sh exited < 1 /sbin/init"; ancestry(p) != want {
		t.Errorf("parent gone: %s, want %s", ancestry(p), want)
	}
	if p, ok = f.Process(100); !ok || p.ExitedNS != 1000*second {
		t.Errorf("exited process: %+v, %v", p, ok)
	}
	if total, _ := f.Processes(Query{}); total != 2 {
		t.Errorf("%d live processes, want 2", total)
	}
	f.clock.pass(5 * time.Minute)
	f.Expire()
	if _, ok = f.Process(100); ok {
		t.Error("an exited process is kept for ever")
	}
	p, _ = f.Process(101)
	if want := "101 /usr/bin/curl"; ancestry(p) != want {
		t.Errorf("parent forgotten: %s, want %s", ancestry(p), want)
	}
}

func TestReusedPid(t *testing.T) {
	f := newFixture(t, nil)
	first, second := named(100, 1000, "a"), named(100, 2000, "b")
	f.exec(first, "/a")
	f.exit(first)
	f.exec(second, "/b")
	if p, _ := f.Process(100); p.Exe != "/b" || p.ExitedNS != 0 {
		t.Errorf("pid 100 is %+v, want /b, alive", p)
	}
	// A child of the first one must not become the second one's.
	child := named(200, 1500, "c")
	f.fork(first, child)
	p, _ := f.Process(200)
	if want := "200 /a < 100 /a exited"; ancestry(p) != want {
		t.Errorf("lineage %s, want %s", ancestry(p), want)
	}
}

// TestCycle: broken input must not keep a query from ending.
func TestCycle(t *testing.T) {
	f := newFixture(t, nil)
	a, b := named(10, 1000, "a"), named(11, 1000, "b")
	a.PPID, b.PPID = 11, 10
	f.fork(b, a)
	f.fork(a, b)
	self := named(12, 1000, "self")
	self.PPID = 12
	f.fork(self, self)
	for _, pid := range []uint32{10, 11, 12} {
		if p, _ := f.Process(pid); len(p.Lineage) > maxLineage {
			t.Errorf("pid %d has %d ancestors", pid, len(p.Lineage))
		}
	}
}

// TestNoArguments: where arguments are not wanted, no path shows any: neither those
// of processes that were there before, nor after the switch was thrown.
func TestNoArguments(t *testing.T) {
	const secret = "psql\x00--password=hunter2"
	arguments := func(f *fixture) (all []string) {
		if p, _ := f.Process(100); p.Args != "" {
			all = append(all, "process "+p.Args)
		}
		_, processes := f.Processes(Query{Ended: true})
		for p := range processes {
			if p.Args != "" {
				all = append(all, "list "+p.Args)
			}
		}
		_, endpoints := f.Endpoints(Query{Detail: true, Ended: true})
		for _, e := range endpoints {
			if e.Args != "" {
				all = append(all, "endpoint "+e.Args)
			}
		}
		for _, e := range f.texts.entries {
			if strings.Contains(e.text, "hunter2") {
				all = append(all, "text "+e.text)
			}
		}
		return all
	}
	fill := func(f *fixture) {
		p := named(100, 1000, "psql")
		v := f.Survey()
		v.Process(ProcessSeed{Process: p, LoginUID: 1000, Exe: "/usr/bin/psql", Args: []byte(secret)})
		v.Finish(true, true)
		f.listen(p, "0.0.0.0:80")
		f.fork(p, named(101, 1001, "psql"))
	}
	kept := newFixture(t, nil)
	fill(kept)
	if n := len(arguments(kept)); n != 5 { // shown in four places, and held once
		t.Fatalf("arguments are kept in %d places, want 5: %q", n, arguments(kept))
	}
	kept.KeepArguments(false)
	if found := arguments(kept); found != nil {
		t.Errorf("after the switch: %q", found)
	}
	never := newFixture(t, func(o *Options) { o.Arguments = false })
	fill(never)
	if found := arguments(never); found != nil {
		t.Errorf("switched off from the start: %q", found)
	}
}

func TestProcessTableIsBounded(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxProcesses = 100 })
	for i := range uint32(1000) {
		p := named(1000+i, uint64(i+1), "x")
		f.exec(p, fmt.Sprintf("/bin/program-%d", i))
		if i%2 == 0 {
			f.exit(p)
		}
	}
	s := f.table(t, "process")
	if s.Entries != 100 || s.Evictions != 900 {
		t.Errorf("%+v, want 100 entries and 900 evictions", s)
	}
	if n := len(f.texts.index); n != 100 {
		t.Errorf("%d texts are held for 100 processes", n)
	}
	if len(f.processes.index) != 100 || len(f.processes.latest) != 100 {
		t.Errorf("%d and %d index entries", len(f.processes.index), len(f.processes.latest))
	}
}

func TestTextsAreBounded(t *testing.T) {
	const bound = 64 << 10
	f := newFixture(t, func(o *Options) { o.MaxTextBytes = bound })
	long := strings.Repeat("x", 200)
	for i := range uint32(2000) {
		p := named(1000+i, uint64(i+1), "x")
		f.exec(p, fmt.Sprintf("/bin/%s%d", long, i))
		if i >= 100 { // the first hundred stay
			f.exit(p)
		}
		if f.texts.bytes > bound {
			t.Fatalf("%d bytes of texts after %d processes", f.texts.bytes, i)
		}
	}
	if s := f.table(t, "process"); s.Evictions == 0 {
		t.Errorf("%+v: no evictions", s)
	}
	if p, _ := f.Process(2999); p.Exe == "" {
		t.Error("a text was refused though old ones could be given up")
	}
	if p, _ := f.Process(1000); p.Exe == "" {
		t.Error("a live process lost its path")
	}
}

func TestTextsForgetWhatNobodyUses(t *testing.T) {
	x := newTexts(1 << 20)
	a, _ := x.put([]byte("/bin/a"))
	again, _ := x.put([]byte("/bin/a"))
	b, _ := x.put([]byte("/bin/b"))
	if a != again || a == b || x.get(a) != "/bin/a" || x.get(0) != "" {
		t.Fatalf("ids %d %d %d", a, again, b)
	}
	x.drop(a)
	if x.get(a) != "/bin/a" {
		t.Error("forgotten with a user left")
	}
	x.drop(again)
	x.drop(b)
	x.drop(0)
	if len(x.index) != 0 || x.bytes != 0 {
		t.Errorf("%d texts, %d bytes are left", len(x.index), x.bytes)
	}
	if c, _ := x.put([]byte("/bin/c")); c != a && c != b {
		t.Errorf("id %d is not used again", c)
	}
}

func TestCommEndsAtNul(t *testing.T) {
	var comm [event.CommLen]byte
	copy(comm[:], bytes.Repeat([]byte("x"), event.CommLen))
	if got := commText(comm); len(got) != event.CommLen {
		t.Errorf("%q", got)
	}
	copy(comm[:], "sh\x00")
	if got := commText(comm); got != "sh" {
		t.Errorf("%q", got)
	}
}

// What has ended is forgotten at once where memory is short, and kept again after that.
func TestForgetAtOnce(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.KeepConnections = time.Minute })
	ended := func() (n int) {
		closing := f.connect(owner(10, 7), "10.0.0.1:40000", "10.0.0.2:80")
		before := f.Tables()
		closing()
		for i, table := range f.Tables() {
			n += before[i].Entries - table.Entries
		}
		return n
	}
	if n := ended(); n != 0 {
		t.Errorf("%d forgotten as usual", n)
	}
	entries := func() (n int) {
		for _, table := range f.Tables() {
			if table.Table == "connection" {
				n = table.Entries
			}
		}
		return n
	}
	f.ForgetAtOnce(true)
	if n := entries(); n != 0 {
		t.Errorf("%d ended connections are left", n)
	}
	if n := ended(); n != 1 {
		t.Errorf("%d forgotten at once", n)
	}
	f.ForgetAtOnce(false)
	if n := ended(); n != 0 || entries() != 1 {
		t.Errorf("%d forgotten, %d kept after that", n, entries())
	}
}
