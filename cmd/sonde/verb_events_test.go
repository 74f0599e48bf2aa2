package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/sink"
	"github.com/sonde-ebpf/sonde/internal/stream"
	"github.com/sonde-ebpf/sonde/introspect"
)

// onePod is a machine with one pod.
type onePod struct{}

func (onePod) Boot() time.Time { return time.Unix(1_700_000_000, 0) }
func (onePod) Node() string    { return "n1" }

func (onePod) Container(id string) sink.Container {
	return sink.Container{ID: id, Pod: "web-0", Name: "nginx", Namespace: "shop"}
}

// happening is a sensor in which something happens as soon as somebody looks.
type happening struct{ *stream.Manager }

func (happening) SinkKinds() []string { return nil }

func (happening) CreateSession([]byte) (string, []string, error) { return "", nil, nil }

func (h happening) DeleteSession(ctx context.Context, name string) (stream.SessionStat, error) {
	return h.Delete(ctx, name)
}

func (h happening) Follow(kind string, points []stream.Point, to stream.Sink) (string, error) {
	name, err := h.CreateNext(kind, points, to)
	nginx, other := event.Process{PID: 30, TID: 30}, event.Process{PID: 31, TID: 31, UID: 1000}
	inPod := event.Subject{Process: event.Actor{
		ExecID: event.ExecID{PID: 30}, Exe: "/usr/sbin/nginx", Args: "nginx\x00-g\x00evil\x1b[2J\x00", Cwd: "/", Container: strings.Repeat("a", 64),
	}}
	conn := event.Conn{
		Family: event.IPv4, Protocol: 6, LocalPort: 50000, RemotePort: 443,
		Local: [16]byte{10, 0, 0, 1}, Remote: [16]byte{203, 0, 113, 9},
	}
	listen := event.Conn{Family: event.IPv6, Protocol: 6, LocalPort: 80}
	var editor event.Editor
	exec := event.Event{Point: event.ProcessExec, TimeNS: 1, Process: other}
	editor.Set(&exec, event.TextExe, []byte("/bin/sh"), false)
	editor.Set(&exec, event.TextArgs, []byte("sh\x00-c\x00two words\x00"), false)
	for _, ev := range []*event.Event{
		&exec,
		{Point: event.ProcessFork, Process: nginx, Child: event.Process{PID: 32}},
		{Point: event.NetworkConnect, Process: nginx, Conn: conn},
		{Point: event.NetworkListen, Process: nginx, Conn: listen, Rules: []*event.Rule{
			{Name: "port-opened", Severity: event.Medium, Technique: "T1571"}, {Name: "in-a-pod", Technique: "T1610"},
		}},
		{Point: event.ProcessExit, Process: nginx, Exit: event.Exit{Signal: 9}},
		{Point: event.ProcessExit, Process: other, Exit: event.Exit{Code: 3}},
	} {
		if ev.Process == nginx {
			ev.Subject = inPod
		}
		h.Publish(ev)
	}
	return name, err
}

func TestEvents(t *testing.T) {
	address := fakeSensor(t, func(s *introspect.Sources) {
		s.Machine = onePod{}
		s.Trace = happening{stream.NewManager(stream.ManagerOptions{
			Enable: func(stream.Wanted) error { return nil }, Now: func() uint64 { return 1 },
		})}
	})
	for name, args := range map[string][]string{
		"events": {"--count=6"}, "events-json": {"--count=1", "--json"},
		"events-rule": {"--count=1", "--rule=nothing", "--rule=in-a-pod"}, "events-some": {"--count=2", "--point=process/exit", "--point=network/listen", "--container=aaaaaaaaaaaa"},
	} {
		code, stdout, stderr := sonde(t, append([]string{"events", "--address=" + address}, args...)...)
		if code != 0 || stderr != "" {
			t.Fatalf("%s: exit code %d: %s", name, code, stderr)
		}
		if name != "events-json" {
			stdout = withoutTime(stdout)
		}
		sameAsGolden(t, name, stdout)
	}
	if code, _, stderr := sonde(t, "events", "--address="+address, "--point=process/dance"); code != int(exitNoAnswer) || !strings.Contains(stderr, "process/dance") {
		t.Errorf("a point that is none: exit code %d: %s", code, stderr)
	}
}

// withoutTime leaves out the first column: it is local time.
func withoutTime(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(line[len("15:04:05.000  "):])
	}
	return b.String()
}
