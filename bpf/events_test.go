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

func TestWakeupsAdapt(t *testing.T) {
	var threshold uint64
	w := newWakeups(8<<20, func(bytes uint64) error { threshold = bytes; return nil })
	now := time.Unix(1000, 0)
	w.drained(now, 1)
	for range 300 { // a thousand single-record wake-ups per second and more
		now = now.Add(time.Millisecond / 2)
		w.drained(now, 1)
	}
	if threshold != maxWakeupBytes {
		t.Fatalf("busy: threshold %d, want %d", threshold, maxWakeupBytes)
	}
	if wait := w.drained(now, 500); wait != pollBusy {
		t.Errorf("busy: waits %v, want %v", wait, pollBusy)
	}
	for range 60 {
		now = now.Add(pollBusy)
		w.drained(now, 0)
	}
	if threshold != 0 {
		t.Errorf("calm again: threshold %d, want 0", threshold)
	}
	if wait := w.drained(now, 0); wait != pollCalm {
		t.Errorf("calm again: waits %v, want %v", wait, pollCalm)
	}
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
