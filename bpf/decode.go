package bpf

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// decode translates one raw record; false means that its size or point is none
// that we know. The record's bytes are trusted no further than that.
func decode(raw []byte, ev *event.Event, ed *event.Editor) bool {
	h, ok := view[kernelEventHeader](raw)
	if !ok || int(h.Size) != len(raw) || int(h.Point) >= event.Points {
		return false
	}
	ev.Reset()
	ev.Point = event.Point(h.Point)
	ev.CPU = h.Cpu
	ev.TimeNS = h.TimeNs
	ev.Process = process(&h.Process)
	ed.Comm(&ev.Process.Comm)
	return decodeBody(raw, ev, ed)
}

func decodeBody(raw []byte, ev *event.Event, ed *event.Editor) bool {
	switch ev.Point {
	case event.Canary:
		e, ok := view[kernelCanaryEvent](raw)
		if ok {
			ev.Seq = e.Seq
		}
		return ok
	case event.ProcessExec:
		e, ok := view[kernelExecEvent](raw)
		if !ok {
			return false
		}
		ev.Exec = event.Exec{
			Credentials: credentials(&e.Cred), Namespaces: namespaces(&e.Ns),
			Inode: e.Inode, Device: e.Device, Bytes: e.Bytes, ChangedNS: int64(e.ChangedNs), Links: e.Links, Mode: e.Mode, Layer: event.Layer(e.Layer), NetworkFDs: e.NetworkFds,
		}
		return decodeTexts(raw[unsafe.Sizeof(*e):], execTexts, e.Text[:], ev, ed)
	case event.ProcessFork, event.OOMKill:
		e, ok := view[kernelForkEvent](raw)
		if ok {
			ev.Child = process(&e.Child)
			ed.Comm(&ev.Child.Comm)
		}
		return ok
	case event.ProcessExit:
		e, ok := view[kernelExitEvent](raw)
		if ok {
			ev.Exit = event.Exit{Code: e.Code, Signal: e.Signal, OOMKilled: e.OomKilled != 0, LifetimeNS: e.LifetimeNs}
		}
		return ok
	case event.Syscall:
		e, ok := view[kernelCallEvent](raw)
		if !ok || e.Number >= event.CallTable {
			return false
		}
		ev.Call = event.Call{Number: e.Number, Exit: e.Exit != 0, Result: e.Result, Args: e.Args}
		if !decodeTexts(raw[unsafe.Sizeof(*e):], callTexts, e.Text[:], ev, ed) {
			return false
		}
		nameless(e, ev, ed)
		return true
	case event.ProcessMmap, event.ModuleLoad, event.FileOpen:
		e, ok := view[kernelFileEvent](raw)
		if !ok {
			return false
		}
		ev.File = event.File{
			Result: e.Result, Length: e.Length, Prot: e.Prot, Inode: e.Inode, Links: e.Links, Mode: e.Mode,
			Writable: e.How&fileWritable != 0, OfKernel: e.How&fileOfKernel != 0,
		}
		return decodeTexts(raw[unsafe.Sizeof(*e):], fileTexts, e.Text[:], ev, ed)
	case event.BPFLoad:
		e, ok := view[kernelProgramEvent](raw)
		if ok {
			ev.Program = event.Program{Result: e.Result, ID: e.Id, Type: e.Type}
			copyBytes(ev.Program.Name[:], e.Name[:])
			ed.Comm(&ev.Program.Name)
		}
		return ok
	case event.ProcessSetns:
		e, ok := view[kernelSetnsEvent](raw)
		if ok {
			ev.Setns = event.Setns{Result: e.Result, Types: e.Types, Namespaces: namespaces(&e.Ns)}
		}
		return ok
	case event.SignalDeliver:
		e, ok := view[kernelSignalEvent](raw)
		if ok {
			ev.Signal = event.Signal{Number: e.Signal, Code: e.Code, Sender: e.Sender, SenderUID: e.SenderUid}
		}
		return ok
	default:
		e, ok := view[kernelConnEvent](raw)
		if ok {
			ev.Conn = conn(e)
		}
		return ok
	}
}

