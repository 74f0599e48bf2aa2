package bpf

import (
	"errors"
	"fmt"
	"math/bits"

	"github.com/cilium/ebpf"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Survey yields the UDP endpoints and flows of all network namespaces, each once, in
// no order; endpoints are listening. First it enters the sockets that tasks hold and
// that no hook has told of. What begins or ends meanwhile may be found or not. yield
// may have been called also where an error is returned.
// Where files may not be walked over, only what hooks have told of is yielded, and the
// error is ErrNoWalk.
func (u *UDP) Survey(yield func(SocketRecord)) error {
	if err := u.lookAtAll(); err != nil {
		return err
	}
	owners := map[uint64]event.Process{}
	err := eachEntry(u.obj.coll.Maps["sockets"], func(cookie *uint64, s *udpEntry) {
		owner := event.Process{PID: s.OwnerPid, StartNS: s.OwnerStartNs, CgroupID: s.OwnerCgroup}
		owners[*cookie] = owner
		if s.Endpoint == 0 {
			return
		}
		yield(SocketRecord{Listen: true, Process: owner, Conn: event.Conn{
			Cookie: *cookie, Family: event.Family(s.Family), Protocol: protocolUDP, Inbound: true,
			Local: inMemory(s.Local), LocalPort: s.Port,
		}})
	})
	if err != nil {
		return fmt.Errorf("survey UDP sockets: %w", err)
	}
	err = eachEntry(u.obj.coll.Maps["flows"], func(key *udpFlowKey, f *udpFlow) {
		owner := event.Process{PID: f.OwnerPid, StartNS: f.OwnerStartNs, CgroupID: f.OwnerCgroup}
		if owner.PID == 0 { // found after the flow had begun
			owner = owners[key.Cookie]
		}
		yield(SocketRecord{Process: owner, Conn: event.Conn{
			Cookie: key.Cookie, Family: event.Family(key.Family), Protocol: protocolUDP, Inbound: Direction(f.Direction) == Inbound,
			Local: inMemory(f.Local), LocalPort: f.LocalPort,
			Remote: inMemory(key.Peer), RemotePort: bits.ReverseBytes16(key.Port),
			OpenedNS: f.OpenedNs,
		}})
	})
	if err != nil {
		return fmt.Errorf("survey UDP flows: %w", err)
	}
	if u.obj.refused != nil {
		return fmt.Errorf("survey UDP sockets: %w: %w", ErrNoWalk, u.obj.refused)
	}
	return nil
}

// protocolUDP is UDP's number in the IP header.
const protocolUDP = 17

// lookAtAll brings the maps up to date.
func (u *UDP) lookAtAll() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.obj.refused == nil { // where it is not: Status says what that costs
		if err := u.iterate(false); err != nil {
			return err
		}
	}
	return u.sweep()
}

// inMemory is an address as it lies in memory, in network order.
func inMemory(a udpAddress) [16]byte { return [16]byte(bytesOf(&a)) }

// entriesAtATime is how many entries of a map are copied by one system call.
const entriesAtATime = 1024

// eachEntry yields every entry of a hash map that is there during the whole call.
func eachEntry[K, V any](m *ebpf.Map, yield func(*K, *V)) error {
	var (
		cursor ebpf.MapBatchCursor
		keys   = make([]K, entriesAtATime)
		values = make([]V, entriesAtATime)
	)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			yield(&keys[i], &values[i])
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
