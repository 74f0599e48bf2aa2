package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
)

// SocketState is the state of a socket as /proc/net/tcp writes it; UDP has the two
// that say whether a socket has a peer.
type SocketState uint8

// The states that matter here: the kernel's numbers.
const (
	SocketEstablished SocketState = 1
	SocketSynSent     SocketState = 2
	SocketSynRecv     SocketState = 3
	SocketTimeWait    SocketState = 6
	SocketClose       SocketState = 7
	SocketListen      SocketState = 10
)

// Socket is one line of /proc/net/tcp, udp and those of IPv6.
type Socket struct {
	NetNS         uint32 // inode number of the network namespace
	State         SocketState
	Local, Remote netip.AddrPort // v4-mapped addresses as IPv4
	Inode         uint64         // by which SocketHolders knows it
}

// TCPSockets yields the TCP sockets that have an owner, of every network namespace
// that a process is in. What goes away meanwhile may be yielded or not.
func (f FS) TCPSockets(yield func(Socket)) error {
	return f.sockets(func(ns procfs.FS, yield func(socketLine)) error {
		// netlink, which is recommended, would have to enter every namespace
		v4, err4 := ns.NetTCP()  //nolint:staticcheck // see above
		v6, err6 := ns.NetTCP6() //nolint:staticcheck // see above
		for _, lines := range []procfs.NetTCP{v4, v6} {
			for _, l := range lines {
				// of a socket that waits for stray packets only, or that its owner has closed, there is no inode
				if l.Inode != 0 {
					yield(socketLine{l.LocalAddr, l.RemAddr, l.LocalPort, l.RemPort, l.St, l.Inode})
				}
			}
		}
		return errors.Join(err4, without(err6))
	}, yield)
}

// UDPSockets yields the UDP sockets of every network namespace that a process is in,
// the kernel's own included.
func (f FS) UDPSockets(yield func(Socket)) error {
	return f.sockets(func(ns procfs.FS, yield func(socketLine)) error {
		v4, err4 := ns.NetUDP()
		v6, err6 := ns.NetUDP6()
		for _, lines := range []procfs.NetUDP{v4, v6} {
			for _, l := range lines {
				yield(socketLine{l.LocalAddr, l.RemAddr, l.LocalPort, l.RemPort, l.St, l.Inode})
			}
		}
		return errors.Join(err4, without(err6))
	}, yield)
}

// socketLine is what both protocols' lines have in common.
type socketLine struct {
	local, remote         net.IP
	localPort, remotePort uint64
	state, inode          uint64
}

// without forgives that there is no IPv6.
func without(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sockets visits each network namespace once, through the first process in it that
// stays long enough.
func (f FS) sockets(read func(procfs.FS, func(socketLine)) error, yield func(Socket)) error {
	pids, err := f.pids()
	if err != nil {
		return err
	}
	seen := map[uint32]bool{}
	for _, pid := range pids {
		dir := f.process(pid)
		id, err := netNS(dir)
		if err != nil || seen[id] {
			continue // a kernel thread has none, a process may have ended
		}
		var found []Socket
		err = inDir(dir, func(ns procfs.FS) error {
			return read(ns, func(l socketLine) { found = append(found, l.socket(id)) })
		})
		if now, gone := netNS(dir); gone != nil || now != id {
			continue // it was another's, in part
		}
		if err != nil {
			return fmt.Errorf("list sockets of network namespace %d: %w", id, err)
		}
		seen[id] = true
		for _, s := range found {
			yield(s)
		}
	}
	return nil
}

func inDir(dir string, read func(procfs.FS) error) error {
	ns, err := procfs.NewFS(dir)
	if err != nil {
		return err
	}
	return read(ns)
}

// netNS reads the inode number of a process's network namespace: "net:[4026531992]".
func netNS(dir string) (uint32, error) {
	text, err := os.Readlink(filepath.Join(dir, "ns", "net"))
	if err != nil {
		return 0, err
	}
	text, found := strings.CutPrefix(text, "net:[")
	id, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 32)
	if !found || err != nil {
		return 0, fmt.Errorf("network namespace %q: not of the form net:[number]", text)
	}
	return uint32(id), nil
}

func (l socketLine) socket(netNS uint32) Socket {
	end := func(ip net.IP, port uint64) netip.AddrPort {
		a, _ := netip.AddrFromSlice(ip)
		return netip.AddrPortFrom(a.Unmap(), uint16(port))
	}
	return Socket{NetNS: netNS, State: SocketState(l.state), Local: end(l.local, l.localPort), Remote: end(l.remote, l.remotePort), Inode: l.inode}
}

// SocketHolders returns a process that holds each socket open, by the socket's inode
// number: of several the one that is listed first. It reads the links of all
// descriptors of all processes.
func (f FS) SocketHolders() (map[uint64]uint32, error) {
	pids, err := f.pids()
	if err != nil {
		return nil, err
	}
	holders := map[uint64]uint32{}
	for _, pid := range pids {
		dir := filepath.Join(f.process(pid), "fd")
		descriptors, err := os.ReadDir(dir)
		if err != nil {
			continue // gone, or not for us to see
		}
		for _, d := range descriptors {
			link, err := os.Readlink(filepath.Join(dir, d.Name()))
			if err != nil {
				continue
			}
			text, is := strings.CutPrefix(link, "socket:[")
			inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 64)
			if _, held := holders[inode]; is && err == nil && !held {
				holders[inode] = pid
			}
		}
	}
	return holders, nil
}
