package state

import "github.com/sonde-ebpf/sonde/internal/event"

// Socket is a socket that a Survey found.
type Socket struct {
	// Conn says what events say: Remote and RemotePort are zero for a listener;
	// OpenedNS is 0 if the beginning was not seen.
	Conn     event.Conn
	Owner    event.Process
	Listener bool // a listening TCP socket, or a bound UDP socket without a peer
	// RoleUnknown says that Conn.Inbound means nothing: the ports decide.
	RoleUnknown bool
}

// ProcessSeed is a process that a Survey found.
type ProcessSeed struct {
	// Process.StartNS may be what /proc tells, rounded down to a multiple of procfs.TickNS: it
	// is the same process as one of that pid whose exact start lies in that tick.
	Process  event.Process
	LoginUID uint32 // NoLoginUID if there is none
	Exe      string
	Args     []byte // separated by NUL
	Cwd      string
}

// Survey compares the picture with what the kernel has: begin one, call Process and
// Socket for everything that is there, then Finish. One at a time; events may be
// applied meanwhile.
//
// The first Survey of processes seeds, and so does the first of sockets: all it finds is
// entered, and nothing of it is drift. A later one sees a moment that events are still on their way from or have passed
// already, so it takes two in a row that agree to enter or to end something. What
// they mend is counted as drift.
type Survey struct {
	s       *Store
	seeds   kinds // of what it is the first
	number  uint8
	beganNS uint64
	found   map[uint64]struct{} // not in the picture, seen this time
	drift   Drift
	listed  bool // there was a list of sockets
}

// Drift is what a Survey has mended.
type Drift struct{ Processes, Connections, Endpoints int }

// kinds are what a Survey walks.
type kinds struct{ processes, sockets bool }

// surveys is what one Survey leaves for the next.
type surveys struct {
	number uint8 // of the last one, 1 to 255 and over again; 0 before the first
	seeded kinds
	found  map[uint64]struct{}
}

// maxSuspects bounds what a Survey remembers of things that are not in the
// picture; the rest has to wait for another one.
const maxSuspects = 65536

// Survey begins one.
func (s *Store) Survey() *Survey {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := &Survey{s: s, beganNS: s.now(), found: map[uint64]struct{}{}}
	v.seeds = kinds{!s.surveys.seeded.processes, !s.surveys.seeded.sockets}
	s.surveys.number = max(1, s.surveys.number+1)
	v.number = s.surveys.number
	return v
}

// confirmed reports whether something that is not in the picture is to be entered.
func (v *Survey) confirmed(key uint64, seeds bool) bool {
	if seeds {
		return true
	}
	if _, again := v.s.surveys.found[key]; again {
		return true
	}
	if len(v.found) < maxSuspects {
		v.found[key] = struct{}{}
	}
	return false
}

// Known says that a process is alive, and tells whether the picture has it: if not, it
// is for Process to say who it is. Only its pid and start are looked at.
func (v *Survey) Known(p *event.Process) bool {
	v.s.mu.Lock()
	defer v.s.mu.Unlock()
	sl := v.s.processes.find(keyOf(p))
	if sl == nil {
		return false
	}
	sl.survey = v.number
	return true
}

