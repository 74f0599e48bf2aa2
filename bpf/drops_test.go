package bpf

import (
	"errors"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

func newDrops(tb testing.TB, k *Kernel) *Drops {
	tb.Helper()
	d, err := NewDrops(k)
	if errors.Is(err, errors.ErrUnsupported) {
		testenv.Skip(tb, err.Error())
	}
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

// count returns the drops of one reason.
func (d *Drops) count(tb testing.TB, reason string) uint64 {
	tb.Helper()
	stats, err := d.Read()
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range stats {
		if s.Reason == reason {
			return s.Count
		}
	}
	return 0
}

// The node drops packets for reasons of its own while these tests run. Two that
// hardly anything but a fault brings about are provoked, by the thousand, in a
// network namespace of the test's own, whose statistics say how many there were.
func TestDropsCountExactly(t *testing.T) {
	const n = 5000
	to := netip.MustParseAddr("127.0.0.1")
	for _, test := range []struct {
		reason, statistic string
		receiver          func(t *testing.T) uint16 // returns the port to send to
	}{
		{"no_socket", "NoPorts", func(t *testing.T) uint16 {
			fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
			must(t, "bind", unix.Bind(fd, sockaddr(netip.AddrPortFrom(to, 0), false)))
			port := portOf(t, fd)
			unix.Close(fd)
			return port
		}},
		{"socket_rcvbuff", "RcvbufErrors", func(t *testing.T) uint16 {
			fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
			t.Cleanup(func() { unix.Close(fd) })
			must(t, "shrink receive buffer", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
			must(t, "bind", unix.Bind(fd, sockaddr(netip.AddrPortFrom(to, 0), false)))
			return portOf(t, fd)
		}},
	} {
		t.Run(test.reason, func(t *testing.T) {
			eachKind(t, func(t *testing.T, k *Kernel) {
				d := newDrops(t, k)
				privateNet(t)
				port := test.receiver(t)
				sa := sockaddr(netip.AddrPortFrom(to, port), false)
				fd := socket(t, unix.AF_INET, unix.SOCK_DGRAM)
				defer unix.Close(fd)
				for range 5 { // somebody else's drops spoil a round, never all of them
					counted, real := d.round(t, test.reason, test.statistic, func() {
						for range n {
							must(t, "send", unix.Sendto(fd, []byte("nobody wants me"), 0, sa))
						}
					})
					if real < n-100 {
						t.Fatalf("%d datagrams sent, only %d dropped", n, real)
					}
					if counted == real {
						return
					}
					t.Logf("counted %d of %d drops", counted, real)
				}
				t.Error("never counted exactly")
			})
		})
	}
}

// round drops packets and returns how many were counted and how many there were.
// Drops that were counted without their reason make up for missing ones.
func (d *Drops) round(t *testing.T, reason, statistic string, drop func()) (counted, real uint64) {
	t.Helper()
	real, counted = snmp(t, "Udp", statistic), d.count(t, reason)
	hidden := d.count(t, dropUnattributed)
	drop()
	real, counted = snmp(t, "Udp", statistic)-real, d.count(t, reason)-counted
	hidden = d.count(t, dropUnattributed) - hidden
	if counted < real {
		counted += min(hidden, real-counted)
	}
	return counted, real
}

// snmp reads one number of the calling thread's network namespace.
func snmp(t *testing.T, protocol, name string) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/thread-self/net/snmp")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		switch {
		case fields[0] != protocol+":":
		case names == nil:
			names = fields
		default:
			for i := range names {
				if names[i] == name {
					n, err := strconv.ParseUint(fields[i], 10, 64)
					must(t, "parse "+line, err)
					return n
				}
			}
		}
	}
	t.Fatalf("no %s %s in snmp", protocol, name)
	return 0
}

// What is no drop has no name, and what is one has its kernel's.
func TestDropReasons(t *testing.T) {
	k := newKernel(t, Options{})
	names, err := dropReasons(k)
	if errors.Is(err, errors.ErrUnsupported) {
		testenv.Skip(t, err.Error())
	}
	must(t, "read reasons", err)
	seen := map[string]bool{}
	for value, name := range names {
		if value == 0 || value >= uint32(len(dropsCpuDrops{}.Core)) || name != strings.ToLower(name) || seen[name] {
			t.Errorf("reason %d is called %q", value, name)
		}
		seen[name] = true
	}
	for _, name := range []string{"not_specified", "no_socket", "socket_rcvbuff"} {
		if !seen[name] {
			t.Errorf("no reason is called %q", name)
		}
	}
	for _, name := range []string{"max", "subsys_mask", "consumed", "skb_consumed", "not_dropped_yet"} {
		if seen[name] {
			t.Errorf("%q is taken for a reason", name)
		}
	}
}
