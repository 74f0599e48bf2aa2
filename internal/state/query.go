package state

import (
	"slices"
	"strings"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Host is the name under which processes outside of containers are shown.
const Host = "host"

// Query chooses rows of connections, endpoints or processes.
type Query struct {
	// Container is an id, short or whole, or Host; "" is all of them.
	Container string
	// Raw shows connections as they are, one row each, instead of what they have
	// in common: the normalised view.
	Raw bool
	// Detail shows everything that is known, one row each.
	Detail bool
	// Ended adds what has ended and is still held.
	Ended bool
	// Offset rows are left out, then at most Limit shown; 0 is no limit.
	Offset, Limit int
}

// ShortID is how a container is shown: the first twelve characters of an id of 64,
// any other id (containerd's namespace/name) as it is, Host for "".
func ShortID(id string) string {
	switch {
	case id == "":
		return Host
	case len(id) == 64 && !strings.Contains(id, "/"):
		return id[:12]
	}
	return id
}

// wants reports whether the query is about the container with this id.
func (q *Query) wants(id string) bool {
	return q.Container == "" || q.Container == id || q.Container == ShortID(id)
}

// page returns the rows of a query among all of them.
func page[T any](q *Query, rows []T) []T {
	rows = rows[min(max(q.Offset, 0), len(rows)):]
	if q.Limit > 0 && q.Limit < len(rows) {
		rows = rows[:q.Limit]
	}
	return rows
}

// names numbers the containers of one answer, so that a row takes four bytes for
// its own.
type names struct {
	index map[string]uint32
	all   []string
}

func newNames() *names { return &names{index: map[string]uint32{}} }

func (n *names) number(name string) uint32 {
	i, ok := n.index[name]
	if !ok {
		i = uint32(len(n.all))
		n.index[name] = i
		n.all = append(n.all, name)
	}
	return i
}

// ranks returns, by number, the place of each name in the alphabet, and orders the
// names by it.
func (n *names) ranks() []uint32 {
	order := make([]uint32, len(n.all))
	for i := range order {
		order[i] = uint32(i)
	}
	slices.SortFunc(order, func(a, b uint32) int { return strings.Compare(n.all[a], n.all[b]) })
	ranks, sorted := make([]uint32, len(order)), make([]string, len(order))
	for rank, i := range order {
		ranks[i], sorted[rank] = uint32(rank), n.all[i]
	}
	n.all = sorted
	return ranks
}

// containerOf returns the id that was found when a record was made, else asks
// again: the container may have become known since. It is called without the lock.
func (s *Store) containerOf(id string, owner processKey, cgroup uint64) string {
	if id != "" {
		return id
	}
	return s.containers.ContainerOf(&event.Process{PID: owner.pid, StartNS: owner.startNS, CgroupID: cgroup}, false)
}
