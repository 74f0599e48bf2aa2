package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/state"
)

// reportEvery is how often changes of connections are reported; a change of how peers
// are shown is reported at once.
const reportEvery = 30 * time.Second

// teller makes the events of points that are not the kernel's: what is new about
// connections, and about containers. Reports cost a walk over all connections each
// round, and a note of each that ends: there are rounds only while a session wants
// them. The first round tells of everything that there is.
type teller struct {
	store   *state.Store
	now     func() uint64 // of the boot clock, in nanoseconds
	editor  *event.Editor
	publish func(*event.Event)

	wanted  atomic.Bool
	changed chan struct{}

	mu       sync.Mutex
	reporter *state.Reporter   // nil while nobody wants reports
	past     state.ReportStats // of those before
}

// want says whether any session wants reports.
func (t *teller) want(on bool) {
	if t.wanted.Swap(on) != on {
		select {
		case t.changed <- struct{}{}:
		default: // it will look
		}
	}
}

// run makes reports while they are wanted, until ctx ends.
func (t *teller) run(ctx context.Context) {
	for ctx.Err() == nil {
		if t.wanted.Load() {
			t.rounds(ctx)
			continue
		}
		t.wait(ctx)
	}
}

func (t *teller) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-t.changed:
	}
}

// rounds makes reports until nobody wants them any more.
func (t *teller) rounds(ctx context.Context) {
	ctx, end := context.WithCancel(ctx)
	reporter := state.NewReporter(t.store)
	t.mu.Lock()
	t.reporter = reporter
	t.mu.Unlock()
	var rounds sync.WaitGroup
	rounds.Go(func() { reporter.Run(ctx, reportEvery, t.report) })
	for t.wanted.Load() && ctx.Err() == nil {
		t.wait(ctx)
	}
	end()
	rounds.Wait()
	reporter.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.past, t.reporter = t.past.Plus(reporter.Stats()), nil
}

// Stats returns what was reported so far.
func (t *teller) Stats() state.ReportStats {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reporter == nil {
		return t.past
	}
	return t.past.Plus(t.reporter.Stats())
}

// report tells of one change.
func (t *teller) report(c state.Change) {
	ev := event.Event{
		Point: event.NetworkReport, TimeNS: t.now(),
		Conn:   event.Conn{Protocol: c.Protocol, Inbound: c.Inbound, Family: event.IPv6},
		Report: event.Report{Active: c.Active, PeerBits: uint8(c.Peer.Bits()), LastNS: c.AtNS},
	}
	ev.Conn.Remote = c.Peer.Addr().As16()
	if c.Peer.Addr().Is4() {
		four := c.Peer.Addr().As4()
		ev.Conn.Family, ev.Conn.Remote = event.IPv4, [16]byte{}
		copy(ev.Conn.Remote[:], four[:])
	}
	if c.Inbound {
		ev.Conn.LocalPort = c.Port
	} else {
		ev.Conn.RemotePort = c.Port
	}
	if c.Container != state.Host {
		t.editor.Set(&ev, event.TextContainer, []byte(c.Container), false)
	}
	t.editor.Set(&ev, event.TextNetwork, []byte(c.Network), false)
	t.publish(&ev)
}

// container tells that one has begun or ended.
func (t *teller) container(m container.Meta, began bool) {
	ev := event.Event{Point: event.ContainerStop, TimeNS: t.now()}
	if began {
		ev.Point = event.ContainerStart
	}
	t.editor.Set(&ev, event.TextContainer, []byte(m.ID.String()), false)
	t.publish(&ev)
}
