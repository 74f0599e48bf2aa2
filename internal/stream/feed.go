package stream

import (
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

// Teller is a Sink that tells in its own stream what it did not get. Lost is called
// before a Deliver if its queue had no room for n events since the last time.
type Teller interface {
	Lost(n uint64)
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
	teller        Teller // the sink, if it is one
	told          uint64 // lost events of which the teller knows; of run
	pulse         Pulse
	queue         *queue
	wake          chan struct{}
	asleep        atomic.Bool
	ending        atomic.Bool // no more events come: empty the queue and end
	hurry         atomic.Bool // do not even deliver what is left
	done          chan struct{}
	closeErr      error // of the sink; valid once done

	books     *books
	matched   atomic.Uint64
	delivered atomic.Uint64
	dropped   [event.Losses]atomic.Uint64

	refused     [event.Losses]uint64        // of the batch under way; of run
	errors      [event.Losses]atomic.Uint64 // batches of which the sink gave up something
	lastSuccess atomic.Int64                // Unix nanoseconds
	failing     atomic.Bool                 // nothing of the last batch was delivered
}

// napTime is how long a feed that was busy looks again by itself, so that whoever
// publishes need not wake it for every event.
const napTime = time.Millisecond

func newFeed(session, name string, sink Sink, b *books) *feed {
	teller, _ := sink.(Teller)
	return &feed{
		session: session, name: name, sink: sink, teller: teller, pulse: noPulse{}, books: b,
		queue: newQueue(QueueEvents, QueueTextBytes), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// offer puts an event into the queue or counts it as lost. One goroutine at a time.
func (f *feed) offer(ev *event.Event, fields event.Fields) {
	f.matched.Add(1)
	if loss, ok := f.queue.put(ev, fields); !ok {
		f.lose(ev, loss)
		return
	}
	if f.asleep.Load() {
		f.rouse()
	}
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
		batch := f.queue.peek()
		switch {
		case len(batch) > 0:
			f.handOver(batch)
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
	if f.queue.len() == 0 && !f.ending.Load() {
		<-f.wake
	}
	f.asleep.Store(false)
}

func (f *feed) handOver(batch []event.Event) {
	if f.hurry.Load() {
		for i := range batch {
			f.lose(&batch[i], event.LossStopped)
		}
	} else {
		f.pulse.Beat()
		f.tell()
		began := time.Now()
		f.sink.Deliver(batch, f.refuse)
		f.pulse.Pause()
		f.books.delivered(batch, time.Since(began))
		f.settle(len(batch))
	}
	f.queue.take(len(batch))
}

// tell tells the sink how much its queue has lost.
func (f *feed) tell() {
	if f.teller == nil {
		return
	}
	if lost := f.dropped[event.LossFull].Load() + f.dropped[event.LossShed].Load(); lost > f.told {
		f.teller.Lost(lost - f.told)
		f.told = lost
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
	f.ending.Store(true)
	f.rouse()
	select {
	case <-f.done:
		return true
	case <-deadline:
	}
	f.hurry.Store(true)
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
	s := SinkStat{Session: f.session, Sink: f.name, Capacity: len(f.queue.slots), Delivered: f.delivered.Load(), Up: !f.failing.Load()}
	if ns := f.lastSuccess.Load(); ns != 0 {
		s.LastSuccess = time.Unix(0, ns)
	}
	for loss := range f.dropped {
		s.Dropped[loss] = f.dropped[loss].Load()
		s.Errors[loss] = f.errors[loss].Load()
	}
	s.Queued = f.queue.len()
	s.Matched = f.matched.Load()
	return s
}

// SinkStat is the ledger of one sink of one session: Matched is Delivered, what was
// dropped for each reason, and what is Queued or on its way.
type SinkStat struct {
	Session, Sink      string
	Matched, Delivered uint64
	Dropped            [event.Losses]uint64
	Queued, Capacity   int

	Up          bool                 // it delivered something of the last batch, or had none yet
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
