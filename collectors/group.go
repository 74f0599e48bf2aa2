package collectors

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Collector is what every type of this package is.
type Collector interface {
	Collect(ctx context.Context) ([]prometheus.Metric, error)
}

// Group is several collectors that are switched, timed and reported as one. The
// failure of one member does not keep the others from being shown.
type Group []Collector

// Collect collects from the members one after the other.
func (g Group) Collect(ctx context.Context) ([]prometheus.Metric, error) {
	var (
		all  []prometheus.Metric
		errs []error
	)
	for _, c := range g {
		if err := ctx.Err(); err != nil {
			errs = append(errs, err)
			break
		}
		metrics, err := c.Collect(ctx)
		all = append(all, metrics...)
		errs = append(errs, err)
	}
	return all, errors.Join(errs...)
}
