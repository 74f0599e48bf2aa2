package stream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// ManagerOptions say what a Manager works with.
type ManagerOptions struct {
	Queue QueueSize // of each sink of a session; the zero value is DefaultQueue
	// Open opens a sink. It is called by whoever creates a session, and may take long.
	Open func(SinkConfig) (Sink, error)
	// Enable makes the kernel send the events that any session wants. It is called when
	// that changes, one call at a time.
	Enable func(Wanted) error
	// Below reports whether the process of an event, or one above it as far as they are
	// known, has one of some pids. It is called by whoever publishes, and must be quick.
	Below func(ev *event.Event, pids []uint32) bool
	// Mark is called for every event before anybody sees it; nil for nothing. It is
	// called concurrently, and must be quick.
	Mark func(*event.Event)
	// Now returns nanoseconds of CLOCK_BOOTTIME. It is called concurrently.
	Now func() uint64
	// Admit is asked before a session takes memory, how much of it at once: its error
	// refuses the session. Nil admits all.
	Admit func(bytes uint64) error
	// Hold returns how long a sink's feed may still hold the events of a container, 0 for
	// not at all; nil for never. It is called for each by the feeds, and must be quick.
	Hold func(container string) time.Duration
	// Earlier yields an exec event for each process that was there before the sensor,
	// once these are known, until yield returns false or stop is closed; nil for nothing.
	// It may wait.
	Earlier func(stop <-chan struct{}, yield func(*event.Event) bool)
	// Pulse returns the heartbeat of a sink that Open has opened; nil for none.
	Pulse func(session, sink string) Pulse
}

// Manager holds the sessions and passes events on to them. Its methods may be called
// concurrently. Creating and deleting never stops the event path.
type Manager struct {
	o     ManagerOptions
	books *books

	change   sync.Mutex // one change at a time
	sessions []*running // guarded by change
	shown    atomic.Pointer[[]*running]
	short    atomic.Bool // memory is short

	publish sync.Mutex // held for one event, and to exchange the table
	table   atomic.Pointer[table]
	count   uint64 // events published; guarded by publish
}

// running is a session that exists.
type running struct {
	session *Session
	created time.Time
	feeds   []*feed
}

// Wanted is what all sessions together want.
type Wanted struct {
	Points []event.Point // in their order
	Calls  event.WantedCalls
	// Limits are the points of which nobody wants other processes than these.
	Limits map[event.Point]event.Limit
	// Environments says that execs shall tell the environment of the new program.
	Environments bool
	// Digests says that execs shall tell the digest of the executed file.
	Digests bool
	// Ancestors says that events shall tell whom their process descends from.
	Ancestors bool
}

// table says by point who wants an event. It never changes.
type table struct {
	want  [event.Points][]want
	calls map[event.CallPoint][]want // by what is never Raw: those of want[event.Syscall], again
}

// of returns who may want the event.
func (t *table) of(ev *event.Event) []want {
	if ev.Point == event.Syscall {
		return t.calls[event.CallPoint{Number: ev.Call.Number, Exit: ev.Call.Exit}]
	}
	return t.want[ev.Point]
}

// add adds what a session wants of one point.
func (t *table) add(p *Point, w want) {
	if p.Point == event.Syscall {
		if t.calls == nil {
			t.calls = map[event.CallPoint][]want{}
		}
		at := event.CallPoint{Number: p.Call.Number, Exit: p.Call.Exit}
		t.calls[at] = append(t.calls[at], w)
	}
	t.want[p.Point] = append(t.want[p.Point], w)
}

// want is one point of one session.
type want struct {
	fields event.Fields
	filter *Filter
	feeds  []*feed
}

// Sentinels of Create and Delete.
var (
	ErrSessionExists  = errors.New("session exists")
	ErrNoSession      = errors.New("no such session")
	ErrTooManySession = errors.New("too many sessions")
	ErrSinkHangs      = errors.New("sink does not return")
	ErrNotAdmitted    = errors.New("no memory for another session")
)

// NewManager returns a Manager without sessions.
func NewManager(o ManagerOptions) *Manager {
	if o.Queue == (QueueSize{}) {
		o.Queue = DefaultQueue
	}
	o.Queue = o.Queue.rounded()
	m := &Manager{o: o, books: newBooks(o.Now)}
	m.table.Store(&table{})
	m.shown.Store(&[]*running{})
	return m
}

