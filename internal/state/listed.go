package state

import (
	"hash/maphash"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// ends is what a list tells of a socket.
type ends struct {
	local, remote [16]byte
	ports
	family   event.Family
	protocol uint8
	listener bool
}

// Listed shows all sockets that are open as a list has them: without the identities by
// which events know them, so that Conn.Cookie means nothing, and of an Owner no more
// than its PID, 0 if that is not known. It is for a kernel that shows nothing better. A
// socket that events have told of is known by its ends; another one is entered under an
// identity of its own, and ends when lists do not have it any more, because the event of
// its end tells another identity. Finish then ends only such sockets.
func (v *Survey) Listed(all []Socket) {
	v.listed = true
	known := v.s.byEnds()
	count := map[ends]int{} // of sockets that look the same
	for _, k := range all {
		e := endsOf(&k)
		n := count[e]
		count[e]++
		if keys := known[e]; n < len(keys) {
			v.see(keys[n], k.Listener)
			continue
		}
		k.Conn.Cookie = maphash.Comparable(v.s.seed, struct {
			ends
			n int
		}{e, n})
		v.s.fillOwner(&k.Owner)
		v.enter(k, true)
	}
}

func endsOf(k *Socket) ends {
	c := &k.Conn
	return ends{c.Local, c.Remote, ports{c.LocalPort, c.RemotePort}, c.Family, c.Protocol, k.Listener}
}

// byEnds returns the keys of what is live, those first that events have told of.
func (s *Store) byEnds() map[ends][]uint64 {
	all, listed := map[ends][]uint64{}, map[ends][]uint64{}
	add := func(e ends, key uint64, fromList bool) {
		if fromList {
			listed[e] = append(listed[e], key)
		} else {
			all[e] = append(all[e], key)
		}
	}
	s.chunks(func(i int) bool {
		return s.connections.each(i, func(_ slotID, sl *slot[connection]) {
			if r := &sl.rec; sl.phase == live {
				add(ends{r.local, r.remote, r.ports, r.family, r.protocol, false}, r.key, sl.listed)
			}
		})
	})
	s.chunks(func(i int) bool {
		return s.endpoints.each(i, func(_ slotID, sl *slot[endpoint]) {
			if r := &sl.rec; sl.phase == live {
				add(ends{r.address, [16]byte{}, ports{r.port, 0}, r.family, r.protocol, true}, r.cookie, sl.listed)
			}
		})
	})
	for e, keys := range listed {
		all[e] = append(all[e], keys...)
	}
	return all
}

// see marks what the picture has as seen; it may have ended meanwhile.
func (v *Survey) see(key uint64, listener bool) {
	s := v.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if listener {
		if id := s.endpoints.index[key]; id != 0 {
			s.endpoints.at(id).survey = v.number
		}
	} else if id := s.connections.index[key]; id != 0 {
		s.connections.at(id).survey = v.number
	}
}

// fillOwner completes an owner of whom only the pid is known.
func (s *Store) fillOwner(p *event.Process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.processes.latest[p.PID]
	if id == 0 {
		return
	}
	r := &s.processes.at(id).rec
	p.TID, p.StartNS, p.CgroupID, p.UID, p.Comm = p.PID, r.key.startNS, r.cgroup, r.uid, r.comm
}
