package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var syscallErrors = declared.Counter("syscall_errors_total",
	"Failed system calls by error number.",
	syscallLabel,
	metric.Bounded("errno", `symbolic error numbers, and "restart" for calls the kernel restarts; 2048 pairs with syscall, then "other"`))

// SyscallErrorSource counts failed system calls.
type SyscallErrorSource interface {
	ReadErrors() ([]bpf.SyscallErrorStat, error)
}

// SyscallErrors shows failed system calls by error number. The probe keeps the bound
// on the number of pairs.
type SyscallErrors struct {
	source  SyscallErrorSource
	created time.Time
}

// NewSyscallErrors returns the collector; created is when the probe was attached.
func NewSyscallErrors(source SyscallErrorSource, created time.Time) *SyscallErrors {
	return &SyscallErrors{source: source, created: created}
}

// Collect implements Collector.
func (c *SyscallErrors) Collect(context.Context) ([]prometheus.Metric, error) {
	stats, err := c.source.ReadErrors()
	all := make([]prometheus.Metric, 0, len(stats))
	for _, s := range stats {
		all = append(all, syscallErrors.WithCreated(float64(s.Count), c.created, s.Syscall, s.Errno))
	}
	return all, err
}
