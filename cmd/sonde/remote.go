package main

import (
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/sink"
	"github.com/sonde-ebpf/sonde/internal/sink/remote"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// gatedRemote is a remote sink with the gate that every kind of sink has.
type gatedRemote struct {
	*remote.Sink
	*sink.Gate
}

// openRemote opens a sink that sends to a monitor written for gVisor.
func openRemote(c stream.SinkConfig, m sink.Machine) (stream.Sink, error) {
	gate, rest, err := sink.TakeGate(c.Config, m)
	if err != nil {
		return nil, err
	}
	o, err := remote.ParseOptions(rest)
	if err != nil {
		return nil, err
	}
	to, err := remote.Open(o)
	if err != nil {
		return nil, err
	}
	return gatedRemote{to, gate}, nil
}

// Deliver takes what the gate leaves out from the events before they are sent.
func (r gatedRemote) Deliver(batch []event.Event, lost func(*event.Event, event.Loss)) {
	for i := range batch {
		r.Strip(&batch[i])
	}
	r.Sink.Deliver(batch, lost)
}
