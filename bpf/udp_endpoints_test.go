package bpf

import (
	"bufio"
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// surveyedUDP returns what a survey yields at a port.
func surveyedUDP(t *testing.T, u *UDP, ports ...uint16) (listeners, flows []SocketRecord) {
	t.Helper()
	must(t, "survey", u.Survey(func(r SocketRecord) {
		switch {
		case r.Listen && slices.Contains(ports, r.Conn.LocalPort):
			listeners = append(listeners, r)
		case !r.Listen && (slices.Contains(ports, r.Conn.LocalPort) || slices.Contains(ports, r.Conn.RemotePort)):
			flows = append(flows, r)
		}
	}))
	return listeners, flows
}

// listedByKernel counts the unconnected UDP sockets of this thread's network
// namespace as ss -lun does.
func listedByKernel(t *testing.T) (n int) {
	t.Helper()
	for _, name := range []string{"udp", "udp6"} {
		f, err := os.Open("/proc/thread-self/net/" + name)
		must(t, "open", err)
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if fields := strings.Fields(lines.Text()); fields[3] == "07" {
				n++
			}
		}
	}
	return n
}

// What ss -lun lists is an endpoint, however it came to its port; what has a peer, or
// no port, is none.
func TestUDPEndpointsAreThoseThatSSLists(t *testing.T) {
	u, _ := newUDP(t, UDPOptions{})
	privateNet(t)
	bind := func(fd int) error { return unix.Bind(fd, &unix.SockaddrInet4{}) }
	bindTo4000 := func(fd int) error { return unix.Bind(fd, at("0.0.0.0", 4000)) } // stays, as a port of the kernel's choice does not
	connect := func(fd int) error { return unix.Connect(fd, at("10.1.2.3", 9)) }
	unconnect := func(fd int) error { disconnect(t, fd); return nil }
	send := func(fd int) error { return unix.Sendto(fd, []byte{1}, 0, at("10.1.2.3", 9)) }
	cases := []struct {
		name   string
		family int
		kind   int
		is     bool
		steps  []func(fd int) error
	}{
		{"fresh", unix.AF_INET, unix.SOCK_DGRAM, false, nil},
		{"bound", unix.AF_INET, unix.SOCK_DGRAM, true, []func(int) error{bind}},
		{"bound IPv6", unix.AF_INET6, unix.SOCK_DGRAM, true, []func(int) error{func(fd int) error { return unix.Bind(fd, &unix.SockaddrInet6{}) }}},
		{"sent", unix.AF_INET, unix.SOCK_DGRAM, true, []func(int) error{send}},
		{"connected", unix.AF_INET, unix.SOCK_DGRAM, false, []func(int) error{connect}},
		{"connected, sent", unix.AF_INET, unix.SOCK_DGRAM, false, []func(int) error{connect, send}},
		{"bound, connected", unix.AF_INET, unix.SOCK_DGRAM, false, []func(int) error{bind, connect}},
		{"bound, connected, disconnected", unix.AF_INET, unix.SOCK_DGRAM, true, []func(int) error{bindTo4000, connect, unconnect}},
		{"bound to any port, connected, disconnected", unix.AF_INET, unix.SOCK_DGRAM, false, []func(int) error{bind, connect, unconnect}},
		{"sent, connected, disconnected", unix.AF_INET, unix.SOCK_DGRAM, false, []func(int) error{send, connect, unconnect}},
	}
	for _, c := range cases {
		var got []int
		for range 3 { // somebody else's sockets may come and go
			got = nil
			var listed int
			count := func() {
				s, err := u.Read()
				must(t, "read", err)
				got = append(got, int(s.Endpoints))
			}
			before := listedByKernel(t)
			count()
			fd, err := unix.Socket(c.family, c.kind|unix.SOCK_CLOEXEC, 0)
			must(t, "socket", err)
			for i, step := range c.steps {
				if err := step(fd); err != nil {
					t.Fatalf("%s: step %d: %v", c.name, i, err)
				}
				count() // a sweep in every state between
			}
			listed = listedByKernel(t) - before
			count()
			unix.Close(fd)
			count()
			if want := map[bool]int{true: 1}[c.is]; listed != want {
				t.Fatalf("%s: the kernel lists %d, want %d", c.name, listed, want)
			}
			n := len(got)
			if is := got[n-2]-got[0] == 1; is == c.is && got[n-1] == got[0] {
				got = nil
				break
			}
		}
		if got != nil {
			t.Errorf("%s: endpoints in every step %v; an endpoint in the end: %v", c.name, got, c.is)
		}
	}
}