// Publish offers an event to every session. It copies what it passes on, waits for
// nobody and does not allocate.
func (m *Manager) Publish(ev *event.Event) {
	if m.o.Mark != nil {
		m.o.Mark(ev)
	}
	if len(m.table.Load().want[ev.Point]) == 0 {
		return
	}
	m.publish.Lock()
	defer m.publish.Unlock()
	if m.count++; m.count%sampleEvery != 0 {
		m.match(ev)
		return
	}
	began := time.Now()
	m.match(ev)
	m.books.match[ev.Point].ObserveDuration(time.Since(began))
}

func (m *Manager) match(ev *event.Event) {
	wants := m.table.Load().of(ev)
	for i := range wants {
		w := &wants[i]
		if !w.filter.wants(ev, m.o.Below) {
			continue
		}
		for _, f := range w.feeds {
			f.offer(ev, w.fields)
		}
	}
}

// Create opens the sinks of a session and lets it begin. Either all of it exists
// afterwards, or nothing. skipped are the sinks that could not be opened and were
// not insisted on. A session that wants execs is told of those from before the sensor,
// too.
func (m *Manager) Create(s *Session) (skipped error, err error) {
	return m.create(s, m.o.Open, true)
}

// CreateFor is Create for a session whose one sink is there already, such as a client
// that has asked for events: for what happens from now on. The sink is closed with the
// session. It has no heartbeat: a client that does not read is not the sensor's fault.
func (m *Manager) CreateFor(s *Session, to Sink) error {
	_, err := m.create(s, func(SinkConfig) (Sink, error) { return to, nil }, false)
	return err
}

// CreateNext is CreateFor for a client of which there may be several: its session is
// called kind-1 to kind-16, by the lowest number that is free, so that there are never
// more names than sessions.
func (m *Manager) CreateNext(kind string, points []Point, to Sink) (name string, err error) {
	for n := 1; n <= MaxSessions; n++ {
		name = fmt.Sprintf("%s-%d", kind, n)
		err = m.CreateFor(&Session{Name: name, Points: points, Sinks: []SinkConfig{{Name: kind}}}, to)
		if !errors.Is(err, ErrSessionExists) {
			break
		}
	}
	return name, err
}

// Refresh calls Enable again, as somebody else now wants other events.
func (m *Manager) Refresh() error {
	m.change.Lock()
	defer m.change.Unlock()
	return m.o.Enable(wantedBy(m.sessions))
}

// create creates a session; lasting is whether it is not a client's.
func (m *Manager) create(s *Session, open func(SinkConfig) (Sink, error), lasting bool) (skipped error, err error) {
	m.change.Lock()
	defer m.change.Unlock()
	if err := m.creatable(s); err != nil {
		return nil, fmt.Errorf("create session %s: %w", s.Name, err)
	}
	r := &running{session: s, created: time.Now()}
	if skipped, err = r.open(open, m.queueSize, m.books); err != nil {
		return nil, errors.Join(fmt.Errorf("create session %s: %w", s.Name, err), r.closeSinks())
	}
	next := append(slices.Clone(m.sessions), r)
	if err := m.o.Enable(wantedBy(next)); err != nil {
		return nil, errors.Join(fmt.Errorf("create session %s: %w", s.Name, err), m.o.Enable(wantedBy(m.sessions)), r.closeSinks())
	}
	for _, f := range r.feeds {
		if lasting && m.o.Pulse != nil {
			f.pulse = m.o.Pulse(f.session, f.name)
		}
		f.hold = m.o.Hold
		go f.run()
	}
	m.exchange(next)
	m.fit(r) // it may have become short while sinks were opened
	if lasting && m.o.Earlier != nil {
		m.tellEarlier(r)
	}
	return skipped, nil
}

