package sink

import (
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Bounds of what a line's writer remembers of processes.
const (
	rememberedActors = 64
	maxRemembered    = 2 << 10 // bytes of JSON; of a longer one nothing is remembered
)

// actors remembers how lines have told of processes: most events are of processes that
// others were of just before, or that have the same parent.
type actors [rememberedActors]struct {
	told toldActor
	text []byte
}

// toldActor is everything that decides how a process is told of. Its texts never change.
type toldActor struct {
	event.Actor
	parent    event.ExecID
	known     bool
	container Container
	boot      time.Time
}

// remembered writes the members of a process whose texts never change, the first of its
// object.
func (t *lines) remembered(told *toldActor) {
	j := &t.json
	if j.cut.on {
		t.actor(nil, told)
		return
	}
	at := &t.actors[(uint64(told.PID)^told.ExecNS)%rememberedActors]
	if at.told == *told {
		j.b, j.next = append(j.b, at.text...), true
		return
	}
	from := len(j.b)
	t.actor(nil, told)
	if text := j.b[from:]; len(text) <= maxRemembered {
		at.told, at.text = *told, append(at.text[:0], text...)
	}
}
