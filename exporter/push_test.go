package exporter

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/outbound"
)

// receiver keeps what is pushed to it and answers with the codes given, then 204.
type receiver struct {
	mu       sync.Mutex
	codes    []int
	requests []*http.Request
	bodies   []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var body io.Reader = req.Body
	if req.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(req.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	text, _ := io.ReadAll(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests = append(r.requests, req)
	r.bodies = append(r.bodies, string(text))
	code := http.StatusNoContent
	if len(r.codes) > 0 {
		code, r.codes = r.codes[0], r.codes[1:]
	}
	if code/100 == 3 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(code)
}

func writeSample(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "# TYPE x gauge\nx 1\ny{a=\"{b}\"} 2\n")
	return err
}

func newPusher(t *testing.T, o PushOptions) *Pusher {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	if o.Backoff == 0 {
		o.Backoff = time.Millisecond
	}
	p, err := NewPusher(o, writeSample)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// counters returns what the pusher counted: tries, and failures by reason.
func counters(t *testing.T, p *Pusher) (attempts float64, failures map[string]float64) {
	t.Helper()
	metrics, err := p.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := metric.Verify(metrics); err != nil {
		t.Error(err)
	}
	failures = map[string]float64{}
	for _, m := range metrics {
		s := m.(*metric.Series)
		switch {
		case s.Family().Name == "sonde_push_attempts_total":
			attempts = s.Value()
		case s.Value() != 0:
			failures[s.LabelValues()[0]] = s.Value()
		}
	}
	if len(metrics) != 2+outbound.Reasons {
		t.Errorf("%d series, want every reason from the start", len(metrics))
	}
	return attempts, failures
}

func wantCounters(t *testing.T, p *Pusher, attempts float64, failures map[string]float64) {
	t.Helper()
	gotAttempts, gotFailures := counters(t, p)
	if diff := cmp.Diff(failures, gotFailures); diff != "" || gotAttempts != attempts {
		t.Errorf("%v tries, want %v; failures (-want +got):\n%s", gotAttempts, attempts, diff)
	}
}

func TestPushAddsLabelsAndCredentials(t *testing.T) {
	dir := t.TempDir()
	r := &receiver{}
	server := httptest.NewServer(r)
	defer server.Close()
	p := newPusher(t, PushOptions{
		URL: server.URL + "/import", Job: "sonde", Instance: `no"de\1`,
		Credentials: outbound.Credentials{
			Username: "alice", PasswordFile: writeFile(t, dir, "password", "secret\n"),
			HeadersFile: writeFile(t, dir, "headers", "# who we are\nX-Scope-OrgID: tenant: 1\n\n"),
		},
	})
	p.push(t.Context())
	wantCounters(t, p, 1, map[string]float64{})

	if len(r.requests) != 1 {
		t.Fatalf("%d requests", len(r.requests))
	}
	req := r.requests[0]
	if user, password, _ := req.BasicAuth(); user != "alice" || password != "secret" {
		t.Errorf("credentials %q %q", user, password)
	}
	if got := req.Header.Get("X-Scope-OrgID"); got != "tenant: 1" {
		t.Errorf("header %q", got)
	}
	if req.Method != http.MethodPost || req.URL.Path != "/import" || req.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("%s %s, encoding %q", req.Method, req.URL, req.Header.Get("Content-Encoding"))
	}
	const labels = `job="sonde",instance="no\"de\\1"`
	want := "# TYPE x gauge\nx{" + labels + "} 1\ny{" + labels + ",a=\"{b}\"} 2\n"
	if diff := cmp.Diff(want, r.bodies[0]); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}

	// Credentials are read again for every try.
	writeFile(t, dir, "password", "changed")
	p.push(t.Context())
	if _, password, _ := r.requests[1].BasicAuth(); password != "changed" {
		t.Errorf("password %q after the file has changed", password)
	}
}

func TestPushOverTLS(t *testing.T) {
	r := &receiver{}
	dir := t.TempDir()
	certFile, keyFile, _ := writeCertificate(t, dir)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: r, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	go func() { _ = server.ServeTLS(l, certFile, keyFile) }()
	defer server.Close()
	url := "https://" + l.Addr().String()

	trusting := newPusher(t, PushOptions{
		URL: url, Trust: outbound.Trust{CAFile: certFile}, Credentials: outbound.Credentials{BearerTokenFile: writeFile(t, dir, "token", "abc\n")},
	})
	trusting.push(t.Context())
	wantCounters(t, trusting, 1, map[string]float64{})
	if len(r.requests) != 1 || r.requests[0].Header.Get("Authorization") != "Bearer abc" || r.requests[0].TLS == nil {
		t.Errorf("requests %v", r.requests)
	}

	doubting := newPusher(t, PushOptions{URL: url})
	doubting.push(t.Context())
	wantCounters(t, doubting, 1, map[string]float64{"tls": 1})
	if len(r.requests) != 1 {
		t.Error("metrics went to a receiver that is not trusted")
	}
}

