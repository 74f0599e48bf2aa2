package collectors

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	ringLabel = metric.Bounded("ring", `the event rings; there is one, "events"`)

	ringSize = declared.Gauge("ring_size_bytes",
		"Size of a ring buffer between kernel and sensor.",
		ringLabel)
	ringUsed = declared.Gauge("ring_used_bytes",
		"Bytes in a ring that are not read yet.",
		ringLabel)
	ringPeak = declared.Gauge("ring_used_peak_bytes",
		"Highest use of a ring since the scrape before, whoever scraped.",
		ringLabel)
	ringDrain = declared.Histogram("ring_drain_records",
		"Records that one wake-up of the reader brought.",
		metric.Counts(0, 16), ringLabel)
)

// RingSource describes the rings. Each call begins a new measurement of the peak.
type RingSource interface {
	Rings() ([]bpf.RingStat, error)
}

// DrainSource counts the records per wake-up.
type DrainSource interface {
	DrainRecords(yield func(ring string, records metric.Buckets))
}

// Rings shows how full the rings are and how they are read.
type Rings struct {
	rings  RingSource
	drains DrainSource
}

// NewRings returns the collector.
func NewRings(rings RingSource, drains DrainSource) *Rings {
	return &Rings{rings: rings, drains: drains}
}

// Collect implements Collector.
func (c *Rings) Collect(context.Context) ([]prometheus.Metric, error) {
	var all []prometheus.Metric
	c.drains.DrainRecords(func(ring string, records metric.Buckets) {
		all = append(all, ringDrain.With(records, ring))
	})
	stats, err := c.rings.Rings()
	for _, s := range stats {
		all = append(all,
			ringSize.With(float64(s.SizeBytes), s.Ring),
			ringUsed.With(float64(s.UsedBytes), s.Ring),
			ringPeak.With(float64(s.PeakBytes), s.Ring))
	}
	return all, err
}
