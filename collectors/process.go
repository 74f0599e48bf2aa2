package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	processes = declared.Gauge("processes",
		"Processes alive, those that were there before the sensor included.")
	processExecs = declared.Counter("process_execs_total",
		"Programs started by a successful exec.")
	processForks = declared.Counter("process_forks_total",
		"New processes and new threads.",
		metric.Enum("type", "process", "thread"))
	processExits = declared.Counter("process_exits_total",
		"Ends of processes, by how they ended.",
		metric.Enum("reason", "zero", "nonzero", "signal", "oom_kill"))
	processLifetime = declared.Histogram("process_lifetime_seconds",
		"Time from the last exec of a process, else from its fork, to its end.",
		metric.Seconds(-10, 17))
	processLineageDepth = declared.Histogram("process_lineage_depth",
		"Number of ancestors of a new process.",
		metric.Counts(0, 6))
)

// ProcessSource counts the life of processes.
type ProcessSource interface {
	Read() (bpf.ProcessStats, error)
}

// Process shows how processes begin and end.
type Process struct {
	source    ProcessSource
	created   time.Time
	exemplars ExemplarSource
}

// NewProcess returns the collector; created is when the probe was attached.
// exemplars may be nil.
func NewProcess(source ProcessSource, created time.Time, exemplars ExemplarSource) *Process {
	return &Process{source: source, created: created, exemplars: exemplars}
}

// Collect implements Collector.
func (c *Process) Collect(context.Context) ([]prometheus.Metric, error) {
	s, err := c.source.Read()
	if err != nil {
		return nil, err
	}
	lifetime := buckets(&s.Lifetime, c.created)
	lifetime.Exemplar = exemplar(c.exemplars, ProcessLifetime)
	count := func(d *metric.Counter, n uint64, labelValues ...string) prometheus.Metric {
		return d.WithCreated(float64(n), c.created, labelValues...)
	}
	return []prometheus.Metric{
		processes.With(float64(s.Live)),
		count(processExecs, s.Execs),
		count(processForks, s.ForksProcess, "process"),
		count(processForks, s.ForksThread, "thread"),
		count(processExits, s.ExitsZero, "zero"),
		count(processExits, s.ExitsNonzero, "nonzero"),
		count(processExits, s.ExitsSignal, "signal"),
		count(processExits, s.ExitsOOM, "oom_kill"),
		processLifetime.With(lifetime),
		processLineageDepth.With(buckets(&s.LineageDepth, c.created)),
	}, nil
}
