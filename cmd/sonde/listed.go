package main

import (
	"net/netip"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/state"
)

// listedTCP lists the listening sockets and the open connections, for a kernel that
// does not let the tcp probe look itself.
func (m machine) listedTCP(yield func(bpf.ListedSocket)) error {
	return m.openTCP(func(s procfs.Socket) { yield(bpf.ListedSocket{NetNS: s.NetNS, Local: s.Local, Remote: s.Remote}) })
}

// listedUDP lists the endpoints and the sockets with a peer.
func (m machine) listedUDP(yield func(bpf.ListedSocket)) error {
	return m.openUDP(func(s procfs.Socket) { yield(bpf.ListedSocket{NetNS: s.NetNS, Local: s.Local, Remote: s.Remote}) })
}

// openTCP lists sockets that listen, without a Remote, and those that are connected.
func (m machine) openTCP(yield func(procfs.Socket)) error {
	return m.fs.TCPSockets(func(s procfs.Socket) {
		switch s.State {
		case procfs.SocketListen:
			s.Remote = netip.AddrPort{}
		case procfs.SocketSynSent, procfs.SocketSynRecv, procfs.SocketTimeWait, procfs.SocketClose:
			return // not yet, or no more
		}
		yield(s)
	})
}

// openUDP lists endpoints, without a Remote, and sockets that are connected.
func (m machine) openUDP(yield func(procfs.Socket)) error {
	return m.fs.UDPSockets(func(s procfs.Socket) {
		if s.State != procfs.SocketEstablished {
			s.Remote = netip.AddrPort{}
		}
		yield(s)
	})
}

// listedSockets lists the open sockets of the protocols that are wanted as the picture
// takes them.
func (m machine) listedSockets(tcp, udp bool) (all []state.Socket, err error) {
	holders, err := m.fs.SocketHolders()
	if err != nil {
		return nil, err
	}
	type port struct {
		netNS  uint32
		number uint16
	}
	var namespaces []uint32
	listening := map[port]bool{}
	add := func(protocol uint8) func(procfs.Socket) {
		return func(s procfs.Socket) {
			k := state.Socket{Listener: s.Remote.Port() == 0, RoleUnknown: protocol == state.UDP}
			k.Owner.PID = holders[s.Inode]
			k.Conn.Protocol, k.Conn.Inbound = protocol, k.Listener
			k.Conn.Family, k.Conn.Local, k.Conn.LocalPort = sideOf(s.Local)
			if k.Listener {
				listening[port{s.NetNS, s.Local.Port()}] = true
			} else {
				k.Conn.Family, k.Conn.Remote, k.Conn.RemotePort = sideOf(s.Remote)
			}
			all, namespaces = append(all, k), append(namespaces, s.NetNS)
		}
	}
	if tcp {
		if err := m.openTCP(add(state.TCP)); err != nil {
			return nil, err
		}
		for i := range all { // whoever is connected at a port that is listened at was called
			c := &all[i].Conn
			c.Inbound = listening[port{namespaces[i], c.LocalPort}]
		}
	}
	if udp {
		err = m.openUDP(add(state.UDP))
	}
	return all, err
}

// sideOf is an address as events have it.
func sideOf(a netip.AddrPort) (family event.Family, raw [16]byte, port uint16) {
	family = event.IPv6
	if a.Addr().Is4() {
		family = event.IPv4
	}
	copy(raw[:], a.Addr().AsSlice())
	return family, raw, a.Port()
}
