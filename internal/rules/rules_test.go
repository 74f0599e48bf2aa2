package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// ruleFile writes a file with one rule for each condition, named r0, r1, …
func ruleFile(points string, conditions ...string) File {
	var b strings.Builder
	b.WriteString("version: 1.2\nrules:\n")
	for i, c := range conditions {
		fmt.Fprintf(&b, "- {name: r%d, severity: high, technique: T1059.004, points: [%s], condition: %q}\n", i, points, c)
	}
	return File{"test.yaml", []byte(b.String())}
}

func engine(t testing.TB, files ...File) *Engine {
	t.Helper()
	set, err := Compile(files)
	if err != nil {
		t.Fatal(err)
	}
	e := NewEngine(Self{PID: 5, HostMount: 77})
	e.Use(set)
	return e
}

// exec is the execution of a file with arguments by pid 2, in a container, whose parent
// is outside.
func exec(file string, args ...string) *event.Event {
	var editor event.Editor
	ev := &event.Event{Point: event.ProcessExec, Process: event.Process{PID: 2, UID: 1000, Comm: [event.CommLen]byte{'s', 'h'}}}
	ev.Subject = event.Subject{
		Process: event.Actor{ExecID: event.ExecID{PID: 2}, Exe: file, Container: "c1"}, Parent: event.Actor{ExecID: event.ExecID{PID: 1}, Exe: "/sbin/init"},
	}
	editor.Set(ev, event.TextExe, []byte(file), false)
	editor.Set(ev, event.TextPath, []byte("./given"), false)
	editor.Set(ev, event.TextCwd, []byte("/home"), false)
	editor.Set(ev, event.TextArgs, []byte(strings.Join(args, "\x00")+"\x00"), false)
	ev.Exec = event.Exec{Namespaces: event.Namespaces{Mnt: 77}, Links: 1, Mode: 0o104755, Layer: event.UpperLayer, NetworkFDs: 5, Credentials: event.Credentials{UID: 1000, EUID: 0, GID: 5, EGID: 6, Effective: 1 << 21}}
	return ev
}

func names(ev *event.Event) (all []string) {
	for _, r := range ev.Rules {
		all = append(all, r.Name)
	}
	return all
}

