package bpf

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// newTCP creates the probe with the syscalls probe that its hooks need.
func newTCP(tb testing.TB, k *Kernel, opts TCPOptions) *TCP {
	tb.Helper()
	newSyscalls(tb, k, SyscallsOptions{})
	t, err := NewTCP(k, opts)
	if err != nil {
		tb.Fatal(err)
	}
	if s := t.Status(); s.Reason != "" {
		tb.Fatalf("degraded: %s", s.Reason)
	}
	return t
}

func (t *TCP) stats(tb testing.TB) TCPStats {
	tb.Helper()
	s, err := t.Read()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// tcpDelta is what one piece of work added. Open is the change of the gauge.
type tcpDelta struct {
	Conns  [Directions]ConnStat // of the one peer class that was asked for
	Failed map[string]uint64    // by direction and errno
}

func deltaOf(before, now TCPStats, peer Peer) tcpDelta {
	d := tcpDelta{Failed: map[string]uint64{}}
	for dir := range Directions {
		b, n := before.Conns[dir][peer], now.Conns[dir][peer]
		d.Conns[dir] = ConnStat{
			Open: n.Open - b.Open, Opened: n.Opened - b.Opened, Closed: n.Closed - b.Closed,
			Sent: n.Sent - b.Sent, Received: n.Received - b.Received,
		}
	}
	count := func(s TCPStats, sign uint64) {
		for _, f := range s.Failed {
			d.Failed[f.Direction.String()+" "+f.Errno] += sign * f.Count
		}
	}
	count(now, 1)
	count(before, ^uint64(0))
	for name, n := range d.Failed {
		if n == 0 {
			delete(d.Failed, name)
		}
	}
	return d
}

// adds checks that work adds exactly what is wanted. The counts are those of the
// whole machine: where somebody else's connections got in between, a second and
// a third try decide. The last state change may come a little after the close.
func adds(t *testing.T, tcp *TCP, peer Peer, want tcpDelta, work func()) {
	t.Helper()
	if want.Failed == nil {
		want.Failed = map[string]uint64{}
	}
	var diff string
	for range 3 {
		before := tcp.stats(t)
		work()
		for range 100 {
			if diff = cmp.Diff(want, deltaOf(before, tcp.stats(t), peer)); diff == "" {
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	t.Errorf("(-want +got)\n%s", diff)
}

func both(s ConnStat) tcpDelta { return tcpDelta{Conns: [Directions]ConnStat{s, s}} }

// dial connects to a listener and accepts.
func dial(tb testing.TB, listener int, to unix.Sockaddr) (client, server int) {
	tb.Helper()
	client = socket(tb, familyOf(to), unix.SOCK_STREAM)
	bindTo(tb, client, to)
	must(tb, "connect", unix.Connect(client, to))
	server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	must(tb, "accept", err)
	return client, server
}

func closeAll(fds ...int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func at(addr string, port uint16) unix.Sockaddr {
	return sockaddr(netip.AddrPortFrom(netip.MustParseAddr(addr), port), false)
}

func TestTCPCountsConnectionsExactly(t *testing.T) {
	cases := []struct {
		name   string
		listen netip.Addr
		to     string
		mapped bool
		peer   Peer
	}{
		{"public IPv4", netip.IPv4Unspecified(), "198.51.100.7", false, Public},
		{"private IPv4", netip.IPv4Unspecified(), "10.1.2.3", false, Private},
		{"loopback IPv4", netip.IPv4Unspecified(), "127.0.0.1", false, Loopback},
		{"public IPv6", netip.IPv6Unspecified(), "2001:db8::7", false, Public},
		{"private IPv6", netip.IPv6Unspecified(), "fd00::7", false, Private},
		{"loopback IPv6", netip.IPv6Unspecified(), "::1", false, Loopback},
		{"v4-mapped client and server", netip.IPv6Unspecified(), "192.168.3.4", true, Private},
	}
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		privateNet(t)
		for _, c := range cases {
			t.Log(c.name)
			const n = 200
			fd, port := listen(t, c.listen, 16)
			to := sockaddr(netip.AddrPortFrom(netip.MustParseAddr(c.to), port), c.mapped)
			adds(t, tcp, c.peer, both(ConnStat{Opened: n, Closed: n}), func() {
				for range n {
					closeAll(dial(t, fd, to))
				}
			})
			var open []int
			adds(t, tcp, c.peer, both(ConnStat{Open: 3, Opened: 3}), func() {
				closeAll(open...)
				for range 3 {
					client, server := dial(t, fd, to)
					open = append(open, client, server)
				}
			})
			adds(t, tcp, c.peer, both(ConnStat{Open: -3, Closed: 3}), func() { closeAll(open...) })
		}
	})
}

// Every histogram has one observation per connection, the listener is an endpoint.
func TestTCPTimesConnections(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		privateNet(t)
		before := tcp.stats(t)
		fd, port := listen(t, netip.IPv4Unspecified(), 16)
		const held = 50 * time.Millisecond
		client, server := dial(t, fd, at("198.51.100.7", port))
		if now := tcp.stats(t); now.Listeners < before.Listeners+1 {
			t.Errorf("listeners went from %d to %d", before.Listeners, now.Listeners)
		}
		time.Sleep(held)
		closeAll(client, server)
		time.Sleep(5 * time.Millisecond)
		now := tcp.stats(t)
		for d := range Directions {
			for _, h := range []struct {
				name string
				hist Buckets
				min  time.Duration
			}{
				{"duration", now.Duration[d], held},
				{"handshake", now.Handshake[d], time.Microsecond},
				{"rtt", now.RTT[d], time.Microsecond},
			} {
				if h.hist.Count() < 1 || h.hist.Sum < uint64(h.min) {
					t.Errorf("%v %s: %d observations, %d ns; want one of at least %v", Direction(d), h.name, h.hist.Count(), h.hist.Sum, h.min)
				}
			}
		}
	})
}

func failed(pairs ...any) tcpDelta {
	d := tcpDelta{Failed: map[string]uint64{}}
	for i := 0; i < len(pairs); i += 2 {
		d.Failed[pairs[i].(string)] = uint64(pairs[i+1].(int))
	}
	return d
}

// connectOn expects an errno from connect.
func connectOn(tb testing.TB, fd int, to unix.Sockaddr, want unix.Errno) {
	tb.Helper()
	if err := unix.Connect(fd, to); !errors.Is(err, want) {
		tb.Fatalf("connect: %v, want %v", err, want)
	}
}

func soError(tb testing.TB, fd int) {
	tb.Helper()
	if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
		tb.Fatal(err)
	}
}