// An endpoint that connects and disconnects ends and begins again, and the survey
// says of it what the events do.
func TestUDPEndpointIsTold(t *testing.T) {
	u, k, e := newUDPWithEvents(t)
	privateNet(t)
	const port = 4711 // one of our choice stays without a peer
	fd := udpSocket(t, unix.AF_INET)
	must(t, "bind", unix.Bind(fd, at("10.1.2.3", port)))
	before, _ := surveyedUDP(t, u, port)
	must(t, "connect", unix.Connect(fd, at("10.1.2.3", 9)))
	sweepUDP(t, u)
	disconnect(t, fd)
	sweepUDP(t, u)
	after, _ := surveyedUDP(t, u, port)
	unix.Close(fd)
	got := collect(t, k, e, atPort(port))
	begun, ended := got[event.NetworkListen], got[event.NetworkClose]
	if len(begun) != 2 || len(ended) != 2 || len(before) != 1 || len(after) != 1 {
		t.Fatalf("%d begun, %d ended, %d and %d surveyed; want 2, 2, 1 and 1", len(begun), len(ended), len(before), len(after))
	}
	for i, c := range []event.Conn{begun[1].Conn, ended[0].Conn, ended[1].Conn, before[0].Conn, after[0].Conn} {
		if diff := cmp.Diff(begun[0].Conn, c); diff != "" {
			t.Errorf("%d: (-begun +later)\n%s", i, diff)
		}
	}
	for _, ev := range slices.Concat(begun, ended) {
		if ev.Process.PID != k.Self().PID || ev.Process.StartNS != after[0].Process.StartNS {
			t.Errorf("owner %+v", ev.Process)
		}
	}
}

// Sockets of all network namespaces that were there before, and the flows of those
// with a peer, are in the gauges and in no counter; who serves is told by the ports.
func TestUDPSeedsWhatIsThere(t *testing.T) {
	outside := udpSocket(t, unix.AF_INET)
	defer unix.Close(outside)
	must(t, "bind", unix.Bind(outside, at("127.0.0.1", 0)))
	privateNet(t)
	const n, service = 10, 907
	var clients, servers []int
	for i := range n {
		client, server := udpSocket(t, unix.AF_INET), udpSocket(t, unix.AF_INET)
		local := at(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}).String(), service)
		must(t, "bind", unix.Bind(server, local))
		must(t, "connect", unix.Connect(client, local))
		must(t, "connect", unix.Connect(server, at(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}).String(), portOf(t, client))))
		clients, servers = append(clients, client), append(servers, server)
	}
	bound, port := udpServer(t, at("10.1.2.3", 0))
	u, k := newUDP(t, UDPOptions{})

	listeners, _ := surveyedUDP(t, u, port, portOf(t, outside))
	_, flows := surveyedUDP(t, u, service)
	if len(listeners) != 2 || len(flows) != 2*n {
		t.Fatalf("%d endpoints and %d flows surveyed, want 2 and %d", len(listeners), len(flows), 2*n)
	}
	for _, r := range slices.Concat(listeners, flows) {
		if r.Process.PID != k.Self().PID || r.Process.StartNS == 0 || r.Conn.OpenedNS != 0 || !r.Listen && r.Conn.Inbound != (r.Conn.LocalPort == service) {
			t.Errorf("%+v", r)
		}
	}
	flowsAdded(t, u, Public, [Directions]ConnStat{}, func() { // what is open already is not opened
		for i := range n {
			request(t, clients[i], servers[i], at(netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)}).String(), portOf(t, clients[i])), true)
		}
	})
	flowsAdded(t, u, Public, [Directions]ConnStat{Outbound: {Open: -n}}, func() { closeAll(clients...) })
	flowsAdded(t, u, Public, [Directions]ConnStat{Inbound: {Open: -n}}, func() { closeAll(servers...) })
	unix.Close(bound)
	if left, _ := surveyedUDP(t, u, port); len(left) != 0 {
		t.Errorf("a closed endpoint is surveyed: %+v", left)
	}
}

