package stream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Sink takes events to where they are wanted. Deliver is called by one goroutine,
// with at most 256 events, in their order; when it returns, each of them has been
// handed over, or was reported to lost, once. It may take its time: only the queue
// of this sink waits. The events are valid until it returns.
type Sink interface {
	Deliver(batch []event.Event, lost func(*event.Event, event.Loss))
	// Close is called last, by the same goroutine.
	Close() error
}

// Chooser is a Sink that does not get everything that its session wants. Its methods are
// called by the goroutine of Deliver.
type Chooser interface {
	// Wants reports whether the sink is to get an event. What it does not want is
	// filtered, and no loss.
	Wants(ev *event.Event) bool
	// RateLimit is how many events it may get in a minute, 0 for any number. What is
	// beyond that is lost as event.LossRate.
	RateLimit() uint64
}

// Teller is a Sink that tells in its own stream what it did not get. Lost is called
// before a Deliver if since the last time its queue had no room for n events, or they
// were more than its rate.
type Teller interface {
	Lost(n uint64)
}

// Patient is a Sink that may wait within Deliver for whoever is at its other end.
type Patient interface {
	// Waits comes before everything else: beat is to be called now and then while the sink
	// waits, by the goroutine of Deliver, and once late is closed it is to wait no longer.
	Waits(beat func(), late <-chan struct{})
	// Trouble says why nothing is taken now, "" while there is no reason. It may be called
	// by anyone.
	Trouble() string
}

// Pulse hears whether a sink is alive. It beats when a call of the sink begins and
// at every event that the call gives up, and pauses when the call has returned. End
// comes last, when the sink is closed.
type Pulse interface {
	Beat()
	Pause()
	End()
}

// noPulse is the pulse of a sink that nobody watches.
type noPulse struct{}

func (noPulse) Beat()  {}
func (noPulse) Pause() {}
func (noPulse) End()   {}

// feed is what leads from one session to one of its sinks: a queue, and the
// goroutine that empties it.
type feed struct {
	session, name string
	sink          Sink
	chooser       Chooser // the sink, if it is one
	rate          rate    // of run
	teller        Teller  // the sink, if it is one
	told          uint64  // lost events of which the teller knows; of run
	patient       Patient // the sink, if it is one
	pulse         Pulse
	in            *queue                // of the one who publishes
	out           atomic.Pointer[queue] // the oldest one that is not empty; run moves on
	wake          chan struct{}
	asleep        atomic.Bool
	ending        atomic.Bool   // no more events come: empty the queue and end
	late          chan struct{} // closed: do not even deliver what is left
	done          chan struct{}
	closeErr      error // of the sink; valid once done

	hold    func(container string) time.Duration // nil: nothing is held
	earlier sync.WaitGroup                       // whoever offers what was there before
	leaving chan struct{}                        // closed when that is to end

	books     *books
	matched   atomic.Uint64
	delivered atomic.Uint64
	filtered  atomic.Uint64
	dropped   [event.Losses]atomic.Uint64

	refused     [event.Losses]uint64        // of the batch under way; of run
	errors      [event.Losses]atomic.Uint64 // batches of which the sink gave up something
	lastSuccess atomic.Int64                // Unix nanoseconds
	failing     atomic.Bool                 // nothing of the last batch was delivered
}

// napTime is how long a feed that was busy looks again by itself, so that whoever
// publishes need not wake it for every event.
const napTime = time.Millisecond

func newFeed(session, name string, sink Sink, q *queue, b *books) *feed {
	f := &feed{
		session: session, name: name, sink: sink, pulse: noPulse{}, books: b,
		in: q, wake: make(chan struct{}, 1), late: make(chan struct{}), done: make(chan struct{}), leaving: make(chan struct{}),
	}
	f.out.Store(q)
	f.teller, _ = sink.(Teller)
	if f.patient, _ = sink.(Patient); f.patient != nil {
		f.patient.Waits(func() { f.pulse.Beat() }, f.late)
	}
	if f.chooser, _ = sink.(Chooser); f.chooser != nil {
		f.rate.limit = f.chooser.RateLimit()
	}
	return f
}