func (m *Manager) creatable(s *Session) error {
	switch {
	case slices.ContainsFunc(m.sessions, func(r *running) bool { return r.session.Name == s.Name }):
		return ErrSessionExists
	case len(m.sessions) >= MaxSessions:
		return fmt.Errorf("%w: %d", ErrTooManySession, MaxSessions)
	}
	if err := s.validate(); err != nil {
		return err
	}
	if m.o.Admit != nil {
		if err := m.o.Admit(uint64(len(s.Sinks)) * m.o.Queue.Bytes()); err != nil {
			return fmt.Errorf("%w: %w", ErrNotAdmitted, err)
		}
	}
	return nil
}

// queueSize is the size that is right now.
func (m *Manager) queueSize() QueueSize {
	if m.short.Load() {
		return m.o.Queue.Short()
	}
	return m.o.Queue
}

// Shorten makes the queues of all sessions short, those to come included, or gives them
// their size back. What waits in them is handed over; its memory is free then. It does
// not wait for a session that is being created.
func (m *Manager) Shorten(short bool) {
	m.short.Store(short)
	for _, r := range *m.shown.Load() {
		m.fit(r)
	}
}

// fit gives the queues of a session the size that is right now.
func (m *Manager) fit(r *running) {
	for _, f := range r.feeds {
		for size := m.queueSize(); !m.fits(f, size); size = m.queueSize() {
			q := newQueue(size)
			m.publish.Lock()
			f.exchange(q)
			m.publish.Unlock()
		}
	}
}

func (m *Manager) fits(f *feed, size QueueSize) bool {
	m.publish.Lock()
	defer m.publish.Unlock()
	return len(f.in.slots) == size.Events && len(f.in.text) == size.TextBytes
}

func (r *running) open(open func(SinkConfig) (Sink, error), size func() QueueSize, b *books) (skipped, err error) {
	for _, c := range r.session.Sinks {
		sink, err := open(c)
		switch {
		case err == nil:
			r.feeds = append(r.feeds, newFeed(r.session.Name, uniqueName(c.Name, r.feeds), sink, newQueue(size()), b))
		case c.IgnoreSetupError:
			skipped = errors.Join(skipped, fmt.Errorf("open sink %s: %w", c.Name, err))
		default:
			return nil, fmt.Errorf("open sink %s: %w", c.Name, err)
		}
	}
	return skipped, nil
}

// uniqueName tells two sinks of one kind in one session apart: jsonl, jsonl-2.
func uniqueName(kind string, others []*feed) string {
	n := 1
	for _, f := range others {
		if f.name == kind || len(f.name) > len(kind) && f.name[:len(kind)+1] == kind+"-" {
			n++
		}
	}
	if n == 1 {
		return kind
	}
	return fmt.Sprintf("%s-%d", kind, n)
}

// closeSinks closes the sinks of a session that never began.
func (r *running) closeSinks() error {
	var errs []error
	for _, f := range r.feeds {
		errs = append(errs, f.sink.Close())
	}
	return errors.Join(errs...)
}

// exchange puts other sessions in place of the present ones. When it returns, nobody
// passes an event on to one that is gone.
func (m *Manager) exchange(next []*running) {
	t := &table{}
	for _, r := range next {
		for i := range r.session.Points {
			p := &r.session.Points[i]
			t.add(p, want{p.Fields, &p.Filter, r.feeds})
		}
	}
	m.sessions = next
	m.publish.Lock()
	m.table.Store(t)
	m.publish.Unlock()
	m.shown.Store(&next)
}

// wantedBy returns what the sessions want, together.
func wantedBy(sessions []*running) (w Wanted) {
	w.Limits = limitsOf(sessions)
	for _, r := range sessions {
		for _, p := range r.session.Points {
			w.Points = append(w.Points, p.Point)
			w.Ancestors = w.Ancestors || p.Fields&event.FieldAncestors != 0
			if p.Point == event.Syscall {
				w.Calls.Add(p.Call, p.Fields)
			}
			if p.Point == event.ProcessExec {
				w.Environments = w.Environments || p.Fields&event.FieldEnvironment != 0
				w.Digests = w.Digests || p.Fields&event.FieldDigest != 0
			}
		}
	}
	slices.Sort(w.Points)
	w.Points = slices.Compact(w.Points)
	return w
}

