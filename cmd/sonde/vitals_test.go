package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sonde-ebpf/sonde/exporter"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// feed is a ring that a test fills; a canary is told to its books before it goes in.
type feed struct {
	events chan event.Event
	read   func()
}

func (f feed) Next(ev *event.Event) error {
	next, ok := <-f.events
	if !ok {
		return io.EOF
	}
	*ev = next
	f.read()
	return nil
}

type noClock struct{}

func (noClock) Now() uint64 { return 0 }

// TestStuckEventPath stalls the event path at either end: a reader that hangs in the
// handling of an event, and canaries that do not come any more while others do.
func TestStuckEventPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, stall := newVitals(), make(chan struct{})
		canary := stream.NewCanary(canaryLost)
		p := stream.NewPipeline("events", noClock{}, canary, func(ev *event.Event) {
			if ev.Point == event.ProcessExit {
				<-stall
			}
		})
		ring := feed{make(chan event.Event, 100), func() { p.Drained(1) }}
		if got := v.eventPath(); len(got) != 0 {
			t.Errorf("before the start: %v", got)
		}
		v.watch(p, canary)
		go func() { _ = p.Run(ring) }()
		seq := uint64(0)
		live := func(point event.Point, d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				seq++
				if point == event.Canary {
					canary.Sent(seq)
				}
				ring.events <- event.Event{Point: point, Seq: seq}
			}
		}
		want := func(when string, parts ...string) {
			t.Helper()
			var got []string
			for _, s := range v.eventPath() {
				got = append(got, s.Part)
			}
			if !slices.Equal(got, parts) {
				t.Errorf("%s: stuck %v, want %v", when, got, parts)
			}
		}
		live(event.Canary, 2*canaryDeadline)
		want("canaries come")
		live(event.ProcessExec, canaryDeadline-time.Second)
		want("at the deadline of the canary")
		live(event.ProcessExec, 3*time.Second)
		want("canaries do not come", "canary")
		live(event.Canary, 2*time.Second)
		want("they come again")
		ring.events <- event.Event{Point: event.ProcessExit}
		time.Sleep(readerDeadline + time.Second)
		want("the reader hangs", "event ring reader")
		time.Sleep(canaryDeadline)
		want("the reader hangs, and so nothing arrives", "event ring reader", "canary")
		v.rest()
		want("ended")
		close(stall)
		close(ring.events)
	})
}

// A sink that hangs in a call is named; one that has nothing to do, or is no more, is not.
func TestStuckSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVitals()
		named := func() (names []string) {
			for _, s := range v.Stuck(time.Now()) {
				names = append(names, s.Part)
			}
			return names
		}
		idle, hangs := v.sink("a", "null"), v.sink("a", "jsonl")
		idle.Beat()
		idle.Pause()
		hangs.Beat()
		time.Sleep(sinkDeadline)
		if got := named(); got != nil {
			t.Errorf("at the deadline: %v", got)
		}
		time.Sleep(time.Second)
		if got := named(); !slices.Equal(got, []string{"sink jsonl of session a"}) || len(v.eventPath()) != 0 {
			t.Errorf("stuck: %v, of the event path %v", got, v.eventPath())
		}
		hangs.End()
		if got := named(); got != nil {
			t.Errorf("ended: %v", got)
		}
	})
}

// TestWatchdog: systemd is told of life while there is some.
func TestWatchdog(t *testing.T) {
	name := fmt.Sprintf("@sonde-watchdog-%d", os.Getpid())
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_PID", fmt.Sprint(os.Getpid()))
	t.Setenv("WATCHDOG_USEC", "20000")
	fed := func(wait time.Duration) bool {
		t.Helper()
		buf := make([]byte, 64)
		if err := socket.SetReadDeadline(time.Now().Add(wait)); err != nil {
			t.Fatal(err)
		}
		n, err := socket.Read(buf)
		if err == nil && string(buf[:n]) != "WATCHDOG=1" {
			t.Errorf("told %q", buf[:n])
		}
		return err == nil
	}
	asked, stuck := make(chan struct{}), make(chan bool)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- supervisor{slog.New(slog.DiscardHandler), ""}.watchdog(ctx, func() []exporter.Stuck {
			asked <- struct{}{}
			if <-stuck {
				return []exporter.Stuck{{Part: "canary"}}
			}
			return nil
		})
	}()
	for _, is := range []bool{false, false, true, true, false} {
		<-asked
		stuck <- is
		if is {
			continue // nothing is sent: the next answer finds the socket empty
		}
		if !fed(30 * time.Second) {
			t.Fatal("alive and not fed")
		}
	}
	<-asked // the answers before are through
	cancel()
	stuck <- true
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if fed(time.Millisecond) {
		t.Error("fed once more than alive")
	}
}
