package bpf

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// ledgerOf returns one point's line.
func ledgerOf(tb testing.TB, k *Kernel, p event.Point) LedgerStat {
	tb.Helper()
	stats, err := k.Ledger()
	if err != nil {
		tb.Fatal(err)
	}
	return stats[p]
}

// drain reads the ring to its end and returns how many events of each point came.
func drain(tb testing.TB, e *Events) map[event.Point]uint64 {
	tb.Helper()
	if err := e.Flush(); err != nil {
		tb.Fatal(err)
	}
	got := map[event.Point]uint64{}
	var ev event.Event
	for {
		switch err := e.Next(&ev); {
		case errors.Is(err, io.EOF):
			return got
		case err != nil:
			tb.Fatal(err)
		}
		got[ev.Point]++
	}
}

func TestCanaryTravelsTheWholePath(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		if err := k.SetPoints(event.Canary); err != nil {
			t.Fatal(err)
		}
		e, err := NewEvents(k, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- k.RunCanary(ctx, 10*time.Millisecond, func(uint64) {}) }()
		var ev event.Event
		for want := uint64(1); want <= 3; want++ {
			if err := e.Next(&ev); err != nil {
				t.Fatal(err)
			}
			if ev.Point != event.Canary || ev.Seq != want || ev.Process.PID != k.Self().PID {
				t.Fatalf("got %v number %d of process %d, want canary number %d of process %d",
					ev.Point, ev.Seq, ev.Process.PID, want, k.Self().PID)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		k.Detach()
		left := drain(t, e)[event.Canary]
		l := ledgerOf(t, k, event.Canary)
		if want := (LedgerStat{Point: event.Canary, Attempted: 3 + left, Submitted: 3 + left}); l != want {
			t.Errorf("ledger: %s", cmp.Diff(want, l))
		}
	})
}

// A full ring loses events, never the knowledge of them.
func TestFullRingIsCounted(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		if err := k.SetPoints(event.Canary); err != nil {
			t.Fatal(err)
		}
		e, err := NewEvents(k, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		const enough = 20_000 // more than a ring of 1 MiB holds
		var sent uint64
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- k.RunCanary(ctx, time.Nanosecond, func(seq uint64) {
				sent = seq
				if seq >= enough {
					cancel()
				}
			})
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		k.Detach()
		full, err := e.Rings()
		if err != nil {
			t.Fatal(err)
		}
		read := drain(t, e)[event.Canary]
		l := ledgerOf(t, k, event.Canary)
		if l.Attempted != sent || l.Dropped == 0 || l.Submitted+l.Dropped != sent || read != l.Submitted {
			t.Errorf("sent %d, read %d, ledger %+v: does not add up or nothing was lost", sent, read, l)
		}
		if r := full[0]; r.PeakBytes < r.SizeBytes*9/10 || r.UsedBytes > r.SizeBytes {
			t.Errorf("full ring shows %+v", r)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for p := range event.Points {
		raw := make([]byte, 512)
		raw[8], raw[9] = 0, 2 // size 512
		raw[14] = byte(p)
		f.Add(raw)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		aligned := append(make([]byte, 0, len(raw)+8), raw...)
		var ev event.Event
		if decode(aligned, &ev, new(event.Editor)) && int(ev.Point) >= event.Points {
			t.Errorf("decoded unknown point %d", ev.Point)
		}
	})
}

// drains counts the looks at the ring that brought something.
type drains struct{ looks, records int }

func (d *drains) Drained(records int)              { d.looks, d.records = d.looks+1, d.records+records }
func (*drains) Decoded(event.Point, time.Duration) {}

// What comes shortly after a wake-up wakes nobody, and is found all the same without
// anything coming after it.
func TestEventsShareAWakeup(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		must(t, "set points", k.SetPoints(event.Canary))
		seen := new(drains)
		e, err := NewEvents(k, seen)
		must(t, "open events", err)
		defer e.Close()
		const bursts, size, pause = 10, 50, 10 * readAgain
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- k.RunCanary(ctx, time.Nanosecond, func(seq uint64) {
				if seq%size == 0 {
					time.Sleep(pause)
				}
				if seq > bursts*size {
					cancel()
				}
			})
		}()
		var ev event.Event
		quickest := readIdle
		for range bursts*size - 1 {
			must(t, "next", e.Next(&ev))
			if ev.Seq%size == size-1 { // the next one comes after a pause
				quickest = min(quickest, time.Duration(new(BootClock).Now()-ev.TimeNS))
			}
		}
		must(t, "canary", <-done)
		if seen.looks > seen.records/2 {
			t.Errorf("%d looks for %d events", seen.looks, seen.records)
		}
		if quickest >= pause {
			t.Errorf("the last event of a burst is read %v late at best: with the next burst", quickest)
		}
	})
}

// Of points that are not allowed nothing is even attempted, whichever are chosen
// meanwhile, and counters go on; afterwards the choice holds.
func TestAllow(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20})
	p := newProcesses(t, k, ProcessesOptions{})
	exits := func() uint64 {
		t.Helper()
		s, err := p.Read()
		must(t, "read", err)
		return s.ExitsZero
	}
	must(t, "allow forks", k.Allow(event.ProcessFork))
	must(t, "choose", k.SetPoints(event.ProcessExit, event.ProcessFork))
	before := exits()
	runAct(t, "exit", "0")
	if got := ledgerOf(t, k, event.ProcessExit); got.Attempted != 0 || exits() == before {
		t.Errorf("not allowed: ledger %+v, %d exits counted", got, exits()-before)
	}
	if got := ledgerOf(t, k, event.ProcessFork); got.Attempted == 0 {
		t.Errorf("allowed: ledger %+v", got)
	}
	must(t, "allow all", k.Allow(event.AllPoints()...))
	runAct(t, "exit", "0")
	if got := ledgerOf(t, k, event.ProcessExit); got.Attempted == 0 {
		t.Errorf("allowed again: ledger %+v", got)
	}
}
