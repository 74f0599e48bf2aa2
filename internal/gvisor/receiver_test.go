package gvisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// eventually waits for a condition, with a deadline that no test meets.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// running is a receiver that serves.
type running struct {
	*Receiver
	stop func() // and wait

	mu  sync.Mutex
	got []string // events as describe has them
}

func (r *running) publish(ev *event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.got = append(r.got, describe(ev))
}

// describe writes what of an event does not depend on when it was received.
func describe(ev *event.Event) string {
	var b strings.Builder
	p := &ev.Process
	fmt.Fprintf(&b, "%v %v container=%s pid=%d tid=%d ppid=%d uid=%d comm=%s", ev.Source, ev.Point, ev.Text(event.TextContainer),
		p.PID, p.TID, p.PPID, p.UID, bytes.Trim(p.Comm[:], "\x00"))
	switch ev.Point {
	case event.ProcessExec:
		fmt.Fprintf(&b, " path=%s exe=%s args=%q cwd=%s euid=%d", ev.Text(event.TextPath), ev.Text(event.TextExe), ev.Text(event.TextArgs), ev.Text(event.TextCwd), ev.Exec.Credentials.EUID)
	case event.ProcessFork:
		fmt.Fprintf(&b, " child=%d", ev.Child.PID)
	case event.ProcessExit:
		fmt.Fprintf(&b, " code=%d signal=%d", ev.Exit.Code, ev.Exit.Signal)
	default:
		fmt.Fprintf(&b, " inbound=%v protocol=%d local=%v:%d remote=%v:%d", ev.Conn.Inbound, ev.Conn.Protocol,
			ev.Conn.Local, ev.Conn.LocalPort, ev.Conn.Remote, ev.Conn.RemotePort)
	}
	return b.String()
}

