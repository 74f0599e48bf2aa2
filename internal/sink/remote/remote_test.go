package remote

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// monitor is the other side, as gVisor's own monitors play it.
type monitor struct {
	*net.UnixListener
	t *testing.T
}

func listen(t *testing.T, path string) monitor {
	t.Helper()
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	if err := l.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return monitor{l, t}
}

// session is a connection at the monitor's end.
type session struct {
	*net.UnixConn
	t *testing.T
}

// accept takes the next connection and gives an answer to its handshake, beside
// what the test does.
func (m monitor) accept(answer string) <-chan session {
	accepted := make(chan session, 1)
	go func() {
		s, err := m.greet(answer)
		if err != nil {
			m.t.Errorf("monitor: %v", err)
		}
		accepted <- s
	}()
	return accepted
}

func (m monitor) greet(answer string) (session, error) {
	c, err := m.AcceptUnix()
	if err != nil {
		return session{}, err
	}
	m.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return session{}, err
	}
	hello := make([]byte, 100)
	if n, err := c.Read(hello); err != nil || string(hello[:n]) != "\x08\x01" {
		return session{}, fmt.Errorf("handshake %x, %w", hello[:n], err)
	}
	_, err = c.Write([]byte(answer))
	return session{c, m.t}, err
}

func (s session) read() string {
	s.t.Helper()
	b := make([]byte, 1<<16)
	n, err := s.Read(b)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b[:n])
}

// message reads one message.
func (s session) message() (wire.Header, wire.Message) {
	s.t.Helper()
	h, m, err := wire.NewDecoder().Decode([]byte(s.read()))
	if err != nil {
		s.t.Fatal(err)
	}
	return h, m
}

// path is a short one: the kernel allows 107 bytes.
func path(t *testing.T) string { return filepath.Join(t.TempDir(), "s") }

// open opens a sink to a monitor that answers, and returns both ends.
func open(t *testing.T, m monitor, change ...func(*Options)) (*Sink, session) {
	t.Helper()
	o := Options{Endpoint: m.Addr().String(), Retries: DefaultRetries, Backoff: DefaultBackoff, BackoffMax: DefaultBackoffMax}
	for _, c := range change {
		c(&o)
	}
	accepted := m.accept("\x08\x01")
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, <-accepted
}

// losses counts what a sink gives up.
type losses map[event.Loss]int

func (l losses) count(_ *event.Event, loss event.Loss) { l[loss]++ }

func deliver(s *Sink, events ...event.Event) losses {
	l := losses{}
	s.Deliver(events, l.count)
	return l
}

// exec is an event that says something in every field the protocol has for it.
func exec() event.Event {
	ev := event.Event{
		Point: event.ProcessExec, Fields: event.AllFields, TimeNS: 5_000_000_000,
		Process: event.Process{PID: 7, TID: 7, PPID: 1, UID: 1000, StartNS: 4_000_000_000, Comm: [event.CommLen]byte{'l', 's'}},
		Exec: event.Exec{
			Credentials: event.Credentials{UID: 1000, GID: 100, EUID: 0, EGID: 100, SUID: 0, SGID: 100}, Inode: 99, Links: 1, Mode: 0o100755,
		},
	}
	var editor event.Editor
	editor.Set(&ev, event.TextPath, []byte("/bin/ls"), false)
	editor.Set(&ev, event.TextArgs, []byte("ls\x00-l\x00\x00"), false)
	editor.Set(&ev, event.TextCwd, []byte("/root"), false)
	return ev
}

