package exporter

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func TestFilters(t *testing.T) {
	cases := map[string]struct {
		code    int
		good    []string
		runtime bool
	}{
		"":                                 {200, []string{"calls", "state"}, true},
		"?collect[]=state":                 {200, []string{"state"}, false},
		"?collect[]=state&collect[]=calls": {200, []string{"calls", "state"}, false},
		"?exclude[]=state":                 {200, []string{"calls"}, true},
		"?collect[]=state&exclude[]=calls": {400, nil, false},
		"?collect[]=nonesuch":              {400, nil, false},
		"?exclude[]=nonesuch":              {400, nil, false},
		"?exclude[]=state&exclude[]=calls": {200, nil, true},
	}
	for query, c := range cases {
		t.Run(query, func(t *testing.T) {
			e := newFake(t, Options{Gatherers: []prometheus.Gatherer{Runtime()}}, nil)
			w := get(t, e, "/metrics"+query)
			if w.Code != c.code {
				t.Fatalf("status %d, want %d: %s", w.Code, c.code, w.Body)
			}
			good, bad := success(t, w.Body.String())
			slices.Sort(good)
			if !slices.Equal(good, c.good) || len(bad) > 0 {
				t.Errorf("collectors %q and %q, want %q", good, bad, c.good)
			}
			if got := strings.Contains(w.Body.String(), "go_goroutines"); c.code == 200 && got != c.runtime {
				t.Errorf("runtime metrics: %v, want %v", got, c.runtime)
			}
			for _, hidden := range []struct{ collector, family string }{{"state", "sonde_fake_used_bytes"}, {"calls", "sonde_fake_calls_total"}} {
				if got := strings.Contains(w.Body.String(), hidden.family); got != slices.Contains(c.good, hidden.collector) {
					t.Errorf("%s shown: %v", hidden.family, got)
				}
			}
		})
	}
}

func TestGzip(t *testing.T) {
	e := newFake(t, Options{}, nil)
	plain := get(t, e, "/metrics?collect[]=calls").Body.String()
	cases := map[string]bool{
		"gzip": true, "deflate, gzip;q=0.5": true, "GZIP": true,
		"": false, "gzip;q=0": false, "br": false, "gzip;q=x": false,
	}
	for header, want := range cases {
		w := get(t, e, "/metrics?collect[]=calls", "Accept-Encoding", header)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("Accept-Encoding %q: compressed %v, want %v", header, got, want)
			continue
		}
		if !want {
			continue
		}
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		const family = "# HELP sonde_fake_calls_total"
		_, wantText, _ := strings.Cut(plain, family)
		if _, text, _ := strings.Cut(string(body), family); text != wantText || text == "" {
			t.Errorf("compressed text differs:\n%s", cmp.Diff(wantText, text))
		}
	}
}

func TestNegotiation(t *testing.T) {
	const (
		text        = "text/plain; version=0.0.4"
		openMetrics = "application/openmetrics-text; version=1.0.0"
		protobuf    = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
	)
	cases := map[string]string{
		"":    text,
		"*/*": text,
		"application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3": openMetrics,
		// Prometheus, with native histograms switched on.
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1": protobuf,
		"application/openmetrics-text;version=7.0.0": text,
		"text/html": text,
	}
	e := newFake(t, Options{}, nil)
	for accept, want := range cases {
		if got := get(t, e, "/metrics", "Accept", accept).Header().Get("Content-Type"); !strings.HasPrefix(got, want) {
			t.Errorf("Accept %q: %q, want %q", accept, got, want)
		}
	}
}

func TestRoutes(t *testing.T) {
	e := newFake(t, Options{}, nil)
	cases := []struct {
		method, path string
		code         int
	}{
		{"GET", "/metrics", 200},
		{"HEAD", "/metrics", 200},
		{"POST", "/metrics", 405},
		{"GET", "/", 200},
		{"GET", "/nonesuch", 404},
		{"GET", "/debug/pprof/", 404},
		{"DELETE", "/healthz", 405},
	}
	for _, c := range cases {
		w := httptest.NewRecorder()
		e.Handler().ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if w.Code != c.code {
			t.Errorf("%s %s: status %d, want %d", c.method, c.path, w.Code, c.code)
		}
		if c.code == http.StatusMethodNotAllowed && w.Header().Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", c.method, c.path)
		}
		if c.method == "HEAD" && w.Body.Len() > 0 {
			t.Errorf("HEAD %s: has a body", c.path)
		}
	}
}
