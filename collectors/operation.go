package collectors

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

var operationDuration = declared.Histogram("operation_duration_seconds",
	"Time the sensor's own recurring work took.",
	metric.Seconds(-17, 5), metric.Bounded("operation", "names that are constants in the sensor's source"))

// OperationSource times the sensor's own work.
type OperationSource interface {
	// Operations yields every operation, those that never ran included.
	Operations(yield func(operation string, took metric.Buckets))
}

// Operations shows how long the sensor's own work takes.
type Operations struct {
	source OperationSource
}

// NewOperations returns the collector.
func NewOperations(source OperationSource) *Operations { return &Operations{source: source} }

// Collect implements Collector.
func (c *Operations) Collect(context.Context) ([]prometheus.Metric, error) {
	var all []prometheus.Metric
	c.source.Operations(func(operation string, took metric.Buckets) {
		all = append(all, operationDuration.With(took, operation))
	})
	return all, nil
}
