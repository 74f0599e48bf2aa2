package metric

import (
	"fmt"
	"slices"
	"time"
	"unicode/utf8"
)

// Buckets is one histogram as it was counted: native buckets of schema 2 in the
// family's base unit. Counts[i] is the bucket with the native index First+i; Zero
// counts values that were exactly 0. The number of observations is the sum of the
// buckets, so that the two cannot disagree.
type Buckets struct {
	First    int32
	Counts   []uint64
	Zero     uint64
	Sum      float64   // in the base unit
	Created  time.Time // when the counting began; zero where unknown
	Exemplar *Exemplar // a recent observation, or nil
}

// Count returns the number of observations.
func (b *Buckets) Count() uint64 {
	n := b.Zero
	for _, c := range b.Counts {
		n += c
	}
	return n
}

// Exemplar is one observation with a label that leads to the event behind it.
type Exemplar struct {
	Label string // such as "exec_id"
	ID    string
	Value float64 // in the base unit
	Time  time.Time
}

// maxExemplarRunes is what OpenMetrics allows for the label set of an exemplar.
const maxExemplarRunes = 128

// usable reports whether the exemplar may be exposed. One that may not is left
// out: it is an ornament, and not worth losing the family.
func (e *Exemplar) usable() bool {
	return e != nil && e.Label != "" && e.Value > 0 && !e.Time.IsZero() &&
		utf8.ValidString(e.ID) &&
		utf8.RuneCountInString(e.Label)+utf8.RuneCountInString(e.ID) <= maxExemplarRunes
}

// histogram is the content of a histogram sample.
type histogram struct {
	first    int32
	counts   []uint64 // no zero at either end
	zero     uint64
	count    uint64
	sum      float64
	exemplar *Exemplar
	err      error
}

// histogramSeries makes the sample and its content in one piece.
func (f *Family) histogramSeries(b Buckets, labelValues []string) *Series {
	s := &struct {
		Series
		hist histogram
	}{Series: Series{family: f, created: b.Created}}
	s.setLabels(labelValues)
	s.Series.hist = &s.hist

	h := &s.hist
	counts, first := b.Counts, b.First
	for len(counts) > 0 && counts[0] == 0 {
		counts, first = counts[1:], first+1
	}
	for len(counts) > 0 && counts[len(counts)-1] == 0 {
		counts = counts[:len(counts)-1]
	}
	*h = histogram{first: first, counts: slices.Clone(counts), zero: b.Zero, count: b.Count(), sum: b.Sum}
	if len(counts) > 0 && (exponent(first) < minExponent || exponent(first+int32(len(counts))-1) > maxExponent+1) {
		h.err = fmt.Errorf("%w: native index %d to %d is out of range", ErrBuckets, first, first+int32(len(counts))-1)
	}
	if b.Exemplar.usable() {
		e := *b.Exemplar
		h.exemplar = &e
	}
	return &s.Series
}

// HistogramView is the view that encoders have of a histogram sample. It shares memory
// with the sample.
type HistogramView struct {
	Count     uint64
	Sum       float64
	ZeroCount uint64
	Exemplar  *Exemplar // nil if none
	h         *histogram
	grid      Grid
}

// ZeroThreshold returns the breadth of the native zero bucket.
func (HistogramView) ZeroThreshold() float64 { return zeroThreshold }

// Histogram returns the content of a histogram sample; ok is false for a counter
// or gauge.
func (s *Series) Histogram() (v HistogramView, ok bool) {
	if s.hist == nil {
		return v, false
	}
	return HistogramView{
		Count: s.hist.count, Sum: s.hist.sum, ZeroCount: s.hist.zero, Exemplar: s.hist.exemplar,
		h: s.hist, grid: s.family.Grid,
	}, true
}

// Classic appends the cumulative counts of the finite classic buckets to dst, one
// for each bound of the grid.
func (v HistogramView) Classic(dst []uint64) []uint64 {
	total := v.ZeroCount
	next := 0 // position in counts
	for i := range v.grid.Len() {
		for next < len(v.h.counts) && exponent(v.h.first+int32(next)) <= v.grid.Exponent(i) {
			total += v.h.counts[next]
			next++
		}
		dst = append(dst, total)
	}
	return dst
}

// ExemplarBucket returns the position of the classic bucket that holds the
// exemplar; Grid.Len() is +Inf. It must only be asked where there is one.
func (v HistogramView) ExemplarBucket() int {
	k := exponent(Index(v.Exemplar.Value))
	return min(max(k-v.grid.min, 0), v.grid.Len())
}

// maxGap is the number of empty buckets that are cheaper to write than a new span.
const maxGap = 2

// Span is a run of consecutive native buckets: Offset is the distance to the end
// of the previous span, the first one's the index of its first bucket.
type Span struct {
	Offset int32
	Length uint32
}

// Native appends the native buckets to spans and deltas: each delta is the
// difference to the count before it. A histogram without a bucket gets one empty
// span, which tells it from a classic one.
func (v HistogramView) Native(spans []Span, deltas []int64) ([]Span, []int64) {
	if len(v.h.counts) == 0 {
		return append(spans, Span{}), deltas
	}
	before := len(spans)
	next := int32(0) // index after the last bucket written
	last := int64(0)
	for i, c := range v.h.counts {
		if c == 0 {
			continue
		}
		index := v.h.first + int32(i)
		gap := index - next
		if len(spans) == before || gap > maxGap {
			spans = append(spans, Span{Offset: gap})
			gap = 0
		}
		span := &spans[len(spans)-1]
		for range gap {
			deltas = append(deltas, -last)
			last = 0
		}
		span.Length += uint32(gap) + 1
		deltas = append(deltas, int64(c)-last)
		last = int64(c)
		next = index + 1
	}
	return spans, deltas
}

// add adds o, whose buckets may lie elsewhere.
func (b *Buckets) add(o *Buckets) {
	b.Zero += o.Zero
	b.Sum += o.Sum
	if b.Created.IsZero() {
		b.Created = o.Created
	}
	if len(o.Counts) == 0 {
		return
	}
	b.cover(o.First, o.First+int32(len(o.Counts)))
	for i, c := range o.Counts {
		b.Counts[o.First-b.First+int32(i)] += c
	}
}

// sub takes away o, which must have been part of b.
func (b *Buckets) sub(o *Buckets) {
	b.Zero -= o.Zero
	b.Sum -= o.Sum
	if len(o.Counts) == 0 {
		return
	}
	b.cover(o.First, o.First+int32(len(o.Counts)))
	for i, c := range o.Counts {
		b.Counts[o.First-b.First+int32(i)] -= c
	}
}

// cover widens b so that it has a bucket for every index from first up to end.
func (b *Buckets) cover(first, end int32) {
	if len(b.Counts) == 0 {
		b.First, b.Counts = first, make([]uint64, end-first)
		return
	}
	if first < b.First {
		b.Counts = append(make([]uint64, b.First-first), b.Counts...)
		b.First = first
	}
	if missing := int(end-b.First) - len(b.Counts); missing > 0 {
		b.Counts = append(b.Counts, make([]uint64, missing)...)
	}
}
