package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

func newUDPWithEvents(t *testing.T) (*UDP, *Kernel, *Events) {
	t.Helper()
	u, k := newUDP(t, UDPOptions{})
	e, err := NewEvents(k, nil)
	must(t, "open events", err)
	t.Cleanup(func() { e.Close() })
	must(t, "set points", k.SetPoints(networkPoints...))
	return u, k, e
}

// atPort matches the events of one port, on either side.
func atPort(port uint16) func(*event.Event) bool {
	return func(ev *event.Event) bool { return ev.Conn.LocalPort == port || ev.Conn.RemotePort == port }
}

func addressOf(a string) (b [16]byte) {
	copy(b[:], netip.MustParseAddr(a).AsSlice())
	return b
}

// sweepUDP has what has ended told.
func sweepUDP(t *testing.T, u *UDP) {
	t.Helper()
	_, err := u.Read()
	must(t, "read", err)
}

// The events of a socket and of its flows tell one story, and the ledger balances.
func TestUDPEventsTellTheFlow(t *testing.T) {
	u, k, e := newUDPWithEvents(t)
	privateNet(t)
	const n = 20
	start := bootTimeOf(t)
	server, port := udpServer(t, at("198.51.100.7", 0))
	to := at("198.51.100.7", port)
	var clients []int
	for i := range n {
		client := udpSocket(t, unix.AF_INET)
		if i%2 == 0 {
			must(t, "connect", unix.Connect(client, to))
		}
		for range 2 {
			request(t, client, server, to, i%2 == 0)
		}
		clients = append(clients, client)
	}
	closeAll(append(clients, server)...)
	sweepUDP(t, u)
	end := bootTimeOf(t)
	got := collect(t, k, e, atPort(port))

	self := k.Self().PID
	listens, ends := got[event.NetworkListen], 0
	if len(listens) != 1 || listens[0].Process.PID != self || listens[0].Conn.LocalPort != port {
		t.Fatalf("listen: %+v", listens)
	}
	opened := map[event.Conn]event.Event{}
	for point, inbound := range map[event.Point]bool{event.NetworkConnect: false, event.NetworkAccept: true} {
		if len(got[point]) != n {
			t.Errorf("%v: %d events, want %d", point, len(got[point]), n)
		}
		for _, ev := range got[point] {
			c := ev.Conn
			if ev.Process.PID != self || ev.Process.StartNS == 0 || c.Protocol != unix.IPPROTO_UDP || c.Family != event.IPv4 ||
				c.Inbound != inbound || c.Local != addressOf("198.51.100.7") || c.LocalPort == c.RemotePort ||
				c.OpenedNS < start || c.OpenedNS > ev.TimeNS || ev.TimeNS > end {
				t.Errorf("%v: %+v", point, ev)
			}
			opened[c] = ev
		}
	}
	for _, ev := range got[event.NetworkClose] {
		switch _, known := opened[ev.Conn]; {
		case known:
			delete(opened, ev.Conn)
		case ev.Conn == listens[0].Conn:
			ends++
		default:
			t.Errorf("close of what was never opened: %+v", ev)
		}
		if ev.Process.PID != self || ev.Process.StartNS != listens[0].Process.StartNS {
			t.Errorf("closed by %+v", ev.Process)
		}
	}
	if len(opened) != 0 || ends != 1 {
		t.Errorf("%d flows not closed, the endpoint closed %d times", len(opened), ends)
	}
}

// iovec and message are what the calls with vectors take.
func iovec(b []byte) unix.Iovec { return unix.Iovec{Base: &b[0], Len: uint64(len(b))} }

// mmsg makes one sendmmsg or recvmmsg call for n messages, to an IPv4 address if one
// is given, and returns how many went through.
func mmsg(call uintptr, fd, n int, to *unix.SockaddrInet4) (int, error) {
	var (
		payload  [8]byte
		vec      = iovec(payload[:])
		name     = unix.RawSockaddrInet4{Family: unix.AF_INET}
		messages = make([]struct {
			unix.Msghdr
			_ uint64 // how much of it was sent, and padding
		}, n)
	)
	for i := range messages {
		messages[i].Iov, messages[i].Iovlen = &vec, 1
		if to != nil {
			name.Port, name.Addr = binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, uint16(to.Port))), to.Addr
			messages[i].Name, messages[i].Namelen = (*byte)(ptrOf(&name)), unix.SizeofSockaddrInet4
		}
	}
	done, _, errno := unix.Syscall6(call, uintptr(fd), uintptrOf(&messages[0]), uintptr(n), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(done), nil
}

