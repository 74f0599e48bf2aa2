package collectors

import (
	"context"
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

var seriesLimited = declared.Counter("series_limited_total",
	`Times that a label bound of a family was reached and something was counted under "other".`,
	metric.Bounded("family", "families whose labels have a bound that can be reached"))

// LimitSource counts how often its bound was reached.
type LimitSource interface {
	Folded() (uint64, error)
}

// Limit is the bound of one family.
type Limit struct {
	Family string // with the prefix
	Source LimitSource
}

// SeriesLimited shows which families have reached their bound.
type SeriesLimited []Limit

// Collect implements Collector.
func (c SeriesLimited) Collect(context.Context) ([]prometheus.Metric, error) {
	var (
		all  []prometheus.Metric
		errs []error
	)
	for _, l := range c {
		n, err := l.Source.Folded()
		if err != nil {
			errs = append(errs, fmt.Errorf("bound of %s: %w", l.Family, err))
			continue
		}
		all = append(all, seriesLimited.With(float64(n), l.Family))
	}
	return all, errors.Join(errs...)
}