// The kernel side guesses who serves as everybody else does.
func TestUDPSeededRoles(t *testing.T) {
	privateNet(t)
	type pair struct{ local, remote uint16 }
	var wanted []pair
	for _, edge := range []uint16{1024, 1025, 5001, 32768, 49152} {
		for _, other := range []uint16{53, 1024, 3000, 6000, 40000, 60000} {
			wanted = append(wanted, pair{edge - 1, other}, pair{edge, other})
		}
	}
	var sockets []int
	for i, p := range wanted {
		fd := udpSocket(t, unix.AF_INET)
		must(t, "bind", unix.Bind(fd, at(netip.AddrFrom4([4]byte{10, 77, 0, byte(i)}).String(), p.local)))
		must(t, "connect", unix.Connect(fd, at("10.1.2.3", p.remote)))
		sockets = append(sockets, fd)
	}
	defer closeAll(sockets...)
	u, _ := newUDP(t, UDPOptions{})
	found := 0
	must(t, "survey", u.Survey(func(r SocketRecord) {
		c := r.Conn
		if r.Listen || c.Local[0] != 10 || c.Local[1] != 77 {
			return
		}
		found++
		if want := event.GuessInbound(c.LocalPort, c.RemotePort); c.Inbound != want {
			t.Errorf("local port %d, remote %d: inbound %v, want %v", c.LocalPort, c.RemotePort, c.Inbound, want)
		}
	}))
	if found != len(wanted) {
		t.Errorf("%d flows, want %d", found, len(wanted))
	}
}

// A seeded flow is closed when it is idle like any other, and is counted nowhere then.
func TestUDPSeededFlowsIdle(t *testing.T) {
	privateNet(t)
	client := udpSocket(t, unix.AF_INET)
	defer unix.Close(client)
	must(t, "connect", unix.Connect(client, at("198.51.100.7", 53)))
	u, _ := newUDP(t, UDPOptions{Idle: 50 * time.Millisecond})
	began := time.Now()
	for {
		sweepUDP(t, u)
		if _, flows := surveyedUDP(t, u, portOf(t, client)); len(flows) == 0 {
			break
		}
		if time.Since(began) > 30*time.Second {
			t.Fatal("it is never closed")
		}
		time.Sleep(10 * time.Millisecond)
	}
	s, err := u.Read()
	must(t, "read", err)
	if f := s.Flows[Outbound][Public]; f.Opened < f.Closed {
		t.Errorf("%+v: closed what was never opened", f)
	}
}

// Where the kernel refuses to iterate over files the probe works, and says what it
// does not see.
func TestUDPWithoutIterators(t *testing.T) {
	k := newKernel(t, Options{RingBytes: 1 << 20, refuseIterators: true})
	u, err := NewUDP(k, UDPOptions{CgroupPath: testenv.CgroupV2()})
	must(t, "new udp probe", err)
	if s := u.Status(); !s.Attached || !strings.Contains(s.Reason, "sockets are only known from their start") {
		t.Errorf("%+v", s)
	}
	privateNet(t)
	_, port := udpServer(t, at("10.1.2.3", 0))
	told := 0
	err = u.Survey(func(r SocketRecord) {
		if r.Listen && r.Conn.LocalPort == port {
			told++
		}
	})
	if !errors.Is(err, ErrNoWalk) || told != 1 {
		t.Errorf("%d endpoints, want 1; %v", told, err)
	}
}

// Sockets beyond the bound are counted as such, and their flows all the same.
func TestUDPFullSockets(t *testing.T) {
	u, k := newUDP(t, UDPOptions{MaxSockets: 1})
	privateNet(t)
	const n = 10
	var clients []int
	flowsAdded(t, u, Public, opens(n, 0), func() {
		for range n {
			client := udpSocket(t, unix.AF_INET)
			must(t, "send", unix.Sendto(client, []byte{1}, 0, at("198.51.100.7", 9)))
			clients = append(clients, client)
		}
	})
	closeAll(clients...)
	if updateFailures(t, k, "udp_sockets") == 0 {
		t.Error("no socket found the map full")
	}
}
