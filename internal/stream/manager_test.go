package stream

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// counting is a sink that checks what it gets: events of one publisher in their
// order, with the texts they were published with.
type counting struct {
	gate     chan struct{} // nil, or where it waits before each batch
	lose     int           // of every so many events it gives one up; 0 for none
	got      atomic.Uint64
	last     uint64
	disorder atomic.Uint64
	inside   atomic.Bool // Deliver was called
	closed   atomic.Bool
}

func (c *counting) Deliver(batch []event.Event, lost func(*event.Event, event.Loss)) {
	c.inside.Store(true)
	if c.gate != nil {
		<-c.gate
	}
	for i := range batch {
		ev := &batch[i]
		if ev.Seq <= c.last || string(ev.Text(event.TextPath)) != fmt.Sprint("/bin/", ev.Seq) {
			c.disorder.Add(1)
		}
		c.last = ev.Seq
		if c.lose > 0 && ev.Seq%uint64(c.lose) == 0 {
			lost(ev, event.LossWrite)
			continue
		}
		c.got.Add(1)
	}
}

func (c *counting) Close() error { c.closed.Store(true); return nil }

// fixture is a Manager with sinks that the test holds.
type fixture struct {
	*Manager
	sinks   map[string]Sink
	enabled atomic.Pointer[Wanted]
	pulses  sync.Map // of sinks by session and name: *pulse
}

// pulse remembers what it heard last.
type pulse struct{ last atomic.Pointer[string] }

func (p *pulse) Beat()  { p.last.Store(new("beat")) }
func (p *pulse) Pause() { p.last.Store(new("pause")) }
func (p *pulse) End()   { p.last.Store(new("end")) }

func (f *fixture) pulse(session, sink string) Pulse {
	p := &pulse{}
	f.pulses.Store(session+"/"+sink, p)
	return p
}

// heard waits until a pulse has said something.
func (f *fixture) heard(t *testing.T, name, word string) {
	t.Helper()
	p, ok := f.pulses.Load(name)
	if !ok {
		t.Fatalf("nobody watches %s", name)
	}
	waitFor(t, func() bool { last := p.(*pulse).last.Load(); return last != nil && *last == word })
}

func newFixture(t testing.TB) *fixture {
	f := &fixture{sinks: map[string]Sink{}}
	f.Manager = NewManager(ManagerOptions{
		Open: func(c SinkConfig) (Sink, error) {
			if s, ok := f.sinks[c.Name]; ok {
				return s, nil
			}
			return nil, errors.New("no such sink")
		},
		Enable: func(w Wanted) error { f.enabled.Store(&w); return nil },
		Now:    func() uint64 { return 0 },
		Pulse:  f.pulse,
	})
	t.Cleanup(func() { f.Close(ended()) })
	return f
}

// ended is a context whose time is up.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func (f *fixture) create(t testing.TB, name string, sink ...string) {
	t.Helper()
	s := &Session{Name: name, Points: []Point{{Point: event.ProcessExec}, {Point: event.NetworkConnect}}}
	for _, n := range sink {
		s.Sinks = append(s.Sinks, SinkConfig{Name: n})
	}
	if _, err := f.Create(s); err != nil {
		t.Fatal(err)
	}
}

// publisher makes events with a number and a text.
type publisher struct {
	editor event.Editor
	ev     event.Event
	seq    uint64
}

func (p *publisher) next(point event.Point) *event.Event {
	p.ev.Reset()
	p.seq++
	p.ev.Point, p.ev.Seq = point, p.seq
	p.editor.Set(&p.ev, event.TextPath, fmt.Append(nil, "/bin/", p.seq), false)
	return &p.ev
}

// balance fails unless the ledger of an ended session adds up.
func balance(t *testing.T, s SessionStat) {
	t.Helper()
	for _, k := range s.Sinks {
		if k.Matched != k.Delivered+k.Filtered+k.Lost() || k.Queued != 0 {
			t.Errorf("%s/%s: matched %d, delivered %d, filtered %d, lost %d, queued %d", k.Session, k.Sink, k.Matched, k.Delivered, k.Filtered, k.Lost(), k.Queued)
		}
	}
}

