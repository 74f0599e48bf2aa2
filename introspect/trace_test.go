package introspect

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// fakeTrace has sessions that were created with nothing but a name.
type fakeTrace struct{ sessions []stream.SessionStat }

func (f *fakeTrace) Sessions() []stream.SessionStat { return f.sessions }
func (f *fakeTrace) SinkKinds() []string            { return []string{"jsonl", "null"} }

func (f *fakeTrace) CreateSession(text []byte) (string, []string, error) {
	name := string(text)
	switch {
	case name == "bad":
		return "", nil, fmt.Errorf("parse session: no point a; no point b")
	case len(f.sessions) > 0:
		return "", nil, fmt.Errorf("create session %s: %w", name, stream.ErrSessionExists)
	}
	sink := stream.SinkStat{Session: name, Sink: "jsonl", Matched: 14, Delivered: 7, Filtered: 4, Queued: 1, Capacity: 4096, Up: true}
	sink.Dropped[event.LossDisk] = 2
	f.sessions = append(f.sessions, stream.SessionStat{
		Name: name, Created: time.Unix(1_700_000_000, 0).UTC(), Points: []stream.Point{{Name: "process/exec"}}, Sinks: []stream.SinkStat{sink},
	})
	return name, nil, nil
}

func (f *fakeTrace) DeleteSession(_ context.Context, name string) (stream.SessionStat, error) {
	if len(f.sessions) == 0 || f.sessions[0].Name != name {
		return stream.SessionStat{}, fmt.Errorf("delete session %s: %w", name, stream.ErrNoSession)
	}
	gone := f.sessions[0]
	f.sessions = nil
	return gone, nil
}

func (f *fakeTrace) Follow(string, []stream.Point, stream.Sink) (string, error) {
	return "", stream.ErrTooManySession
}

func TestTraceSessions(t *testing.T) {
	sources := fakeSources(t)
	sources.Trace = &fakeTrace{}
	h := newHandler(sources, nil, loopback)
	const shown = `{"name":"a","created":"2023-11-14T22:13:20Z","points":["process/exec"],"sinks":[{"sink":"jsonl","up":true,` +
		`"matched":14,"delivered":7,"filtered":4,"dropped":2,"dropped_by_reason":{"disk_full":2},"queued":1,"capacity":4096}]}`
	for _, step := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"GET", "/trace/sessions", "", 200, "[]"},
		{"POST", "/trace/sessions", "bad", 400, `{"error":"parse session: no point a; no point b"}`},
		{"POST", "/trace/sessions", "a", 200, `{"name":"a","missing":[]}`},
		{"POST", "/trace/sessions", "a", 409, `{"error":"create session a: session exists"}`},
		{"GET", "/trace/sessions", "", 200, "[" + shown + "]"},
		{"DELETE", "/trace/sessions/b", "", 404, `{"error":"delete session b: no such session"}`},
		{"DELETE", "/trace/sessions/a", "", 200, shown},
		{"GET", "/trace/sessions", "", 200, "[]"},
		{"PUT", "/trace/sessions", "", 405, `{"error":"method PUT is not allowed here; allowed: GET, HEAD, POST"}`},
	} {
		w := ask(h, step.method, step.path, step.body)
		if got := strings.TrimSpace(w.Body.String()); w.Code != step.status || got != step.want {
			t.Errorf("%s %s: %d %s\nwant %d %s", step.method, step.path, w.Code, got, step.status, step.want)
		}
	}
	var known TraceMetadataAnswer
	w := ask(h, "GET", "/trace/metadata", "")
	if err := json.Unmarshal(w.Body.Bytes(), &known); err != nil || len(known.Points) < 7 || len(known.Sinks) != 2 {
		t.Errorf("%v: %s", err, w.Body)
	}
}

func TestTraceNeedsItsSource(t *testing.T) {
	sources := fakeSources(t)
	sources.Trace = nil
	h := newHandler(sources, nil, loopback)
	for _, path := range []string{"/trace/sessions", "/trace/metadata", "/trace/events"} {
		if w := ask(h, "GET", path, ""); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
