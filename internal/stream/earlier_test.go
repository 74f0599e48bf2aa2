package stream

import (
	"sync/atomic"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// earlier yields so many execs, and tells how often it was asked and ended.
type earlier struct {
	n            uint64
	begun, ended atomic.Uint64
}

func (e *earlier) yield(_ <-chan struct{}, yield func(*event.Event) bool) {
	e.begun.Add(1)
	defer e.ended.Add(1)
	var p publisher
	for p.seq < e.n && yield(p.next(event.ProcessExec)) {
	}
}

// A session that wants execs is told of more that were there before than its queue
// holds, loses none, and has room for what happens meanwhile.
func TestEarlierExecs(t *testing.T) {
	f := newFixture(t)
	before := &earlier{n: 2 * queueEvents}
	f.o.Earlier = before.yield
	sink := &counting{gate: make(chan struct{})}
	f.sinks["sink"] = sink
	f.create(t, "a", "sink")
	waitFor(t, func() bool { return f.Sessions()[0].Sinks[0].Queued == queueEvents/4 })
	var p publisher
	for range queueEvents / 2 {
		f.Publish(p.next(event.NetworkConnect))
	}
	close(sink.gate)
	const all = 2*queueEvents + queueEvents/2
	waitFor(t, func() bool { return sink.got.Load() == all })
	s, err := f.Delete(within(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	balance(t, s)
	if k := s.Sinks[0]; k.Matched != all || k.Lost() > 0 || before.ended.Load() != 1 {
		t.Errorf("%+v, ended %d", k, before.ended.Load())
	}
}

// Who does not want execs, or only what happens from now on, is told of none; a filter
// chooses among them; and a session that ends does not wait for them.
func TestWhoIsToldOfEarlierExecs(t *testing.T) {
	f := newFixture(t)
	before := &earlier{n: 10}
	f.o.Earlier = before.yield
	f.sinks["null"] = nothing{}
	if _, err := f.Create(&Session{Name: "exits", Points: []Point{{Point: event.ProcessExit}}, Sinks: []SinkConfig{{Name: "null"}}}); err != nil {
		t.Fatal(err)
	}
	if err := f.CreateFor(&Session{Name: "client", Points: []Point{{Point: event.ProcessExec}}, Sinks: []SinkConfig{{Name: "client"}}}, nothing{}); err != nil {
		t.Fatal(err)
	}
	if n := before.begun.Load(); n != 0 {
		t.Errorf("asked %d times for who does not want it", n)
	}
	some := &Session{Name: "some", Points: []Point{{Point: event.ProcessExec, Filter: Filter{Paths: []string{"/bin/7"}}}}, Sinks: []SinkConfig{{Name: "null"}}}
	if _, err := f.Create(some); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return before.ended.Load() == 1 })
	s, err := f.Delete(within(t), "some")
	if err != nil || s.Sinks[0].Matched != 1 {
		t.Errorf("%+v, %v", s, err)
	}

	before.n = 2 * queueEvents
	stalled := &counting{gate: make(chan struct{})}
	f.sinks["stalled"] = stalled
	f.create(t, "stalled", "stalled")
	waitFor(t, func() bool { return stalled.inside.Load() })
	close(stalled.gate)
	if s, err = f.Delete(ended(), "stalled"); err != nil || before.ended.Load() != 2 {
		t.Errorf("ended %d, %v", before.ended.Load(), err)
	}
	balance(t, s)
}
