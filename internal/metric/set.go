package metric

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Set is the catalogue of the families one package declares. It is filled while
// the package's variables are initialised and only read afterwards.
type Set struct {
	families []*Family
}

// NewSet returns an empty catalogue.
func NewSet() *Set { return &Set{} }

// Families returns the declared families, sorted by name.
func (s *Set) Families() []Family {
	all := make([]Family, len(s.families))
	for i, f := range s.families {
		all[i] = *f
	}
	slices.SortFunc(all, func(a, b Family) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Counter declares a counter. The name ends in _total and comes without prefix.
func (s *Set) Counter(name, help string, labels ...Label) *Counter {
	return &Counter{declaration{s.declare(TypeCounter, name, help, Grid{}, labels)}}
}

// Gauge declares a gauge. The name comes without prefix.
func (s *Set) Gauge(name, help string, labels ...Label) *Gauge {
	return &Gauge{declaration{s.declare(TypeGauge, name, help, Grid{}, labels)}}
}

// Histogram declares a histogram that is native and classic at once. The name
// comes without prefix and ends in the unit of the grid.
func (s *Set) Histogram(name, help string, grid Grid, labels ...Label) *Histogram {
	return &Histogram{declaration{s.declare(TypeHistogram, name, help, grid, labels)}}
}

// declare panics where the declaration is malformed: that is a fault of the
// source, not of the run.
func (s *Set) declare(t Type, name, help string, grid Grid, labels []Label) *Family {
	f, err := newFamily(t, name, help, labels)
	if err == nil && t == TypeHistogram {
		f.Grid = grid
		if err = grid.validate(); err == nil && grid.unit != f.Unit {
			err = fmt.Errorf("declare %s: the grid counts %q, the name says %q", f.Name, grid.unit, f.Unit)
		}
	}
	if err != nil {
		panic(err)
	}
	for _, other := range s.families {
		if other.Name == f.Name {
			panic(fmt.Errorf("declare %s: declared twice", f.Name))
		}
	}
	s.families = append(s.families, f)
	return f
}

// declaration is what the declared types have in common.
type declaration struct{ family *Family }

// Family returns the declared family.
func (d declaration) Family() *Family { return d.family }

// Counter is a declared counter.
type Counter struct{ declaration }

// With returns a sample: the cumulative value, with the label values in the order
// of the declaration.
func (c *Counter) With(value float64, labelValues ...string) prometheus.Metric {
	return c.family.series(value, time.Time{}, labelValues)
}

// WithCreated is With for a counter that began to count at a known time.
func (c *Counter) WithCreated(value float64, created time.Time, labelValues ...string) prometheus.Metric {
	return c.family.series(value, created, labelValues)
}

// Gauge is a declared gauge.
type Gauge struct{ declaration }

// With returns a sample, with the label values in the order of the declaration.
func (g *Gauge) With(value float64, labelValues ...string) prometheus.Metric {
	return g.family.series(value, time.Time{}, labelValues)
}

// Histogram is a declared histogram.
type Histogram struct{ declaration }

// With returns a sample. The buckets are copied: the caller may reuse them.
func (h *Histogram) With(b Buckets, labelValues ...string) prometheus.Metric {
	return h.family.histogramSeries(b, labelValues)
}
