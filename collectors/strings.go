package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var stringsSanitized = declared.Counter("strings_sanitized_total",
	"Texts of events (paths, arguments, names) that are not told as they were: cut at their bound, bytes replaced that were not UTF-8, not to be read, secrets of an environment taken out.",
	metric.Enum("reason", "utf8", "length", "unreadable", "redacted"))

// SanitizedSource counts what was done to the texts of events.
type SanitizedSource interface {
	Sanitized() event.Sanitized
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
	did := c.source.Sanitized()
	return []prometheus.Metric{
		stringsSanitized.WithCreated(float64(did.Repaired), c.created, "utf8"),
		stringsSanitized.WithCreated(float64(did.Cut), c.created, "length"),
		stringsSanitized.WithCreated(float64(did.Unreadable), c.created, "unreadable"),
		stringsSanitized.WithCreated(float64(did.Redacted), c.created, "redacted"),
	}, nil
}
