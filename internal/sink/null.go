// Package sink takes the events of sessions to where they are wanted. A sink is
// used by one goroutine; what it does with time and errors is its own business, as
// long as it tells what it gives up.
package sink

import "github.com/sonde-ebpf/sonde/internal/event"

// Null takes everything and does nothing with it: for measuring, and for sessions
// whose events only count.
type Null struct{}

// Deliver takes the events.
func (Null) Deliver([]event.Event, func(*event.Event, event.Loss)) {}

// Close does nothing.
func (Null) Close() error { return nil }
