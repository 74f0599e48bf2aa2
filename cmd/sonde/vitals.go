package main

import (
	"time"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/exporter"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// How long the parts of the event path may keep silent. A canary makes the reader
// beat every few seconds. Canaries may be lost as any event while there are more
// events than can be read: it takes a dozen in a row to say that none will come.
const (
	readerDeadline = 3 * bpf.CanaryInterval
	canaryDeadline = 12 * bpf.CanaryInterval
	// sinkDeadline is for one batch, of which a sink may try every event for a while.
	sinkDeadline = time.Minute
)

// vitals are the signs of life of the agent's parts: the event path here, the sinks of
// its sessions, and the exporter adds its collectors.
type vitals struct {
	exporter.Heartbeats
	reader, canary *exporter.Heartbeat
}

func newVitals() *vitals {
	v := &vitals{}
	v.reader = v.Part("event ring reader", readerDeadline)
	v.canary = v.Part("canary", canaryDeadline)
	return v
}

// sink is the sign of life of a sink of a session.
func (v *vitals) sink(session, sink string) stream.Pulse {
	return v.Part("sink "+sink+" of session "+session, sinkDeadline)
}

// watch makes the event path beat from now on.
func (v *vitals) watch(p *stream.Pipeline, c *stream.Canary) {
	p.Alive(v.reader.Beat)
	c.Alive(v.canary.Beat)
	v.reader.Beat()
	v.canary.Beat()
}

// rest says that the event path has ended in good order.
func (v *vitals) rest() {
	v.reader.Pause()
	v.canary.Pause()
}

// eventPath returns what of the event path is stuck.
func (v *vitals) eventPath() (stuck []exporter.Stuck) {
	for _, part := range []*exporter.Heartbeat{v.reader, v.canary} {
		if s, is := part.Stuck(time.Now()); is {
			stuck = append(stuck, s)
		}
	}
	return stuck
}
