package rules

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// cloneNewNS is the type of mount namespaces.
const cloneNewNS = 0x20000

// maxArgs is how many arguments of a program conditions see.
const maxArgs = 64

// field is what a condition may ask of an event.
type field struct {
	name   string
	about  string
	kind   *cel.Type
	size   int           // of a text in bytes, of a list in elements: at most
	points []event.Point // that have it; nil for all
	value  func(*view) ref.Val
}

// Points with the same fields.
var (
	execs    = []event.Point{event.ProcessExec}
	forks    = []event.Point{event.ProcessFork}
	exits    = []event.Point{event.ProcessExit}
	files    = []event.Point{event.ProcessMmap, event.ModuleLoad, event.FileOpen}
	opens    = []event.Point{event.FileOpen}
	joins    = []event.Point{event.ProcessSetns}
	programs = []event.Point{event.BPFLoad}
	signals  = []event.Point{event.SignalDeliver}
	calls    = []event.Point{event.Syscall}
	sockets  = []event.Point{event.NetworkConnect, event.NetworkAccept, event.NetworkClose, event.NetworkListen}
)

func text(name, about string, size int, points []event.Point, value func(*view) []byte) field {
	return field{name, about, cel.StringType, size, points, func(v *view) ref.Val { return types.String(shown(value(v))) }}
}

func stored(name, about string, value func(*view) string) field {
	return field{name, about, cel.StringType, event.ExeLen, nil, func(v *view) ref.Val { return types.String(value(v)) }}
}

func number[N ~int32 | ~uint8 | ~uint16 | ~uint32 | ~uint64](name, about string, points []event.Point, value func(*event.Event) N) field {
	return field{name, about, cel.IntType, 1, points, func(v *view) ref.Val { return types.Int(value(v.ev)) }}
}

func truth(name, about string, points []event.Point, value func(*event.Event) bool) field {
	return field{name, about, cel.BoolType, 1, points, func(v *view) ref.Val { return types.Bool(value(v.ev)) }}
}

