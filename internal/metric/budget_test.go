package metric

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
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

// born is when the sources of these tests began to count.
var born = time.Unix(-1000, 0)

func wantShown(t *testing.T, r *Round, want map[string]float64) {
	t.Helper()
	if diff := cmp.Diff(want, shown(t, r.End())); diff != "" {
		t.Errorf("series (-want +got):\n%s", diff)
	}
}

func TestBudgetFoldsAboveTheCap(t *testing.T) {
	c := NewSet().Counter("x_total", "H.", Open("name", "x"))
	b := NewBudget(c, 3, time.Minute, born) // two of their own and "other"
	now := time.Unix(0, 0)
	round := func(after time.Duration, values map[string]float64) *Round {
		r := b.Begin(now.Add(after))
		for _, name := range slices.Sorted(maps.Keys(values)) {
			r.Add(values[name], name)
		}
		return r
	}
	wantShown(t, round(0, map[string]float64{"a": 1, "b": 2}), map[string]float64{"a": 1, "b": 2}) // exactly full
	if b.Folded() != 0 {
		t.Errorf("folded %d at the cap, want 0", b.Folded())
	}
	wantShown(t, round(time.Second, map[string]float64{"a": 1, "b": 3, "c": 10, "d": 100}), map[string]float64{"a": 1, "b": 3, "other": 110})
	if b.Folded() != 2 {
		t.Errorf("folded %d, want 2", b.Folded())
	}
	// "a" is gone: its place goes to "c", which begins with what is not in "other".
	wantShown(t, round(2*time.Second, map[string]float64{"b": 3, "c": 11, "d": 105}), map[string]float64{"b": 3, "other": 116})
	wantShown(t, round(3*time.Second, map[string]float64{"b": 3, "c": 15, "d": 105}), map[string]float64{"b": 3, "c": 4, "other": 116})
	if b.Folded() != 2 {
		t.Errorf("folded %d, want 2: each label set is counted once", b.Folded())
	}
}

// An idle series gives up its place when another label set wants it, and no sooner.
func TestBudgetExpiresIdleCounters(t *testing.T) {
	c := NewSet().Counter("x_total", "H.", Open("name", "x"))
	b := NewBudget(c, 2, time.Minute, born)
	start := time.Unix(0, 0)
	round := func(after time.Duration, values ...float64) *Round {
		r := b.Begin(start.Add(after))
		for i, v := range values {
			r.Add(v, string(rune('a'+i)))
		}
		return r
	}
	wantShown(t, round(0, 5), map[string]float64{"a": 5})
	wantShown(t, round(time.Hour, 5), map[string]float64{"a": 5}) // nobody wants it
	wantShown(t, round(time.Hour+time.Second, 6), map[string]float64{"a": 6})
	wantShown(t, round(time.Hour+2*time.Second, 6, 1), map[string]float64{"a": 6, "other": 1})
	wantShown(t, round(time.Hour+60*time.Second, 6, 2), map[string]float64{"a": 6, "other": 2})
	// "a" has not moved for a minute: from the next round on "b" has its place, and
	// begins with what it grew by since.
	wantShown(t, round(time.Hour+61*time.Second, 6, 3), map[string]float64{"a": 6, "other": 3})
	wantShown(t, round(time.Hour+62*time.Second, 6, 5), map[string]float64{"b": 2, "other": 3})
	// "a" moves again: its growth is added up, its old value is not counted twice.
	wantShown(t, round(time.Hour+63*time.Second, 8, 5), map[string]float64{"b": 2, "other": 5})
}

// A series that begins late says so, and every other one says when its source began.
func TestBudgetCreatedTimes(t *testing.T) {
	c := NewSet().Counter("x_total", "H.", Open("name", "x"))
	b := NewBudget(c, 2, 0, born)
	created := func(at int64, values map[string]float64) map[string]time.Time {
		r := b.Begin(time.Unix(at, 0))
		for _, name := range slices.Sorted(maps.Keys(values)) {
			r.Add(values[name], name)
		}
		all := map[string]time.Time{}
		for _, m := range r.End() {
			all[m.(*Series).LabelValues()[0]] = m.(*Series).Created()
		}
		return all
	}
	if diff := cmp.Diff(map[string]time.Time{"a": born, "other": born}, created(0, map[string]float64{"a": 1, "b": 1})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]time.Time{"b": time.Unix(2, 0), "other": born}, created(2, map[string]float64{"b": 3})); diff != "" {
		t.Error(diff)
	}
}