func TestPushFailures(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	cases := map[string]struct {
		codes    []int
		change   func(*PushOptions)
		attempts float64
		failures map[string]float64
	}{
		"recovers":                {codes: []int{503, 429}, attempts: 3, failures: map[string]float64{"server": 2}},
		"gives up":                {codes: []int{500, 500, 500, 500, 500}, attempts: 4, failures: map[string]float64{"server": 4}},
		"no retry when rejected":  {codes: []int{400}, attempts: 1, failures: map[string]float64{"rejected": 1}},
		"no retry when forbidden": {codes: []int{401}, attempts: 1, failures: map[string]float64{"unauthorized": 1}},
		"redirect":                {codes: []int{307}, attempts: 1, failures: map[string]float64{"redirect": 1}},
		"no retries wanted": {
			codes: []int{500}, change: func(o *PushOptions) { o.Retries = -1 },
			attempts: 1, failures: map[string]float64{"server": 1},
		},
		"no connection": {
			change:   func(o *PushOptions) { o.URL = "http://" + closed.Addr().String() },
			attempts: 4, failures: map[string]float64{"connect": 4},
		},
		"no password file": {
			change:   func(o *PushOptions) { o.Username, o.PasswordFile = "a", "/nonexistent" },
			attempts: 1, failures: map[string]float64{"credentials": 1},
		},
		"no header": {
			change:   func(o *PushOptions) { o.HeadersFile = "/proc/self/comm" },
			attempts: 1, failures: map[string]float64{"credentials": 1},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := &receiver{codes: c.codes}
			server := httptest.NewServer(r)
			defer server.Close()
			o := PushOptions{URL: server.URL}
			if c.change != nil {
				c.change(&o)
			}
			p := newPusher(t, o)
			p.push(t.Context())
			wantCounters(t, p, c.attempts, c.failures)
		})
	}
}

func TestPushTimesOut(t *testing.T) {
	stop := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-stop
	}))
	defer server.Close()
	defer close(stop)
	p := newPusher(t, PushOptions{URL: server.URL, Timeout: 20 * time.Millisecond, Retries: 1})
	p.push(t.Context())
	wantCounters(t, p, 2, map[string]float64{"timeout": 2})
}

func TestPushCountsAFailedGather(t *testing.T) {
	p := newPusher(t, PushOptions{URL: "http://127.0.0.1:1"})
	p.write = func(context.Context, io.Writer) error { return errors.New("broken") }
	p.push(t.Context())
	wantCounters(t, p, 1, map[string]float64{"gather": 1})
}

// TestPushLeavesOtherRequestsAlone: the hook in the default transport must not touch
// what is not a push.
func TestPushLeavesOtherRequestsAlone(t *testing.T) {
	r := &receiver{}
	server := httptest.NewServer(r)
	defer server.Close()
	newPusher(t, PushOptions{URL: "http://127.0.0.1:1"})
	resp, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(r.requests) != 1 {
		t.Error("the request did not arrive")
	}
}

func TestPushRunPushesOnceMoreAtTheEnd(t *testing.T) {
	r := &receiver{}
	server := httptest.NewServer(r)
	defer server.Close()
	p := newPusher(t, PushOptions{URL: server.URL, Interval: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if len(r.requests) != 1 {
		t.Errorf("%d pushes, want the final one", len(r.requests))
	}
	p = newPusher(t, PushOptions{URL: server.URL, Interval: 5 * time.Millisecond})
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if attempts, _ := counters(t, p); attempts < 5 {
		t.Errorf("%v pushes in 40 intervals", attempts)
	}
}

func TestNewPusherRefuses(t *testing.T) {
	dir := t.TempDir()
	cases := map[string]PushOptions{
		"want http or https":     {URL: "ftp://x"},
		"and a host":             {URL: "http://"},
		"credentials belong":     {URL: "http://a:secret@x"},
		"malformed":              {URL: "http://secret\x00"},
		"interval -1s":           {URL: "http://x", Interval: -time.Second},
		"belong together":        {URL: "http://x", Credentials: outbound.Credentials{Username: "a"}},
		"exclude each other":     {URL: "http://x", Credentials: outbound.Credentials{Username: "a", PasswordFile: "b", BearerTokenFile: "c"}},
		"no certificate":         {URL: "http://x", Trust: outbound.Trust{CAFile: writeFile(t, dir, "ca", "nothing")}},
		"read authorities: open": {URL: "http://x", Trust: outbound.Trust{CAFile: "/nonexistent"}},
	}
	for want, o := range cases {
		_, err := NewPusher(o, writeSample)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: error %v, want %q", o, err, want)
		}
	}
}
