package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	syscallLabel = metric.Bounded("syscall",
		`system call table of the architecture; "compat" for foreign tables, "other" for numbers without a name and beyond the memory for histograms`)
	outcomeLabel = metric.Enum("outcome", "success", "error")

	syscallDuration = declared.Histogram("syscall_duration_seconds",
		"Time in the kernel per system call, from entry to exit.",
		metric.Seconds(-20, 4), syscallLabel, outcomeLabel)
	syscalls = declared.Counter("syscalls_total",
		"System calls: the count of the histogram, and the calls that never return.",
		syscallLabel, outcomeLabel)
)

// SyscallSource counts and times system calls.
type SyscallSource interface {
	Read(yield func(bpf.SyscallStat)) error
}

// Syscalls shows durations and counts of system calls. Both come from one reading,
// so that a count equals its histogram's in every scrape.
type Syscalls struct {
	source  SyscallSource
	created time.Time
	size    int // samples of the collection before
}

// NewSyscalls returns the collector; created is when the probe was attached.
func NewSyscalls(source SyscallSource, created time.Time) *Syscalls {
	return &Syscalls{source: source, created: created}
}

// Collect implements Collector.
func (c *Syscalls) Collect(context.Context) ([]prometheus.Metric, error) {
	durations := make([]prometheus.Metric, 0, c.size)
	counts := make([]prometheus.Metric, 0, c.size/2+2) // all have a count, most a duration
	err := c.source.Read(func(s bpf.SyscallStat) {
		counts = append(counts, syscalls.WithCreated(float64(s.Count), c.created, s.Syscall, s.Outcome))
		if s.Duration != nil {
			durations = append(durations, syscallDuration.With(buckets(s.Duration, c.created), s.Syscall, s.Outcome))
		}
	})
	all := append(durations, counts...)
	c.size = len(all)
	return all, err
}

// SyscallLimit tells SeriesLimited about the bound on histograms of system calls.
func SyscallLimit(source LimitSource) Limit {
	return Limit{Family: syscallDuration.Family().Name, Source: source}
}
