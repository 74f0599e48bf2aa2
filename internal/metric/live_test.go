package metric

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/testing/protocmp"
)

// TestHistogramEqualsClientGolang feeds the same values to client_golang's own
// histogram, native and classic at once, and wants the same message.
func TestHistogramEqualsClientGolang(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	cases := map[string][]float64{
		"empty":         nil,
		"zero only":     {0, 0},
		"one":           {1},
		"far apart":     {1e-9, 1e9},
		"small gaps":    {1, 1.3, 2.1, 2.9, 8},
		"outside grid":  {1e-8, 3, 1e6},
		"at the bounds": {0x1p-20, 0x1p4, 1},
	}
	boundaryValues(func(v float64) {
		if v > 0x1p-30 && v < 0x1p40 {
			cases["boundaries"] = append(cases["boundaries"], v)
		}
	})
	for range 20_000 {
		cases["random"] = append(cases["random"], max(math.Exp(random.NormFloat64()*4-8), 1e-9))
	}

	grid := Seconds(-20, 4)
	declared := NewSet().Histogram("test_seconds", "Test.", grid)
	var bounds []float64
	for i := range grid.Len() {
		bounds = append(bounds, math.Ldexp(1, grid.Exponent(i)))
	}
	for name, values := range cases {
		t.Run(name, func(t *testing.T) {
			reference := prometheus.NewHistogram(prometheus.HistogramOpts{
				Name: "reference", Buckets: bounds, NativeHistogramBucketFactor: 1.2,
			})
			live := NewLive()
			for _, v := range values {
				reference.Observe(v)
				live.Observe(v)
			}
			var got, want dto.Metric
			if err := declared.With(live.Buckets()).Write(&got); err != nil {
				t.Fatal(err)
			}
			if err := reference.Write(&want); err != nil {
				t.Fatal(err)
			}
			if got.Histogram.CreatedTimestamp.AsTime().IsZero() {
				t.Error("no created timestamp")
			}
			got.Histogram.CreatedTimestamp, want.Histogram.CreatedTimestamp = nil, nil
			if len(want.Histogram.PositiveSpan) == 0 { // ours tells itself from a classic one in any case
				want.Histogram.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32), Length: new(uint32)}}
			}
			if diff := cmp.Diff(&want, &got, protocmp.Transform()); diff != "" {
				t.Errorf("differs from client_golang (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLiveClampsWhatItCannotHold(t *testing.T) {
	l := NewLive()
	for _, v := range []float64{1e-30, math.MaxFloat64, -1, math.NaN()} {
		l.Observe(v)
	}
	b := l.Buckets()
	if b.First != liveFirst || len(b.Counts) != liveBuckets {
		t.Errorf("buckets %d to %d, want %d to %d", b.First, int(b.First)+len(b.Counts)-1, liveFirst, liveLast)
	}
	if b.Count() != 3 || b.Zero != 1 {
		t.Errorf("count %d, zero %d: want 3 and 1 (NaN is ignored)", b.Count(), b.Zero)
	}
}

func TestLiveCountsEveryConcurrentObservation(t *testing.T) {
	const goroutines, each = 8, 10_000
	l := NewLive()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for i := range each {
				l.ObserveDuration(time.Duration(i+1) * time.Microsecond)
				if i%1000 == 0 {
					l.Buckets()
				}
			}
		})
	}
	wg.Wait()
	b := l.Buckets()
	if got := b.Count(); got != goroutines*each {
		t.Errorf("count %d, want %d", got, goroutines*each)
	}
	want := goroutines * each * (each + 1) / 2 * 1e-6
	if math.Abs(b.Sum-want) > 1e-6*want {
		t.Errorf("sum %g, want %g", b.Sum, want)
	}
}

func TestLiveObserveAllocatesNothing(t *testing.T) {
	l := NewLive()
	if n := testing.AllocsPerRun(1000, func() { l.ObserveDuration(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations for an observation", n)
	}
}

func BenchmarkLiveObserve(b *testing.B) {
	l := NewLive()
	b.ReportAllocs()
	for b.Loop() {
		l.ObserveDuration(1234 * time.Microsecond)
	}
}
