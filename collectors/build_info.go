package collectors

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

var buildInfo = declared.Gauge("build_info",
	"What is running. Constant 1.",
	metric.Bounded("version", "one per binary"),
	metric.Bounded("revision", "one per binary"),
	metric.Bounded("goversion", "one per binary"))

// BuildInfo shows what is running.
type BuildInfo struct {
	Version   string
	Revision  string
	GoVersion string
}

// Collect implements Collector.
func (b BuildInfo) Collect(context.Context) ([]prometheus.Metric, error) {
	return []prometheus.Metric{buildInfo.With(1, b.Version, b.Revision, b.GoVersion)}, nil
}
