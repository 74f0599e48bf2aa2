package container

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason says why a runtime cannot be asked.
type Reason uint8

// The reasons, from the least to the most telling: where several sockets fail,
// the last of these that occurred is shown.
const (
	Answers    Reason = iota
	Unused            // no socket at the usual places, none configured, no container of it seen
	Missing           // no socket, though one is configured or containers of this runtime are here
	NotASocket        // something else is in its place, as a rule a directory made by a bind mount
	Refused           // nobody listens
	Denied            // we may not connect, or not ask
	Timeout           // somebody listens and does not answer
	Broken            // the answer is an error

	Reasons = int(Broken) + 1
)

var reasonNames = [Reasons]string{"none", "unused", "missing", "not_a_socket", "refused", "denied", "timeout", "error"}

// String returns the reason as a label spells it, "none" where there is none.
func (r Reason) String() string { return reasonNames[r] }

// errNotFound says that a runtime does not know a container.
var errNotFound = errors.New("no such container")

// errNotASocket says that a path leads to something else.
var errNotASocket = errors.New("not a socket")

// reasonOf names what err means for the runtime that gave it. Every kind of client
// reports in its own way: the system, gRPC, or HTTP (see statusError).
func reasonOf(err error) Reason {
	var network net.Error
	switch {
	case err == nil:
		return Answers
	case errors.Is(err, errNotASocket):
		return NotASocket
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return Missing
	case errors.Is(err, syscall.ECONNREFUSED):
		return Refused
	case errors.Is(err, fs.ErrPermission):
		return Denied
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return Timeout
	}
	switch status.Code(err) {
	case codes.DeadlineExceeded:
		return Timeout
	case codes.PermissionDenied, codes.Unauthenticated:
		return Denied
	}
	return Broken
}

// socket identifies a socket in the file system, by whatever path it was found.
type socket struct {
	dev, ino uint64
}

// openSocket makes sure that a socket is at path and that somebody listens.
func openSocket(ctx context.Context, path string) (socket, error) {
	info, err := os.Stat(path)
	if err != nil {
		return socket{}, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return socket{}, fmt.Errorf("connect to %s: %w but a %s", path, errNotASocket, kind(info.Mode()))
	}
	conn, err := dial(ctx, path)
	if err != nil {
		return socket{}, err
	}
	s, _ := info.Sys().(*syscall.Stat_t)
	return socket{dev: uint64(s.Dev), ino: s.Ino}, conn.Close() //nolint:unconvert // Dev is 32 bits wide elsewhere
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode.IsRegular():
		return "file"
	}
	return "special file"
}
