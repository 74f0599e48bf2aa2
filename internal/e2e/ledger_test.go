package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
	"github.com/sonde-ebpf/sonde/introspect"
)

// books are the ledgers of a sensor, those of sessions that are gone included.
type books struct {
	*agent
	gone []introspect.SessionAnswer
}

// yields is the point that a storm is made of: it costs next to nothing to reach.
var yields = fmt.Sprintf("syscall/sysno/%d/enter", unix.SYS_SCHED_YIELD)

// storm is more events than the ring holds, or any queue, and some processes among them.
func storm(t *testing.T) {
	t.Helper()
	for range 20 {
		for range 2000 {
			_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
		}
		if err := act(t, "nothing").Run(); err != nil {
			t.Fatal(err)
		}
	}
}

// balance waits until every equation holds: one look reads counters one after the
// other, so what is lost shows as a difference that stays.
func (b *books) balance(t *testing.T) introspect.Pipeline {
	t.Helper()
	var p introspect.Pipeline
	waitUntil(t, func() error {
		p = introspect.Pipeline{}
		b.ask(t, "/state/pipeline", &p)
		return errors.Join(ofPoints(p), b.ofSessions(t))
	})
	return p
}

// ofPoints is what does not add up between the kernel and the sessions.
func ofPoints(p introspect.Pipeline) error {
	var decoded uint64
	for _, l := range p.Points {
		if l.Attempted != l.Submitted+l.Dropped || l.Submitted != l.Decoded {
			return fmt.Errorf("%+v", l)
		}
		decoded += l.Decoded
	}
	if r := p.Reader; r.Read != decoded+r.Undecodable || r.Undecodable != 0 {
		return fmt.Errorf("decoded %d, %+v", decoded, r)
	}
	return nil
}

// ofSessions is what does not add up from there to the sinks.
func (b *books) ofSessions(t *testing.T) error {
	t.Helper()
	var live []introspect.SessionAnswer
	b.ask(t, "/trace/sessions", &live)
	lost := map[string]uint64{}
	for _, s := range slices.Concat(live, b.gone) {
		for _, k := range s.Sinks {
			var dropped uint64
			for reason, n := range k.Reasons {
				dropped += n
				lost[reason] += n
			}
			if k.Matched != k.Delivered+k.Filtered+k.Dropped+uint64(k.Queued) || k.Dropped != dropped {
				return fmt.Errorf("session %s: %+v", s.Name, k)
			}
		}
	}
	f := b.families(t)
	for _, loss := range event.AllLosses()[event.LossFull:] {
		if n := sum(f, "sonde_events_dropped_total", "stage="+loss.Stage(), "reason="+loss.Reason()); n != float64(lost[loss.Reason()]) {
			return fmt.Errorf("%s: %v lost by point, %d by session", loss.Reason(), n, lost[loss.Reason()])
		}
	}
	return nil
}

// session returns the ledger of a session's only sink.
func (b *books) session(t *testing.T, name string) introspect.SinkAnswer {
	t.Helper()
	var live []introspect.SessionAnswer
	b.ask(t, "/trace/sessions", &live)
	for _, s := range live {
		if s.Name == name {
			return s.Sinks[0]
		}
	}
	t.Fatalf("no session %s", name)
	return introspect.SinkAnswer{}
}

// create begins a session with one sink.
func (b *books) create(t *testing.T, name, points, sink string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "session.json")
	text := fmt.Sprintf(`{"name": %q, "points": [%s], "sinks": [%s]}`, name, points, sink)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := b.verb(t, "trace", "create", "--config="+file); code != 0 {
		t.Fatalf("create %s: %s", text, stderr)
	}
}

// remove ends a session, whose ledger must close, and returns that of its first sink.
func (b *books) remove(t *testing.T, name string) introspect.SinkAnswer {
	t.Helper()
	var s introspect.SessionAnswer
	b.decodedVerb(t, &s, "trace", "delete", "--name="+name)
	for _, k := range s.Sinks {
		if k.Matched != k.Delivered+k.Filtered+k.Dropped || k.Queued != 0 {
			t.Errorf("session %s is gone, and its ledger is open: %+v", name, k)
		}
	}
	b.gone = append(b.gone, s)
	return s.Sinks[0]
}

// written counts the events in a file of JSON lines.
func written(t *testing.T, path string) (n uint64) {
	t.Helper()
	for _, ev := range lines(t, path) {
		if ev.GetRateLimitInfo() == nil {
			n++
		}
	}
	return n
}

