package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// network is how package net calls SOCK_SEQPACKET of Unix sockets.
const network = "unixpacket"

// socketMode lets root alone connect. It is set before the socket has a name.
const socketMode = 0o600

// MaxPath bounds the path of the endpoint, in bytes, as the kernel does.
const MaxPath = 107

// ErrTaken is the error of an endpoint that somebody else answers on, or of a
// path where something lies that is not a socket.
var ErrTaken = errors.New("taken")

// listen opens the endpoint. The socket of a process that was killed is replaced.
func listen(path string) (*net.UnixListener, error) {
	if len(path) > MaxPath {
		return nil, fmt.Errorf("listen on %s: the path has %d bytes, %d are possible", path, len(path), MaxPath)
	}
	if err := removeStale(path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), socketMode) }), err)
	}}
	l, err := config.Listen(context.Background(), network, path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l.(*net.UnixListener), nil
}

// removeStale removes a socket that nobody listens on.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%w: there is a file that is no socket", ErrTaken)
	}
	c, err := net.Dial(network, path)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("%w: another process listens there", ErrTaken), c.Close())
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: %w", ErrTaken, err)
	}
	return os.Remove(path)
}