// TestGolden: what goes over the wire, byte for byte. The hexadecimal numbers were
// put together by hand from the protocol's field numbers.
func TestGolden(t *testing.T) {
	v4 := event.Conn{Family: event.IPv4, Protocol: 6, LocalPort: 40000, RemotePort: 443, Local: [16]byte{10, 0, 0, 1}, Remote: [16]byte{10, 0, 0, 2}}
	v6 := event.Conn{Family: event.IPv6, Protocol: 6, LocalPort: 22, Local: [16]byte{15: 1}}
	process := event.Process{PID: 7, TID: 8, PPID: 1, StartNS: 4_000_000_000}
	program := exec()
	program.Fields = 0
	for _, test := range []struct {
		name string
		ev   event.Event
		want string
	}{
		{"exec", program,
			"0800 0300 00000000" + "12072f62696e2f6c73" + "1a026c73" + "1a022d6c" + "1a00" + "28ed8302" + "5063" + "8a01072f62696e2f6c73" + "980101"},
		{"fork", event.Event{Point: event.ProcessFork, Process: process, Child: event.Process{PID: 9, TID: 9, StartNS: 6_000_000_000}},
			"0800 0200 00000000" + "1809" + "2009" + "2880f882ad16"},
		{"exit", event.Event{Point: event.ProcessExit, Process: process, Fields: event.FieldThreadID | event.FieldGroupID, Exit: event.Exit{Code: 1}},
			"0800 0500 00000000" + "0a04" + "1008" + "2007" + "108002"},
		{"killed", event.Event{Point: event.ProcessExit, Process: process, Exit: event.Exit{Signal: 9}},
			"0800 0500 00000000" + "1009"},
		{"connect", event.Event{Point: event.NetworkConnect, Process: process, Conn: v4},
			"0800 0a00 00000000" + "1200" + "182a" + "20ffffffffffffffffff01" + "3210" + "0200 01bb 0a000002 0000000000000000"},
		{"accept", event.Event{Point: event.NetworkAccept, Process: process, Conn: v4},
			"0800 1900 00000000" + "1200" + "182b" + "20ffffffffffffffffff01" + "3210" + "0200 01bb 0a000002 0000000000000000"},
		{"listen", event.Event{Point: event.NetworkListen, Process: process, Conn: v6},
			"0800 2500 00000000" + "1200" + "1832" + "20ffffffffffffffffff01" + "3a1c" +
				"0a00 0016 00000000 00000000000000000000000000000001 00000000" + "400a" + "4801"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var v converter
			m := v.message(&test.ev)
			got := new(wire.Encoder).Append(nil, m, 0)
			want, err := hex.DecodeString(strings.ReplaceAll(test.want, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("% x, want\n% x", got, want)
			}
		})
	}
}

func TestExec(t *testing.T) {
	ev := exec()
	new(event.Editor).Set(&ev, event.TextExe, []byte("/usr/bin/ls"), false)
	v := converter{wall: 1_000_000_000_000}
	want := &wire.SentryExec{
		BinaryPath: []byte("/usr/bin/ls"), Execfn: []byte("/bin/ls"), Argv: [][]byte{[]byte("ls"), []byte("-l"), {}}, BinaryMode: 0o100755, BinaryIno: 99, BinaryNlink: 1,
		Origin: wire.Origin{HasContextData: true, ContextData: wire.Context{
			TimeNs: 1_005_000_000_000, ThreadID: 7, ThreadStartTimeNs: 1_004_000_000_000, ThreadGroupID: 7, ThreadGroupStartTimeNs: 1_004_000_000_000,
			HasCredentials: true, Credentials: wire.Credentials{RealUID: 1000, RealGID: 100, EffectiveGID: 100, SavedGID: 100},
			Cwd: []byte("/root"), ProcessName: []byte("ls"), ParentThreadGroupID: 1,
		}},
	}
	if diff := cmp.Diff(want, v.message(&ev)); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
	ev.Fields = 0
	want.Origin = wire.Origin{}
	if diff := cmp.Diff(want, v.message(&ev)); diff != "" {
		t.Errorf("message of a session without context fields (-want +got):\n%s", diff)
	}
}

// TestClock: times are those of the wall.
func TestClock(t *testing.T) {
	var v converter
	v.setClock()
	boot := time.Now().UnixNano() - v.wall
	if now := v.time(uint64(boot)); time.Since(time.Unix(0, now)).Abs() > time.Second {
		t.Errorf("now is %v", time.Unix(0, now))
	}
	if v.time(0) != 0 {
		t.Error("an unknown time became a known one")
	}
}

