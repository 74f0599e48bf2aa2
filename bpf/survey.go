package bpf

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"github.com/cilium/ebpf/link"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// SocketRecord is a TCP socket that a survey found.
type SocketRecord struct {
	// Conn is what events say of the socket, by the same Cookie. Sent and Received
	// are those of now; OpenedNS is 0 where the beginning was not seen. For a
	// listening socket Inbound is true, and Remote and RemotePort are zero.
	Conn event.Conn
	// Process is who connected, accepted or listened, and whoever holds the socket
	// where that was not seen. Of an owner that does not hold the socket any more
	// only PID, StartNS and CgroupID are known.
	Process event.Process
	Listen  bool
}

// ErrNoWalk says that the kernel refuses to iterate over files: nothing better than a
// list of sockets is to be had.
var ErrNoWalk = errors.New("the kernel does not walk over files")

// minSurveyed is the least number of sockets that a survey remembers, about 64 bytes
// each; it remembers as many as the probe follows. A socket beyond that comes once for
// each descriptor, with any of its holders.
const minSurveyed = 1024

// Survey yields the listening TCP sockets and the established connections of all
// network namespaces, each once, in no order. It walks over the descriptors of all
// tasks, and over the connections that are followed: for those that nobody holds
// any more. What begins or ends meanwhile may be found or not. yield may have been
// called also where an error is returned. A kernel without iterators over maps
// leaves out what nobody holds.
func (t *TCP) Survey(yield func(SocketRecord)) error {
	if t.obj.refused != nil {
		return fmt.Errorf("survey descriptors: %w: %w", ErrNoWalk, t.obj.refused)
	}
	s := newSurvey(yield, t.opts)
	held := link.IterOptions{Program: t.obj.coll.Programs["survey_held"]}
	if err := eachRecord(held, s.take); err != nil {
		return fmt.Errorf("survey descriptors: %w", err)
	}
	if t.scrape != nil {
		followed := link.IterOptions{Program: t.obj.coll.Programs["survey_followed"], Map: t.obj.coll.Maps["sockets"]}
		if err := eachRecord(followed, s.take); err != nil {
			return fmt.Errorf("survey connections: %w", err)
		}
	}
	s.finish()
	return nil
}

// eachRecord runs an iterator program and hands out what it writes, record by record.
// The record is reused.
func eachRecord[T any](opts link.IterOptions, take func(*T)) error {
	it, err := link.AttachIter(opts)
	if err != nil {
		return plainErrno(err)
	}
	defer it.Close()
	r, err := it.Open()
	if err != nil {
		return plainErrno(err)
	}
	defer r.Close()
	var rec T
	raw := unsafe.Slice((*byte)(unsafe.Pointer(&rec)), unsafe.Sizeof(rec))
	for buffered := bufio.NewReaderSize(r, 32<<10); ; {
		if _, err := io.ReadFull(buffered, raw); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		take(&rec)
	}
}

// survey makes one record per socket out of one per descriptor. A record that says
// all is handed out at once; another one waits for a better, until the end.
type survey struct {
	yield             func(SocketRecord)
	max, maxListening int
	done              map[uint64]struct{} // by cookie
	waiting           map[uint64]tcpSocketRecord
	listening         map[tcpPort]struct{}
}

func newSurvey(yield func(SocketRecord), o TCPOptions) *survey {
	return &survey{
		yield: yield, max: max(int(o.MaxSockets), minSurveyed), maxListening: int(o.MaxListeners),
		done: map[uint64]struct{}{}, waiting: map[uint64]tcpSocketRecord{}, listening: map[tcpPort]struct{}{},
	}
}

func (s *survey) take(r *tcpSocketRecord) {
	if r.Listen != 0 && len(s.listening) < s.maxListening {
		s.listening[portOfRecord(r)] = struct{}{}
	}
	if _, done := s.done[r.Conn.Cookie]; done {
		return
	}
	_, waits := s.waiting[r.Conn.Cookie]
	full := len(s.done)+len(s.waiting) >= s.max
	switch {
	case r.ProcessFull != 0 && r.RoleKnown != 0:
		delete(s.waiting, r.Conn.Cookie)
		if waits || !full {
			s.done[r.Conn.Cookie] = struct{}{}
		}
		s.hand(r)
	case waits:
	case full:
		s.hand(r)
	default:
		s.waiting[r.Conn.Cookie] = *r
	}
}

// finish hands out what nothing better was found for.
func (s *survey) finish() {
	for _, r := range s.waiting {
		s.hand(&r)
	}
}

// hand yields a record. Where the role is not known, a connection is inbound if
// somebody listens at its port, as for the connections that the probe starts with.
func (s *survey) hand(r *tcpSocketRecord) {
	e := (*kernelConnEvent)(unsafe.Pointer(&r.Conn)) // one header, compiled into two objects
	rec := SocketRecord{Conn: conn(e), Process: process(&e.H.Process), Listen: r.Listen != 0}
	if r.RoleKnown == 0 {
		_, rec.Conn.Inbound = s.listening[portOfRecord(r)]
	}
	s.yield(rec)
}

func portOfRecord(r *tcpSocketRecord) tcpPort {
	return tcpPort{Net: r.Net, Number: uint64(r.Conn.LocalPort)}
}
