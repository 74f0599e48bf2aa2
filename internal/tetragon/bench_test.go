package tetragon

import (
	"testing"

	api "github.com/cilium/tetragon/api/v1/tetragon"
	"google.golang.org/grpc"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/sink"
)

// nowhere is a stream whose client takes everything at once.
type nowhere struct {
	grpc.ServerStreamingServer[api.GetEventsResponse]
}

func (nowhere) Send(*api.GetEventsResponse) error { return nil }

// BenchmarkDeliver is what one event costs up to gRPC.
func BenchmarkDeliver(b *testing.B) {
	c := &client{out: nowhere{}, encoder: sink.NewEncoder(node{}, nil), told: make(chan struct{})}
	close(c.told)
	batch := []event.Event{{Point: event.ProcessExit, Process: event.Process{PID: 10, TID: 10}, Subject: shell}}
	b.ReportAllocs()
	for b.Loop() {
		c.Deliver(batch, func(*event.Event, event.Loss) { b.Error("lost") })
	}
}
