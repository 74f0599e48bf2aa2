package sink

import (
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Encoder turns events into the lines that JSONLines writes, one at a time, for
// whoever needs them in a form that is made of those. It is for one goroutine.
type Encoder struct{ lines }

// NewEncoder returns an Encoder that shows all of an event unless c, which may be nil,
// leaves out some, and asks m about containers.
func NewEncoder(m Machine, c *Choice) *Encoder { return &Encoder{newLines(m, c)} }

// Line returns the event as one line of JSON. It is valid until the next call.
func (e *Encoder) Line(ev *event.Event) []byte {
	e.boot = e.machine.Boot()
	e.json.b = e.json.b[:0]
	e.line(ev)
	return e.json.b
}

// Lost returns the line that tells how many events are missing at this place. It is
// valid until the next call.
func (e *Encoder) Lost(n uint64) []byte {
	e.json.b = e.json.b[:0]
	e.missing(n, time.Now())
	return e.json.b
}

// Node is the name of the machine, as every line has it.
func (e *Encoder) Node() string { return e.machine.Node() }

// missing writes the line that tells how many events are missing at this place.
func (t *lines) missing(n uint64, now time.Time) {
	j := &t.json
	j.next = false
	j.open('{')
	j.object("rate_limit_info")
	j.uint64("number_of_dropped_process_events", n)
	j.close('}')
	j.string("node_name", t.machine.Node())
	j.time("time", now)
	j.close('}')
	j.b = append(j.b, '\n')
}
