package exporter

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// load is what a collector of the benchmark has to show. The sources keep plain
// numbers; turning them into metrics is part of every scrape.
type load struct {
	counters   int
	histograms int
}

// The loads: both are 10 000 series as a reader of the text format counts them. A
// histogram is 28 of them (25 bounds, +Inf, sum and count).
var loads = map[string]load{
	"counters": {counters: 10_000},
	"mixed":    {counters: 1_600, histograms: 300},
}

var (
	benchSet   = metric.NewSet()
	benchGrid  = metric.Seconds(-20, 4)
	benchLabel = []metric.Label{metric.Bounded("syscall", "x"), metric.Enum("outcome", "success")}

	benchTotal    = benchSet.Counter("bench_total", "Counter.", benchLabel...)
	benchDuration = benchSet.Histogram("bench_duration_seconds", "Histogram.", benchGrid, benchLabel...)
	benchNames    = func() (names []string) {
		for i := range 100_000 {
			names = append(names, fmt.Sprintf("call_%06d", i))
		}
		return names
	}()
	benchCounts = func() (counts []uint64) {
		for i := range 60 {
			counts = append(counts, uint64(i*i*i))
		}
		return counts
	}()
)

// ours collects the load as our metrics.
func (l load) ours(context.Context) ([]prometheus.Metric, error) {
	metrics := make([]prometheus.Metric, 0, l.counters+l.histograms)
	for i := range l.counters {
		metrics = append(metrics, benchTotal.With(float64(i)*1000, benchNames[i], "success"))
	}
	for i := range l.histograms {
		metrics = append(metrics, benchDuration.With(metric.Buckets{First: -70, Counts: benchCounts, Sum: 1.5}, benchNames[i], "success"))
	}
	return metrics, nil
}

// theirs collects the load as client_golang's constant metrics, with the same bounds.
func (l load) theirs() []prometheus.Metric {
	names := []string{"syscall", "outcome"}
	total := prometheus.NewDesc("sonde_bench_total", "Counter.", names, nil)
	duration := prometheus.NewDesc("sonde_bench_duration_seconds", "Histogram.", names, nil)
	metrics := make([]prometheus.Metric, 0, l.counters+l.histograms)
	for i := range l.counters {
		metrics = append(metrics, prometheus.MustNewConstMetric(total, prometheus.CounterValue, float64(i)*1000, benchNames[i], "success"))
	}
	for i := range l.histograms {
		buckets := make(map[float64]uint64, benchGrid.Len())
		var sum uint64
		next := 0
		for k := range benchGrid.Len() {
			exponent := benchGrid.Exponent(k)
			for ; next < len(benchCounts) && (-70+next+3)>>2 <= exponent; next++ {
				sum += benchCounts[next]
			}
			buckets[math.Ldexp(1, exponent)] = sum
		}
		metrics = append(metrics, prometheus.MustNewConstHistogram(duration, sum, 1.5, buckets, benchNames[i], "success"))
	}
	return metrics
}

// each collects anew at every scrape.
type each func() []prometheus.Metric

func (each) Describe(chan<- *prometheus.Desc) {}

func (f each) Collect(ch chan<- prometheus.Metric) {
	for _, m := range f() {
		ch <- m
	}
}

// handlers returns the ways to serve the load: ours; client_golang's default one; and
// our metrics through client_golang's registry, which singles out the exporter.
func (l load) handlers(tb testing.TB) map[string]http.Handler {
	tb.Helper()
	e := New(Options{})
	if err := e.Add("bench", CollectorFunc(l.ours)); err != nil {
		tb.Fatal(err)
	}
	serve := func(f each) http.Handler {
		r := prometheus.NewRegistry()
		r.MustRegister(f)
		return promhttp.HandlerFor(r, promhttp.HandlerOpts{EnableOpenMetrics: true})
	}
	return map[string]http.Handler{
		"sonde":         e.Handler(),
		"client_golang": serve(l.theirs),
		"registry":      serve(func() []prometheus.Metric { m, _ := l.ours(context.Background()); return m }),
	}
}