// Process says that a process is alive, and who it is.
func (v *Survey) Process(p ProcessSeed) {
	s := v.s
	container := s.containers.ContainerOf(&p.Process, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	key := keyOf(&p.Process)
	sl := s.processes.find(key)
	if sl == nil {
		if !v.confirmed(key.startNS<<22^uint64(key.pid), v.seeds.processes) {
			return
		}
		sl, _ = s.enterProcess(&p.Process)
		sl.rec.loginUID = p.LoginUID
		s.retext(&sl.rec.group, container)
		sl.rec.exe = s.text([]byte(p.Exe))
		s.setArguments(&sl.rec, p.Args)
		sl.rec.cwd = s.text([]byte(p.Cwd))
		sl.rec.execNS, sl.rec.seeded = key.startNS, true
		if !v.seeds.processes {
			v.drift.Processes++
		}
	}
	sl.survey = v.number
}

// Socket says that a socket is open.
func (v *Survey) Socket(k Socket) { v.enter(k, false) }

func (v *Survey) enter(k Socket, listed bool) {
	s := v.s
	container := s.containers.ContainerOf(&k.Owner, false)
	if k.RoleUnknown {
		k.Conn.Inbound = event.GuessInbound(k.Conn.LocalPort, k.Conn.RemotePort)
	}
	ev := event.Event{TimeNS: v.beganNS, Process: k.Owner, Conn: k.Conn}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.Listener {
		v.listener(&ev, container, listed)
		return
	}
	key := connectionKey(&k.Conn)
	id := s.connections.index[key]
	if id == 0 || !s.connections.at(id).rec.same(&k.Conn) {
		if !v.confirmed(key, v.seeds.sockets) {
			return
		}
		if id != 0 { // what was entered under this identity has ended
			s.endConnection(id, v.beganNS)
		}
		id = s.enterConnection(&ev, container)
		s.connections.at(id).listed = listed
		if !v.seeds.sockets {
			v.drift.Connections++
		}
	}
	sl := s.connections.at(id)
	sl.survey = v.number
	if !listed {
		sl.rec.measure(&k.Conn)
	}
}

func (v *Survey) listener(ev *event.Event, container string, listed bool) {
	s := v.s
	id := s.endpoints.index[ev.Conn.Cookie]
	if id == 0 {
		if !v.confirmed(ev.Conn.Cookie, v.seeds.sockets) {
			return
		}
		id = s.enterEndpoint(ev, container)
		s.endpoints.at(id).listed = listed
		if !v.seeds.sockets {
			v.drift.Endpoints++
		}
	}
	s.endpoints.at(id).survey = v.number
}

// Finish ends what neither this Survey nor the one before has seen, and returns
// what was mended. processes and sockets say which of the two were walked to their
// end: of the other one nothing is ended.
func (v *Survey) Finish(processes, sockets bool) Drift {
	s := v.s
	if processes {
		v.drift.Processes += sweep(v, &s.processes.table, false, func(p *process) uint64 { return p.key.startNS }, s.endProcess)
	}
	if sockets || v.listed {
		v.drift.Connections += sweep(v, &s.connections.table, !sockets, func(c *connection) uint64 { return c.openedNS }, s.endConnection)
		v.drift.Endpoints += sweep(v, &s.endpoints.table, !sockets, func(e *endpoint) uint64 { return e.openedNS }, s.endEndpoint)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.processes.drift += uint64(v.drift.Processes)
	s.connections.drift += uint64(v.drift.Connections)
	s.endpoints.drift += uint64(v.drift.Endpoints)
	s.surveys.found = v.found
	s.surveys.seeded.processes = s.surveys.seeded.processes || processes
	s.surveys.seeded.sockets = s.surveys.seeded.sockets || sockets || v.listed
	return v.drift
}

// sweep ends the live records that were not seen twice in a row. What began after
// the Survey did is not its business, and where it had a list only, what is known by
// more than that is not either.
func sweep[R any](v *Survey, t *table[R], listed bool, began func(*R) uint64, end func(slotID, uint64)) (n int) {
	var gone []slotID
	v.s.chunks(func(i int) bool {
		gone = gone[:0]
		more := t.each(i, func(id slotID, sl *slot[R]) {
			switch {
			case sl.phase != live || began(&sl.rec) >= v.beganNS || listed && !sl.listed:
			case sl.survey == v.number:
				sl.unseen = 0
			default:
				if sl.unseen++; sl.unseen >= 2 {
					gone = append(gone, id)
				}
			}
		})
		for _, id := range gone {
			end(id, v.beganNS)
		}
		n += len(gone)
		return more
	})
	return n
}
