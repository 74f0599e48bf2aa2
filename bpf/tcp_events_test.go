package bpf

import (
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

var networkPoints = []event.Point{event.NetworkConnect, event.NetworkAccept, event.NetworkClose, event.NetworkListen}

func newTCPWithEvents(t *testing.T, k *Kernel) (*TCP, *Events) {
	t.Helper()
	e, err := NewEvents(k, nil)
	must(t, "open events", err)
	t.Cleanup(func() { e.Close() })
	tcp := newTCP(t, k, TCPOptions{})
	must(t, "set points", k.SetPoints(networkPoints...))
	return tcp, e
}

// collect detaches everything and returns the events that match, by point.
func collect(t *testing.T, k *Kernel, e *Events, match func(*event.Event) bool) map[event.Point][]event.Event {
	t.Helper()
	k.Detach()
	must(t, "flush", e.Flush())
	got, total := map[event.Point][]event.Event{}, map[event.Point]uint64{}
	for {
		var ev event.Event
		err := e.Next(&ev)
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, "next", err)
		total[ev.Point]++
		if match(&ev) {
			got[ev.Point] = append(got[ev.Point], ev)
		}
	}
	for _, p := range networkPoints {
		if l := ledgerOf(t, k, p); l.Attempted != l.Submitted+l.Dropped || l.Submitted != total[p] {
			t.Errorf("%v: read %d, ledger %+v: does not add up", p, total[p], l)
		}
	}
	return got
}

// The events of one connection tell one story, and the ledger balances.
func TestTCPEventsTellTheConnection(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		_, e := newTCPWithEvents(t, k)
		privateNet(t)
		fd, port := listen(t, netip.IPv6Unspecified(), 16)
		to := netip.MustParseAddr("198.51.100.7")
		const n = 50
		start := bootTimeOf(t)
		for range n {
			client, server := dial(t, fd, sockaddr(netip.AddrPortFrom(to, port), true))
			converse(t, client, server, 300, 200)
		}
		time.Sleep(5 * time.Millisecond)
		end := bootTimeOf(t)

		got := collect(t, k, e, func(ev *event.Event) bool {
			return ev.Conn.LocalPort == port || ev.Conn.RemotePort == port
		})
		if l := got[event.NetworkListen]; len(l) != 1 || l[0].Process.PID != k.Self().PID || l[0].Conn.LocalPort != port {
			t.Errorf("listen: %+v", l)
		}
		if c, a, d := len(got[event.NetworkConnect]), len(got[event.NetworkAccept]), len(got[event.NetworkClose]); c != n || a != n || d != 2*n {
			t.Fatalf("%d connects, %d accepts, %d closes; want %d, %d, %d", c, a, d, n, n, 2*n)
		}
		opened := map[uint64]event.Event{}
		for _, p := range []event.Point{event.NetworkConnect, event.NetworkAccept} {
			for _, ev := range got[p] {
				opened[ev.Conn.Cookie] = ev
			}
		}
		if len(opened) > 2*n || len(opened) < 2 {
			t.Errorf("%d identities for %d sockets", len(opened), 2*n)
		}
		remote := [16]byte{198, 51, 100, 7}
		for _, p := range networkPoints[:3] {
			for _, ev := range got[p] {
				c := ev.Conn
				inbound := c.LocalPort == port
				if ev.Process.PID != k.Self().PID || ev.Process.StartNS == 0 || c.Family != event.IPv4 || c.Protocol != 6 ||
					c.Inbound != inbound || c.Remote != remote || c.Local != remote || c.LocalPort == 0 || c.RemotePort == 0 {
					t.Fatalf("%v: %+v", p, ev)
				}
				if ev.TimeNS < start || ev.TimeNS > end || c.OpenedNS < start || c.OpenedNS > ev.TimeNS {
					t.Fatalf("%v: at %d, opened %d, not within %d and %d", p, ev.TimeNS, c.OpenedNS, start, end)
				}
				want := [2]uint64{300, 200}
				if inbound {
					want = [2]uint64{200, 300}
				}
				if p == event.NetworkClose && [2]uint64{c.Sent, c.Received} != want {
					t.Fatalf("close: sent %d, received %d; want %v", c.Sent, c.Received, want)
				}
			}
		}
	})
}

func bootTimeOf(t *testing.T) uint64 {
	t.Helper()
	now, err := bootTime()
	must(t, "boot time", err)
	return now
}

