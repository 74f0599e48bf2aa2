package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	stepLabel = metric.Bounded("step", "steps of the start, constants in the sensor's source")

	startStepDuration = declared.Gauge("start_step_duration_seconds",
		"Time a step of the latest start took.",
		stepLabel)
	startStepSuccess = declared.Gauge("start_step_success",
		"Whether a step of the latest start succeeded.",
		stepLabel)
)

// StartStep is one finished step of the start.
type StartStep struct {
	Step     string
	Duration time.Duration
	Success  bool
}

// StartSource knows how the sensor started.
type StartSource interface {
	StartSteps() []StartStep
}

// Start shows how the sensor started.
type Start struct {
	source StartSource
}

// NewStart returns the collector.
func NewStart(source StartSource) *Start { return &Start{source: source} }

// Collect implements Collector.
func (c *Start) Collect(context.Context) ([]prometheus.Metric, error) {
	var all []prometheus.Metric
	for _, s := range c.source.StartSteps() {
		all = append(all,
			startStepDuration.With(s.Duration.Seconds(), s.Step),
			startStepSuccess.With(gaugeOf(s.Success), s.Step))
	}
	return all, nil
}
