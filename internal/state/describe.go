package state

import "github.com/sonde-ebpf/sonde/internal/event"

// Description is what is known of one process, for whoever tells of an event. Its
// texts stay valid whatever happens to the picture later.
type Description struct {
	PID, UID uint32
	LoginUID uint32 // NoLoginUID if there is none, or it is not known
	StartNS  uint64
	ExecNS   uint64 // of its last exec; StartNS where none was seen
	Comm     [event.CommLen]byte
	// Exe is as it was given to execve, Args are separated by NUL; "" where not known.
	Exe, Args, Cwd string
	Container      string // full id; "" on the host
	Cgroup         uint64
	// Seeded says that it was there before the sensor; Forked that it has not called
	// execve since it was forked.
	Seeded, Forked bool
	// The parent: ParentStartNS is 0 where only its pid is known.
	ParentPID     uint32
	ParentStartNS uint64
}

// Describe describes the process with that pid and start, also for some time after
// its end. It does not allocate.
func (s *Store) Describe(pid uint32, startNS uint64) (Description, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.processes.find(processKey{startNS, pid})
	if sl == nil {
		return Description{}, false
	}
	r := &sl.rec
	parent := r.parent
	if found := s.parent(r); found != nil {
		parent = found.rec.key
	}
	return Description{
		PID: r.key.pid, UID: r.uid, LoginUID: r.loginUID, StartNS: r.key.startNS, ExecNS: max(r.execNS, r.key.startNS),
		Comm: r.comm, Exe: s.texts.get(r.exe), Args: s.texts.get(r.args), Cwd: s.texts.get(r.cwd),
		Container: s.texts.get(r.group), Cgroup: r.cgroup,
		Seeded: r.seeded, Forked: r.execNS == 0 && !r.seeded,
		ParentPID: parent.pid, ParentStartNS: parent.startNS,
	}, true
}