// discard is a response whose body nobody reads.
type discard struct {
	header http.Header
	bytes  int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { d.bytes += len(p); return len(p), nil }

var benchAccept = map[string]string{
	"text":        "text/plain;version=0.0.4",
	"openmetrics": acceptOpenMetrics,
	"protobuf":    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
}

func scrape(h http.Handler, accept, encoding string) int {
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	w := &discard{header: http.Header{}}
	h.ServeHTTP(w, r)
	return w.bytes
}

// cost is what one scrape takes, the median of its rounds.
type cost struct {
	time   time.Duration
	allocs uint64
	bytes  int
}

// compareHandlers scrapes all handlers in turn, round after round, so that whatever disturbs
// the machine disturbs them alike.
func compareHandlers(handlers map[string]http.Handler, accept, encoding string, rounds int) map[string]cost {
	times, allocs, sizes := map[string][]time.Duration{}, map[string][]uint64{}, map[string]int{}
	for range rounds {
		for name, h := range handlers {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			sizes[name] = scrape(h, accept, encoding)
			times[name] = append(times[name], time.Since(start))
			runtime.ReadMemStats(&after)
			allocs[name] = append(allocs[name], after.Mallocs-before.Mallocs)
		}
	}
	costs := map[string]cost{}
	for name := range handlers {
		slices.Sort(times[name])
		slices.Sort(allocs[name])
		costs[name] = cost{times[name][rounds/2], allocs[name][rounds/2], sizes[name]}
	}
	return costs
}

// TestScrapeCost holds a scrape to half the time and a quarter of the allocations of
// client_golang's default way.
func TestScrapeCost(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	for name, l := range loads {
		handlers := l.handlers(t)
		delete(handlers, "registry")
		for format, accept := range benchAccept {
			costs := compareHandlers(handlers, accept, "", 5)
			ours, theirs := costs["sonde"], costs["client_golang"]
			t.Logf("%s, %s: %v and %d allocations, client_golang %v and %d", name, format, ours.time, ours.allocs, theirs.time, theirs.allocs)
			if 2*ours.time > theirs.time {
				t.Errorf("%s, %s: %v, more than half of client_golang's %v", name, format, ours.time, theirs.time)
			}
			if 4*ours.allocs > theirs.allocs {
				t.Errorf("%s, %s: %d allocations, more than a quarter of client_golang's %d", name, format, ours.allocs, theirs.allocs)
			}
		}
	}
}

// victoria serves the load's counters with VictoriaMetrics' library, which knows the text
// format only, and keeps its counters itself.
func (l load) victoria() http.Handler {
	set := vm.NewSet()
	for i := range l.counters {
		set.NewCounter(fmt.Sprintf("sonde_bench_total{syscall=%q,outcome=\"success\"}", benchNames[i])).Set(uint64(i) * 1000)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { set.WritePrometheus(w) })
}

// BenchmarkScrapeSize serves counters as text, by their number, besides with
// VictoriaMetrics' library. The metrics are those of BenchmarkScrape.
func BenchmarkScrapeSize(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		l := load{counters: n}
		handlers := l.handlers(b)
		handlers["victoria"] = l.victoria()
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for impl, c := range compareHandlers(handlers, benchAccept["text"], "", max(b.N, 3)) {
				b.ReportMetric(float64(c.time.Microseconds())/1000, impl+"-ms")
				b.ReportMetric(float64(c.allocs), impl+"-allocs")
			}
		})
	}
}

// BenchmarkScrape serves 10 000 series. The interleaved medians are in the metrics
// sonde-ms, client_golang-ms and registry-ms; ns/op is one round of all three.
func BenchmarkScrape(b *testing.B) {
	for _, name := range []string{"counters", "mixed"} {
		handlers := loads[name].handlers(b)
		for _, format := range []string{"text", "openmetrics", "protobuf"} {
			for _, encoding := range []string{"identity", "gzip"} {
				b.Run(name+"/"+format+"/"+encoding, func(b *testing.B) {
					costs := compareHandlers(handlers, benchAccept[format], encoding, max(b.N, 3))
					for impl, c := range costs {
						b.ReportMetric(float64(c.time.Microseconds())/1000, impl+"-ms")
						b.ReportMetric(float64(c.allocs), impl+"-allocs")
					}
					b.ReportMetric(float64(costs["sonde"].time)/float64(costs["client_golang"].time), "time-ratio")
					b.ReportMetric(float64(costs["sonde"].allocs)/float64(costs["client_golang"].allocs), "allocs-ratio")
					b.ReportMetric(float64(costs["sonde"].bytes), "sonde-bytes")
				})
			}
		}
	}
}
