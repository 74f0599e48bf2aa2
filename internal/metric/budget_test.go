package metric

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// shown returns the samples of a round by their label values.
func shown(t *testing.T, metrics []prometheus.Metric) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for _, m := range metrics {
		s := m.(*Series)
		if err := s.Err(); err != nil {
			t.Fatal(err)
		}
		name := strings.Join(s.LabelValues(), "/")
		if _, twice := all[name]; twice {
			t.Errorf("series %s twice", name)
		}
		all[name] = s.Value()
		if v, ok := s.Histogram(); ok {
			all[name] = float64(v.Count)
		}
	}
	return all
}

func newBudget(t *testing.T, d Declaration, limit int, idle time.Duration) *Budget {
	t.Helper()
	b, err := NewBudget(d, limit, idle)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wantShown(t *testing.T, r *Round, want map[string]float64) {
	t.Helper()
	if diff := cmp.Diff(want, shown(t, r.End())); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestBudgetFoldsAboveTheCap(t *testing.T) {
	c := NewSet().Counter("x_total", "H.", Bounded("name", "x"))
	b := newBudget(t, c, 3, 0) // two of their own and "other"
	now := time.Unix(0, 0)

	r := b.Begin(now)
	r.Add(1, "a")
	r.Add(2, "b")
	wantShown(t, r, map[string]float64{"a": 1, "b": 2}) // exactly full: nothing folded
	if b.Folded() != 0 {
		t.Errorf("folded %d at the cap, want 0", b.Folded())
	}

	now = now.Add(time.Second)
	r = b.Begin(now)
	r.Add(1, "a")
	r.Add(3, "b")
	r.Add(10, "c")
	r.Add(100, "d")
	wantShown(t, r, map[string]float64{"a": 1, "b": 3, "other": 110})
	if b.Folded() != 2 {
		t.Errorf("folded %d, want 2", b.Folded())
	}

	// "a" is gone: "c" gets its place and begins with what is not in "other".
	now = now.Add(time.Second)
	r = b.Begin(now)
	r.Add(3, "b")
	r.Add(11, "c")
	r.Add(105, "d")
	wantShown(t, r, map[string]float64{"b": 3, "other": 116})
	now = now.Add(time.Second)
	r = b.Begin(now)
	r.Add(3, "b")
	r.Add(15, "c")
	r.Add(105, "d")
	wantShown(t, r, map[string]float64{"b": 3, "c": 4, "other": 116})
	if b.Folded() != 2 {
		t.Errorf("folded %d, want 2: each label set is counted once", b.Folded())
	}
}

func TestBudgetExpiresIdleCounters(t *testing.T) {
	c := NewSet().Counter("x_total", "H.", Bounded("name", "x"))
	b := newBudget(t, c, 2, time.Minute)
	start := time.Unix(0, 0)
	round := func(after time.Duration, a, b2 float64) *Round {
		r := b.Begin(start.Add(after))
		r.Add(a, "a")
		r.Add(b2, "b")
		return r
	}
	wantShown(t, round(0, 5, 1), map[string]float64{"a": 5, "other": 1})
	wantShown(t, round(59*time.Second, 5, 2), map[string]float64{"a": 5, "other": 2})
	// "a" has not moved for a minute; "b" takes its place with what it grew by since.
	wantShown(t, round(60*time.Second, 5, 4), map[string]float64{"b": 2, "other": 2})
	// "a" moves again: its growth is added up, its old value is not counted twice.
	wantShown(t, round(61*time.Second, 8, 4), map[string]float64{"b": 2, "other": 5})
}

func TestBudgetKeepsEnumerations(t *testing.T) {
	c := NewSet().Counter("x_total", "H.", Enum("way", "in", "out"), Bounded("errno", "x"))
	if _, err := NewBudget(c, 3, 0); err == nil {
		t.Error("a budget without room for any series of its own is accepted")
	}
	b := newBudget(t, c, 4, 0)
	r := b.Begin(time.Unix(0, 0))
	r.Add(1, "in", "EPERM")
	r.Add(2, "in", "EIO")
	r.Add(4, "out", "EIO")
	r.Add(8, "in", "EAGAIN")
	r.Add(16, "sideways", "EIO")
	wantShown(t, r, map[string]float64{"EPERM/in": 1, "other/in": 10, "other/out": 4, "other/other": 16})
}

func TestBudgetOfGaugesAddsAnew(t *testing.T) {
	g := NewSet().Gauge("x", "H.", Bounded("name", "x"))
	b := newBudget(t, g, 2, time.Minute)
	for i := range 3 {
		r := b.Begin(time.Unix(int64(i)*3600, 0))
		r.Add(1, "a")
		r.Add(2, "b")
		r.Add(-5, "c")
		wantShown(t, r, map[string]float64{"a": 1, "other": -3})
	}
}

func TestBudgetForgetsWhatItCannotTrack(t *testing.T) {
	c := NewSet().Counter("x_total", "H.", Bounded("name", "x"))
	b := newBudget(t, c, 3, time.Hour)
	for i := range 100 {
		r := b.Begin(time.Unix(int64(i), 0))
		r.Add(1, fmt.Sprint(i))
		if n := len(r.End()); n > 3 {
			t.Fatalf("%d series, want at most 3", n)
		}
	}
	if n := len(b.entries); n > trackFactor*2 {
		t.Errorf("%d label sets remembered, want at most %d", n, trackFactor*2)
	}
}

// TestBudgetLosesAndDoublesNothing lets random counters grow and wants, in every
// round, as many observations shown as there were, no counter going back and never
// more series than allowed.
func TestBudgetLosesAndDoublesNothing(t *testing.T) {
	set := NewSet()
	declarations := []Declaration{
		set.Counter("x_total", "H.", Bounded("name", "x")),
		set.Histogram("x_seconds", "H.", Seconds(-20, 4), Bounded("name", "x")),
	}
	for _, d := range declarations {
		t.Run(d.Family().Type.String(), func(t *testing.T) {
			random := rand.New(rand.NewPCG(3, 4))
			b := newBudget(t, d, 6, 0)
			var source [20]Buckets
			last := map[string]float64{}
			total := 0.0
			for i := range 200 {
				for range 10 {
					n := random.IntN(len(source))
					at := random.Int32N(40) - 20
					source[n].add(&Buckets{First: at, Counts: []uint64{1}, Sum: 1})
					total++
				}
				r := b.Begin(time.Unix(int64(i), 0))
				for n := range source {
					if source[n].Sum == 0 {
						continue
					}
					if d.Family().Type == TypeCounter {
						r.Add(source[n].Sum, fmt.Sprint(n))
					} else {
						r.AddBuckets(source[n], fmt.Sprint(n))
					}
				}
				sum := 0.0
				now := shown(t, r.End())
				for name, v := range now {
					if sum += v; v < last[name] {
						t.Fatalf("round %d: %s went back from %v to %v", i, name, last[name], v)
					}
				}
				if sum != total || len(now) > 6 {
					t.Fatalf("round %d: %v shown in %d series, want %v in at most 6", i, sum, len(now), total)
				}
				last = now
			}
		})
	}
}
