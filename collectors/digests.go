package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/digest"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var digestLookups = declared.Counter("executable_digests_total",
	"Execs for which a session wanted the digest of the executed file, by whether the event has it (known) or why not.",
	metric.Enum("result", digest.AllOutcomes()...))

// DigestSource knows digests of executed files.
type DigestSource interface {
	Counts() digest.Counts
}

// Digests shows how many execs were told with the digest of their file.
type Digests struct {
	source  DigestSource
	created time.Time
}

// NewDigests returns the collector; created is when the source was made.
func NewDigests(source DigestSource, created time.Time) *Digests { return &Digests{source, created} }

// Collect implements Collector.
func (c *Digests) Collect(context.Context) ([]prometheus.Metric, error) {
	var all []prometheus.Metric
	results := digest.AllOutcomes()
	for outcome, n := range c.source.Counts() {
		all = append(all, digestLookups.WithCreated(float64(n), c.created, results[outcome]))
	}
	return all, nil
}