// TestDeliver: events arrive in order; one that the protocol cannot say is lost,
// and the next message tells.
func TestDeliver(t *testing.T) {
	m := listen(t, path(t))
	s, at := open(t, m)
	lost := deliver(s, exec(), event.Event{Point: event.NetworkClose}, event.Event{Point: event.ProcessExit}, exec())
	if diff := cmp.Diff(losses{event.LossEncode: 1}, lost); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
	for i, want := range []wire.Header{
		{Size: 8, Type: wire.TypeSentryExec}, {Size: 8, Type: wire.TypeSentryTaskExit, Dropped: 1}, {Size: 8, Type: wire.TypeSentryExec, Dropped: 1},
	} {
		if h, _ := at.message(); h != want {
			t.Errorf("header %d is %+v, want %+v", i, h, want)
		}
	}
}

// TestReconnect: a monitor that comes back gets the event at which its end was
// noticed, and is told what was lost in between, no more and no less.
func TestReconnect(t *testing.T) {
	p := path(t)
	first := listen(t, p)
	s, at := open(t, first)
	deliver(s, event.Event{Point: event.NetworkClose}, exec()) // one lost, one told of it
	if h, _ := at.message(); h.Dropped != 1 {
		t.Fatalf("dropped %d, want 1", h.Dropped)
	}
	deliver(s, event.Event{Point: event.NetworkClose}) // lost, and not told yet
	first.Close()
	at.Close()
	if lost := deliver(s, exec(), exec()); lost[event.LossPeer] != 2 || len(lost) != 1 {
		t.Fatalf("losses %v without a monitor, want 2", lost)
	}

	second := listen(t, p)
	accepted := second.accept("\x08\x01")
	between := 0
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		if len(deliver(s, exec())) == 0 {
			break
		}
		between++
		if time.Now().After(deadline) {
			t.Fatal("never connected again")
		}
	}
	at = <-accepted
	if h, _ := at.message(); int(h.Dropped) != 3+between {
		t.Errorf("the second monitor is told of %d losses, want %d", h.Dropped, 3+between)
	}
	at.Close()
	accepted = second.accept("\x08\x01")
	if lost := deliver(s, exec()); len(lost) > 0 { // noticed and repaired within one event
		t.Errorf("losses %v", lost)
	}
	if h, _ := (<-accepted).message(); h.Dropped != 0 {
		t.Errorf("the third monitor is told of %d losses that the second knows", h.Dropped)
	}
}

// TestBackoff: while nobody listens, connecting is tried ever more rarely.
func TestBackoff(t *testing.T) {
	m := listen(t, path(t))
	s, at := open(t, m)
	m.Close()
	at.Close()
	var pauses []time.Duration
	for range 10 {
		s.retryAt = time.Time{}
		deliver(s, exec())
		pauses = append(pauses, s.pause)
	}
	want := []time.Duration{RetryFirst, 2 * RetryFirst, 4 * RetryFirst, 8 * RetryFirst, 16 * RetryFirst, 32 * RetryFirst, 64 * RetryFirst, 128 * RetryFirst, 256 * RetryFirst, RetryLast}
	if diff := cmp.Diff(want, pauses); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
	before := s.retryAt
	deliver(s, exec())
	if s.retryAt != before {
		t.Error("it was tried again before its time")
	}
}

// TestFull: a monitor that does not read costs messages, not the connection, and
// costs them at once where there is no patience.
func TestFull(t *testing.T) {
	for _, retries := range []int{0, 3} {
		t.Run(fmt.Sprint(retries), func(t *testing.T) {
			m := listen(t, path(t))
			s, at := open(t, m, func(o *Options) { o.Retries = retries })
			const sent = 1000
			lost := 0
			for range sent {
				lost += deliver(s, exec())[event.LossPeer]
			}
			if lost == 0 || lost == sent {
				t.Fatalf("%d of %d were lost", lost, sent)
			}
			for range sent - lost {
				at.message()
			}
			deliver(s, exec())
			if h, _ := at.message(); int(h.Dropped) != lost {
				t.Errorf("told of %d losses, want %d", h.Dropped, lost)
			}
		})
	}
}

