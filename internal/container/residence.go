package container

import "github.com/sonde-ebpf/sonde/internal/event"

// Residence is what is known of a cgroup that a process was in.
type Residence struct {
	ID    ID // with Inside
	Place Place
	Gone  bool // the cgroup does not exist any more
	Lost  bool // it did not long enough to be found: nobody knows whose it was
}

// Reside tells which container tasks belong to that are in these cgroups: one of v2,
// and on machines with v1 one of View.V1, else 0. Either may be the one that names a
// container, depending on the runtime. It makes no system call; a cgroup that is not
// known is being searched.
func (c *Containers) Reside(v2, v1 uint64) Residence {
	g := c.resolver.reside(v2, v1)
	r := Residence{ID: g.ref.ID, Place: g.place, Gone: g.gone > 0 || g.lost, Lost: g.lost}
	if g.ref.Guess {
		switch c.directory.state(g.ref.ID) {
		case Named:
			r.Place = Inside
		case Pending:
			r.Place = Searching
		default:
			r.Place = Host
		}
	}
	if r.Place != Inside {
		r.ID = ID{}
	}
	return r
}

// reside finds the group of a pair of ids: the one that may be a container's, v2
// before v1.
func (r *resolver) reside(v2, v1 uint64) group {
	g, known := group{place: Host}, true
	if v2 != 0 && v2 != r.view.root && r.view.V2 != "" {
		if g, known = r.groups.get(v2); !known {
			r.miss(&event.Process{CgroupID: v2})
		}
	}
	if g.place == Inside || v1 == 0 {
		return g
	}
	other, knownV1 := r.groupsV1.get(v1) // the next sweep enters it, if it is there
	switch {
	case other.place == Inside:
		return other
	case !known || !knownV1:
		return group{}
	case g.ref.Guess:
		return g
	}
	return other
}
