package remote

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// callMessages are the messages of system calls, each filled again and again.
type callMessages struct {
	raw            wire.Raw
	open           wire.Open
	close          wire.Close
	read           wire.Read
	write          wire.Write
	connect        wire.Connect
	execve         wire.Execve
	socket         wire.Socket
	chdir          wire.Chdir
	setid          wire.Setid
	setresid       wire.Setresid
	prlimit        wire.Prlimit
	pipe           wire.Pipe
	fcntl          wire.Fcntl
	dup            wire.Dup
	signalfd       wire.Signalfd
	chroot         wire.Chroot
	eventfd        wire.Eventfd
	clone          wire.Clone
	bind           wire.Bind
	accept         wire.Accept
	timerfdCreate  wire.TimerfdCreate
	timerfdSetTime wire.TimerfdSetTime
	timerfdGetTime wire.TimerfdGetTime
	fork           wire.Fork
	inotifyInit    wire.InotifyInit
	inotifyAdd     wire.InotifyAddWatch
	inotifyRemove  wire.InotifyRmWatch
	socketpair     wire.SocketPair
	mmap           wire.Mmap
	listen         wire.Listen
	ptrace         wire.Ptrace
}

// systemCall returns the message for one end of a system call: the one of its schema,
// or the one that has the bare arguments.
func (v *converter) systemCall(ev *event.Event) wire.Message {
	e := &ev.Call
	c := wire.Call{Origin: v.origin(ev), HasExit: e.Exit, Sysno: uint64(e.Number)}
	if errno := e.Errno(); e.Exit && errno != 0 {
		c.Exit.Errorno = int64(errno)
	} else if e.Exit {
		c.Exit.Result = e.Result
	}
	if fill := fillers[e.Number]; fill != nil && ev.Fields&event.FieldRaw == 0 {
		return fill(&v.calls, c, arguments{ev})
	}
	a := &e.Args
	v.calls.raw = wire.Raw{Call: c, Arg1: a[0], Arg2: a[1], Arg3: a[2], Arg4: a[3], Arg5: a[4], Arg6: a[5]}
	return &v.calls.raw
}

// arguments are those of one call, by what they are. They are counted from 0.
type arguments struct{ ev *event.Event }

func (a arguments) i32(n int) int32  { return int32(a.ev.Call.Args[n]) }
func (a arguments) i64(n int) int64  { return int64(a.ev.Call.Args[n]) }
func (a arguments) u32(n int) uint32 { return uint32(a.ev.Call.Args[n]) }
func (a arguments) u64(n int) uint64 { return a.ev.Call.Args[n] }

func (a arguments) fd() int64    { return int64(a.i32(0)) }
func (a arguments) path() []byte { return a.ev.Text(event.TextPath) }

// fdPath is the path of the descriptor, if the session wants it.
func (a arguments) fdPath() []byte {
	if a.ev.Fields&event.FieldFDPath == 0 {
		return nil
	}
	return a.ev.Text(event.TextFD)
}

func (a arguments) in() []byte  { return a.ev.Text(event.TextIn) }
func (a arguments) out() []byte { return a.ev.Text(event.TextOut) }

// pair are two descriptors that a call has made, 0 where it has not.
func (a arguments) pair() (one, two int32) {
	if out := a.out(); len(out) >= 8 {
		return int32(binary.NativeEndian.Uint32(out)), int32(binary.NativeEndian.Uint32(out[4:]))
	}
	return 0, 0
}

func limitOf(b []byte) (l wire.Limit, ok bool) {
	if len(b) < 16 {
		return l, false
	}
	return wire.Limit{Cur: binary.NativeEndian.Uint64(b), Max: binary.NativeEndian.Uint64(b[8:])}, true
}

func timerOf(b []byte) (t wire.Itimer, ok bool) {
	if len(b) < 32 {
		return t, false
	}
	word := func(n int) int64 { return int64(binary.NativeEndian.Uint64(b[8*n:])) }
	return wire.Itimer{
		HasInterval: true, Interval: wire.Timespec{Sec: word(0), Nsec: word(1)},
		HasValue: true, Value: wire.Timespec{Sec: word(2), Nsec: word(3)},
	}, true
}

