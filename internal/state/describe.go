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
	stranger := process{key: keyOf(&ev.Process), parent: processKey{pid: ev.Process.PPID}}
	r, u := &stranger, &ev.Subject
	if sl := s.processes.find(stranger.key); sl != nil {
		r = &sl.rec
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

// Ancestors tells an event whom its process descends from beyond what its Subject says:
// the parent's parent and so on, up to 16 and as many as there is room for.
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
	stranger := process{key: keyOf(&ev.Process), parent: processKey{pid: ev.Process.PPID}}
	r := &stranger
	if sl := s.processes.find(r.key); sl != nil {
		r = &sl.rec
	}
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

// execID names the program that the process is. A start that turns out to be another
// by less than a tick does not change it.
func (r *process) execID() event.ExecID {
	if r.execNS == 0 {
		return event.ExecID{PID: r.key.pid, ExecNS: r.key.startNS}
	}
	return event.ExecID{PID: r.key.pid, ExecNS: r.execNS}
}
