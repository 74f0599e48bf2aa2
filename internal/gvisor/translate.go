package gvisor

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// MaxAge is how old an event may be by the sandbox's clock, which may say anything.
// An event that claims to be older, or to come from the future, has the time of its
// arrival.
const MaxAge = time.Minute

// told are the points that sandboxes tell of.
var told = []event.Point{
	event.ProcessExec, event.ProcessFork, event.ProcessExit, event.NetworkConnect, event.NetworkAccept, event.NetworkListen,
}

// translator turns the messages of one connection into events, one at a time.
type translator struct {
	editor *event.Editor
	// exits is the message by which this sandbox tells of ends of processes. Both
	// that can come for each; the first that came is it.
	exits wire.Type
	args  []byte // room to join arguments in
}

// clocks are two clocks read at the same instant, in nanoseconds.
type clocks struct {
	wall int64  // since 1970
	boot uint64 // CLOCK_BOOTTIME
}

// toBoot turns a time of the wall into one of CLOCK_BOOTTIME; 0 stands for unknown,
// as it does for times before the boot.
func (c clocks) toBoot(wall int64) uint64 {
	if boot := int64(c.boot) + wall - c.wall; wall > 0 && boot > 0 {
		return uint64(boot)
	}
	return 0
}

// event fills ev from a message and reports whether the message is one that tells
// of an event. Its texts are those of ev's own room.
func (t *translator) event(m wire.Message, now clocks, ev *event.Event) bool {
	ev.Reset()
	ok := false
	switch m := m.(type) {
	case *wire.ContainerStart:
		ok = t.start(m, ev)
	case *wire.SentryExec:
		ok = t.exec(m, ev)
	case *wire.SentryClone:
		ok = fork(m, now, ev)
	case *wire.SentryExitNotifyParent:
		ok = t.exit(m.MessageType(), &m.ExitStatus, ev)
	case *wire.SentryTaskExit:
		x := &m.ContextData // of threads there is no event, and without ids it is not known
		ok = x.ThreadGroupID != 0 && x.ThreadID == x.ThreadGroupID && t.exit(m.MessageType(), &m.ExitStatus, ev)
	case *wire.Connect:
		begun := m.Exit.Errorno == 0 || m.Exit.Errorno == int64(unix.EINPROGRESS)
		ok = m.HasExit && begun && connection(event.NetworkConnect, 0, m.Address, ev)
	case *wire.Accept:
		ok = m.HasExit && m.Exit.Errorno == 0 && connection(event.NetworkAccept, unix.IPPROTO_TCP, m.Address, ev)
	case *wire.Listen:
		ok = m.HasExit && m.Exit.Errorno == 0 && connection(event.NetworkListen, unix.IPPROTO_TCP, m.Address, ev)
	}
	if ok {
		t.cause(m.Cause(), now, ev)
	}
	return ok
}

// cause says who it was and when.
func (t *translator) cause(x *wire.Context, now clocks, ev *event.Event) {
	ev.Source = event.SourceGVisor
	ev.TimeNS = now.boot
	if age := now.wall - x.TimeNs; x.TimeNs > 0 && age >= 0 && age <= int64(MaxAge) {
		ev.TimeNS -= min(uint64(age), ev.TimeNS)
	}
	p := &ev.Process
	p.PID, p.TID, p.PPID = uint32(x.ThreadGroupID), uint32(x.ThreadID), uint32(x.ParentThreadGroupID)
	p.UID = x.Credentials.RealUID
	p.StartNS = now.toBoot(x.ThreadGroupStartTimeNs)
	copy(p.Comm[:event.CommLen-1], x.ProcessName)
	t.editor.Comm(&p.Comm)
	if ev.Point == event.ProcessFork {
		ev.Child.Comm = p.Comm
	}
	if ev.Texts[event.TextContainer].Len == 0 {
		t.text(ev, event.TextContainer, x.ContainerID)
	}
}

// text gives the event a text if there is one.
func (t *translator) text(ev *event.Event, kind event.Text, text []byte) {
	if len(text) > 0 {
		t.editor.Set(ev, kind, text, false)
	}
}

// start is the exec of a container's first program: nothing else tells of it.
func (t *translator) start(m *wire.ContainerStart, ev *event.Event) bool {
	ev.Point = event.ProcessExec
	if len(m.Args) > 0 { // a container may also start without
		t.text(ev, event.TextPath, m.Args[0])
	}
	t.arguments(m.Args, ev)
	t.text(ev, event.TextCwd, m.Cwd)
	t.text(ev, event.TextContainer, m.ID)
	ev.Exec.Credentials = credentials(m.Cause())
	return true
}