func (r *running) published() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func start(t *testing.T, change ...func(*Receiver)) *running {
	t.Helper()
	r := &running{}
	r.Receiver = New(Options{
		Endpoint: filepath.Join(t.TempDir(), "gvisor.sock"), Logger: slog.New(slog.DiscardHandler), Publish: r.publish, Proc: t.TempDir(),
		Editor: &event.Editor{}, Boot: func() uint64 { return uint64(time.Hour) },
	})
	for _, c := range change {
		c(r.Receiver)
	}
	if err := r.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// sandbox is the other side, as gVisor plays it.
type sandbox struct {
	*net.UnixConn
	t       *testing.T
	encoder wire.Encoder
}

func dial(t *testing.T, r *running) *sandbox {
	t.Helper()
	c, err := net.Dial("unixpacket", r.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &sandbox{UnixConn: c.(*net.UnixConn), t: t}
}

func connect(t *testing.T, r *running) *sandbox {
	t.Helper()
	s := dial(t, r)
	s.send("\x08\x01")
	if answer := s.answer(); answer != "\x08\x01" {
		t.Fatalf("the answer to the handshake is %x", answer)
	}
	return s
}

func (s *sandbox) send(datagram string) {
	s.t.Helper()
	if _, err := s.Write([]byte(datagram)); err != nil {
		s.t.Fatal(err)
	}
}

// answer reads what the receiver says, "" where it hangs up.
func (s *sandbox) answer() string {
	s.t.Helper()
	b := make([]byte, 100)
	n, err := s.Read(b)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		s.t.Fatal(err)
	}
	return string(b[:n])
}

func (s *sandbox) message(m wire.Message, dropped uint32) {
	s.t.Helper()
	s.send(string(s.encoder.Append(nil, m, dropped)))
}

// endOf is the end of a process.
func endOf(process string) wire.Message {
	origin := wire.Origin{HasContextData: true, ContextData: wire.Context{ThreadID: 7, ThreadGroupID: 7, ProcessName: []byte(process)}}
	return &wire.SentryTaskExit{ExitStatus: wire.ExitStatus{Origin: origin}}
}

// total adds up a family of counts.
func total(counts map[string]uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// TestMessages: several sandboxes at once; whatever else they send, what is
// understood is handed on, and everything is counted.
func TestMessages(t *testing.T) {
	r := start(t, func(r *Receiver) { r.bounds.message = 100 })
	a, b := connect(t, r), connect(t, r)
	a.message(&wire.ContainerStart{ID: []byte("id-a")}, 0)
	a.message(endOf("one"), 0)
	a.send("")                                                           // no header
	a.send("\x08\x00\x07")                                               // half a header
	a.send("\x08\x00\x07\x00\x00\x00\x00\x00\xff")                       // no protobuf
	a.send("\x08\x00\x27\x00\x00\x00\x00\x00later versions")             // not known
	a.send("\x08\x00\x07\x00\x00\x00\x00\x00" + strings.Repeat(".", 93)) // one byte too long
	a.send("\x10\x00\x01\x00\x00\x00\x00\x00........")                   // a longer header, an empty payload
	b.message(endOf("two"), 7)
	a.message(endOf("three"), 2)
	eventually(t, "all were received", func() bool {
		s := r.Stats()
		return total(s.Messages)+total(s.Malformed) == 10
	})

	got := r.published()
	slices.Sort(got)
	want := []string{
		`gvisor process/exec container= pid=0 tid=0 ppid=0 uid=0 comm= path= exe= args="" cwd= euid=0`,
		`gvisor process/exec container=id-a pid=0 tid=0 ppid=0 uid=0 comm= path= exe= args="" cwd= euid=0`,
		"gvisor process/exit container= pid=7 tid=7 ppid=0 uid=0 comm=one code=0 signal=0",
		"gvisor process/exit container= pid=7 tid=7 ppid=0 uid=0 comm=three code=0 signal=0",
		"gvisor process/exit container= pid=7 tid=7 ppid=0 uid=0 comm=two code=0 signal=0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	s := r.Stats()
	if s.Messages["container_start"] != 2 || s.Messages["sentry_task_exit"] != 3 || s.Messages["unknown"] != 1 || s.Dropped != 9 || s.Connections != 2 ||
		s.Events["process/exec"] != 2 || s.Events["process/exit"] != 3 {
		t.Errorf("counts %+v", s)
	}
	if diff := cmp.Diff(map[string]uint64{"header": 2, "payload": 1, "oversize": 1}, s.Malformed); diff != "" {
		t.Errorf("malformed (-want +got):\n%s", diff)
	}
	connections := r.Connections()
	for _, c := range connections {
		if c.Since.IsZero() || c.Last.Before(c.Since) || c.Silent || !strings.Contains(c.Peer, fmt.Sprintf("pid %d", os.Getpid())) {
			t.Errorf("connection %+v", c)
		}
	}
	if c := connections[0]; c.Sandbox != "id-a" || c.Messages != 9 || c.Malformed != 4 || c.Dropped != 2 {
		t.Errorf("first connection %+v", c)
	}

	a.Close()
	eventually(t, "one sandbox has left", func() bool { return r.Stats().Connections == 1 })
}

// TestLargestMessage: a message of the bound's size is taken, whole.
func TestLargestMessage(t *testing.T) {
	r := start(t, func(r *Receiver) { r.bounds.message = 108 })
	s := connect(t, r)
	datagram := s.encoder.Append(nil, &wire.Chroot{Pathname: bytes.Repeat([]byte("x"), 98)}, 0)
	if len(datagram) != 108 {
		t.Fatalf("the test's message has %d bytes", len(datagram))
	}
	s.send(string(datagram))
	eventually(t, "it was received", func() bool { return r.Stats().Messages["syscall_chroot"] == 1 })
}

func TestHandshakes(t *testing.T) {
	for _, test := range []struct {
		name, sent, answer string
		rejected           string
	}{
		{"ours", "\x08\x01", "\x08\x01", ""},
		{"newer", "\x08\x02", "\x08\x01", ""},
		{"too old", "\x08\x00", "", "version"},
		{"garbage", "\xff\xff\xff", "", "handshake"},
		{"none", "", "", "timeout"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := start(t, func(r *Receiver) {
				if test.rejected == "timeout" {
					r.bounds.handshake = 10 * time.Millisecond
				}
			})
			s := dial(t, r)
			if test.sent != "" {
				s.send(test.sent)
			}
			if answer := s.answer(); answer != test.answer {
				t.Errorf("answer %x, want %x", answer, test.answer)
			}
			if test.rejected == "" {
				eventually(t, "it is connected", func() bool { return r.Stats().Connections == 1 })
				return
			}
			eventually(t, "it was rejected", func() bool { return r.Stats().Rejected[test.rejected] == 1 })
			if n := total(r.Stats().Rejected); n != 1 {
				t.Errorf("%d rejections", n)
			}
		})
	}
}

// TestTooMany: one sandbox beyond the bound gets its answer, so that its container
// starts, and is left then.
func TestTooMany(t *testing.T) {
	r := start(t, func(r *Receiver) { r.bounds.connections = 2 })
	connect(t, r)
	connect(t, r)
	eventually(t, "two are connected", func() bool { return r.Stats().Connections == 2 })
	third := connect(t, r)
	if answer := third.answer(); answer != "" {
		t.Errorf("the third got %x after the handshake", answer)
	}
	if s := r.Stats(); s.Connections != 2 || s.Rejected["limit"] != 1 {
		t.Errorf("counts %+v", s)
	}
}

// TestManyMessages: more sandboxes than workspaces send more than their sockets hold.
func TestManyMessages(t *testing.T) {
	const sandboxes, each = 3 * workspaces, 2000
	r := start(t)
	var sending sync.WaitGroup
	for range sandboxes {
		s := connect(t, r)
		sending.Go(func() {
			for range each {
				s.message(endOf("x"), 0) // waits while the socket is full
			}
		})
	}
	sending.Wait()
	eventually(t, "all were received", func() bool { return r.Stats().Events["process/exit"] == sandboxes*each })
	if s := r.Stats(); total(s.Malformed) != 0 || s.Dropped != 0 {
		t.Errorf("counts %+v", s)
	}
}

func TestLedger(t *testing.T) {
	var l ledger
	for _, step := range []struct {
		total uint32
		grown uint64
	}{
		{0, 0}, {5, 5}, {4, 0}, {7, 2}, {7, 0}, {1 << 31, 1<<31 - 7},
		{1<<32 - 1, 1<<31 - 1}, {3, 4}, {1<<32 - 1, 0}, {4, 1},
	} {
		if grown := l.advance(step.total); grown != step.grown {
			t.Errorf("at %d the total has grown by %d, want %d", step.total, grown, step.grown)
		}
	}
	if l.total() != 1<<32+4 {
		t.Errorf("in all %d, want %d", l.total(), uint64(1<<32+4))
	}
}

// TestSilent: a sandbox that shook hands and says nothing is seen.
func TestSilent(t *testing.T) {
	c := &Connection{since: time.Unix(1000, 0)}
	if c.state(c.since.Add(SilentAfter)).Silent {
		t.Error("silent before its time")
	}
	if !c.state(c.since.Add(SilentAfter + 1)).Silent {
		t.Error("not silent after its time")
	}
	c.last.Store(1)
	if c.state(c.since.Add(SilentAfter + 1)).Silent {
		t.Error("silent though it has spoken")
	}
}

// TestStop: what was sent before the stop is received, the socket is gone, and the
// sandbox is told.
func TestStop(t *testing.T) {
	const sent = 100
	release := make(chan struct{})
	r := start(t, func(r *Receiver) {
		publish := r.opts.Publish
		r.opts.Publish = func(ev *event.Event) {
			<-release
			publish(ev)
		}
	})
	s, pending := connect(t, r), dial(t, r)
	for range sent {
		s.message(endOf("x"), 0)
	}
	eventually(t, "the first is being handled", func() bool { return total(r.Stats().Messages) > 0 })
	time.AfterFunc(10*time.Millisecond, func() { close(release) }) // after the stop has begun, most times
	r.stop()
	if n := len(r.published()); n != sent {
		t.Errorf("%d of %d messages became events", n, sent)
	}
	if _, err := os.Lstat(r.Endpoint()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the sandbox may still write: %v", err)
	}
	if answer := pending.answer(); answer != "" {
		t.Errorf("a handshake was answered with %x", answer)
	}
}
