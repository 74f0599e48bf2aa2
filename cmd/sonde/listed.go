package main

import (
	"net/netip"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// listedTCP lists the listening sockets and the open connections, for a kernel that
// does not let the tcp probe look itself.
func (m machine) listedTCP(yield func(bpf.ListedSocket)) error {
	return m.fs.TCPSockets(func(s procfs.Socket) {
		listed := bpf.ListedSocket{NetNS: s.NetNS, Local: s.Local, Remote: s.Remote}
		switch s.State {
		case procfs.SocketListen:
			listed.Remote = netip.AddrPort{}
		case procfs.SocketSynSent, procfs.SocketSynRecv, procfs.SocketTimeWait, procfs.SocketClose:
			return // not yet, or no more
		}
		yield(listed)
	})
}

// listedUDP lists the endpoints and the sockets with a peer.
func (m machine) listedUDP(yield func(bpf.ListedSocket)) error {
	return m.fs.UDPSockets(func(s procfs.Socket) {
		listed := bpf.ListedSocket{NetNS: s.NetNS, Local: s.Local}
		if s.State == procfs.SocketEstablished {
			listed.Remote = s.Remote
		}
		yield(listed)
	})
}
