package load

import (
	"context"
	"math/rand/v2"
	"time"
)

// early is by how much an operation may come before its time: sleeping for less
// costs more than most operations do.
const early = time.Millisecond

// schedule is a Poisson process: the same seed and stream give the same arrivals.
type schedule struct {
	random *rand.Rand
	mean   float64 // gap, nanoseconds
	at     float64 // nanoseconds since the beginning
}

func newSchedule(rate float64, seed, stream uint64) *schedule {
	return &schedule{random: rand.New(rand.NewPCG(seed, stream)), mean: 1e9 / rate}
}

// next returns when the next operation is due, from the beginning on.
func (s *schedule) next() time.Duration {
	s.at += s.random.ExpFloat64() * s.mean
	return time.Duration(s.at)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// kept is how many operations of a worker are timed: the rest replaces some of them
// at random, so that what is kept stands for all.
const kept = 1 << 14

// tally is what one worker has done.
type tally struct {
	due, done uint64
	took      []time.Duration
}

func (t *tally) add(took time.Duration) {
	t.done++
	if len(t.took) < kept {
		t.took = append(t.took, took)
	} else if i := rand.Uint64N(t.done); i < kept {
		t.took[i] = took
	}
}
