package collectors_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sonde-ebpf/sonde/exporter"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var update = flag.Bool("update", false, "rewrite the golden files and the generated pages")

const (
	acceptText        = "text/plain;version=0.0.4"
	acceptOpenMetrics = "application/openmetrics-text;version=1.0.0"
)

// expose scrapes an exporter that has every collector.
func expose(t *testing.T, s sources, accept string) []byte {
	t.Helper()
	e := exporter.New(exporter.Options{})
	for name, c := range s.collectors() {
		if err := e.Add(name, c); err != nil {
			t.Fatal(err)
		}
	}
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, r)
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return steady(w.Body.Bytes())
}

// varies matches what differs from run to run: the numbers of the Go runtime of the
// test itself, and the times it took.
var varies = regexp.MustCompile(`(?m)^(sonde_sensor_memory_bytes\{kind="go_\w+"\}|sonde_collector_duration_seconds\{.*\}) .*$`)

// exampleTime matches the time of an exemplar: when the test ran.
var exampleTime = regexp.MustCompile(`(?m)( # \{.*\} \S+) \S+$`)

func steady(exposition []byte) []byte {
	exposition = varies.ReplaceAll(exposition, []byte("$1 1.0"))
	return exampleTime.ReplaceAll(exposition, []byte("$1 1.7e+09"))
}

// TestGolden holds the whole exposition to the reviewed files in testdata.
func TestGolden(t *testing.T) {
	for file, accept := range map[string]string{"busy.prom": acceptText, "busy.openmetrics.prom": acceptOpenMetrics} {
		t.Run(file, func(t *testing.T) {
			s := busy()
			s.record(t)
			compareGolden(t, filepath.Join("testdata", file), expose(t, s, accept))
		})
	}
	t.Run("idle.prom", func(t *testing.T) {
		compareGolden(t, filepath.Join("testdata", "idle.prom"), expose(t, idle(), acceptText))
	})
}

func compareGolden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs; review and run go test -update (-want +got):\n%s", path, diff)
	}
}

// TestLint holds names, units and help texts to Prometheus' own rules, without
// exceptions.
func TestLint(t *testing.T) {
	problems, err := promlint.New(bytes.NewReader(expose(t, busy(), acceptText))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// collect runs every collector and wants each sample to fit its declaration.
func collect(t *testing.T, s sources) map[string][]*metric.Series {
	t.Helper()
	byFamily := map[string][]*metric.Series{}
	for name, c := range s.collectors() {
		metrics, err := c.Collect(t.Context())
		if err != nil {
			t.Errorf("collector %s: %v", name, err)
		}
		if err := metric.Verify(metrics); err != nil {
			t.Errorf("collector %s: %v", name, err)
		}
		for _, m := range metrics {
			series := m.(*metric.Series)
			byFamily[series.Family().Name] = append(byFamily[series.Family().Name], series)
		}
	}
	return byFamily
}

// value returns the one sample with the given label values, in alphabetical order of
// the labels.
func value(t *testing.T, all []prometheus.Metric, family string, labelValues ...string) float64 {
	t.Helper()
	for _, m := range all {
		if s := m.(*metric.Series); s.Family().Name == family && fmt.Sprint(s.LabelValues()) == fmt.Sprint(labelValues) {
			return s.Value()
		}
	}
	t.Errorf("no %s with %q", family, labelValues)
	return 0
}