// filler fills the message of a call.
type filler func(*callMessages, wire.Call, arguments) wire.Message

// fillers are those of the calls that have a schema, by their numbers here.
var fillers = byNumber()

func byNumber() (all [event.CallTable]filler) {
	for _, s := range event.CallSchemas() {
		all[s.Number] = fillersByName[s.Name]
	}
	return all
}

var fillersByName = map[string]filler{
	"read": reads(false), "pread64": reads(true), "readv": reads(false), "preadv": reads(true), "preadv2": fillReadv2,
	"write": writes(false), "pwrite64": writes(true), "writev": writes(false), "pwritev": writes(true), "pwritev2": fillWritev2,
	"open": fillOpen, "openat": fillOpenat, "creat": fillCreat, "close": fillClose,
	"dup": fillDup, "dup2": fillDup2, "dup3": fillDup3, "fcntl": fillFcntl, "pipe": fillPipe, "pipe2": fillPipe2,
	"chdir": fillChdir, "fchdir": fillFchdir, "chroot": fillChroot, "mmap": fillMmap,
	"inotify_init": fillInotifyInit, "inotify_init1": fillInotifyInit1, "inotify_add_watch": fillInotifyAdd, "inotify_rm_watch": fillInotifyRemove,
	"socket": fillSocket, "socketpair": fillSocketpair, "connect": fillConnect, "bind": fillBind,
	"accept": fillAccept, "accept4": fillAccept4, "listen": fillListen,
	"clone": fillClone, "fork": fillFork, "vfork": fillFork, "execve": fillExecve, "execveat": fillExecveat, "ptrace": fillPtrace,
	"setuid": fillSetid, "setgid": fillSetid, "setsid": fillSetsid, "setresuid": fillSetresid, "setresgid": fillSetresid, "prlimit64": fillPrlimit,
	"signalfd": fillSignalfd, "signalfd4": fillSignalfd4, "eventfd": fillEventfd, "eventfd2": fillEventfd2,
	"timerfd_create": fillTimerfdCreate, "timerfd_settime": fillTimerfdSetTime, "timerfd_gettime": fillTimerfdGetTime,
}

func reads(offset bool) filler {
	return func(m *callMessages, c wire.Call, a arguments) wire.Message {
		m.read = wire.Read{Call: c, FD: a.fd(), FDPath: a.fdPath(), Count: a.u64(2), HasOffset: offset}
		if offset {
			m.read.Offset = a.i64(3)
		}
		return &m.read
	}
}

func writes(offset bool) filler {
	return func(m *callMessages, c wire.Call, a arguments) wire.Message {
		m.write = wire.Write{Call: c, FD: a.fd(), FDPath: a.fdPath(), Count: a.u64(2), HasOffset: offset}
		if offset {
			m.write.Offset = a.i64(3)
		}
		return &m.write
	}
}

func fillReadv2(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.read = wire.Read{Call: c, FD: a.fd(), FDPath: a.fdPath(), Count: a.u64(2), HasOffset: true, Offset: a.i64(3), Flags: a.u32(5)}
	return &m.read
}

func fillWritev2(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.write = wire.Write{Call: c, FD: a.fd(), FDPath: a.fdPath(), Count: a.u64(2), HasOffset: true, Offset: a.i64(3), Flags: a.u32(5)}
	return &m.write
}

func fillOpen(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.open = wire.Open{Call: c, FD: unix.AT_FDCWD, Pathname: a.path(), Flags: a.u32(1), Mode: a.u32(2)}
	return &m.open
}

func fillOpenat(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.open = wire.Open{Call: c, FD: a.fd(), FDPath: a.fdPath(), Pathname: a.path(), Flags: a.u32(2), Mode: a.u32(3)}
	return &m.open
}

func fillCreat(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.open = wire.Open{Call: c, FD: unix.AT_FDCWD, Pathname: a.path(), Flags: unix.O_CREAT | unix.O_WRONLY | unix.O_TRUNC, Mode: a.u32(1)}
	return &m.open
}