func TestLedgerClosesUnderAStorm(t *testing.T) {
	f := newFixture(t)
	fast, picky := &counting{}, &counting{lose: 7}
	f.sinks["fast"], f.sinks["picky"] = fast, picky
	f.create(t, "a", "fast", "picky")
	var p publisher
	const n = 200_000
	for range n {
		f.Publish(p.next(event.ProcessExec))
	}
	s, err := f.Delete(within(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	balance(t, s)
	for i, sink := range []*counting{fast, picky} {
		k := s.Sinks[i]
		if k.Matched != n || k.Delivered != sink.got.Load() || sink.disorder.Load() > 0 || !sink.closed.Load() {
			t.Errorf("%+v, sink got %d, %d in disorder", k, sink.got.Load(), sink.disorder.Load())
		}
	}
	if k := s.Sinks[1]; k.Dropped[event.LossWrite] == 0 {
		t.Errorf("the sink gave up one of seven: %+v", k)
	}
	var total uint64
	for _, n := range f.Lost()[event.ProcessExec] {
		total += n
	}
	if want := s.Sinks[0].Lost() + s.Sinks[1].Lost(); total != want {
		t.Errorf("lost by point %d, by sink %d", total, want)
	}
}

// choosy is a sink that wants every other event, and a few of those in a minute.
type choosy struct {
	counting
	told atomic.Uint64
}

const few = 12

func (*choosy) Wants(ev *event.Event) bool { return ev.Seq%2 == 0 }
func (*choosy) RateLimit() uint64          { return few }
func (c *choosy) Lost(n uint64)            { c.told.Add(n) }

// What a sink does not want is filtered. What is beyond its rate is lost, and told when
// the stream goes on.
func TestSinkChooses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		sink := &choosy{}
		f.sinks["choosy"] = sink
		f.create(t, "a", "choosy")
		var p publisher
		publish := func(n int) SinkStat {
			for range n {
				f.Publish(p.next(event.ProcessExec))
			}
			time.Sleep(time.Second)
			return f.Sessions()[0].Sinks[0]
		}
		for range 2 {
			publish(100)
		}
		k := publish(100)
		if k.Filtered != 150 || k.Delivered != few || k.Dropped[event.LossRate] != 150-few || sink.told.Load() != 0 {
			t.Errorf("in the first minute: %+v, told of %d", k, sink.told.Load())
		}
		time.Sleep(time.Minute)
		if k = publish(2); k.Delivered != few+1 || sink.told.Load() != 150-few {
			t.Errorf("in the second: %+v, told of %d", k, sink.told.Load())
		}
		s, err := f.Delete(within(t), "a")
		if err != nil {
			t.Fatal(err)
		}
		balance(t, s)
		if sink.got.Load() != few+1 || sink.disorder.Load() > 0 {
			t.Errorf("the sink got %d, %d in disorder", sink.got.Load(), sink.disorder.Load())
		}
	})
}

// A sink that stands still costs its own events only, the unimportant ones first.
func TestStalledSinkSlowsNobody(t *testing.T) {
	f := newFixture(t)
	stalled, free := &counting{gate: make(chan struct{})}, &counting{}
	f.sinks["stalled"], f.sinks["free"] = stalled, free
	f.create(t, "a", "stalled", "free")
	var p publisher
	publish := func(n int, point event.Point) {
		for range n {
			f.Publish(p.next(point))
			if p.seq%(queueEvents/4) == 0 {
				waitFor(t, func() bool { return free.got.Load() == p.seq })
			}
		}
	}
	publish(2*queueEvents, event.NetworkConnect)
	publish(queueEvents/4, event.ProcessExec)
	k := f.Sessions()[0].Sinks[0]
	if k.Dropped[event.LossShed] != 2*queueEvents-queueEvents/4*3 || k.Dropped[event.LossFull] != 0 {
		t.Errorf("shed %d, full %d", k.Dropped[event.LossShed], k.Dropped[event.LossFull])
	}
	publish(queueEvents, event.ProcessExec)
	if k = f.Sessions()[0].Sinks[0]; k.Queued != queueEvents || k.Dropped[event.LossFull] == 0 {
		t.Errorf("full queue: %+v", k)
	}
	close(stalled.gate)
	s, err := f.Delete(within(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	balance(t, s)
	if got := stalled.got.Load(); got != queueEvents || stalled.disorder.Load() > 0 {
		t.Errorf("delivered %d after the stall, %d in disorder", got, stalled.disorder.Load())
	}
}

func waitFor(t testing.TB, done func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !done(); time.Sleep(100 * time.Microsecond) {
		if time.Now().After(end) {
			t.Fatal("waited for 30 s")
		}
	}
}

func TestSinkThatHangsIsLeftBehind(t *testing.T) {
	f := newFixture(t)
	hanging := &counting{gate: make(chan struct{})}
	f.sinks["hanging"] = hanging
	f.create(t, "a", "hanging")
	var p publisher
	f.Publish(p.next(event.ProcessExec))
	hanging.gate <- struct{}{}
	f.heard(t, "a/hanging", "pause") // it waits for events
	f.Publish(p.next(event.ProcessExec))
	waitFor(t, func() bool { return f.Sessions()[0].Sinks[0].Queued == 1 && hanging.got.Load() == 1 })
	f.heard(t, "a/hanging", "beat")
	if _, err := f.Delete(ended(), "a"); !errors.Is(err, ErrSinkHangs) {
		t.Errorf("error %v", err)
	}
	f.heard(t, "a/hanging", "beat") // whoever watches is told of it still
	close(hanging.gate)
	f.heard(t, "a/hanging", "end")
	waitFor(t, hanging.closed.Load)
}

// What waits when time is up is lost by name.
func TestStoppedInAHurry(t *testing.T) {
	f := newFixture(t)
	slow := &counting{gate: make(chan struct{}, 1)}
	f.sinks["slow"] = slow
	f.create(t, "a", "slow")
	var p publisher
	for range 1000 {
		f.Publish(p.next(event.ProcessExec))
	}
	go func() {
		time.Sleep(10 * time.Millisecond)
		slow.gate <- struct{}{}
	}()
	s, err := f.Delete(ended(), "a")
	if err != nil {
		t.Fatal(err)
	}
	balance(t, s)
	if s.Sinks[0].Dropped[event.LossStopped] == 0 {
		t.Errorf("%+v", s.Sinks[0])
	}
}

// Sessions come and go while events flow: each one's ledger closes, and what one
// that was there all the time gets has no gap.
func TestCreateAndDeleteUnderAStorm(t *testing.T) {
	f := newFixture(t)
	always := &counting{}
	f.sinks["always"] = always
	f.sinks["null"] = nothing{}
	f.create(t, "always", "always")
	stop := make(chan struct{})
	var (
		publishers sync.WaitGroup
		p          publisher
	)
	publishers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				f.Publish(p.next(event.ProcessExec))
			}
		}
	})
	for i := range 100 {
		name := fmt.Sprint("s", i)
		f.create(t, name, "null")
		time.Sleep(100 * time.Microsecond) // some events reach it
		s, err := f.Delete(within(t), name)
		if err != nil {
			t.Fatal(err)
		}
		balance(t, s)
	}
	close(stop)
	publishers.Wait()
	s, err := f.Delete(within(t), "always")
	if err != nil {
		t.Fatal(err)
	}
	balance(t, s)
	if k := s.Sinks[0]; k.Matched != p.seq || always.disorder.Load() > 0 {
		t.Errorf("matched %d of %d, %d in disorder", k.Matched, p.seq, always.disorder.Load())
	}
}

