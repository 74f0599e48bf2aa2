package state

import (
	"slices"

	"github.com/sonde-ebpf/sonde/internal/event"
)

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
	at := &process{key: keyOf(&ev.Process), parent: processKey{pid: ev.Process.PPID}}
	if sl := s.processes.find(at.key); sl != nil {
		at = &sl.rec
	}
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