func fillClose(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.close = wire.Close{Call: c, FD: a.fd(), FDPath: a.fdPath()}
	return &m.close
}

func fillDup(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.dup = wire.Dup{Call: c, OldFD: a.i32(0), FDPath: a.fdPath(), NewFD: int32(c.Exit.Result)}
	return &m.dup
}

func fillDup2(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.dup = wire.Dup{Call: c, OldFD: a.i32(0), FDPath: a.fdPath(), NewFD: a.i32(1)}
	return &m.dup
}

func fillDup3(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.dup = wire.Dup{Call: c, OldFD: a.i32(0), FDPath: a.fdPath(), NewFD: a.i32(1), Flags: a.u32(2)}
	return &m.dup
}

func fillFcntl(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.fcntl = wire.Fcntl{Call: c, FD: a.i32(0), FDPath: a.fdPath(), Cmd: a.i32(1), Args: a.i64(2)}
	return &m.fcntl
}

func fillPipe(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.pipe = wire.Pipe{Call: c}
	m.pipe.Reader, m.pipe.Writer = a.pair()
	return &m.pipe
}

func fillPipe2(m *callMessages, c wire.Call, a arguments) wire.Message {
	fillPipe(m, c, a)
	m.pipe.Flags = a.u32(1)
	return &m.pipe
}

func fillChdir(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.chdir = wire.Chdir{Call: c, FD: unix.AT_FDCWD, Pathname: a.path()}
	return &m.chdir
}

func fillFchdir(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.chdir = wire.Chdir{Call: c, FD: a.fd(), FDPath: a.fdPath()}
	return &m.chdir
}

func fillChroot(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.chroot = wire.Chroot{Call: c, Pathname: a.path()}
	return &m.chroot
}

func fillMmap(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.mmap = wire.Mmap{Call: c, FD: int64(a.i32(4)), FDPath: a.fdPath(), Addr: a.u64(0), Length: a.u64(1), Prot: a.u32(2), Flags: a.u32(3), Offset: a.i64(5)}
	return &m.mmap
}

func fillInotifyInit(m *callMessages, c wire.Call, _ arguments) wire.Message {
	m.inotifyInit = wire.InotifyInit{Call: c}
	return &m.inotifyInit
}

func fillInotifyInit1(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.inotifyInit = wire.InotifyInit{Call: c, Flags: a.i32(0)}
	return &m.inotifyInit
}

func fillInotifyAdd(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.inotifyAdd = wire.InotifyAddWatch{Call: c, FD: a.i32(0), FDPath: a.fdPath(), Pathname: a.path(), Mask: a.u32(2)}
	return &m.inotifyAdd
}

func fillInotifyRemove(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.inotifyRemove = wire.InotifyRmWatch{Call: c, FD: a.i32(0), FDPath: a.fdPath(), WD: a.i32(1)}
	return &m.inotifyRemove
}

func fillSocket(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.socket = wire.Socket{Call: c, Domain: a.i32(0), Type: a.i32(1), Protocol: a.i32(2)}
	return &m.socket
}

func fillSocketpair(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.socketpair = wire.SocketPair{Call: c, Domain: a.i32(0), Type: a.i32(1), Protocol: a.i32(2)}
	m.socketpair.Socket1, m.socketpair.Socket2 = a.pair()
	return &m.socketpair
}

func fillConnect(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.connect = wire.Connect{Call: c, FD: a.fd(), FDPath: a.fdPath(), Address: a.in()}
	return &m.connect
}

func fillBind(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.bind = wire.Bind{Call: c, FD: a.i32(0), FDPath: a.fdPath(), Address: a.in()}
	return &m.bind
}

func fillAccept(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.accept = wire.Accept{Call: c, FD: a.i32(0), FDPath: a.fdPath(), Address: a.out()}
	return &m.accept
}

func fillAccept4(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.accept = wire.Accept{Call: c, FD: a.i32(0), FDPath: a.fdPath(), Address: a.out(), Flags: a.i32(3)}
	return &m.accept
}

