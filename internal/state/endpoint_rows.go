package state

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Endpoint is one row: a socket that takes connections or datagrams, or several
// that look the same.
type Endpoint struct {
	Container string // as ShortID shows it
	Active    bool
	Protocol  uint8
	Address   netip.Addr
	Port      uint16

	// The rest is there with Query.Detail only: the process that made it listen,
	// as it was then.
	PID       uint32
	Comm, Exe string
	Args      string // separated by NUL; "" where arguments are not kept
	OpenedNS  uint64
	ClosedNS  uint64 // 0 while it is open
}

// Endpoints answers a query: how many rows there are in all, and those within
// Offset and Limit, ordered by container, protocol, port and address. Without Raw
// and Detail, endpoints that look the same are one row.
func (s *Store) Endpoints(q Query) (total int, rows []Endpoint) {
	type owned struct {
		Endpoint
		owner  processKey
		cgroup uint64
	}
	var copied []owned
	s.chunks(func(i int) bool {
		return s.endpoints.each(i, func(_ slotID, sl *slot[endpoint]) {
			if r := &sl.rec; sl.phase == live || q.Ended {
				copied = append(copied, owned{s.endpointRow(r, sl.phase == live), r.owner, r.cgroup})
			}
		})
	})
	for _, c := range copied {
		id := s.containerOf(c.Container, c.owner, c.cgroup)
		if q.wants(id) {
			c.Container = ShortID(id)
			rows = append(rows, c.Endpoint)
		}
	}
	slices.SortStableFunc(rows, compareEndpoints)
	if !q.Raw && !q.Detail {
		rows = slices.CompactFunc(rows, func(a, b Endpoint) bool { return sameEndpoint(&a, &b) })
	}
	if !q.Detail {
		for i, r := range rows {
			rows[i] = Endpoint{Container: r.Container, Active: r.Active, Protocol: r.Protocol, Address: r.Address, Port: r.Port}
		}
	}
	return len(rows), page(&q, rows)
}

// endpointRow copies everything; the container as its whole id.
func (s *Store) endpointRow(r *endpoint, active bool) Endpoint {
	return Endpoint{
		Container: s.texts.get(r.group), Active: active, Protocol: r.protocol,
		Address: address(r.family, &r.address), Port: r.port,
		PID: r.owner.pid, Comm: commText(r.comm), Exe: s.texts.get(r.exe), Args: s.texts.get(r.args),
		OpenedNS: r.openedNS, ClosedNS: r.closedNS,
	}
}

// compareEndpoints puts equal ones side by side, the active ones first.
func compareEndpoints(a, b Endpoint) int {
	return cmp.Or(
		strings.Compare(a.Container, b.Container),
		cmp.Compare(a.Protocol, b.Protocol),
		cmp.Compare(a.Port, b.Port),
		a.Address.Compare(b.Address),
		cmp.Compare(b2i(b.Active), b2i(a.Active)),
		cmp.Compare(a.OpenedNS, b.OpenedNS),
	)
}

func sameEndpoint(a, b *Endpoint) bool {
	return a.Container == b.Container && a.Protocol == b.Protocol && a.Port == b.Port && a.Address == b.Address
}
