package state

import (
	"net/netip"
	"slices"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Class is the class of a peer's address.
type Class uint8

// The classes.
const (
	Public Class = iota
	Private
	Loopback
)

// ClassNetwork is a network whose peers are of one class.
type ClassNetwork struct {
	Prefix netip.Prefix
	Class  Class
}

// Network is a network with a name.
type Network struct {
	Name   string
	Prefix netip.Prefix
}

// Networking says how connections are shown and reported. It is the part of the
// runtime configuration that concerns this package.
type Networking struct {
	// For which direction the addresses of public peers are kept; for the other
	// one they are replaced by the address of all ones.
	ExternalIngress, ExternalEgress bool
	// Known networks stand for the public addresses in them.
	Known []Network
	// Connections with peers in Ignored networks are neither shown nor reported.
	Ignored []netip.Prefix
	// Addresses in NonAggregated networks are kept whatever else is said of them.
	NonAggregated []netip.Prefix

	// Afterglow is how long a connection counts as active after its end, for
	// reports alone.
	Afterglow time.Duration
	// PerMinute limits the new connections that are reported of each container;
	// 0 is no limit.
	PerMinute int
}

// networks is a Networking made ready. It never changes.
type networks struct {
	Networking
	known         *ranges
	ignored       *ranges
	nonAggregated *ranges
}

// SetNetworking changes how connections are shown from now on.
func (s *Store) SetNetworking(n Networking) {
	known := make([]netip.Prefix, len(n.Known))
	for i, k := range n.Known {
		known[i] = unmapped(k.Prefix)
	}
	now := &networks{n, newRanges(known), newRanges(allUnmapped(n.Ignored)), newRanges(allUnmapped(n.NonAggregated))}
	if old := s.networks.Swap(now); old != nil && !now.showsAs(old) {
		select {
		case s.shownAnew <- struct{}{}:
		default: // told already
		}
	}
}

// showsAs reports whether two settings show every peer alike.
func (n *networks) showsAs(m *networks) bool {
	return n == m || n.ExternalIngress == m.ExternalIngress && n.ExternalEgress == m.ExternalEgress &&
		slices.Equal(n.Known, m.Known) && slices.Equal(n.Ignored, m.Ignored) && slices.Equal(n.NonAggregated, m.NonAggregated)
}

// KnownNetworks returns how many networks have a name.
func (s *Store) KnownNetworks() int { return len(s.networks.Load().Known) }

func newClasses(networks []ClassNetwork) *ranges {
	prefixes := make([]netip.Prefix, len(networks))
	classes := make([]int, len(networks))
	for i, n := range networks {
		prefixes[i], classes[i] = unmapped(n.Prefix), int(n.Class)
	}
	r := newRanges(prefixes)
	for i, v := range r.values {
		if v < 0 {
			r.values[i] = int(Public)
		} else {
			r.values[i] = classes[v]
		}
	}
	return r
}

func (s *Store) classOf(a netip.Addr) Class { return Class(s.classes.find(a)) }

// unmapped writes a prefix of v4-mapped addresses as one of IPv4 addresses, as
// events do.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

func allUnmapped(all []netip.Prefix) []netip.Prefix {
	out := make([]netip.Prefix, len(all))
	for i, p := range all {
		out[i] = unmapped(p)
	}
	return out
}

// anyPeer4 and anyPeer6 stand for all public peers together.
var (
	anyPeer4 = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	anyPeer6 = netip.AddrFrom16([16]byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})
)

// shown returns what the normalised view shows of a peer; false if it shows
// nothing.
func (n *networks) shown(class Class, a netip.Addr, inbound bool) (netip.Prefix, bool) {
	if class == Loopback || n.ignored.find(a) >= 0 {
		return netip.Prefix{}, false
	}
	if class == Private || n.nonAggregated.find(a) >= 0 {
		return single(a), true
	}
	if i := n.known.find(a); i >= 0 {
		return unmapped(n.Known[i].Prefix).Masked(), true
	}
	if inbound && n.ExternalIngress || !inbound && n.ExternalEgress {
		return single(a), true
	}
	if a.Is4() {
		return single(anyPeer4), true
	}
	return single(anyPeer6), true
}

// nameOf returns the name of the network that the address is in, "" for none.
func (n *networks) nameOf(a netip.Addr) string {
	if i := n.known.find(a); i >= 0 {
		return n.Known[i].Name
	}
	return ""
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// address reads an address of an event.
func address(f event.Family, raw *[16]byte) netip.Addr {
	if f == event.IPv4 {
		return netip.AddrFrom4([4]byte(raw[:4]))
	}
	return netip.AddrFrom16(*raw).Unmap()
}
