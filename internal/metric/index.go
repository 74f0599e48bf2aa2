package metric

import "math"

// Schema is the resolution of all native histograms: each power of two is divided
// into 2^Schema buckets.
const Schema = 2

// perOctave is the number of native buckets in one power of two.
const perOctave = 1 << Schema

// zeroThreshold is the breadth of the zero bucket. Only exact zeros are counted in
// it: the smallest value that any unit here can take (1 ns) is far above.
const zeroThreshold = 0x1p-128

// Upper bounds of the native buckets of one octave, as fractions in [0.5, 1) the
// way Frexp cuts a number: 2^-1, 2^-3/4, 2^-1/2, 2^-1/4, each rounded to the
// nearest float64.
const (
	bound0 = 0.5
	bound1 = 0.5946035575013605
	bound2 = 0.7071067811865475
	bound3 = 0.8408964152537144
)

// indexInf is the bucket of +Inf: one above that of the largest float64.
const indexInf = 1024*perOctave + 1

// Index returns the native bucket of a positive value: bucket i holds the values
// in (2^((i-1)/4), 2^(i/4)].
func Index(v float64) int32 {
	if math.IsInf(v, 1) {
		return indexInf
	}
	frac, exp := math.Frexp(v)
	i := int32(exp-1) * perOctave
	switch {
	case frac <= bound0:
		return i
	case frac <= bound1:
		return i + 1
	case frac <= bound2:
		return i + 2
	case frac <= bound3:
		return i + 3
	}
	return i + 4
}

// exponent returns k of the classic bucket le="2^k" that holds the native bucket
// i: four native buckets make one power of two, so k is i/4 rounded up.
func exponent(i int32) int { return int(i+perOctave-1) >> Schema }
