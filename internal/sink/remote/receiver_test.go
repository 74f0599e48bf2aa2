package remote

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor"
)

// TestOwnReceiver: what the sink sends, the sensor's own receiver understands, with
// nothing lost on the way but what the protocol cannot say.
func TestOwnReceiver(t *testing.T) {
	var (
		mu   sync.Mutex
		got  []event.Event
		boot = func() uint64 { return uint64(time.Now().UnixNano() - wallOffset()) }
	)
	receiver := gvisor.New(gvisor.Options{
		Endpoint: path(t), Logger: slog.New(slog.DiscardHandler), Proc: t.TempDir(), Editor: &event.Editor{}, Boot: boot,
		Publish: func(ev *event.Event) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, ev.Clone())
		},
	})
	if err := receiver.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- receiver.Run(ctx) }()
	s, err := Open(Options{Endpoint: receiver.Endpoint(), Retries: DefaultRetries, Backoff: DefaultBackoff, BackoffMax: DefaultBackoffMax})
	if err != nil {
		t.Fatal(err)
	}

	const rounds = 500 // more than a socket holds
	process := event.Process{PID: 7, TID: 7, PPID: 1, StartNS: boot(), Comm: [event.CommLen]byte{'l', 's'}}
	connect := event.Event{Point: event.NetworkConnect, Fields: event.AllFields, TimeNS: boot(), Process: process, Conn: event.Conn{
		Family: event.IPv6, RemotePort: 443, Remote: [16]byte{0: 0xfd, 15: 2},
	}}
	fork := event.Event{Point: event.ProcessFork, Fields: event.AllFields, TimeNS: boot(), Process: process, Child: event.Process{PID: 9, TID: 9, PPID: 7}}
	exit := event.Event{Point: event.ProcessExit, Fields: event.AllFields, TimeNS: boot(), Process: process, Exit: event.Exit{Signal: 9}}
	for range rounds {
		if lost := deliver(s, exec(), fork, connect, exit); len(lost) > 0 {
			t.Fatalf("losses %v", lost)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}

	if len(got) != 4*rounds {
		t.Fatalf("%d events of %d", len(got), 4*rounds)
	}
	if text := string(got[0].Text(event.TextArgs)); text != "ls\x00-l\x00\x00" || got[0].Exec.Credentials.GID != 100 || got[0].Exec.Inode != 99 {
		t.Errorf("exec %+v, arguments %q", got[0], text)
	}
	for i, sent := range []event.Event{fork, connect, exit} {
		back := got[1+i]
		if back.Source != event.SourceGVisor || time.Duration(back.TimeNS-sent.TimeNS).Abs() > time.Second ||
			time.Duration(back.Process.StartNS-sent.Process.StartNS).Abs() > time.Second { // the clock may be set meanwhile
			t.Errorf("%v: %+v", sent.Point, back)
		}
		// What is not said, or by another clock.
		back.Source, back.TimeNS, back.Process.StartNS = sent.Source, sent.TimeNS, sent.Process.StartNS
		back.Fields, back.Data, back.Child.Comm = sent.Fields, nil, sent.Child.Comm
		if diff := cmp.Diff(sent, back); diff != "" {
			t.Errorf("%v (-sent +received):\n%s", sent.Point, diff)
		}
	}
}