// view reads raw as a T. The ring's records are eight-byte aligned and at least
// as long as the kernel side's struct, or they are refused.
func view[T any](raw []byte) (*T, bool) {
	var t T
	if uintptr(len(raw)) < unsafe.Sizeof(t) {
		return nil, false
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(raw))), true
}

// Marks in the length of a text (headers/event.bpf.h).
const (
	textTruncated  = 0x8000
	textUnreadable = 0x4000
)

// Of an opened file (headers/event.bpf.h).
const (
	fileWritable = 1 << iota
	fileOfKernel
)

// The texts of records, in the order in which they follow them.
var (
	execTexts = []event.Text{event.TextPath, event.TextArgs, event.TextCwd, event.TextExe, event.TextEnv}
	fileTexts = []event.Text{event.TextPath}
	callTexts = []event.Text{event.TextPath, event.TextArgs, event.TextEnv, event.TextIn, event.TextOut, event.TextFD}
)

// decodeTexts takes the texts that follow a record's fixed part, one after the
// other; false means that they are not as long as the lengths say.
func decodeTexts(raw []byte, texts []event.Text, lengths []uint16, ev *event.Event, ed *event.Editor) bool {
	for i, t := range texts {
		marked := lengths[i]
		n := int(marked &^ (textTruncated | textUnreadable))
		if n > len(raw) {
			return false
		}
		switch {
		case marked&textUnreadable != 0:
			ed.Unreadable(ev, t)
		case n > 0:
			ed.Set(ev, t, raw[:n], marked&textTruncated != 0)
		}
		raw = raw[n:]
	}
	return len(raw) == 0
}

// nameless gives what has no path, sockets and pipes, the name that /proc has for it.
func nameless(e *kernelCallEvent, ev *event.Event, ed *event.Editor) {
	if ev.Texts[event.TextFD].Len > 0 {
		return
	}
	room := make([]byte, 0, len("socket:[]")+20)
	switch e.FdMode & unix.S_IFMT {
	case unix.S_IFSOCK:
		room = append(room, "socket:["...)
	case unix.S_IFIFO:
		room = append(room, "pipe:["...)
	default:
		return
	}
	ed.Set(ev, event.TextFD, append(strconv.AppendUint(room, e.FdInode, 10), ']'), false)
}

func credentials(c *kernelCredentials) event.Credentials {
	return event.Credentials{
		UID: c.Uid, GID: c.Gid, EUID: c.Euid, EGID: c.Egid, SUID: c.Suid, SGID: c.Sgid, FSUID: c.Fsuid, FSGID: c.Fsgid,
		SecureBits: c.Securebits, Permitted: c.Permitted, Effective: c.Effective, Inheritable: c.Inheritable,
	}
}

func process(p *kernelProcessId) event.Process {
	q := event.Process{
		PID: p.Pid, TID: p.Tid, PPID: p.Ppid, UID: p.Uid,
		StartNS: p.StartNs, CgroupID: p.CgroupId, CgroupV1: p.CgroupV1,
	}
	copyBytes(q.Comm[:], p.Comm[:])
	return q
}

func conn(e *kernelConnEvent) event.Conn {
	return event.Conn{
		Cookie: e.Cookie, Family: event.Family(e.Family), Protocol: e.Protocol, Inbound: e.Inbound != 0,
		LocalPort: e.LocalPort, RemotePort: e.RemotePort, Local: e.Local, Remote: e.Remote,
		OpenedNS: e.OpenedNs, Sent: e.Sent, Received: e.Received,
	}
}

func namespaces(n *kernelNamespaces) event.Namespaces {
	return event.Namespaces{
		UTS: n.Uts, IPC: n.Ipc, Mnt: n.Mnt, PID: n.Pid, PIDForChildren: n.PidForChildren,
		Net: n.Net, Time: n.Time, TimeForChildren: n.TimeForChildren, Cgroup: n.Cgroup, User: n.User,
	}
}

// copyBytes copies C chars, which Go sees as signed, byte by byte.
func copyBytes(dst []byte, src []int8) {
	if len(src) > 0 {
		copy(dst, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(src))), len(src)))
	}
}
