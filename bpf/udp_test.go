package bpf

import (
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// newUDP creates the probe; the attach kinds of tracepoints do not concern it.
func newUDP(t *testing.T, opts UDPOptions) (*UDP, *Kernel) {
	t.Helper()
	k := newKernel(t, Options{RingBytes: 1 << 20})
	if opts.CgroupPath = testenv.CgroupV2(); opts.CgroupPath == "" {
		testenv.Skip(t, ErrNoCgroup2.Error())
	}
	u, err := NewUDP(k, opts)
	must(t, "new udp probe", err)
	if s := u.Status(); s.Reason != "" || !s.Attached {
		t.Fatalf("degraded: %+v", s)
	}
	return u, k
}

// flowsAdded checks that work opens and closes exactly what is wanted, as adds
// does for TCP.
func flowsAdded(t *testing.T, u *UDP, peer Peer, want [Directions]ConnStat, work func()) {
	t.Helper()
	var diff string
	for range 3 {
		before, err := u.Read()
		must(t, "read", err)
		work()
		now, err := u.Read()
		must(t, "read", err)
		var got [Directions]ConnStat
		for d := range Directions {
			b, n := before.Flows[d][peer], now.Flows[d][peer]
			got[d] = ConnStat{Open: n.Open - b.Open, Opened: n.Opened - b.Opened, Closed: n.Closed - b.Closed}
		}
		if diff = cmp.Diff(want, got); diff == "" {
			return
		}
	}
	t.Errorf("(-want +got)\n%s", diff)
}

func opens(outbound, inbound int64) [Directions]ConnStat {
	return [Directions]ConnStat{
		Inbound:  {Open: inbound, Opened: uint64(inbound)},
		Outbound: {Open: outbound, Opened: uint64(outbound)},
	}
}

func closes(outbound, inbound int64) [Directions]ConnStat {
	return [Directions]ConnStat{
		Inbound:  {Open: -inbound, Closed: uint64(inbound)},
		Outbound: {Open: -outbound, Closed: uint64(outbound)},
	}
}

// udpSocket returns a socket that does not wait for ever.
func udpSocket(t *testing.T, family int) int {
	t.Helper()
	fd := socket(t, family, unix.SOCK_DGRAM)
	must(t, "set SO_RCVTIMEO", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	return fd
}

// udpServer returns a socket bound to a free port; of an IPv6 address, because
// its answers would come from another one otherwise.
func udpServer(t *testing.T, to unix.Sockaddr) (int, uint16) {
	t.Helper()
	fd := udpSocket(t, familyOf(to))
	bindTo(t, fd, to)
	if portOf(t, fd) == 0 {
		if familyOf(to) == unix.AF_INET {
			must(t, "bind", unix.Bind(fd, &unix.SockaddrInet4{}))
		} else {
			must(t, "bind", unix.Bind(fd, &unix.SockaddrInet6{}))
		}
	}
	return fd, portOf(t, fd)
}

// request sends one datagram to the server, which answers it; both ends use
// calls with names and without, as told.
func request(t *testing.T, client, server int, to unix.Sockaddr, connected bool) {
	t.Helper()
	var buf [16]byte
	var err error
	if connected {
		_, err = unix.Write(client, buf[:])
	} else {
		err = unix.Sendto(client, buf[:], 0, to)
	}
	must(t, "send", err)
	n, from, err := unix.Recvfrom(server, buf[:], 0)
	must(t, "receive", err)
	must(t, "answer", unix.Sendto(server, buf[:n], 0, from))
	if connected {
		_, err = unix.Read(client, buf[:])
	} else {
		_, _, err = unix.Recvfrom(client, buf[:], 0)
	}
	must(t, "receive answer", err)
}

func TestUDPCountsFlowsExactly(t *testing.T) {
	cases := []struct {
		name   string
		to     string
		mapped bool
		peer   Peer
	}{
		{"public IPv4", "198.51.100.7", false, Public},
		{"private IPv4", "10.1.2.3", false, Private},
		{"loopback IPv4", "127.0.0.1", false, Loopback},
		{"public IPv6", "2001:db8::7", false, Public},
		{"private IPv6", "fd00::7", false, Private},
		{"v4-mapped client and server", "10.1.2.3", true, Private},
	}
	u, _ := newUDP(t, UDPOptions{})
	privateNet(t)
	for _, c := range cases {
		for _, connected := range []bool{false, true} {
			t.Logf("%s, connected %v", c.name, connected)
			addr := netip.MustParseAddr(c.to)
			server, port := udpServer(t, sockaddr(netip.AddrPortFrom(addr, 0), c.mapped))
			to := sockaddr(netip.AddrPortFrom(addr, port), c.mapped)
			const n = 50
			var clients []int
			flowsAdded(t, u, c.peer, opens(n, n), func() {
				closeAll(clients...)
				clients = nil
				for range n {
					client := udpSocket(t, familyOf(to))
					bindTo(t, client, to)
					if connected {
						must(t, "connect", unix.Connect(client, to))
					}
					for range 3 { // more datagrams open nothing
						request(t, client, server, to, connected)
					}
					clients = append(clients, client)
				}
			})
			flowsAdded(t, u, c.peer, closes(n, 0), func() { closeAll(clients...) })
			flowsAdded(t, u, c.peer, closes(0, n), func() { unix.Close(server) }) // all its flows at once
		}
	}
}

// One unconnected socket has a flow with each peer that it talks to, and sends
// that come to nothing are none.
func TestUDPFlowsOfOneSocket(t *testing.T) {
	u, _ := newUDP(t, UDPOptions{})
	privateNet(t)
	server, port := udpServer(t, at("0.0.0.0", 0))
	defer unix.Close(server)
	client := udpSocket(t, unix.AF_INET)
	must(t, "bind", unix.Bind(client, at("10.1.2.3", 0)))
	const n = 100
	send := func(addr string) error { return unix.Sendto(client, []byte{1}, 0, at(addr, port)) }
	flowsAdded(t, u, Private, opens(n, 1), func() {
		for i := range n {
			must(t, "send", send(netip.AddrFrom4([4]byte{10, 9, 0, byte(i)}).String()))
		}
	})
	flowsAdded(t, u, Public, opens(1, 0), func() { must(t, "send", send("198.51.100.7")) })
	flowsAdded(t, u, Public, opens(0, 0), func() {
		if err := send(unroutable.String()); !errors.Is(err, unix.EHOSTUNREACH) {
			t.Fatalf("send: %v", err)
		}
		if err := send("255.255.255.255"); !errors.Is(err, unix.EACCES) {
			t.Fatalf("send: %v", err)
		}
		tcp := socket(t, unix.AF_INET, unix.SOCK_STREAM)
		connectOn(t, tcp, at("198.51.100.7", port), unix.ECONNREFUSED)
		unix.Close(tcp)
	})
	flowsAdded(t, u, Private, closes(n, 0), func() { unix.Close(client) })
}

// A multicast group and the broadcast address are peers of the sender; each
// member of the group has a flow with the sender.
func TestUDPMulticastAndBroadcast(t *testing.T) {
	u, _ := newUDP(t, UDPOptions{})
	privateNet(t)
	group := [4]byte{239, 1, 2, 3}
	var members []int
	_, port := udpServer(t, at("0.0.0.0", 0))
	for range 3 {
		fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
		must(t, "set SO_REUSEADDR", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1))
		must(t, "bind", unix.Bind(fd, at("0.0.0.0", port+1)))
		must(t, "join", unix.SetsockoptIPMreqn(fd, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group, Ifindex: 1}))
		members = append(members, fd)
	}
	defer closeAll(members...)
	sender := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
	defer unix.Close(sender)
	must(t, "bind", unix.Bind(sender, at("198.51.100.7", 0)))
	must(t, "set IP_MULTICAST_IF", unix.SetsockoptIPMreqn(sender, unix.IPPROTO_IP, unix.IP_MULTICAST_IF, &unix.IPMreqn{Ifindex: 1}))
	flowsAdded(t, u, Public, opens(1, 3), func() {
		for range 2 {
			must(t, "send", unix.Sendto(sender, []byte{1}, 0, &unix.SockaddrInet4{Port: int(port) + 1, Addr: group}))
		}
	})
}