// What the source calls "other" itself joins the sum and takes no place.
func TestBudgetJoinsOther(t *testing.T) {
	c := NewSet().Counter("x_total", "H.", Open("name", "x"), Enum("way", "in", "out"))
	b := NewBudget(c, 5, time.Minute, born)
	for i := range 3 {
		r := b.Begin(time.Unix(int64(i), 0))
		r.Add(float64(i), "other", "in")
		r.Add(1, "a", "in")
		r.Add(1, "b", "in")
		r.Add(1, "c", "in")
		wantShown(t, r, map[string]float64{"a/in": 1, "b/in": 1, "other/in": float64(i + 1)})
	}
	if b.Folded() != 1 {
		t.Errorf("folded %d, want 1: c alone", b.Folded())
	}
}

func TestBudgetKeepsEnumerations(t *testing.T) {
	c := NewSet().Counter("x_total", "H.", Enum("way", "in", "out"), Open("errno", "x"))
	b := NewBudget(c, 4, 0, born)
	r := b.Begin(time.Unix(0, 0))
	r.Add(1, "in", "EPERM")
	r.Add(2, "in", "EIO")
	r.Add(4, "out", "EIO")
	r.Add(8, "in", "EAGAIN")
	r.Add(16, "sideways", "EIO")
	wantShown(t, r, map[string]float64{"EPERM/in": 1, "other/in": 10, "other/out": 4, "other/other": 16})
}

func TestBudgetOfGaugesAddsAnew(t *testing.T) {
	g := NewSet().Gauge("x", "H.", Open("name", "x"))
	b := NewBudget(g, 2, time.Minute, born)
	for i := range 3 {
		r := b.Begin(time.Unix(int64(i)*3600, 0))
		r.Add(1, "a")
		r.Add(2, "b")
		r.Add(-5, "c")
		wantShown(t, r, map[string]float64{"a": 1, "other": -3})
	}
	// One that was gone and comes back unchanged is not lost.
	for _, want := range []map[string]float64{{"other": 2}, {"b": 2}} {
		r := b.Begin(time.Unix(10_000, 0))
		r.Add(2, "b")
		wantShown(t, r, want)
	}
	r := b.Begin(time.Unix(10_001, 0))
	r.Add(1, "a")
	r.Add(2, "b")
	wantShown(t, r, map[string]float64{"b": 2, "other": 1})
}

func TestBudgetForgetsWhatItCannotTrack(t *testing.T) {
	c := NewSet().Counter("x_total", "H.", Open("name", "x"))
	b := NewBudget(c, 3, time.Hour, born)
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
// more series than allowed. Where series give up their places at once, what they
// showed is hidden; the rest holds all the same.
func TestBudgetLosesAndDoublesNothing(t *testing.T) {
	set := NewSet()
	declarations := []Declaration{
		set.Counter("x_total", "H.", Open("name", "x")),
		set.Histogram("x_seconds", "H.", Seconds(-20, 4), Open("name", "x")),
	}
	for _, d := range declarations {
		for _, idle := range []time.Duration{time.Hour, 0} {
			t.Run(fmt.Sprintf("%v,idle=%v", d.Family().Type, idle), func(t *testing.T) { growAtRandom(t, d, idle) })
		}
	}
}

func growAtRandom(t *testing.T, d Declaration, idle time.Duration) {
	random := rand.New(rand.NewPCG(3, 4))
	b := NewBudget(d, 6, idle, born)
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
			last[name] = v
		}
		if idle > 0 && sum != total || sum > total || len(now) > 6 {
			t.Fatalf("round %d: %v shown in %d series, want %v in at most 6", i, sum, len(now), total)
		}
	}
}
