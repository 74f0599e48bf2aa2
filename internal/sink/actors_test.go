package sink

import (
	"strings"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// moody is a machine of which everything may change.
type moody struct {
	small
	name string
	boot time.Time
}

func (m *moody) Boot() time.Time               { return m.boot }
func (m *moody) Container(id string) Container { return Container{ID: id, Name: m.name, Pod: "p"} }

// Whatever was told of processes before, a line is what it would be as the first.
func TestActorsAreToldAnew(t *testing.T) {
	m := &moody{boot: booted}
	e := NewEncoder(m, nil)
	ev := event.Event{Point: event.ProcessExit, Process: event.Process{PID: 11, TID: 11}, Subject: known()}
	step := func(change func()) {
		t.Helper()
		change()
		for range 2 {
			if got, want := string(e.Line(&ev)), string(NewEncoder(m, nil).Line(&ev)); got != want {
				t.Errorf("got  %swant %s", got, want)
			}
		}
	}
	p, parent := &ev.Subject.Process, &ev.Subject.Parent
	step(func() {})
	step(func() { ev.Process.UID = 1 })
	step(func() { ev.Process.TID = 12 })
	step(func() { p.Exe = "/bin/other" })
	step(func() { p.Container = "c2" })
	step(func() { m.name = "web" })
	step(func() { m.boot = booted.Add(time.Second) })
	step(func() { parent.Forked = true })
	step(func() { parent.Args = "sh\x00" + strings.Repeat("x", maxRemembered) + "\x00" })
	step(func() { ev.Subject.Grandparent.PID++ })
	step(func() { ev.Subject.Process = event.Actor{} })
	step(func() { ev.Subject.Process, ev.Subject.Parent = known().Process, event.Actor{} })
	step(func() { p.ExecNS += rememberedActors }) // another one in the same place
	step(func() { ev.Point, ev.TimeNS = event.ProcessExec, 5e9 })
	step(func() { new(event.Editor).Set(&ev, event.TextContainer, []byte("c3"), false) })
	step(func() { copy(ev.Data, "c4") }) // the text of an event does not outlive it
}
