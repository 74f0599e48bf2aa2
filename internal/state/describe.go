package state

import "github.com/sonde-ebpf/sonde/internal/event"

// Describe gives an event its Subject, from the picture as it is: after Apply, but for
// the end of a process, which Apply may forget. It does not allocate.
func (s *Store) Describe(ev *event.Event) {
	container := ""
	if ev.Process.TID != 0 { // else another task was running, and its cgroups are not those of the process
		container = s.containers.ContainerOf(&ev.Process, false)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.describe(ev)
	if container != "" {
		ev.Subject.Process.Container = container
	}
}

// describe is Describe by the picture alone. The caller holds the lock.
func (s *Store) describe(ev *event.Event) {
	var stranger process
	u := &ev.Subject
	r, known := s.recordOf(ev, &stranger)
	if known {
		s.fillActor(&u.Process, r)
	}
	parent := s.parent(r)
	if parent == nil {
		return
	}
	s.fillActor(&u.Parent, &parent.rec)
	if sl := s.parent(&parent.rec); sl != nil {
		u.Grandparent = sl.rec.execID()
	}
}

func (s *Store) fillActor(a *event.Actor, r *process) {
	a.ExecID, a.UID, a.LoginUID = r.execID(), r.uid, r.loginUID
	a.Exe, a.Args, a.Cwd, a.Container = s.texts.get(r.exe), s.texts.get(r.args), s.texts.get(r.cwd), s.texts.get(r.group)
	a.Seeded, a.Forked = r.seeded, r.execNS == 0 && !r.seeded
}

// execID names the program that the process is. A start that turns out to be another
// by less than a tick does not change it.
func (r *process) execID() event.ExecID {
	if r.execNS == 0 {
		return event.ExecID{PID: r.key.pid, ExecNS: r.key.startNS}
	}
	return event.ExecID{PID: r.key.pid, ExecNS: r.execNS}
}