// TestTooLarge: what does not fit into the socket's buffer is lost, and no more than that.
func TestTooLarge(t *testing.T) {
	m := listen(t, path(t))
	s, at := open(t, m)
	if err := s.conn.SetWriteBuffer(1); err != nil { // the kernel makes it 4608 bytes
		t.Fatal(err)
	}
	large := exec()
	var editor event.Editor
	large.Data, large.Texts = nil, [event.TextKinds]event.Span{}
	editor.Set(&large, event.TextArgs, bytes.Repeat([]byte{'x'}, event.ArgsLen), false)
	editor.Set(&large, event.TextPath, bytes.Repeat([]byte{'x'}, event.PathLen), false)
	lost := deliver(s, large)
	if diff := cmp.Diff(losses{event.LossEncode: 1}, lost); diff != "" {
		t.Fatalf("losses (-want +got):\n%s", diff)
	}
	deliver(s, event.Event{Point: event.ProcessExit})
	if h, _ := at.message(); h.Dropped != 1 {
		t.Errorf("header %+v", h)
	}
}

func TestOpenFails(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		err          error
	}{
		{"too old", "\x08\x00", wire.ErrVersion},
		{"garbage", "\xff", wire.ErrHandshake},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := listen(t, path(t))
			m.accept(test.answer)
			if _, err := Open(Options{Endpoint: m.Addr().String()}); !errors.Is(err, test.err) {
				t.Errorf("Open: %v, want %v", err, test.err)
			}
		})
	}
	if _, err := Open(Options{Endpoint: path(t)}); err == nil {
		t.Error("Open connected to nobody")
	}
}

func TestParseOptions(t *testing.T) {
	defaults := Options{Endpoint: "/e", Retries: DefaultRetries, Backoff: DefaultBackoff, BackoffMax: DefaultBackoffMax}
	with := func(change func(*Options)) Options {
		o := defaults
		change(&o)
		return o
	}
	for _, test := range []struct {
		name   string
		config map[string]any
		want   Options
		fault  string
	}{
		{"endpoint", map[string]any{"endpoint": "/e"}, defaults, ""},
		{"all", map[string]any{"endpoint": "/e", "retries": 3.0, "backoff": "1ms", "backoff_max": "4ms"},
			with(func(o *Options) { o.Retries, o.Backoff, o.BackoffMax = 3, time.Millisecond, 4*time.Millisecond }), ""},
		{"most retries", map[string]any{"endpoint": "/e", "retries": float64(MaxRetries)}, with(func(o *Options) { o.Retries = MaxRetries }), ""},
		{"nothing", nil, Options{}, "endpoint: write"},
		{"no path", map[string]any{"endpoint": 1.0}, Options{}, "endpoint: write"},
		{"half a retry", map[string]any{"endpoint": "/e", "retries": 0.5}, Options{}, "retries: write"},
		{"too many retries", map[string]any{"endpoint": "/e", "retries": float64(MaxRetries + 1)}, Options{}, "retries: write"},
		{"a number of what", map[string]any{"endpoint": "/e", "backoff": 25.0}, Options{}, "backoff: write"},
		{"wrong way round", map[string]any{"endpoint": "/e", "backoff": "1s"}, Options{}, "backoff: 1s is longer than backoff_max"},
		{"unknown", map[string]any{"endpoint": "/e", "end": "/e"}, Options{}, "end: no such key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			o, err := ParseOptions(test.config)
			switch {
			case test.fault == "" && (err != nil || o != test.want):
				t.Errorf("ParseOptions = %+v, %v, want %+v", o, err, test.want)
			case test.fault != "" && (err == nil || !strings.Contains(err.Error(), test.fault)):
				t.Errorf("ParseOptions: %v, want %q", err, test.fault)
			}
		})
	}
	if o := (Options{Retries: 3, Backoff: time.Millisecond, BackoffMax: 3 * time.Millisecond}); o.patience() != 6*time.Millisecond {
		t.Errorf("patience %v, want 1+2+3 ms", o.patience())
	}
}
