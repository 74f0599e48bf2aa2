package collectors

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	canaryDelay = declared.Histogram("canary_delay_seconds",
		"Time from causing a canary event in the kernel to reading it: the whole way of an event.",
		metric.Seconds(-20, 4))
	canaryLost = declared.Counter("canary_lost_total",
		"Canary events that were sent and never came.")
)

// CanarySource follows the canary events.
type CanarySource interface {
	Canary() (delay metric.Buckets, lost uint64)
}

// Canary shows whether events that the sensor causes itself arrive.
type Canary struct {
	source CanarySource
}

// NewCanary returns the collector.
func NewCanary(source CanarySource) *Canary { return &Canary{source: source} }

// Collect implements Collector.
func (c *Canary) Collect(context.Context) ([]prometheus.Metric, error) {
	delay, lost := c.source.Canary()
	return []prometheus.Metric{canaryDelay.With(delay), canaryLost.With(float64(lost))}, nil
}