// When memory is short queues are, and nothing that waits is lost by that.
func TestShortQueues(t *testing.T) {
	f := newFixture(t)
	held, late := &counting{gate: make(chan struct{})}, &counting{gate: make(chan struct{})}
	f.sinks["held"], f.sinks["late"] = held, late
	f.create(t, "a", "held")
	var p publisher
	capacity := func(session int, want int) {
		t.Helper()
		if got := f.Sessions()[session].Sinks[0].Capacity; got != want {
			t.Errorf("room for %d events, want %d", got, want)
		}
	}
	fill := func() { // the queue, and what it cannot take
		for range queueEvents + 1 {
			f.Publish(p.next(event.ProcessExec))
		}
	}
	capacity(0, queueEvents)
	fill()
	f.Shorten(true)
	capacity(0, shortEvents)
	fill()
	f.create(t, "b", "late")
	capacity(1, shortEvents)
	f.Shorten(false)
	f.Shorten(false)
	capacity(0, queueEvents)
	fill()
	const all = 2*queueEvents + shortEvents
	if k := f.Sessions()[0].Sinks[0]; k.Queued != all || k.Lost() != 3*(queueEvents+1)-all {
		t.Errorf("%+v", k)
	}
	close(held.gate)
	close(late.gate)
	for i, sink := range []*counting{held, late} {
		s, err := f.Delete(within(t), []string{"a", "b"}[i])
		if err != nil {
			t.Fatal(err)
		}
		balance(t, s)
		if k := s.Sinks[0]; k.Delivered != sink.got.Load() || sink.disorder.Load() > 0 {
			t.Errorf("%+v, got %d, %d in disorder", k, sink.got.Load(), sink.disorder.Load())
		}
	}
}

// A session for which there is no memory is refused before it takes any.
func TestSessionsAreAdmitted(t *testing.T) {
	f := newFixture(t)
	opened := &counting{}
	f.sinks["null"], f.sinks["opened"] = nothing{}, opened
	var asked uint64
	short := errors.New("memory is short")
	f.o.Admit = func(bytes uint64) error {
		if asked = bytes; bytes > 2*DefaultQueue.Bytes() {
			return short
		}
		return nil
	}
	f.create(t, "two", "null", "null")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	runtime.KeepAlive(newQueue(DefaultQueue))
	runtime.ReadMemStats(&after)
	if asked, took := asked/2, after.TotalAlloc-before.TotalAlloc; asked > took*11/10 || asked < took*9/10 {
		t.Errorf("asked for %d bytes for a queue, which takes %d", asked, took)
	}
	_, err := f.Create(&Session{Name: "three", Points: []Point{{}}, Sinks: []SinkConfig{{Name: "opened"}, {Name: "null"}, {Name: "null"}}})
	if !errors.Is(err, ErrNotAdmitted) || !errors.Is(err, short) || len(f.Sessions()) != 1 || opened.closed.Load() {
		t.Errorf("error %v, %d sessions", err, len(f.Sessions()))
	}
}

