package introspect

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/state"
	"github.com/sonde-ebpf/sonde/internal/unixsocket"
)

// largest counts bytes, and the most that came at once.
type largest struct {
	*recorder
	bytes, most int
}

func (w *largest) Write(b []byte) (int, error) {
	w.bytes += len(b)
	w.most = max(w.most, len(b))
	return len(b), nil
}

// TestAnswersAreStreamed: whatever the length, little is held at once.
func TestAnswersAreStreamed(t *testing.T) {
	sources := fakeSources(t)
	sources.Connections = endless{1_000_000}
	h := newHandler(sources, nil, loopback)
	w := &largest{recorder: newRecorder()}
	r := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/state/network/connection", nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	h.ServeHTTP(w, r)
	runtime.ReadMemStats(&after)
	if w.bytes < 50_000_000 || w.most > flushBytes+4096 {
		t.Errorf("%d bytes, at most %d at once", w.bytes, w.most)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes were allocated for an answer of %d", n, w.bytes)
	}
}

// TestHalfAnAnswerIsBrokenOff: neither a client that goes away nor one that is too
// slow gets something that looks whole.
func TestHalfAnAnswerIsBrokenOff(t *testing.T) {
	sources := fakeSources(t)
	sources.Connections = endless{100_000}
	h := newHandler(sources, nil, loopback)
	aborted := func(ctx context.Context, w http.ResponseWriter) (err error) {
		defer func() { err, _ = recover().(error) }()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "http://localhost/state/network/connection", nil))
		return nil
	}
	gone := newRecorder()
	gone.left = 100_000
	if err := aborted(t.Context(), gone); !errors.Is(err, http.ErrAbortHandler) {
		t.Errorf("client gone: %v, want the connection broken off", err)
	}
	// The time is over before anything was sent: there is still a status to say so.
	over, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	late := newRecorder()
	if err := aborted(over, late); err != nil || late.status != 503 {
		t.Errorf("time over: %v, status %d, want 503", err, late.status)
	}
	wantError(t, "time over", late.body.Bytes())
}

// slow are connections that wait for the test.
type slow struct{ asked, release chan struct{} }

func (s slow) Connections(q state.Query) (int, iter.Seq[*state.Connection]) {
	s.asked <- struct{}{}
	<-s.release
	return endless{}.Connections(q)
}

func TestFewLargeAnswersAtOnce(t *testing.T) {
	sources := fakeSources(t)
	wait := slow{asked: make(chan struct{}), release: make(chan struct{})}
	sources.Connections = wait
	h := New(Options{MaxRequests: 2}).handler(sources, loopback)
	done := make(chan int)
	for range 2 {
		go func() { done <- ask(h, "GET", "/state/network/connection", "").Code }()
		<-wait.asked
	}
	w := ask(h, "GET", "/state/network/connection", "")
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("third at once: status %d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
	wantError(t, "third at once", w.Body.Bytes())
	if w := ask(h, "GET", "/ready", ""); w.Code != 200 {
		t.Errorf("a small one: status %d", w.Code)
	}
	close(wait.release)
	for range 2 {
		if code := <-done; code != 200 {
			t.Errorf("status %d", code)
		}
	}
	go func() { <-wait.asked }()
	if w := ask(h, "GET", "/state/network/connection", ""); w.Code != 200 {
		t.Errorf("afterwards: status %d", w.Code)
	}
}

// many is the number of open connections that the bounds are stated for.
const many = 100_000

// crowded is a Store with that many connections of distinct peers.
func crowded(t testing.TB) *state.Store {
	t.Helper()
	o := state.Defaults()
	o.Now = func() uint64 { return 1 }
	o.Containers = inWeb{}
	o.Networking = state.Networking{ExternalIngress: true, ExternalEgress: true}
	s, err := state.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p := event.Process{PID: 1, StartNS: 1, CgroupID: 7}
	ev := event.Event{Point: event.NetworkConnect, Process: p}
	for i := range uint32(many) {
		ev.Conn = event.Conn{Cookie: uint64(i) + 1, Family: event.IPv4, Protocol: state.TCP, LocalPort: uint16(i), RemotePort: 443}
		binary.BigEndian.PutUint32(ev.Conn.Remote[:], 0x0b000000+i)
		s.Apply(&ev)
	}
	return s
}

// TestHundredThousandConnections are answered over a socket in less than a second,
// with little memory.
func TestHundredThousandConnections(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	sources := fakeSources(t)
	sources.Connections = crowded(t)
	serve(t, New(Options{ListenAddresses: []string{unixsocket.Scheme + socket}}), sources)
	client := overUnix(t, socket)
	for _, query := range []string{"", "?normalize=false", "?detail=true"} {
		runtime.GC()
		var start runtime.MemStats
		runtime.ReadMemStats(&start)
		var peak atomic.Uint64
		stop := make(chan struct{})
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					peak.Store(max(peak.Load(), m.HeapAlloc))
				}
			}
		}()
		began := time.Now()
		resp, err := client.Get("http://sonde/state/network/connection" + query)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		d := json.NewDecoder(resp.Body) // token by token: the test must not hold the answer either
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if token == "l4proto" {
				n++
			}
		}
		resp.Body.Close()
		took := time.Since(began)
		close(stop)
		<-stopped
		grown := int64(peak.Load()) - int64(start.HeapAlloc)
		t.Logf("%d rows with %q in %v, decoding included; heap grew by %d KiB at most", n, query, took.Round(time.Millisecond), grown>>10)
		if n != many {
			t.Errorf("%q: %d rows, want %d", query, n, many)
		}
		if grown > 64<<20 {
			t.Errorf("%q: heap grew by %d MiB", query, grown>>20)
		}
	}
}

