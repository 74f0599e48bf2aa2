package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

func TestStub(t *testing.T) {
	stub := filepath.Join(t.TempDir(), "stub")
	if err := WriteStub(stub); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(stub, "argument").CombinedOutput(); err != nil || len(out) != 0 {
		t.Errorf("stub says %q, %v", out, err)
	}
}

// The same seed makes the same load, another one another, and the rate is kept.
func TestSchedule(t *testing.T) {
	arrivals := func(seed, stream uint64) (at []time.Duration) {
		s := newSchedule(1000, seed, stream)
		for next := s.next(); next < 10*time.Second; next = s.next() {
			at = append(at, next)
		}
		return at
	}
	first := arrivals(1, 1)
	if n := len(first); n < 9_600 || n > 10_400 { // four standard deviations
		t.Errorf("%d arrivals in 10 s at 1000 a second", n)
	}
	again := arrivals(1, 1)
	if len(again) != len(first) || again[len(again)-1] != first[len(first)-1] {
		t.Error("the same seed made another load")
	}
	for _, other := range [][]time.Duration{arrivals(2, 1), arrivals(1, 2)} {
		if other[0] == first[0] {
			t.Error("another seed or worker made the same load")
		}
	}
}

// Every kind does what it was asked for, leaves nothing open, and says so.
func TestLoads(t *testing.T) {
	for kind, w := range map[string]Workload{
		"processes":   {Rate: 50},
		"endpoints":   {Rate: 50, Ports: 20, Exponent: 1.4},
		"connections": {Rate: 100, Hold: 20, Addresses: 300},
		"syscalls":    {Rate: 2000},
		"opens":       {Rate: 200},
		"idle":        {},
	} {
		t.Run(kind, func(t *testing.T) {
			if kind == "connections" {
				testenv.Root(t)
			}
			before := descriptors(t)
			w.Kind, w.Workers, w.Seed = kind, 2, 7
			g, err := New(w)
			if err != nil {
				t.Fatal(err)
			}
			r, err := g.Run(t.Context(), 300*time.Millisecond)
			if err != nil {
				t.Fatal(err)
			}
			if r.Done == 0 && kind != "idle" || r.Done > r.Due {
				t.Errorf("%d of %d operations", r.Done, r.Due)
			}
			if r.Done > 0 && (r.Median <= 0 || r.P99 < r.Median) {
				t.Errorf("median %v s, p99 %v s", r.Median, r.P99)
			}
			g.Close()
			if after := descriptors(t); after > before {
				t.Errorf("%d descriptors are open after, %d before", after, before)
			}
		})
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// A load that is asked for more than it can do says that it fell behind.
func TestFallingBehind(t *testing.T) {
	g := &Generator{workload: Workload{Kind: "slow", Rate: 1000, Workers: 1}}
	g.operate = func(int, *rand.Rand) error { time.Sleep(5 * time.Millisecond); return nil }
	r, err := g.Run(t.Context(), 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if r.Held() {
		t.Errorf("%d of %d operations count as held", r.Done, r.Due)
	}
	if !(Result{Due: 100, Done: 95}).Held() || (Result{Due: 100, Done: 94}).Held() {
		t.Error("the edge is not 95 of 100")
	}
}

// Whoever stops a load waits neither for its end nor for its next operation.
func TestStop(t *testing.T) {
	g, err := New(Workload{Kind: "opens", Rate: 0.001, Workers: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Run(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped load: %v", err)
	}
}

func TestScalesAreLoads(t *testing.T) {
	for name, w := range Scales(2) {
		if Kinds[w.Kind] == "" || makers[w.Kind] == nil || (w.Rate == 0) != (w.Kind == "idle") {
			t.Errorf("%s: %+v", name, w)
		}
	}
}
