package sink

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// callPoint is the point of an event of a call, as the session named it.
func callPoint(ev *event.Event) event.CallPoint {
	return event.CallPoint{Number: ev.Call.Number, Exit: ev.Call.Exit, Raw: ev.Fields&event.FieldRaw != 0}
}

// callABI is the table that numbers of calls are from, as Tetragon names it.
var callABI = map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]

// call writes one end of a system call, as one of the tracepoints sys_enter and
// sys_exit with the values that its schema names as arguments with labels.
func (t *lines) call(ev *event.Event) {
	name, subsystem := "sys_enter", "raw_syscalls"
	if ev.Call.Exit {
		name = "sys_exit"
	}
	if s := event.SchemaOf(ev.Call.Number); s != nil && ev.Fields&event.FieldRaw == 0 {
		subsystem = "syscalls"
	}
	t.tracepoint(ev, subsystem, name, (*lines).callArguments)
}

func (t *lines) callArguments(ev *event.Event) {
	j, c := &t.json, &ev.Call
	j.open('{')
	j.object("syscall_id")
	j.uint("id", uint64(c.Number))
	j.string("abi", callABI)
	j.close('}')
	j.close('}')
	s := event.SchemaOf(c.Number)
	if s == nil || ev.Fields&event.FieldRaw != 0 {
		for i, arg := range c.Args {
			t.wide("size_arg", arg, rawNames[i])
		}
	} else {
		for i := range s.Fields {
			t.callField(ev, &s.Fields[i])
		}
		if path := ev.Text(event.TextFD); len(path) > 0 && ev.Fields&event.FieldFDPath != 0 {
			t.text(view(path), "fd_path")
		}
	}
	if c.Exit {
		t.wideSigned(c.Result, "result")
	}
}

// rawNames are the labels of bare arguments.
var rawNames = [...]string{"arg1", "arg2", "arg3", "arg4", "arg5", "arg6"}

// callField writes one value of a call. What could not be read, or is told only of calls
// that succeed or on request, is left out where it is not there.
func (t *lines) callField(ev *event.Event, f *event.CallField) {
	arg := func() uint64 { return ev.Call.Args[f.At] }
	switch f.Kind {
	case event.CallInt32:
		t.narrow("int_arg", int64(int32(arg())), f.Name)
	case event.CallUint32:
		t.narrow("uint_arg", int64(uint32(arg())), f.Name)
	case event.CallInt64:
		t.wideSigned(int64(arg()), f.Name)
	case event.CallUint64:
		t.wide("size_arg", arg(), f.Name)
	case event.CallPath:
		if !ev.Texts[event.TextPath].Unreadable {
			t.text(view(ev.Text(event.TextPath)), f.Name)
		}
	case event.CallStrings:
		t.texts(ev.Text(event.TextArgs), f.Name)
	case event.CallEnvironment:
		if ev.Fields&event.FieldEnvironment != 0 {
			t.texts(ev.Text(event.TextEnv), f.Name)
		}
	case event.CallAddressIn:
		t.socketAddress(ev.Text(event.TextIn), f.Name)
	case event.CallAddressOut:
		t.socketAddress(ev.Text(event.TextOut), f.Name)
	case event.CallIn64:
		t.block(ev.Text(event.TextIn), f, 8)
	case event.CallOut64:
		t.block(ev.Text(event.TextOut), f, 8)
	case event.CallOut32:
		t.block(ev.Text(event.TextOut), f, 4)
	}
}

// block writes a value of some bytes of a block, if the block is there.
func (t *lines) block(b []byte, f *event.CallField, bytes int) {
	switch b = b[min(int(f.At), len(b)):]; {
	case len(b) < bytes:
	case bytes == 8:
		t.wide("size_arg", binary.NativeEndian.Uint64(b), f.Name)
	default:
		t.narrow("int_arg", int64(int32(binary.NativeEndian.Uint32(b))), f.Name)
	}
}

// The forms of one argument.

func (t *lines) wide(kind string, v uint64, label string) {
	t.json.open('{')
	t.json.uint64(kind, v)
	t.label(label)
}

func (t *lines) wideSigned(v int64, label string) {
	t.json.open('{')
	t.json.int64("long_arg", v)
	t.label(label)
}

func (t *lines) narrow(kind string, v int64, label string) {
	t.json.open('{')
	t.json.int(kind, v)
	t.label(label)
}

func (t *lines) text(text, label string) {
	t.json.open('{')
	t.json.quoted("string_arg", text)
	t.label(label)
}

// texts writes an argument for each of some texts that end in a NUL.
func (t *lines) texts(all []byte, label string) {
	for len(all) > 0 {
		one, rest, _ := bytes.Cut(all, []byte{0})
		t.text(view(one), label)
		all = rest
	}
}

// socketAddress writes a sockaddr, one of a family that has no form of its own as bytes.
func (t *lines) socketAddress(sockaddr []byte, label string) {
	if len(sockaddr) < 2 {
		return
	}
	j := &t.json
	j.open('{')
	family := binary.NativeEndian.Uint16(sockaddr)
	switch {
	case family == unix.AF_INET && len(sockaddr) >= unix.SizeofSockaddrInet4:
		t.internetAddress("AF_INET", netip.AddrFrom4([4]byte(sockaddr[4:])), sockaddr)
	case family == unix.AF_INET6 && len(sockaddr) >= unix.SizeofSockaddrInet6:
		t.internetAddress("AF_INET6", netip.AddrFrom16([16]byte(sockaddr[8:])), sockaddr)
	case family == unix.AF_UNIX:
		path := sockaddr[2:]
		if len(path) > 0 && path[0] != 0 {
			path, _, _ = bytes.Cut(path, []byte{0})
		}
		j.object("sockaddrun_arg")
		j.string("family", "AF_UNIX")
		j.string("path", view(path))
		j.close('}')
	default:
		j.base64("bytes_arg", sockaddr)
	}
	t.label(label)
}

func (t *lines) internetAddress(family string, a netip.Addr, sockaddr []byte) {
	j := &t.json
	j.object("sockaddr_arg")
	j.string("family", family)
	j.address("addr", a)
	j.uint("port", uint64(binary.BigEndian.Uint16(sockaddr[2:])))
	j.close('}')
}

// label ends an argument.
func (t *lines) label(label string) {
	t.json.string("label", label)
	t.json.close('}')
}
