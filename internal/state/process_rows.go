package state

import (
	"cmp"
	"iter"
	"slices"
)

// maxLineage bounds the ancestors that are shown of a process.
const maxLineage = 16

// Process is one row.
type Process struct {
	Container string // as ShortID shows it
	PID, PPID uint32
	UID       uint32
	LoginUID  uint32 // NoLoginUID if there is none, or it is not known
	Comm      string
	Exe       string // as it was given to execve; "" if it is not known
	Args      string // separated by NUL; "" where arguments are not kept
	Cgroup    uint64 // id in the unified hierarchy
	StartNS   uint64
	ExitedNS  uint64     // 0 while it lives
	Lineage   []Ancestor // parent first; ends where nothing is known
}

// Ancestor is a process that another one descends from.
type Ancestor struct {
	PID       uint32
	Comm, Exe string
	Exited    bool
}

// Processes answers a query: how many processes there are in all, and those within
// Offset and Limit, ordered by pid. A row is valid until the next one. Raw and
// Detail make no difference.
func (s *Store) Processes(q Query) (total int, rows iter.Seq[*Process]) {
	type candidate struct {
		key       processKey
		cgroup    uint64
		container string
	}
	var (
		keys  []processKey
		chunk []candidate
	)
	for i, more := 0, true; more; i++ {
		chunk = chunk[:0]
		s.mu.Lock()
		more = s.processes.each(i, func(_ slotID, sl *slot[process]) {
			if sl.phase == live || q.Ended {
				chunk = append(chunk, candidate{sl.rec.key, sl.rec.cgroup, s.texts.get(sl.rec.group)})
			}
		})
		s.mu.Unlock()
		for _, c := range chunk {
			if q.Container == "" || q.wants(s.containerOf(c.container, c.key, c.cgroup)) {
				keys = append(keys, c.key)
			}
		}
	}
	slices.SortFunc(keys, func(a, b processKey) int {
		return cmp.Or(cmp.Compare(a.pid, b.pid), cmp.Compare(a.startNS, b.startNS))
	})
	return len(keys), func(yield func(*Process) bool) {
		for _, k := range page(&q, keys) {
			if p, ok := s.processRow(k); ok && !yield(&p) {
				return
			}
		}
	}
}

// Process returns the process with that pid; of several that had it, the last one.
func (s *Store) Process(pid uint32) (Process, bool) {
	s.mu.Lock()
	id := s.processes.latest[pid]
	var k processKey
	if id != 0 {
		k = s.processes.at(id).rec.key
	}
	s.mu.Unlock()
	if id == 0 {
		return Process{}, false
	}
	return s.processRow(k)
}

// processRow holds the lock while it follows the lineage of one process.
func (s *Store) processRow(k processKey) (Process, bool) {
	s.mu.Lock()
	sl := s.processes.find(k)
	if sl == nil {
		s.mu.Unlock()
		return Process{}, false
	}
	r := &sl.rec
	row := Process{
		Container: s.texts.get(r.group),
		PID:       r.key.pid, PPID: r.parent.pid, UID: r.uid, LoginUID: r.loginUID,
		Comm: commText(r.comm), Exe: s.texts.get(r.exe), Args: s.texts.get(r.args),
		Cgroup: r.cgroup, StartNS: r.key.startNS, ExitedNS: r.exitedNS, Lineage: s.lineage(r),
	}
	s.mu.Unlock()
	row.Container = ShortID(s.containerOf(row.Container, k, row.Cgroup))
	return row, true
}

func (s *Store) lineage(r *process) (all []Ancestor) {
	for range maxLineage {
		sl := s.parent(r)
		if sl == nil {
			return all
		}
		r = &sl.rec
		all = append(all, Ancestor{r.key.pid, commText(r.comm), s.texts.get(r.exe), sl.phase == ended})
	}
	return all
}

// parent returns the parent of a process, nil if it is not known. A process that
// was entered before its parent knows only the pid.
func (s *Store) parent(r *process) *slot[process] {
	if r.parent.startNS != 0 {
		return s.processes.find(r.parent)
	}
	sl := s.processes.held(s.processes.latest[r.parent.pid])
	if sl == nil || sl.rec.key.startNS > r.key.startNS || sl.rec.key == r.key {
		return nil
	}
	return sl
}
