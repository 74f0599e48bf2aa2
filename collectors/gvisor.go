package collectors

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/gvisor"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	gvisorConnections = declared.Gauge("gvisor_connections",
		"gVisor sandboxes that are connected.")
	gvisorSilentConnections = declared.Gauge("gvisor_silent_connections",
		"Of the connected sandboxes, those that have sent nothing for a minute after the handshake. One point name that gVisor does not know silences a whole session.")
	gvisorOrphans = declared.Gauge("gvisor_orphaned_sandboxes",
		"Sandboxes that run and were connected before the sensor was restarted. They do not connect again by themselves.")
	gvisorMessages = declared.Counter("gvisor_messages_total",
		"Messages from sandboxes that were understood, and those of a type that is unknown, which are skipped.",
		metric.Enum("type", gvisor.MessageTypes()...))
	gvisorDropped = declared.Counter("gvisor_dropped_total",
		"Messages that sandboxes have lost before they were sent, as their next message says. What they lose after their last one is not known.")
	gvisorMalformed = declared.Counter("gvisor_malformed_total",
		"Datagrams from sandboxes that were not understood.",
		metric.Enum("reason", gvisor.MalformedReasons()...))
	gvisorEvents = declared.Counter("gvisor_events_total",
		"Events that messages of sandboxes told of, and sessions were offered.",
		metric.Enum("point", gvisor.EventPoints()...))
	gvisorRejected = declared.Counter("gvisor_rejected_total",
		"Peers that were not listened to, by what became of their handshake.",
		metric.Enum("reason", gvisor.RejectedReasons()...))
)

// GVisorSource receives from sandboxes.
type GVisorSource interface {
	Stats() gvisor.Stats
}

// GVisor shows what comes from gVisor's sandboxes.
type GVisor struct {
	source  GVisorSource
	created time.Time
}

// NewGVisor returns the collector; created is when the endpoint was opened.
func NewGVisor(source GVisorSource, created time.Time) *GVisor {
	return &GVisor{source: source, created: created}
}

// Collect implements Collector.
func (c *GVisor) Collect(context.Context) ([]prometheus.Metric, error) {
	s := c.source.Stats()
	all := []prometheus.Metric{
		gvisorConnections.With(float64(s.Connections)),
		gvisorSilentConnections.With(float64(s.Silent)),
		gvisorOrphans.With(float64(s.Orphans)),
		gvisorDropped.WithCreated(float64(s.Dropped), c.created),
	}
	for _, labelled := range []struct {
		family *metric.Counter
		counts map[string]uint64
	}{{gvisorMessages, s.Messages}, {gvisorEvents, s.Events}, {gvisorMalformed, s.Malformed}, {gvisorRejected, s.Rejected}} {
		for _, value := range slices.Sorted(maps.Keys(labelled.counts)) {
			all = append(all, labelled.family.WithCreated(float64(labelled.counts[value]), c.created, value))
		}
	}
	return all, nil
}
