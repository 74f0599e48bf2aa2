package collectors

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	victimLabel = metric.Enum("victim", "sensor", "other")
	scopeLabel  = metric.Enum("scope", "cgroup", "global")

	oomKills = declared.Counter("oom_kills_total",
		"Processes killed for want of memory. The probe is pinned: the count survives the sensor.",
		victimLabel, scopeLabel)
)

// OOMSource counts OOM kills.
type OOMSource interface {
	Read() ([]bpf.OOMStat, error)
}

// OOMKills shows OOM kills. There is no created timestamp: the count may be older
// than this run.
type OOMKills struct {
	source  OOMSource
	earlier TerminationSource
}

// NewOOMKills returns the collector. Kills of the sensor are those of earlier runs,
// and earlier knows more of them than the probe where it cannot be pinned.
func NewOOMKills(source OOMSource, earlier TerminationSource) *OOMKills {
	return &OOMKills{source: source, earlier: earlier}
}

// Collect implements Collector. Combinations that never occurred are shown as 0.
func (c *OOMKills) Collect(context.Context) ([]prometheus.Metric, error) {
	stats, err := c.source.Read()
	if err != nil {
		return nil, err
	}
	type kind struct{ victim, scope string }
	counts := map[kind]uint64{}
	for _, v := range victimLabel.Values {
		for _, s := range scopeLabel.Values {
			counts[kind{v, s}] = 0
		}
	}
	for scope, n := range c.earlier.Totals().Kills {
		counts[kind{"sensor", scope}] = n
	}
	for _, s := range stats {
		if s.Victim == "sensor" {
			continue
		}
		counts[kind{s.Victim, s.Scope}] += s.Count
	}
	all := make([]prometheus.Metric, 0, len(counts))
	for k, n := range counts {
		all = append(all, oomKills.With(float64(n), k.victim, k.scope))
	}
	return all, nil
}
