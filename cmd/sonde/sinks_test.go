package main

import (
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// Every kind of sink has the gate; what it leaves out does not reach a monitor either.
func TestEverySinkHasAGate(t *testing.T) {
	dir := t.TempDir()
	listener, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan *net.UnixConn, 1)
	go func() {
		if c, err := listener.AcceptUnix(); err == nil {
			_, _ = c.Write(wire.AppendHandshake(nil)) // the sink says if it was not good
			accepted <- c
		}
	}()
	own := map[string]map[string]any{
		"https": {"url": "https://localhost/"}, "jsonl": {"path": filepath.Join(dir, "events.json")}, "null": {}, "remote": {"endpoint": listener.Addr().String()},
	}
	m := &sinkMachine{model: &model{log: slog.New(slog.DiscardHandler), clock: new(sharedClock)}, dir: dir}
	exec := event.Event{Point: event.ProcessExec, Process: event.Process{PID: 7}}
	var editor event.Editor
	editor.Set(&exec, event.TextPath, []byte("/bin/tar"), false)
	editor.Set(&exec, event.TextArgs, []byte("tar\x00--password\x00"), false)
	for _, kind := range sinkKinds {
		config := own[kind]
		config["rate_limit"] = 60
		config["deny_list"] = []any{map[string]any{"pid": []any{8}}}
		config["field_filters"] = []any{map[string]any{"fields": "process.arguments", "action": "EXCLUDE"}}
		s, err := m.open(stream.SinkConfig{Name: kind, Config: config})
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		defer s.Close()
		denied := event.Event{Point: event.ProcessExit, Process: event.Process{PID: 8}}
		if c, ok := s.(stream.Chooser); !ok || c.RateLimit() != 60 || !c.Wants(&exec) || c.Wants(&denied) {
			t.Errorf("%s does not choose: %T", kind, s)
		}
		if kind == "remote" {
			s.Deliver([]event.Event{exec.Clone()}, func(*event.Event, event.Loss) { t.Error("lost") })
			if got := readStart(t, <-accepted); string(got.Execfn) != "/bin/tar" || len(got.Argv) > 0 {
				t.Errorf("the monitor is told of %s with %q", got.Execfn, got.Argv)
			}
		}
	}
}

// readStart reads the start of a program from a sink.
func readStart(t *testing.T, c *net.UnixConn) *wire.SentryExec {
	t.Helper()
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, wire.MaxMessage)
	if _, err := c.Read(b); err != nil { // the handshake
		t.Fatal(err)
	}
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	_, got, err := wire.NewDecoder().Decode(b[:n])
	if err != nil {
		t.Fatal(err)
	}
	return got.(*wire.SentryExec)
}