// Every event that was attempted has a place in the books, whatever goes wrong: too
// many events, a reader that stands still, sinks that do, a disk that is full, sessions
// that come and go.
func TestLedgersClose(t *testing.T) {
	disk, dir := tmpfs(t, "size=64k", 0), t.TempDir()
	file, pipe := filepath.Join(dir, "events.json"), stalledPipe(t, filepath.Join(dir, "pipe"))
	monitor := stalledMonitor(t, filepath.Join(dir, "monitor"))
	config := filepath.Join(dir, "sonde.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, `sessions:
  - {name: lives, points: [{name: process/fork}, {name: process/exit}], sinks: [{name: jsonl, config: {path: %s}}, {name: 'null', config: {allow_list: [{event_set: [PROCESS_EXIT]}]}}]}
  - {name: monitor, points: [{name: process/exit}, {name: %s}], sinks: [{name: remote, config: {endpoint: %s}}]}
  - {name: pipe, points: [{name: process/exit}], sinks: [{name: jsonl, config: {path: %s}}]}
`, file, yields, monitor.path, pipe), 0o600); err != nil {
		t.Fatal(err)
	}
	b := &books{agent: startAgent(t, "--config.file="+config, "--events.dir="+filepath.Dir(dir), "--limits.ring-bytes=256KiB")}

	b.comeAndGo(t)
	b.stopReader(t)
	b.stall(t, monitor)
	b.fill(t, disk)
	before := b.balance(t)
	ended := b.remove(t, "lives")
	if n := written(t, file); n != ended.Delivered || n == 0 {
		t.Errorf("%d events are in the file, %d were delivered", n, ended.Delivered)
	}
	if k := b.gone[len(b.gone)-1].Sinks[1]; k.Filtered == 0 || k.Delivered == 0 {
		t.Errorf("of forks and ends only the latter are wanted: %+v", k)
	}
	lives := func(p introspect.Pipeline) uint64 {
		return p.Points[event.ProcessFork].Decoded + p.Points[event.ProcessExit].Decoded
	}
	if low, high := lives(before), lives(b.balance(t)); ended.Matched < low || ended.Matched > high {
		t.Errorf("%d events matched, %d were decoded before and %d after", ended.Matched, low, high)
	}
}

// comeAndGo creates and deletes sessions in a storm.
func (b *books) comeAndGo(t *testing.T) {
	t.Helper()
	var (
		storms  sync.WaitGroup
		stopped = make(chan struct{})
	)
	storms.Go(func() {
		for {
			select {
			case <-stopped:
				return
			default:
				storm(t)
			}
		}
	})
	defer storms.Wait()
	defer close(stopped)
	for i := range 4 {
		name := fmt.Sprint("brief-", i)
		b.create(t, name, fmt.Sprintf(`{"name": %q}, {"name": "process/exit"}`, yields), `{"name": "null"}`)
		waitUntil(t, func() error {
			if b.session(t, name).Matched == 0 {
				return errors.New("no event reaches the session")
			}
			return nil
		})
		b.remove(t, name)
	}
}

// stopReader keeps the ring from being read in a storm.
func (b *books) stopReader(t *testing.T) {
	t.Helper()
	dropped := func() (n uint64) {
		for _, l := range b.balance(t).Points {
			n += l.Dropped
		}
		return n
	}
	before := dropped()
	if err := b.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	storm(t)
	if err := b.cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if n := dropped() - before; n == 0 {
		t.Error("no event was lost in the ring of a reader that was stopped")
	}
}

// stall has sinks whose other ends take nothing in a storm. One reads on in the end,
// the other does not.
func (b *books) stall(t *testing.T, monitor *monitorEnd) {
	t.Helper()
	waitUntil(t, func() error {
		storm(t)
		monitor, pipe := b.session(t, "monitor").Reasons, b.session(t, "pipe").Reasons
		if monitor["shed"] == 0 || monitor["peer"] == 0 || pipe["peer"] == 0 {
			return fmt.Errorf("lost before the monitor: %v, before the pipe: %v", monitor, pipe)
		}
		return nil
	})
	b.balance(t)
	b.remove(t, "pipe")
	read := monitor.read(t)
	ended := b.remove(t, "monitor")
	if n := <-read; n != ended.Delivered || n == 0 {
		t.Errorf("the monitor has got %d messages, %d were delivered", n, ended.Delivered)
	}
}

// fill has a sink whose disk is full.
func (b *books) fill(t *testing.T, disk string) {
	t.Helper()
	file := filepath.Join(disk, "events.json")
	b.create(t, "disk", fmt.Sprintf(`{"name": %q}`, yields), fmt.Sprintf(`{"name": "jsonl", "config": {"path": %q}}`, file))
	waitUntil(t, func() error {
		storm(t)
		if lost := b.session(t, "disk").Reasons; lost["disk_full"] == 0 {
			return fmt.Errorf("lost: %v", lost)
		}
		return nil
	})
	ended := b.remove(t, "disk")
	if n := written(t, file); n != ended.Delivered || n == 0 {
		t.Errorf("%d events are on the disk, %d were delivered", n, ended.Delivered)
	}
}

// stalledPipe makes a pipe that is open for reading and never read.
func stalledPipe(t *testing.T, path string) string {
	t.Helper()
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reader.Close() })
	if _, err := unix.FcntlInt(reader.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	return path
}

// monitorEnd is a monitor that shakes hands and then reads only when it is told to.
type monitorEnd struct {
	path     string
	accepted chan *net.UnixConn
}

func stalledMonitor(t *testing.T, path string) *monitorEnd {
	t.Helper()
	m, listener := &monitorEnd{path, make(chan *net.UnixConn, 1)}, listenFor(t, path)
	go func() {
		c, err := listener.AcceptUnix()
		if err != nil {
			return // the test is over
		}
		_, _ = c.Read(make([]byte, wire.MaxHandshake)) // the sensor says if the answer was not good
		_, _ = c.Write(wire.AppendHandshake(nil))
		m.accepted <- c
	}()
	return m
}

// read counts the messages until the sensor ends the connection.
func (m *monitorEnd) read(t *testing.T) <-chan uint64 {
	t.Helper()
	read := make(chan uint64, 1)
	go func() {
		c, b, n := <-m.accepted, make([]byte, wire.MaxMessage), uint64(0)
		defer c.Close()
		for {
			if _, err := c.Read(b); err != nil {
				if !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
					t.Error(err)
				}
				read <- n
				return
			}
			n++
		}
	}()
	return read
}