// Every field says what it is about, and a condition sees its value.
func TestFields(t *testing.T) {
	conn := event.Event{Point: event.NetworkConnect, Source: event.SourceGVisor, Process: event.Process{PID: 2, PPID: 1}, Conn: event.Conn{
		Family: event.IPv4, Protocol: 6, Inbound: true, LocalPort: 80, RemotePort: 443, Local: [16]byte{10, 0, 0, 1}, Remote: [16]byte{1, 2, 3, 4},
	}}
	var editor event.Editor
	editor.Set(&conn, event.TextContainer, []byte("sandbox"), false)
	seen := map[string]bool{}
	for _, tc := range []struct {
		ev         *event.Event
		conditions []string
	}{
		{exec("/usr/bin/x", "x", "", "-i"), []string{
			`event.point == "process/exec"`, `event.source == "kernel"`, `process.pid == 2`, `process.uid == 1000`, `process.comm == "sh"`,
			`process.exe == "/usr/bin/x"`, `process.container == "c1"`, `process.name == "x"`, `exec.name == "x"`, `parent.exe == "/sbin/init"`,
			`exec.file == "/usr/bin/x"`, `exec.path == "./given"`, `exec.cwd == "/home"`, `exec.args == ["x", "", "-i"]`, `exec.links == 1`,
			`exec.mode == 35309`, `exec.uid == 1000`, `exec.euid == 0`, `exec.gid == 5`, `exec.egid == 6`, `exec.capabilities == 2097152`, `exec.host_mounts`,
			`exec.upper_layer`, `exec.network_fds == 5`,
		}},
		{&event.Event{Point: event.ProcessFork, Child: event.Process{PID: 9}, Subject: exec("/bin/sh").Subject}, []string{`child.pid == 9`, `process.exe == "/bin/sh"`}},
		{&event.Event{Point: event.ProcessExit, Exit: event.Exit{Code: 3, Signal: 9, OOMKilled: true}}, []string{
			`exit.code == 3`, `exit.signal == 9`, `exit.oom_killed`,
		}},
		{&event.Event{Point: event.ModuleLoad, File: event.File{Result: -8, Links: 1, Mode: 0o644}, Data: []byte("/x.ko"), Texts: [event.TextKinds]event.Span{event.TextPath: {Len: 5}}}, []string{
			`file.path == "/x.ko"`, `file.result == -8`, `file.links == 1`, `file.mode == 420`, `self.pid == 5`,
		}},
		{&event.Event{Point: event.FileOpen, File: event.File{Result: 3, Writable: true, OfKernel: true}}, []string{`file.result == 3`, `file.writable`, `file.of_kernel`}},
		{&event.Event{Point: event.ProcessSetns, Setns: event.Setns{Types: cloneNewNS, Namespaces: event.Namespaces{Mnt: 77}}}, []string{
			`setns.result == 0`, `setns.types == 131072`, `setns.host_mounts`,
		}},
		{&event.Event{Point: event.BPFLoad, Program: event.Program{Result: -1, Type: 1}}, []string{`program.result == -1`, `program.type == 1`}},
		{&event.Event{Point: event.SignalDeliver, Signal: event.Signal{Number: 9, Sender: 7, SenderUID: 1}}, []string{
			`signal.number == 9`, `signal.sender == 7`, `signal.sender_uid == 1`,
		}},
		{&event.Event{Point: event.Syscall, Call: event.Call{Number: 5, Exit: true, Result: -2, Args: [6]uint64{1, 2, 3, 4, 5, 6}}}, []string{
			`call.result == -2`, `call.arg1 == 1`, `call.arg2 == 2`, `call.arg3 == 3`, `call.arg4 == 4`, `call.arg5 == 5`, `call.arg6 == 6`, `call.path == ""`,
		}},
		{&conn, []string{
			`process.ppid == 1`, `event.source == "gvisor"`, `process.exe == ""`, `process.container == "sandbox"`, `socket.protocol == 6`, `socket.inbound`,
			`socket.local_address == "10.0.0.1"`, `socket.local_port == 80`, `socket.remote_address == "1.2.3.4"`, `socket.remote_port == 443`,
		}},
	} {
		point := tc.ev.Point.String()
		if tc.ev.Point == event.Syscall {
			point = "syscall/sysno/5/exit"
		}
		e := engine(t, ruleFile(point, tc.conditions...))
		e.Mark(tc.ev)
		for i, c := range tc.conditions {
			seen[strings.Fields(c)[0]] = true
			if n := e.Counts()[i]; n.Matched != 1 {
				t.Errorf("%s: does not fit, %+v", c, n)
			}
		}
	}
	for _, f := range fields {
		if !seen[f.name] || f.about == "" {
			t.Errorf("field %s has no test, or says nothing of itself", f.name)
		}
	}
	if len(fields) > maxFields {
		t.Errorf("%d fields, room for %d", len(fields), maxFields)
	}
}

