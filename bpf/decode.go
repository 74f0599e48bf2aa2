package bpf

import (
	"unsafe"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// decode translates one raw record; false means that its size or point is none
// that we know. The record's bytes are trusted no further than that.
func decode(raw []byte, ev *event.Event) bool {
	h, ok := view[kernelEventHeader](raw)
	if !ok || int(h.Size) != len(raw) || int(h.Point) >= event.Points {
		return false
	}
	reset(ev)
	ev.Point = event.Point(h.Point)
	ev.CPU = h.Cpu
	ev.TimeNS = h.TimeNs
	ev.Process = process(&h.Process)
	return decodeBody(raw, ev)
}

func decodeBody(raw []byte, ev *event.Event) bool {
	switch ev.Point {
	case event.Canary:
		e, ok := view[kernelCanaryEvent](raw)
		if ok {
			ev.Seq = e.Seq
		}
		return ok
	case event.ProcessExec:
		e, ok := view[kernelExecEvent](raw)
		if ok {
			ev.PathLen = uint16(min(e.PathLen, event.PathLen))
			copyBytes(ev.Path[:ev.PathLen], e.Path[:])
		}
		return ok
	case event.ProcessFork:
		e, ok := view[kernelForkEvent](raw)
		if ok {
			ev.Child = process(&e.Child)
		}
		return ok
	case event.ProcessExit:
		e, ok := view[kernelExitEvent](raw)
		if ok {
			ev.Exit = event.Exit{Code: e.Code, Signal: e.Signal, OOMKilled: e.OomKilled != 0, LifetimeNS: e.LifetimeNs}
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

// reset clears ev; of the long path only what was in use.
func reset(ev *event.Event) {
	clear(ev.Path[:ev.PathLen])
	path := ev.Path
	*ev = event.Event{Path: path}
}

func process(p *kernelProcessId) event.Process {
	q := event.Process{
		PID: p.Pid, TID: p.Tid, PPID: p.Ppid, UID: p.Uid,
		StartNS: p.StartNs, CgroupID: p.CgroupId,
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

// copyBytes copies C chars, which Go sees as signed, byte by byte.
func copyBytes(dst []byte, src []int8) {
	if len(src) > 0 {
		copy(dst, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(src))), len(src)))
	}
}
