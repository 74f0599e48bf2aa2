package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/profile"
)

var (
	profileKind  = metric.Enum("profile", "node", "drops", "slow")
	profilesMade = declared.Counter("profiles_total", "Profiles of the node that were taken.", profileKind)
	samplesMade  = declared.Counter("profile_samples_total",
		"Samples of profiles of the node by what became of them: recorded, left out, or lost.",
		profileKind, metric.Enum("outcome", "recorded", "idle", "filtered", "no_stack", "stacks_full", "samples_full", "busy", "calls_full", "missed"))
)

// ProfileSource takes profiles of the node.
type ProfileSource interface {
	Stats() []profile.NodeStats
}

// Profiles shows what profiles of the node have come to.
type Profiles struct {
	source  ProfileSource
	created time.Time
}

// NewProfiles returns the collector; created is the start of the sensor.
func NewProfiles(source ProfileSource, created time.Time) *Profiles {
	return &Profiles{source: source, created: created}
}

// Collect implements Collector.
func (c *Profiles) Collect(context.Context) ([]prometheus.Metric, error) {
	var all []prometheus.Metric
	for _, s := range c.source.Stats() {
		all = append(all, profilesMade.WithCreated(float64(s.Profiles), c.created, s.Kind.String()))
		for _, o := range s.Outcomes {
			all = append(all, samplesMade.WithCreated(float64(o.Count), c.created, s.Kind.String(), o.Outcome))
		}
	}
	return all, nil
}
