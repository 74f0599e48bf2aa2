package container

import (
	"context"
	"time"

	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// find looks for the cgroup of a miss: in /proc if the process lives, else in the
// tree.
func (r *resolver) find(ctx context.Context, m miss) error {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.waiting, m.CgroupID)
	}()
	if _, ok := r.groups.get(m.CgroupID); ok {
		return nil
	}
	v2, _, err := r.files.ProcessCgroups(m.PID)
	if err == nil && v2 != "" && r.same(v2, m) {
		r.enter(r.groups, m.CgroupID, v2)
		return nil
	}
	if err := r.rest(ctx); err != nil {
		return err
	}
	err = r.walk(ctx, nil)
	if _, ok := r.groups.get(m.CgroupID); !ok && err == nil {
		if r.view.root != 0 {
			r.lose(r.groups, m.CgroupID)
		} else {
			r.lost.Add(1)
		}
	}
	return err
}

// walkShare bounds the time spent on walks that misses ask for, as a share of one
// CPU: after each there is a rest of that many times as long.
const walkShare = 10

// rest waits until the tree may be walked again.
func (r *resolver) rest(ctx context.Context) error {
	select {
	case <-time.After(time.Until(r.walked.Add(r.cost * walkShare))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// same reports whether a path of /proc is the cgroup of a miss: the process may
// have moved, or be another one. Where the tree can be seen it decides.
func (r *resolver) same(path string, m miss) bool {
	if r.view.root != 0 {
		id, err := inode(r.view.V2 + path)
		return err == nil && id == m.CgroupID
	}
	stat, err := r.files.ProcessStat(m.PID)
	return err == nil && (m.StartNS == 0 || stat.Start == m.StartNS/procfs.TickNS)
}

// enter adds a cgroup to an index.
func (r *resolver) enter(groups *cache[uint64, group], id uint64, path string) group {
	g := groupOf(path)
	groups.put(id, g)
	r.tell(g, path)
	return g
}

// lose notes that a cgroup was gone before anybody knew whose it was. It will not come
// back: ids are not used twice.
func (r *resolver) lose(groups *cache[uint64, group], id uint64) group {
	g := group{place: Host, lost: true}
	r.lost.Add(1)
	groups.put(id, g)
	return g
}

// enterV1 adds a container's v1 cgroup to the index, while it is there: the next
// sweep may come too late. Controllers have their trees of the same shape.
func (r *resolver) enterV1(g group, path string) {
	if g.place == Host || r.view.V1 == "" {
		return
	}
	if id, err := inode(r.view.V1 + path); err == nil {
		r.groupsV1.put(id, g)
	}
}

// tell reports the container of a cgroup, if there is one.
func (r *resolver) tell(g group, path string) {
	if g.place != Host {
		r.found(g.ref, rootOf(path, g.ref))
	}
}

// walk enters the whole v2 tree, as far as it can be seen. seen is called for each
// id.
func (r *resolver) walk(ctx context.Context, seen func(id uint64, ref Ref)) error {
	if r.view.V2 == "" {
		return nil
	}
	begin := time.Now()
	defer func() { r.walked, r.cost = time.Now(), time.Since(begin) }()
	return walk(ctx, r.view.V2, func(id uint64, path string) {
		g, ok := r.groups.get(id)
		if !ok {
			g = groupOf(path)
			r.groups.put(id, g)
		}
		r.tell(g, path) // also of known ones: the directory may have had to forget it
		if seen != nil {
			seen(id, g.ref)
		}
	})
}

// sweep walks every tree, enters what is new, forgets the cgroups that have been gone
// for a while, and returns the containers that have a cgroup; nil where the trees do
// not show all. An id outlives its cgroup because events and questions come late.
func (r *resolver) sweep(ctx context.Context) (alive map[ID]bool, err error) {
	ids, alive := map[uint64]bool{}, map[ID]bool{}
	if err := r.walk(ctx, func(id uint64, ref Ref) {
		ids[id] = true
		alive[ref.ID] = true
	}); err != nil {
		return nil, err
	}
	idsV1 := map[uint64]bool{}
	if r.view.V1 != "" {
		err := walk(ctx, r.view.V1, func(id uint64, path string) {
			g := groupOf(path)
			r.groupsV1.put(id, g)
			idsV1[id] = true
			alive[g.ref.ID] = true
			r.tell(g, path)
		})
		if err != nil {
			return nil, err
		}
	}
	if !r.view.complete {
		return nil, nil
	}
	r.age(r.groups, ids)
	r.age(r.groupsV1, idsV1)
	return alive, nil
}

// age counts the sweeps that groups have been gone for, and forgets those that have
// been gone for long.
func (r *resolver) age(groups *cache[uint64, group], there map[uint64]bool) {
	groups.review(func(id uint64, g *group) (keep bool) {
		g.gone++
		if there[id] {
			g.gone = 0
		}
		return g.gone <= r.keep
	})
}
