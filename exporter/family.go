package exporter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// family is what a collector shows of one family: either samples of a declared
// family, valid, sorted and without duplicates, or a finished message. It is
// immutable, because scrapes share it.
type family struct {
	declared *metric.Family
	series   []*metric.Series
	message  *dto.MetricFamily
}

func (f *family) name() string {
	if f.declared != nil {
		return f.declared.Name
	}
	return f.message.GetName()
}

// errDuplicate says that a series was given twice.
var errDuplicate = errors.New("duplicate series")

// group sorts metrics into families, in the order of their first sample. A family
// with a malformed or duplicate sample is left out and named in the error.
func group(metrics []prometheus.Metric) ([]family, error) {
	var (
		families []family
		foreign  []prometheus.Metric
		faults   []error
	)
	position := map[*metric.Family]int{}
	samples := make([]*metric.Series, len(metrics)) // all families, one after the other
	counts := []int{}
	last := -1 // position of the family before, which most often is the one again
	for _, m := range metrics {
		s, ok := m.(*metric.Series)
		if !ok {
			foreign = append(foreign, m)
			continue
		}
		declared := s.Family()
		if last < 0 || families[last].declared != declared {
			at, known := position[declared]
			if !known {
				at = len(families)
				position[declared] = at
				families = append(families, family{declared: declared})
				counts = append(counts, 0)
			}
			last = at
		}
		counts[last]++
	}
	for i, n := range counts {
		families[i].series, samples = samples[:0:n], samples[n:]
	}
	for _, m := range metrics {
		if s, ok := m.(*metric.Series); ok {
			if declared := s.Family(); families[last].declared != declared {
				last = position[declared]
			}
			families[last].series = append(families[last].series, s)
		}
	}

	families = slices.DeleteFunc(families, func(f family) bool {
		err := settle(f.series)
		if err != nil {
			faults = append(faults, err)
		}
		return err != nil
	})
	if len(foreign) > 0 {
		others, err := groupForeign(foreign)
		families = append(families, others...)
		if err != nil {
			faults = append(faults, err)
		}
	}
	return families, errors.Join(faults...)
}

// settle checks the samples of one family and sorts them. Samples that come in
// order, as most do, cost one comparison each.
func settle(series []*metric.Series) error {
	sorted := true
	for i, s := range series {
		if err := s.Err(); err != nil {
			return err
		}
		if sorted && i > 0 {
			sorted = metric.Compare(series[i-1], s) < 0
		}
	}
	if sorted {
		return nil
	}
	slices.SortFunc(series, metric.Compare)
	return unique(series)
}

// unique returns an error if a series occurs twice in sorted samples.
func unique(series []*metric.Series) error {
	for i := 1; i < len(series); i++ {
		if metric.Compare(series[i-1], series[i]) == 0 {
			return fmt.Errorf("%s: %w: label values %q", series[i].Family().Name, errDuplicate, series[i].LabelValues())
		}
	}
	return nil
}

// groupForeign is the way for metrics that were not made by a declaration: a
// registry of the moment checks and sorts them.
func groupForeign(metrics []prometheus.Metric) ([]family, error) {
	if slices.Contains(metrics, nil) {
		return nil, errors.New("nil metric")
	}
	registry := prometheus.NewRegistry()
	if err := registry.Register(unchecked(metrics)); err != nil {
		return nil, err
	}
	messages, err := registry.Gather()
	return fromMessages(messages), err
}

func fromMessages(messages []*dto.MetricFamily) []family {
	families := make([]family, len(messages))
	for i, m := range messages {
		families[i].message = m
	}
	return families
}

// unchecked is a prometheus.Collector of finished metrics.
type unchecked []prometheus.Metric

func (unchecked) Describe(chan<- *prometheus.Desc) {}

func (u unchecked) Collect(ch chan<- prometheus.Metric) {
	for _, m := range u {
		ch <- m
	}
}

// merge brings the families of all outcomes together, sorted by name. A family that
// several collectors show is one family; where their samples contradict each other,
// the collector that was added later loses its part and is marked failed.
func merge(outcomes []outcome) []family {
	type part struct {
		family
		from int
	}
	var parts []part
	for i := range outcomes {
		for _, f := range outcomes[i].families {
			parts = append(parts, part{f, i})
		}
	}
	slices.SortStableFunc(parts, func(a, b part) int { return strings.Compare(a.name(), b.name()) })

	merged := make([]family, 0, len(parts))
	for _, p := range parts {
		if n := len(merged); n > 0 && merged[n-1].name() == p.name() {
			both, err := join(merged[n-1], p.family)
			if err != nil {
				o := &outcomes[p.from]
				o.err = errors.Join(o.err, err)
				continue
			}
			merged[n-1] = both
			continue
		}
		merged = append(merged, p.family)
	}
	return merged
}

// join returns the samples of both in a new family.
func join(a, b family) (family, error) {
	if a.declared == nil || a.declared != b.declared {
		return family{}, fmt.Errorf("%s: another collector shows a family of this name", b.name())
	}
	all := slices.Concat(a.series, b.series)
	slices.SortFunc(all, metric.Compare)
	if err := unique(all); err != nil {
		return family{}, err
	}
	return family{declared: a.declared, series: all}, nil
}

// toMessage returns the family as client_golang's own interfaces want it.
func (f *family) toMessage() (*dto.MetricFamily, error) {
	if f.message != nil {
		return f.message, nil
	}
	d := f.declared
	m := &dto.MetricFamily{Name: &d.Name, Help: &d.Help, Type: d.Type.DTO().Enum()}
	if d.Unit != "" {
		m.Unit = &d.Unit
	}
	for _, s := range f.series {
		sample := &dto.Metric{}
		if err := s.Write(sample); err != nil {
			return nil, err
		}
		m.Metric = append(m.Metric, sample)
	}
	return m, nil
}