// A flow that is in use stays open however old it is; one that nobody uses is
// closed, and the next datagram opens another.
func TestUDPClosesIdleFlows(t *testing.T) {
	const idle = 500 * time.Millisecond
	u, _ := newUDP(t, UDPOptions{Idle: idle})
	privateNet(t)
	server, port := udpServer(t, at("0.0.0.0", 0))
	defer unix.Close(server)
	client := udpSocket(t, unix.AF_INET)
	defer unix.Close(client)
	to := at("10.1.2.3", port)
	flows := func() (both [Directions]ConnStat) {
		s, err := u.Read()
		must(t, "read", err)
		for d := range Directions {
			both[d] = s.Flows[d][Private]
		}
		return both
	}
	before := flows()
	began, last := time.Now(), time.Now()
	for time.Since(began) < 2*idle {
		request(t, client, server, to, false)
		if time.Since(last) >= idle { // this machine has stood still
			began = time.Now()
			before = flows()
			for d := range before { // as they were before the flow that is in use now
				before[d].Opened--
				before[d].Open--
			}
		}
		last = time.Now()
		time.Sleep(idle / 10)
	}
	for d, now := range flows() {
		if opened := now.Opened - before[d].Opened; opened != 1 {
			t.Errorf("%v: %d flows opened while one was in use", Direction(d), opened)
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		now := flows()
		if now[Inbound].Open <= before[Inbound].Open && now[Outbound].Open <= before[Outbound].Open {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("never closed: %+v", now)
		}
	}
	before = flows()
	request(t, client, server, to, false)
	for d, now := range flows() {
		if opened := now.Opened - before[d].Opened; opened != 1 {
			t.Errorf("%v: %d flows opened after the idle one was closed", Direction(d), opened)
		}
	}
}

// A flow whose time was not renewed, because that was fresh, lives as long as any:
// never less than idle after its last datagram.
func TestUDPNeverClosesEarly(t *testing.T) {
	const idle = 640 * time.Millisecond
	u, _ := newUDP(t, UDPOptions{Idle: idle})
	privateNet(t)
	client := udpSocket(t, unix.AF_INET)
	defer unix.Close(client)
	open := func() int64 {
		s, err := u.Read()
		must(t, "read", err)
		return s.Flows[Outbound][Private].Open
	}
	none := open()
	must(t, "bind", unix.Bind(client, at("10.1.2.3", 0)))
	send := func() { must(t, "send", unix.Sendto(client, []byte{1}, 0, at("10.9.0.1", 9))) }
	send()
	time.Sleep(idle * 3 / 4 / 64)
	last := time.Now()
	send()
	if open() <= none {
		t.Fatal("the flow is not open")
	}
	for began := time.Now(); open() > none; time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatal("the flow is never closed")
		}
	}
	if after := time.Since(last); after < idle {
		t.Errorf("closed %v after the last datagram, idle is %v", after, idle)
	}
}

