package state

// maxEndings bounds what is noted of ended connections between two reports. Those
// that differ by the port of the side that connects alone take one entry, of about
// 100 bytes.
const maxEndings = 65536

// endings notes for a Reporter which connections have ended, so that the Store need
// not keep each of them until it asks. It is guarded by the Store's lock.
type endings struct {
	flows map[endedFlow]uint64 // when the last one of it ended
	spare map[endedFlow]uint64 // empty; saves making one anew
	max   int
	lost  uint64 // endings that found no room
}

// endedFlow is a flow as it was, not yet as it is shown: that may change.
type endedFlow struct {
	flow             // its peer is a single address
	container string // "" where it was not known; then who owned it
	owner     processKey
	cgroup    uint64
}

func newEndings(n int) *endings {
	return &endings{flows: map[endedFlow]uint64{}, spare: map[endedFlow]uint64{}, max: n}
}

// note notes the end of a connection.
func (e *endings) note(s *Store, c *connection, now uint64) {
	remote := address(c.family, &c.remote)
	if s.classOf(remote) == Loopback {
		return // never reported
	}
	k := endedFlow{flow: newFlow(c, single(remote)), container: s.texts.get(c.group)}
	if k.container == "" {
		k.owner, k.cgroup = c.owner, c.cgroup
	}
	if at, known := e.flows[k]; known || len(e.flows) < e.max {
		e.flows[k] = max(at, now)
		return
	}
	e.lost++
}

// each calls f for every flow of which a connection has ended since the last call,
// without the lock, and returns how many endings found no room in all.
func (e *endings) each(s *Store, f func(k *endedFlow, container string, atNS uint64)) (lost uint64) {
	s.mu.Lock()
	taken := e.flows
	e.flows, e.spare = e.spare, nil
	lost = e.lost
	s.mu.Unlock()
	for k, at := range taken {
		f(&k, s.containerOf(k.container, k.owner, k.cgroup), at)
	}
	clear(taken)
	s.mu.Lock()
	e.spare = taken
	s.mu.Unlock()
	return lost
}