// Who connects and who is connected to is told right whatever the ports suggest.
func TestTCPRolesAreNotThePorts(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		_, e := newTCPWithEvents(t, k)
		privateNet(t)
		const addr = "198.51.100.7"
		ports := [][2]uint16{{80, 0}, {80, 50000}, {50001, 81}, {50002, 50003}, {82, 83}, {0, 84}} // server's and client's, 0 for the kernel's choice
		made := map[[2]uint16]bool{}
		for _, p := range ports {
			fd := reusing(t, addr, p[0])
			must(t, "listen", unix.Listen(fd, 1))
			p[0] = portOf(t, fd)
			client := reusing(t, addr, p[1])
			must(t, "connect", unix.Connect(client, at(addr, p[0])))
			server, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
			must(t, "accept", err)
			made[[2]uint16{p[0], portOf(t, client)}] = true
			closeAll(client, server, fd)
		}
		got := collect(t, k, e, func(ev *event.Event) bool {
			return made[[2]uint16{ev.Conn.LocalPort, ev.Conn.RemotePort}] || made[[2]uint16{ev.Conn.RemotePort, ev.Conn.LocalPort}]
		})
		for _, point := range []event.Point{event.NetworkConnect, event.NetworkAccept} {
			if len(got[point]) != len(ports) {
				t.Errorf("%v: %d events, want %d", point, len(got[point]), len(ports))
			}
			for _, ev := range got[point] {
				if inbound := made[[2]uint16{ev.Conn.LocalPort, ev.Conn.RemotePort}]; ev.Conn.Inbound != inbound || inbound != (point == event.NetworkAccept) {
					t.Errorf("%v: %d to %d, inbound %v", point, ev.Conn.LocalPort, ev.Conn.RemotePort, ev.Conn.Inbound)
				}
			}
		}
	})
}

// A listener that nobody has bound is told of once it has its port; one that comes to
// nothing is not told of at all.
func TestTCPListenWithoutBind(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		tcp, e := newTCPWithEvents(t, k)
		privateNet(t)
		fd := socket(t, unix.AF_INET6, unix.SOCK_STREAM)
		must(t, "listen", unix.Listen(fd, 1))
		port := portOf(t, fd)
		listeners, _ := surveyed(t, tcp, port)
		must(t, "listen again", unix.Listen(fd, 2))
		unix.Close(fd)
		time.Sleep(5 * time.Millisecond)
		got := collect(t, k, e, func(ev *event.Event) bool { return ev.Conn.LocalPort == port || ev.Conn.LocalPort == 0 })
		begun, ended := got[event.NetworkListen], got[event.NetworkClose]
		if len(begun) != 1 || len(ended) != 1 || len(listeners) != 1 {
			t.Fatalf("%d begun, %d surveyed, %d ended; want 1 each", len(begun), len(listeners), len(ended))
		}
		if diff := cmp.Diff(begun[0].Conn, ended[0].Conn); diff != "" || begun[0].Conn.LocalPort != port || begun[0].Process.PID != k.Self().PID {
			t.Errorf("%+v (-begun +ended)\n%s", begun[0], diff)
		}
	})
}

// actAccept is what a pre-forked server does: it accepts on a socket that it got
// from its parent, and waits for the client to close.
func actAccept() error {
	fd, _, err := unix.Accept(3)
	if err != nil {
		return err
	}
	_, err = receive(fd)
	return err
}

// The owner of an accepted connection is who accepted it, not who listens.
func TestTCPOwnerIsWhoAccepted(t *testing.T) {
	eachKind(t, func(t *testing.T, k *Kernel) {
		if int(k.Self().PID) != os.Getpid() {
			t.Log("pids of children are those of another namespace: compared by difference only")
		}
		_, e := newTCPWithEvents(t, k)
		privateNet(t)
		fd, port := listen(t, netip.IPv4Unspecified(), 16)
		child := exec.Command("/proc/self/exe")
		child.Env = append(os.Environ(), "SONDE_TEST_ACT=accept")
		inherited, err := unix.Dup(fd)
		must(t, "dup", err)
		child.ExtraFiles = []*os.File{os.NewFile(uintptr(inherited), "listener")}
		must(t, "start child", child.Start())
		child.ExtraFiles[0].Close()
		client := socket(t, unix.AF_INET, unix.SOCK_STREAM)
		must(t, "connect", unix.Connect(client, at("198.51.100.7", port)))
		unix.Close(client)
		must(t, "child", child.Wait())
		time.Sleep(5 * time.Millisecond)
		got := collect(t, k, e, func(ev *event.Event) bool { return ev.Conn.LocalPort == port && ev.Conn.Inbound })
		for _, p := range []event.Point{event.NetworkAccept, event.NetworkClose} {
			if len(got[p]) != 1 {
				t.Fatalf("%v: %d events, want 1", p, len(got[p]))
			}
			pid := got[p][0].Process.PID
			if pid == k.Self().PID || (int(k.Self().PID) == os.Getpid() && int(pid) != child.Process.Pid) {
				t.Errorf("%v: owner %d, want the child %d", p, pid, child.Process.Pid)
			}
		}
	})
}
