package https

import (
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/sink"
)

// node is the machine of these tests.
type node struct{}

func (node) Container(id string) sink.Container { return sink.Container{ID: id} }
func (node) Boot() time.Time                    { return time.Unix(1_700_000_000, 0) }
func (node) Node() string                       { return "n" }

// receiver answers with codes, one after the other, then 200, and keeps what it took.
type receiver struct {
	mu    sync.Mutex
	codes []int
	asked int
	lines []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if len(r.codes) > 0 {
		w.WriteHeader(r.codes[0])
		r.codes = r.codes[1:]
		return
	}
	body := io.Reader(q.Body)
	if q.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		body = unpacked
	}
	text, _ := io.ReadAll(body)
	r.lines = append(r.lines, strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")...)
}

func (r *receiver) took() (asked int, lines []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked, r.lines
}

func open(t *testing.T, config map[string]any) *Sink {
	t.Helper()
	s, err := Open(config, node{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// deliver hands over n events and returns how many were lost.
func deliver(s *Sink, n int) (lost int) {
	batch := make([]event.Event, n)
	for i := range batch {
		batch[i] = event.Event{Point: event.ProcessExit, Process: event.Process{PID: uint32(i + 1)}}
	}
	s.Deliver(batch, func(_ *event.Event, loss event.Loss) {
		if loss == event.LossPeer {
			lost++
		}
	})
	return lost
}

// What a receiver takes at last has arrived once and in order.
func TestDeliver(t *testing.T) {
	for _, compress := range []bool{true, false} {
		r := &receiver{codes: []int{503, 429}}
		server := httptest.NewServer(r)
		defer server.Close()
		s := open(t, map[string]any{"url": server.URL, "compress": compress})
		beats := 0
		s.Waits(func() { beats++ }, nil)
		s.Lost(7)
		if lost := deliver(s, 3); lost != 0 || s.Trouble() != "" || beats < 3 {
			t.Errorf("%d events lost, trouble %q, %d beats", lost, s.Trouble(), beats)
		}
		asked, lines := r.took()
		if asked != 3 || len(lines) != 4 || !strings.Contains(lines[0], `"number_of_dropped_process_events":"7"`) {
			t.Fatalf("asked %d times, took %q", asked, lines)
		}
		for i, pid := range []string{`"pid":1,`, `"pid":2,`, `"pid":3,`} {
			if !strings.Contains(lines[i+1], pid) {
				t.Errorf("line %d is %s, want %s", i+1, lines[i+1], pid)
			}
		}
	}
}

// What a receiver does not take is lost when patience ends, at once where waiting is of no
// use, and the trouble says why until it is over.
func TestTrouble(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	s := open(t, map[string]any{"url": closed.URL, "patience": "300ms"})
	if lost := deliver(s, 3); lost != 3 || !strings.HasPrefix(s.Trouble(), "connect: ") || !strings.Contains(s.Trouble(), "check that the receiver listens") {
		t.Errorf("%d events lost, trouble %q", lost, s.Trouble())
	}
	r := &receiver{codes: []int{403}}
	server := httptest.NewServer(r)
	defer server.Close()
	s = open(t, map[string]any{"url": server.URL})
	if lost := deliver(s, 3); lost != 3 || !strings.HasPrefix(s.Trouble(), "unauthorized: ") {
		t.Errorf("%d events lost, trouble %q", lost, s.Trouble())
	}
	if lost := deliver(s, 2); lost != 0 || s.Trouble() != "" {
		t.Errorf("%d events lost, trouble %q", lost, s.Trouble())
	}
	if asked, lines := r.took(); asked != 2 || len(lines) != 2 {
		t.Errorf("asked %d times, took %q", asked, lines)
	}
}

// Whoever ends a session does not wait for a receiver.
func TestLate(t *testing.T) {
	hangs := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hangs }))
	defer server.Close()
	defer close(hangs)
	s := open(t, map[string]any{"url": server.URL, "timeout": "20s"})
	late := make(chan struct{})
	s.Waits(func() {}, late)
	time.AfterFunc(50*time.Millisecond, func() { close(late) })
	begin := time.Now()
	if lost := deliver(s, 1); lost != 1 || time.Since(begin) > 10*time.Second {
		t.Errorf("%d events lost after %v", lost, time.Since(begin))
	}
}

// What is wrong with a configuration is told at once, and nothing that is secret.
func TestOpenRefuses(t *testing.T) {
	for want, config := range map[string]map[string]any{
		"events in clear go to loopback only": {"url": "http://203.0.113.1/"},
		"url: credentials belong in files":    {"url": "https://me:hunter2@x/"},
		"patience: write a duration":          {"url": "https://x/", "patience": "-1s"},
		"timeout: write a duration up to 20s": {"url": "https://x/", "timeout": "1m"},
		"compress: write true or false":       {"url": "https://x/", "compress": "perhaps"},
		"password: no such key":               {"url": "https://x/", "password": "hunter2"},
		"url: write a text":                   {"url": 1},
		"read authorities":                    {"url": "https://x/", "ca_file": "/nonexistent"},
		"deny_list":                           {"url": "https://x/", "deny_list": "all"},
	} {
		if _, err := Open(config, node{}, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