// limitsOf returns the limits of the points that every session limits. Of several lists
// of one filter any will do, since what gets through is filtered whole.
func limitsOf(sessions []*running) map[event.Point]event.Limit {
	limits, whole := map[event.Point]event.Limit{}, map[event.Point]bool{}
	for _, r := range sessions {
		for i := range r.session.Points {
			p := &r.session.Points[i]
			l, f := limits[p.Point], &p.Filter
			switch {
			case len(f.PIDs) > 0:
				l.PIDs = append(l.PIDs, f.PIDs...)
			case len(f.Cgroups) > 0:
				l.Cgroups = append(l.Cgroups, f.Cgroups...)
			case len(f.UIDs) > 0:
				l.UIDs = append(l.UIDs, f.UIDs...)
			default:
				whole[p.Point] = true
			}
			limits[p.Point] = l
		}
	}
	maps.DeleteFunc(limits, func(p event.Point, _ event.Limit) bool { return whole[p] })
	return limits
}

// Delete ends a session: no more events go to it, what waits is delivered until ctx
// ends, then lost. It returns the session's last ledger, which adds up unless a sink
// hangs: one that does not return even then is left behind, and named by an error
// that is ErrSinkHangs.
func (m *Manager) Delete(ctx context.Context, name string) (SessionStat, error) {
	m.change.Lock()
	i := slices.IndexFunc(m.sessions, func(r *running) bool { return r.session.Name == name })
	if i < 0 {
		m.change.Unlock()
		return SessionStat{}, fmt.Errorf("delete session %s: %w", name, ErrNoSession)
	}
	gone := m.sessions[i]
	next := slices.Delete(slices.Clone(m.sessions), i, i+1)
	m.exchange(next)
	enableErr := m.o.Enable(wantedBy(next))
	m.change.Unlock()
	err := cmp.Or(gone.end(ctx), enableErr)
	if err != nil {
		err = fmt.Errorf("delete session %s: %w", name, err)
	}
	return gone.stat(), err
}

// Close ends all sessions as Delete does.
func (m *Manager) Close(ctx context.Context) error {
	m.change.Lock()
	gone := m.sessions
	m.exchange(nil)
	m.change.Unlock()
	var (
		wait sync.WaitGroup
		errs = make([]error, len(gone))
	)
	for i, r := range gone {
		wait.Go(func() {
			if err := r.end(ctx); err != nil {
				errs[i] = fmt.Errorf("end session %s: %w", r.session.Name, err)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (r *running) end(ctx context.Context) error {
	var (
		wait sync.WaitGroup
		errs = make([]error, len(r.feeds))
	)
	for i, f := range r.feeds {
		wait.Go(func() {
			if !f.end(ctx.Done()) {
				errs[i] = fmt.Errorf("sink %s: %w", f.name, ErrSinkHangs)
			} else if f.closeErr != nil {
				errs[i] = fmt.Errorf("sink %s: %w", f.name, f.closeErr)
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

// SessionStat describes one session.
type SessionStat struct {
	Name    string
	Created time.Time
	Points  []Point
	Sinks   []SinkStat
}

// Sessions describes every session, in the order of their creation.
func (m *Manager) Sessions() []SessionStat {
	all := []SessionStat{}
	for _, r := range *m.shown.Load() {
		all = append(all, r.stat())
	}
	return all
}

func (r *running) stat() SessionStat {
	s := SessionStat{Name: r.session.Name, Created: r.created, Points: r.session.Points}
	for _, f := range r.feeds {
		s.Sinks = append(s.Sinks, f.stat())
	}
	return s
}

// Lost returns how many events of each point were lost between match and delivery,
// those of sessions that are gone included.
func (m *Manager) Lost() (n [event.Points][event.Losses]uint64) {
	for p := range n {
		for loss := range n[p] {
			n[p][loss] = m.books.lost[p][loss].Load()
		}
	}
	return n
}

// SinkDelay returns how old events were, by the kernel's clock, when a sink had them.
func (m *Manager) SinkDelay() metric.Buckets { return m.books.delay.Buckets() }

// Steps yields the time that each step took, by point; of the timed share of events.
func (m *Manager) Steps(yield func(point event.Point, step string, took metric.Buckets)) {
	for i := range event.Points {
		if point := event.Point(i); point != event.Canary {
			yield(point, "match", m.books.match[i].Buckets())
			yield(point, "sink", m.books.sink[i].Buckets())
		}
	}
}