// offer puts an event into the queue or counts it as lost. One goroutine at a time.
func (f *feed) offer(ev *event.Event, fields event.Fields) {
	f.matched.Add(1)
	if loss, ok := f.in.put(ev, fields); !ok {
		f.lose(ev, loss)
		return
	}
	if f.asleep.Load() {
		f.rouse()
	}
}

// exchange makes q the queue that events are put in. What waits in the one before is
// handed over first. It is called by the one who publishes.
func (f *feed) exchange(q *queue) {
	f.in.next.Store(q)
	f.in = q
	f.rouse()
}

func (f *feed) rouse() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// refuse counts what the sink gives up of a batch.
func (f *feed) refuse(ev *event.Event, loss event.Loss) {
	f.pulse.Beat()
	f.refused[loss]++
	f.lose(ev, loss)
}

func (f *feed) lose(ev *event.Event, loss event.Loss) {
	f.dropped[loss].Add(1)
	f.books.lost[ev.Point][loss].Add(1)
}

// run hands events to the sink until the feed ends.
func (f *feed) run() {
	defer close(f.done)
	defer f.pulse.End()
	for {
		ending := f.ending.Load() // before looking: what was put in until then is seen
		out := f.out.Load()
		next := out.next.Load() // likewise
		batch := out.peek()
		switch {
		case len(batch) > 0:
			if n := f.ripe(batch); n > 0 {
				f.handOver(batch[:n])
				out.take(n)
			}
		case next != nil:
			f.out.Store(next)
		case ending:
			f.pulse.Beat()
			f.closeErr = f.sink.Close()
			return
		default:
			f.rest()
		}
	}
}

// rest waits for an event: a nap first, then until it is woken.
func (f *feed) rest() {
	time.Sleep(napTime)
	f.asleep.Store(true)
	if out := f.out.Load(); out.len() == 0 && out.next.Load() == nil && !f.ending.Load() {
		<-f.wake
	}
	f.asleep.Store(false)
}

// holdStep is how often a feed looks whether it must still hold an event.
const holdStep = 10 * time.Millisecond

// ripe returns how many events may be handed over, from the first on. If the first one
// is to be held, for more to be known of its container, it waits a moment. Events keep
// their order: what follows one that is held waits too. At its end a feed holds nothing.
func (f *feed) ripe(batch []event.Event) int {
	if f.hold == nil || f.ending.Load() {
		return len(batch)
	}
	known := "" // the container of the event before
	for i := range batch {
		container := batch[i].Container()
		if container == known {
			continue
		}
		if container != "" {
			if left := f.hold(container); left > 0 {
				if i == 0 {
					f.linger(min(left, holdStep))
				}
				return i
			}
		}
		known = container
	}
	return len(batch)
}

// linger waits, but not into the end of the feed.
func (f *feed) linger(d time.Duration) {
	select {
	case <-f.wake:
	case <-time.After(d):
	}
}

func (f *feed) handOver(batch []event.Event) {
	select {
	case <-f.late:
		for i := range batch {
			f.lose(&batch[i], event.LossStopped)
		}
		return
	default:
	}
	f.pulse.Beat()
	missing := f.missing()
	if chosen := f.choose(batch); len(chosen) > 0 {
		f.tell(missing)
		f.deliver(chosen)
	}
	f.pulse.Pause()
}

// choose returns those events of a batch that the sink is to get, in their order, and
// enters what becomes of the others.
func (f *feed) choose(batch []event.Event) []event.Event {
	if f.chooser == nil {
		return batch
	}
	f.rate.turn(time.Now())
	kept := 0
	for i := range batch {
		switch ev := &batch[i]; {
		case !f.chooser.Wants(ev):
			f.filtered.Add(1)
		case !f.rate.allow():
			f.lose(ev, event.LossRate)
		default:
			if kept != i {
				batch[kept] = *ev // its texts stay where they are
			}
			kept++
		}
	}
	return batch[:kept]
}

