package state

import (
	"slices"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// recordOf returns what is known of the process of an event. One that is not known becomes
// stranger, with what the event says of its parent. The caller holds the lock.
func (s *Store) recordOf(ev *event.Event, stranger *process) (r *process, known bool) {
	k := keyOf(&ev.Process)
	if sl := s.processes.find(k); sl != nil {
		return &sl.rec, true
	}
	*stranger = process{key: k, parent: processKey{pid: ev.Process.PPID}}
	return stranger, false
}

// maxAncestors bounds how far up Below looks.
const maxAncestors = 64

// Below reports whether the process of an event, or one above it, has one of some pids.
// It looks up through the processes that are known, also some time after their end. It
// does not allocate.
func (s *Store) Below(ev *event.Event, pids []uint32) bool {
	if ev.Source != event.SourceKernel {
		return false // its pids are those of a sandbox
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var stranger process
	at, _ := s.recordOf(ev, &stranger)
	for range maxAncestors {
		if slices.Contains(pids, at.key.pid) || slices.Contains(pids, at.parent.pid) {
			return true
		}
		above := s.parent(at)
		if above == nil {
			return false
		}
		at = &above.rec
	}
	return false
}

// Ancestors tells an event whom its process descends from beyond what its Subject says:
// the parent's parent and so on, up to 15 and as many as there is room for. It does not allocate.
func (s *Store) Ancestors(ev *event.Event, ed *event.Editor) {
	var room [event.AncestorsLen]byte
	list := s.ancestors(ev, room[:0])
	if len(list) > 0 {
		ed.Set(ev, event.TextAncestors, list, false)
	}
}

func (s *Store) ancestors(ev *event.Event, list []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	var stranger process
	r, _ := s.recordOf(ev, &stranger)
	for depth := range maxLineage {
		sl := s.parent(r)
		if sl == nil {
			return list
		}
		if r = &sl.rec; depth == 0 {
			continue // the parent is in the Subject
		}
		var ok bool
		if list, ok = event.AppendAncestor(list, r.execID(), s.texts.get(r.exe)); !ok {
			return list
		}
	}
	return list
}
