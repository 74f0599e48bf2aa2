package sink

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/sonde-ebpf/sonde/internal/event"
)

var longID = strings.Repeat("c", 64)

// small is a machine with a shell, its child in a pod, and nobody else.
type small struct{}

var booted = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func (small) Boot() time.Time { return booted }
func (small) Node() string    { return "node-1" }

func (small) Container(id string) Container {
	if id == longID {
		return Container{ID: id, Name: "web", Image: "busybox", Namespace: "shop", Pod: "web-1"}
	}
	return Container{ID: id}
}

// known is small's child as its events know it.
func known() event.Subject {
	return event.Subject{
		Process: event.Actor{
			ExecID: event.ExecID{PID: 11, ExecNS: 4e9}, LoginUID: 1000, Exe: "./run \"it\"", Args: "run\x00a b\x00-c\x00\x00", Cwd: "/home/x\ny", Container: longID,
		},
		Parent:      event.Actor{ExecID: event.ExecID{PID: 10, ExecNS: 2e9}, LoginUID: 1000, Exe: "/bin/sh", Args: "sh\x00", Cwd: "/", Seeded: true},
		Grandparent: event.ExecID{PID: 1, ExecNS: 1},
	}
}

func at(ns int64) *timestamppb.Timestamp { return timestamppb.New(booted.Add(time.Duration(ns))) }

func id(ns, pid int) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "node-1:%d:%d", ns, pid))
}

func u32(v uint32) *wrapperspb.UInt32Value { return wrapperspb.UInt32(v) }

// shell and child are small's processes as Tetragon's API has them.
func shell() *tetragon.Process {
	return &tetragon.Process{
		ExecId: id(2e9, 10), Pid: u32(10), Uid: u32(0), Cwd: "/", Binary: "/bin/sh", Flags: "procFS rootcwd",
		StartTime: at(2e9), Auid: u32(1000), Tid: u32(10), ParentExecId: id(1, 1),
	}
}

func child() *tetragon.Process {
	return &tetragon.Process{
		ExecId: id(4e9, 11), Pid: u32(11), Uid: u32(7), Cwd: "/home/x\ny", Binary: "/home/x\ny/run \"it\"",
		Arguments: `"a b" -c ""`, Flags: "execve", StartTime: at(4e9), Auid: u32(1000),
		Pod: &tetragon.Pod{Namespace: "shop", Name: "web-1", Container: &tetragon.Container{
			Id: longID, Name: "web", Image: &tetragon.Image{Name: "busybox"},
		}},
		Docker: longID[:31], ParentExecId: id(2e9, 10), Tid: u32(12),
	}
}

// traced is an event of small's child that is told as a tracepoint, with its arguments
// as shown has them behind the message.
func traced(subsystem, name, point, args string) *tetragon.GetEventsResponse {
	return &tetragon.GetEventsResponse{Time: at(5e9), Event: &tetragon.GetEventsResponse_ProcessTracepoint{ProcessTracepoint: &tetragon.ProcessTracepoint{
		Process: child(), Parent: shell(), Subsys: subsystem, Event: name, Action: tetragon.KprobeAction_KPROBE_ACTION_POST,
		PolicyName: "sonde", Message: point + " " + args,
	}}}
}

// nobody is the process of what happens to a container.
func nobody(container string) *tetragon.Process {
	return &tetragon.Process{
		ExecId: id(0, 0), Pid: u32(0), Uid: u32(0), Flags: "unknown", StartTime: at(0), Auid: u32(^uint32(0)), Tid: u32(0), Docker: container,
	}
}

// said is an argument that is a text.
func said(label, text string) *tetragon.KprobeArgument {
	return &tetragon.KprobeArgument{Arg: &tetragon.KprobeArgument_StringArg{StringArg: text}, Label: label}
}

