package fleet

import (
	"bytes"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// sensor is one whose counter "moves" and whose histogram grow with every scrape.
func sensor(t *testing.T) *Recording {
	t.Helper()
	registry := prometheus.NewRegistry()
	moves := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "moves"}, func() func() float64 {
		n := 0.0
		return func() float64 { n += 10; return n }
	}())
	still := prometheus.NewCounter(prometheus.CounterOpts{Name: "still"})
	still.Add(7)
	level := prometheus.NewGauge(prometheus.GaugeOpts{Name: "level"})
	level.Set(3)
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "took", NativeHistogramBucketFactor: 1.2, Buckets: []float64{1, 10}})
	registry.MustRegister(moves, still, level, took)
	handler := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	took.Observe(2)
	time.AfterFunc(20*time.Millisecond, func() { took.Observe(5) })
	r, err := Record(t.Context(), server.URL, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// At moves what moved, by its own pace on each node, and nothing else.
func TestAt(t *testing.T) {
	r := sensor(t)
	if r.Series != 4 || r.Histograms != 1 || r.Bytes == 0 || r.Packed == 0 {
		t.Fatalf("%+v", r)
	}
	at := func(node int, passed time.Duration) map[string]*dto.Metric {
		var out bytes.Buffer
		if err := r.At(&out, node, passed); err != nil {
			t.Fatal(err)
		}
		all := map[string]*dto.Metric{}
		d := expfmt.NewDecoder(&out, protobuf)
		for {
			f := &dto.MetricFamily{}
			if d.Decode(f) != nil {
				return all
			}
			all[f.GetName()] = f.Metric[0]
		}
	}
	begin, later, quick := at(0, 0), at(0, 2*time.Second), at(99, 2*time.Second)
	if a, b, c := count(begin["moves"]), count(later["moves"]), count(quick["moves"]); a != 20 || b != 20+10*5 || c <= b {
		t.Errorf("the counter says %v, later %v, on another node %v", a, b, c)
	}
	if later["still"].Counter.GetValue() != 7 || later["level"].Gauge.GetValue() != 3 {
		t.Errorf("%v and %v have moved", later["still"], later["level"])
	}
	h := later["took"].Histogram
	if h.GetSampleCount() != 2*6 || h.Bucket[1].GetCumulativeCount() != 2*6 {
		t.Errorf("the histogram is %v", h)
	}
	var sum, at0 int64
	for _, d := range h.PositiveDelta {
		at0 += d
		sum += at0
	}
	if sum != 2*6 {
		t.Errorf("the native buckets hold %d values", sum)
	}
}

// A real Prometheus sees every node, with its series and their samples.
func TestMeasure(t *testing.T) {
	r := sensor(t)
	m, err := Measure(t.Context(), r, Options{Nodes: 5, Interval: time.Second, For: 3 * time.Second, Prometheus: testenv.Tool(t, "prometheus")})
	if err != nil {
		t.Fatal(err)
	}
	// Prometheus adds five series of its own for each node.
	if m.Series < 5*4 || m.Series > 5*20 || m.SamplesPerSecond < 5*4/2 || m.MemoryBytes < 1<<20 || m.CPU <= 0 || m.WALBytes <= 0 || m.Down != 0 {
		t.Errorf("%+v", m)
	}
}
