package state

import (
	"bytes"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// processKey identifies a process for the life of the machine.
type processKey struct {
	startNS uint64
	pid     uint32
}

func keyOf(p *event.Process) processKey { return processKey{p.StartNS, p.PID} }

// coarse reports whether the start may be one that /proc told: whole ticks, rounded down.
func (k processKey) coarse() bool { return k.startNS%procfs.TickNS == 0 }

// same reports whether two keys are of one process, where one start is coarse. A pid
// does not come round within a tick.
func (k processKey) same(o processKey) bool {
	return k.pid == o.pid && k.startNS/procfs.TickNS == o.startNS/procfs.TickNS && (k.coarse() || o.coarse())
}

// NoLoginUID is the login user of a process that no login began, and of one whose
// login user is not known.
const NoLoginUID = ^uint32(0)

type process struct {
	key      processKey
	parent   processKey // startNS is 0 where only the pid is known
	exitedNS uint64
	execNS   uint64 // of the last exec, of one that a survey found its start; 0 if none was seen
	cgroup   uint64
	uid      uint32
	loginUID uint32
	exe      textID
	args     textID
	cwd      textID // as the process saw it at its last exec
	seeded   bool   // found by a survey, and no exec was seen since
	group    textID // id of the container
	comm     [event.CommLen]byte
}

// processes is the table of processes. Of several that had the same pid in turn,
// latest names the last one.
type processes struct {
	table[process]
	index  map[processKey]slotID
	latest map[uint32]slotID
}

func newProcesses(n int) processes {
	return processes{table: table[process]{max: n}, index: map[processKey]slotID{}, latest: map[uint32]slotID{}}
}

// lookup returns where the process is, 0 if it is not known. One that was known by a
// coarse start is known by the exact one as soon as somebody has it.
func (p *processes) lookup(k processKey) slotID {
	if id := p.index[k]; id != 0 {
		return id
	}
	id := p.latest[k.pid]
	if id == 0 || !p.at(id).rec.key.same(k) {
		return 0
	}
	if key := &p.at(id).rec.key; key.coarse() {
		delete(p.index, *key)
		*key = k
		p.index[k] = id
	}
	return id
}

// find returns the process, nil if it is not known.
func (p *processes) find(k processKey) *slot[process] {
	if id := p.lookup(k); id != 0 {
		return p.at(id)
	}
	return nil
}

// enterProcess returns the record of a process and makes one if there is none;
// fresh says so.
func (s *Store) enterProcess(p *event.Process) (rec *slot[process], fresh bool) {
	t := &s.processes
	k := keyOf(p)
	if found := t.find(k); found != nil {
		return found, false
	}
	if t.len() >= t.max {
		t.evictions++
		s.forgetProcess(t.oldest())
	}
	id, sl := t.insert()
	sl.rec = process{
		key: k, parent: processKey{pid: p.PPID}, cgroup: p.CgroupID,
		uid: p.UID, loginUID: NoLoginUID, comm: p.Comm,
	}
	if parent := t.latest[p.PPID]; parent != 0 && t.at(parent).rec.key.startNS <= p.StartNS {
		sl.rec.parent = t.at(parent).rec.key
	}
	t.index[k] = id
	if last := t.latest[p.PID]; last == 0 || t.at(last).rec.key.startNS < k.startNS {
		t.latest[p.PID] = id
	}
	return sl, true
}

func (s *Store) forgetProcess(id slotID) {
	t := &s.processes
	rec := &t.at(id).rec
	delete(t.index, rec.key)
	if t.latest[rec.key.pid] == id {
		delete(t.latest, rec.key.pid)
	}
	s.texts.drop(rec.exe)
	s.texts.drop(rec.args)
	s.texts.drop(rec.cwd)
	s.texts.drop(rec.group)
	t.remove(id)
}

// applyFork enters the child as the copy of the one who forked, who may have gone to
// another cgroup since its last exec.
func (s *Store) applyFork(ev *event.Event) {
	container, forker := s.containers.ContainerOf(&ev.Child, false), s.containers.ContainerOf(&ev.Process, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	sl, fresh := s.enterProcess(&ev.Child)
	if sl.phase != live {
		return
	}
	s.retext(&sl.rec.group, container)
	by := s.processes.find(keyOf(&ev.Process))
	if by != nil && forker != "" {
		s.retext(&by.rec.group, forker)
	}
	if !fresh || by == nil {
		return
	}
	sl.rec.exe = s.texts.share(by.rec.exe)
	sl.rec.args = s.texts.share(by.rec.args)
	sl.rec.cwd = s.texts.share(by.rec.cwd)
	sl.rec.loginUID = by.rec.loginUID
	if ev.Child.PPID == ev.Process.PID {
		sl.rec.parent = by.rec.key
	}
}

func (s *Store) applyExec(ev *event.Event) {
	container := s.containers.ContainerOf(&ev.Process, true)
	s.mu.Lock()
	defer s.mu.Unlock()
	sl, _ := s.enterProcess(&ev.Process)
	if sl.phase != live {
		return
	}
	s.retext(&sl.rec.group, container)
	sl.rec.comm, sl.rec.uid, sl.rec.cgroup = ev.Process.Comm, ev.Process.UID, ev.Process.CgroupID
	s.texts.drop(sl.rec.exe)
	sl.rec.exe = s.text(ev.Executable())
	s.setArguments(&sl.rec, ev.Text(event.TextArgs))
	s.texts.drop(sl.rec.cwd)
	sl.rec.cwd = s.text(ev.Text(event.TextCwd))
	sl.rec.execNS, sl.rec.seeded = ev.TimeNS, false
}

func (s *Store) applyExit(ev *event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.processes.lookup(keyOf(&ev.Process))
	if id == 0 || s.processes.at(id).phase != live {
		return
	}
	s.endProcess(id, ev.TimeNS)
}

func (s *Store) endProcess(id slotID, now uint64) {
	if s.keep.processes == 0 {
		s.forgetProcess(id)
		return
	}
	s.processes.at(id).rec.exitedNS = now
	s.processes.end(id)
}

// maxArguments bounds the arguments of one process, in bytes.
const maxArguments = 4096

// setArguments is the only place where arguments enter the picture: where they are
// not wanted, nothing that leaves it can show them. Arguments are separated by NUL.
func (s *Store) setArguments(p *process, args []byte) {
	s.texts.drop(p.args)
	p.args = 0
	if s.arguments.Load() {
		p.args = s.text(args[:min(len(args), maxArguments)])
	}
}

// KeepArguments says whether arguments of processes are kept. Switched off, those
// that are held are forgotten before it returns.
func (s *Store) KeepArguments(keep bool) {
	s.arguments.Store(keep)
	if keep {
		return
	}
	s.chunks(func(i int) bool {
		return s.processes.each(i, func(_ slotID, sl *slot[process]) { s.setArguments(&sl.rec, nil) })
	})
	s.chunks(func(i int) bool {
		return s.endpoints.each(i, func(_ slotID, sl *slot[endpoint]) {
			s.texts.drop(sl.rec.args)
			sl.rec.args = 0
		})
	})
}

// commText cuts a name at its NUL.
func commText(comm [event.CommLen]byte) string {
	name, _, _ := bytes.Cut(comm[:], []byte{0})
	return string(name)
}
