package tetragon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/sink"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// node is a machine with one container.
type node struct{}

func (node) Boot() time.Time { return time.Unix(1e9, 0) }
func (node) Node() string    { return "node-1" }

func (node) Container(id string) sink.Container {
	return sink.Container{ID: id, Name: "web", Pod: "web-1", Namespace: "shop"}
}

// shell is pid 10, the one process that is known.
var shell = event.Subject{Process: event.Actor{ExecID: event.ExecID{PID: 10, ExecNS: 5}, Exe: "/bin/sh", Args: "sh\x00-c\x00", Cwd: "/", Container: "c1"}}

// served is a server with its client.
type served struct {
	api.FineGuidanceSensorsClient

	manager *stream.Manager
	levels  *logging.Levels
	address string
	unwell  []string
	stop    func() error // idempotent
}

func serve(t *testing.T) *served {
	t.Helper()
	s := &served{levels: logging.NewLevels(logging.Spec{}), address: "unix://" + filepath.Join(t.TempDir(), "s")}
	s.manager = stream.NewManager(stream.ManagerOptions{
		Enable: func(stream.Wanted) error { return nil },
		Now:    func() uint64 { return 0 },
	})
	server := New(Options{Logger: slog.New(slog.DiscardHandler), Address: s.address, Version: "1.2.3", Revision: "abc"})
	if err := server.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- server.Serve(ctx, Sources{
			Sessions: s.manager, Machine: node{}, Levels: s.levels, Unwell: func() []string { return s.unwell },
			Probes:   func() []Probe { return []Probe{{"tcp", true}, {"udp", false}} },
			Settings: func() []Setting { return []Setting{{"node.name", "node-1"}} },
		})
		close(ended)
	}()
	s.stop = func() error { cancel(); return <-ended }
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	s.FineGuidanceSensorsClient = api.NewFineGuidanceSensorsClient(dial(t, s.address))
	return s
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStaticStreamWindowSize(64<<10), grpc.WithStaticConnWindowSize(16<<20)) // so that a stream that is not read is full soon
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// events begins a stream; nothing is missed once it returns.
func (s *served) events(t *testing.T, r *api.GetEventsRequest) grpc.ServerStreamingClient[api.GetEventsResponse] {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	in, err := s.GetEvents(ctx, r)
	if err == nil {
		_, err = in.Header()
	}
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func receive(t *testing.T, in grpc.ServerStreamingClient[api.GetEventsResponse]) *api.GetEventsResponse {
	t.Helper()
	r, err := in.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (s *served) publish(point event.Point, pid uint32) {
	ev := event.Event{Point: point, Process: event.Process{PID: pid, TID: pid}}
	if pid == shell.Process.PID {
		ev.Subject = shell
	}
	s.manager.Publish(&ev)
}

// Every client gets what it has chosen, and nothing else.
func TestStreams(t *testing.T) {
	s := serve(t)
	only := func(f *api.Filter) *api.GetEventsRequest { return &api.GetEventsRequest{AllowList: []*api.Filter{f}} }
	all := s.events(t, only(&api.Filter{}))
	exits := s.events(t, only(&api.Filter{EventSet: []api.EventType{api.EventType_PROCESS_EXIT}}))
	denied := s.events(t, &api.GetEventsRequest{DenyList: []*api.Filter{{Pid: []uint32{10}}}})
	parts := s.events(t, &api.GetEventsRequest{FieldFilters: []*api.FieldFilter{{Fields: &fieldmaskpb.FieldMask{Paths: []string{"process.pid", "function_name"}}}}})

	s.publish(event.ProcessFork, 10) // nobody named its kind
	s.publish(event.NetworkConnect, 10)
	s.publish(event.ProcessExit, 11)
	if r := receive(t, all); r.GetProcessKprobe().GetFunctionName() != "tcp_connect" || r.GetProcessKprobe().GetProcess().GetBinary() != "/bin/sh" || r.NodeName != "node-1" {
		t.Errorf("all: %v", r)
	}
	if r := receive(t, all); r.GetProcessExit().GetProcess().GetPid().GetValue() != 11 {
		t.Errorf("all: %v", r)
	}
	if r := receive(t, exits); r.GetProcessExit() == nil {
		t.Errorf("exits: %v", r)
	}
	if r := receive(t, denied); r.GetProcessExit().GetProcess().GetPid().GetValue() != 11 {
		t.Errorf("denied: %v", r)
	}
	got := receive(t, parts).GetProcessKprobe()
	if got.GetProcess().GetPid().GetValue() != 10 || got.FunctionName != "tcp_connect" || got.Process.Binary != "" || len(got.Args) > 0 {
		t.Errorf("parts: %v", got)
	}
}

// A client that takes nothing costs its own events, each of which is counted, and
// those of nobody else.
func TestSlowClientLosesAlone(t *testing.T) {
	s := serve(t)
	s.events(t, &api.GetEventsRequest{}) // grpc-1, never read
	quick := s.events(t, &api.GetEventsRequest{})
	n := 3 * stream.DefaultQueue.Events
	for i := range n {
		s.publish(event.ProcessExit, 10)
		if i%64 == 63 { // as fast as the quick one reads
			for range 64 {
				receive(t, quick)
			}
		}
	}
	ledgers := map[string]stream.SinkStat{}
	closes := func(k stream.SinkStat) bool { return k.Matched == k.Delivered+k.Lost()+uint64(k.Queued) }
	for end := time.Now().Add(patience); !closes(ledgers["grpc-1"]) || len(ledgers) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the ledger does not close: %+v", ledgers)
		}
		for _, session := range s.manager.Sessions() {
			ledgers[session.Name] = session.Sinks[0]
		}
	}
	if slow := ledgers["grpc-1"]; slow.Matched != uint64(n) || slow.Dropped[event.LossFull] == 0 {
		t.Errorf("the slow one: %+v", slow)
	}
	if quick := ledgers["grpc-2"]; quick.Matched != uint64(n) || quick.Lost() != 0 {
		t.Errorf("the quick one: %+v", quick)
	}
	began := time.Now()
	if err := s.stop(); err != nil || time.Since(began) > patience/3 {
		t.Errorf("stopped after %v: %v", time.Since(began), err)
	}
	if left := s.manager.Sessions(); len(left) > 0 {
		t.Errorf("%d sessions are left", len(left))
	}
}

