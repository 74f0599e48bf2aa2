package collectors

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Pausable is a collector that can be left out, as for want of memory. What it
// shows goes on being counted meanwhile.
type Pausable struct {
	collector Collector
	paused    atomic.Bool
}

// NewPausable returns a collector that is not paused.
func NewPausable(c Collector) *Pausable { return &Pausable{collector: c} }

// Pause leaves the collector out of scrapes, or takes it in again. It may be called
// at any time.
func (c *Pausable) Pause(on bool) { c.paused.Store(on) }

// Collect implements Collector.
func (c *Pausable) Collect(ctx context.Context) ([]prometheus.Metric, error) {
	if c.paused.Load() {
		return nil, nil
	}
	return c.collector.Collect(ctx)
}