func (t *translator) exec(m *wire.SentryExec, ev *event.Event) bool {
	ev.Point = event.ProcessExec
	t.text(ev, event.TextExe, m.BinaryPath)
	if len(m.Execfn) > 0 { // came later into the protocol
		t.text(ev, event.TextPath, m.Execfn)
	} else {
		t.text(ev, event.TextPath, m.BinaryPath)
	}
	t.arguments(m.Argv, ev)
	t.text(ev, event.TextCwd, m.ContextData.Cwd)
	ev.Exec = event.Exec{Credentials: credentials(m.Cause()), Inode: m.BinaryIno, Links: m.BinaryNlink, Mode: uint16(m.BinaryMode)}
	return true
}

// credentials are the user and group ids; the rest a sandbox does not tell.
func credentials(x *wire.Context) event.Credentials {
	c := &x.Credentials
	return event.Credentials{
		UID: c.RealUID, EUID: c.EffectiveUID, SUID: c.SavedUID, FSUID: c.EffectiveUID,
		GID: c.RealGID, EGID: c.EffectiveGID, SGID: c.SavedGID, FSGID: c.EffectiveGID,
	}
}

// arguments joins arguments as events have them: a NUL after each.
func (t *translator) arguments(args [][]byte, ev *event.Event) {
	t.args = t.args[:0]
	truncated := false
	for _, arg := range args {
		if truncated = len(t.args) > event.ArgsLen; truncated {
			break
		}
		arg = arg[:min(len(arg), event.ArgsLen+1)]
		t.args = append(append(t.args, arg...), 0)
	}
	if len(t.args) > 0 {
		t.editor.Set(ev, event.TextArgs, t.args, truncated)
	}
}

// fork tells of new processes; of new threads there is no event.
func fork(m *wire.SentryClone, now clocks, ev *event.Event) bool {
	if m.CreatedThreadID != m.CreatedThreadGroupID {
		return false
	}
	ev.Point = event.ProcessFork
	id := uint32(m.CreatedThreadGroupID)
	ev.Child = event.Process{
		PID: id, TID: id, PPID: uint32(m.ContextData.ThreadGroupID), UID: m.ContextData.Credentials.RealUID,
		StartNS: now.toBoot(m.CreatedThreadStartTimeNs),
	}
	return true
}

func (t *translator) exit(by wire.Type, m *wire.ExitStatus, ev *event.Event) bool {
	if t.exits == wire.TypeUnknown {
		t.exits = by
	}
	if t.exits != by {
		return false
	}
	ev.Point = event.ProcessExit
	status := unix.WaitStatus(m.ExitStatus)
	switch {
	case status.Signaled():
		ev.Exit.Signal = uint8(status.Signal())
	case status.Exited():
		ev.Exit.Code = int32(status.ExitStatus())
	}
	return true
}

// connection takes a socket's address from a raw sockaddr. It reports false for
// addresses that are not of the internet.
func connection(point event.Point, protocol uint8, sockaddr []byte, ev *event.Event) bool {
	address, ok := parseSockaddr(sockaddr)
	if !ok {
		return false
	}
	ev.Point = point
	c := &ev.Conn
	c.Protocol, c.Inbound, c.Family = protocol, point != event.NetworkConnect, event.IPv6
	ip := address.Addr().As16()
	if address.Addr().Is4() {
		c.Family = event.IPv4
		four := address.Addr().As4()
		ip = [16]byte{}
		copy(ip[:], four[:])
	}
	if point == event.NetworkListen {
		c.Local, c.LocalPort = ip, address.Port()
	} else {
		c.Remote, c.RemotePort = ip, address.Port()
	}
	return true
}

// parseSockaddr reads a sockaddr of IPv4 or IPv6. A v4-mapped address is one of IPv4.
func parseSockaddr(b []byte) (netip.AddrPort, bool) {
	if len(b) < 2 {
		return netip.AddrPort{}, false
	}
	switch family := binary.LittleEndian.Uint16(b); {
	case family == unix.AF_INET && len(b) >= 8:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:])), true
	case family == unix.AF_INET6 && len(b) >= 24:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), binary.BigEndian.Uint16(b[2:])), true
	}
	return netip.AddrPort{}, false
}
