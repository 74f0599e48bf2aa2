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
		metric.Enum("stage", "ring", "decode", "session", "sink"),
		metric.Enum("reason", lossReasons(event.AllLosses())...))
)

// lossReasons names what may become of an event.
func lossReasons(losses []event.Loss) []string {
	return namesOf(len(losses), func(i int) string { return losses[i].Reason() })
}

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

// LossSource counts the events that sessions wanted and did not get.
type LossSource interface {
	Lost() [event.Points][event.Losses]uint64
}

// Events shows the ledger of events from the kernel to their decoding, and whatever
// was lost after it.
type Events struct {
	ledger   LedgerSource
	reader   ReaderSource
	sessions LossSource
	created  time.Time
}

// NewEvents returns the collector; created is when the ring was made.
func NewEvents(ledger LedgerSource, reader ReaderSource, sessions LossSource, created time.Time) *Events {
	return &Events{ledger: ledger, reader: reader, sessions: sessions, created: created}
}

// Collect implements Collector. The reader is asked first: of what it has read, the
// kernel's counts then include everything.
func (c *Events) Collect(context.Context) ([]prometheus.Metric, error) {
	read := c.reader.Stats()
	all := []prometheus.Metric{
		eventsRead.WithCreated(float64(read.Read), c.created),
		eventsDropped.WithCreated(float64(read.Undecodable), c.created, unknownPoint, event.LossMalformed.Stage(), event.LossMalformed.Reason()),
	}
	for p, losses := range c.sessions.Lost() {
		for _, loss := range sessionLosses {
			all = append(all, eventsDropped.WithCreated(float64(losses[loss]), c.created, event.Point(p).String(), loss.Stage(), loss.Reason()))
		}
	}
	ledger, err := c.ledger.Ledger()
	for _, s := range ledger {
		point := s.Point.String()
		all = append(all,
			eventsAttempted.WithCreated(float64(s.Attempted), c.created, point),
			eventsSubmitted.WithCreated(float64(s.Submitted), c.created, point),
			eventsDropped.WithCreated(float64(s.Dropped), c.created, point, event.LossRing.Stage(), event.LossRing.Reason()))
	}
	return all, err
}
