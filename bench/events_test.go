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
	for _, name := range []string{"events", "settings", "ledger", "ring_peak"} {
		shared[name] = newestMap(tb, name)
		spec.Maps[name].MaxEntries = shared[name].MaxEntries()
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{MapReplacements: shared})
	p.check(err)
	tb.Cleanup(coll.Close)
	p.fill = coll.Programs["flood"]
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

// discard measures what it takes to read the events and do nothing with them.
func (p *eventPath) discard() time.Duration {
	p.tb.Helper()
	p.raw.SetDeadline(time.Now()) // it looks by itself, and finds them all
	return p.reading(func() {
		for range flooded {
			if err := p.raw.ReadInto(&p.record); err != nil || len(p.record.RawSample) != 256 {
				p.tb.Fatalf("read %d bytes: %v", len(p.record.RawSample), err)
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
const inFlight = stream.QueueEvents / 2

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
		for s.done-s.path.session.taken.Load() > inFlight {
			time.Sleep(100 * time.Microsecond)
		}
	}
	s.left--
	s.done++
	return s.path.events.Next(ev)
}

// deliver measures what it takes until the session's sink has all events, and how many
// objects were allocated meanwhile.
func (p *eventPath) deliver() (took time.Duration, allocated uint64) {
	p.tb.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := p.session.taken.Load()
	took = p.reading(func() {
		p.check(p.pipeline.Run(&portion{path: p, left: flooded, done: begun}))
		for p.session.taken.Load() < begun+flooded {
			time.Sleep(100 * time.Microsecond)
		}
	})
	runtime.ReadMemStats(&after)
	if n := p.session.lost.Load(); n > 0 {
		p.tb.Fatalf("the sink gave up %d events", n)
	}
	return took, after.Mallocs - before.Mallocs
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
		p.deliver() // what is allocated once
		// What else runs in this process allocates too: the quietest of some counts.
		least := uint64(math.MaxUint64)
		for range 5 {
			_, n := p.deliver()
			least = min(least, n)
		}
		if float64(least) > maxAllocations*flooded {
			t.Errorf("%s: %d allocations for %d events", s.name, least, flooded)
		}
	}
}

// BenchmarkEventPath measures the processor time of an event, from the ring into each sink,
// and beside it that of a reader that throws its record away, interleaved.
func BenchmarkEventPath(b *testing.B) {
	for _, s := range sinks {
		b.Run(s.name, func(b *testing.B) {
			p := newEventPath(b)
			to, err := s.make(p)
			p.check(err)
			p.to(to)
			var raw, ours time.Duration
			for b.Loop() {
				raw += p.discard()
				took, _ := p.deliver()
				ours += took
			}
			per := func(d time.Duration) float64 { return float64(d) / float64(b.N) / flooded }
			b.ReportMetric(per(raw), "discard-ns/event")
			b.ReportMetric(per(ours), "cpu-ns/event")
		})
	}
}
