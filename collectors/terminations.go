package collectors

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/blackbox"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	terminationLabel = metric.Enum("reason", blackbox.Reasons...)

	terminations = declared.Counter("sensor_terminations_total",
		"Earlier runs of the sensor, by how they ended. The count outlives the sensor.",
		terminationLabel)
	lastTermination = declared.Gauge("sensor_last_termination_timestamp_seconds",
		"When a run of the sensor last ended in this way; absent if none did, or the time is not known.",
		terminationLabel)
)

// TerminationSource knows how earlier runs of the sensor ended.
type TerminationSource interface {
	Totals() blackbox.Totals
}

// Terminations shows how earlier runs of the sensor ended.
type Terminations struct {
	source TerminationSource
}

// NewTerminations returns the collector.
func NewTerminations(source TerminationSource) *Terminations { return &Terminations{source: source} }

// Collect implements Collector.
func (c *Terminations) Collect(context.Context) ([]prometheus.Metric, error) {
	var all []prometheus.Metric
	ends := c.source.Totals().Ends
	for _, reason := range blackbox.Reasons {
		all = append(all, terminations.With(float64(ends[reason].Count), reason))
		if last := ends[reason].Last; !last.IsZero() {
			all = append(all, lastTermination.With(float64(last.UnixMilli())/1000, reason))
		}
	}
	return all, nil
}
