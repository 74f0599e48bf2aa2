// Package event defines the event record: one occurrence at a named point of
// the kernel, as every other package passes it on. It imports nothing but the
// standard library.
package event

import "bytes"

// Point names the place an event comes from. The values are the ABI between
// the eBPF programs (bpf/headers/event.bpf.h) and user space; they index the
// kernel's ledger and must never be reordered.
type Point uint8

// The points the kernel side knows.
const (
	Canary Point = iota // self-made, proves the whole path alive
	ProcessExec
	ProcessFork
	ProcessExit
	NetworkConnect // outbound connection established
	NetworkAccept  // inbound connection handed to its owner by accept(2)
	NetworkClose   // established connection or listening socket closed
	NetworkListen  // socket entered LISTEN
	Syscall        // one end of a system call; a CallPoint says which
	ProcessMmap    // a file, or memory of none, became executable in an address space
	SignalDeliver  // a signal reached its process
	OOMKill        // a process was chosen to die for want of memory
	ModuleLoad     // a kernel module was, or should have been, loaded
	BPFLoad        // a BPF program was, or should have been, loaded
	FileOpen       // a file was opened that not everybody may read, or that sets something in the kernel
	ProcessSetns   // a process has, or should have, joined namespaces

	// What follows is made in user space, and comes after all that the kernel sends.

	NetworkReport  // what is new about a connection, under the afterglow
	ContainerStart // a container was found that was not there before
	ContainerStop  // the cgroup of a container has gone

	// Points is the number of points, the bound of the label "point".
	Points = int(ContainerStop) + 1
)

var pointNames = [Points]string{
	"canary", "process/exec", "process/fork", "process/exit",
	"network/connect", "network/accept", "network/close", "network/listen", "syscall",
	"process/mmap", "signal/deliver", "oom/kill", "module/load", "bpf/load", "file/open", "process/setns",
	"network/report", "container/start", "container/stop",
}

// String returns the point's public name, as labels and JSON carry it.
func (p Point) String() string {
	if int(p) < len(pointNames) {
		return pointNames[p]
	}
	return "unknown"
}

// Limit says of which processes a point is wanted: of those with one of its ids.
type Limit struct {
	PIDs    []uint32
	Cgroups []uint64
	UIDs    []uint32
}

// AllPoints returns every point in the order of its value.
func AllPoints() []Point {
	all := make([]Point, Points)
	for i := range all {
		all[i] = Point(i)
	}
	return all
}

// CommLen is the size of a thread's name, NUL padded.
const CommLen = 16

// Process identifies the process an event belongs to. PID and StartNS together
// are unique for the life of the machine, whatever pids are reused.
type Process struct {
	PID      uint32 // thread group id in the initial pid namespace
	TID      uint32 // thread id in the initial pid namespace
	PPID     uint32 // parent's thread group id
	UID      uint32
	StartNS  uint64 // start of the thread group leader, CLOCK_BOOTTIME
	CgroupID uint64 // cgroup v2 inode, 0 where the kernel has none
	CgroupV1 uint64 // that in the v1 hierarchy in which containers are, 0 where there is none, or it is not known
	Comm     [CommLen]byte
}

// Name is the thread's name without its padding.
func (p *Process) Name() []byte {
	if end := bytes.IndexByte(p.Comm[:], 0); end >= 0 {
		return p.Comm[:end]
	}
	return p.Comm[:]
}

// Event is one record. The fields after Process are valid for the points their
// comments name and zero elsewhere. An Event is reused by its reader, its texts
// too: whoever keeps one calls Clone or CopyTo, and never keeps a pointer.
type Event struct {
	Point   Point
	Source  Source
	CPU     uint16
	Seq     uint64  // canary: its number
	TimeNS  uint64  // CLOCK_BOOTTIME
	Fields  Fields  // what the session that passed it on wants to know of it
	Rules   []*Rule // that it fits; shared, never written to
	Process Process
	Subject Subject // of SourceKernel, where somebody wants the event

	Child  Process // process/fork; oom/kill: the victim
	Exec   Exec    // process/exec
	Exit   Exit    // process/exit
	Conn   Conn    // network/*
	Report Report  // network/report
	Call   Call    // syscall

	File    File    // process/mmap, module/load, file/open
	Setns   Setns   // process/setns
	Program Program // bpf/load
	Signal  Signal  // signal/deliver

	// Texts says where in Data each text lies; see Text and Editor.
	Texts [TextKinds]Span
	Data  []byte
}