func (f *feed) deliver(batch []event.Event) {
	began := time.Now()
	f.sink.Deliver(batch, f.refuse)
	f.books.delivered(batch, time.Since(began))
	f.settle(len(batch))
}

// missing is how many events the sink should have got and was never offered.
func (f *feed) missing() (n uint64) {
	for _, loss := range [...]event.Loss{event.LossFull, event.LossShed, event.LossRate} {
		n += f.dropped[loss].Load()
	}
	return n
}

// tell tells the sink how many are missing in all.
func (f *feed) tell(missing uint64) {
	if f.teller != nil && missing > f.told {
		f.teller.Lost(missing - f.told)
		f.told = missing
	}
}

// settle enters the outcome of a batch of n events.
func (f *feed) settle(n int) {
	delivered := uint64(n)
	for loss, refused := range f.refused {
		if refused > 0 {
			delivered -= refused
			f.errors[loss].Add(1)
		}
	}
	f.refused = [event.Losses]uint64{}
	f.delivered.Add(delivered)
	f.failing.Store(delivered == 0)
	if delivered > 0 {
		f.lastSuccess.Store(time.Now().UnixNano())
	}
}

// end makes the feed empty its queue and close its sink, until the deadline; what is
// left then is lost. It reports whether the sink has come to its end: one that hangs
// is left behind, and ends when its last call returns.
func (f *feed) end(deadline <-chan struct{}) bool {
	close(f.leaving)
	f.earlier.Wait()
	f.ending.Store(true)
	f.rouse()
	select {
	case <-f.done:
		return true
	case <-deadline:
	}
	close(f.late)
	select {
	case <-f.done:
		return true
	case <-time.After(graceTime):
		return false
	}
}

// graceTime is for a sink to return from a call when its time is up. None of ours waits
// as long for who is at its other end.
const graceTime = 3 * time.Second

// stat reads the ledger; outcomes first, so that a snapshot of a busy feed never
// shows more of them than events.
func (f *feed) stat() SinkStat {
	s := SinkStat{
		Session: f.session, Sink: f.name, Up: !f.failing.Load(),
		Delivered: f.delivered.Load(), Filtered: f.filtered.Load(),
	}
	if f.patient != nil {
		s.Trouble = f.patient.Trouble()
		s.Up = s.Up && s.Trouble == ""
	}
	if ns := f.lastSuccess.Load(); ns != 0 {
		s.LastSuccess = time.Unix(0, ns)
	}
	for loss := range f.dropped {
		s.Dropped[loss] = f.dropped[loss].Load()
		s.Errors[loss] = f.errors[loss].Load()
	}
	for q := f.out.Load(); q != nil; q = q.next.Load() {
		s.Queued += q.len()
		s.Capacity = len(q.slots) // that of the last
	}
	s.Matched = f.matched.Load()
	return s
}

// SinkStat is the ledger of one sink of one session: Matched is Delivered, what a filter
// of the sink did not let pass, what was dropped for each reason, and what is Queued or on
// its way.
type SinkStat struct {
	Session, Sink      string
	Matched, Delivered uint64
	Filtered           uint64
	Dropped            [event.Losses]uint64
	Queued, Capacity   int

	Up          bool                 // it delivered something of the last batch, or had none yet, and has no trouble
	Trouble     string               // why nothing is taken now, where the sink knows
	LastSuccess time.Time            // zero before the first
	Errors      [event.Losses]uint64 // batches of which the sink gave up something, by why
}

// Lost returns all that was dropped.
func (s *SinkStat) Lost() (n uint64) {
	for _, d := range s.Dropped {
		n += d
	}
	return n
}
