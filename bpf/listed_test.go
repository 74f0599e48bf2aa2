package bpf

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// ownNetNS is the inode number of this thread's network namespace.
func ownNetNS(t *testing.T) uint32 {
	t.Helper()
	var st unix.Stat_t
	must(t, "stat network namespace", unix.Stat("/proc/thread-self/ns/net", &st))
	return uint32(st.Ino)
}

// ends returns the addresses of a socket as lists have them.
func ends(t *testing.T, fd int, peer bool) (s ListedSocket) {
	t.Helper()
	s.NetNS = ownNetNS(t)
	local, err := unix.Getsockname(fd)
	must(t, "getsockname", err)
	s.Local = addrPort(local)
	if peer {
		remote, err := unix.Getpeername(fd)
		must(t, "getpeername", err)
		s.Remote = addrPort(remote)
	}
	return s
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	if sa, ok := sa.(*unix.SockaddrInet6); ok {
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	v4 := sa.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port))
}

// listOf returns the first list when it is asked first, and then the second.
func listOf(lists ...[]ListedSocket) SocketList {
	asked := 0
	return func(yield func(ListedSocket)) error {
		for _, s := range lists[min(asked, len(lists)-1)] {
			yield(s)
		}
		asked++
		return nil
	}
}

// Where the kernel refuses to iterate over files, what a list shows is in the gauges,
// goes out of them at its end, and is in no counter.
func TestTCPSeedsFromAList(t *testing.T) {
	eachKindWith(t, Options{RingBytes: 1 << 20, refuseIterators: true}, func(t *testing.T, k *Kernel) {
		privateNet(t)
		const n = 10
		fd, port := listen(t, netip.IPv6Unspecified(), n)
		list := []ListedSocket{ends(t, fd, false)}
		made := pairs(t, n, fd, sockaddr(netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), port), true))
		for _, p := range made {
			list = append(list, ends(t, p.client, true), ends(t, p.server, true))
		}
		gone := ListedSocket{NetNS: ownNetNS(t), Local: netip.MustParseAddrPort("198.51.100.1:1"), Remote: netip.MustParseAddrPort("198.51.100.2:2")}
		newSyscalls(t, k, SyscallsOptions{})
		tcp, err := NewTCP(k, TCPOptions{Listed: listOf(append([]ListedSocket{gone}, list...), list)})
		must(t, "new tcp probe", err)
		if s := tcp.Status(); !s.Attached || !strings.Contains(s.Reason, "known from a list") {
			t.Errorf("%+v", s)
		}
		if diff := cmp.Diff([Directions]uint64{n, n}, [Directions]uint64{tcp.listing.conns[Inbound][Public], tcp.listing.conns[Outbound][Public]}); diff != "" {
			t.Errorf("seeded (-want +got)\n%s", diff)
		}
		open := tcp.stats(t)
		for d := range Directions {
			if open.Conns[d][Public].Open < n || open.Listeners < 1 {
				t.Errorf("%v: %+v, %d listeners", Direction(d), open.Conns[d][Public], open.Listeners)
			}
		}
		must(t, "shutdown", unix.Shutdown(fd, unix.SHUT_RD))
		for _, p := range made {
			closeAll(p.client, p.server)
		}
		ended := func() (all [3]uint64) { // what was seeded and has ended: nobody else's here
			tcp.stats(t)
			c := &tcp.sum.Conns
			return [3]uint64{c[Inbound][Public].SeededClosed, c[Outbound][Public].SeededClosed, tcp.sum.ListenClosed}
		}
		want := [3]uint64{n, n, 1}
		for began := time.Now(); ended() != want; time.Sleep(5 * time.Millisecond) {
			if time.Since(began) > 30*time.Second {
				t.Fatalf("inbound, outbound and listeners ended: %d, want %d", ended(), want)
			}
		}
		if err := tcp.Survey(func(SocketRecord) {}); !errors.Is(err, ErrNoWalk) {
			t.Errorf("a survey that cannot see everything: %v", err)
		}
	})
}

func TestUDPSeedsFromAList(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20, refuseIterators: true})
	privateNet(t)
	here := at("198.51.100.7", 53)
	client, server, unused := udpSocket(t, unix.AF_INET), udpSocket(t, unix.AF_INET), udpSocket(t, unix.AF_INET)
	must(t, "bind", unix.Bind(server, here))
	must(t, "connect", unix.Connect(client, here))
	must(t, "connect", unix.Connect(unused, here))
	must(t, "connect", unix.Connect(server, at("198.51.100.7", portOf(t, client))))
	var shared []int // one port, two sockets
	for range 2 {
		fd := udpSocket(t, unix.AF_INET)
		must(t, "set SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
		must(t, "bind", unix.Bind(fd, at("10.1.2.3", 4000)))
		shared = append(shared, fd)
	}
	u, err := NewUDP(k, UDPOptions{CgroupPath: testenv.CgroupV2(), Listed: listOf([]ListedSocket{
		ends(t, client, true), ends(t, server, true), ends(t, unused, true), ends(t, shared[0], false), ends(t, shared[1], false),
	})})
	must(t, "new udp probe", err)
	if s := u.Status(); !s.Attached || !strings.Contains(s.Reason, "known from a list") {
		t.Errorf("%+v", s)
	}
	if diff := cmp.Diff([3]uint64{1, 2, 2}, [3]uint64{u.listing.conns[Inbound][Public], u.listing.conns[Outbound][Public], u.listing.endpoints}); diff != "" {
		t.Errorf("seeded (-want +got)\n%s", diff)
	}
	flowsAdded(t, u, Public, [Directions]ConnStat{}, func() {
		request(t, client, server, at("198.51.100.7", portOf(t, client)), true)
	})
	flowsAdded(t, u, Private, opens(1, 0), func() { // an endpoint has no flows before its first datagram
		must(t, "send", unix.Sendto(shared[0], []byte{1}, 0, at("10.9.0.1", 9)))
	})
	closeAll(append(shared, client, server, unused)...)
	sweepUDP(t, u)
	var (
		sum      udpCpuUdp
		unlisted uint64
	)
	must(t, "read counts", u.counts.sum(&sum))
	must(t, "read endpoints_unlisted", u.obj.coll.Variables["endpoints_unlisted"].Get(&unlisted))
	if diff := cmp.Diff([3]uint64{1, 2, 2}, [3]uint64{sum.Flows[Inbound][Public].SeededClosed, sum.Flows[Outbound][Public].SeededClosed, unlisted}); diff != "" {
		t.Errorf("ended (-want +got)\n%s", diff) // of what was seeded: nobody else's here
	}
}

// A list that is longer than the map is counted.
func TestListBeyondTheMap(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20, refuseIterators: true})
	var list []ListedSocket
	for port := range uint16(10) {
		list = append(list, ListedSocket{NetNS: 1, Local: netip.AddrPortFrom(netip.IPv4Unspecified(), 1000+port)})
	}
	tcp, err := NewTCP(k, TCPOptions{MaxSockets: 4, Listed: listOf(list)})
	must(t, "new tcp probe", err)
	failed := updateFailures(t, k, "tcp_listed")
	if tcp.listing.endpoints != 4 || failed != 6 {
		t.Errorf("%d of 10 entered and %d counted as failed, want 4 and 6", tcp.listing.endpoints, failed)
	}
}