// disconnect does connect(AF_UNSPEC).
func disconnect(tb testing.TB, fd int) {
	tb.Helper()
	var unspec [16]byte
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptrOf(&unspec), 16)
	if errno != 0 {
		tb.Fatalf("disconnect: %v", errno)
	}
}

// Each attempt that fails counts once, whoever reports it and how often.
func TestTCPCountsFailedConnects(t *testing.T) {
	const n = 50
	refused, unroutable := at("10.1.2.3", 1), at(unroutable.String(), 1)
	cases := []struct {
		name string
		kind int
		want tcpDelta
		act  func(t *testing.T, fd int)
	}{
		{"refused", 0, failed("outbound ECONNREFUSED", n), func(t *testing.T, fd int) {
			connectOn(t, fd, refused, unix.ECONNREFUSED)
		}},
		{"refused twice on one socket", 0, failed("outbound ECONNREFUSED", 2*n), func(t *testing.T, fd int) {
			connectOn(t, fd, refused, unix.ECONNREFUSED)
			connectOn(t, fd, refused, unix.ECONNREFUSED)
		}},
		{"unroutable", 0, failed("outbound EHOSTUNREACH", n), func(t *testing.T, fd int) {
			connectOn(t, fd, unroutable, unix.EHOSTUNREACH)
		}},
		{"unroutable, non-blocking", unix.SOCK_NONBLOCK, failed("outbound EHOSTUNREACH", n), func(t *testing.T, fd int) {
			connectOn(t, fd, unroutable, unix.EHOSTUNREACH)
		}},
		{"wrong family", 0, failed("outbound EAFNOSUPPORT", n), func(t *testing.T, fd int) {
			connectOn(t, fd, &unix.SockaddrUnix{Name: "/a-name-long-enough"}, unix.EAFNOSUPPORT)
		}},
		{"refused, non-blocking", unix.SOCK_NONBLOCK, failed("outbound ECONNREFUSED", n), func(t *testing.T, fd int) {
			connectOn(t, fd, refused, unix.EINPROGRESS)
			soError(t, fd)
		}},
		{"refused, told by the next connect", unix.SOCK_NONBLOCK, failed("outbound ECONNREFUSED", 2*n), func(t *testing.T, fd int) {
			connectOn(t, fd, refused, unix.EINPROGRESS)
			connectOn(t, fd, refused, unix.ECONNREFUSED)
			connectOn(t, fd, refused, unix.EINPROGRESS)
		}},
		{"refused, told by SO_ERROR and the next connect", unix.SOCK_NONBLOCK, failed("outbound ECONNREFUSED", n), func(t *testing.T, fd int) {
			connectOn(t, fd, refused, unix.EINPROGRESS)
			soError(t, fd)
			connectOn(t, fd, refused, unix.ECONNABORTED)
		}},
		{"refused, disconnected, unroutable", unix.SOCK_NONBLOCK, failed("outbound ECONNREFUSED", n, "outbound EHOSTUNREACH", n), func(t *testing.T, fd int) {
			connectOn(t, fd, refused, unix.EINPROGRESS)
			disconnect(t, fd)
			connectOn(t, fd, unroutable, unix.EHOSTUNREACH)
		}},
		{"unroutable, then refused", 0, failed("outbound ECONNREFUSED", n, "outbound EHOSTUNREACH", n), func(t *testing.T, fd int) {
			connectOn(t, fd, unroutable, unix.EHOSTUNREACH)
			connectOn(t, fd, refused, unix.ECONNREFUSED)
		}},
	}
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		privateNet(t)
		for _, c := range cases {
			t.Log(c.name)
			adds(t, tcp, Private, c.want, func() {
				for range n {
					fd := socket(t, unix.AF_INET, unix.SOCK_STREAM|c.kind)
					c.act(t, fd)
					unix.Close(fd)
				}
			})
		}
	})
}