// A client that leaves takes its session with it, one whose session is deleted is
// told, and there are no more streams than sessions.
func TestStreamsEnd(t *testing.T) {
	s := serve(t)
	ctx, leave := context.WithCancel(t.Context())
	in, err := s.GetEvents(ctx, &api.GetEventsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := in.Header(); err != nil {
		t.Fatal(err)
	}
	leave()
	for end := time.Now().Add(patience); len(s.manager.Sessions()) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the session stays")
		}
	}
	var streams []grpc.ServerStreamingClient[api.GetEventsResponse]
	for range stream.MaxSessions {
		streams = append(streams, s.events(t, &api.GetEventsRequest{}))
	}
	in, err = s.GetEvents(t.Context(), &api.GetEventsRequest{})
	if err == nil {
		_, err = in.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one stream too many: %v", err)
	}
	if _, err := s.manager.Delete(t.Context(), "grpc-3"); err != nil {
		t.Fatal(err)
	}
	if _, err := streams[2].Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("the stream of a deleted session ends with %v", err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := streams[0].Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream of a sensor that stops ends with %v", err)
	}
}

// What a filter asks for and this sensor cannot judge is refused, not passed over.
func TestRefusals(t *testing.T) {
	s := serve(t)
	for name, test := range map[string]struct {
		request *api.GetEventsRequest
		says    string
	}{
		"aggregation":      {&api.GetEventsRequest{AggregationOptions: &api.AggregationOptions{}}, "not aggregated"},
		"expression":       {&api.GetEventsRequest{AllowList: []*api.Filter{{BinaryRegex: []string{"("}}}}, "missing closing"},
		"cel":              {&api.GetEventsRequest{DenyList: []*api.Filter{{CelExpression: []string{"true"}}}}, "deny_list: cel_expression"},
		"field":            {&api.GetEventsRequest{FieldFilters: []*api.FieldFilter{{Fields: &fieldmaskpb.FieldMask{Paths: []string{"process.nope"}}}}}, "process.nope"},
		"unknown kind":     {&api.GetEventsRequest{AllowList: []*api.Filter{{EventSet: []api.EventType{api.EventType_PROCESS_LSM}}}}, "has none of those"},
		"two of one set":   {&api.GetEventsRequest{AllowList: []*api.Filter{{Capabilities: &api.CapFilter{Effective: &api.CapFilterSet{Any: []api.CapabilitiesType{1}, None: []api.CapabilitiesType{2}}}}}}, "write one"},
		"every fault":      {&api.GetEventsRequest{AllowList: []*api.Filter{{BinaryRegex: []string{"("}}, {Labels: []string{"a"}}}}, "labels"},
		"nothing of a set": {&api.GetEventsRequest{AllowList: []*api.Filter{{Capabilities: &api.CapFilter{Effective: &api.CapFilterSet{}}}}}, "write one"},
	} {
		t.Run(name, func(t *testing.T) {
			in, err := s.GetEvents(t.Context(), test.request)
			if err == nil {
				_, err = in.Recv()
			}
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%v, want one that says %q", err, test.says)
			}
		})
	}
}

