package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var syscallsUnpaired = declared.Counter("syscalls_unpaired_total",
	"Ends of system calls without a known beginning, which are in no other count: "+
		"under way when the probe was attached, a child's return from fork, refused by seccomp, or too many threads at once.",
	metric.Enum("reason", "attach", "fork", "seccomp", "no_slot"))

// SyscallUnpairedSource counts what could not be timed.
type SyscallUnpairedSource interface {
	ReadUnpaired() ([]bpf.UnpairedStat, error)
}

// SyscallsUnpaired shows the system calls that could not be timed.
type SyscallsUnpaired struct {
	source  SyscallUnpairedSource
	created time.Time
}

// NewSyscallsUnpaired returns the collector; created is when the probe was attached.
func NewSyscallsUnpaired(source SyscallUnpairedSource, created time.Time) *SyscallsUnpaired {
	return &SyscallsUnpaired{source: source, created: created}
}

// Collect implements Collector.
func (c *SyscallsUnpaired) Collect(context.Context) ([]prometheus.Metric, error) {
	stats, err := c.source.ReadUnpaired()
	all := make([]prometheus.Metric, 0, len(stats))
	for _, s := range stats {
		all = append(all, syscallsUnpaired.WithCreated(float64(s.Count), c.created, s.Reason))
	}
	return all, err
}