// An attempt that nobody answers: repeated connects are the same attempt, the
// close gives it up. An address that is taken fails after the state changed.
func TestTCPCountsAbortedConnects(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		privateNet(t)
		fd, port := listen(t, netip.IPv4Unspecified(), 0)
		to := at("10.1.2.3", port)
		waiting := socket(t, unix.AF_INET, unix.SOCK_STREAM) // fills the backlog
		defer unix.Close(waiting)
		must(t, "connect", unix.Connect(waiting, to))
		before := tcp.stats(t).Retransmits
		adds(t, tcp, Private, failed("outbound aborted", 3), func() {
			var fds []int
			for range 3 {
				fd := socket(t, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK)
				connectOn(t, fd, to, unix.EINPROGRESS)
				connectOn(t, fd, to, unix.EALREADY)
				fds = append(fds, fd)
			}
			time.Sleep(1100 * time.Millisecond) // the first SYN is sent again
			closeAll(fds...)
		})
		if n := tcp.stats(t).Retransmits - before; n < 3 {
			t.Errorf("%d retransmits, want at least 3", n)
		}
		accepted, _, err := unix.Accept(fd)
		must(t, "accept", err)
		defer unix.Close(accepted)
		first := reusing(t, "10.1.2.3", 0)
		defer unix.Close(first)
		must(t, "connect", unix.Connect(first, to))
		local := portOf(t, first)
		adds(t, tcp, Private, failed("outbound aborted", 1), func() {
			second := reusing(t, "10.1.2.3", local)
			connectOn(t, second, to, unix.EADDRNOTAVAIL)
			unix.Close(second)
		})
	})
}

// reusing returns a TCP socket whose address others may have, too.
func reusing(tb testing.TB, addr string, port uint16) int {
	tb.Helper()
	fd := socket(tb, unix.AF_INET, unix.SOCK_STREAM)
	must(tb, "set SO_REUSEADDR", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
	must(tb, "bind", unix.Bind(fd, at(addr, port)))
	return fd
}

// An MPTCP connection is one TCP connection, its first subflow.
func TestTCPCountsMPTCP(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		privateNet(t)
		mptcp := func() int {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
			if err != nil {
				testenv.Skip(t, "needs MPTCP: "+err.Error())
			}
			return fd
		}
		fd := mptcp()
		defer unix.Close(fd)
		must(t, "bind", unix.Bind(fd, at("0.0.0.0", 0)))
		must(t, "listen", unix.Listen(fd, 16))
		to := at("10.1.2.3", portOf(t, fd))
		const n = 20
		adds(t, tcp, Private, both(ConnStat{Opened: n, Closed: n}), func() {
			for i := range n {
				client := socket(t, unix.AF_INET, unix.SOCK_STREAM)
				if i%2 == 0 {
					unix.Close(client)
					client = mptcp()
				}
				must(t, "connect", unix.Connect(client, to))
				server, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
				must(t, "accept", err)
				closeAll(client, server)
			}
		})
		adds(t, tcp, Private, failed("outbound ECONNREFUSED", n), func() {
			for range n {
				client := mptcp()
				connectOn(t, client, at("10.1.2.3", 1), unix.ECONNREFUSED)
				unix.Close(client)
			}
		})
		adds(t, tcp, Private, failed("outbound EHOSTUNREACH", n), func() {
			for range n {
				client := mptcp()
				connectOn(t, client, at(unroutable.String(), 1), unix.EHOSTUNREACH)
				unix.Close(client)
			}
		})
	})
}

