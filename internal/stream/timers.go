package stream

import (
	"time"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// Timers times the sensor's own recurring work under names fixed at creation. It
// may be used concurrently.
type Timers struct {
	names []string
	took  map[string]*metric.Live
}

// NewTimers returns timers for the given operations.
func NewTimers(names ...string) *Timers {
	t := &Timers{names: names, took: make(map[string]*metric.Live, len(names))}
	for _, name := range names {
		t.took[name] = metric.NewLive()
	}
	return t
}

// Time starts the clock of an operation and returns what stops it. It panics on
// a name that was not given to NewTimers.
func (t *Timers) Time(name string) (stop func()) {
	live, ok := t.took[name]
	if !ok {
		panic("stream: unknown operation " + name)
	}
	began := time.Now()
	return func() { live.ObserveDuration(time.Since(began)) }
}

// Operations yields every operation, those that never ran included.
func (t *Timers) Operations(yield func(operation string, took metric.Buckets)) {
	for _, name := range t.names {
		yield(name, t.took[name].Buckets())
	}
}
