package collectors

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

var logLevel = declared.Gauge("log_level",
	"Lowest level that a target logs: -8 trace, -4 debug, 0 info, 4 warn, 8 error, above that nothing.",
	metric.Bounded("target", "parts of the sensor, constants in its source"))

// LevelSource knows the log level of every target.
type LevelSource interface {
	Targets() map[string]slog.Level
}

// LogLevel shows what is logged.
type LogLevel struct {
	source LevelSource
}

// NewLogLevel returns the collector.
func NewLogLevel(source LevelSource) *LogLevel { return &LogLevel{source: source} }

// Collect implements Collector.
func (c *LogLevel) Collect(context.Context) ([]prometheus.Metric, error) {
	var all []prometheus.Metric
	for target, level := range c.source.Targets() {
		all = append(all, logLevel.With(float64(level), target))
	}
	return all, nil
}
