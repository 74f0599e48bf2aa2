package metric

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// trackFactor bounds what a budget remembers, in multiples of its cap.
const trackFactor = 8

// Budget keeps one family within a number of series. The first label sets to come
// get a series of their own; what comes above the cap is added up in a series whose
// labels say "other", except for enumerations, which keep their value. A series that
// has been idle for a while gives up its place as soon as another label set wants
// it, and not before: what is quiet stays visible while there is room.
//
// Counters stay monotonic throughout: a folded label set adds only its growth to
// "other", and should it get a series of its own later, that one begins with what
// was not counted elsewhere.
//
// A budget serves the rounds of one collector, one after the other; Folded may be
// called at any time.
type Budget struct {
	family  *Family
	own     int           // label sets that may have a series of their own
	idle    time.Duration // after which a series may lose its place
	created time.Time     // when the source began to count; zero where unknown

	entries map[labelKey]*entry
	others  map[labelKey]*amount
	admit   int // entries with a series of their own
	size    int // samples of the round before
	folded  atomic.Uint64
}

// labelKey is a set of label values in the order of the declaration.
type labelKey [MaxLabels]string

// entry is what a budget remembers about one label set.
type entry struct {
	own     bool      // has a series of its own
	known   bool      // has had one: since is settled
	retired bool      // has lost it, and has not moved since
	refused bool      // is in Folded
	last    amount    // as reported in the latest round
	folded  amount    // the part of last that was added to "other"
	since   time.Time // when its series began to count
	seen    time.Time // latest round that reported it
	changed time.Time // latest round that reported another value
}

// Declaration is a declared family: a *Counter, *Gauge or *Histogram.
type Declaration interface{ Family() *Family }

// NewBudget returns a budget of limit series for the family, those for "other"
// included; one series at least is none of these. A label set that is not reported
// any more is forgotten after the time idle. created is when the source began to
// count, zero where that is unknown.
func NewBudget(d Declaration, limit int, idle time.Duration, created time.Time) *Budget {
	f := d.Family()
	others := 1
	for _, l := range f.Labels {
		if l.Values != nil {
			others *= len(l.Values) + 1 // one more for a value that is not listed
		}
	}
	return &Budget{
		family: f, own: max(limit-others, 1), idle: idle, created: created,
		entries: map[labelKey]*entry{}, others: map[labelKey]*amount{},
	}
}

// Folded returns how many label sets were refused a series of their own so far.
func (b *Budget) Folded() uint64 { return b.folded.Load() }

// Round is one collection. Add every label set once, then call End.
type Round struct {
	b       *Budget
	now     time.Time
	wanted  int // label sets that found no place
	metrics []prometheus.Metric
}

// Begin starts a round.
func (b *Budget) Begin(now time.Time) *Round {
	if b.family.Type == TypeGauge {
		clear(b.others) // a gauge is added up anew each time
	}
	return &Round{b: b, now: now, metrics: make([]prometheus.Metric, 0, b.size)}
}

// Add reports the value of one label set: cumulative for a counter.
func (r *Round) Add(value float64, labelValues ...string) {
	r.add(amount{value: value}, labelValues)
}

// AddBuckets reports the cumulative histogram of one label set. Its counts are
// copied where they are kept.
func (r *Round) AddBuckets(v Buckets, labelValues ...string) {
	r.add(amount{buckets: v}, labelValues)
}

