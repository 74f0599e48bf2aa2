package bpf

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// Sockets that were there before the probe, in whatever network namespace, are
// in the gauges and nowhere else.
func TestTCPSeedsWhatIsThere(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		outside, _ := listen(t, netip.MustParseAddr("127.0.0.1"), 1)
		privateNet(t)
		fd, port := listen(t, netip.IPv4Unspecified(), 64)
		const n = 10
		var clients, servers []int
		for range n {
			client, server := dial(t, fd, at("198.51.100.7", port))
			clients, servers = append(clients, client), append(servers, server)
		}
		halfClosed := clients[0]
		must(t, "shutdown", unix.Shutdown(halfClosed, unix.SHUT_WR))

		tcp := newTCP(t, k, TCPOptions{})
		now := tcp.stats(t)
		for d := range Directions {
			if open := now.Conns[d][Public].Open; open < n {
				t.Errorf("%v: %d open, want at least the %d of the test", Direction(d), open, n)
			}
		}
		must(t, "shutdown", unix.Shutdown(outside, unix.SHUT_RD)) // ends the listening, not the socket
		must(t, "shutdown", unix.Shutdown(fd, unix.SHUT_RD))
		if after := tcp.stats(t).Listeners; after != now.Listeners-2 {
			t.Errorf("listeners went from %d to %d, want two less", now.Listeners, after)
		}
		adds(t, tcp, Public, both(ConnStat{Open: -n / 2}), func() {
			closeAll(clients[:n/2]...)
			closeAll(servers[:n/2]...)
			clients, servers = clients[n/2:], servers[n/2:]
		})
		// what they carry from now on is counted
		var want tcpDelta
		want.Conns[Outbound].Sent, want.Conns[Inbound].Received = 100, 100
		adds(t, tcp, Public, want, func() {
			if _, err := unix.Write(clients[0], make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
		})
		adds(t, tcp, Public, both(ConnStat{Open: -n / 2}), func() {
			closeAll(clients...)
			closeAll(servers...)
		})
	})
}

// A connect that is under way at the start is counted when it succeeds.
func TestTCPCountsConnectsUnderWay(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		privateNet(t)
		var diff string
		for range 3 { // somebody else's connection may get in between, as in adds
			if diff = connectUnderWay(t, k); diff == "" {
				return
			}
			t.Log(diff)
		}
		t.Error(diff)
	})
}

func connectUnderWay(t *testing.T, k *Kernel) string {
	t.Helper()
	fd, port := listen(t, netip.IPv4Unspecified(), 0)
	must(t, "set SO_RCVTIMEO", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	to := at("10.1.2.3", port)
	first := socket(t, unix.AF_INET, unix.SOCK_STREAM) // fills the backlog
	must(t, "connect", unix.Connect(first, to))
	second := socket(t, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK)
	connectOn(t, second, to, unix.EINPROGRESS)

	tcp := newTCP(t, k, TCPOptions{})
	before := tcp.stats(t)
	firstServer, _, err := unix.Accept(fd) // makes room for the second's next SYN
	must(t, "accept", err)
	secondServer, _, err := unix.Accept(fd)
	must(t, "accept", err)
	defer closeAll(firstServer, secondServer, first, second)
	return cmp.Diff(both(ConnStat{Open: 1, Opened: 1}).Conns, deltaOf(before, tcp.stats(t), Private).Conns)
}
