package bpf

import (
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// ListedSocket is an open socket as a list of the kernel's shows it.
type ListedSocket struct {
	NetNS uint32 // inode number of its network namespace
	// Local and Remote have v4-mapped addresses as IPv4. Remote is zero where the
	// socket has no peer: it listens, or it is a UDP endpoint.
	Local, Remote netip.AddrPort
}

// SocketList lists the open sockets of one protocol. It is asked where the kernel
// refuses to iterate over files, twice.
type SocketList func(yield func(ListedSocket)) error

// listing is what a probe starts with where it has a list only: the sockets on it
// are in the gauges until the kernel side meets them and takes them off. It does not
// change once it is made.
type listing struct {
	conns     [Directions][Peers]uint64
	endpoints uint64

	m    *ebpf.Map
	list SocketList
	role func(s *ListedSocket, listening map[listedPort]bool) (inbound bool)
	was  map[tcpListKey]tcpListEntry
}

type listedPort struct {
	netNS uint32
	port  uint16
}

// byListener says that a connection is inbound where somebody listens at its port.
func byListener(s *ListedSocket, listening map[listedPort]bool) bool {
	return listening[listedPort{s.NetNS, s.Local.Port()}]
}

// byPorts has the ports guess.
func byPorts(s *ListedSocket, _ map[listedPort]bool) bool {
	return event.GuessInbound(s.Local.Port(), s.Remote.Port())
}

// useListing makes room for a list in an object that is loaded without iterators.
func useListing(list SocketList, sockets uint32) func(*ebpf.CollectionSpec) error {
	return func(spec *ebpf.CollectionSpec) error {
		if list == nil {
			return nil
		}
		spec.Maps["listed"].MaxEntries = sockets
		if err := spec.Variables["use_listed"].Set(true); err != nil {
			return fmt.Errorf("set use_listed: %w", err)
		}
		return nil
	}
}

// begin enters what is on the list, before anything is attached. It returns what is
// amiss, for people.
func (l *listing) begin(o *object) string {
	if l.list == nil {
		return fmt.Sprintf("sockets are only known from their start: %v", o.refused)
	}
	if err := l.enter(o); err != nil {
		l.list = nil
		return fmt.Sprintf("sockets are only known from their start: %v; %v", o.refused, err)
	}
	return fmt.Sprintf("sockets that were there before are known from a list: %v", o.refused)
}

func (l *listing) enter(o *object) (err error) {
	l.m = o.coll.Maps["listed"]
	if l.was, err = l.read(); err != nil {
		return err
	}
	var failures uint64
	for key, v := range l.was {
		if err := l.m.Put(key, v); err != nil { // full
			failures += v.N
			delete(l.was, key)
			continue
		}
		l.count(&key, &v, v.N)
	}
	if err := o.coll.Variables["listed_failures"].Set(failures); err != nil {
		return fmt.Errorf("set listed_failures: %w", err)
	}
	return nil
}

// prune lists again once everything is attached: what ended in between has ended
// unseen.
func (l *listing) prune() error {
	if l.list == nil {
		return nil
	}
	is, err := l.read()
	if err != nil {
		return err
	}
	for key, was := range l.was {
		var now tcpListEntry
		if err := l.m.Lookup(key, &now); err != nil {
			return fmt.Errorf("look up listed socket: %w", err)
		}
		left := min(is[key].N, now.N)
		if left == now.N {
			continue
		}
		l.count(&key, &was, -(now.N - left))
		now.N = left
		if err := l.m.Put(key, now); err != nil {
			return fmt.Errorf("take a socket off the list: %w", err)
		}
	}
	l.was = nil
	return nil
}

func (l *listing) count(key *tcpListKey, v *tcpListEntry, n uint64) {
	if key.RemotePort == 0 {
		l.endpoints += n
	} else {
		l.conns[v.Direction][v.Peer] += n
	}
}

// read reads the list and counts the sockets that look the same.
func (l *listing) read() (map[tcpListKey]tcpListEntry, error) {
	var all []ListedSocket
	listening := map[listedPort]bool{}
	err := l.list(func(s ListedSocket) {
		all = append(all, s)
		if s.Remote.Port() == 0 {
			listening[listedPort{s.NetNS, s.Local.Port()}] = true
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list sockets: %w", err)
	}
	entries := map[tcpListKey]tcpListEntry{}
	for i := range all {
		s := &all[i]
		key := s.key()
		v, known := entries[key]
		if !known && key.RemotePort != 0 {
			v.Direction, v.Peer = uint8(Outbound), uint8(PeerOf(s.Remote.Addr()))
			if l.role(s, listening) {
				v.Direction = uint8(Inbound)
			}
		}
		v.N++
		entries[key] = v
	}
	return entries, nil
}

func (s *ListedSocket) key() tcpListKey {
	key := tcpListKey{Net: s.NetNS, LocalPort: s.Local.Port(), RemotePort: s.Remote.Port(), Family: uint8(event.IPv6)}
	shown := s.Local.Addr()
	if s.Remote.Port() != 0 {
		shown = s.Remote.Addr()
	}
	if shown.Is4() {
		key.Family = uint8(event.IPv4)
	}
	copy(bytesOf(&key.Local), s.Local.Addr().AsSlice())
	if s.Remote.Port() != 0 {
		copy(bytesOf(&key.Remote), s.Remote.Addr().AsSlice())
	}
	return key
}
