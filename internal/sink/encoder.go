package sink

import "github.com/sonde-ebpf/sonde/internal/event"

// Encoder turns events into the lines that JSONLines writes, one at a time, for
// whoever needs them in a form that is made of those. It is for one goroutine.
type Encoder struct{ lines }

// NewEncoder returns an Encoder that asks m about processes.
func NewEncoder(m Machine) *Encoder { return &Encoder{newLines(m)} }

// Line returns the event as one line of JSON. It is valid until the next call.
func (e *Encoder) Line(ev *event.Event) []byte {
	e.boot = e.machine.Boot()
	e.json.b = e.json.b[:0]
	e.line(ev)
	return e.json.b
}
