package metric

import "fmt"

// Grid is the fixed set of classic buckets of a histogram family: their upper
// bounds are the powers of two from 2^min to 2^max, then +Inf. It is fixed per
// family so that the set of series never changes: what lies below the first bound
// is counted in the first bucket, what lies above the last only in +Inf. The
// native part of the histogram is not limited by it.
type Grid struct {
	unit     string
	min, max int
}

// Limits of a grid: no bucket may touch the zero bucket of the native part.
const (
	minExponent = -64
	maxExponent = 64
)

// Seconds is a grid for durations, from 2^low to 2^high seconds:
// -20 is about 1 µs, -10 about 1 ms, 4 is 16 s.
func Seconds(low, high int) Grid { return Grid{"seconds", low, high} }

// Bytes is a grid for sizes, from 2^low to 2^high bytes.
func Bytes(low, high int) Grid { return Grid{"bytes", low, high} }

// Counts is a grid for plain numbers, from 2^low to 2^high.
func Counts(low, high int) Grid { return Grid{"", low, high} }

// Len returns the number of finite classic buckets.
func (g Grid) Len() int { return g.max - g.min + 1 }

// Exponent returns k of the i-th upper bound 2^k.
func (g Grid) Exponent(i int) int { return g.min + i }

// Unit returns the base unit, "" for plain numbers.
func (g Grid) Unit() string { return g.unit }

// String describes the bounds for readers.
func (g Grid) String() string {
	return fmt.Sprintf("2^%d to 2^%d %s", g.min, g.max, g.unit)
}

func (g Grid) validate() error {
	if g.min > g.max || g.min < minExponent || g.max > maxExponent {
		return fmt.Errorf("bucket exponents %d to %d: want an ascending range within %d to %d",
			g.min, g.max, minExponent, maxExponent)
	}
	return nil
}
