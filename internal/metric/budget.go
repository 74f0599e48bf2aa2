package metric

import (
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// trackFactor bounds what a budget remembers, in multiples of its cap.
const trackFactor = 8

// Budget keeps one family within a number of series. The first label sets to come
// get a series of their own and keep it while they live; what comes above the cap
// is added up in a series whose Bounded labels say "other" while its Enum labels
// keep their value. Counters stay monotonic throughout: a folded label set adds only
// its growth to "other", and should it get a series of its own later, that one
// begins with what was not counted elsewhere.
//
// A budget serves the rounds of one collector, one after the other; Folded may be
// called at any time.
type Budget struct {
	family *Family
	own    int           // label sets that may have a series of their own
	idle   time.Duration // 0: never expire what is still reported

	entries map[labelKey]*entry
	others  map[labelKey]*amount
	admit   int // entries with a series of their own
	folded  atomic.Uint64
}

// labelKey is a set of label values in the order of the declaration.
type labelKey [MaxLabels]string

// entry is what a budget remembers about one label set.
type entry struct {
	own     bool      // has a series of its own
	last    amount    // as reported in the latest round
	folded  amount    // the part of last that was added to "other"
	seen    time.Time // latest round that reported it
	changed time.Time // latest round that reported another value
}

// Declaration is a declared family: a *Counter, *Gauge or *Histogram.
type Declaration interface{ Family() *Family }

// NewBudget returns a budget of at most limit series for the family, those for
// "other" included. A label set that is not reported any more, or a counter that
// has not moved, for the time idle loses its series; with 0 the former goes at once
// and the latter stays.
func NewBudget(d Declaration, limit int, idle time.Duration) (*Budget, error) {
	f := d.Family()
	others := 1
	for _, l := range f.Labels {
		if l.Values != nil {
			others *= len(l.Values) + 1 // one more for a value that is not listed
		}
	}
	if limit <= others {
		return nil, fmt.Errorf("budget of %s: %d series: need more than %d, the number of %q series", f.Name, limit, others, Other)
	}
	return &Budget{
		family: f, own: limit - others, idle: idle,
		entries: map[labelKey]*entry{}, others: map[labelKey]*amount{},
	}, nil
}

// Family returns the name of the family.
func (b *Budget) Family() string { return b.family.Name }

// Folded returns how many label sets were refused a series of their own so far.
func (b *Budget) Folded() uint64 { return b.folded.Load() }

// Round is one collection. Add every label set once, then call End.
type Round struct {
	b       *Budget
	now     time.Time
	metrics []prometheus.Metric
}

// Begin starts a round.
func (b *Budget) Begin(now time.Time) *Round {
	if b.family.Type == TypeGauge {
		clear(b.others) // a gauge is added up anew each time
	}
	return &Round{b: b, now: now}
}

// Add reports the value of one label set: cumulative for a counter.
func (r *Round) Add(value float64, labelValues ...string) {
	r.add(amount{value: value}, labelValues)
}

// AddBuckets reports the cumulative histogram of one label set.
func (r *Round) AddBuckets(v Buckets, labelValues ...string) {
	r.add(amount{buckets: v}, labelValues)
}

func (r *Round) add(v amount, labelValues []string) {
	b := r.b
	if len(labelValues) != len(b.family.Labels) {
		r.emit(v, labelValues) // the sample carries its error
		return
	}
	var key labelKey
	copy(key[:], labelValues)
	e := b.entries[key]
	if e == nil {
		if e = b.admitNew(key, r.now); e == nil {
			return
		}
	}
	if v.less(&e.last) { // the source began anew
		e.last, e.folded = amount{}, amount{}
	}
	if !v.equal(&e.last) {
		e.changed = r.now
	}
	e.seen = r.now
	b.place(e, r.now)

	switch {
	case e.own:
		v2 := v.clone()
		v2.sub(&e.folded)
		r.emit(v2, labelValues)
	case b.hidden(e, r.now):
		// Idle: nothing has been added to it since it lost its series.
	case b.family.Type == TypeGauge:
		b.other(key).add(&v)
	default:
		growth := v.clone()
		growth.sub(&e.last)
		e.folded.add(&growth)
		b.other(key).add(&growth)
	}
	e.last = v.clone()
}

// admitNew remembers a label set that was not known. It returns nil where the memory
// of the budget is used up: the source is then not bounded as it claims, and what
// cannot be told apart cannot be added up without counting twice.
func (b *Budget) admitNew(key labelKey, now time.Time) *entry {
	if len(b.entries) >= trackFactor*b.own {
		b.folded.Add(1)
		return nil
	}
	e := &entry{changed: now}
	b.entries[key] = e
	if b.admit >= b.own {
		b.folded.Add(1)
	}
	return e
}

// place decides whether the label set has a series of its own in this round.
func (b *Budget) place(e *entry, now time.Time) {
	hidden := b.hidden(e, now)
	switch {
	case e.own && hidden:
		e.own = false
		b.admit--
	case !e.own && !hidden && b.admit < b.own:
		e.own = true
		b.admit++
	}
}

// hidden reports whether the label set is idle. A gauge that does not change is not.
func (b *Budget) hidden(e *entry, now time.Time) bool {
	return b.idle > 0 && b.family.Type != TypeGauge && now.Sub(e.changed) >= b.idle
}

// other returns the sum that a folded label set belongs to.
func (b *Budget) other(key labelKey) *amount {
	for i, l := range b.family.Labels {
		if l.Values == nil || !l.has(key[i]) {
			key[i] = Other
		}
	}
	sum := b.others[key]
	if sum == nil {
		sum = &amount{}
		b.others[key] = sum
	}
	return sum
}

// End forgets the label sets that are gone and returns the samples of the round.
func (r *Round) End() []prometheus.Metric {
	for key, e := range r.b.entries {
		if e.seen.Before(r.now) && r.now.Sub(e.seen) >= r.b.idle {
			if e.own {
				r.b.admit--
			}
			delete(r.b.entries, key)
		}
	}
	for key, sum := range r.b.others {
		r.emit(sum.clone(), key[:len(r.b.family.Labels)])
	}
	return r.metrics
}

func (r *Round) emit(v amount, labelValues []string) {
	f := r.b.family
	if f.Type == TypeHistogram {
		r.metrics = append(r.metrics, f.histogramSeries(v.buckets, labelValues))
		return
	}
	r.metrics = append(r.metrics, f.series(v.value, time.Time{}, labelValues))
}

// amount is a cumulative value: a number, or a histogram.
type amount struct {
	value   float64
	buckets Buckets
}

func (a *amount) clone() amount {
	c := *a
	c.buckets.Counts = slices.Clone(a.buckets.Counts)
	return c
}

func (a *amount) equal(o *amount) bool {
	return a.value == o.value && a.buckets.Count() == o.buckets.Count()
}

func (a *amount) less(o *amount) bool {
	return a.value < o.value || a.buckets.Count() < o.buckets.Count()
}

func (a *amount) add(o *amount) {
	a.value += o.value
	a.buckets.add(&o.buckets)
}

func (a *amount) sub(o *amount) {
	a.value -= o.value
	a.buckets.sub(&o.buckets)
}
