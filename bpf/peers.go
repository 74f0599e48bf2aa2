package bpf

import "net/netip"

// PeerNetwork is one network and the class of the peers in it.
type PeerNetwork struct {
	Prefix netip.Prefix
	Peer   Peer
}

// PeerNetworks returns the networks that decide a peer's class. They do not
// overlap, and every address outside them is Public. The kernel side holds the
// same list (headers/net.bpf.h). A v4-mapped address is classed as IPv4.
func PeerNetworks() []PeerNetwork {
	var networks []PeerNetwork
	add := func(peer Peer, prefixes ...string) {
		for _, p := range prefixes {
			networks = append(networks, PeerNetwork{Prefix: netip.MustParsePrefix(p), Peer: peer})
		}
	}
	add(Loopback, "127.0.0.0/8", "::1/128")
	add(Private, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10")
	return networks
}

// PeerOf returns the class of a remote address.
func PeerOf(a netip.Addr) Peer {
	a = a.Unmap().WithZone("")
	for _, n := range PeerNetworks() {
		if n.Prefix.Contains(a) {
			return n.Peer
		}
	}
	return Public
}
