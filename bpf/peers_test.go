package bpf

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// edges returns the addresses on either side of both ends of every network.
func edges() []netip.Addr {
	var addrs []netip.Addr
	for _, n := range PeerNetworks() {
		first, last := n.Prefix.Masked().Addr(), lastAddr(n.Prefix)
		addrs = append(addrs, first.Prev(), first, last, last.Next())
	}
	return addrs
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func TestPeerOf(t *testing.T) {
	for addr, want := range map[string]Peer{
		"126.255.255.255": Public, "127.0.0.1": Loopback, "::1": Loopback, "::2": Public,
		"172.15.255.255": Public, "172.31.255.255": Private, "100.127.0.1": Private, "100.128.0.0": Public,
		"169.254.169.254": Private, "fe80::1%lo": Private, "fec0::": Public, "fdff::1": Private,
		"::ffff:10.0.0.1": Private, "::ffff:127.0.0.1": Loopback, "::ffff:1.1.1.1": Public,
	} {
		if got := PeerOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v, want %v", addr, got, want)
		}
	}
}

// The kernel side holds a list of its own: at every edge both must agree.
func TestPeerClassesOfTheKernelAreThoseOfGo(t *testing.T) {
	u, _ := newUDP(t, UDPOptions{})
	privateNet(t)
	for _, mapped := range []bool{false, true} {
		for _, addr := range edges() {
			if mapped && addr.Is6() || addr == netip.IPv6Unspecified() {
				continue
			}
			to := sockaddr(netip.AddrPortFrom(addr, 9), mapped)
			if to, ok := to.(*unix.SockaddrInet6); ok && addr.IsLinkLocalUnicast() && !mapped {
				to.ZoneId = 1
			}
			fd := socket(t, familyOf(to), unix.SOCK_DGRAM)
			must(t, "set SO_BROADCAST", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1)) // 127.255.255.255
			flowsAdded(t, u, PeerOf(addr), opens(1, 0), func() { must(t, "send to "+addr.String(), unix.Sendto(fd, []byte{1}, 0, to)) })
			unix.Close(fd)
		}
	}
}
