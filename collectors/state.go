package collectors

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/state"
)

var (
	tableLabel = metric.Enum("table", "process", "connection", "endpoint", "container")

	stateEntries = declared.Gauge("state_entries",
		"Entries of the picture that introspection shows, those that have ended and are kept for a while included.",
		tableLabel)
	stateMaxEntries = declared.Gauge("state_max_entries",
		"Bound of a table of that picture.",
		tableLabel)
	stateEvictions = declared.Counter("state_evictions_total",
		"Entries that were given up because their table was full: what ended first, then what is oldest.",
		tableLabel)
	stateDrift = declared.Counter("state_drift_total",
		"Differences between the picture and the kernel that were found and mended: events that were lost.",
		metric.Enum("table", "process", "connection", "endpoint"))
	connectionReportsDeferred = declared.Counter("connection_reports_deferred_total",
		"Reports of new connections that had to wait because their container had used up its limit.")
	connectionReportsMissed = declared.Counter("connection_reports_missed_total",
		"Ends of connections that were not reported, as there was no room to remember them until the next report.")
	knownNetworks = declared.Gauge("known_networks",
		"Networks that have a name in the runtime configuration.")
)

// TableSource describes the tables of the picture.
type TableSource interface {
	Tables() []state.TableStat
	KnownNetworks() int
}

// ReportSource counts reports of connections.
type ReportSource interface {
	Stats() state.ReportStats
}

// State shows how full the picture is, and how right it was.
type State struct {
	tables     TableSource
	containers ContainerSource
	reports    ReportSource
}

// NewState returns the collector. containers and reports may be nil: their series
// are absent then.
func NewState(tables TableSource, containers ContainerSource, reports ReportSource) *State {
	return &State{tables, containers, reports}
}

// Collect implements Collector.
func (c *State) Collect(context.Context) ([]prometheus.Metric, error) {
	all := []prometheus.Metric{knownNetworks.With(float64(c.tables.KnownNetworks()))}
	table := func(name string, entries, bound int, evictions uint64) {
		all = append(all,
			stateEntries.With(float64(entries), name),
			stateMaxEntries.With(float64(bound), name),
			stateEvictions.With(float64(evictions), name))
	}
	for _, t := range c.tables.Tables() {
		table(t.Table, t.Entries, t.Max, t.Evictions)
		all = append(all, stateDrift.With(float64(t.Drift), t.Table))
	}
	if c.containers != nil {
		t := c.containers.Stats().Table
		table("container", t.Entries, t.Max, t.Evictions)
	}
	if c.reports != nil {
		r := c.reports.Stats()
		all = append(all, connectionReportsDeferred.With(float64(r.Deferred)), connectionReportsMissed.With(float64(r.Missed)))
	}
	return all, nil
}
