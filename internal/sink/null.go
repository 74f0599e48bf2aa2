// Package sink takes the events of sessions to where they are wanted. A sink is
// used by one goroutine; what it does with time and errors is its own business, as
// long as it tells what it gives up.
package sink

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Null takes everything that passes its gate and does nothing with it: for measuring,
// and for sessions whose events only count.
type Null struct{ *Gate }

// NewNull opens the sink. values is its configuration: that of a Gate.
func NewNull(values map[string]any, m Machine) (Null, error) {
	gate, rest, err := TakeGate(values, m)
	if len(rest) > 0 {
		err = errors.Join(err, fmt.Errorf("no such keys: %q", slices.Sorted(maps.Keys(rest))))
	}
	return Null{gate}, err
}

// Deliver takes the events.
func (Null) Deliver([]event.Event, func(*event.Event, event.Loss)) {}

// Close does nothing.
func (Null) Close() error { return nil }
