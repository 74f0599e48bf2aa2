package state

import (
	"encoding/binary"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// IP protocols that have connections.
const (
	TCP = 6
	UDP = 17
)

// connection is one side of a connection, or a UDP flow.
type connection struct {
	key      uint64
	openedNS uint64
	closedNS uint64
	owner    processKey
	cgroup   uint64
	sent     uint64
	received uint64
	local    [16]byte
	remote   [16]byte
	group    textID // id of the container
	ports
	family   event.Family
	protocol uint8
	inbound  bool
	measured bool // sent and received are known
}

type ports struct{ local16, remote16 uint16 }

// connections is the table of connections.
type connections struct {
	table[connection]
	index map[uint64]slotID
}

func newConnections(n int) connections {
	return connections{table: table[connection]{max: n}, index: map[uint64]slotID{}}
}

// connectionKey tells connections apart. A TCP socket has one; a UDP socket has one
// with each peer.
func connectionKey(c *event.Conn) uint64 {
	if c.Protocol != UDP {
		return c.Cookie
	}
	h := c.Cookie
	for _, word := range [...]uint64{
		binary.NativeEndian.Uint64(c.Remote[:8]), binary.NativeEndian.Uint64(c.Remote[8:]), uint64(c.RemotePort),
	} {
		h = (h ^ word) * 0x9e3779b97f4a7c15 // spreads; the multiplier is 2^64 divided by the golden ratio
		h ^= h >> 29
	}
	return h
}

// applyOpen enters a connection that was established, or whose owner is known now.
func (s *Store) applyOpen(ev *event.Event) {
	container := s.containers.ContainerOf(&ev.Process, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enterConnection(ev, container)
}

func (s *Store) enterConnection(ev *event.Event, container string) slotID {
	t, c := &s.connections, &ev.Conn
	key := connectionKey(c)
	id := t.index[key]
	if id != 0 && !t.at(id).rec.same(c) { // the socket's end has passed unseen
		t.drift++
		s.endConnection(id, ev.TimeNS)
		id = 0
	}
	if id == 0 {
		if t.len() >= t.max {
			t.evictions++
			s.forgetConnection(t.oldest())
		}
		id, _ = t.insert()
		t.index[key] = id
		t.at(id).rec = newConnection(key, ev)
	}
	rec := &t.at(id).rec
	rec.owner, rec.cgroup = keyOf(&ev.Process), ev.Process.CgroupID
	s.retext(&rec.group, container)
	return id
}

func newConnection(key uint64, ev *event.Event) connection {
	c := &ev.Conn
	opened := c.OpenedNS
	if opened == 0 {
		opened = ev.TimeNS
	}
	return connection{
		key: key, openedNS: opened,
		local: c.Local, remote: c.Remote, ports: ports{c.LocalPort, c.RemotePort},
		family: c.Family, protocol: c.Protocol, inbound: c.Inbound,
	}
}

// same tells a connection from a later one of a socket with the same identity.
func (c *connection) same(o *event.Conn) bool {
	return c.protocol == o.Protocol && c.family == o.Family && c.ports == ports{o.LocalPort, o.RemotePort} && c.remote == o.Remote
}

// measure takes over what has been sent and received; of UDP nobody counts it.
func (c *connection) measure(o *event.Conn) {
	if o.Protocol != UDP {
		c.sent, c.received, c.measured = o.Sent, o.Received, true
	}
}

// applyClose ends a connection or an endpoint. An inbound connection that nobody
// has accepted was never entered.
func (s *Store) applyClose(ev *event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := s.connections.index[connectionKey(&ev.Conn)]; id != 0 {
		rec := &s.connections.at(id).rec
		rec.measure(&ev.Conn)
		s.endConnection(id, ev.TimeNS)
		return
	}
	if id := s.endpoints.index[ev.Conn.Cookie]; id != 0 {
		s.endEndpoint(id, ev.TimeNS)
	}
}

// endConnection takes a live connection out of the index: its socket may be
// another's at once.
func (s *Store) endConnection(id slotID, now uint64) {
	if s.endings != nil {
		s.endings.note(s, &s.connections.at(id).rec, now)
	}
	if s.keep.connections == 0 {
		s.forgetConnection(id)
		return
	}
	rec := &s.connections.at(id).rec
	delete(s.connections.index, rec.key)
	rec.closedNS = now
	s.connections.end(id)
}

func (s *Store) forgetConnection(id slotID) {
	t := &s.connections
	rec := &t.at(id).rec
	if t.index[rec.key] == id {
		delete(t.index, rec.key)
	}
	s.texts.drop(rec.group)
	t.remove(id)
}
