package bench

import (
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/sink"
	"github.com/sonde-ebpf/sonde/internal/state"
	"github.com/sonde-ebpf/sonde/internal/stream"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

//go:generate go tool bpf2go -cc clang-16 -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -Wall -Werror" flood flood.bpf.c -- -I../bpf/headers

// flooded is how many events a measurement reads: nearly all that the ring holds.
const flooded = 30_000

// eventPath is the path of events from the ring to one sink, each with what is known of
// its process, and beside it a reader of the same ring that only throws records away.
type eventPath struct {
	tb       testing.TB
	settings *ebpf.Map
	fill     *ebpf.Program
	raw      *ringbuf.Reader
	record   ringbuf.Record
	events   *bpf.Events
	pipeline *stream.Pipeline
	picture  *state.Store
	manager  *stream.Manager
	session  *counted
	dir      string
}

// counted is a sink that counts what another one has taken.
type counted struct {
	stream.Sink
	taken, lost atomic.Uint64
}

func (c *counted) Deliver(batch []event.Event, lost func(*event.Event, event.Loss)) {
	c.Sink.Deliver(batch, func(ev *event.Event, l event.Loss) {
		c.lost.Add(1)
		lost(ev, l)
	})
	c.taken.Add(uint64(len(batch)))
}

func newEventPath(tb testing.TB) *eventPath {
	tb.Helper()
	testenv.Root(tb)
	p := &eventPath{tb: tb, dir: tb.TempDir()}
	k, err := bpf.Load(bpf.Options{})
	p.check(err)
	tb.Cleanup(k.Close)
	spec, err := loadFlood()
	p.check(err)
	shared := map[string]*ebpf.Map{}
	for _, name := range []string{"events", "settings", "ledger", "ring"} {
		shared[name] = newestMap(tb, name)
		spec.Maps[name].MaxEntries = shared[name].MaxEntries()
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	p.check(err)
	tb.Cleanup(coll.Close)
	p.fill, p.settings = coll.Programs["flood"], shared["settings"]
	p.raw, err = ringbuf.NewReader(shared["events"])
	p.check(err)
	tb.Cleanup(func() { p.raw.Close() })
	o := state.Defaults()
	o.Now = new(bpf.BootClock).Now
	p.picture, err = state.New(o)
	p.check(err)
	p.pipeline = stream.NewPipeline("events", new(bpf.BootClock), stream.NewCanary(time.Minute), func(ev *event.Event) {
		if p.picture.Describe(ev); ev.Subject.Process.PID == 0 { // the first one
			p.picture.Apply(ev)
		}
		p.manager.Publish(ev)
	})
	p.events, err = bpf.NewEvents(k, p.pipeline)
	p.check(err)
	tb.Cleanup(func() { p.events.Close() })
	p.manager = stream.NewManager(stream.ManagerOptions{
		Enable: func(stream.Wanted) error { return nil }, Now: new(bpf.BootClock).Now,
	})
	tb.Cleanup(func() { p.check(p.manager.Close(tb.Context())) })
	return p
}

func (p *eventPath) check(err error) {
	p.tb.Helper()
	if err != nil {
		p.tb.Fatal(err)
	}
}

// newestMap opens the map of a name that was made last, until the test ends.
func newestMap(tb testing.TB, name string) (newest *ebpf.Map) {
	tb.Helper()
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			tb.Fatal(err)
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		if info, err := m.Info(); err != nil || info.Name != name {
			m.Close()
			continue
		}
		if newest != nil {
			newest.Close()
		}
		newest = m
	}
	if newest == nil {
		tb.Fatalf("no map %s", name)
	}
	tb.Cleanup(func() { newest.Close() })
	return newest
}

// reading fills the ring, and returns what read takes of the processors to empty it: rates
// are per second and core, and what else the machine does matters little.
func (p *eventPath) reading(read func()) time.Duration {
	p.tb.Helper()
	_, err := p.fill.Run(&ebpf.RunOptions{Context: []uint64{flooded}})
	p.check(err)
	began := ranFor(p.tb, unix.CLOCK_PROCESS_CPUTIME_ID)
	read()
	return ranFor(p.tb, unix.CLOCK_PROCESS_CPUTIME_ID) - began
}

// discard measures what it takes to read the events, one at a time and each into memory of
// its own, as the library hands them out, and do nothing with them.
func (p *eventPath) discard() time.Duration {
	p.tb.Helper()
	p.raw.SetDeadline(time.Now()) // it looks by itself, and finds them all
	return p.reading(func() {
		for range flooded {
			if record, err := p.raw.Read(); err != nil || len(record.RawSample) != 256 {
				p.tb.Fatalf("read %d bytes: %v", len(record.RawSample), err)
			}
		}
	})
}

// skim is discard with one piece of memory for all: what any reader has to do.
func (p *eventPath) skim() time.Duration {
	p.tb.Helper()
	p.raw.SetDeadline(time.Now())
	return p.reading(func() {
		for range flooded {
			if err := p.raw.ReadInto(&p.record); err != nil {
				p.tb.Fatal(err)
			}
		}
	})
}

// to begins a session with one sink in place of the one before.
func (p *eventPath) to(s stream.Sink) {
	p.tb.Helper()
	if p.session != nil {
		_, err := p.manager.Delete(p.tb.Context(), "flood")
		p.check(err)
	}
	p.session = &counted{Sink: s}
	p.check(p.manager.CreateFor(&stream.Session{
		Name: "flood", Points: []stream.Point{{Name: "process/exec", Point: event.ProcessExec}}, Sinks: []stream.SinkConfig{{Name: "flood"}},
	}, p.session))
}

// inFlight is how many events may be under way between the ring and the sink: the queue
// has room for twice as many, so that none is lost.
var inFlight = stream.DefaultQueue.Events / 2

// Next implements stream.Source: it hands out so many events and then ends, and keeps the
// sink's queue from filling up.
type portion struct {
	path *eventPath
	left uint64
	done uint64
}

func (s *portion) Next(ev *event.Event) error {
	if s.left == 0 {
		return io.EOF
	}
	if s.done%256 == 0 {
		for s.done-s.path.session.taken.Load() > uint64(inFlight) {
			time.Sleep(100 * time.Microsecond)
		}
	}
	s.left--
	s.done++
	return s.path.events.Next(ev)
}

// deliver measures what it takes, of events that come in some way, until the session's
// sink has as many.
func (p *eventPath) deliver(coming func(read func()) time.Duration, events uint64) (took time.Duration) {
	p.tb.Helper()
	begun := p.session.taken.Load()
	took = coming(func() {
		p.check(p.pipeline.Run(&portion{path: p, left: events, done: begun}))
		for p.session.taken.Load() < begun+events {
			time.Sleep(100 * time.Microsecond)
		}
	})
	if n := p.session.lost.Load(); n > 0 {
		p.tb.Fatalf("the sink gave up %d events", n)
	}
	return took
}

// machine is one whose containers nobody knows.
type machine struct{ began time.Time }

func (m machine) Boot() time.Time { return m.began }
func (machine) Node() string      { return "node-1" }

func (machine) Container(id string) sink.Container { return sink.Container{ID: id} }

// sinks make the sinks that are measured.
var sinks = []struct {
	name string
	make func(p *eventPath) (stream.Sink, error)
}{
	{"null", func(*eventPath) (stream.Sink, error) { return sink.Null{}, nil }},
	{"jsonl", func(p *eventPath) (stream.Sink, error) {
		return sink.NewJSONLines(map[string]any{"path": filepath.Join(p.dir, "events.json"), "max_files": 0},
			sink.Place{Dir: p.dir}, machine{time.Now().Add(-time.Hour)})
	}},
}

// maxAllocations is what a measurement may allocate per event: nothing but what waiting and
// measuring take.
const maxAllocations = 0.02

// TestEventPathDoesNotAllocate follows events from the ring into each sink.
func TestEventPathDoesNotAllocate(t *testing.T) {
	p := newEventPath(t)
	for _, s := range sinks {
		to, err := s.make(p)
		p.check(err)
		p.to(to)
		p.deliver(p.reading, flooded) // what is allocated once
		// What else runs in this process allocates too: the quietest of some counts.
		least := uint64(math.MaxUint64)
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			p.deliver(p.reading, flooded)
			runtime.ReadMemStats(&after)
			least = min(least, after.Mallocs-before.Mallocs)
		}
		if float64(least) > maxAllocations*flooded {
			t.Errorf("%s: %d allocations for %d events", s.name, least, flooded)
		}
	}
}

