package state

import (
	"bytes"
	"cmp"
	"net/netip"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// flow is what equal connections have in common in the normalised view: the peer
// as it is shown, the protocol, and the port of the side that serves. It has no
// pointers: there may be many.
type flow struct {
	peer     [16]byte
	port     uint16
	bits     uint8
	family   event.Family
	protocol uint8
	inbound  bool
}

// normalise returns the flow of a connection; false if it is not shown.
func (s *Store) normalise(n *networks, c *connection) (f flow, ok bool) {
	remote := address(c.family, &c.remote)
	peer, ok := n.shown(s.classOf(remote), remote, c.inbound)
	if !ok {
		return flow{}, false
	}
	return newFlow(c, peer), true
}

// renormalise is normalise of a flow whose peer is a single address.
func (s *Store) renormalise(n *networks, f flow) (shown flow, ok bool) {
	remote := address(f.family, &f.peer)
	peer, ok := n.shown(s.classOf(remote), remote, f.inbound)
	if ok {
		f.setPeer(peer)
	}
	return f, ok
}

func newFlow(c *connection, peer netip.Prefix) flow {
	f := flow{port: c.servicePort(), protocol: c.protocol, inbound: c.inbound}
	f.setPeer(peer)
	return f
}

func (f *flow) setPeer(peer netip.Prefix) {
	f.peer, f.bits, f.family = [16]byte{}, uint8(peer.Bits()), event.IPv6
	if peer.Addr().Is4() {
		f.family = event.IPv4
		four := peer.Addr().As4()
		copy(f.peer[:], four[:])
	} else {
		f.peer = peer.Addr().As16()
	}
}

// servicePort is the port of the side that serves.
func (c *connection) servicePort() uint16 {
	if c.inbound {
		return c.local16
	}
	return c.remote16
}

// prefix returns the peer as it is shown.
func (f *flow) prefix() netip.Prefix {
	return netip.PrefixFrom(address(f.family, &f.peer), int(f.bits))
}

func compareFlows(a, b *flow) int {
	return cmp.Or(
		cmp.Compare(b2i(a.inbound), b2i(b.inbound)),
		cmp.Compare(a.protocol, b.protocol),
		cmp.Compare(a.port, b.port),
		cmp.Compare(a.family, b.family),
		bytes.Compare(a.peer[:], b.peer[:]),
		cmp.Compare(a.bits, b.bits),
	)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
