package exporter

import (
	"context"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The families of the fake collectors.
var (
	fake = metric.NewSet()

	fakeCalls = fake.Counter("fake_calls_total", "Calls, with a \"quoted\" word\nand a second line.",
		metric.Bounded("syscall", "system call table"), metric.Enum("outcome", "success", "error"))
	fakeDuration = fake.Histogram("fake_duration_seconds", "Duration of a call.", metric.Seconds(-12, -8),
		metric.Bounded("syscall", "system call table"), metric.Enum("outcome", "success", "error"))
	fakeUsed  = fake.Gauge("fake_used_bytes", "Bytes in use.")
	fakeRatio = fake.Gauge("fake_fill_ratio", "Fill.", metric.Bounded("map", "the agent's maps"))
)

var fakeCreated = time.Unix(1_700_000_000, 500_000_000)

func fakeExemplar() *metric.Exemplar {
	return &metric.Exemplar{Label: "exec_id", ID: "bm9kZQ==", Value: 0.001, Time: fakeCreated.Add(time.Minute)}
}

func collectCalls(context.Context) ([]prometheus.Metric, error) {
	return []prometheus.Metric{
		fakeCalls.WithCreated(1234567, fakeCreated, "read", "success"),
		fakeDuration.With(metric.Buckets{
			First: -50, Counts: []uint64{1, 0, 2, 0, 0, 0, 40, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7},
			Zero: 2, Sum: 0.25, Created: fakeCreated, Exemplar: fakeExemplar(),
		}, "read", "success"),
		fakeDuration.With(metric.Buckets{Created: fakeCreated}, "openat", "error"),
		fakeCalls.WithCreated(2, fakeCreated, "openat", "error"),
	}, nil
}

func collectState(context.Context) ([]prometheus.Metric, error) {
	return []prometheus.Metric{
		fakeUsed.With(4096),
		fakeRatio.With(0.5, `back\slash "quote"`+"\nline"),
		fakeRatio.With(0, "empty"),
	}, nil
}

// newFake returns an exporter with two well-behaved collectors and what else is given.
func newFake(t *testing.T, o Options, more map[string]CollectorFunc) *Exporter {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	e := New(o)
	add(t, e, "calls", collectCalls)
	add(t, e, "state", collectState)
	for name, c := range more {
		add(t, e, name, c)
	}
	return e
}

func add(t *testing.T, e *Exporter, name string, c CollectorFunc) {
	t.Helper()
	if err := e.Add(name, c); err != nil {
		t.Fatal(err)
	}
}

// get asks a route of the exporter. Headers come in pairs.
func get(t *testing.T, e *Exporter, path string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, r)
	return w
}

// success returns the collectors that report a success, and those that do not.
func success(t *testing.T, exposition string) (good, bad []string) {
	t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^sonde_collector_success\{collector="(.*)"\} (.)`).FindAllStringSubmatch(exposition, -1) {
		if m[2] == "1" {
			good = append(good, m[1])
		} else {
			bad = append(bad, m[1])
		}
	}
	return good, bad
}

const acceptOpenMetrics = "application/openmetrics-text; version=1.0.0"

func TestGolden(t *testing.T) {
	duration := regexp.MustCompile(`(?m)^(sonde_collector_duration_seconds\{.*\}) .*$`)
	cases := map[string]struct{ accept, contentType string }{
		"exposition.prom":        {"", "text/plain; version=0.0.4; charset=utf-8"},
		"exposition.openmetrics": {acceptOpenMetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := get(t, newFake(t, Options{}, nil), "/metrics", "Accept", c.accept)
			if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), c.contentType) {
				t.Fatalf("status %d, content type %q", w.Code, w.Header().Get("Content-Type"))
			}
			got := duration.ReplaceAllString(w.Body.String(), "$1 DURATION")
			path := filepath.Join("testdata", name)
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("exposition (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExpositionPassesLint(t *testing.T) {
	e := newFake(t, Options{Gatherers: []prometheus.Gatherer{Runtime()}}, nil)
	problems, err := testutil.GatherAndLint(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("message of %s: %s", p.Metric, p.Text)
	}
	problems, err = promlint.New(get(t, e, "/metrics").Body).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("text of %s: %s", p.Metric, p.Text)
	}
}

func TestRuntimeMetricsAreMergedByName(t *testing.T) {
	e := newFake(t, Options{Gatherers: []prometheus.Gatherer{Runtime()}}, nil)
	var names []string
	for line := range strings.Lines(get(t, e, "/metrics").Body.String()) {
		if fields := strings.Fields(line); len(fields) == 4 && fields[1] == "TYPE" {
			names = append(names, fields[2])
		}
	}
	for i := 1; i < len(names); i++ {
		if names[i-1] >= names[i] {
			t.Errorf("%s comes before %s", names[i-1], names[i])
		}
	}
	for _, want := range []string{"go_goroutines", "process_cpu_seconds_total", "sonde_fake_calls_total"} {
		if !strings.Contains(strings.Join(names, " "), want) {
			t.Errorf("no family %s", want)
		}
	}
}

func TestAddRefusesATakenName(t *testing.T) {
	e := newFake(t, Options{}, nil)
	if err := e.Add("calls", CollectorFunc(collectCalls)); err == nil {
		t.Error("a second collector of the same name is accepted")
	}
}
