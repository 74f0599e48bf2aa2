package introspect

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/blackbox"
	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/profile"
	"github.com/sonde-ebpf/sonde/internal/state"
)

// booted is when the machine of the tests was started.
var booted = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

func wall(ns uint64) time.Time { return booted.Add(time.Duration(ns)) }

// webID is the id of the container that has something, idleID of one that has nothing.
const (
	webID  = "aaaaaaaaaaaa1111111111111111111111111111111111111111111111111111"
	idleID = "cccccccccccc3333333333333333333333333333333333333333333333333333"
)

type inWeb struct{}

func (inWeb) ContainerOf(p *event.Process, _ bool) string {
	if p.CgroupID == 7 {
		return webID
	}
	return ""
}

// node is a Store with a bit of everything.
func node(t testing.TB) *state.Store {
	t.Helper()
	o := state.Defaults()
	o.Now = func() uint64 { return uint64(100 * time.Second) }
	o.Containers = inWeb{}
	o.Classes = []state.ClassNetwork{
		{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Class: state.Private},
		{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Class: state.Loopback},
	}
	o.Networking = state.Networking{Known: []state.Network{{Name: "office", Prefix: netip.MustParsePrefix("203.0.113.0/24")}}}
	s, err := state.New(o)
	if err != nil {
		t.Fatal(err)
	}
	at := uint64(60 * time.Second)
	shell := event.Process{PID: 100, PPID: 1, UID: 0, StartNS: at - 10, CgroupID: 7}
	copy(shell.Comm[:], "sh")
	nginx := event.Process{PID: 101, PPID: 100, UID: 33, StartNS: at, CgroupID: 7}
	copy(nginx.Comm[:], "nginx \"\xff\"")
	v := s.Survey()
	v.Process(state.ProcessSeed{Process: shell, LoginUID: 1000, Exe: "/bin/sh", Args: []byte("sh\x00-c\x00exec nginx")})
	v.Process(state.ProcessSeed{Process: nginx, LoginUID: state.NoLoginUID, Exe: "/usr/sbin/nginx"})
	v.Finish(true, true)
	for i, c := range []event.Conn{
		connOf(true, "10.0.0.1:80", "10.0.0.2:41000"), connOf(true, "10.0.0.1:80", "10.0.0.2:41001"),
		connOf(false, "10.0.0.1:50000", "203.0.113.9:443"), connOf(false, "10.0.0.1:50001", "198.51.100.1:443"),
		connOf(false, "127.0.0.1:50002", "127.0.0.1:9000"), connOf(false, "[2001:db8::1]:50003", "[2001:db8::2]:53"),
	} {
		c.Cookie = uint64(i + 1)
		owner := nginx
		if i >= 4 {
			owner = event.Process{PID: 1, StartNS: 1}
		}
		point := event.NetworkConnect
		if c.Inbound {
			point = event.NetworkAccept
		}
		s.Apply(&event.Event{Point: point, TimeNS: at + uint64(i), Process: owner, Conn: c})
	}
	for i, local := range []string{"0.0.0.0:80", "0.0.0.0:80", "[::]:443", "127.0.0.1:9000"} {
		c := connOf(true, local, "")
		c.Cookie = uint64(100 + i)
		s.Apply(&event.Event{Point: event.NetworkListen, TimeNS: at, Process: shell, Conn: c})
		if i == 3 {
			s.Apply(&event.Event{Point: event.NetworkClose, TimeNS: at + uint64(100*time.Millisecond), Process: shell, Conn: c})
		}
	}
	return s
}

func connOf(inbound bool, local, remote string) event.Conn {
	c := event.Conn{Protocol: state.TCP, Inbound: inbound}
	c.Family, c.Local, c.LocalPort = sideOf(local)
	if remote != "" {
		c.Family, c.Remote, c.RemotePort = sideOf(remote)
	}
	return c
}

func sideOf(text string) (event.Family, [16]byte, uint16) {
	a := netip.MustParseAddrPort(text)
	var raw [16]byte
	if a.Addr().Is4() {
		four := a.Addr().As4()
		copy(raw[:], four[:])
		return event.IPv4, raw, a.Port()
	}
	return event.IPv6, a.Addr().As16(), a.Port()
}

type fakeContainers []Container

func (f fakeContainers) Containers() []Container { return f }

func (f fakeContainers) Container(id string) (Container, bool) {
	for _, c := range f {
		if c.ID == id || len(id) == 12 && strings.HasPrefix(c.ID, id) {
			return c, true
		}
	}
	return Container{}, false
}

// fakeRuntime is a configuration that takes what does not hold the word "bad".
type fakeRuntime struct {
	mu   sync.Mutex
	text string
	from string
}

func (f *fakeRuntime) RuntimeConfig() RuntimeConfig {
	c := config.New(map[string]bool{"tcp": true})
	if err := c.Read("/etc/sonde/sonde.yaml", []byte("networking: {knownNetworks: [{name: office, cidr: 203.0.113.0/24}], afterglowPeriod: 20s}\n"+
		"sessions: [{name: default}]\n")); err != nil {
		panic(err)
	}
	return RuntimeConfig{Values: c.Values(), Generation: 3, Source: "/etc/sonde/sonde.yaml", Time: booted, LastError: errors.New("line 3: no"), LastErrorTime: booted.Add(time.Minute)}
}

