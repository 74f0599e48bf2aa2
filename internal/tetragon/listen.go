package tetragon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// ErrOpenToAll is the error of an address that other nodes can reach: the API asks
// nobody for credentials.
var ErrOpenToAll = errors.New("other nodes can reach it and nothing asks them for credentials; listen on unix:///path or on 127.0.0.1")

// unixScheme begins the address of a Unix socket.
const unixScheme = "unix://"

// socketMode lets root alone connect to a Unix socket.
const socketMode = 0o600

// Listen opens the address.
func (s *Server) Listen() (err error) {
	if path, unix := strings.CutPrefix(s.opts.Address, unixScheme); unix {
		s.listener, err = listenUnix(path)
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

func listenUnix(path string) (net.Listener, error) {
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, socketMode); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// removeStale removes a socket that nobody answers on, as a killed process leaves
// it. Anything else is left for Listen to complain about.
func removeStale(path string) error {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSocket || answers(unixScheme+path) {
		return nil //nolint:nilerr // nothing there that is ours to remove
	}
	return os.Remove(path)
}

// answers reports whether somebody listens on an address.
func answers(address string) bool {
	network := "tcp"
	if path, unix := strings.CutPrefix(address, unixScheme); unix {
		network, address = "unix", path
	}
	c, err := net.DialTimeout(network, address, time.Second)
	return err == nil && c.Close() == nil
}

func url(a net.Addr) string {
	if a.Network() == "unix" {
		return unixScheme + a.String()
	}
	return a.String()
}