func (r *Round) add(v amount, labelValues []string) {
	b := r.b
	if len(labelValues) != len(b.family.Labels) {
		r.emit(v, b.created, labelValues) // the sample carries its error
		return
	}
	var key labelKey
	copy(key[:], labelValues)
	e := b.entries[key]
	if e == nil {
		if e = b.remember(key, r.now); e == nil {
			return
		}
	}
	if v.less(&e.last) { // the source began anew
		e.last, e.folded = amount{}, amount{}
	}
	moved := !v.equal(&e.last)
	if moved {
		e.changed, e.retired = r.now, false
	}
	e.seen = r.now
	other := b.otherKey(key)
	switch r.place(e, key == other); {
	case e.own && e.folded.zero():
		r.emit(v, e.since, labelValues)
	case e.own:
		rest := v.clone()
		rest.sub(&e.folded)
		r.emit(rest, e.since, labelValues)
	case e.retired: // nothing has been added to it since it lost its series
	case b.family.Type == TypeGauge:
		b.other(other).add(&v)
	default:
		growth := v.clone()
		growth.sub(&e.last)
		e.folded.add(&growth)
		b.other(other).add(&growth)
	}
	if moved {
		e.last = v.clone()
	}
}

// remember makes an entry for a label set that was not known. It returns nil where
// the memory of the budget is used up: the source is then not bounded as it claims,
// and what cannot be told apart cannot be added up without counting twice.
func (b *Budget) remember(key labelKey, now time.Time) *entry {
	if len(b.entries) >= trackFactor*b.own {
		b.folded.Add(1)
		return nil
	}
	e := &entry{changed: now}
	b.entries[key] = e
	return e
}

// place gives a label set a series of its own if there is room. One that the source
// itself calls "other" never needs any.
func (r *Round) place(e *entry, collective bool) {
	switch b := r.b; {
	case e.own || e.retired || collective:
	case b.admit < b.own:
		e.own = true
		b.admit++
		if !e.known {
			e.known, e.since = true, b.created
			if !e.folded.zero() {
				e.since = r.now
			}
		}
	default:
		r.wanted++
		if !e.refused {
			e.refused = true
			b.folded.Add(1)
		}
	}
}

// otherKey names the sum that a label set belongs to if it is folded.
func (b *Budget) otherKey(key labelKey) labelKey {
	for i, l := range b.family.Labels {
		if l.Values == nil || !l.has(key[i]) {
			key[i] = Other
		}
	}
	return key
}

func (b *Budget) other(key labelKey) *amount {
	sum := b.others[key]
	if sum == nil {
		sum = &amount{}
		b.others[key] = sum
	}
	return sum
}

// End returns the samples of the round. It forgets the label sets that are gone, and
// makes room for those that found none.
func (r *Round) End() []prometheus.Metric {
	b := r.b
	var idle []*entry // with a series that they do not need
	for key, e := range b.entries {
		gone := e.seen.Before(r.now)
		switch {
		case gone && r.now.Sub(e.seen) >= b.idle:
			if e.own {
				b.admit--
			}
			delete(b.entries, key)
		case r.wanted > 0 && e.own && (gone || b.family.Type != TypeGauge && r.now.Sub(e.changed) >= b.idle):
			idle = append(idle, e)
		}
	}
	slices.SortFunc(idle, func(x, y *entry) int { return cmp.Or(x.seen.Compare(y.seen), x.changed.Compare(y.changed)) })
	for _, e := range idle[:min(len(idle), r.wanted)] {
		e.own, e.retired = false, b.family.Type != TypeGauge
		b.admit--
	}
	for key, sum := range b.others {
		r.emit(*sum, b.created, key[:len(b.family.Labels)])
	}
	b.size = len(r.metrics)
	return r.metrics
}

// emit appends a sample, which copies what it is made of.
func (r *Round) emit(v amount, created time.Time, labelValues []string) {
	f := r.b.family
	if f.Type == TypeHistogram {
		v.buckets.Created = created
		r.metrics = append(r.metrics, f.histogramSeries(v.buckets, labelValues))
		return
	}
	r.metrics = append(r.metrics, f.series(v.value, created, labelValues))
}

// amount is a cumulative value: a number, or a histogram.
type amount struct {
	value   float64
	buckets Buckets
}

// clone returns a copy that shares no memory.
func (a *amount) clone() amount {
	c := *a
	c.buckets.Counts = slices.Clone(a.buckets.Counts)
	c.buckets.Exemplar = nil // of one label set at one time
	return c
}

func (a *amount) zero() bool { return a.equal(&amount{}) }

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
