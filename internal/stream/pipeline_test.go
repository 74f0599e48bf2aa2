package stream

import (
	"io"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

type fixedClock uint64

func (c fixedClock) Now() uint64 { return uint64(c) }

// recording replays events and then ends.
type recording []event.Event

func (r *recording) Next(ev *event.Event) error {
	if len(*r) == 0 {
		return io.EOF
	}
	*ev = (*r)[0]
	*r = (*r)[1:]
	return nil
}

func TestPipelineCountsAndTimes(t *testing.T) {
	now := uint64(10 * time.Hour)
	ago := func(d time.Duration) uint64 { return now - uint64(d) }
	source := &recording{
		{Point: event.ProcessExec, TimeNS: ago(time.Millisecond)},
		{Point: event.ProcessExec, TimeNS: ago(2 * time.Hour)},
		{Point: event.ProcessExit, TimeNS: ago(-time.Minute)},
		{Point: event.ProcessExit, TimeNS: ago(-time.Second)}, // clocks of two CPUs: not an anomaly
		{Point: event.Canary, TimeNS: now, Seq: 7},
	}
	canary := NewCanary(time.Second)
	canary.Sent(7)
	var handled int
	p := NewPipeline("events", fixedClock(now), canary, func(*event.Event) { handled++ })
	if err := p.Run(source); err != nil {
		t.Fatal(err)
	}
	n := p.Events()
	if handled != 4 || n[event.ProcessExec] != 2 || n[event.ProcessExit] != 2 || n[event.Canary] != 1 {
		t.Errorf("handled %d, counted %v", handled, n)
	}
	if future, past := p.ClockAnomalies(); past != 1 || future != 1 {
		t.Errorf("distant past %d, future %d, want 1 and 1", past, future)
	}
	delay := p.RingDelay()
	if n := delay.Count(); n != 3 {
		t.Errorf("%d delays, want 3", n)
	}
	if c := canary.Stats(); c.Arrived != 1 || c.Lost != 0 || c.Delay.Count() != 1 {
		t.Errorf("canary %+v", c)
	}
}

func TestCanaryOverdueIsLostOnce(t *testing.T) {
	c := NewCanary(time.Second)
	now := time.Unix(100, 0)
	c.now = func() time.Time { return now }
	c.Sent(1)
	now = now.Add(time.Second)
	if s := c.Stats(); s.Lost != 0 {
		t.Errorf("lost %d at the deadline, want 0", s.Lost)
	}
	now = now.Add(time.Nanosecond)
	if s := c.Stats(); s.Lost != 1 {
		t.Errorf("lost %d after the deadline, want 1", s.Lost)
	}
	c.arrived(1) // late: it was given up already
	if s := c.Stats(); s.Arrived != 0 || s.Lost != 1 {
		t.Errorf("late arrival changed the books: %+v", s)
	}
}
