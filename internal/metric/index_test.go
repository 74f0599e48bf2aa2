package metric

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// reference returns the bucket into which client_golang's own native histogram
// puts the value.
func reference(t *testing.T, v float64) int32 {
	t.Helper()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "reference", NativeHistogramBucketFactor: 1.2})
	h.Observe(v)
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		t.Fatal(err)
	}
	if s := m.Histogram.GetSchema(); s != Schema {
		t.Fatalf("the reference has schema %d, want %d", s, Schema)
	}
	if n := len(m.Histogram.PositiveSpan); n != 1 {
		t.Fatalf("the reference put %g into %d spans", v, n)
	}
	return m.Histogram.PositiveSpan[0].GetOffset()
}

// boundaryValues calls f with values on and next to every native boundary from
// 2^-31 to 2^41.
func boundaryValues(f func(v float64)) {
	for i := -31 * perOctave; i <= 41*perOctave; i++ {
		bound := math.Exp2(float64(i) / perOctave)
		below, above := math.Nextafter(bound, 0), math.Nextafter(bound, math.Inf(1))
		for _, v := range []float64{bound, below, above, math.Nextafter(below, 0), math.Nextafter(above, math.Inf(1))} {
			f(v)
		}
	}
}

func TestIndexEqualsClientGolang(t *testing.T) {
	check := func(v float64) {
		if got, want := Index(v), reference(t, v); got != want {
			t.Errorf("Index(%v) = %d, client_golang puts it into %d", v, got, want)
		}
	}
	boundaryValues(check)
	for _, v := range []float64{math.Inf(1), math.MaxFloat64, 1e-30, 0x1p-127} {
		check(v)
	}
}

func TestIndexOfDurationsEqualsClientGolang(t *testing.T) {
	for i := -30 * perOctave; i <= 17*perOctave; i++ {
		ns := int64(math.Exp2(float64(i)/perOctave) * 1e9)
		for d := ns - 1; d <= ns+2; d++ {
			if d <= 0 {
				continue
			}
			v := time.Duration(d).Seconds()
			if got, want := Index(v), reference(t, v); got != want {
				t.Errorf("Index(%d ns) = %d, client_golang puts it into %d", d, got, want)
			}
		}
	}
}

func TestExponentHoldsTheIndex(t *testing.T) {
	boundaryValues(func(v float64) {
		k := exponent(Index(v))
		if v > math.Ldexp(1, k) || v <= math.Ldexp(1, k-1) {
			t.Errorf("%v is put into the classic bucket le=2^%d", v, k)
		}
	})
}
