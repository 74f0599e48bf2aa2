package remote

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// errFull says that the monitor did not make room in time.
var errFull = errors.New("the monitor's socket is full")

// conn is a connection whose handshake is done.
type conn struct {
	*net.UnixConn
	raw syscall.RawConn
}

// dial connects and shakes hands.
func dial(endpoint string) (*conn, error) {
	dialer := net.Dialer{Timeout: ConnectTimeout}
	nc, err := dialer.Dial("unixpacket", endpoint)
	if err != nil {
		return nil, fmt.Errorf("connect to monitor: %w", err)
	}
	c := &conn{UnixConn: nc.(*net.UnixConn)}
	if err := c.shakeHands(); err != nil {
		return nil, errors.Join(fmt.Errorf("shake hands with monitor %s: %w", endpoint, err), c.Close())
	}
	return c, nil
}

func (c *conn) shakeHands() (err error) {
	if err := c.SetDeadline(time.Now().Add(ConnectTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(wire.AppendHandshake(nil)); err != nil {
		return err
	}
	theirs := make([]byte, wire.MaxHandshake)
	n, err := c.Read(theirs)
	if err != nil {
		return err
	}
	if _, err := wire.ParseHandshake(theirs[:n]); err != nil {
		return err
	}
	if c.raw, err = c.SyscallConn(); err != nil {
		return err
	}
	return c.SetDeadline(time.Time{})
}

// send sends one datagram. It waits for room until the time is up; errFull says that
// there was none.
func (c *conn) send(datagram []byte, until time.Time) error {
	err := c.try(datagram, true)
	if !errors.Is(err, syscall.EAGAIN) || !time.Now().Before(until) {
		return asFull(err)
	}
	if err := c.SetWriteDeadline(until); err != nil {
		return err
	}
	return errors.Join(asFull(c.try(datagram, false)), c.SetWriteDeadline(time.Time{}))
}

// try writes a datagram, once or as soon as there is room.
func (c *conn) try(datagram []byte, once bool) error {
	var err error
	waitErr := c.raw.Write(func(fd uintptr) bool {
		_, err = syscall.Write(int(fd), datagram)
		return once || !errors.Is(err, syscall.EAGAIN)
	})
	if waitErr != nil {
		return waitErr
	}
	return err
}

func asFull(err error) error {
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, os.ErrDeadlineExceeded) {
		return errFull
	}
	return err
}
