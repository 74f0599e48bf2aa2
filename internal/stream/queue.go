package stream

import (
	"math/bits"
	"sync/atomic"
	"unsafe"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// QueueSize bounds one queue: events, and bytes of their texts, both rounded up to a
// power of two. Its memory is taken when a session is created. The texts of an event's
// Subject are shared with the picture of the node and with every other event of those
// processes; a queue keeps them while the event waits.
type QueueSize struct{ Events, TextBytes int }

// DefaultQueue is the size where none is given.
var DefaultQueue = QueueSize{Events: 4096, TextBytes: 1 << 20}

// Short is the size while memory is short.
func (s QueueSize) Short() QueueSize { return QueueSize{s.Events / 4, s.TextBytes / 4} }

// Bytes is the memory that a queue takes.
func (s QueueSize) Bytes() uint64 {
	return uint64(s.Events)*uint64(unsafe.Sizeof(event.Event{})+8) + uint64(s.TextBytes)
}

func (s QueueSize) rounded() QueueSize {
	up := func(n int) int { return 1 << bits.Len(uint(n-1)) }
	return QueueSize{up(s.Events), up(s.TextBytes)}
}

// maxBatch bounds what a sink gets at once.
const maxBatch = 256

// A queue is let in by less important points only up to a part of it, so that a
// flood of them leaves room for what matters: quarters of the queue, by class.
var quarters = [classes]uint64{2, 3, 4}

// queue is the ring of one feed: one goroutine puts events in, another takes them
// out. Events are copied into it, their texts into a ring of bytes beside it; it
// never allocates.
type queue struct {
	slots []event.Event // a power of two
	ends  []uint64      // of each slot: where the next text may begin
	text  []byte        // a power of two

	tail     atomic.Uint64 // events put in
	textTail uint64        // bytes given out; of the one who puts in
	head     atomic.Uint64 // events taken out
	textHead atomic.Uint64 // bytes given back

	// next is the queue in its place, if there is one: nothing is put in any more.
	next atomic.Pointer[queue]
}

func newQueue(s QueueSize) *queue {
	return &queue{slots: make([]event.Event, s.Events), ends: make([]uint64, s.Events), text: make([]byte, s.TextBytes)}
}

// put copies an event in. lost is why it could not.
func (q *queue) put(ev *event.Event, fields event.Fields) (lost event.Loss, ok bool) {
	tail, size := q.tail.Load(), uint64(len(q.slots))
	used := tail - q.head.Load()
	at, end := q.room(len(ev.Data))
	held := end - q.textHead.Load()
	switch share := quarters[classOf(ev.Point)]; {
	case used >= size || held > uint64(len(q.text)):
		return event.LossFull, false
	case used >= size/4*share || held > uint64(len(q.text))/4*share:
		return event.LossShed, false
	}
	i := tail & (size - 1)
	ev.CopyTo(&q.slots[i], q.text[at:][:len(ev.Data):len(ev.Data)])
	q.slots[i].Fields = fields
	q.ends[i] = end
	q.textTail = end
	q.tail.Store(tail + 1)
	return 0, true
}

// room says where n bytes in one piece would lie, and up to where that takes the ring.
func (q *queue) room(n int) (at int, end uint64) {
	size := uint64(len(q.text))
	begin := q.textTail
	if left := size - begin&(size-1); left < uint64(n) {
		begin += left
	}
	return int(begin & (size - 1)), begin + uint64(n)
}

// peek returns the oldest events, at most maxBatch, in one piece. They stay in the
// queue until take.
func (q *queue) peek() []event.Event {
	head, size := q.head.Load(), uint64(len(q.slots))
	i := head & (size - 1)
	n := min(q.tail.Load()-head, size-i, maxBatch)
	return q.slots[i : i+n]
}

// take gives the room of the n oldest events back.
func (q *queue) take(n int) {
	head := q.head.Load()
	for range n {
		q.slots[head&uint64(len(q.slots)-1)].Subject = event.Subject{}
		head++
	}
	q.textHead.Store(q.ends[(head-1)&uint64(len(q.slots)-1)])
	q.head.Store(head)
}

// roomy reports whether less than a quarter of the queue is in use. It is for whoever
// puts in.
func (q *queue) roomy() bool {
	return q.tail.Load()-q.head.Load() < uint64(len(q.slots))/4 && q.textTail-q.textHead.Load() < uint64(len(q.text))/4
}

// len returns how many events wait.
func (q *queue) len() int {
	head := q.head.Load() // first: it never passes the tail
	return int(q.tail.Load() - head)
}

// The classes of points, the least important first.
const (
	classBulk = iota
	classUsual
	classVital
	classes
)

// classOf says how important a point is when there is not room for all: how
// processes begin and end, and that memory ran out, is what everything else is
// understood by.
func classOf(p event.Point) int {
	switch p {
	case event.ProcessExec, event.ProcessFork, event.ProcessExit, event.OOMKill,
		event.ContainerStart, event.ContainerStop:
		return classVital
	case event.Syscall, event.ProcessMmap, event.FileOpen, event.SignalDeliver:
		return classBulk
	default:
		return classUsual
	}
}