// trickled is how many events a measurement reads that come one after the other.
const trickled = 5_000

// trickling sends events one at a time, each by a call of its own and as quickly as can
// be, and returns what read takes of the processors to follow: the sender's part apart.
func (p *eventPath) trickling(read func()) time.Duration {
	p.tb.Helper()
	began := ranFor(p.tb, unix.CLOCK_PROCESS_CPUTIME_ID)
	sent := make(chan time.Duration)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		began := ranFor(p.tb, unix.CLOCK_THREAD_CPUTIME_ID)
		for range trickled {
			if _, err := p.fill.Run(&ebpf.RunOptions{Context: []uint64{1}}); err != nil {
				p.tb.Error(err)
			}
		}
		sent <- ranFor(p.tb, unix.CLOCK_THREAD_CPUTIME_ID) - began
	}()
	read()
	return -<-sent + ranFor(p.tb, unix.CLOCK_PROCESS_CPUTIME_ID) - began
}

// wakeForEach has the kernel wake a reader that has caught up for each event, which is
// what it does for readers that do not ask for less.
func (p *eventPath) wakeForEach() {
	p.tb.Helper()
	var page struct{ Points, WakeupBytes, Canary, SilenceNS, Details, Limited uint64 }
	p.check(p.settings.Lookup(uint32(0), &page))
	page.SilenceNS = 0
	p.check(p.settings.Put(uint32(0), &page))
}