// Every call that sends, against every call that receives: one flow on each side, and
// whose it is.
func TestUDPSendAndReceiveCalls(t *testing.T) {
	payload := make([]byte, 8)
	to4 := func(sa unix.Sockaddr) *unix.SockaddrInet4 { return sa.(*unix.SockaddrInet4) }
	senders := []struct {
		name      string
		connected bool
		send      func(fd int, to unix.Sockaddr) error
	}{
		{"send", true, func(fd int, _ unix.Sockaddr) error { return unix.Send(fd, payload, 0) }},
		{"write", true, func(fd int, _ unix.Sockaddr) error { _, err := unix.Write(fd, payload); return err }},
		{"writev", true, func(fd int, _ unix.Sockaddr) error { _, err := unix.Writev(fd, [][]byte{payload}); return err }},
		{"sendmsg", true, func(fd int, _ unix.Sockaddr) error { return unix.Sendmsg(fd, payload, nil, nil, 0) }},
		{"sendmmsg", true, func(fd int, _ unix.Sockaddr) error { _, err := mmsg(unix.SYS_SENDMMSG, fd, 1, nil); return err }},
		{"sendto to", false, func(fd int, to unix.Sockaddr) error { return unix.Sendto(fd, payload, 0, to) }},
		{"sendmsg to", false, func(fd int, to unix.Sockaddr) error { return unix.Sendmsg(fd, payload, nil, to, 0) }},
		{"sendmmsg to", false, func(fd int, to unix.Sockaddr) error { _, err := mmsg(unix.SYS_SENDMMSG, fd, 1, to4(to)); return err }},
	}
	receivers := []struct {
		name    string
		receive func(fd int) error
	}{
		{"recv", func(fd int) error {
			_, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), uintptrOf(&payload[0]), uintptr(len(payload)), 0, 0, 0)
			return errnoOrNil(errno)
		}},
		{"recvfrom", func(fd int) error { _, _, err := unix.Recvfrom(fd, payload, 0); return err }},
		{"recvmsg", func(fd int) error { _, _, _, _, err := unix.Recvmsg(fd, payload, nil, 0); return err }},
		{"recvmmsg", func(fd int) error { _, err := mmsg(unix.SYS_RECVMMSG, fd, 1, nil); return err }},
		{"read", func(fd int) error { _, err := unix.Read(fd, payload); return err }},
		{"readv", func(fd int) error { _, err := unix.Readv(fd, [][]byte{payload}); return err }},
	}

	u, k, e := newUDPWithEvents(t)
	privateNet(t)
	server, port := udpServer(t, at("10.1.2.3", 0))
	defer unix.Close(server)
	to := at("10.1.2.3", port)
	pairs := map[uint16]string{} // by the client's port
	var clients []int
	for _, s := range senders {
		for _, r := range receivers {
			name := s.name + ", " + r.name
			client := udpSocket(t, unix.AF_INET)
			clients = append(clients, client)
			if s.connected {
				must(t, "connect", unix.Connect(client, to))
			}
			for range 2 { // the second datagram opens nothing
				must(t, name, s.send(client, to))
				must(t, name, r.receive(server))
			}
			pairs[portOf(t, client)] = name
		}
	}
	closeAll(clients...)
	sweepUDP(t, u)
	type seen struct{ Connects, Accepts, Outbound, Inbound int }
	stories := map[string]seen{}
	got := collect(t, k, e, atPort(port))
	for point, all := range got {
		for _, ev := range all {
			name := pairs[ev.Conn.LocalPort] + pairs[ev.Conn.RemotePort]
			if name == "" || ev.Process.PID != k.Self().PID {
				if point != event.NetworkListen {
					t.Errorf("%v: %+v", point, ev)
				}
				continue
			}
			s := stories[name]
			switch {
			case point == event.NetworkConnect:
				s.Connects++
			case point == event.NetworkAccept:
				s.Accepts++
			case point == event.NetworkClose && ev.Conn.RemotePort == port:
				s.Outbound++
			case point == event.NetworkClose && ev.Conn.RemotePort != 0:
				s.Inbound++
			}
			stories[name] = s
		}
	}
	for _, name := range pairs { // the server is open still, and its flows with it
		if diff := cmp.Diff(seen{Connects: 1, Accepts: 1, Outbound: 1}, stories[name]); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
	if want := len(senders) * len(receivers); len(pairs) != want {
		t.Errorf("%d pairs, want %d", len(pairs), want)
	}
}

func errnoOrNil(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// actSendUDP sends one datagram to the port that it is told.
func actSendUDP() error {
	var port uint16
	if _, err := fmt.Sscan(os.Getenv("SONDE_TEST_PORT"), &port); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	return unix.Sendto(fd, []byte{1}, 0, at("198.51.100.7", port))
}

// A datagram arrives on top of whoever runs, here the one who sends: the flow is its
// socket's owner's all the same.
func TestUDPOwnerIsTheSockets(t *testing.T) {
	u, k, e := newUDPWithEvents(t)
	privateNet(t)
	server, port := udpServer(t, at("198.51.100.7", 0))
	child := exec.Command("/proc/self/exe")
	child.Env = append(os.Environ(), "SONDE_TEST_ACT=udpsend", fmt.Sprintf("SONDE_TEST_PORT=%d", port))
	out, err := child.CombinedOutput()
	must(t, "run child: "+string(out), err)
	_, _, err = unix.Recvfrom(server, make([]byte, 8), 0)
	must(t, "receive", err)
	unix.Close(server)
	sweepUDP(t, u)
	got := collect(t, k, e, atPort(port))
	self := k.Self().PID
	for point, want := range map[event.Point]int{event.NetworkConnect: 1, event.NetworkAccept: 1, event.NetworkListen: 1, event.NetworkClose: 3} {
		if len(got[point]) != want {
			t.Errorf("%v: %d events, want %d", point, len(got[point]), want)
		}
		for _, ev := range got[point] {
			mine := ev.Conn.LocalPort == port
			if (ev.Process.PID == self) != mine || ev.Process.PID == 0 || ev.Process.StartNS == 0 {
				t.Errorf("%v: owner %+v of %+v; this process is %d", point, ev.Process, ev.Conn, self)
			}
		}
	}
}
