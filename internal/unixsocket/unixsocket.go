// Package unixsocket opens the Unix sockets on which the sensor is asked.
package unixsocket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Scheme begins the address of a Unix socket where other addresses are possible.
const Scheme = "unix://"

// Mode of every socket: root alone may connect.
const Mode = 0o600

// MaxPath bounds the path of a socket, in bytes, as the kernel does.
const MaxPath = 107

// Listen opens a socket of the network "unix" or "unixpacket". One that a killed
// process has left is replaced; a path where somebody listens, or something else
// lies, is the error EADDRINUSE. The mode is set before the socket has a name.
func Listen(network, path string) (*net.UnixListener, error) {
	if len(path) > MaxPath {
		return nil, fmt.Errorf("listen on %s: the path has %d bytes, %d are possible", path, len(path), MaxPath)
	}
	if err := removeStale(network, path); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), Mode) }), err)
	}}
	l, err := config.Listen(context.Background(), network, path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l.(*net.UnixListener), nil
}

// removeStale removes a socket that nobody listens on.
func removeStale(network, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%w: there is a file that is no socket", syscall.EADDRINUSE)
	}
	c, err := net.Dial(network, path)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("%w: another process listens there", syscall.EADDRINUSE), c.Close())
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: %w", syscall.EADDRINUSE, err)
	}
	return os.Remove(path)
}
