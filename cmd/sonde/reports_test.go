package main

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/state"
)

// Reports are made while they are wanted, from the beginning each time, and their
// counts go on.
func TestReportsWhileWanted(t *testing.T) {
	o := state.Defaults()
	o.Now = func() uint64 { return uint64(time.Hour) }
	o.Networking = state.Networking{ExternalIngress: true, ExternalEgress: true}
	store, err := state.New(o)
	if err != nil {
		t.Fatal(err)
	}
	peer := netip.MustParseAddr("203.0.113.9").As4()
	conn := event.Conn{Cookie: 1, Family: event.IPv4, Protocol: 6, LocalPort: 50000, RemotePort: 443}
	copy(conn.Remote[:], peer[:])
	store.Apply(&event.Event{Point: event.NetworkConnect, Process: event.Process{PID: 7, StartNS: 1}, Conn: conn})

	reports := make(chan event.Event, 16)
	r := &teller{
		store: store, now: o.Now, editor: new(event.Editor), changed: make(chan struct{}, 1),
		publish: func(ev *event.Event) { reports <- ev.Clone() },
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.run(ctx) })
	for n := range uint64(2) {
		r.want(true)
		select {
		case ev := <-reports:
			if c := ev.Conn; ev.Point != event.NetworkReport || c.Remote != conn.Remote || c.RemotePort != 443 || c.LocalPort != 0 || !ev.Report.Active || ev.Report.PeerBits != 32 {
				t.Errorf("reported %+v, %+v", c, ev.Report)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("no report within 30 s")
		}
		r.want(false)
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			r.mu.Lock()
			ended := r.reporter == nil
			r.mu.Unlock()
			if ended {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("rounds go on for 30 s")
			}
		}
		if s := r.Stats(); s.Active != n+1 {
			t.Errorf("round %d: %+v", n, s)
		}
	}
	cancel()
	running.Wait()
}
