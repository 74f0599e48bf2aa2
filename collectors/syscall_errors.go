package collectors

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var syscallErrors = declared.Counter("syscall_errors_total",
	"Failed system calls by error number.",
	syscallLabel,
	metric.Open("errno", `symbolic error numbers, and "restart" for calls the kernel restarts; "other" beyond the pairs with syscall that the kernel side tells apart (limits.syscallErrors)`))

// errorNumbers shows failed system calls by error number.
func (c *Syscalls) errorNumbers(stats []bpf.SyscallErrorStat, now time.Time) []prometheus.Metric {
	round := c.errors.Begin(now)
	for _, s := range stats {
		round.Add(float64(s.Count), s.Syscall, s.Errno)
	}
	return round.End()
}
