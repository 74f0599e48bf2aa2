package compare

import (
	"math"
	"math/rand/v2"
	"slices"

	"golang.org/x/perf/benchmath"
)

// How sure a verdict must be. A difference is one only if both tests say so: Welch's,
// which asks about means and believes in normal values, and Mann-Whitney's, which
// asks about order and believes in nothing.
const (
	alpha      = 0.01
	minRuns    = 5     // of a build; with fewer no difference could be that significant
	resamples  = 2000  // of the bootstrap
	confidence = 0.95  // of its interval
	seed       = 0x50d // of its resampling: the same runs have the same verdict
)

// Verdict says what a difference means.
type Verdict string

// The verdicts.
const (
	Same       Verdict = "same"
	Better     Verdict = "better"
	Regression Verdict = "regression"
)

// Difference is what one resource differs by under one load.
type Difference struct {
	Workload   string
	Resource   Resource
	Base, Head float64 // medians, in the resource's unit
	N          [2]int
	Welch      float64 // p-value
	Mann       float64 // p-value
	Effect     float64 // Hedges' g: the difference of means in standard deviations
	Low, High  float64 // bootstrap interval of the difference of medians
	Verdict    Verdict
}

// Compare compares two builds. Runs that cannot be compared are ErrInput: too few, or
// some that did not hold their load.
func Compare(r *Results, base, head string) ([]Difference, error) {
	if err := r.check(base, head); err != nil {
		return nil, err
	}
	var all []Difference
	for _, workload := range r.Workloads() {
		for _, resource := range Resources {
			a, b := r.values(base, workload, resource.of), r.values(head, workload, resource.of)
			if len(a) == 0 || len(b) == 0 {
				continue // no sensor ran, or no operation
			}
			all = append(all, differ(workload, resource, a, b))
		}
	}
	return all, nil
}

func differ(workload string, resource Resource, a, b []float64) Difference {
	for _, values := range [][]float64{a, b} {
		for i := range values {
			values[i] *= resource.Scale
		}
	}
	d := Difference{
		Workload: workload, Resource: resource, Base: median(a), Head: median(b), N: [2]int{len(a), len(b)},
		Welch: pValue(benchmath.AssumeNormal, a, b), Mann: pValue(benchmath.AssumeNothing, a, b), Effect: hedges(a, b),
	}
	d.Low, d.High = bootstrap(a, b)
	matters := resource.threshold(d.Base)
	switch sure := d.Welch < alpha && d.Mann < alpha; {
	case sure && d.Low > matters:
		d.Verdict = Regression
	case sure && d.High < -matters:
		d.Verdict = Better
	default:
		d.Verdict = Same
	}
	return d
}

// pValue is 1 where all values are equal: that no test can be made of them is no error.
func pValue(assume benchmath.Assumption, a, b []float64) float64 {
	if spread(a) == 0 && spread(b) == 0 {
		if a[0] == b[0] {
			return 1
		}
		return 0
	}
	t := benchmath.DefaultThresholds
	return assume.Compare(benchmath.NewSample(slices.Clone(a), &t), benchmath.NewSample(slices.Clone(b), &t)).P
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func mean(v []float64) (m float64) {
	for _, x := range v {
		m += x / float64(len(v))
	}
	return m
}

// spread is the sum of the squares of the distances from the mean.
func spread(v []float64) (s float64) {
	m := mean(v)
	for _, x := range v {
		s += (x - m) * (x - m)
	}
	return s
}

// hedges is infinite where values that do not vary differ.
func hedges(a, b []float64) float64 {
	freedom := float64(len(a) + len(b) - 2)
	difference, deviation := mean(b)-mean(a), math.Sqrt((spread(a)+spread(b))/freedom)
	if difference == 0 {
		return 0
	}
	return difference / deviation * (1 - 3/(4*freedom-1))
}

// bootstrap returns the percentile interval of the difference of medians.
func bootstrap(a, b []float64) (low, high float64) {
	random := rand.New(rand.NewPCG(seed, uint64(len(a))<<32|uint64(len(b))))
	resample := func(v []float64) float64 {
		drawn := make([]float64, len(v))
		for i := range drawn {
			drawn[i] = v[random.IntN(len(v))]
		}
		return median(drawn)
	}
	differences := make([]float64, resamples)
	for i := range differences {
		differences[i] = resample(b) - resample(a)
	}
	slices.Sort(differences)
	tail := int(resamples * (1 - confidence) / 2)
	return differences[tail], differences[resamples-1-tail]
}