// updateFailures returns how often a map refused an entry.
func updateFailures(t *testing.T, k *Kernel, name string) uint64 {
	t.Helper()
	maps, err := k.Maps()
	must(t, "maps", err)
	for _, m := range maps {
		if m.Map == name {
			return m.UpdateFailures
		}
	}
	t.Fatalf("no map %s", name)
	return 0
}

// The state machine is attached twice, so that what the recursion guard keeps
// from one program the other one does. Each alone counts everything; that both
// together count nothing twice is what all other tests show.
func TestTCPEitherProgramSuffices(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		for _, without := range []string{"inet_sock_set_state", "inet_sock_set_state_again"} {
			t.Log("without", without)
			tcp := newTCP(t, k, TCPOptions{})
			i := slices.Index(tcpTracepoints, without)
			must(t, "detach", tcp.obj.links[i].Close())
			tcp.obj.links = slices.Delete(tcp.obj.links, i, i+1)
			privateNet(t)
			fd, port := listen(t, netip.IPv4Unspecified(), 16)
			const n, up, down = 50, 5000, 7000
			adds(t, tcp, Private, carried(n, n*up, n*down), func() {
				for range n {
					client, server := dial(t, fd, at("10.1.2.3", port))
					converse(t, client, server, up, down)
				}
			})
			adds(t, tcp, Private, failed("outbound ECONNREFUSED", 2*n), func() {
				for i := range 2 * n {
					fd := socket(t, unix.AF_INET, unix.SOCK_STREAM|i%2*unix.SOCK_NONBLOCK)
					connectOn(t, fd, at("10.1.2.3", 1), []unix.Errno{unix.ECONNREFUSED, unix.EINPROGRESS}[i%2])
					unix.Close(fd)
				}
			})
		}
	})
}

// Under churn on all CPUs softirqs interrupt the programs, and the kernel skips
// what they would have run: still no connection is lost.
func TestTCPLosesNothingUnderChurn(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		var diff string
		for range 3 { // somebody else's connections may get in between, as in adds
			before := tcp.stats(t)
			n := churn(t, 4, time.Second)
			settled := func() bool {
				got := deltaOf(before, tcp.stats(t), Private).Conns
				diff = cmp.Diff(both(ConnStat{Opened: n, Closed: n}).Conns, got)
				return diff == ""
			}
			for range 100 {
				if settled() {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Logf("%d connections; programs skipped so far: %v", n, skipped(t, tcp.obj))
			if diff == "" {
				return
			}
		}
		t.Errorf("(-want +got)\n%s", diff)
	})
}

// churn opens and closes connections on several threads and returns how many.
// One end of each is closed by another thread.
func churn(t *testing.T, threads int, duration time.Duration) uint64 {
	t.Helper()
	var (
		n    atomic.Uint64
		wg   sync.WaitGroup
		stop = time.Now().Add(duration)
	)
	for range threads {
		wg.Go(func() {
			privateNet(t)
			fd, port := listen(t, netip.IPv4Unspecified(), 64)
			for time.Now().Before(stop) {
				client, server := dial(t, fd, at("10.1.2.3", port))
				wg.Go(func() { unix.Close(client) })
				unix.Close(server)
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return n.Load()
}

// skipped returns the programs that the recursion guard has skipped, and how often.
func skipped(t *testing.T, o *object) map[string]uint64 {
	t.Helper()
	counts := map[string]uint64{}
	for name, prog := range o.coll.Programs {
		s, err := prog.Stats()
		must(t, "program statistics", err)
		if s.RecursionMisses > 0 {
			counts[name] = s.RecursionMisses
		}
	}
	return counts
}

// A full map loses connections as a whole, never one half of them, and says so.
func TestTCPFullMap(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{MaxSockets: 1})
		privateNet(t)
		fd, port := listen(t, netip.IPv4Unspecified(), 16)
		to := at("198.51.100.7", port)
		before := tcp.stats(t)
		for range 20 {
			closeAll(dial(t, fd, to))
		}
		time.Sleep(5 * time.Millisecond)
		now := tcp.stats(t)
		for d := range Directions {
			c := deltaOf(before, now, Public).Conns[d]
			if c.Opened != c.Closed || c.Open != 0 || c.Opened > 20 {
				t.Errorf("%v: %+v does not add up", Direction(d), c)
			}
		}
		if updateFailures(t, k, "tcp_sockets") == 0 {
			t.Error("no socket found the map full")
		}
		adds(t, tcp, Public, tcpDelta{Failed: map[string]uint64{"outbound ECONNREFUSED": 10}}, func() {
			for range 10 {
				fd := socket(t, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK)
				connectOn(t, fd, at("198.51.100.7", 1), unix.EINPROGRESS)
				unix.Close(fd)
			}
		})
	})
}