// fields is every field, in the order of docs/rules.md.
var fields = [...]field{
	stored("event.point", "name of the point", func(v *view) string { return v.ev.Point.String() }),
	stored("event.source", "`kernel` or `gvisor`", func(v *view) string { return v.ev.Source.String() }),

	number("process.pid", "process id, the machine's", nil, func(e *event.Event) uint32 { return e.Process.PID }),
	number("process.ppid", "of its parent", nil, func(e *event.Event) uint32 { return e.Process.PPID }),
	number("process.uid", "real user id", nil, func(e *event.Event) uint32 { return e.Process.UID }),
	text("process.comm", "name of the thread; a hint", event.CommLen, nil, func(v *view) []byte { return v.ev.Process.Name() }),
	stored("process.exe", "file that it executes, through no link, and never a script", (*view).exe),
	stored("process.name", "the last part of that", func(v *view) string { return v.exe()[strings.LastIndexByte(v.exe(), '/')+1:] }),
	stored("process.container", "id of its container, empty on the host", func(v *view) string { return v.ev.Container() }),
	stored("parent.exe", "file that its parent executes", func(v *view) string { return v.ev.Subject.Parent.Exe }),

	{"self.pid", "process id of the sensor", cel.IntType, 1, nil, func(v *view) ref.Val { return types.Int(v.self.PID) }},

	text("exec.file", "the executed file, through no link, and never a script", event.ExeLen, execs, func(v *view) []byte { return v.text(event.TextExe) }),
	text("exec.name", "the last part of that", event.ExeLen, execs, func(v *view) []byte { return lastPart(v.text(event.TextExe)) }),
	text("exec.path", "as it was given to execve; a hint", event.PathLen, execs, func(v *view) []byte { return v.text(event.TextPath) }),
	{"exec.args", "arguments, at most 64; a hint", cel.ListType(cel.StringType), maxArgs, execs, (*view).arguments},
	text("exec.cwd", "working directory", event.CwdLen, execs, func(v *view) []byte { return v.text(event.TextCwd) }),
	number("exec.links", "names of the executed file; 0 for a deleted one and for a memfd", execs, func(e *event.Event) uint32 { return e.Exec.Links }),
	number("exec.mode", "mode of the executed file", execs, func(e *event.Event) uint16 { return e.Exec.Mode }),
	number("exec.uid", "real user id afterwards", execs, func(e *event.Event) uint32 { return e.Exec.Credentials.UID }),
	number("exec.euid", "effective user id afterwards", execs, func(e *event.Event) uint32 { return e.Exec.Credentials.EUID }),
	number("exec.gid", "real group id afterwards", execs, func(e *event.Event) uint32 { return e.Exec.Credentials.GID }),
	number("exec.egid", "effective group id afterwards", execs, func(e *event.Event) uint32 { return e.Exec.Credentials.EGID }),
	number("exec.capabilities", "effective capabilities afterwards, bit n is capability n", execs, func(e *event.Event) uint64 { return e.Exec.Credentials.Effective }),

	{"exec.upper_layer", "the executed file was made or changed after the image that its overlay lies on", cel.BoolType, 1, execs, func(v *view) ref.Val {
		v.unreadable = v.unreadable || v.ev.Exec.Layer == event.UnknownLayer
		return types.Bool(v.ev.Exec.Layer == event.UpperLayer)
	}},
	number("exec.network_fds", "which of its descriptors 0, 1 and 2 are Internet sockets, bit n is descriptor n", execs, func(e *event.Event) uint8 { return e.Exec.NetworkFDs }),
	{"exec.host_mounts", "it sees the mounts of the host: its mount namespace is that of pid 1", cel.BoolType, 1, execs, func(v *view) ref.Val {
		return types.Bool(v.seesHostMounts(&v.ev.Exec.Namespaces))
	}},

	number("child.pid", "process id of the child", forks, func(e *event.Event) uint32 { return e.Child.PID }),

	number("exit.code", "exit status", exits, func(e *event.Event) int32 { return e.Exit.Code }),
	number("exit.signal", "signal that ended it, 0 for none", exits, func(e *event.Event) uint8 { return e.Exit.Signal }),
	truth("exit.oom_killed", "ended by the OOM killer", exits, func(e *event.Event) bool { return e.Exit.OOMKilled }),

	text("file.path", "the file that was mapped, loaded or opened, through no link, as its process sees it", event.PathLen, files, func(v *view) []byte { return v.text(event.TextPath) }),
	number("file.result", "of a module 0, of a mapping its address, of an opened file its descriptor; else an error number, negated", files, func(e *event.Event) uint64 { return uint64(e.File.Result) }),
	number("file.links", "names of the file; 0 for a deleted one and for a memfd", files, func(e *event.Event) uint32 { return e.File.Links }),
	number("file.mode", "mode of the file", files, func(e *event.Event) uint16 { return e.File.Mode }),

	truth("file.writable", "opened for writing", opens, func(e *event.Event) bool { return e.File.Writable }),
	truth("file.of_kernel", "one by which the kernel is looked into and set: of proc, sysfs, a cgroup, debugfs or tracefs", opens, func(e *event.Event) bool { return e.File.OfKernel }),

	number("setns.result", "0; else an error number, negated", joins, func(e *event.Event) int32 { return e.Setns.Result }),
	number("setns.types", "CLONE_NEW* of the namespaces that were joined, as a number", joins, func(e *event.Event) uint32 { return e.Setns.Types }),
	{"setns.host_mounts", "it has joined the mount namespace of the host, that of pid 1", cel.BoolType, 1, joins, func(v *view) ref.Val {
		s := &v.ev.Setns
		return types.Bool(s.Result == 0 && s.Types&cloneNewNS != 0 && v.seesHostMounts(&s.Namespaces))
	}},

	number("program.result", "descriptor of the BPF program; else an error number, negated", programs, func(e *event.Event) int32 { return e.Program.Result }),
	number("program.type", "BPF_PROG_TYPE_*, as a number", programs, func(e *event.Event) uint32 { return e.Program.Type }),

	number("signal.number", "of the signal that reached the process", signals, func(e *event.Event) uint32 { return e.Signal.Number }),
	number("signal.sender", "process id of who has sent it, as the receiver sees it; 0 for the kernel", signals, func(e *event.Event) uint32 { return e.Signal.Sender }),
	number("signal.sender_uid", "user id of who has sent it", signals, func(e *event.Event) uint32 { return e.Signal.SenderUID }),

	number("call.result", "what the system call returned; else an error number, negated", calls, func(e *event.Event) uint64 { return uint64(e.Call.Result) }),
	argument(0), argument(1), argument(2), argument(3), argument(4), argument(5),
	text("call.path", "file name that the call was given, read from memory that the caller may change; a hint", event.PathLen, calls, func(v *view) []byte { return v.text(event.TextPath) }),

	number("socket.protocol", "6 is TCP, 17 is UDP", sockets, func(e *event.Event) uint8 { return e.Conn.Protocol }),
	truth("socket.inbound", "the other side began", sockets, func(e *event.Event) bool { return e.Conn.Inbound }),
	address("socket.local_address", "as text", func(c *event.Conn) *[16]byte { return &c.Local }),
	number("socket.local_port", "of this side", sockets, func(e *event.Event) uint16 { return e.Conn.LocalPort }),
	address("socket.remote_address", "as text", func(c *event.Conn) *[16]byte { return &c.Remote }),
	number("socket.remote_port", "0 of a listening socket", sockets, func(e *event.Event) uint16 { return e.Conn.RemotePort }),
}

func argument(n int) field {
	return number(fmt.Sprintf("call.arg%d", n+1), "an argument of the call, bare", calls, func(e *event.Event) uint64 { return e.Call.Args[n] })
}

// lastPart is what follows the last slash.
func lastPart(path []byte) []byte { return path[bytes.LastIndexByte(path, '/')+1:] }

// longestAddress is that of an IPv6 address as text.
const longestAddress = 45

func address(name, about string, of func(*event.Conn) *[16]byte) field {
	return field{name, about, cel.StringType, longestAddress, sockets, func(v *view) ref.Val {
		raw := of(&v.ev.Conn)
		if v.ev.Conn.Family == event.IPv6 {
			return types.String(netip.AddrFrom16(*raw).String())
		}
		return types.String(netip.AddrFrom4([4]byte(raw[:4])).String())
	}}
}

// fieldIndex finds fields by name.
var fieldIndex = func() map[string]int {
	index := map[string]int{}
	for i := range fields {
		index[fields[i].name] = i
	}
	return index
}()

// shown shows a text of an event as a string, for as long as the event lives.
func shown(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }
