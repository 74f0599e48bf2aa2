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
// container, depending on the runtime. A cgroup that cannot be found at once is being
// searched.
func (c *Containers) Reside(v2, v1 uint64) Residence {
	g, _ := c.resolver.reside(&event.Process{CgroupID: v2, CgroupV1: v1})
	r := Residence{Place: c.placeOf(&g), Gone: g.gone > 0 || g.lost, Lost: g.lost}
	if r.Place == Inside {
		r.ID = g.ref.ID
	}
	return r
}
