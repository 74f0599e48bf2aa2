package collectors

import (
	"context"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/shed"
)

var (
	shedLevel = declared.Gauge("sensor_shed_level",
		"How much load the sensor sheds to stay within its memory limit: 0 none, 1 caches, 2 details, 3 all but counters.")
	shedTransitions = declared.Counter("sensor_shed_transitions_total",
		"Times the sensor entered a level of shedding, from above or from below.",
		metric.Enum("level", "0", "1", "2", "3"))
)

// ShedSource sheds load.
type ShedSource interface {
	Level() int
	Transitions() [shed.Levels]uint64
}

// Shed shows what the sensor gives up to live.
type Shed struct {
	source ShedSource
}

// NewShed returns the collector.
func NewShed(source ShedSource) *Shed { return &Shed{source: source} }

// Collect implements Collector.
func (c *Shed) Collect(context.Context) ([]prometheus.Metric, error) {
	all := []prometheus.Metric{shedLevel.With(float64(c.source.Level()))}
	for level, n := range c.source.Transitions() {
		all = append(all, shedTransitions.With(float64(n), strconv.Itoa(level)))
	}
	return all, nil
}
