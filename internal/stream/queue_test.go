package stream

import (
	"bytes"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Texts of any length come out as they went in, also where the ring of bytes begins
// anew, and no text is written over one that waits.
func TestQueueKeepsTexts(t *testing.T) {
	q := newQueue(QueueSize{Events: 8, TextBytes: 8192})
	var (
		editor       event.Editor
		ev           event.Event
		waiting      [][]byte
		put, refused int
	)
	for n := range 5000 {
		text := bytes.Repeat([]byte{'a' + byte(n%26)}, n*37%event.ArgsLen)
		ev.Reset()
		ev.Point = event.ProcessExec
		editor.Set(&ev, event.TextArgs, text, false)
		if loss, ok := q.put(&ev, 0); ok {
			waiting = append(waiting, text)
			put++
		} else if refused++; loss != event.LossFull || len(waiting) == 0 {
			t.Fatalf("event %d refused as %s with %d waiting", n, loss.Reason(), len(waiting))
		}
		if n%3 == 0 {
			continue
		}
		for _, got := range q.peek() {
			if !bytes.Equal(got.Text(event.TextArgs), waiting[0]) {
				t.Fatalf("event %d: got %d bytes of %.1q, want %d of %.1q", n, len(got.Data), got.Data, len(waiting[0]), waiting[0])
			}
			waiting = waiting[1:]
			q.take(1)
		}
	}
	if put == 0 || refused == 0 {
		t.Errorf("put %d, refused %d: the edge was not reached", put, refused)
	}
}

// queueEvents and shortEvents are those of a queue of the usual size, and of a short one.
const queueEvents, shortEvents = 4096, 1024

func TestQueueSizes(t *testing.T) {
	if n, short := DefaultQueue.Events, DefaultQueue.Short().Events; n != queueEvents || short != shortEvents {
		t.Errorf("%d and %d events, want %d and %d", n, short, queueEvents, shortEvents)
	}
	if got, want := (QueueSize{Events: 257, TextBytes: 1 << 16}).rounded(), (QueueSize{Events: 512, TextBytes: 1 << 16}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	for _, s := range []QueueSize{{Events: 256, TextBytes: 64 << 10}, DefaultQueue.Short()} { // the smallest there are
		q, ev := newQueue(s), event.Event{Point: event.ProcessExec}
		for n := range s.Events {
			if _, ok := q.put(&ev, 0); !ok {
				t.Fatalf("%v: %d events fit", s, n)
			}
		}
		if loss, ok := q.put(&ev, 0); ok || loss != event.LossFull {
			t.Errorf("%v: one more is let in", s)
		}
	}
}

func TestQueueEdges(t *testing.T) {
	q := newQueue(DefaultQueue)
	fill := func(p event.Point) (n int, loss event.Loss) {
		for ev := (event.Event{Point: p}); ; n++ {
			if loss, ok := q.put(&ev, 0); !ok {
				return n, loss
			}
		}
	}
	if n, loss := fill(event.NetworkConnect); n != queueEvents/4*3 || loss != event.LossShed {
		t.Errorf("usual events: %d, then %s", n, loss.Reason())
	}
	if n, loss := fill(event.ProcessExit); n != queueEvents/4 || loss != event.LossFull {
		t.Errorf("vital events on top: %d, then %s", n, loss.Reason())
	}
}