// Exec tells what a process became by execve.
type Exec struct {
	Credentials Credentials
	Namespaces  Namespaces
	Inode       uint64 // of the executed file
	Device      uint32 // of its file system, as the kernel writes it
	Bytes       uint64 // its size
	ChangedNS   int64  // when it last changed, since 1970
	Links       uint32 // to it; 0 for a deleted file and for a memfd
	Mode        uint16 // of it, with the bits of setuid and setgid
	Layer       Layer  // of it
	NetworkFDs  uint8  // bit n, below 3: descriptor n is an Internet socket
}

// Layer is where a file of an overlay is. Containers see their images as the lower
// layers of one, and what was made or changed since as the upper.
type Layer uint8

// The layers.
const (
	NoLayer      Layer = iota // it is on no overlay
	LowerLayer                // as it is in the image
	UpperLayer                // made or changed since
	UnknownLayer              // it is on an overlay, which this kernel does not show further
)

// Credentials are those of one thread, as its own user namespace does not see
// them: ids of the initial one.
type Credentials struct {
	UID, GID, EUID, EGID, SUID, SGID, FSUID, FSGID uint32

	SecureBits                        uint32
	Permitted, Effective, Inheritable uint64 // capabilities, bit n is capability n
}

// Namespaces are the inodes by which namespaces are known; 0 where the kernel has none.
type Namespaces struct {
	UTS, IPC, Mnt, PID, PIDForChildren, Net, Time, TimeForChildren, Cgroup, User uint32
}

// Exit tells how a process ended.
type Exit struct {
	Code       int32  // exit status, 0..255, where Signal is 0
	Signal     uint8  // terminating signal, 0 for none
	OOMKilled  bool   // ended as the victim of the OOM killer
	LifetimeNS uint64 // from its last exec, else its fork
}

// File is a file that was mapped, loaded or opened; TextPath is its path, as its process
// sees it.
type File struct {
	Result int64  // process/mmap: the address; file/open: the descriptor; module/load: 0, or an error number negated
	Length uint64 // bytes
	Prot   uint32 // process/mmap: PROT_*
	Inode  uint64 // 0 for memory that is of no file
	Links  uint32
	Mode   uint16

	Writable bool // file/open: for writing
	OfKernel bool // file/open: of proc, sysfs, cgroups and their like
}

// Setns tells of namespaces that a process has joined.
type Setns struct {
	Result     int32      // 0, or an error number negated
	Types      uint32     // CLONE_NEW* of those that it has joined, or should have
	Namespaces Namespaces // all that it is in afterwards
}

// Program is a BPF program.
type Program struct {
	Result int32 // its descriptor, or an error number negated
	ID     uint32
	Type   uint32 // BPF_PROG_TYPE_*
	Name   [CommLen]byte
}

// Signal is a signal that reached its process.
type Signal struct {
	Number            uint32
	Code              int32  // SI_*; above 0 the kernel's own
	Sender, SenderUID uint32 // where a process has sent it
}

// Report tells more of a connection that is reported. Its Conn has the protocol, the
// direction, the port of the side that serves and the peer, as the normalised view
// shows it; TextContainer and TextNetwork the container and the peer's known network.
type Report struct {
	Active   bool   // it is, or was within the afterglow
	PeerBits uint8  // of the peer's network, all for a single address
	LastNS   uint64 // when it was last active, CLOCK_BOOTTIME
}

// Family is the address family of a connection.
type Family uint8

// The families. A v4-mapped peer is reported as IPv4.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Conn describes one connection or listening socket. An IPv4 address occupies
// the first four bytes.
type Conn struct {
	Cookie     uint64 // identity of the socket while it lives
	Family     Family
	Protocol   uint8 // IPPROTO_TCP, IPPROTO_UDP
	Inbound    bool
	LocalPort  uint16
	RemotePort uint16
	Local      [16]byte
	Remote     [16]byte // zero for a listening socket, as RemotePort
	OpenedNS   uint64   // network/close: when it was established, CLOCK_BOOTTIME; 0 for a listening socket, or if not seen
	Sent       uint64   // network/close: bytes
	Received   uint64   // network/close: bytes
}
