package remote

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// unknownFD stands for the descriptor of a call that was not seen as a call.
const unknownFD = -1

// converter turns events into the messages that say the same. It has one message of
// each kind, filled again for every event. Ids in them are those of the host.
type converter struct {
	wall int64 // what CLOCK_BOOTTIME is behind Unix time, in nanoseconds

	exec    wire.SentryExec
	clone   wire.SentryClone
	exit    wire.SentryTaskExit
	connect wire.Connect
	accept  wire.Accept
	listen  wire.Listen
	mmap    wire.SentryMmap
	calls   callMessages
	address [unix.SizeofSockaddrInet6]byte
}

// setClock makes times of the events that follow right, until the clock is set.
func (v *converter) setClock() { v.wall = wallOffset() }

// message returns the message for an event, nil where the protocol has none. It is
// valid until the next call.
func (v *converter) message(ev *event.Event) wire.Message {
	switch ev.Point {
	case event.ProcessExec:
		v.exec = wire.SentryExec{
			Origin: v.origin(ev), BinaryPath: ev.Executable(), Execfn: ev.Text(event.TextPath), Argv: split(v.exec.Argv[:0], ev.Text(event.TextArgs)),
			BinaryMode: uint32(ev.Exec.Mode), BinaryIno: ev.Exec.Inode, BinaryNlink: ev.Exec.Links,
			BinaryOverlayfsUpper: ev.Exec.Layer == event.UpperLayer, BinaryOverlayfsLower: ev.Exec.Layer == event.LowerLayer, Env: v.exec.Env[:0],
		}
		if ev.Fields&event.FieldDigest != 0 && ev.Texts[event.TextDigest].Len > 0 {
			v.exec.BinarySha256 = ev.Text(event.TextDigest)
		}
		if ev.Fields&event.FieldEnvironment != 0 {
			v.exec.Env = split(v.exec.Env, ev.Text(event.TextEnv))
		}
		return &v.exec
	case event.ProcessFork:
		v.clone = wire.SentryClone{
			Origin: v.origin(ev), CreatedThreadID: int32(ev.Child.TID), CreatedThreadGroupID: int32(ev.Child.PID),
			CreatedThreadStartTimeNs: v.time(ev.Child.StartNS),
		}
		return &v.clone
	case event.ProcessExit:
		v.exit.ExitStatus = wire.ExitStatus{Origin: v.origin(ev), ExitStatus: ev.Exit.Code<<8 | int32(ev.Exit.Signal)}
		return &v.exit
	case event.NetworkConnect:
		v.connect = wire.Connect{Call: v.call(ev, unix.SYS_CONNECT), FD: unknownFD, Address: v.sockaddr(&ev.Conn, ev.Conn.Remote, ev.Conn.RemotePort)}
		return &v.connect
	case event.NetworkAccept:
		v.accept = wire.Accept{Call: v.call(ev, unix.SYS_ACCEPT), FD: unknownFD, Address: v.sockaddr(&ev.Conn, ev.Conn.Remote, ev.Conn.RemotePort)}
		return &v.accept
	case event.NetworkListen:
		address := v.sockaddr(&ev.Conn, ev.Conn.Local, ev.Conn.LocalPort)
		v.listen = wire.Listen{
			Call: v.call(ev, unix.SYS_LISTEN), FD: unknownFD, Address: address,
			SocketFamily: int32(binary.NativeEndian.Uint16(address)), SocketType: unix.SOCK_STREAM,
		}
		return &v.listen
	case event.ProcessMmap:
		v.mmap = wire.SentryMmap{Origin: v.origin(ev), MappedPath: ev.Text(event.TextPath), MappedIno: ev.File.Inode, MappedMode: uint32(ev.File.Mode)}
		return &v.mmap
	case event.Syscall:
		return v.systemCall(ev)
	}
	return nil
}

// origin tells who caused the event, as far as the session wants it and it is known.
// Credentials are known of a program's start only, if it was seen.
func (v *converter) origin(ev *event.Event) wire.Origin {
	wants := func(f event.Fields) bool { return ev.Fields&f != 0 }
	p, o := &ev.Process, wire.Origin{}
	c := &o.ContextData
	if wants(event.FieldTime) {
		c.TimeNs = v.time(ev.TimeNS)
	}
	if wants(event.FieldThreadID) {
		c.ThreadID = int32(p.TID)
	}
	if wants(event.FieldThreadStart) && p.TID == p.PID { // of others it is not known
		c.ThreadStartTimeNs = v.time(p.StartNS)
	}
	if wants(event.FieldGroupID) {
		c.ThreadGroupID = int32(p.PID)
	}
	if wants(event.FieldGroupStart) {
		c.ThreadGroupStartTimeNs = v.time(p.StartNS)
	}
	if wants(event.FieldCredentials) && ev.Point == event.ProcessExec && !ev.Subject.Process.Seeded {
		has := &ev.Exec.Credentials
		o.ContextData.HasCredentials = true
		c.Credentials = wire.Credentials{
			RealUID: has.UID, EffectiveUID: has.EUID, SavedUID: has.SUID, RealGID: has.GID, EffectiveGID: has.EGID, SavedGID: has.SGID,
		}
	}
	if wants(event.FieldCwd) {
		c.Cwd = ev.Text(event.TextCwd)
	}
	if wants(event.FieldProcessName) {
		c.ProcessName = name(p.Comm[:])
	}
	if wants(event.FieldParentGroupID) {
		c.ParentThreadGroupID = int32(p.PPID)
	}
	o.HasContextData = ev.Fields&(event.AllFields&^event.OptionalFields) != 0
	return o
}

// call is the successful end of a system call.
func (v *converter) call(ev *event.Event, number uint64) wire.Call {
	return wire.Call{Origin: v.origin(ev), HasExit: true, Sysno: number}
}

// time turns a time of CLOCK_BOOTTIME into Unix time; 0, for unknown, stays.
func (v *converter) time(bootNS uint64) int64 {
	if bootNS == 0 {
		return 0
	}
	return int64(bootNS) + v.wall
}

// sockaddr writes an address as the kernel has it in memory.
func (v *converter) sockaddr(c *event.Conn, ip [16]byte, port uint16) []byte {
	clear(v.address[:])
	binary.BigEndian.PutUint16(v.address[2:], port)
	if c.Family == event.IPv4 {
		binary.NativeEndian.PutUint16(v.address[:], unix.AF_INET)
		copy(v.address[4:], ip[:4])
		return v.address[:unix.SizeofSockaddrInet4]
	}
	binary.NativeEndian.PutUint16(v.address[:], unix.AF_INET6)
	copy(v.address[8:], ip[:])
	return v.address[:unix.SizeofSockaddrInet6]
}

// name is a thread's name without its padding.
func name(comm []byte) []byte {
	comm, _, _ = bytes.Cut(comm, []byte{0})
	return comm
}

// split appends texts that each end in a NUL; the last one may lack it.
func split(all [][]byte, texts []byte) [][]byte {
	for len(texts) > 0 {
		one, rest, _ := bytes.Cut(texts, []byte{0})
		all, texts = append(all, one), rest
	}
	return all
}
