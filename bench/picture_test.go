package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/state"
	"github.com/sonde-ebpf/sonde/internal/testenv"
	"github.com/sonde-ebpf/sonde/internal/unixsocket"
	"github.com/sonde-ebpf/sonde/introspect"
)

// newPicture is a picture of a node of which nothing is known.
func newPicture(tb testing.TB) *state.Store {
	tb.Helper()
	o := state.Defaults()
	o.Now = func() uint64 { return 1 }
	o.Networking = state.Networking{ExternalIngress: true, ExternalEgress: true}
	s, err := state.New(o)
	must(tb, "make picture", err)
	return s
}

// connect opens n connections of 500 processes, each to a peer of its own.
func connect(s *state.Store, n int) {
	ev := event.Event{Point: event.NetworkConnect, TimeNS: 1}
	for i := range uint32(n) {
		ev.Process = event.Process{PID: 1 + i%500, StartNS: 1, CgroupID: 7}
		ev.Conn = event.Conn{Cookie: uint64(i) + 1, Family: event.IPv4, Protocol: state.TCP, LocalPort: uint16(i), RemotePort: 443}
		binary.BigEndian.PutUint32(ev.Conn.Remote[:], 0x0b000000+i)
		s.Apply(&ev)
	}
}

// run starts n processes of 50 programs, each with arguments of its own.
func run(s *state.Store, n int) {
	var editor event.Editor
	for i := range n {
		ev := event.Event{Point: event.ProcessExec, TimeNS: 1, Process: event.Process{PID: uint32(2 + i), PPID: 1, StartNS: uint64(1 + i), CgroupID: 7}}
		path := fmt.Sprintf("/usr/local/bin/program-%d", i%50)
		editor.Set(&ev, event.TextPath, []byte(path), false)
		editor.Set(&ev, event.TextArgs, fmt.Appendf(nil, "%s\x00--instance\x00%032d\x00", path, i), false)
		editor.Set(&ev, event.TextCwd, []byte("/var/lib/program"), false)
		s.Apply(&ev)
	}
}

// contain makes n cgroups as runtimes name them, and waits until they are known.
func contain(b *testing.B, n int) *container.Containers {
	b.Helper()
	root := testenv.MemoryCgroup(b, 1<<30)
	for i := range n {
		dir := filepath.Join(root, fmt.Sprintf("docker-%064x.scope", i+1))
		must(b, "make cgroup", os.Mkdir(dir, 0o755))
		b.Cleanup(func() { os.Remove(dir) })
	}
	c, err := container.New(container.Options{CgroupRoot: root})
	must(b, "make containers", err)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		must(b, "watch containers", <-done)
	})
	for began := time.Now(); len(c.All()) < n; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			b.Fatalf("%d of %d containers are known", len(c.All()), n)
		}
	}
	return c
}

// live is the heap that is in use.
func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkMemory measures what one entry of each kind takes of the sensor's heap, its
// texts included. What the kernel keeps of it is in maps that are there from the start.
func BenchmarkMemory(b *testing.B) {
	for name, of := range map[string]struct {
		n    int
		make func(b *testing.B, n int) any
	}{
		"connection": {100_000, func(b *testing.B, n int) any { s := newPicture(b); connect(s, n); return s }},
		"process":    {10_000, func(b *testing.B, n int) any { s := newPicture(b); run(s, n); return s }},
		"container":  {1_000, func(b *testing.B, n int) any { return contain(b, n) }},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() { // the heap is what is measured, once
			}
			before := live()
			made := of.make(b, of.n)
			b.ReportMetric(float64(live()-before)/float64(of.n), "heap-bytes")
			runtime.KeepAlive(made)
		})
	}
}

// asker returns what gets a route over a Unix socket, as the verbs do, and tells how many
// bytes that were.
func asker(b *testing.B, s *state.Store) func(route string) int64 {
	b.Helper()
	socket := filepath.Join(b.TempDir(), "s")
	server := introspect.New(introspect.Options{ListenAddresses: []string{unixsocket.Scheme + socket}})
	must(b, "listen", server.Listen())
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	wall := func(ns uint64) time.Time { return began.Add(time.Duration(ns)) }
	go func() { done <- server.Serve(ctx, introspect.Sources{Connections: s, Wall: wall}) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	b.Cleanup(func() {
		client.CloseIdleConnections()
		cancel()
		must(b, "serve", <-done)
	})
	return func(route string) int64 {
		answer, err := client.Get("http://sonde" + route)
		must(b, "ask", err)
		defer answer.Body.Close()
		n, err := io.Copy(io.Discard, answer.Body)
		must(b, "read answer", err)
		if answer.StatusCode != http.StatusOK {
			b.Fatalf("GET %s: %s", route, answer.Status)
		}
		return n
	}
}

// BenchmarkState measures one answer with every connection in it, by their number.
func BenchmarkState(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s := newPicture(b)
			connect(s, n)
			ask := asker(b, s)
			var bytes int64
			b.ReportAllocs()
			for b.Loop() {
				bytes = ask("/state/network/connection?normalize=false")
			}
			b.ReportMetric(float64(bytes)/(1<<20), "MiB")
		})
	}
}
