package stream

import (
	"sync/atomic"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// books are the counts of all sessions together. They outlive every session: a
// counter does not go back because a session is deleted.
type books struct {
	now   func() uint64 // CLOCK_BOOTTIME in nanoseconds
	lost  [event.Points][event.Losses]atomic.Uint64
	delay *metric.Live
	match [event.Points]*metric.Live
	sink  [event.Points]*metric.Live
}

func newBooks(now func() uint64) *books {
	b := &books{now: now, delay: metric.NewLive()}
	for i := range b.match {
		b.match[i], b.sink[i] = metric.NewLive(), metric.NewLive()
	}
	return b
}

// delivered notes how old the events of a batch are now, and what each took.
func (b *books) delivered(batch []event.Event, took time.Duration) {
	now := b.now()
	for i := range batch {
		b.delay.ObserveDuration(max(time.Duration(now-batch[i].TimeNS), 0))
	}
	b.sink[batch[0].Point].ObserveDuration(took / time.Duration(len(batch)))
}
