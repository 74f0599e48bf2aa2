package load

import (
	"fmt"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// maxAddresses is what the clients' network has.
const maxAddresses = 1 << 16

// client is the i-th address that connections come from.
func client(i int) [4]byte { return [4]byte{198, 18, byte(i >> 8), byte(i)} }

// server is the address that they go to, and port the port there.
var server = [4]byte{198, 19, 0, 1}

const port = 7

// prepareConnections listens, one socket for each worker, and opens what is held.
func (g *Generator) prepareConnections() error {
	w := &g.workload
	if w.Addresses < 1 || w.Addresses > maxAddresses {
		return fmt.Errorf("%d addresses: must be 1 to %d", w.Addresses, maxAddresses)
	}
	if err := raiseFileLimit(2 * w.Hold); err != nil {
		return err
	}
	n, err := newNetwork()
	if err != nil {
		return err
	}
	g.cleanup = append(g.cleanup, n.close)
	listeners := make([]int, w.Workers)
	if err := n.within(n.server, func() (err error) {
		for i := range listeners {
			if listeners[i], err = listen(&unix.SockaddrInet4{Addr: server, Port: port + i}); err != nil {
				return err
			}
			g.closeLater(listeners[i])
		}
		return nil
	}); err != nil {
		return err
	}
	if err := n.within(n.client, func() error { return g.hold(listeners[0]) }); err != nil {
		return err
	}
	g.pin = func() error { return enter(n.client) }
	g.operate = func(worker int, random *rand.Rand) error {
		near, far, err := connect(client(random.IntN(w.Addresses)), port+worker, listeners[worker])
		if err != nil {
			return err
		}
		// A reset leaves nothing behind that would fill the namespace.
		err = unix.SetsockoptLinger(near, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		unix.Close(near)
		unix.Close(far)
		return err
	}
	return nil
}

func (g *Generator) closeLater(fd int) {
	g.cleanup = append(g.cleanup, func() { unix.Close(fd) })
}

// hold opens what stays open. The first connection takes as long as the link needs to
// come up, so it is made here also where nothing is held.
func (g *Generator) hold(listener int) error {
	near, far, err := connect(client(0), port, listener)
	if err != nil {
		return err
	}
	unix.Close(near)
	unix.Close(far)
	for i := range g.workload.Hold {
		near, far, err := connect(client(i%g.workload.Addresses), port, listener)
		if err != nil {
			return err
		}
		g.closeLater(near)
		g.closeLater(far)
	}
	return nil
}

// connect opens a connection from an address, of which both ends are the caller's.
func connect(from [4]byte, port, listener int) (near, far int, err error) {
	near, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, fmt.Errorf("make socket: %w", err)
	}
	// The port is chosen at connect, when it is known which ones are free for this peer.
	err = unix.SetsockoptInt(near, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err == nil {
		err = unix.Bind(near, &unix.SockaddrInet4{Addr: from})
	}
	if err == nil {
		err = unix.Connect(near, &unix.SockaddrInet4{Addr: server, Port: port})
	}
	if err == nil {
		far, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	}
	if err != nil {
		unix.Close(near)
		return -1, -1, fmt.Errorf("connect: %w", err)
	}
	return near, far, nil
}