func TestLinesAreTetragons(t *testing.T) {
	actor := event.Process{PID: 11, TID: 12, PPID: 10, UID: 7, StartNS: 3e9}
	exec := event.Event{Point: event.ProcessExec, TimeNS: 4e9, Process: actor, Fields: event.AllFields, Exec: event.Exec{
		Inode: 99, Links: 0,
		Namespaces:  event.Namespaces{Mnt: 4026531840, PID: 4026531836},
		Credentials: event.Credentials{UID: 7, EUID: 0, GID: 8, EGID: 8, FSGID: 8, Effective: 1<<1 | 1<<21, Permitted: 1 << 40},
	}}
	var editor event.Editor
	p := known().Process
	editor.Set(&exec, event.TextPath, []byte(p.Exe), false)
	editor.Set(&exec, event.TextArgs, []byte(p.Args), true)
	editor.Set(&exec, event.TextCwd, []byte(p.Cwd), false)
	editor.Set(&exec, event.TextEnv, []byte("A=1=2\x00B=\x00nothing\x00"), false)

	editor.Set(&exec, event.TextDigest, []byte("\x00\xff0123456789abcdef0123456789ABCD"), false)

	ancestors, _ := event.AppendAncestor(nil, known().Grandparent, "/sbin/init")
	editor.Set(&exec, event.TextAncestors, ancestors, false)

	became := child()
	became.Flags = "execve truncArgs"
	became.Cap = &tetragon.Capabilities{
		Effective: []tetragon.CapabilitiesType{tetragon.CapabilitiesType_DAC_OVERRIDE, tetragon.CapabilitiesType_CAP_SYS_ADMIN},
		Permitted: []tetragon.CapabilitiesType{tetragon.CapabilitiesType_CAP_CHECKPOINT_RESTORE},
	}
	became.Ns = &tetragon.Namespaces{Mnt: &tetragon.Namespace{Inum: 4026531840}, Pid: &tetragon.Namespace{Inum: 4026531836}}
	became.ProcessCredentials = &tetragon.ProcessCredentials{
		Uid: u32(7), Gid: u32(8), Euid: u32(0), Egid: u32(8), Suid: u32(0), Sgid: u32(0), Fsuid: u32(0), Fsgid: u32(8),
	}
	became.BinaryProperties = &tetragon.BinaryProperties{
		Setuid: u32(0), File: &tetragon.FileProperties{Inode: &tetragon.InodeProperties{Number: 99, Links: u32(0)}},
	}
	became.EnvironmentVariables = []*tetragon.EnvVar{{Key: "A", Value: "1=2"}, {Key: "B"}}
	sock := &tetragon.KprobeSock{
		Family: "AF_INET6", Type: "SOCK_STREAM", Protocol: "IPPROTO_TCP", Saddr: "::1", Daddr: "2001:db8::5", Sport: 40000, Dport: 443, Cookie: 5,
	}
	connect := event.Event{Point: event.NetworkConnect, TimeNS: 5e9, Process: actor, Conn: event.Conn{
		Cookie: 5, Family: event.IPv6, Protocol: 6, LocalPort: 40000, RemotePort: 443,
		Local: [16]byte{15: 1}, Remote: [16]byte{0x20, 1, 0x0d, 0xb8, 15: 5},
	}}
	earlier := event.Event{Point: event.ProcessExec, TimeNS: 9e9, Process: event.Process{PID: 10, TID: 10}, Fields: event.AllFields, Subject: event.Subject{
		Process: known().Parent, Parent: event.Actor{ExecID: known().Grandparent, Exe: "/sbin/init"},
	}}
	init := &tetragon.Process{
		ExecId: id(1, 1), Pid: u32(1), Uid: u32(0), Binary: "/sbin/init", Flags: "execve", StartTime: at(1), Auid: u32(0), Tid: u32(1),
	}
	stranger := event.Process{PID: 77, TID: 77, UID: 5, StartNS: 6e9}

	for name, test := range map[string]struct {
		ev   event.Event
		want *tetragon.GetEventsResponse
	}{
		"exec": {exec, &tetragon.GetEventsResponse{
			Event: &tetragon.GetEventsResponse_ProcessExec{ProcessExec: &tetragon.ProcessExec{
				Process: became, Parent: shell(), Ancestors: []*tetragon.Process{{ExecId: id(1, 1), Pid: u32(1), Binary: "/sbin/init"}},
			}}, Time: at(4e9),
			NodeLabels: map[string]string{LabelDigest: "00ff303132333435363738396162636465663031323334353637383941424344"},
		}},
		"exec from before": {earlier, &tetragon.GetEventsResponse{
			Event: &tetragon.GetEventsResponse_ProcessExec{ProcessExec: &tetragon.ProcessExec{Process: shell(), Parent: init}}, Time: at(9e9),
		}},
		"report": {event.Event{
			Point: event.NetworkReport, TimeNS: 9e9, Conn: event.Conn{Family: event.IPv4, Protocol: 6, RemotePort: 443, Remote: [16]byte{203, 0, 113, 0}},
			Report: event.Report{Active: true, PeerBits: 24, LastNS: 8e9}, Data: []byte("c1office"),
			Texts: [event.TextKinds]event.Span{event.TextContainer: {At: 0, Len: 2}, event.TextNetwork: {At: 2, Len: 6}},
		}, &tetragon.GetEventsResponse{
			Event: &tetragon.GetEventsResponse_ProcessTracepoint{ProcessTracepoint: &tetragon.ProcessTracepoint{
				Process: nobody("c1"), Subsys: "sonde", Event: "network_report", PolicyName: "sonde",
				Action: tetragon.KprobeAction_KPROBE_ACTION_POST, Message: "network/report",
				Args: []*tetragon.KprobeArgument{
					said("state", "active"), said("direction", "outbound"),
					{Arg: &tetragon.KprobeArgument_UintArg{UintArg: 6}, Label: "protocol"}, {Arg: &tetragon.KprobeArgument_UintArg{UintArg: 443}, Label: "port"},
					said("peer", "203.0.113.0/24"), said("last_active", "2026-11-21T10:00:08Z"), said("network", "office"),
				},
			}}, Time: at(9e9),
		}},
		"container": {event.Event{
			Point: event.ContainerStart, TimeNS: 9e9, Data: []byte("c1"), Texts: [event.TextKinds]event.Span{event.TextContainer: {Len: 2}},
		}, &tetragon.GetEventsResponse{
			Event: &tetragon.GetEventsResponse_ProcessTracepoint{ProcessTracepoint: &tetragon.ProcessTracepoint{
				Process: nobody("c1"), Subsys: "sonde", Event: "container_start", PolicyName: "sonde",
				Action: tetragon.KprobeAction_KPROBE_ACTION_POST, Message: "container/start",
				Args: []*tetragon.KprobeArgument{said("container", "c1")},
			}}, Time: at(9e9),
		}},
		"of a sandbox": {event.Event{ // whose pids are those of another machine
			Point: event.ProcessExit, Source: event.SourceGVisor, TimeNS: 9e9, Process: event.Process{PID: 11, TID: 12, PPID: 10, StartNS: 3e9},
			Data: []byte("c1"), Texts: [event.TextKinds]event.Span{event.TextContainer: {Len: 2}},
		}, &tetragon.GetEventsResponse{
			Event: &tetragon.GetEventsResponse_ProcessExit{ProcessExit: &tetragon.ProcessExit{Process: &tetragon.Process{
				ExecId: id(3e9, 11), Pid: u32(11), Uid: u32(0), Flags: "unknown", StartTime: at(3e9), Auid: u32(^uint32(0)), Tid: u32(12), Docker: "c1",
			}, Time: at(9e9)}}, Time: at(9e9), NodeLabels: map[string]string{LabelSource: "gvisor"},
		}},
		"marked": {event.Event{Point: event.ProcessExit, TimeNS: 9e9, Process: actor, Rules: []*event.Rule{
			{Name: "one", Severity: event.Critical, Technique: "T1059"}, {Name: "two", Severity: event.Medium, Technique: "T1611"},
		}}, &tetragon.GetEventsResponse{
			Event: &tetragon.GetEventsResponse_ProcessExit{ProcessExit: &tetragon.ProcessExit{Process: child(), Parent: shell(), Time: at(9e9)}}, Time: at(9e9),
			NodeLabels: map[string]string{LabelRule: "one,two", LabelSeverity: "critical", LabelTechnique: "T1059,T1611"},
		}},
		"exit": {event.Event{Point: event.ProcessExit, TimeNS: 9e9 + 1, Process: actor, Exit: event.Exit{Code: 3}}, &tetragon.GetEventsResponse{
			Event: &tetragon.GetEventsResponse_ProcessExit{ProcessExit: &tetragon.ProcessExit{Process: child(), Parent: shell(), Status: 3, Time: at(9e9 + 1)}}, Time: at(9e9 + 1),
		}},
		"killed stranger": {event.Event{Point: event.ProcessExit, TimeNS: 9e9, Process: stranger, Exit: event.Exit{Signal: 9}}, &tetragon.GetEventsResponse{
			Event: &tetragon.GetEventsResponse_ProcessExit{ProcessExit: &tetragon.ProcessExit{
				Process: &tetragon.Process{
					ExecId: id(6e9, 77), Pid: u32(77), Uid: u32(5), Flags: "unknown", StartTime: at(6e9), Auid: u32(^uint32(0)), Tid: u32(77),
				},
				Signal: "SIGKILL", Time: at(9e9),
			}}, Time: at(9e9),
		}},
		"connect": {connect, &tetragon.GetEventsResponse{
			Event: &tetragon.GetEventsResponse_ProcessKprobe{ProcessKprobe: &tetragon.ProcessKprobe{
				Process: child(), Parent: shell(), FunctionName: "tcp_connect", Action: tetragon.KprobeAction_KPROBE_ACTION_POST,
				PolicyName: "sonde", Message: "network/connect",
				Args: []*tetragon.KprobeArgument{{Arg: &tetragon.KprobeArgument_SockArg{SockArg: sock}}},
			}}, Time: at(5e9),
		}},
		"fork": {event.Event{Point: event.ProcessFork, TimeNS: 5e9, Process: actor, Child: event.Process{PID: 13}}, &tetragon.GetEventsResponse{
			Event: &tetragon.GetEventsResponse_ProcessTracepoint{ProcessTracepoint: &tetragon.ProcessTracepoint{
				Process: child(), Parent: shell(), Subsys: "sched", Event: "sched_process_fork", Action: tetragon.KprobeAction_KPROBE_ACTION_POST,
				PolicyName: "sonde", Message: "process/fork",
				Args: []*tetragon.KprobeArgument{{Arg: &tetragon.KprobeArgument_IntArg{IntArg: 13}}},
			}}, Time: at(5e9),
		}},
		"signal": {event.Event{Point: event.SignalDeliver, TimeNS: 5e9, Process: actor, Signal: event.Signal{Number: 10, Sender: 10}},
			traced("signal", "signal_deliver", "signal/deliver", `signal="SIGUSR1" number=10 code=0 sender_pid=10 sender_uid=0`)},
		"oom kill": {event.Event{Point: event.OOMKill, TimeNS: 5e9, Process: actor, Child: event.Process{PID: 13, Comm: [16]byte{'e', 'a', 't'}}},
			traced("oom", "mark_victim", "oom/kill", `pid=13 comm="eat"`)},
		"program": {event.Event{Point: event.BPFLoad, TimeNS: 5e9, Process: actor, Program: event.Program{Result: -1, Type: 3, ID: 4, Name: [16]byte{'x'}}},
			traced("syscalls", "sys_exit_bpf", "bpf/load", `name="x" type=3 id=4 result=-1`)},
		"module": {event.Event{Point: event.ModuleLoad, TimeNS: 5e9, Process: actor, File: event.File{Result: -38}},
			traced("module", "module_load", "module/load", `file="" result=-38`)},
		"opened": {event.Event{Point: event.FileOpen, TimeNS: 5e9, Process: actor, File: event.File{Result: 3, Mode: 0o100600, Inode: 9, Writable: true}},
			traced("syscalls", "sys_exit_openat", "file/open", `file="" result=3 access="write" mode=33152 inode=9`)},
		"joined": {event.Event{Point: event.ProcessSetns, TimeNS: 5e9, Process: actor, Setns: event.Setns{Result: -1, Types: 0x20000, Namespaces: event.Namespaces{Mnt: 7}}},
			traced("syscalls", "sys_exit_setns", "process/setns", `types=131072 mount_namespace=7 result=-1`)},
		"mapping": {event.Event{Point: event.ProcessMmap, TimeNS: 5e9, Process: actor, File: event.File{Result: 4096, Length: 8192, Prot: 5, Inode: 9}},
			traced("syscalls", "sys_exit_mmap", "process/mmap", `file="" addr=4096 length=8192 prot=5 inode=9`)},
	} {
		t.Run(name, func(t *testing.T) {
			test.want.NodeName = "node-1"
			if test.ev.Process == actor && test.ev.Source == event.SourceKernel {
				test.ev.Subject = known()
			}
			e := newLines(small{}, nil)
			e.line(&test.ev)
			line := string(e.json.b)
			if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
				t.Errorf("not one line: %q", line)
			}
			var got tetragon.GetEventsResponse
			if err := protojson.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			if point := got.GetProcessTracepoint(); point != nil && len(test.want.GetProcessTracepoint().Args) == 0 {
				var args []string
				for _, a := range point.Args {
					args = append(args, shown(a))
				}
				point.Args = nil
				point.Message += " " + strings.Join(args, " ")
			}
			if !proto.Equal(&got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", prototext.Format(&got), prototext.Format(test.want))
			}
		})
	}
}

