package bpf

// This file holds the values that probes hand out: plain Go, in the kernel's
// units, without a word about how they were counted. All of them are monotonic
// since the probe was attached unless a comment says otherwise.

import "github.com/sonde-ebpf/sonde/internal/event"

// Buckets is one histogram as the kernel counted it: native histogram buckets
// of schema 2 (four per octave, upper bound inclusive). Counts[i] is the bucket
// with index First+i. Zero counts values that were exactly 0. Sum is in the
// unit that was observed (Seconds tells which).
//
// The slice is only valid until the next Read of the probe that filled it.
type Buckets struct {
	First  int32
	Counts []uint64
	Zero   uint64
	Sum    uint64
	// Nanoseconds says that Sum counts nanoseconds while the indexes are those
	// of seconds; otherwise both are plain integers.
	Nanoseconds bool
}

// Count returns the number of observations: the sum over all buckets, so that
// it can never disagree with them.
func (b *Buckets) Count() uint64 {
	n := b.Zero
	for _, c := range b.Counts {
		n += c
	}
	return n
}

// SyscallStats is what the syscalls probe counts.
type SyscallStats struct {
	Calls    []SyscallStat      // those that occurred
	Errors   []SyscallErrorStat // those that occurred, in no order
	Unpaired []UnpairedStat     // every reason

	// How many pairs of call and outcome had to go to "other" because all histograms
	// were taken, and how many calls have errors there because the table was full.
	FoldedCalls, FoldedErrors uint64
}

// SyscallStat is one system call with one outcome.
type SyscallStat struct {
	Syscall string // name; "compat", "other"
	Outcome string // "success", "error"
	Count   uint64
	// Duration is nil for calls that never return: exit, exit_group, and those of them
	// that are compat, which has calls that were timed besides.
	Duration *Buckets
}

// SyscallErrorStat counts failed calls by errno.
type SyscallErrorStat struct {
	Syscall string
	Errno   string // symbolic, "restart" or "other"
	Count   uint64
}

// UnpairedStat counts sys_exits without a sys_enter, and calls that could not be timed.
type UnpairedStat struct {
	Reason string
	Count  uint64
}

// ProcessStats is what the process probe counts.
type ProcessStats struct {
	Execs                                          uint64
	ForksProcess, ForksThread                      uint64
	ExitsZero, ExitsNonzero, ExitsSignal, ExitsOOM uint64
	Live                                           int64 // gauge: processes alive now
	Lifetime                                       Buckets
	LineageDepth                                   Buckets
}

// Direction of a connection, as seen from this node.
type Direction uint8

// The directions, in the order of the kernel's counters.
const (
	Inbound Direction = iota
	Outbound
	Directions = 2
)

func (d Direction) String() string { return [Directions]string{"inbound", "outbound"}[d] }

// Peer is the class of a remote address (docs/metrics.md lists the CIDRs).
type Peer uint8

// The peer classes, in the order of the kernel's counters.
const (
	Private Peer = iota
	Public
	Loopback
	Peers = 3
)

func (p Peer) String() string { return [Peers]string{"private", "public", "loopback"}[p] }

// ConnStat counts connections (TCP) or flows (UDP) of one direction and peer class.
type ConnStat struct {
	Open           int64 // gauge; includes those found open at start
	Opened, Closed uint64
	Sent, Received uint64 // bytes; TCP only
}

// ConnErrorStat counts connection attempts that did not establish.
type ConnErrorStat struct {
	Direction Direction
	Errno     string // symbolic, "aborted" or "other"
	Count     uint64
}

// TCPStats is what the tcp probe counts.
type TCPStats struct {
	Conns                      [Directions][Peers]ConnStat
	Failed                     []ConnErrorStat
	Duration, Handshake, RTT   [Directions]Buckets
	Retransmits                uint64
	ResetsSent, ResetsReceived uint64
	Listeners                  int64 // gauge: sockets in LISTEN
}

// UDPStats is what the udp probe counts.
type UDPStats struct {
	Flows     [Directions][Peers]ConnStat
	Endpoints uint64 // gauge: sockets with a port and without a peer
}

// DropStat counts packets freed with one drop reason.
type DropStat struct {
	Reason string // lower-case name of the kernel's enum skb_drop_reason
	Count  uint64
}

// OOMStat counts OOM kills.
type OOMStat struct {
	Victim string // "sensor", "other"
	Scope  string // "cgroup", "global"
	Count  uint64
}

// LedgerStat is the kernel side of one point's event ledger:
// Attempted = Submitted + Dropped.
type LedgerStat struct {
	Point     event.Point
	Attempted uint64
	Submitted uint64
	Dropped   uint64 // the ring was full
}

// RingStat describes the event ring. Used and Peak are gauges; Peak is the
// highest fill the kernel saw at a submission since the previous Read.
type RingStat struct {
	Ring                            string
	SizeBytes, UsedBytes, PeakBytes uint64
}

// ProgramStat is the cost of one program. RunSeconds and Runs grow only while
// run-time statistics are on.
type ProgramStat struct {
	Program string
	Run     float64 // seconds
	Runs    uint64
	Missed  uint64 // runs skipped by the kernel's recursion guard
}

// MapStat describes one map. Entries is nil where the kernel has no count
// (array and ring maps).
type MapStat struct {
	Map            string
	Entries        *uint64
	MaxEntries     uint64
	MemoryBytes    uint64
	UpdateFailures uint64
}

// ProbeStatus tells whether and how a probe is attached.
type ProbeStatus struct {
	Probe    string
	Attached bool
	Attach   string // "tp_btf", "raw_tp", "tracepoint", "cgroup_skb", "iter", "" when not attached
	Reason   string // why not, or why degraded; "" when all is well
}
