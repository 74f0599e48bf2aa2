package gvisor

import (
	"sync/atomic"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// Malformed is why a datagram could not be understood.
type Malformed int

// The reasons.
const (
	MalformedHeader   Malformed = iota // shorter than a header, or one that does not fit
	MalformedPayload                   // not protobuf
	MalformedOversize                  // longer than wire.MaxMessage

	malformedReasons = int(MalformedOversize) + 1
)

// String returns the reason as labels carry it.
func (m Malformed) String() string {
	return [malformedReasons]string{"header", "payload", "oversize"}[m]
}

// Rejected is why a peer was not listened to.
type Rejected int

// The reasons.
const (
	RejectedHandshake Rejected = iota // what it sent is no handshake, or it left
	RejectedVersion                   // it speaks a version that is too old
	RejectedTimeout                   // it took longer than HandshakeTimeout
	RejectedLimit                     // MaxConnections are served already

	rejectedReasons = int(RejectedLimit) + 1
)

// String returns the reason as labels carry it.
func (r Rejected) String() string {
	return [rejectedReasons]string{"handshake", "version", "timeout", "limit"}[r]
}

// counters are the receiver's totals.
type counters struct {
	messages  [wire.Types]atomic.Uint64
	malformed [malformedReasons]atomic.Uint64
	rejected  [rejectedReasons]atomic.Uint64
	events    [event.Points]atomic.Uint64
	dropped   atomic.Uint64
}

// MessageTypes returns the keys of Stats.Messages: every known type, and "unknown".
func MessageTypes() []string {
	return names(wire.Types, func(i int) string { return wire.Type(i).String() })
}

// MalformedReasons returns the keys of Stats.Malformed.
func MalformedReasons() []string {
	return names(malformedReasons, func(i int) string { return Malformed(i).String() })
}

// RejectedReasons returns the keys of Stats.Rejected.
func RejectedReasons() []string {
	return names(rejectedReasons, func(i int) string { return Rejected(i).String() })
}

// EventPoints returns the keys of Stats.Events: the points that sandboxes tell of.
func EventPoints() []string {
	return names(len(told), func(i int) string { return told[i].String() })
}

func names(n int, name func(int) string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = name(i)
	}
	return all
}

// Stats are the receiver's numbers.
type Stats struct {
	Connections int               // open now
	Silent      int               // of these, longer than SilentAfter without one message
	Orphans     int               // sandboxes that run and will not connect again
	Messages    map[string]uint64 // by type
	Malformed   map[string]uint64 // by reason
	Rejected    map[string]uint64 // by reason
	Dropped     uint64            // by the sandboxes
	Events      map[string]uint64 // made of messages, by point
}

// Stats returns a snapshot, with every type and reason.
func (r *Receiver) Stats() Stats {
	s := Stats{Messages: map[string]uint64{}, Malformed: map[string]uint64{}, Rejected: map[string]uint64{}, Events: map[string]uint64{}, Dropped: r.dropped.Load()}
	for _, c := range r.Connections() {
		s.Connections++
		if c.Silent {
			s.Silent++
		}
	}
	s.Orphans = len(r.opts.Roster.Orphans())
	for i, name := range MessageTypes() {
		s.Messages[name] = r.messages[i].Load()
	}
	for i, name := range MalformedReasons() {
		s.Malformed[name] = r.malformed[i].Load()
	}
	for i, name := range RejectedReasons() {
		s.Rejected[name] = r.rejected[i].Load()
	}
	for _, point := range told {
		s.Events[point.String()] = r.events[point].Load()
	}
	return s
}

// ledger adds up what a sandbox says it has dropped. The number in its headers is
// a total of 32 bits. The threads of a sandbox read it before they send, so that
// it may also go back by what was dropped in between.
type ledger struct {
	last uint32 // the farthest that was seen; only its connection's goroutine has it
	sum  atomic.Uint64
}

// advance returns by how much the total has grown.
func (l *ledger) advance(total uint32) uint64 {
	ahead := total - l.last
	if ahead > 1<<31 { // behind
		return 0
	}
	l.last = total
	l.sum.Add(uint64(ahead))
	return uint64(ahead)
}

func (l *ledger) total() uint64 { return l.sum.Load() }
