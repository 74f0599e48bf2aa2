package collectors

import (
	"context"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// maxReason bounds the reason of a probe in bytes; the log has the whole text.
const maxReason = 160

var (
	probeLabel = metric.Bounded("probe", "the probes that this version has")

	probeAttached = declared.Gauge("probe_attached",
		"Whether a probe is attached. 0 means that its metrics are absent.",
		probeLabel)
	probeInfo = declared.Gauge("probe_info",
		"How a probe is attached, and why it is not or not fully. Constant 1.",
		probeLabel,
		metric.Bounded("attach", "kinds of attachment, empty if not attached"),
		metric.Bounded("reason", "one line per probe, at most 160 bytes, empty when all is well"))
)

// ProbeSource tells what became of the probes.
type ProbeSource interface {
	Probes() []bpf.ProbeStatus
}

// Probes shows which probes are attached, and how.
type Probes struct {
	source ProbeSource
}

// NewProbes returns the collector.
func NewProbes(source ProbeSource) *Probes { return &Probes{source: source} }

// Collect implements Collector.
func (c *Probes) Collect(context.Context) ([]prometheus.Metric, error) {
	var all []prometheus.Metric
	for _, s := range c.source.Probes() {
		all = append(all,
			probeAttached.With(gaugeOf(s.Attached), s.Probe),
			probeInfo.With(1, s.Probe, s.Attach, oneLine(s.Reason)))
	}
	return all, nil
}

// oneLine makes a label value of an error: its first line, valid and not too long.
func oneLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	text = strings.ToValidUTF8(text, "?")
	if len(text) <= maxReason {
		return text
	}
	end := maxReason - len("…")
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}