type nothing struct{}

func (nothing) Deliver([]event.Event, func(*event.Event, event.Loss)) {}
func (nothing) Close() error                                          { return nil }

func TestSessionsEnableWhatTheyWant(t *testing.T) {
	f := newFixture(t)
	f.sinks["null"] = nothing{}
	for _, step := range []struct {
		create, remove string
		point          event.Point
		want           []event.Point
	}{
		{create: "a", point: event.ProcessFork, want: []event.Point{event.ProcessFork}},
		{create: "b", point: event.ProcessExec, want: []event.Point{event.ProcessExec, event.ProcessFork}},
		{create: "c", point: event.ProcessExec, want: []event.Point{event.ProcessExec, event.ProcessFork}},
		{remove: "b", want: []event.Point{event.ProcessExec, event.ProcessFork}},
		{remove: "c", want: []event.Point{event.ProcessFork}},
		{remove: "a"},
	} {
		if step.create != "" {
			if _, err := f.Create(&Session{Name: step.create, Points: []Point{{Point: step.point}}, Sinks: []SinkConfig{{Name: "null"}}}); err != nil {
				t.Fatal(err)
			}
		} else if _, err := f.Delete(within(t), step.remove); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, f.enabled.Load().Points); diff != "" {
			t.Errorf("%+v: enabled (-want +got):\n%s", step, diff)
		}
	}
	f.enabled.Store(nil)
	if err := f.Refresh(); err != nil || f.enabled.Load() == nil {
		t.Errorf("refresh: %v, enabled %v", err, f.enabled.Load())
	}
}

func TestCreateRefuses(t *testing.T) {
	f := newFixture(t)
	opened := &counting{}
	f.sinks["null"], f.sinks["opened"] = nothing{}, opened
	f.create(t, "there", "null")
	session := func(change func(*Session)) *Session {
		s := &Session{Name: "new", Points: []Point{{Point: event.ProcessExec}}, Sinks: []SinkConfig{{Name: "null"}}}
		change(s)
		return s
	}
	for name, s := range map[string]*Session{
		"the name of another": session(func(s *Session) { s.Name = "there" }),
		"no name":             session(func(s *Session) { s.Name = "" }),
		"a name for no label": session(func(s *Session) { s.Name = "a\nb" }),
		"no points":           session(func(s *Session) { s.Points = nil }),
		"no sinks":            session(func(s *Session) { s.Sinks = nil }),
		"too many sinks":      session(func(s *Session) { s.Sinks = slices.Repeat(s.Sinks, MaxSinks+1) }),
		"an unknown sink":     session(func(s *Session) { s.Sinks = []SinkConfig{{Name: "opened"}, {Name: "unknown"}} }),
	} {
		if _, err := f.Create(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if n := len(f.Sessions()); n != 1 || !opened.closed.Load() {
		t.Errorf("%d sessions, the sink that was opened is closed: %v", n, opened.closed.Load())
	}
	skipped, err := f.Create(session(func(s *Session) {
		s.Sinks = []SinkConfig{{Name: "unknown", IgnoreSetupError: true}, {Name: "null"}, {Name: "null"}}
	}))
	if err != nil || skipped == nil {
		t.Errorf("a sink that is not insisted on: %v, skipped %v", err, skipped)
	}
	var names []string
	for _, k := range f.Sessions()[1].Sinks {
		names = append(names, k.Sink)
	}
	if diff := cmp.Diff([]string{"null", "null-2"}, names); diff != "" {
		t.Errorf("sinks (-want +got):\n%s", diff)
	}
	if _, err := f.Delete(within(t), "none"); !errors.Is(err, ErrNoSession) {
		t.Errorf("deleting what is not there: %v", err)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	f := newFixture(t)
	f.sinks["null"] = nothing{}
	for i := range MaxSessions {
		f.create(t, fmt.Sprint(i), "null")
	}
	_, err := f.Create(&Session{Name: "more", Points: []Point{{}}, Sinks: []SinkConfig{{Name: "null"}}})
	if !errors.Is(err, ErrTooManySession) {
		t.Errorf("error %v", err)
	}
}

func TestPublishDoesNotAllocate(t *testing.T) {
	f := newFixture(t)
	f.sinks["null"] = nothing{}
	f.create(t, "a", "null")
	var p publisher
	ev := p.next(event.ProcessExec)
	if n := testing.AllocsPerRun(1000, func() { f.Publish(ev) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
