package state

import "github.com/sonde-ebpf/sonde/internal/event"

// endpoint is a listening TCP socket or a bound UDP socket, with the process that
// made it so as it was then: it may have run another program since, or ended.
type endpoint struct {
	cookie   uint64
	openedNS uint64
	closedNS uint64
	owner    processKey
	cgroup   uint64
	address  [16]byte
	comm     [event.CommLen]byte
	exe      textID
	args     textID
	group    textID // id of the container
	port     uint16
	family   event.Family
	protocol uint8
}

// endpoints is the table of endpoints.
type endpoints struct {
	table[endpoint]
	index map[uint64]slotID
}

func newEndpoints(n int) endpoints {
	return endpoints{table: table[endpoint]{max: n}, index: map[uint64]slotID{}}
}

func (s *Store) applyListen(ev *event.Event) {
	container := s.containers.ContainerOf(&ev.Process, false)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enterEndpoint(ev, container)
}

func (s *Store) enterEndpoint(ev *event.Event, container string) slotID {
	t, c := &s.endpoints, &ev.Conn
	id := t.index[c.Cookie]
	if id != 0 {
		if r := &t.at(id).rec; r.address == c.Local && r.port == c.LocalPort && r.protocol == c.Protocol {
			return id // listen was called again
		}
		t.drift++
		s.endEndpoint(id, ev.TimeNS)
	}
	if t.len() >= t.max {
		t.evictions++
		s.forgetEndpoint(t.oldest())
	}
	id, sl := t.insert()
	t.index[c.Cookie] = id
	sl.rec = endpoint{
		cookie: c.Cookie, openedNS: ev.TimeNS, owner: keyOf(&ev.Process), cgroup: ev.Process.CgroupID,
		address: c.Local, comm: ev.Process.Comm, port: c.LocalPort, family: c.Family, protocol: c.Protocol,
		group: s.text([]byte(container)),
	}
	if by := s.processes.find(sl.rec.owner); by != nil {
		sl.rec.exe = s.texts.share(by.rec.exe)
		sl.rec.args = s.texts.share(by.rec.args)
		if sl.rec.comm[0] == 0 {
			sl.rec.comm = by.rec.comm
		}
	}
	return id
}

func (s *Store) endEndpoint(id slotID, now uint64) {
	if s.keep.endpoints == 0 {
		s.forgetEndpoint(id)
		return
	}
	rec := &s.endpoints.at(id).rec
	delete(s.endpoints.index, rec.cookie)
	rec.closedNS = now
	s.endpoints.end(id)
}

func (s *Store) forgetEndpoint(id slotID) {
	t := &s.endpoints
	rec := &t.at(id).rec
	if t.index[rec.cookie] == id {
		delete(t.index, rec.cookie)
	}
	s.texts.drop(rec.exe)
	s.texts.drop(rec.args)
	s.texts.drop(rec.group)
	t.remove(id)
}
