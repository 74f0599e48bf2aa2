package stream

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// of makes an event of a container.
func (p *publisher) of(point event.Point, container string) *event.Event {
	ev := p.next(point)
	ev.Subject.Process.Container = container
	return ev
}

// Events of a container wait for its name, and what follows them in the same feed
// waits too; another session goes on, and nobody takes the feed for stuck.
func TestFirstEventsOfAContainerAreHeld(t *testing.T) {
	f := newFixture(t)
	var left atomic.Int64
	left.Store(int64(time.Minute))
	f.o.Hold = func(container string) time.Duration {
		if container != "new" {
			return 0
		}
		return time.Duration(left.Load())
	}
	holding, free := &counting{}, &counting{}
	f.sinks["holding"], f.sinks["free"] = holding, free
	f.create(t, "a", "holding")
	if _, err := f.Create(&Session{Name: "b", Points: []Point{{Point: event.NetworkListen}}, Sinks: []SinkConfig{{Name: "free"}}}); err != nil {
		t.Fatal(err)
	}
	var p publisher
	f.Publish(p.of(event.ProcessExec, ""))
	f.Publish(p.of(event.ProcessExec, "old"))
	f.Publish(p.of(event.ProcessExec, "new"))
	f.Publish(p.of(event.ProcessExec, "old"))
	f.Publish(p.of(event.NetworkListen, "old"))
	waitFor(t, func() bool { return holding.got.Load() == 2 && free.got.Load() == 1 })
	f.heard(t, "a/holding", "pause")
	time.Sleep(3 * holdStep)
	if got := holding.got.Load(); got != 2 {
		t.Errorf("%d events, want 2 and the rest held", got)
	}
	left.Store(0)
	waitFor(t, func() bool { return holding.got.Load() == 4 })
	if n := holding.disorder.Load(); n > 0 {
		t.Errorf("%d in disorder", n)
	}
}

// A feed at its end holds nothing.
func TestHeldEventsAreDeliveredAtTheEnd(t *testing.T) {
	f := newFixture(t)
	f.o.Hold = func(string) time.Duration { return time.Hour }
	sink := &counting{}
	f.sinks["sink"] = sink
	f.create(t, "a", "sink")
	var p publisher
	f.Publish(p.of(event.ProcessExec, "new"))
	s, err := f.Delete(within(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	balance(t, s)
	if sink.got.Load() != 1 {
		t.Errorf("delivered %d events, want 1", sink.got.Load())
	}
}
