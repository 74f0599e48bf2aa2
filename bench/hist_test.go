package bench

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// The layout of headers/hist.bpf.h.
const (
	firstNS  = -119
	firstInt = 0
	lastSlot = 209
)

// boundaries returns the integers around every bucket bound of schema 2 up to
// 2^(octaves) times the unit: the largest not above it, and their neighbours.
func boundaries(unit float64, fromIndex, toIndex int) []uint64 {
	var values []uint64
	two := big.NewFloat(2).SetPrec(200)
	root := new(big.Float).SetPrec(200).Sqrt(new(big.Float).SetPrec(200).Sqrt(two)) // 2^(1/4)
	for i := fromIndex; i <= toIndex; i++ {
		bound := big.NewFloat(unit).SetPrec(200)
		quarter, octave := ((i%4)+4)%4, (i-((i%4)+4)%4)/4
		for range quarter {
			bound.Mul(bound, root)
		}
		bound.SetMantExp(bound, octave)
		v, _ := bound.Uint64()
		for _, d := range []int64{-2, -1, 0, 1, 2} {
			if w := int64(v) + d; w > 0 {
				values = append(values, uint64(w))
			}
		}
	}
	return values
}

// prometheusIndex asks client_golang into which native bucket of schema 2 a value falls.
func prometheusIndex(tb testing.TB, v float64) int {
	tb.Helper()
	h := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "h", Help: "h", NativeHistogramBucketFactor: 1.2, NativeHistogramZeroThreshold: prometheus.NativeHistogramZeroThresholdZero,
	})
	h.Observe(v)
	var m dto.Metric
	if err := h.Write(&m); err != nil {
		tb.Fatal(err)
	}
	if got := m.Histogram.GetSchema(); got != 2 {
		tb.Fatalf("client_golang chose schema %d, want 2", got)
	}
	return int(m.Histogram.PositiveSpan[0].GetOffset())
}

// TestKernelBucketsArePrometheusBuckets compares the index that the kernel
// computes with client_golang's own, around every boundary and at random.
func TestKernelBucketsArePrometheusBuckets(t *testing.T) {
	testenv.Root(t)
	spec, err := loadLadder()
	if err != nil {
		t.Fatal(err)
	}
	for name := range spec.Programs {
		if name != "slot_ns" && name != "slot_int" {
			delete(spec.Programs, name)
		}
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	for _, c := range []struct {
		program  string
		unit     float64 // integers per Prometheus unit
		first    int
		from, to int
	}{
		// Beyond 2^50 ns, 13 days, seconds in a float64 no longer tell a value from
		// the bound next to it, and client_golang sees nothing but that float64.
		{"slot_ns", 1e9, firstNS, firstNS, 4 * 20},
		{"slot_int", 1, firstInt, firstInt, 4 * 50},
	} {
		t.Run(c.program, func(t *testing.T) {
			values := boundaries(c.unit, c.from, c.to)
			random := rand.New(rand.NewPCG(1, 2))
			for range 20_000 {
				values = append(values, uint64(math.Exp2(random.Float64()*50)))
			}
			wrong := 0
			for _, v := range values {
				slot, err := coll.Programs[c.program].Run(&ebpf.RunOptions{Context: []uint64{v}})
				if err != nil {
					t.Fatal(err)
				}
				if got, want := int(slot)-1+c.first, prometheusIndex(t, float64(v)/c.unit); got != want {
					t.Errorf("%d: kernel says bucket %d, client_golang %d", v, got, want)
					if wrong++; wrong > 10 {
						t.Fatal("and so on")
					}
				}
			}
			t.Logf("%d values, no difference", len(values))
		})
	}
	for v, want := range map[uint64]uint32{0: 0, 1: 1, math.MaxUint64: lastSlot} {
		for name, prog := range coll.Programs {
			got, err := prog.Run(&ebpf.RunOptions{Context: []uint64{v}})
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("%s(%d) = slot %d, want %d", name, v, got, want)
			}
		}
	}
}