func TestFaultsAreToldTogether(t *testing.T) {
	bad := File{"bad.yaml", []byte(`
version: "1"
rules:
- {name: Bad Name, severity: awful, technique: X1, points: [], condition: "1 + 1"}
- {name: a, severity: low, technique: T1059, points: [process/dance, process/fork], condition: exec.file == ""}
- {name: a, severity: low, technique: T1059, points: [process/exec], condition: "nothing.here"}
- {name: costly, severity: low, technique: T1059, points: [process/exec], condition: 'exec.args.exists(a, exec.args.exists(b, a == b))'}
`)}
	_, err := Compile([]File{bad, {"shape.yaml", []byte("version: 1\nrules: [{nam: x}]")}, {"version.yaml", []byte("rules: []")}, {"two.yaml", []byte("version: 1\n---\nversion: 1")}})
	if err == nil {
		t.Fatal("a bad set was taken")
	}
	for _, want := range []string{
		`bad.yaml: rule Bad Name: name "Bad Name": write`, `bad.yaml: rule Bad Name: severity "awful": write low, medium, high or critical`,
		`bad.yaml: rule Bad Name: technique "X1": write`, `bad.yaml: rule Bad Name: no points`, `bad.yaml: rule Bad Name: condition: it is a int`,
		`bad.yaml: rule a: no point "process/dance"`, `bad.yaml: rule a: condition: exec.file is not a field of those points`,
		`bad.yaml: rule a: another rule has that name`, `undeclared reference to 'nothing'`,
		`bad.yaml: rule costly: condition: it may cost`, `shape.yaml: read rules: yaml: unmarshal errors:`, `version.yaml: version "": write`,
		`two.yaml: read rules: a second document follows`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing says %q in:\n%v", want, err)
		}
	}
}

func TestSetsAreBounded(t *testing.T) {
	for n, fits := range map[int]bool{MaxRules: true, MaxRules + 1: false} {
		conditions := make([]string, n)
		for i := range conditions {
			conditions[i] = "exec.links == 0"
		}
		if _, err := Compile([]File{ruleFile("process/exec", conditions...)}); (err == nil) != fits {
			t.Errorf("%d rules: %v", n, err)
		}
	}
	for n, fits := range map[int]bool{MaxFiles: true, MaxFiles + 1: false} {
		files := make([]File, n)
		for i := range files {
			files[i] = File{"f", []byte("version: 1")}
		}
		if _, err := Compile(files); (err == nil) != fits {
			t.Errorf("%d files: %v", n, err)
		}
	}
	for n, fits := range map[int]bool{MaxFileBytes: true, MaxFileBytes + 1: false} {
		text := "version: 1\n#" + strings.Repeat("x", n-len("version: 1\n#"))
		if _, err := Compile([]File{{"f", []byte(text)}}); (err == nil) != fits {
			t.Errorf("a file of %d bytes: %v", n, err)
		}
	}
}

// A rule is evaluated for its points only; what several rules fit has all of them.
func TestMarks(t *testing.T) {
	e := engine(t, ruleFile("process/exec", `exec.links == 1`, `exec.links == 2`, `exec.uid == 1000`), File{"other.yaml", []byte(`
version: b
rules: [{name: other, severity: low, technique: T1000, points: [process/exit], condition: "true"}]`)})
	ev := exec("/bin/x")
	ev.Rules = []*event.Rule{{Name: "of the event before"}}
	e.Mark(ev)
	if got := fmt.Sprint(names(ev)); got != "[r0 r2]" {
		t.Errorf("marked %s", got)
	}
	if r := ev.Rules[0]; r.Severity != event.High || r.Technique != "T1059.004" {
		t.Errorf("%+v", r)
	}
	end := &event.Event{Point: event.ProcessExit}
	e.Mark(end)
	e.Mark(&event.Event{Point: event.ProcessFork})
	for i, want := range []uint64{1, 0, 1, 1} {
		if n := e.Counts()[i]; n.Matched != want {
			t.Errorf("%+v, want %d", n, want)
		}
	}
	s := e.Set()
	points, calls := s.Points()
	if s.Version != "1.2+b" || len(s.Hash) != 64 || !slices.Equal(points, []event.Point{event.ProcessExec, event.ProcessExit}) || calls != (event.WantedCalls{}) {
		t.Errorf("version %s, hash %s, points %v, calls %v", s.Version, s.Hash, points, calls)
	}
}

