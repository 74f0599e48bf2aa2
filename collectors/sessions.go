package collectors

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// sessionLosses are those that happen after decoding, sinkLosses those at the sink.
var (
	sessionLosses = slices.DeleteFunc(event.AllLosses(), func(l event.Loss) bool { return l < event.LossFull })
	sinkLosses    = slices.DeleteFunc(event.AllLosses(), func(l event.Loss) bool { return l.Stage() != "sink" })
)

var (
	sessionLabel = metric.Bounded("session", "names of sessions, 16 at a time")
	sinkLabel    = metric.Bounded("sink", "kinds of sinks, numbered within a session, at most 8")

	eventsMatched = declared.Counter("events_matched_total",
		"Events that a session wanted for a sink: delivered, filtered, dropped at the stages session and sink, or still in the queue.",
		sessionLabel, sinkLabel)
	eventsFiltered = declared.Counter("events_filtered_total",
		"Events that a session wanted, and the filters of a sink did not.",
		sessionLabel, sinkLabel)
	eventsDelivered = declared.Counter("events_delivered_total",
		"Events that a sink has handed over.",
		sessionLabel, sinkLabel)
	sessionQueueLength = declared.Gauge("session_queue_length",
		"Events that wait for a sink.",
		sessionLabel, sinkLabel)
	sessionQueueCapacity = declared.Gauge("session_queue_capacity",
		"Events that may wait for a sink. Less important points are let in up to three quarters or a half of it.",
		sessionLabel, sinkLabel)
	sinkUp = declared.Gauge("sink_up",
		"Whether a sink handed over anything of the last events it got; 1 before the first.",
		sessionLabel, sinkLabel)
	sinkLastSuccess = declared.Gauge("sink_last_success_timestamp_seconds",
		"When a sink last handed an event over.",
		sessionLabel, sinkLabel)
	sinkErrors = declared.Counter("sink_errors_total",
		"Times that a sink gave up one event or several at once, by why.",
		sessionLabel, sinkLabel, metric.Enum("class", lossReasons(sinkLosses)...))
)

// SessionSource describes the sessions.
type SessionSource interface {
	Sessions() []stream.SessionStat
}

// Sessions shows what becomes of the events that sessions want. The series of a
// session end with it.
type Sessions struct{ source SessionSource }

// NewSessions returns the collector.
func NewSessions(source SessionSource) *Sessions { return &Sessions{source: source} }

// Collect implements Collector.
func (c *Sessions) Collect(context.Context) (all []prometheus.Metric, _ error) {
	for _, session := range c.source.Sessions() {
		for _, s := range session.Sinks {
			created := session.Created
			all = append(all,
				eventsDelivered.WithCreated(float64(s.Delivered), created, s.Session, s.Sink),
				eventsFiltered.WithCreated(float64(s.Filtered), created, s.Session, s.Sink),
				eventsMatched.WithCreated(float64(s.Matched), created, s.Session, s.Sink),
				sessionQueueLength.With(float64(s.Queued), s.Session, s.Sink),
				sessionQueueCapacity.With(float64(s.Capacity), s.Session, s.Sink),
				sinkUp.With(gaugeOf(s.Up), s.Session, s.Sink))
			if !s.LastSuccess.IsZero() {
				all = append(all, sinkLastSuccess.With(float64(s.LastSuccess.UnixNano())/1e9, s.Session, s.Sink))
			}
			for _, loss := range sinkLosses {
				all = append(all, sinkErrors.WithCreated(float64(s.Errors[loss]), created, s.Session, s.Sink, loss.Reason()))
			}
		}
	}
	return all, nil
}
