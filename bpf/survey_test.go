package bpf

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// surveyed returns what a survey yields at a port.
func surveyed(t *testing.T, tcp *TCP, port uint16) (listeners, conns []SocketRecord) {
	t.Helper()
	must(t, "survey", tcp.Survey(func(r SocketRecord) {
		switch {
		case r.Listen && r.Conn.LocalPort == port:
			listeners = append(listeners, r)
		case !r.Listen && (r.Conn.LocalPort == port || r.Conn.RemotePort == port):
			conns = append(conns, r)
		}
	}))
	return listeners, conns
}

// pair is a connection of the test, both of its ends.
type pair struct{ client, server int }

func pairs(t *testing.T, n, listener int, to unix.Sockaddr) (made []pair) {
	t.Helper()
	for range n {
		client, server := dial(t, listener, to)
		if _, err := unix.Write(client, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		made = append(made, pair{client, server})
	}
	return made
}

// checkOwner expects this process, and all that is known of it.
func checkOwner(t *testing.T, k *Kernel, r *SocketRecord) {
	t.Helper()
	comm, err := os.ReadFile("/proc/self/comm")
	must(t, "read comm", err)
	var want event.Process
	copy(want.Comm[:], comm[:len(comm)-1])
	want.PID, want.UID = k.Self().PID, uint32(os.Getuid())
	got := event.Process{PID: r.Process.PID, UID: r.Process.UID, Comm: r.Process.Comm}
	if diff := cmp.Diff(want, got); diff != "" || r.Process.StartNS == 0 || r.Process.StartNS > bootTimeOf(t) || r.Process.PPID == 0 {
		t.Errorf("owner %+v (-want +got)\n%s", r.Process, diff)
	}
}

// checkEnds expects n connections of pairs, both ends; to is the address of both.
func checkEnds(t *testing.T, k *Kernel, conns []SocketRecord, n int, to netip.Addr, port uint16) {
	t.Helper()
	var address [16]byte
	copy(address[:], to.AsSlice())
	family := event.IPv6
	if to.Is4() {
		family = event.IPv4
	}
	ends := map[bool]int{}
	cookies := map[uint64]bool{}
	for i := range conns {
		r := &conns[i]
		c := r.Conn
		inbound := c.LocalPort == port
		ends[inbound]++
		cookies[c.Cookie] = true
		want := event.Conn{
			Cookie: c.Cookie, Family: family, Protocol: unix.IPPROTO_TCP, Inbound: inbound,
			LocalPort: c.LocalPort, RemotePort: c.RemotePort, Local: address, Remote: address, Sent: 100,
		}
		if inbound {
			want.Sent, want.Received = 0, 100
		}
		if diff := cmp.Diff(want, c); diff != "" || c.LocalPort == 0 || c.RemotePort == 0 {
			t.Errorf("connection (-want +got)\n%s", diff)
		}
		checkOwner(t, k, r)
	}
	if ends[true] != n || ends[false] != n || len(cookies) != 2*n {
		t.Errorf("%d inbound, %d outbound with %d identities; want %d, %d, %d", ends[true], ends[false], len(cookies), n, n, 2*n)
	}
}

// What was there before the probe comes exactly once, from this and from another
// network namespace, under the identity by which its end is told later.
func TestTCPSurveyFindsWhatWasThere(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		const n = 20
		loopback := netip.MustParseAddr("127.0.0.1")
		here, herePort := listen(t, loopback, n)
		made := pairs(t, n, here, sockaddr(netip.AddrPortFrom(loopback, herePort), false))
		privateNet(t)
		there, therePort := listen(t, netip.IPv6Unspecified(), n)
		far := netip.MustParseAddr("2001:db8::7")
		made = append(made, pairs(t, n, there, sockaddr(netip.AddrPortFrom(far, therePort), false))...)
		again, err := unix.Dup(made[0].client) // a second descriptor is no second socket
		must(t, "dup", err)

		tcp, e := newTCPWithEvents(t, k)
		cookies := map[uint64]int{}
		for _, c := range []struct {
			port uint16
			to   netip.Addr
		}{{herePort, loopback}, {therePort, far}} {
			listeners, conns := surveyed(t, tcp, c.port)
			checkEnds(t, k, conns, n, c.to, c.port)
			if len(listeners) != 1 {
				t.Fatalf("%d listeners at %d, want 1", len(listeners), c.port)
			}
			checkOwner(t, k, &listeners[0])
			if l := listeners[0].Conn; !l.Inbound || l.Remote != [16]byte{} || l.RemotePort != 0 || l.Protocol != unix.IPPROTO_TCP {
				t.Errorf("listener: %+v", l)
			}
			for _, r := range append(conns, listeners...) {
				cookies[r.Conn.Cookie]++
			}
		}

		unix.Close(again)
		for _, p := range made {
			closeAll(p.client, p.server)
		}
		must(t, "shutdown", unix.Shutdown(here, unix.SHUT_RD)) // ends the listening; the cleanup closes
		must(t, "shutdown", unix.Shutdown(there, unix.SHUT_RD))
		time.Sleep(5 * time.Millisecond)
		mine := func(p uint16) bool { return p == herePort || p == therePort }
		got := collect(t, k, e, func(ev *event.Event) bool { return mine(ev.Conn.LocalPort) || mine(ev.Conn.RemotePort) })
		for _, ev := range got[event.NetworkClose] {
			if ev.Conn.OpenedNS != 0 {
				t.Errorf("close: opened at %d, which nobody saw", ev.Conn.OpenedNS)
			}
			cookies[ev.Conn.Cookie]--
		}
		for cookie, surplus := range cookies {
			if surplus != 0 {
				t.Errorf("socket %#x: surveyed and closed differ by %d", cookie, surplus)
			}
		}
		if len(cookies) != 4*n+2 {
			t.Errorf("%d identities, want %d", len(cookies), 4*n+2)
		}
	})
}