func (f *fakeRuntime) PutRuntimeConfig(text []byte, source string) error {
	if strings.Contains(string(text), "bad") {
		return errors.Join(errors.New("body:1: networking.x is not a key"), errors.New("body:2: log.level is \"bad\""))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text, f.from = string(text), source
	return nil
}

func fakeSources(t testing.TB) Sources {
	t.Helper()
	spec, err := logging.ParseSpec("info,bpf=debug")
	if err != nil {
		t.Fatal(err)
	}
	levels := logging.NewLevels(spec)
	if _, err := logging.New(logging.Options{Writer: io.Discard, Format: "json", Levels: levels}); err != nil {
		t.Fatal(err)
	}
	store := node(t)
	return Sources{
		Ready: func() Readiness {
			return Readiness{Node: "n1", Events: 91234, Drops: Drops{Total: 3, RingBuffer: 2, Decode: 1}}
		},
		Connections: store, Endpoints: store, Processes: store,
		Containers: fakeContainers{
			{ID: webID, Namespace: "shop", Pod: "web-0", Name: "nginx", Image: "nginx:1", Runtime: "containerd", Cgroup: "/kubepods/x", Enrichment: "complete"},
			{ID: idleID, Runtime: "podman", Enrichment: "pending"},
			{ID: "test/c-abc", Runtime: "containerd", Enrichment: "complete"},
		},
		Runtime: &fakeRuntime{},
		Pipeline: func() Pipeline {
			return Pipeline{
				Probes: []PipelineProbe{{Probe: "tcp", Attached: true, Attach: "tp_btf"}},
				Points: []PipelinePoint{{Point: "network/connect", Attempted: 5, Submitted: 4, Dropped: 1, Decoded: 4}},
				Memory: Memory{Limit: 64 << 20, Share: 0.5, GoLimit: 28 << 20, ShedLevel: 1},
				BlackBox: BlackBox{
					LastEnd:      &blackbox.End{Reason: blackbox.OOMKill, Time: time.Unix(1_700_000_000, 0).UTC(), PID: 7, Detail: "cgroup out of memory"},
					Pinned:       "/sys/fs/bpf/sonde/oom",
					Terminations: []Termination{{Reason: "oom_kill", Count: 1, Last: time.Unix(1_700_000_000, 0).UTC()}, {Reason: "clean"}},
					Ends: []SensorEnd{{
						Reason: "oom_kill", Time: time.Unix(1_700_000_000, 0).UTC(), Since: time.Unix(1_600_000_000, 0).UTC(),
						PID: 7, Signal: "SIGKILL", Detail: "cgroup out of memory",
					}},
					Kills: []OOMKill{{Time: time.Unix(1_700_000_000, 0).UTC(), Victim: "sensor", Scope: "cgroup", PID: 7, Comm: "sonde", Anon: 60 << 20, Usage: 64 << 20, Limit: 64 << 20}},
				},
				GVisor: &PipelineGVisor{
					Endpoint: "/run/sonde/gvisor.sock", Dropped: 3, Malformed: map[string]uint64{"header": 1}, Rejected: map[string]uint64{"timeout": 2},
					Connections: []PipelineSandbox{
						{Sandbox: "0123456789ab", Peer: "runsc, uid 0, pid 77", Since: wall(1), LastMessage: wall(2), Messages: 9, Malformed: 1, Dropped: 3},
						{Peer: "uid 0, pid 78", Since: wall(1), Silent: true},
					},
				},
			}
		},
		Sensor: func() Sensor {
			return Sensor{
				Version: "1.2.3", Revision: "abc", GoVersion: "go1.26", Node: "n1", Kernel: "6.18.0", PID: 42, Started: booted,
				Addresses: map[string][]string{"introspect": {"http://127.0.0.1:8080"}},
				Memory:    SensorMemory{Sensor: new(uint64(50 << 20))},
				Programs:  []SensorProgram{{Program: "tcp_state", Runs: 3, Seconds: 0.5}},
			}
		},
		Levels: levels, Wall: wall, Self: profile.NewSelf(),
	}
}

// endless are connections without end, of which a test takes as many as it wants.
type endless struct{ n int }

func (f endless) Connections(state.Query) (int, iter.Seq[*state.Connection]) {
	return f.n, func(yield func(*state.Connection) bool) {
		row := state.Connection{Container: "host", Active: true, Protocol: state.TCP, Port: 443, Peer: netip.MustParsePrefix("10.0.0.1/32")}
		for range f.n {
			if !yield(&row) {
				return
			}
		}
	}
}

// logged is a log that can be looked at.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// loopback is a door through which everything may pass.
var loopback = door{listener: fakeListener{}, write: true, local: true}

type fakeListener struct{ net.Listener }

func (fakeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

// ask sends one request to a handler.
func ask(h http.Handler, method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(context.Background(), method, target, strings.NewReader(body))
	r.Host = "localhost:8080"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// newHandler is the handler of a server with the given sources and log.
func newHandler(sources Sources, log io.Writer, d door) http.Handler {
	o := Options{Version: "1.2.3"}
	if log != nil {
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	return New(o).handler(sources, d)
}
