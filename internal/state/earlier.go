package state

import "github.com/sonde-ebpf/sonde/internal/event"

// Earlier yields an exec event for each process that lives, was there before the sensor
// and has executed nothing since, until yield returns false. It is told as it is seen
// now; credentials and namespaces are not known. An event is valid until the next.
func (s *Store) Earlier(ed *event.Editor, yield func(*event.Event) bool) {
	var keys []processKey
	s.chunks(func(i int) bool {
		return s.processes.each(i, func(_ slotID, sl *slot[process]) {
			if tellable(sl) {
				keys = append(keys, sl.rec.key)
			}
		})
	})
	var ev event.Event
	for _, k := range keys {
		ev.Reset()
		if !s.earlier(k, &ev) {
			continue
		}
		who := &ev.Subject.Process
		ed.Set(&ev, event.TextPath, []byte(who.Exe), false)
		ed.Set(&ev, event.TextExe, []byte(who.Exe), false)
		ed.Set(&ev, event.TextArgs, []byte(who.Args), false)
		ed.Set(&ev, event.TextCwd, []byte(who.Cwd), false)
		if !yield(&ev) {
			return
		}
	}
}

// tellable reports whether a process is one for Earlier. Kernel threads execute nothing.
func tellable(sl *slot[process]) bool { return sl.phase == live && sl.rec.seeded && sl.rec.exe != 0 }

// earlier makes the event of a process, if it is still one for Earlier.
func (s *Store) earlier(k processKey, ev *event.Event) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sl := s.processes.find(k)
	if sl == nil || !tellable(sl) {
		return false
	}
	r := &sl.rec
	ev.Point, ev.TimeNS = event.ProcessExec, s.now()
	ev.Process = event.Process{
		PID: r.key.pid, TID: r.key.pid, PPID: r.parent.pid, UID: r.uid, StartNS: r.key.startNS, CgroupID: r.cgroup, Comm: r.comm,
	}
	s.describe(ev)
	return true
}
