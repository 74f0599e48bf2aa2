package introspect

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/sink"
	"github.com/sonde-ebpf/sonde/internal/stream"
	"github.com/sonde-ebpf/sonde/internal/unixsocket"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

type fakeMachine struct{}

func (fakeMachine) Boot() time.Time { return booted }
func (fakeMachine) Node() string    { return "n1" }

func (fakeMachine) Container(id string) sink.Container { return sink.Container{ID: id} }

// managedTrace is a real manager of sessions.
type managedTrace struct {
	*fakeTrace
	*stream.Manager
}

func (m managedTrace) Sessions() []stream.SessionStat { return m.Manager.Sessions() }

func (m managedTrace) Follow(kind string, points []stream.Point, to stream.Sink) (string, error) {
	return m.CreateNext(kind, points, to)
}

func (m managedTrace) DeleteSession(ctx context.Context, name string) (stream.SessionStat, error) {
	return m.Delete(ctx, name)
}

// exec tells of a process, of which pid 101 is in the container webID.
func (m managedTrace) exec(pid uint32) {
	ev := event.Event{Point: event.ProcessExec, Process: event.Process{PID: pid, TID: pid}}
	new(event.Editor).Set(&ev, event.TextArgs, fmt.Appendf(nil, "tar\x00--pid=%d,x\x00", pid), false)
	if pid == 101 {
		ev.Subject.Process = event.Actor{ExecID: event.ExecID{PID: pid}, Exe: "/usr/sbin/nginx", Container: webID}
	}
	m.Publish(&ev)
}

// live is a server with sessions and a client.
func live(t *testing.T) (managedTrace, *http.Client, chan struct{}) {
	t.Helper()
	m := managedTrace{Manager: stream.NewManager(stream.ManagerOptions{
		Enable: func(stream.Wanted) error { return nil },
		Now:    func() uint64 { return 0 },
	})}
	stopping := make(chan struct{})
	sources := fakeSources(t)
	sources.Trace, sources.Machine, sources.Stopping = m, fakeMachine{}, stopping
	socket := filepath.Join(t.TempDir(), "s")
	serve(t, New(Options{ListenAddresses: []string{unixsocket.Scheme + socket}}), sources)
	return m, overUnix(t, socket), stopping
}

func follow(t *testing.T, c *http.Client, query string) (lines *bufio.Scanner, leave func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://sonde/trace/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", query, resp.Status)
	}
	return bufio.NewScanner(resp.Body), cancel
}

// told is what the tests look at in a line.
type told struct {
	Exec *struct{ Process struct{ Pid int } } `json:"process_exec"`
	Lost *struct {
		N string `json:"number_of_dropped_process_events"`
	} `json:"rate_limit_info"`
}

func next(t *testing.T, lines *bufio.Scanner) (line told) {
	t.Helper()
	if !lines.Scan() {
		t.Fatalf("the stream has ended: %v", lines.Err())
	}
	if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
		t.Fatalf("%v in %s", err, lines.Text())
	}
	return line
}

func waitForNone(t *testing.T, m managedTrace) {
	t.Helper()
	for deadline := time.Now().Add(patience); len(m.Sessions()) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions are left", len(m.Sessions()))
		}
	}
}

func TestEventsAreFollowed(t *testing.T) {
	m, c, _ := live(t)
	for query, want := range map[string]int{
		"":                                  7,
		"?point=sentry/execve&pid=8,9":      8,
		"?argument=-x&argument=--pid%3D9,x": 9,
		"?container=" + webID[:12]:          101,
		"?container=host&point=process/exec&pid=9": 9,
	} {
		lines, leave := follow(t, c, query)
		for _, p := range m.Sessions()[0].Points { // what a session must ask for by name, a stream does not get
			if p.Fields&(event.OptionalFields|event.FieldAncestors) != 0 {
				t.Errorf("%q: of %s the stream wants %v", query, p.Name, p.Fields.Names())
			}
		}
		for _, pid := range []uint32{7, 8, 9, 101} {
			m.exec(pid)
		}
		if got := next(t, lines); got.Exec == nil || got.Exec.Process.Pid != want {
			t.Errorf("%q: first %s, want the exec of %d", query, lines.Text(), want)
		}
		leave()
		waitForNone(t, m)
	}
}

func TestEventsAreRefused(t *testing.T) {
	sources := fakeSources(t)
	sources.Trace, sources.Machine = &fakeTrace{}, fakeMachine{}
	h := newHandler(sources, nil, loopback)
	for query, status := range map[string]int{"?point=process/dance": 400, "?pid=x": 400, "?container=%20": 400, "?nothing=1": 400, "": 409} {
		w := ask(h, "GET", "/trace/events"+query, "")
		if w.Code != status {
			t.Errorf("%q: %d, want %d", query, w.Code, status)
		}
		wantError(t, query, w.Body.Bytes())
	}
}

// A client that does not read misses events, is told how many when it reads again,
// and another client misses none.
func TestSlowClientIsToldWhatItMissed(t *testing.T) {
	m, c, _ := live(t)
	slow, _ := follow(t, c, "")
	const batch, all = 1000, 60_000
	quick, leave := follow(t, c, "?pid=7")
	for n := 0; n < all; n += batch {
		for range batch - 1 {
			m.exec(8)
		}
		m.exec(7)
		if got := next(t, quick); got.Exec == nil || got.Exec.Process.Pid != 7 {
			t.Fatalf("the quick client got %s", quick.Text())
		}
	}
	leave()
	got, missed := 0, 0
	for got+missed < all {
		line := next(t, slow)
		if line.Lost == nil {
			got++
			continue
		}
		var n int
		if err := json.Unmarshal([]byte(line.Lost.N), &n); err != nil {
			t.Fatal(err)
		}
		missed += n
		if missed == 0 {
			t.Fatal("told of no events that are missing")
		}
	}
	if missed == 0 || got+missed != all {
		t.Errorf("got %d and was told of %d missing, of %d", got, missed, all)
	}
}

// What waits arrives when the sensor stops, and the answer ends in order.
func TestStreamEndsWithTheSensor(t *testing.T) {
	m, c, stopping := live(t)
	lines, _ := follow(t, c, "")
	m.exec(7)
	close(stopping)
	if got := next(t, lines); got.Exec == nil {
		t.Errorf("got %s", lines.Text())
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("goes on with %s, %v", lines.Text(), lines.Err())
	}
	waitForNone(t, m)
}

// A client that reads nothing does not keep the sensor from stopping.
func TestStalledClientIsCutOff(t *testing.T) {
	m, c, stopping := live(t)
	_, _ = follow(t, c, "")
	for range 20_000 {
		m.exec(8)
	}
	close(stopping)
	waitForNone(t, m)
	if lost := m.Lost()[event.ProcessExec]; lost[event.LossFull]+lost[event.LossShed] == 0 {
		t.Errorf("lost %v, want some in the queue", lost)
	}
}
