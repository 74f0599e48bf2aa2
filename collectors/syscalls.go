package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	syscallLabel = metric.Open("syscall",
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
	Read() (bpf.SyscallStats, error)
}

// Syscalls shows what one reading of its source tells: durations, counts, error
// numbers, and what could not be timed. A count equals that of its histogram in
// every scrape.
type Syscalls struct {
	source            SyscallSource
	created           time.Time
	durations, errors *bound
}

// NewSyscalls returns the collector; created is when the probe was attached.
func NewSyscalls(source SyscallSource, created time.Time, limits Limits) *Syscalls {
	return &Syscalls{
		source: source, created: created,
		durations: limits.bound(created, syscallDuration, syscalls),
		errors:    limits.bound(created, syscallErrors),
	}
}

// Collect implements Collector.
func (c *Syscalls) Collect(context.Context) ([]prometheus.Metric, error) {
	s, err := c.source.Read()
	if err != nil {
		return nil, err
	}
	c.durations.inKernel, c.errors.inKernel = s.FoldedCalls, s.FoldedErrors
	now := time.Now()
	all := c.calls(s.Calls, now)
	all = append(all, c.errorNumbers(s.Errors, now)...)
	all = append(all, c.unpaired(s.Unpaired)...)
	return c.errors.limited(c.durations.limited(all)), nil
}

// calls puts the durations through their budget and counts what comes out of it, and
// the calls that never return.
func (c *Syscalls) calls(stats []bpf.SyscallStat, now time.Time) []prometheus.Metric {
	type kind struct{ syscall, outcome string }
	endless := map[kind]uint64{}
	durations := c.durations.Begin(now)
	for _, s := range stats {
		if s.Duration != nil {
			durations.AddBuckets(buckets(s.Duration, c.created), s.Syscall, s.Outcome)
		} else {
			endless[kind{s.Syscall, s.Outcome}] = s.Count
		}
	}
	timed := durations.End()
	all := append(make([]prometheus.Metric, 0, 2*len(timed)+len(endless)), timed...)
	for _, m := range timed {
		s := m.(*metric.Series)
		h, _ := s.Histogram()
		k := kind{s.LabelValues()[1], s.LabelValues()[0]} // they are in alphabetical order
		all = append(all, syscalls.WithCreated(float64(h.Count+endless[k]), s.Created(), k.syscall, k.outcome))
		delete(endless, k)
	}
	for k, n := range endless {
		all = append(all, syscalls.WithCreated(float64(n), c.created, k.syscall, k.outcome))
	}
	return all
}