// The end of a listener is told as its beginning was.
func TestTCPListenerEndsUnderItsIdentity(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp, e := newTCPWithEvents(t, k)
		privateNet(t)
		fd := socket(t, unix.AF_INET6, unix.SOCK_STREAM)
		must(t, "bind", unix.Bind(fd, &unix.SockaddrInet6{})) // a port of the kernel's choice is given back before the end is told
		must(t, "listen", unix.Listen(fd, 1))
		port := portOf(t, fd)
		listeners, _ := surveyed(t, tcp, port)
		unix.Close(fd)
		time.Sleep(5 * time.Millisecond)
		got := collect(t, k, e, func(ev *event.Event) bool { return ev.Conn.LocalPort == port })
		begun, ended := got[event.NetworkListen], got[event.NetworkClose]
		if len(begun) != 1 || len(ended) != 1 || len(listeners) != 1 {
			t.Fatalf("%d begun, %d surveyed, %d ended; want 1 each", len(begun), len(listeners), len(ended))
		}
		for _, c := range []event.Conn{listeners[0].Conn, ended[0].Conn} {
			if diff := cmp.Diff(begun[0].Conn, c); diff != "" {
				t.Errorf("(-begun +later)\n%s", diff)
			}
		}
		if ended[0].Process.PID != k.Self().PID || ended[0].Process.StartNS != begun[0].Process.StartNS {
			t.Errorf("ended by %+v, begun by %+v", ended[0].Process, begun[0].Process)
		}
	})
}

// A connection that its owner has closed, but that has still something to send, is
// found as the owner's; its beginning is known where the probe saw it.
func TestTCPSurveyFindsWhatNobodyHolds(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp := newTCP(t, k, TCPOptions{})
		privateNet(t)
		fd, port := listen(t, netip.IPv4Unspecified(), 1)
		var err error
		start := bootTimeOf(t)
		client, server := dial(t, fd, at("198.51.100.7", port))
		defer unix.Close(server)
		end := bootTimeOf(t)
		must(t, "set nonblocking", unix.SetNonblock(client, true))
		for err == nil { // until neither end has room
			_, err = unix.Write(client, make([]byte, 1<<16))
		}
		unix.Close(client)
		_, conns := surveyed(t, tcp, port)
		if len(conns) != 2 {
			t.Fatalf("%d connections, want both ends of one: %+v", len(conns), conns)
		}
		for _, r := range conns {
			if r.Process.PID != k.Self().PID || r.Process.StartNS == 0 || r.Conn.OpenedNS < start || r.Conn.OpenedNS > end ||
				r.Conn.Inbound != (r.Conn.LocalPort == port) {
				t.Errorf("%+v, opened not within %d and %d", r, start, end)
			}
		}
	})
}

// Where the map is full, the ports of the listeners tell who called.
func TestTCPSurveyWithoutEntries(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		outside, _ := listen(t, netip.MustParseAddr("127.0.0.1"), 1) // takes the only place, unless somebody else's does
		defer unix.Shutdown(outside, unix.SHUT_RD)
		privateNet(t)
		const n = 3
		fd, port := listen(t, netip.IPv4Unspecified(), n)
		to := netip.MustParseAddr("198.51.100.7")
		made := pairs(t, n, fd, sockaddr(netip.AddrPortFrom(to, port), false))
		tcp := newTCP(t, k, TCPOptions{MaxSockets: 1})
		listeners, conns := surveyed(t, tcp, port)
		if len(listeners) != 1 {
			t.Errorf("%d listeners, want 1", len(listeners))
		}
		checkEnds(t, k, conns, n, to, port)
		for _, p := range made {
			closeAll(p.client, p.server)
		}
	})
}

// Of several holders the owner is kept; beyond the bound nothing is lost.
func TestSurveyKeepsOnePerSocket(t *testing.T) {
	record := func(cookie uint64, pid uint32, full uint8) *tcpSocketRecord {
		r := &tcpSocketRecord{RoleKnown: 1, ProcessFull: full}
		r.Conn.Cookie, r.Conn.H.Process.Pid = cookie, pid
		return r
	}
	type found struct {
		Cookie uint64
		PID    uint32
	}
	var got []found
	s := newSurvey(func(r SocketRecord) { got = append(got, found{r.Conn.Cookie, r.Process.PID}) }, TCPOptions{})
	s.max = 2
	for _, r := range []*tcpSocketRecord{
		record(1, 10, 0), record(1, 10, 1), record(1, 10, 1), // the owner comes second
		record(2, 20, 0), record(2, 20, 0), // and here not at all
		record(3, 30, 1), record(3, 30, 1), // no room: each time
	} {
		s.take(r)
	}
	s.finish()
	if diff := cmp.Diff([]found{{1, 10}, {3, 30}, {3, 30}, {2, 20}}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
