package sink

import (
	api "github.com/cilium/tetragon/api/v1/tetragon"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// seen is an event as filters see it: as its line tells it.
type seen struct {
	machine Machine
	ev      *event.Event
	process event.Actor
	parent  *event.Actor // never nil
	buf     []byte       // of the text that was asked for last
}

func (s *seen) look(ev *event.Event) {
	s.ev, s.parent = ev, &ev.Subject.Parent
	s.process, _ = actorOf(ev)
}

func (s *seen) kind() api.EventType { return KindOf(s.ev.Point) }

func (s *seen) policy() string {
	switch s.kind() {
	case api.EventType_PROCESS_KPROBE, api.EventType_PROCESS_TRACEPOINT:
		return policyName
	default:
		return ""
	}
}

// container is that of the process; zero for the host.
func (s *seen) container() Container {
	if s.process.Container == "" {
		return Container{}
	}
	return s.machine.Container(s.process.Container)
}

// namespace is that of the pod, "" where there is none.
func (s *seen) namespace() string {
	if c := s.container(); c.Pod != "" {
		return c.Namespace
	}
	return ""
}

// containerName is told of containers of pods.
func (s *seen) containerName() string {
	if c := s.container(); c.Pod != "" {
		return c.Name
	}
	return ""
}

func (s *seen) text(t string) []byte {
	s.buf = append(s.buf[:0], t...)
	return s.buf
}

func (s *seen) binary(p *event.Actor) []byte {
	s.buf = appendBinary(s.buf[:0], p)
	return s.buf
}

func (s *seen) arguments(p *event.Actor) []byte {
	s.buf = appendArguments(s.buf[:0], p.Args)
	return s.buf
}

// kinds says which of the API's kinds of events each point becomes.
var kinds = [event.Points]api.EventType{
	event.ProcessExec: api.EventType_PROCESS_EXEC, event.ProcessExit: api.EventType_PROCESS_EXIT,
	event.NetworkConnect: api.EventType_PROCESS_KPROBE, event.NetworkAccept: api.EventType_PROCESS_KPROBE,
	event.NetworkClose: api.EventType_PROCESS_KPROBE, event.NetworkListen: api.EventType_PROCESS_KPROBE,
}

// KindOf returns as which of the API's kinds of events a point is told.
func KindOf(p event.Point) api.EventType {
	if kind := kinds[p]; kind != api.EventType_UNDEF {
		return kind
	}
	return api.EventType_PROCESS_TRACEPOINT
}
