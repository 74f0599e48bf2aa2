package collectors

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	programLabel = metric.Bounded("program", "the programs inside the sensor")
	mapLabel     = metric.Bounded("map", "the maps inside the sensor")

	bpfProgramRun = declared.Counter("bpf_program_run_seconds_total",
		"Time a program of the sensor ran in the kernel, while run-time statistics were on.",
		programLabel)
	bpfProgramRuns = declared.Counter("bpf_program_runs_total",
		"Runs of a program of the sensor, while run-time statistics were on.",
		programLabel)
	bpfProgramMissed = declared.Counter("bpf_program_missed_total",
		"Runs that the kernel skipped because the program was running already on that CPU: lost counts, except where a twin makes up for them (docs/metrics.md).",
		programLabel)
	bpfStatsEnabled = declared.Counter("bpf_stats_enabled_seconds_total",
		"Time for which run-time statistics of BPF programs were on. "+
			"Its rate is the sampled share, by which the rate of the run time is to be divided.")

	bpfMapEntries = declared.Gauge("bpf_map_entries",
		"Entries in a map. Absent where the kernel does not count them.",
		mapLabel)
	bpfMapMaxEntries = declared.Gauge("bpf_map_max_entries",
		"Size of a map in entries; of a ring in bytes.",
		mapLabel)
	bpfMapMemory = declared.Gauge("bpf_map_memory_bytes",
		"Kernel memory of a map, which is charged to the sensor's cgroup.",
		mapLabel)
	bpfMapUpdateFailures = declared.Counter("bpf_map_update_failures_total",
		"Entries that a program could not make because the map was full or had no memory.",
		mapLabel)
)

// ProgramSource knows the sensor's programs.
type ProgramSource interface {
	Programs() ([]bpf.ProgramStat, error)
}

// MapSource knows the sensor's maps.
type MapSource interface {
	Maps() ([]bpf.MapStat, error)
}

// RunStatsSource knows for how long run-time statistics have been on.
type RunStatsSource interface {
	Enabled() time.Duration
}

// BPF shows what the sensor costs inside the kernel.
type BPF struct {
	programs ProgramSource
	maps     MapSource
	runStats RunStatsSource
}

// NewBPF returns the collector. runStats may be nil. Without any time of statistics
// the run times are left out.
func NewBPF(programs ProgramSource, maps MapSource, runStats RunStatsSource) *BPF {
	return &BPF{programs: programs, maps: maps, runStats: runStats}
}

// Collect implements Collector.
func (c *BPF) Collect(context.Context) ([]prometheus.Metric, error) {
	programs, programErr := c.programs.Programs()
	maps, mapErr := c.maps.Maps()
	var all []prometheus.Metric
	var enabled time.Duration
	if c.runStats != nil {
		enabled = c.runStats.Enabled()
		all = append(all, bpfStatsEnabled.With(enabled.Seconds()))
	}
	for _, s := range programs {
		all = append(all, bpfProgramMissed.With(float64(s.Missed), s.Program))
		if enabled > 0 { // else the run times are unknown, not 0
			all = append(all,
				bpfProgramRun.With(s.Run, s.Program),
				bpfProgramRuns.With(float64(s.Runs), s.Program))
		}
	}
	for _, s := range maps {
		all = append(all,
			bpfMapMaxEntries.With(float64(s.MaxEntries), s.Map),
			bpfMapMemory.With(float64(s.MemoryBytes), s.Map),
			bpfMapUpdateFailures.With(float64(s.UpdateFailures), s.Map))
		if s.Entries != nil {
			all = append(all, bpfMapEntries.With(float64(*s.Entries), s.Map))
		}
	}
	return all, errors.Join(programErr, mapErr)
}
