package introspect

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/sink"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// Times of a stream of events.
const (
	// StallTime is how long a client may take nothing before it is cut off.
	StallTime = 30 * time.Second
	// partTime is for a client to take what waits for it when its stream ends.
	partTime = time.Second
)

// eventsKind names the sessions of streams.
const eventsKind = "events"

// events answers GET /trace/events. The stream is a session: it is listed, and can be
// deleted, like any other.
func (c *call) events() error {
	if c.sources.Trace == nil || c.sources.Machine == nil {
		return missing("events")
	}
	points, err := c.eventChoice()
	if err != nil {
		return err
	}
	to := &eventStream{
		c: c, encoder: sink.NewEncoder(c.sources.Machine, nil),
		told: make(chan struct{}), gone: make(chan struct{}), closed: make(chan struct{}),
	}
	name, err := c.sources.Trace.Follow(eventsKind, points, to)
	switch {
	case errors.Is(err, stream.ErrTooManySession):
		return problemf(http.StatusConflict, "%v", err)
	case errors.Is(err, stream.ErrNotAdmitted):
		return problemf(http.StatusServiceUnavailable, "%v", err)
	case err != nil:
		return err
	}
	header(c.w)
	c.w.Header().Set("Content-Type", "application/x-ndjson")
	c.w.Header().Set("X-Session", name)
	c.w.WriteHeader(http.StatusOK)
	c.began = true
	err = http.NewResponseController(c.w).Flush() // who has the header misses nothing from here on
	close(to.told)
	if err == nil {
		select {
		case <-c.r.Context().Done():
		case <-c.sources.Stopping:
		case <-to.gone:
		case <-to.closed:
		}
	}
	return to.part(name)
}

// part ends the session of a stream. When it returns, nothing is written any more.
func (s *eventStream) part(name string) error {
	s.expect(partTime, true)
	ctx, done := context.WithTimeout(context.WithoutCancel(s.c.r.Context()), partTime)
	defer done()
	_, err := s.c.sources.Trace.DeleteSession(ctx, name)
	<-s.closed
	if errors.Is(err, stream.ErrNoSession) || errors.Is(err, stream.ErrSinkHangs) { // ended by somebody else; too slow for what waited
		return nil
	}
	return err
}

// eventStream is the sink of one stream.
type eventStream struct {
	c       *call
	encoder *sink.Encoder
	buf     []byte
	failed  bool
	mu      sync.Mutex
	parting bool          // the deadline for writing is the last; guarded by mu
	told    chan struct{} // closed when the client knows that the stream has begun
	gone    chan struct{} // closed when nothing can be written any more
	closed  chan struct{} // closed with the session
}

// Deliver writes a line for each event.
func (s *eventStream) Deliver(batch []event.Event, lost func(*event.Event, event.Loss)) {
	<-s.told
	for i := range batch {
		s.buf = append(s.buf, s.encoder.Line(&batch[i])...)
	}
	if s.write(); s.failed {
		for i := range batch {
			lost(&batch[i], event.LossPeer)
		}
	}
}

// Lost implements stream.Teller.
func (s *eventStream) Lost(n uint64) { s.buf = append(s.buf, s.encoder.Lost(n)...) }

// write sends what has been gathered.
func (s *eventStream) write() {
	if s.failed || len(s.buf) == 0 {
		return
	}
	s.expect(StallTime, false)
	_, err := s.c.w.Write(s.buf)
	if err == nil {
		err = http.NewResponseController(s.c.w).Flush()
	}
	if err != nil {
		s.failed = true
		close(s.gone)
	}
	s.buf = s.buf[:0]
}

// expect makes writing fail after some time; once the stream is at its end, that time
// is not prolonged.
func (s *eventStream) expect(within time.Duration, end bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if end || !s.parting {
		_ = http.NewResponseController(s.c.w).SetWriteDeadline(time.Now().Add(within)) // a recorder in a test has none
	}
	s.parting = s.parting || end
}

// Close tells the stream that its session is no more.
func (s *eventStream) Close() error {
	close(s.closed)
	return nil
}

// eventParams choose among events.
var eventParams = []string{"point", "container", "pid", "tree", "uid", "comm", "binary", "path", "argument", "rule"}

// eventChoice reads which events are wanted.
func (c *call) eventChoice() (points []stream.Point, err error) {
	var filter stream.Filter
	for _, p := range []struct {
		name string
		dst  *[]uint32
	}{{"pid", &filter.PIDs}, {"tree", &filter.Trees}, {"uid", &filter.UIDs}} {
		if *p.dst, err = c.numbers(p.name); err != nil {
			return nil, err
		}
	}
	filter.Binaries, filter.Names, filter.Paths, filter.Args, filter.Rules = c.several("binary"), c.several("comm"), c.several("path"), c.values[anyText], c.several("rule")
	if c.values.Has("container") {
		q, err := c.query()
		if err != nil {
			return nil, err
		}
		filter.Containers = []string{q.Container}
	}
	names := c.several("point")
	if len(names) == 0 {
		return stream.AllPoints(filter), nil
	}
	for _, name := range names {
		p, known := stream.FindPoint(name)
		if !known {
			return nil, problemf(http.StatusBadRequest, "parameter point is %s: GET /trace/metadata lists the points", quote(name))
		}
		p.Fields |= event.UsualFields
		p.Filter = filter
		points = append(points, p)
	}
	return points, nil
}

// several reads a parameter of several values.
func (c *call) several(name string) []string {
	if !c.values.Has(name) {
		return nil
	}
	return strings.Split(c.values.Get(name), ",")
}

func (c *call) numbers(name string) (all []uint32, err error) {
	for _, text := range c.several(name) {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, problemf(http.StatusBadRequest, "parameter %s is %s: write numbers, with commas between them", name, quote(text))
		}
		all = append(all, uint32(n))
	}
	return all, nil
}
