package collectors

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	eventsDecoded = declared.Counter("events_decoded_total",
		"Events read from the ring and understood.",
		pointLabel)
	eventDelay = declared.Histogram("event_delay_seconds",
		"Age of an event, by the kernel's clock, when it has reached a stage.",
		metric.Seconds(-20, 4), metric.Enum("stage", "ring", "sink"))
	eventClockAnomalies = declared.Counter("event_clock_anomalies_total",
		"Events whose time cannot be true: more than 5 s ahead of the clock, or more than an hour past. They are in no delay.",
		metric.Enum("kind", "future", "distant_past"))
	eventStep = declared.Histogram("event_step_seconds",
		"Own processing time per event and step, of a sample of the events.",
		metric.Seconds(-24, -4), pointLabel, metric.Enum("step", "decode", "state", "match", "sink"))
)

// EventTimingSource is the reading loop, which measures itself.
type EventTimingSource interface {
	// Events returns how many events of each point were decoded.
	Events() [event.Points]uint64
	// RingDelay returns the ages of events when they left the ring.
	RingDelay() metric.Buckets
	// ClockAnomalies returns the events from the future and from the distant past.
	ClockAnomalies() (future, distantPast uint64)
	// Steps yields the processing times of every point and step that is measured.
	Steps(yield func(p event.Point, step string, took metric.Buckets))
}

// SinkTimingSource measures the way of events from the ring to the sinks.
type SinkTimingSource interface {
	// SinkDelay returns the ages of events when a sink had them.
	SinkDelay() metric.Buckets
	Steps(yield func(p event.Point, step string, took metric.Buckets))
}

// EventTiming shows how fast events travel and what it costs to handle them.
type EventTiming struct {
	source EventTimingSource
	sinks  SinkTimingSource
}

// NewEventTiming returns the collector.
func NewEventTiming(source EventTimingSource, sinks SinkTimingSource) *EventTiming {
	return &EventTiming{source: source, sinks: sinks}
}

// Collect implements Collector.
func (c *EventTiming) Collect(context.Context) ([]prometheus.Metric, error) {
	future, past := c.source.ClockAnomalies()
	all := []prometheus.Metric{
		eventDelay.With(c.source.RingDelay(), "ring"),
		eventDelay.With(c.sinks.SinkDelay(), "sink"),
		eventClockAnomalies.With(float64(future), "future"),
		eventClockAnomalies.With(float64(past), "distant_past"),
	}
	for i, n := range c.source.Events() {
		all = append(all, eventsDecoded.With(float64(n), event.Point(i).String()))
	}
	step := func(p event.Point, step string, took metric.Buckets) {
		all = append(all, eventStep.With(took, p.String(), step))
	}
	c.source.Steps(step)
	c.sinks.Steps(step)
	return all, nil
}
