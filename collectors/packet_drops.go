package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var packetDrops = declared.Counter("packet_drops_total",
	"Packets the kernel dropped and gave a reason for.",
	metric.Bounded("reason", "the running kernel's list of drop reasons, in lower case"))

// DropSource counts dropped packets.
type DropSource interface {
	Read() ([]bpf.DropStat, error)
}

// PacketDrops shows dropped packets by reason.
type PacketDrops struct {
	source  DropSource
	created time.Time
}

// NewPacketDrops returns the collector; created is when the probe was attached.
func NewPacketDrops(source DropSource, created time.Time) *PacketDrops {
	return &PacketDrops{source: source, created: created}
}

// Collect implements Collector.
func (c *PacketDrops) Collect(context.Context) ([]prometheus.Metric, error) {
	stats, err := c.source.Read()
	all := make([]prometheus.Metric, 0, len(stats))
	for _, s := range stats {
		all = append(all, packetDrops.WithCreated(float64(s.Count), c.created, s.Reason))
	}
	return all, err
}
