package state

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
)

// Connection is one row: a connection, or several that look the same.
type Connection struct {
	Container string // as ShortID shows it
	Active    bool
	Inbound   bool
	Protocol  uint8
	Port      uint16       // of the side that serves
	Peer      netip.Prefix // its address, or a network that stands for it
	Network   string       // name of the known network that the peer is in

	// The rest is there with Query.Detail only.
	Local, Remote  netip.AddrPort
	PID            uint32
	Comm, Exe      string // as they are now, "" once the process is forgotten
	OpenedNS       uint64
	ClosedNS       uint64 // 0 while it is open
	Sent, Received uint64 // bytes, as of the last Survey, or at the end
	Measured       bool   // Sent and Received are known
}

// Connections answers a query: how many rows there are in all, before Offset and
// Limit, and the rows, those of one container together. A row is valid until the
// next one. The event path goes on meanwhile; of single connections, those that
// have been forgotten in between are left out.
func (s *Store) Connections(q Query) (total int, rows iter.Seq[*Connection]) {
	if q.Raw || q.Detail {
		return s.connectionsOneByOne(q)
	}
	return s.connectionsTogether(q)
}

// copiedConnection is a record that was copied with the lock held.
type copiedConnection struct {
	connection
	container string
	active    bool
}

// eachConnection calls f for every connection that the query is about, without the
// lock.
func (s *Store) eachConnection(q *Query, f func(slotID, *copiedConnection)) {
	var (
		copied [chunkSlots]copiedConnection
		ids    [chunkSlots]slotID
	)
	for i, more := 0, true; more; i++ {
		n := 0
		s.mu.Lock()
		more = s.connections.each(i, func(id slotID, sl *slot[connection]) {
			if sl.phase == live || q.Ended {
				copied[n], ids[n] = copiedConnection{sl.rec, s.texts.get(sl.rec.group), sl.phase == live}, id
				n++
			}
		})
		s.mu.Unlock()
		for j := range n {
			c := &copied[j]
			c.container = s.containerOf(c.container, c.owner, c.cgroup)
			if q.wants(c.container) {
				f(ids[j], c)
			}
		}
	}
}

// ---- together: the normalised view ----

// group is a flow of a container. It has no pointers, and takes 32 bytes.
type group struct {
	container uint32
	quiet     bool // no connection of it is active
	flow
}

func compareGroups(a, b group) int {
	return cmp.Or(cmp.Compare(a.container, b.container), compareFlows(&a.flow, &b.flow), cmp.Compare(b2i(a.quiet), b2i(b.quiet)))
}

// compactGroups sorts groups and keeps one of each, an active one if there is any.
func compactGroups(groups []group) []group {
	slices.SortFunc(groups, compareGroups)
	return slices.CompactFunc(groups, func(a, b group) bool { return a.container == b.container && a.flow == b.flow })
}

// The slice of groups starts with this capacity, and is compacted before it grows.
const fewGroups = 4096

func (s *Store) connectionsTogether(q Query) (int, iter.Seq[*Connection]) {
	n, containers := s.networks.Load(), newNames()
	groups := make([]group, 0, fewGroups)
	s.eachConnection(&q, func(_ slotID, c *copiedConnection) {
		f, ok := s.normalise(n, &c.connection)
		if !ok {
			return
		}
		if len(groups) == cap(groups) {
			if groups = compactGroups(groups); len(groups) > cap(groups)/2 {
				groups = slices.Grow(groups, cap(groups))
			}
		}
		groups = append(groups, group{containers.number(ShortID(c.container)), !c.active, f})
	})
	ranks := containers.ranks()
	for i := range groups {
		groups[i].container = ranks[groups[i].container]
	}
	groups = compactGroups(groups)
	return len(groups), func(yield func(*Connection) bool) {
		var row Connection
		for _, g := range page(&q, groups) {
			peer := g.prefix()
			row = Connection{
				Container: containers.all[g.container], Active: !g.quiet, Inbound: g.inbound,
				Protocol: g.protocol, Port: g.port, Peer: peer, Network: n.nameOf(peer.Addr()),
			}
			if !yield(&row) {
				return
			}
		}
	}
}

// ---- one by one ----

// reference names a connection that will be read again. It takes 24 bytes.
type reference struct {
	openedNS  uint64
	key       uint64
	slot      slotID
	container uint32
}

func compareReferences(a, b reference) int {
	return cmp.Or(cmp.Compare(a.container, b.container), cmp.Compare(a.openedNS, b.openedNS), cmp.Compare(a.key, b.key))
}

func (s *Store) connectionsOneByOne(q Query) (int, iter.Seq[*Connection]) {
	n, containers := s.networks.Load(), newNames()
	var references []reference
	s.eachConnection(&q, func(id slotID, c *copiedConnection) {
		if _, ok := s.normalise(n, &c.connection); ok || q.Raw {
			references = append(references, reference{c.openedNS, c.key, id, containers.number(ShortID(c.container))})
		}
	})
	ranks := containers.ranks()
	for i := range references {
		references[i].container = ranks[references[i].container]
	}
	slices.SortFunc(references, compareReferences)
	return len(references), func(yield func(*Connection) bool) {
		wanted := page(&q, references)
		for batch := range slices.Chunk(wanted, fetchBatch) {
			if !s.yieldRows(&q, n, containers.all, batch, yield) {
				return
			}
		}
	}
}

// fetchBatch is how many rows are fetched while the event path waits.
const fetchBatch = 64

// fetched is a record with what is known of its owner.
type fetched struct {
	connection
	active    bool
	container uint32
	comm, exe string
}

func (s *Store) yieldRows(q *Query, n *networks, containers []string, batch []reference, yield func(*Connection) bool) bool {
	var (
		records [fetchBatch]fetched
		row     Connection
	)
	for i := range s.fetch(batch, &records) {
		r := &records[i]
		remote := address(r.family, &r.remote)
		peer := single(remote)
		if !q.Raw {
			var ok bool
			if peer, ok = n.shown(s.classOf(remote), remote, r.inbound); !ok {
				continue
			}
		}
		row = Connection{
			Container: containers[r.container], Active: r.active, Inbound: r.inbound, Protocol: r.protocol,
			Port: r.servicePort(), Peer: peer, Network: n.nameOf(remote),
		}
		if q.Detail {
			row.Local = netip.AddrPortFrom(address(r.family, &r.local), r.local16)
			row.Remote = netip.AddrPortFrom(remote, r.remote16)
			row.PID, row.Comm, row.Exe = r.owner.pid, r.comm, r.exe
			row.OpenedNS, row.ClosedNS = r.openedNS, r.closedNS
			row.Sent, row.Received, row.Measured = r.sent, r.received, r.measured
		}
		if !yield(&row) {
			return false
		}
	}
	return true
}

// fetch copies the records that are still there and returns how many.
func (s *Store) fetch(batch []reference, records *[fetchBatch]fetched) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ref := range batch {
		sl := s.connections.held(ref.slot)
		if sl == nil || sl.rec.key != ref.key || sl.rec.openedNS != ref.openedNS {
			continue
		}
		f := &records[n]
		*f = fetched{connection: sl.rec, active: sl.phase == live, container: ref.container}
		if owner := s.processes.find(sl.rec.owner); owner != nil {
			f.comm, f.exe = commText(owner.rec.comm), s.texts.get(owner.rec.exe)
		}
		n++
	}
	return n
}