func BenchmarkEncode100k(b *testing.B) {
	for name, query := range map[string]string{"normalised": "", "raw": "?normalize=false", "detail": "?detail=true"} {
		b.Run(name, func(b *testing.B) {
			h := newHandler(Sources{Connections: crowded(b), Wall: wall}, nil, loopback)
			b.ReportAllocs()
			for b.Loop() {
				w := &largest{recorder: newRecorder()}
				h.ServeHTTP(w, httptest.NewRequestWithContext(b.Context(), "GET", "http://localhost/state/network/connection"+query, nil))
				b.SetBytes(int64(w.bytes))
			}
		})
	}
}

// FuzzQuery: no query makes the server panic or answer with anything but JSON.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "container=host", "normalize=false&detail=true&closed=true", "limit=1&offset=3", "limit=x", "a;b", "%zz", "container=%00", "&&&===", "limit=1&limit=1",
	} {
		f.Add(seed)
	}
	h := newHandler(fakeSources(f), nil, loopback)
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/state/network/connection", "/state/network/endpoint", "/state/containers", "/state/processes"} {
			r := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost"+path, nil)
			r.URL.RawQuery = query
			w := newRecorder()
			h.ServeHTTP(w, r)
			if !json.Valid(w.body.Bytes()) {
				t.Errorf("%s?%s: %d %q is no JSON", path, query, w.status, w.body.String())
			}
			if w.status != 200 && w.status != 400 && w.status != 404 {
				t.Errorf("%s?%s: status %d", path, query, w.status)
			}
		}
	})
}

// FuzzString: every text becomes one JSON string.
func FuzzString(f *testing.F) {
	for _, seed := range []string{"", "plain", "\"\\", "\x00\x1f\x7f", "\xff\xfe", "日本", "</script>", "\u2028"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var back string
		quoted := appendString(nil, text)
		if err := json.Unmarshal(quoted, &back); err != nil {
			t.Fatalf("%q becomes %s: %v", text, quoted, err)
		}
		if utf8.ValidString(text) && back != text {
			t.Errorf("%q becomes %q", text, back)
		}
		if !utf8.Valid(quoted) {
			t.Errorf("%q becomes %q, which is not UTF-8", text, quoted)
		}
	})
}

// FuzzPath: nor does any path.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"containers/x", "processes/1", "processes/-1", "containers/a/b", "../ready", "processes/99999999999"} {
		f.Add(seed)
	}
	h := newHandler(fakeSources(f), nil, loopback)
	f.Fuzz(func(t *testing.T, path string) {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "http://localhost/", nil)
		r.URL.Path = "/state/" + path
		w := newRecorder()
		h.ServeHTTP(w, r)
		redirect := w.status == http.StatusMovedPermanently || w.status == http.StatusTemporaryRedirect
		if !redirect && !json.Valid(w.body.Bytes()) { // of a path with "..": the mux cleans it
			t.Errorf("%q: %d %q is no JSON", path, w.status, w.body.String())
		}
	})
}

func TestPeerWithoutItsLength(t *testing.T) {
	e := &encoder{}
	e.peer("a ", netip.MustParsePrefix("10.0.0.1/32"))
	e.peer(" b ", netip.MustParsePrefix("10.0.0.0/8"))
	e.peer(" c ", netip.MustParsePrefix("2001:db8::/128"))
	if want := `a "10.0.0.1" b "10.0.0.0/8" c "2001:db8::"`; string(e.buf) != want {
		t.Errorf("%s, want %s", e.buf, want)
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"0a1b2c3d4e5f": true, strings.Repeat("a", 256): true, strings.Repeat("n", 76) + "/" + strings.Repeat("c", 76): true, "test/c-abc": true, "k8s.io/x_1": true,
		"": false, "-a": false, "/a": false, strings.Repeat("a", 257): false, "a b": false, "a\n": false, "ä": false, "a%": false,
	} {
		if got := validID(id); got != want {
			t.Errorf("%q: %v, want %v", id, got, want)
		}
	}
}
