package collectors

import (
	"time"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// buckets converts a probe's histogram to the base unit of a family. The counts are
// shared, not copied: declarations copy them when they make a sample. created is
// when the probe was attached.
func buckets(b *bpf.Buckets, created time.Time) metric.Buckets {
	sum := float64(b.Sum)
	if b.Nanoseconds {
		sum /= float64(time.Second)
	}
	return metric.Buckets{First: b.First, Counts: b.Counts, Zero: b.Zero, Sum: sum, Created: created}
}

// gaugeOf returns 1 for true and 0 for false.
func gaugeOf(ok bool) float64 {
	if ok {
		return 1
	}
	return 0
}
