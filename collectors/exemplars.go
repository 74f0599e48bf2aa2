package collectors

import (
	"encoding/base64"
	"fmt"
	"sync"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// Subject is a histogram that can show a recent event as an example.
type Subject int

// The subjects.
const (
	ProcessLifetime Subject = iota
	ConnectionInbound
	ConnectionOutbound

	subjects = int(ConnectionOutbound) + 1
)

// protocolTCP is IPPROTO_TCP: only its connections are timed.
const protocolTCP = 6

// ExemplarSource knows a recent event of a histogram.
type ExemplarSource interface {
	// Exemplar returns the latest event of a subject, or nil.
	Exemplar(Subject) *metric.Exemplar
}

// exemplar asks a source that may be nil.
func exemplar(source ExemplarSource, s Subject) *metric.Exemplar {
	if source == nil {
		return nil
	}
	return source.Exemplar(s)
}

// Exemplars remembers the latest event of each subject. Record is called for every
// event and allocates nothing; all methods may be called concurrently.
type Exemplars struct {
	node string
	mu   sync.Mutex
	last [subjects]struct {
		process event.Process
		value   time.Duration
		at      time.Time
	}
}

// NewExemplars returns a memory without events. node is part of the execution ids.
func NewExemplars(node string) *Exemplars { return &Exemplars{node: node} }

// Record notes an event; those without a duration are passed over.
func (e *Exemplars) Record(ev *event.Event) {
	var (
		subject Subject
		ns      uint64
	)
	switch {
	case ev.Point == event.ProcessExit:
		subject, ns = ProcessLifetime, ev.Exit.LifetimeNS
	case ev.Point == event.NetworkClose && ev.Conn.Protocol == protocolTCP && ev.Conn.OpenedNS != 0 && ev.TimeNS > ev.Conn.OpenedNS:
		subject, ns = ConnectionOutbound, ev.TimeNS-ev.Conn.OpenedNS
		if ev.Conn.Inbound {
			subject = ConnectionInbound
		}
	default:
		return
	}
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	last := &e.last[subject]
	last.process, last.value, last.at = ev.Process, time.Duration(ns), now
}

// Exemplar implements ExemplarSource.
func (e *Exemplars) Exemplar(s Subject) *metric.Exemplar {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := &e.last[s]
	if last.at.IsZero() {
		return nil
	}
	return &metric.Exemplar{
		Label: "exec_id",
		ID:    execID(e.node, &last.process),
		Value: last.value.Seconds(),
		Time:  last.at,
	}
}

// execID names one process of one node for all time: base64 of node, start and pid.
func execID(node string, p *event.Process) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s:%d:%d", node, p.StartNS, p.PID))
}