// Many threads send the first datagrams of the same flows, while others sweep:
// each flow is opened once.
func TestUDPOpensAFlowOnce(t *testing.T) {
	u, _ := newUDP(t, UDPOptions{})
	privateNet(t)
	server, port := udpServer(t, at("0.0.0.0", 0))
	defer unix.Close(server)
	const rounds, senders, peers = 20, 8, 20
	flowsAdded(t, u, Private, [Directions]ConnStat{
		Outbound: {Opened: rounds * peers, Closed: rounds * peers},
		Inbound:  {Open: rounds, Opened: rounds},
	}, func() {
		for range rounds {
			client := udpSocket(t, unix.AF_INET)
			must(t, "bind", unix.Bind(client, at("10.1.2.3", 0)))
			var wg sync.WaitGroup
			for range senders {
				wg.Go(func() {
					for i := range peers {
						if err := unix.Sendto(client, []byte{1}, 0, at(netip.AddrFrom4([4]byte{10, 9, 1, byte(i)}).String(), port)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Go(func() {
				if _, err := u.Read(); err != nil {
					t.Error(err)
				}
			})
			wg.Wait()
			unix.Close(client)
		}
	})
}

func TestUDPFullMap(t *testing.T) {
	u, k := newUDP(t, UDPOptions{MaxFlows: 4})
	privateNet(t)
	client := udpSocket(t, unix.AF_INET)
	for i := range 100 {
		must(t, "send", unix.Sendto(client, []byte{1}, 0, at("198.51.100.7", uint16(1000+i))))
	}
	if updateFailures(t, k, "udp_flows") == 0 {
		t.Error("no flow found the map full")
	}
	unix.Close(client)
	s, err := u.Read()
	must(t, "read", err)
	if f := s.Flows[Outbound][Public]; f.Opened == 0 || f.Opened != f.Closed {
		t.Errorf("%+v does not add up", f)
	}
}
