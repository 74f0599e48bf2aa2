package collectors

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var syscallsUnpaired = declared.Counter("syscalls_unpaired_total",
	"Ends of system calls without a known beginning, which are in no other count: "+
		"under way when the probe was attached, a child's return from fork, refused by seccomp, or too many threads at once.",
	metric.Enum("reason", "attach", "fork", "seccomp", "no_slot"))

// unpaired shows the system calls that could not be timed.
func (c *Syscalls) unpaired(stats []bpf.UnpairedStat) []prometheus.Metric {
	all := make([]prometheus.Metric, 0, len(stats))
	for _, s := range stats {
		all = append(all, syscallsUnpaired.WithCreated(float64(s.Count), c.created, s.Reason))
	}
	return all
}