// follow measures what a reader takes that is woken for each event and throws it away.
func (p *eventPath) follow() time.Duration {
	p.tb.Helper()
	p.raw.SetDeadline(time.Time{})
	return p.trickling(func() {
		for range trickled {
			if err := p.raw.ReadInto(&p.record); err != nil || len(p.record.RawSample) != 256 {
				p.tb.Fatalf("read %d bytes: %v", len(p.record.RawSample), err)
			}
		}
	})
}

// leastRates are which part of the rate of a reader that throws events away each sink must
// reach: where events come one at a time, which is the bar, and out of a full ring, where
// that reader has next to nothing to do.
var leastRates = map[string]struct{ trickling, flooded float64 }{"null": {1.0 / 2, 1.0 / 5}, "jsonl": {1.0 / 5, 1.0 / 16}}

// TestEventPathRate holds the path into each sink to its bars: medians over rounds, in each
// of which both read as many. They have a ring each where they have to be woken: the path
// asks the kernel to wake it more rarely.
func TestEventPathRate(t *testing.T) {
	thrower, p := newEventPath(t), newEventPath(t)
	thrower.wakeForEach()
	for _, s := range sinks {
		to, err := s.make(p)
		p.check(err)
		p.to(to)
		least := leastRates[s.name]
		hold(t, s.name+", one at a time", least.trickling, trickled, thrower.follow, func() time.Duration { return p.deliver(p.trickling, trickled) })
		hold(t, s.name+", full ring", least.flooded, flooded, p.discard, func() time.Duration { return p.deliver(p.reading, flooded) })
	}
}

// hold compares the rates of two ways to read so many events.
func hold(t *testing.T, name string, least, events float64, discard, deliver func() time.Duration) {
	t.Helper()
	var rates, thrown, took []float64
	for i := range rounds {
		thrown, took = append(thrown, float64(discard())/events), append(took, float64(deliver())/events)
		rates = append(rates, thrown[i]/took[i])
	}
	t.Logf("%-20s %4.0f ns per event, thrown away in %4.0f ns: %.2f of its rate", name, median(took), median(thrown), median(rates))
	if rate := median(rates); rate < least {
		t.Errorf("%s: events are taken at %.2f of the rate at which they can be thrown away, less than %.2f", name, rate, least)
	}
}

// BenchmarkEventPath measures the processor time of an event, from the ring into each sink,
// and beside it that of readers that throw its record away, interleaved.
func BenchmarkEventPath(b *testing.B) {
	for _, s := range sinks {
		b.Run(s.name, func(b *testing.B) {
			p := newEventPath(b)
			to, err := s.make(p)
			p.check(err)
			p.to(to)
			var skim, raw, ours time.Duration
			for b.Loop() {
				skim += p.skim()
				raw += p.discard()
				ours += p.deliver(p.reading, flooded)
			}
			per := func(d time.Duration) float64 { return float64(d) / float64(b.N) / flooded }
			b.ReportMetric(per(skim), "skim-ns/event")
			b.ReportMetric(per(raw), "discard-ns/event")
			b.ReportMetric(per(ours), "cpu-ns/event")
		})
	}
}
