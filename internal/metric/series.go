package metric

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
)

// Series is one sample of one series, as With returns it. It is immutable and
// implements prometheus.Metric; the exporter reads it directly instead, which
// costs no allocation.
type Series struct {
	family  *Family
	value   float64
	created time.Time // zero where unknown
	hist    *histogram
	labels  [MaxLabels]string // in the order of the exposition
	given   int               // label values that were given, right or wrong
}

var _ prometheus.Metric = (*Series)(nil)

// Errors of a malformed sample. Err wraps them.
var (
	ErrLabelCount = errors.New("wrong number of label values")
	ErrLabelUTF8  = errors.New("label value is not UTF-8")
	ErrLabelValue = errors.New("label value is not in the enumeration")
	ErrBuckets    = errors.New("malformed buckets")
)

func (f *Family) series(value float64, created time.Time, labelValues []string) *Series {
	s := &Series{family: f, value: value, created: created}
	s.setLabels(labelValues)
	return s
}

func (s *Series) setLabels(values []string) {
	s.given = len(values)
	if s.given != len(s.family.place) {
		return // Err tells
	}
	for i, v := range values {
		s.labels[s.family.place[i]] = v
	}
}

// Family returns the declaration the sample belongs to.
func (s *Series) Family() *Family { return s.family }

// Value returns the value of a counter or gauge.
func (s *Series) Value() float64 { return s.value }

// Created returns when the counting began, zero where unknown.
func (s *Series) Created() time.Time { return s.created }

// LabelValues returns the label values in the order of Family.LabelNames. It
// shares memory with the sample.
func (s *Series) LabelValues() []string { return s.labels[:len(s.family.sorted)] }

// Err returns what is wrong with the sample, nil if nothing is.
func (s *Series) Err() error {
	if s.given != len(s.family.sorted) {
		return fmt.Errorf("%s: %w: %d given, %d declared", s.family.Name, ErrLabelCount, s.given, len(s.family.sorted))
	}
	for i, v := range s.LabelValues() {
		if !utf8.ValidString(v) {
			return fmt.Errorf("%s: label %s=%q: %w", s.family.Name, s.family.sorted[i], v, ErrLabelUTF8)
		}
	}
	if s.hist != nil && s.hist.err != nil {
		return fmt.Errorf("%s: %w", s.family.Name, s.hist.err)
	}
	return nil
}

// Verify returns everything that is wrong with samples, values outside of a
// declared enumeration included. It is for tests: at a scrape, an unforeseen value
// is better shown than lost.
func Verify(metrics []prometheus.Metric) error {
	var faults []error
	for _, m := range metrics {
		s, ok := m.(*Series)
		if !ok {
			faults = append(faults, fmt.Errorf("%s: not made by a declaration", m.Desc()))
			continue
		}
		if err := s.Err(); err != nil {
			faults = append(faults, err)
			continue
		}
		for i, l := range s.family.Labels {
			if v := s.labels[s.family.place[i]]; !l.has(v) && v != Other {
				faults = append(faults, fmt.Errorf("%s: label %s=%q: %w", s.family.Name, l.Name, v, ErrLabelValue))
			}
		}
	}
	return errors.Join(faults...)
}

// Compare orders the samples of one family by their label values. Two samples
// that compare equal are the same series.
func Compare(a, b *Series) int {
	for i := range len(a.family.sorted) {
		if c := strings.Compare(a.labels[i], b.labels[i]); c != 0 {
			return c
		}
	}
	return 0
}

// Desc returns the descriptor of the family.
func (s *Series) Desc() *prometheus.Desc { return s.family.desc }
