package collectors

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// The families of TCP alone. Connections shows them, because they come from the same
// reading as the connections themselves.
var (
	tcpRTT = declared.Histogram("tcp_rtt_seconds",
		"Smoothed round trip time of a TCP connection at its end.",
		metric.Seconds(-17, 3), directionLabel)
	tcpRetransmits = declared.Counter("tcp_retransmits_total",
		"TCP segments sent again.")
	tcpResets = declared.Counter("tcp_resets_total",
		"TCP resets sent and received.",
		flowLabel)
)

func appendTCPOnly(all []prometheus.Metric, s *bpf.TCPStats, created time.Time) []prometheus.Metric {
	for d := range bpf.Direction(bpf.Directions) {
		all = append(all, tcpRTT.With(buckets(&s.RTT[d], created), d.String()))
	}
	return append(all,
		tcpRetransmits.WithCreated(float64(s.Retransmits), created),
		tcpResets.WithCreated(float64(s.ResetsSent), created, "sent"),
		tcpResets.WithCreated(float64(s.ResetsReceived), created, "received"))
}
