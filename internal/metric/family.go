package metric

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
)

// Prefix begins every name.
const Prefix = "sonde_"

// Type is the type of a family.
type Type uint8

// The types.
const (
	TypeCounter Type = iota
	TypeGauge
	TypeHistogram
)

// String returns the name of the type as the exposition spells it.
func (t Type) String() string {
	return [...]string{"counter", "gauge", "histogram"}[t]
}

// DTO returns the type as protobuf names it.
func (t Type) DTO() dto.MetricType {
	return [...]dto.MetricType{dto.MetricType_COUNTER, dto.MetricType_GAUGE, dto.MetricType_HISTOGRAM}[t]
}

// Family is one declared family. It is immutable once declared.
type Family struct {
	Name   string // with the prefix
	Type   Type
	Help   string
	Unit   string  // base unit the name ends with: "seconds", "bytes", "ratio" or ""
	Labels []Label // in the order in which label values are given
	Grid   Grid    // classic buckets, of a histogram

	desc   *prometheus.Desc
	sorted []string // label names in the order of the exposition
	place  []int    // place[i] is the position of Labels[i] in sorted
}

// LabelNames returns the label names in the order of the exposition, which is the
// order of Series.LabelValues. The caller must not change it.
func (f *Family) LabelNames() []string { return f.sorted }

// Budgeted reports whether the series of the family are bounded by a Budget, because
// a label takes its values from what is observed.
func (f *Family) Budgeted() bool {
	return slices.ContainsFunc(f.Labels, func(l Label) bool { return l.Open })
}

// Bound says how many series the family has at most, in words: a number where all
// labels are enumerations, with the names of other labels as factors.
func (f *Family) Bound() string {
	if f.Budgeted() {
		return "budget"
	}
	listed := 1
	var factors []string
	for _, l := range f.Labels {
		if l.Values == nil {
			factors = append(factors, l.Name)
		} else {
			listed *= len(l.Values)
		}
	}
	if listed > 1 || len(factors) == 0 {
		factors = append([]string{strconv.Itoa(listed)}, factors...)
	}
	return strings.Join(factors, " × ")
}

// units are the base units a name may end with.
var units = []string{"seconds", "bytes", "ratio"}

func newFamily(t Type, name, help string, labels []Label) (*Family, error) {
	f := &Family{
		Name:   Prefix + name,
		Type:   t,
		Help:   help,
		Labels: slices.Clone(labels),
	}
	base := strings.TrimSuffix(f.Name, "_total")
	for _, u := range units {
		if strings.HasSuffix(base, "_"+u) {
			f.Unit = u
		}
	}
	if err := f.validate(); err != nil {
		return nil, fmt.Errorf("declare %s: %w", f.Name, err)
	}

	given := make([]string, len(labels))
	for i, l := range labels {
		given[i] = l.Name
	}
	f.sorted = slices.Sorted(slices.Values(given))
	for _, name := range given {
		f.place = append(f.place, slices.Index(f.sorted, name))
	}
	f.desc = prometheus.NewDesc(f.Name, f.Help, f.sorted, nil)
	return f, nil
}

// validate returns every fault of the declaration.
func (f *Family) validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	if !model.LegacyValidation.IsValidMetricName(f.Name) || strings.Contains(f.Name, ":") {
		fault("invalid name")
	}
	if strings.HasPrefix(f.Name, Prefix+Prefix) {
		fault("the prefix is added centrally")
	}
	if f.Help == "" {
		fault("no help")
	}
	if total := strings.HasSuffix(f.Name, "_total"); total != (f.Type == TypeCounter) {
		fault("suffix _total is for counters, and for all of them")
	}
	for _, suffix := range []string{"_count", "_sum", "_bucket", "_created"} {
		if strings.HasSuffix(f.Name, suffix) {
			fault("reserved suffix %s", suffix)
		}
	}
	if len(f.Labels) > MaxLabels {
		fault("%d labels: at most %d", len(f.Labels), MaxLabels)
	}
	seen := map[string]bool{}
	for _, l := range f.Labels {
		if !model.LegacyValidation.IsValidLabelName(l.Name) || strings.HasPrefix(l.Name, "__") || l.Name == "le" || l.Name == "quantile" {
			fault("label %q: invalid name", l.Name)
		}
		if l.Bound == "" {
			fault("label %q: no bound", l.Name)
		}
		if seen[l.Name] {
			fault("label %q: declared twice", l.Name)
		}
		seen[l.Name] = true
	}
	return errors.Join(faults...)
}