func TestAnswers(t *testing.T) {
	s := serve(t)
	ctx := t.Context()
	if r, err := s.GetHealth(ctx, &api.GetHealthStatusRequest{}); err != nil || r.HealthStatus[0].Status != api.HealthStatusResult_HEALTH_STATUS_RUNNING {
		t.Errorf("health: %v, %v", r, err)
	}
	s.unwell = []string{"a", "b"}
	if r, err := s.GetHealth(ctx, &api.GetHealthStatusRequest{}); err != nil || r.HealthStatus[0].Status != api.HealthStatusResult_HEALTH_STATUS_ERROR || r.HealthStatus[0].Details != "a; b" {
		t.Errorf("health: %v, %v", r, err)
	}
	if r, err := s.GetVersion(ctx, &api.GetVersionRequest{}); err != nil || r.Version != "1.2.3" {
		t.Errorf("version: %v, %v", r, err)
	}
	if r, err := s.GetInfo(ctx, &api.GetInfoRequest{}); err != nil || r.Build.Commit != "abc" || len(r.Probes) != 2 || r.Conf[0].Key != "node.name" {
		t.Errorf("info: %v, %v", r, err)
	}
	if r, err := s.ListSensors(ctx, &api.ListSensorsRequest{}); err != nil || len(r.Sensors) != 2 || !r.Sensors[0].Enabled || r.Sensors[1].Enabled { //nolint:staticcheck // clients still ask
		t.Errorf("sensors: %v, %v", r, err)
	}
	if r, err := s.ListTracingPolicies(ctx, &api.ListTracingPoliciesRequest{}); err != nil || len(r.Policies) != 0 {
		t.Errorf("policies: %v, %v", r, err)
	}
	if _, err := s.RuntimeHook(ctx, &api.RuntimeHookRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("run-time hook: %v", err)
	}
}

func TestLogLevels(t *testing.T) {
	s := serve(t)
	for _, l := range levels {
		if _, err := s.SetDebug(t.Context(), &api.SetDebugRequest{Arg: &api.SetDebugRequest_Level{Level: l.api}}); err != nil {
			t.Fatal(err)
		}
		if now := s.levels.Spec().Default(); now != l.name {
			t.Errorf("%v sets %s", l.api, now)
		}
		r, err := s.GetDebug(t.Context(), &api.GetDebugRequest{})
		if want := max(l.api, api.LogLevel_LOG_LEVEL_FATAL); err != nil || r.GetLevel() != want { // what is off is told as the milder of two
			t.Errorf("%v is told as %v: %v", l.api, r, err)
		}
	}
	if _, err := s.SetDebug(t.Context(), &api.SetDebugRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no level: %v", err)
	}
}

func TestAddresses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 2 { // the second finds what a killed sensor leaves
		s := New(Options{Address: "unix://" + path})
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("socket %v, %v", info.Mode(), err)
		}
		if err := New(Options{Address: "unix://" + path}).Listen(); err == nil {
			t.Error("two listen on one socket")
		}
		s.listener.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
		s.Close()
	}
	if err := New(Options{Address: "0.0.0.0:0"}).Listen(); !errors.Is(err, ErrOpenToAll) {
		t.Errorf("open to all: %v", err)
	}
	tcp := New(Options{Address: "127.0.0.1:0"})
	if err := tcp.Listen(); err != nil || !answers(tcp.Address()) {
		t.Errorf("loopback: %v", err)
	}
	tcp.Close()
}

// The info file is written where none is, or one of a sensor that is gone; never over
// one of a sensor that lives; and only our own is removed.
func TestInfoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tetragon", "info.json")
	mine := info{"unix:///nowhere", os.Getpid()}
	put := func(i info) {
		t.Helper()
		if err := os.WriteFile(path, fmt.Appendf(nil, `{"server_address":%q,"pid":%d,"lib_dir":"x"}`, i.Address, i.PID), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeInfo(path, mine); err != nil {
		t.Fatal(err)
	}
	if there, err := readInfo(path); err != nil || there != mine {
		t.Errorf("%v, %v", there, err)
	}
	put(info{"unix:///nowhere", 1 << 30}) // nobody
	if err := writeInfo(path, mine); err != nil {
		t.Error(err)
	}
	listener := New(Options{Address: "127.0.0.1:0"})
	if err := listener.Listen(); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, other := range []info{{"unix:///nowhere", os.Getppid()}, {listener.Address(), 1 << 30}} {
		put(other)
		if err := writeInfo(path, mine); !errors.Is(err, ErrTaken) {
			t.Errorf("over that of %v: %v", other, err)
		}
		if err := removeInfo(path, mine); err != nil {
			t.Error(err)
		}
		if there, err := readInfo(path); err != nil || there != other {
			t.Errorf("%v, %v", there, err)
		}
	}
	put(mine)
	if err := removeInfo(path, mine); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory stays: %v", err)
	}
}
