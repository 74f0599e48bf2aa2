package sink

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// named makes an event of the point of that name.
func named(t *testing.T, point string, args ...uint64) *event.Event {
	t.Helper()
	p, ok := event.ParseCallPoint(point)
	if !ok {
		t.Fatalf("no point %s", point)
	}
	ev := &event.Event{Point: event.Syscall, Call: event.Call{Number: p.Number, Exit: p.Exit}}
	copy(ev.Call.Args[:], args)
	if p.Raw {
		ev.Fields = event.FieldRaw
	}
	return ev
}

// shown is an argument as a reader of Tetragon's lines sees it.
func shown(a *tetragon.KprobeArgument) string {
	var v any
	switch x := a.Arg.(type) {
	case *tetragon.KprobeArgument_IntArg:
		v = x.IntArg
	case *tetragon.KprobeArgument_UintArg:
		v = x.UintArg
	case *tetragon.KprobeArgument_LongArg:
		v = x.LongArg
	case *tetragon.KprobeArgument_SizeArg:
		v = x.SizeArg
	case *tetragon.KprobeArgument_StringArg:
		v = fmt.Sprintf("%q", x.StringArg)
	case *tetragon.KprobeArgument_BytesArg:
		v = fmt.Sprintf("%x", x.BytesArg)
	case *tetragon.KprobeArgument_SockaddrArg:
		v = x.SockaddrArg.Family + " " + x.SockaddrArg.Addr + " " + fmt.Sprint(x.SockaddrArg.Port)
	case *tetragon.KprobeArgument_SockaddrunArg:
		v = fmt.Sprintf("%s %q", x.SockaddrunArg.Family, x.SockaddrunArg.Path)
	case *tetragon.KprobeArgument_FileArg:
		v = fmt.Sprintf("%q", x.FileArg.Path)
	case *tetragon.KprobeArgument_SyscallId:
		return "call"
	}
	return fmt.Sprintf("%s=%v", a.Label, v)
}

func TestCallsAsLines(t *testing.T) {
	var editor event.Editor
	words := func(all ...uint64) (b []byte) {
		for _, w := range all {
			b = binary.NativeEndian.AppendUint64(b, w)
		}
		return b
	}
	with := func(ev *event.Event, kind event.Text, text []byte) *event.Event {
		editor.Set(ev, kind, text, false)
		return ev
	}
	result := func(ev *event.Event, r int64) *event.Event { ev.Call.Result = r; return ev }
	minus := ^uint64(99) // -100
	execve := with(with(with(named(t, "syscall/execve/exit"), event.TextPath, []byte("/bin/ls")), event.TextArgs, []byte("ls\x00\x00")), event.TextEnv, []byte("A=1\x00"))
	withEnv := *execve
	withEnv.Fields = event.FieldEnvironment
	withFD := *with(named(t, "syscall/close/enter", 3), event.TextFD, []byte("/tmp/x"))
	withFD.Fields = event.FieldFDPath
	for _, test := range []struct {
		ev     *event.Event
		subsys string
		want   string
	}{
		{named(t, "syscall/sysno/39/enter", 1, 2, 3, 4, 5, 6), "raw_syscalls", "call arg1=1 arg2=2 arg3=3 arg4=4 arg5=5 arg6=6"},
		{result(named(t, "syscall/sysno/39/exit"), -2), "raw_syscalls", "call arg1=0 arg2=0 arg3=0 arg4=0 arg5=0 arg6=0 result=-2"},
		{with(named(t, "syscall/openat/enter", minus, 0, 1<<40|0x80000, 0o644), event.TextPath, []byte("a \"b\"")), "syscalls", `call fd=-100 pathname="a \"b\"" flags=524288 mode=420`},
		{named(t, "syscall/chdir/enter"), "syscalls", `call pathname=""`},
		{execve, "syscalls", `call pathname="/bin/ls" argv="ls" argv="" result=0`},
		{&withEnv, "syscalls", `call pathname="/bin/ls" argv="ls" argv="" envv="A=1" result=0`},
		{&withFD, "syscalls", `call fd=3 fd_path="/tmp/x"`},
		{with(named(t, "syscall/close/enter", 3), event.TextFD, []byte("/tmp/x")), "syscalls", "call fd=3"},
		{with(named(t, "syscall/connect/enter", 3), event.TextIn, []byte("\x02\x00\x01\xbb\x7f\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00")), "syscalls", "call fd=3 address=AF_INET 127.0.0.1 443"},
		{with(named(t, "syscall/bind/enter", 3), event.TextIn, []byte("\x01\x00/run/x\x00y")), "syscalls", `call fd=3 address=AF_UNIX "/run/x"`},
		{with(named(t, "syscall/bind/enter", 3), event.TextIn, []byte("\x11\x00\xff")), "syscalls", "call fd=3 address=1100ff"},
		{with(named(t, "syscall/accept/exit", 3), event.TextOut, append([]byte("\x0a\x00\x00\x16\x00\x00\x00\x00"), make([]byte, 20)...)), "syscalls", "call fd=3 address=AF_INET6 :: 22 result=0"},
		{with(named(t, "syscall/pipe2/exit", 9, 0x800), event.TextOut, []byte{5, 0, 0, 0, 6, 0, 0, 0}), "syscalls", "call flags=2048 reader=5 writer=6 result=0"},
		{named(t, "syscall/pipe2/enter", 9, 0x800), "syscalls", "call flags=2048"},
		{with(named(t, "syscall/prlimit64/enter", 0, 7), event.TextIn, words(10, 20)), "syscalls", "call pid=0 resource=7 new_cur=10 new_max=20"},
		{with(named(t, "syscall/timerfd_gettime/exit", 4), event.TextOut, words(1, 2, 3, 4)), "syscalls",
			"call fd=4 cur_interval_sec=1 cur_interval_nsec=2 cur_value_sec=3 cur_value_nsec=4 result=0"},
	} {
		e := newLines(small{}, nil)
		e.line(test.ev)
		var r tetragon.GetEventsResponse
		if err := protojson.Unmarshal(e.json.b, &r); err != nil {
			t.Errorf("%v in %s", err, e.json.b)
			continue
		}
		got := r.GetProcessTracepoint()
		var args []string
		for _, a := range got.GetArgs() {
			args = append(args, shown(a))
		}
		if line := strings.Join(args, " "); line != test.want || got.Subsys != test.subsys {
			t.Errorf("%s: %s %s\nwant %s", got.Message, got.Subsys, line, test.want)
		}
		if p, ok := event.ParseCallPoint(got.Message); !ok || p != callPoint(test.ev) || got.Event != map[bool]string{false: "sys_enter", true: "sys_exit"}[p.Exit] {
			t.Errorf("message %s, event %s", got.Message, got.Event)
		}
	}
}
