package main

import (
	"github.com/sonde-ebpf/sonde/internal/sink/remote"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// openRemote opens a sink that sends to a monitor written for gVisor.
func openRemote(c stream.SinkConfig) (stream.Sink, error) {
	o, err := remote.ParseOptions(c.Config)
	if err != nil {
		return nil, err
	}
	return remote.Open(o)
}