// Every capability has the name that the API knows it by.
func TestCapabilityNames(t *testing.T) {
	for n, name := range capabilityNames {
		if want := tetragon.CapabilitiesType(n).String(); name != want {
			t.Errorf("capability %d is %s, want %s", n, name, want)
		}
	}
}

func TestMissing(t *testing.T) {
	e := newLines(small{}, nil)
	e.missing(12, booted)
	var got tetragon.GetEventsResponse
	if err := protojson.Unmarshal(e.json.b, &got); err != nil {
		t.Fatal(err)
	}
	if n := got.GetRateLimitInfo().GetNumberOfDroppedProcessEvents(); n != 12 || got.NodeName != "node-1" {
		t.Errorf("%d held back on %s", n, got.NodeName)
	}
}

func TestEncodingDoesNotAllocate(t *testing.T) {
	e := newLines(small{}, nil)
	call := named(t, "syscall/connect/enter", 3)
	new(event.Editor).Set(call, event.TextIn, []byte("\x02\x00\x01\xbb\x7f\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00"), false)
	for _, ev := range []*event.Event{
		{Point: event.ProcessExit, Process: event.Process{PID: 11, TID: 11, StartNS: 3e9}, Subject: known()}, {Point: event.NetworkConnect}, {Point: event.ProcessFork}, call,
	} {
		if n := testing.AllocsPerRun(100, func() {
			e.json.b = e.json.b[:0]
			e.line(ev)
		}); n > 0 {
			t.Errorf("%v: %v allocations", ev.Point, n)
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add("a\"b\\c\x01\xff\u20ac\n")
	f.Fuzz(func(t *testing.T, text string) {
		j := json{}
		j.open('{')
		j.string("cwd", text)
		j.close('}')
		var got tetragon.Process
		if err := protojson.Unmarshal(j.b, &got); err != nil {
			t.Fatalf("%q: %v", j.b, err)
		}
		repaired := strings.Map(func(r rune) rune {
			if r == utf8.RuneError {
				return '?'
			}
			return r
		}, text)
		if strings.ReplaceAll(got.Cwd, "\ufffd", "?") != repaired {
			t.Errorf("%q became %q", text, got.Cwd)
		}
	})
}
