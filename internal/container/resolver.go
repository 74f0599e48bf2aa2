package container

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// Place is where a process was found.
type Place uint8

// The places.
const (
	Searching Place = iota // not known yet; ask again later
	Host                   // in no container
	Inside                 // in a container
)

// group is what is known of a cgroup, or of a process on v1.
type group struct {
	ref   Ref
	text  string // of ref.ID
	place Place  // Searching for a guess: the directory decides
	gone  int    // sweeps since it was last in the tree
	lost  bool   // it was gone before it was found, and is taken for the host's
}

func groupOf(path string) group {
	ref, ok := Parse(path)
	switch {
	case !ok:
		return group{place: Host}
	case ref.Guess:
		return group{ref: ref, text: ref.ID.String()}
	}
	return group{ref: ref, text: ref.ID.String(), place: Inside}
}

// identity is a process for as long as the machine runs.
type identity struct {
	pid   uint32
	start uint64
}

// miss is a process whose cgroup is not in the index.
type miss event.Process

// maxMisses bounds the cgroups that wait to be found.
const maxMisses = 1024

// resolver finds the container of a process. resolve, reside and fork may be called
// from any goroutine; everything else belongs to the goroutine of run.
type resolver struct {
	files procfs.FS
	view  View
	found func(Ref, string)                           // a container, and the path of its cgroup
	byID  func(dir string, id uint64) (string, error) // pathByID

	groups    *cache[uint64, group]   // by cgroup id, v2
	groupsV1  *cache[uint64, group]   // by cgroup id in the tree view.V1
	keep      int                     // sweeps that a group without its cgroup is remembered
	processes *cache[identity, group] // on machines with v1, of whom no id is known there
	misses    chan miss
	dropped   atomic.Uint64 // misses without room
	lost      atomic.Uint64 // cgroups that were gone before they were found

	mu      sync.Mutex
	waiting map[uint64]bool // cgroup ids in misses

	walked time.Time     // end of the latest walk
	cost   time.Duration // of the latest walk
}

func newResolver(proc string, view View, groups, processes, keep int, found func(Ref, string)) *resolver {
	return &resolver{
		files: procfs.New(procfs.Options{Proc: proc}), view: view, found: found,
		byID:      func(dir string, id uint64) (string, error) { return pathByID(proc, dir, id) },
		groups:    newCache[uint64, group](groups),
		groupsV1:  newCache[uint64, group](groups),
		processes: newCache[identity, group](processes),
		keep:      keep,
		misses:    make(chan miss, maxMisses),
		waiting:   map[uint64]bool{},
	}
}

// resolve finds where a process is, by the ids of its cgroups: a map lookup for each.
// On machines with v1, for a process of which no id is known there, and where cgroups
// cannot be found by their ids, /proc is read: once for each process and again when
// moved says that it may be elsewhere since, which is at an exec.
func (r *resolver) resolve(p *event.Process, moved bool) group {
	g, known := r.reside(p)
	if g.place == Inside || !r.view.HasV1 || known && p.CgroupV1 != 0 {
		return g
	}
	id := identity{p.PID, p.StartNS}
	if !moved {
		if known, ok := r.processes.get(id); ok {
			return known
		}
	}
	seen, path, err := r.read(p)
	if err != nil {
		return g // it is gone, and /proc cannot tell any more
	}
	r.processes.put(id, seen)
	r.enterV1(seen, path)
	r.tell(seen, path)
	return seen
}

// reside finds the group of a pair of ids: the one that may be a container's, v2
// before v1. It is not known if one of the two is not.
func (r *resolver) reside(p *event.Process) (g group, known bool) {
	g, known = group{place: Host}, true
	if p.CgroupID != 0 && p.CgroupID != r.view.root && (r.view.V2 != "" || p.PID != 0) {
		if g, known = r.look(r.view.V2, r.groups, p.CgroupID); !known {
			r.miss(p)
		}
	}
	if g.place == Inside || p.CgroupV1 == 0 {
		return g, known
	}
	other, knownV1 := r.look(r.view.V1, r.groupsV1, p.CgroupV1)
	switch {
	case other.place == Inside:
		return other, true
	case !known || !knownV1: // what is not known of v1 the next sweep enters, if it is there
		return group{}, false
	case g.ref.Guess:
		return g, true
	}
	return other, true
}

// look returns what a cgroup is. One that is not known yet is found by its id at once,
// where that is possible.
func (r *resolver) look(dir string, groups *cache[uint64, group], id uint64) (g group, known bool) {
	if g, known = groups.get(id); known || dir == "" {
		return g, known
	}
	path, err := r.byID(dir, id)
	switch {
	case err == nil:
		g = r.enter(groups, id, path)
	case errors.Is(err, unix.ESTALE):
		g = r.lose(groups, id)
	}
	return g, err == nil || g.lost
}

// fork says that a child is where its parent was, which saves reading /proc for
// it. It changes nothing on machines without v1.
func (r *resolver) fork(parent, child *event.Process) {
	if !r.view.HasV1 {
		return
	}
	if g, ok := r.processes.get(identity{parent.PID, parent.StartNS}); ok {
		r.processes.put(identity{child.PID, child.StartNS}, g)
	}
}

// miss has a cgroup looked for, once however many processes ask.
func (r *resolver) miss(p *event.Process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[p.CgroupID] {
		return
	}
	select {
	case r.misses <- miss(*p):
		r.waiting[p.CgroupID] = true
	default:
		r.dropped.Add(1)
	}
}

// errAnother says that a pid is another process's by now, or a dead one's.
var errAnother = errors.New("process has ended")

// read finds the container of a process in /proc. Of the hierarchies the first
// that names a container for certain decides: v2, then v1's.
func (r *resolver) read(p *event.Process) (g group, path string, err error) {
	v2, v1, err := r.files.ProcessCgroups(p.PID)
	if err != nil {
		return group{}, "", err
	}
	// Whoever has the pid after the reading had it before, if the start is right.
	// A dead process has left its v1 cgroups already.
	stat, err := r.files.ProcessStat(p.PID)
	if err != nil {
		return group{}, "", err
	}
	if stat.State == 'Z' || stat.State == 'X' || p.StartNS != 0 && stat.Start != p.StartNS/procfs.TickNS {
		return group{}, "", fmt.Errorf("read cgroup of process %d: %w", p.PID, errAnother)
	}
	g = group{place: Host}
	for i := -1; i < len(v1); i++ {
		at := v2
		if i >= 0 {
			at = v1[i]
		}
		switch seen := groupOf(at); {
		case seen.place == Inside:
			return seen, at, nil
		case seen.place == Searching && g.place == Host:
			g, path = seen, at
		}
	}
	return g, path, nil
}
