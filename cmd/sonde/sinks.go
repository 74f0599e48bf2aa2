package main

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/sink"
	"github.com/sonde-ebpf/sonde/internal/sink/https"
	"github.com/sonde-ebpf/sonde/internal/stream"
)

// sinkKinds are the kinds of sinks that a session may name.
var sinkKinds = []string{"https", "jsonl", "null", "remote"}

// sinkMachine tells sinks what is known of this machine: it presents the model.
type sinkMachine struct {
	model *model
	node  string
	dir   string       // below which files of sinks must lie
	boot  atomic.Int64 // Unix nanoseconds at which the boot clock was 0
}

func newSinkMachine(m *model, s *settings) *sinkMachine {
	return &sinkMachine{model: m, node: s.node, dir: s.eventsDir}
}

// open opens a sink by its kind.
func (m *sinkMachine) open(c stream.SinkConfig) (stream.Sink, error) {
	switch c.Name {
	case "https":
		return https.Open(c.Config, m, m.model.log.With(logging.TargetKey, "sessions"))
	case "jsonl":
		return sink.NewJSONLines(c.Config, sink.Place{Stdout: os.Stdout, Dir: m.dir}, m)
	case "null":
		return sink.NewNull(c.Config, m)
	case "remote":
		return openRemote(c, m)
	default:
		return nil, fmt.Errorf("no such kind of sink; there are %s", strings.Join(sinkKinds, ", "))
	}
}

// Node implements sink.Machine.
func (m *sinkMachine) Node() string { return m.node }

// bootSlack is how far the clocks may drift apart before times of the past are told
// anew: a process keeps the start that was told of it.
const bootSlack = 10 * time.Millisecond

// Boot implements sink.Machine.
func (m *sinkMachine) Boot() time.Time {
	now := time.Now().UnixNano() - int64(m.model.clock.Now())
	told := m.boot.Load()
	if off := time.Duration(now - told); off < -bootSlack || off > bootSlack {
		m.boot.Store(now)
		told = now
	}
	return time.Unix(0, told)
}

// Container implements sink.Machine.
func (m *sinkMachine) Container(id string) sink.Container {
	if id == "" {
		return sink.Container{}
	}
	if m.model.containers == nil {
		return sink.Container{ID: id}
	}
	meta, _ := m.model.containers.Lookup(container.ParseID(id))
	return sink.Container{ID: id, Name: meta.Name, Image: meta.Image, Namespace: meta.Namespace, Pod: meta.Pod}
}
