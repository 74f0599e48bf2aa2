package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

var stringsSanitized = declared.Counter("strings_sanitized_total",
	"Texts of events (paths, arguments, names) that were changed: cut at their bound, or bytes replaced that were not UTF-8.",
	metric.Enum("reason", "utf8", "length"))

// SanitizedSource counts the texts of events that were cut and those that were not UTF-8.
type SanitizedSource interface {
	Sanitized() (cut, repaired uint64)
}

// Strings shows what was done to the texts of events.
type Strings struct {
	source  SanitizedSource
	created time.Time
}

// NewStrings returns the collector; created is when the first event could be.
func NewStrings(source SanitizedSource, created time.Time) *Strings {
	return &Strings{source: source, created: created}
}

// Collect implements Collector.
func (c *Strings) Collect(context.Context) ([]prometheus.Metric, error) {
	cut, repaired := c.source.Sanitized()
	return []prometheus.Metric{
		stringsSanitized.WithCreated(float64(repaired), c.created, "utf8"),
		stringsSanitized.WithCreated(float64(cut), c.created, "length"),
	}, nil
}
