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
	metric.Open("reason", "the running kernel's list of drop reasons, in lower case"))

// DropSource counts dropped packets.
type DropSource interface {
	Read() ([]bpf.DropStat, error)
}

// PacketDrops shows dropped packets by reason.
type PacketDrops struct {
	source DropSource
	drops  *bound
}

// NewPacketDrops returns the collector; created is when the probe was attached.
func NewPacketDrops(source DropSource, created time.Time, limits Limits) *PacketDrops {
	return &PacketDrops{source: source, drops: limits.bound(created, packetDrops)}
}

// Collect implements Collector.
func (c *PacketDrops) Collect(context.Context) ([]prometheus.Metric, error) {
	stats, err := c.source.Read()
	if err != nil {
		return nil, err
	}
	round := c.drops.Begin(time.Now())
	for _, s := range stats {
		round.Add(float64(s.Count), s.Reason)
		if s.Reason == metric.Other && s.Count > 0 { // past the end of the probe's table
			c.drops.inKernel = 1
		}
	}
	return c.drops.limited(round.End()), nil
}