func fillListen(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.listen = wire.Listen{Call: c, FD: a.i32(0), FDPath: a.fdPath(), Backlog: a.i32(1)}
	return &m.listen
}

func fillClone(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.clone = wire.Clone{Call: c, Flags: a.u64(0), Stack: a.u64(1), NewTID: a.u64(2), TLS: a.u64(int(event.CloneTLS()))}
	return &m.clone
}

func fillFork(m *callMessages, c wire.Call, _ arguments) wire.Message {
	m.fork = wire.Fork{Call: c}
	return &m.fork
}

func fillExecve(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.execve = wire.Execve{
		Call: c, Pathname: a.path(),
		Argv: split(m.execve.Argv[:0], a.ev.Text(event.TextArgs)), Envv: m.execve.Envv[:0],
	}
	if a.ev.Fields&event.FieldEnvironment != 0 {
		m.execve.Envv = split(m.execve.Envv, a.ev.Text(event.TextEnv))
	}
	return &m.execve
}

func fillExecveat(m *callMessages, c wire.Call, a arguments) wire.Message {
	fillExecve(m, c, a)
	m.execve.FD, m.execve.FDPath, m.execve.Flags = a.fd(), a.fdPath(), a.u32(4)
	return &m.execve
}

func fillPtrace(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.ptrace = wire.Ptrace{Call: c, Request: a.i64(0), PID: a.i32(1)}
	return &m.ptrace
}

func fillSetid(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.setid = wire.Setid{Call: c, ID: a.u32(0)}
	return &m.setid
}

func fillSetsid(m *callMessages, c wire.Call, _ arguments) wire.Message {
	m.setid = wire.Setid{Call: c}
	return &m.setid
}

func fillSetresid(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.setresid = wire.Setresid{Call: c, RID: a.u32(0), EID: a.u32(1), SID: a.u32(2)}
	return &m.setresid
}

func fillPrlimit(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.prlimit = wire.Prlimit{Call: c, PID: a.i32(0), Resource: int64(a.i32(1))}
	m.prlimit.NewLimit, m.prlimit.HasNewLimit = limitOf(a.in())
	m.prlimit.OldLimit, m.prlimit.HasOldLimit = limitOf(a.out())
	return &m.prlimit
}

func fillSignalfd(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.signalfd = wire.Signalfd{Call: c, FD: a.i32(0), FDPath: a.fdPath()}
	if in := a.in(); len(in) >= 8 {
		m.signalfd.Sigset = binary.NativeEndian.Uint64(in)
	}
	return &m.signalfd
}

func fillSignalfd4(m *callMessages, c wire.Call, a arguments) wire.Message {
	fillSignalfd(m, c, a)
	m.signalfd.Flags = a.i32(3)
	return &m.signalfd
}

func fillEventfd(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.eventfd = wire.Eventfd{Call: c, Val: a.i32(0)}
	return &m.eventfd
}

func fillEventfd2(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.eventfd = wire.Eventfd{Call: c, Val: a.i32(0), Flags: a.u32(1)}
	return &m.eventfd
}

func fillTimerfdCreate(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.timerfdCreate = wire.TimerfdCreate{Call: c, ClockID: a.i32(0), Flags: a.i32(1)}
	return &m.timerfdCreate
}

func fillTimerfdSetTime(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.timerfdSetTime = wire.TimerfdSetTime{Call: c, FD: a.i32(0), FDPath: a.fdPath(), Flags: a.i32(1)}
	m.timerfdSetTime.NewValue, m.timerfdSetTime.HasNewValue = timerOf(a.in())
	m.timerfdSetTime.OldValue, m.timerfdSetTime.HasOldValue = timerOf(a.out())
	return &m.timerfdSetTime
}

func fillTimerfdGetTime(m *callMessages, c wire.Call, a arguments) wire.Message {
	m.timerfdGetTime = wire.TimerfdGetTime{Call: c, FD: a.i32(0), FDPath: a.fdPath()}
	m.timerfdGetTime.CurValue, m.timerfdGetTime.HasCurValue = timerOf(a.out())
	return &m.timerfdGetTime
}
