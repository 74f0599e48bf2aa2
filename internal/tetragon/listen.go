package tetragon

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/sonde-ebpf/sonde/internal/unixsocket"
)

// ErrOpenToAll is the error of an address that other nodes can reach: the API asks
// nobody for credentials.
var ErrOpenToAll = errors.New("other nodes can reach it and nothing asks them for credentials; listen on unix:///path or on 127.0.0.1")

// Listen opens the address.
func (s *Server) Listen() (err error) {
	if path, unix := strings.CutPrefix(s.opts.Address, unixsocket.Scheme); unix {
		s.listener, err = unixsocket.Listen("unix", path)
	} else {
		s.listener, err = listenLoopback(s.opts.Address)
	}
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.opts.Address, err)
	}
	return nil
}

func listenLoopback(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	if !l.Addr().(*net.TCPAddr).IP.IsLoopback() { // of the real address: a name may be anything
		return nil, errors.Join(ErrOpenToAll, l.Close())
	}
	return l, nil
}

// answers reports whether somebody listens on an address.
func answers(address string) bool {
	network := "tcp"
	if path, unix := strings.CutPrefix(address, unixsocket.Scheme); unix {
		network, address = "unix", path
	}
	c, err := net.DialTimeout(network, address, time.Second)
	return err == nil && c.Close() == nil
}

func url(a net.Addr) string {
	if a.Network() == "unix" {
		return unixsocket.Scheme + a.String()
	}
	return a.String()
}
