// Package stream carries events from the ring to whoever wants them. The
// Pipeline is its first part: the one goroutine that reads a ring, measures how
// late events are, and hands them on.
package stream

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// Source yields events one after the other and ends with io.EOF.
type Source interface {
	Next(ev *event.Event) error
}

// Clock returns nanoseconds of CLOCK_BOOTTIME, the clock of events. It is read
// once per event and must not make a system call each time.
type Clock interface{ Now() uint64 }

// Bounds beyond which an event's own time is called an anomaly.
const (
	FutureAfter      = 5 * time.Second // ahead of our clock
	DistantPastAfter = time.Hour       // behind it
)

// sampleEvery is the share of events whose steps are timed: one in so many.
const sampleEvery = 128

// Pipeline reads one ring. Run is for one goroutine; the counters may be read
// at any time.
type Pipeline struct {
	ring   string
	clock  Clock
	handle func(*event.Event)
	canary *Canary
	alive  func()

	delay       *metric.Live
	drained     *metric.Live
	decode      [event.Points]*metric.Live
	state       [event.Points]*metric.Live
	events      [event.Points]atomic.Uint64
	future      atomic.Uint64
	distantPast atomic.Uint64
}

// NewPipeline returns a pipeline for the ring of that name. It passes every event
// to handle, which may not keep it. Canary events end in canary.
func NewPipeline(ring string, clock Clock, canary *Canary, handle func(*event.Event)) *Pipeline {
	p := &Pipeline{ring: ring, clock: clock, canary: canary, handle: handle, alive: func() {}, delay: metric.NewLive(), drained: metric.NewLive()}
	for i := range p.state {
		p.decode[i], p.state[i] = metric.NewLive(), metric.NewLive()
	}
	return p
}

// Alive sets what is called as a sign that the ring is being read: after each wake-up
// that brought something, and now and then while there is always more. It must be
// quick, and set before Run.
func (p *Pipeline) Alive(call func()) { p.alive = call }

// Run passes events on until the source ends.
func (p *Pipeline) Run(source Source) error {
	var ev event.Event
	for n := uint64(0); ; n++ {
		if err := source.Next(&ev); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		p.note(&ev)
		switch {
		case ev.Point == event.Canary:
			p.canary.arrived(ev.Seq)
		case n%sampleEvery == 0:
			p.alive()
			began := time.Now()
			p.handle(&ev)
			p.state[ev.Point].ObserveDuration(time.Since(began))
		default:
			p.handle(&ev)
		}
	}
}

// note counts the event and how late it is.
func (p *Pipeline) note(ev *event.Event) {
	p.events[ev.Point].Add(1)
	switch late := time.Duration(p.clock.Now() - ev.TimeNS); {
	case late < -FutureAfter:
		p.future.Add(1)
	case late > DistantPastAfter:
		p.distantPast.Add(1)
	default:
		p.delay.ObserveDuration(max(late, 0))
	}
}

// Events returns how many events of each point were decoded.
func (p *Pipeline) Events() (n [event.Points]uint64) {
	for i := range p.events {
		n[i] = p.events[i].Load()
	}
	return n
}

// RingDelay returns how old events were, by the kernel's clock, when they left the ring.
func (p *Pipeline) RingDelay() metric.Buckets { return p.delay.Buckets() }

// ClockAnomalies returns how many events had a time that cannot be right.
func (p *Pipeline) ClockAnomalies() (future, distantPast uint64) {
	return p.future.Load(), p.distantPast.Load()
}

// Steps yields the time that each step took, by point; of the timed share of events.
func (p *Pipeline) Steps(yield func(point event.Point, step string, took metric.Buckets)) {
	for i := range p.state {
		if point := event.Point(i); point != event.Canary {
			yield(point, "decode", p.decode[i].Buckets())
			yield(point, "state", p.state[i].Buckets())
		}
	}
}

// Decoded notes the time that decoding one event took; for the reader of the ring.
func (p *Pipeline) Decoded(point event.Point, took time.Duration) {
	p.decode[point].ObserveDuration(took)
}

// Drained notes how many records one wake-up brought; for the reader of the ring.
func (p *Pipeline) Drained(records int) {
	p.alive()
	p.drained.Observe(float64(records))
}

// DrainRecords yields the records per wake-up, by ring.
func (p *Pipeline) DrainRecords(yield func(ring string, records metric.Buckets)) {
	yield(p.ring, p.drained.Buckets())
}

// Canary returns the canary's delay and how many were lost.
func (p *Pipeline) Canary() (delay metric.Buckets, lost uint64) {
	s := p.canary.Stats()
	return s.Delay, s.Lost
}
