package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	configLastReloadSuccessful = declared.Gauge("config_last_reload_successful",
		"Whether the latest change of the runtime configuration was taken over.")
	configLastReloadSuccess = declared.Gauge("config_last_reload_success_timestamp_seconds",
		"When a runtime configuration was last taken over, the one of the start included.")
	configGeneration = declared.Gauge("config_generation",
		"Number of the runtime configuration in force; the one of the start is 1.")
)

// ConfigSource knows the runtime configuration in force.
type ConfigSource interface {
	// Reloaded returns the generation in force, since when, and why a later change
	// was refused, nil if none was.
	Reloaded() (generation uint64, since time.Time, refused error)
}

// Config shows whether changes of the runtime configuration take effect.
type Config struct {
	source ConfigSource
}

// NewConfig returns the collector.
func NewConfig(source ConfigSource) *Config { return &Config{source: source} }

// Collect implements Collector.
func (c *Config) Collect(context.Context) ([]prometheus.Metric, error) {
	generation, since, refused := c.source.Reloaded()
	successful := 1.0
	if refused != nil {
		successful = 0
	}
	return []prometheus.Metric{
		configLastReloadSuccessful.With(successful),
		configLastReloadSuccess.With(float64(since.UnixNano()) / 1e9),
		configGeneration.With(float64(generation)),
	}, nil
}
