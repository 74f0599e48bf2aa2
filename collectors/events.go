package collectors

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// unknownPoint is the point of a record that could not be decoded.
const unknownPoint = "unknown"

var (
	pointLabel = metric.Enum("point", pointNames()...)

	eventsAttempted = declared.Counter("events_attempted_total",
		"Events the kernel side wanted to send: submitted plus dropped at the ring.",
		pointLabel)
	eventsSubmitted = declared.Counter("events_submitted_total",
		"Events the kernel side put into the ring.",
		pointLabel)
	eventsRead = declared.Counter("events_read_total",
		"Records taken from the ring: decoded ones plus those dropped at decoding.")
	eventsDropped = declared.Counter("events_dropped_total",
		"Events lost, by where and why. Counts of other families do not depend on events.",
		metric.Enum("point", append(pointNames(), unknownPoint)...),
		metric.Enum("stage", "ring", "decode"),
		metric.Enum("reason", "ring_full", "malformed"))
)

func pointNames() []string {
	names := make([]string, 0, event.Points)
	for _, p := range event.AllPoints() {
		names = append(names, p.String())
	}
	return names
}

// LedgerSource is the kernel side of the event ledger.
type LedgerSource interface {
	Ledger() ([]bpf.LedgerStat, error)
}

// ReaderSource is the reader's side of the event ledger.
type ReaderSource interface {
	Stats() bpf.EventStats
}

// Events shows the ledger of events from the kernel to their decoding.
type Events struct {
	ledger  LedgerSource
	reader  ReaderSource
	created time.Time
}

// NewEvents returns the collector; created is when the ring was made.
func NewEvents(ledger LedgerSource, reader ReaderSource, created time.Time) *Events {
	return &Events{ledger: ledger, reader: reader, created: created}
}

// Collect implements Collector. The reader is asked first: of what it has read, the
// kernel's counts then include everything.
func (c *Events) Collect(context.Context) ([]prometheus.Metric, error) {
	read := c.reader.Stats()
	all := []prometheus.Metric{
		eventsRead.WithCreated(float64(read.Read), c.created),
		eventsDropped.WithCreated(float64(read.Undecodable), c.created, unknownPoint, "decode", "malformed"),
	}
	ledger, err := c.ledger.Ledger()
	for _, s := range ledger {
		point := s.Point.String()
		all = append(all,
			eventsAttempted.WithCreated(float64(s.Attempted), c.created, point),
			eventsSubmitted.WithCreated(float64(s.Submitted), c.created, point),
			eventsDropped.WithCreated(float64(s.Dropped), c.created, point, "ring", "ring_full"))
	}
	return all, err
}