// A rule about one end of a system call sees neither the other end nor other calls.
func TestCalls(t *testing.T) {
	e := engine(t, ruleFile("syscall/sysno/5/exit, syscall/ptrace/enter", "true"))
	for n, want := range map[event.CallPoint]int{{Number: 5, Exit: true}: 1, {Number: 5}: 0, {Number: 6, Exit: true}: 0} {
		ev := &event.Event{Point: event.Syscall, Call: event.Call{Number: n.Number, Exit: n.Exit}}
		if e.Mark(ev); len(ev.Rules) != want {
			t.Errorf("%v: marked %v", n, names(ev))
		}
	}
	points, calls := e.Set().Points()
	var want event.WantedCalls
	for _, name := range []string{"syscall/sysno/5/exit", "syscall/ptrace/enter"} {
		p, _ := event.ParseCallPoint(name)
		p.Raw = false
		want.Add(p, 0)
	}
	if !slices.Equal(points, []event.Point{event.Syscall}) || calls != want {
		t.Errorf("points %v, calls %v", points, calls)
	}
}

// Counts go on over a change of the set, for rules that are in both.
func TestUse(t *testing.T) {
	e := engine(t, ruleFile("process/exec", "true", "true"))
	before := e.Set().Hash
	e.Mark(exec("/bin/x"))
	next, err := Compile([]File{ruleFile("process/exec", "exec.links == 7"), {"new.yaml", []byte(
		"version: 1\nrules: [{name: r1, severity: low, technique: T1000, points: [process/exec], condition: 'true'}]")}})
	if err != nil {
		t.Fatal(err)
	}
	e.Use(next)
	e.Mark(exec("/bin/x"))
	counts := e.Counts()
	if len(counts) != 2 || counts[0].Matched != 1 || counts[1].Matched != 1 || counts[1].Severity != event.Low {
		t.Errorf("%+v", counts)
	}
	if e.Set().Hash == before {
		t.Error("another set has the same hash")
	}
}

func TestFailuresAreCounted(t *testing.T) {
	e := engine(t, ruleFile("process/exec", `1 / exec.euid == 1`, `exec.args.size() == 0`, `exec.uid == 1000`, `exec.args.size() == 7`, `exec.upper_layer`))
	ev := exec("/bin/x")
	new(event.Editor).Unreadable(ev, event.TextArgs)
	ev.Exec.Layer = event.UnknownLayer
	e.Mark(ev)
	if got := fmt.Sprint(names(ev)); got != "[r1 r2]" {
		t.Errorf("marked %s", got)
	}
	for i, want := range [][Failures]uint64{{Evaluation: 1}, {Unreadable: 1}, {}, {Unreadable: 1}, {Unreadable: 1}} {
		if n := e.Counts()[i]; n.Failed != want {
			t.Errorf("%+v, want %v", n, want)
		}
	}
}

func TestManyArguments(t *testing.T) {
	e := engine(t, ruleFile("process/exec", fmt.Sprintf("exec.args.size() == %d", maxArgs)))
	for n, fits := range map[int]bool{maxArgs - 1: false, maxArgs: true, maxArgs + 1: true} {
		ev := exec("/bin/x", make([]string, n)...)
		if e.Mark(ev); (len(ev.Rules) > 0) != fits {
			t.Errorf("%d arguments: marked %v", n, names(ev))
		}
	}
}

func TestDefaultSetCompiles(t *testing.T) {
	set, err := Compile([]File{DefaultFile()})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d rules", set.Len())
}

func FuzzCompile(f *testing.F) {
	f.Add(DefaultFile().Text)
	f.Add(ruleFile("process/exec", "exec.args.exists(a, a.matches('^x+$'))").Text)
	f.Add([]byte("version: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		set, err := Compile([]File{{"f", text}})
		if err != nil {
			if set != nil {
				t.Error("a set and an error")
			}
			return
		}
		e := NewEngine(Self{PID: 5, HostMount: 77})
		e.Use(set)
		e.Mark(exec("/bin/x", "a", "b"))
	})
}

// The default set, and an event of a point that no rule is about.
func BenchmarkMark(b *testing.B) {
	e := engine(b, DefaultFile())
	for _, ev := range []*event.Event{exec("/usr/bin/cat", "cat", "a"), {Point: event.NetworkConnect}, {Point: event.ProcessFork}} {
		b.Run(strings.ReplaceAll(ev.Point.String(), "/", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.Mark(ev)
			}
		})
	}
}
