package stream

import (
	"bytes"
	"testing"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Texts of any length come out as they went in, also where the ring of bytes begins
// anew, and no text is written over one that waits.
func TestQueueKeepsTexts(t *testing.T) {
	q := newQueue(8, 8192)
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

func TestQueueEdges(t *testing.T) {
	q := newQueue(QueueEvents, QueueTextBytes)
	fill := func(p event.Point) (n int, loss event.Loss) {
		for ev := (event.Event{Point: p}); ; n++ {
			if loss, ok := q.put(&ev, 0); !ok {
				return n, loss
			}
		}
	}
	if n, loss := fill(event.NetworkConnect); n != QueueEvents/4*3 || loss != event.LossShed {
		t.Errorf("usual events: %d, then %s", n, loss.Reason())
	}
	if n, loss := fill(event.ProcessExit); n != QueueEvents/4 || loss != event.LossFull {
		t.Errorf("vital events on top: %d, then %s", n, loss.Reason())
	}
}
