package metric

import (
	"math"
	"slices"
	"sync/atomic"
	"time"
)

// Live is a histogram of the agent's own observations: native buckets of schema 2
// in fixed memory (about 2 KiB). Observing takes no lock and allocates nothing; any
// number of goroutines may observe while others take snapshots.
//
// Values outside of 2^-30 to 2^40 (about 1 ns, and a petabyte) are counted in the
// outermost bucket on their side. Values of 0 and below are counted as zero, and add
// nothing to the sum: a clock that went back must not make it shrink. NaN is ignored.
type Live struct {
	created time.Time
	zero    atomic.Uint64
	sum     atomic.Uint64 // float64 bits
	counts  [liveBuckets]atomic.Uint64
}

const (
	liveFirst   = -30 * perOctave
	liveLast    = 40 * perOctave
	liveBuckets = liveLast - liveFirst + 1
)

// NewLive returns an empty histogram that begins to count now.
func NewLive() *Live { return &Live{created: time.Now()} }

// Observe counts one value in the base unit of the family.
func (l *Live) Observe(v float64) {
	if !(v > 0) { // also NaN
		if v <= 0 {
			l.zero.Add(1)
		}
		return
	}
	l.counts[min(max(Index(v), liveFirst), liveLast)-liveFirst].Add(1)
	for {
		old := l.sum.Load()
		if l.sum.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+v)) {
			return
		}
	}
}

// ObserveDuration counts one duration in seconds.
func (l *Live) ObserveDuration(d time.Duration) { l.Observe(d.Seconds()) }

// Buckets returns a snapshot. Observations that arrive meanwhile may be in the
// buckets and not yet in the sum, or the other way round; none is ever lost.
func (l *Live) Buckets() Buckets {
	var counts [liveBuckets]uint64
	first, end := liveBuckets, 0
	for i := range l.counts {
		if counts[i] = l.counts[i].Load(); counts[i] != 0 {
			first, end = min(first, i), i+1
		}
	}
	b := Buckets{Zero: l.zero.Load(), Sum: math.Float64frombits(l.sum.Load()), Created: l.created}
	if end > 0 {
		b.First = int32(liveFirst + first)
		b.Counts = slices.Clone(counts[first:end])
	}
	return b
}
