package gvisor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// maxSandboxName bounds what is kept of a sandbox's id, in bytes.
const maxSandboxName = 256

// Connection is one sandbox that has shaken hands.
type Connection struct {
	conn  *net.UnixConn
	peer  string // who connected: runsc, for the sandbox
	since time.Time

	messages  atomic.Uint64
	malformed atomic.Uint64
	last      atomic.Int64 // when the last message came, Unix nanoseconds; 0 for never
	ledger    ledger

	translator translator // of the goroutine that receives

	mu      sync.Mutex
	sandbox string // "" while it is not known
}

// newConnection looks at once who connected: runsc ends soon.
func newConnection(conn *net.UnixConn, proc fs.FS, editor *event.Editor) *Connection {
	c := &Connection{conn: conn, since: time.Now(), translator: translator{editor: editor}}
	c.peer, c.sandbox = peerOf(conn, proc)
	return c
}

// peerOf names the process that connected, and the sandbox if it did so for one:
// "runsc --root /run/docker create … ID", also run and trace create, all have the
// id as their last argument.
func peerOf(conn *net.UnixConn, proc fs.FS) (peer, sandbox string) {
	peer = "unknown"
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer, ""
	}
	_ = raw.Control(func(fd uintptr) { // one that is closed has no peer
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		args := commandLine(proc, strconv.Itoa(int(cred.Pid)))
		peer, sandbox = peerName(cred, args)
	})
	return peer, sandbox
}

func peerName(cred *unix.Ucred, args []string) (peer, sandbox string) {
	peer = fmt.Sprintf("uid %d, pid %d", cred.Uid, cred.Pid)
	if len(args) == 0 {
		return peer, ""
	}
	program := path.Base(args[0])
	last := args[len(args)-1]
	if strings.HasPrefix(program, "runsc") && len(args) > 1 && len(last) <= maxSandboxName && !strings.HasPrefix(last, "-") {
		sandbox = last
	}
	return program + ", " + peer, sandbox
}

// Sandbox returns the sandbox's id, as whoever connected for it names it, else that
// of the first container in a message. It is "" while neither has told.
func (c *Connection) Sandbox() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sandbox
}

// learn takes the sandbox's name from a message. It reports whether it is new.
func (c *Connection) learn(id []byte) bool {
	if len(id) == 0 || len(id) > maxSandboxName {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sandbox != "" {
		return false
	}
	c.sandbox = string(id)
	return true
}

// ConnectionState is what is known of a connection.
type ConnectionState struct {
	Peer      string    // "runsc, uid 0, pid 4711": who connected
	Sandbox   string    // its id, "" while that is not known
	Since     time.Time // of the handshake
	Last      time.Time // of the last message; zero for none
	Messages  uint64    // received, of unknown types included
	Malformed uint64    // of these
	Dropped   uint64    // lost by the sandbox before they were sent, as it says
	Silent    bool      // longer than SilentAfter without one message
}

func (c *Connection) state(now time.Time) ConnectionState {
	s := ConnectionState{
		Peer: c.peer, Sandbox: c.Sandbox(), Since: c.since,
		Messages: c.messages.Load(), Malformed: c.malformed.Load(), Dropped: c.ledger.total(),
	}
	if last := c.last.Load(); last != 0 {
		s.Last = time.Unix(0, last)
	} else {
		s.Silent = now.Sub(c.since) > SilentAfter
	}
	return s
}

// receive takes messages until the other side, or stop, ends the connection. It
// never waits for anything but messages, so that no sandbox waits for us.
func (r *Receiver) receive(c *Connection) error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	for {
		switch err := r.receiveOne(c, raw); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// receiveOne waits for a datagram without holding a workspace, and works it off in one.
func (r *Receiver) receiveOne(c *Connection, raw rawConn) error {
	var (
		space  *workspace
		n      int
		flags  int
		rcvErr error
	)
	waitErr := raw.Read(func(fd uintptr) bool {
		space = r.take()
		n, _, flags, _, rcvErr = unix.Recvmsg(int(fd), space.buffer, nil, unix.MSG_DONTWAIT)
		if errors.Is(rcvErr, unix.EAGAIN) || errors.Is(rcvErr, unix.EINTR) {
			r.spaces <- space
			space = nil
			return false
		}
		if n == 0 && rcvErr == nil && hungUp(int(fd)) {
			rcvErr = io.EOF
		}
		return true
	})
	if space != nil {
		defer func() { r.spaces <- space }()
	}
	if err := errors.Join(waitErr, rcvErr); err != nil {
		return err
	}
	r.message(c, space, n, flags&unix.MSG_TRUNC != 0)
	return nil
}

// rawConn is the part of syscall.RawConn that receiveOne needs.
type rawConn interface {
	Read(func(fd uintptr) (done bool)) error
}

// take takes a workspace, of which there are a few for all connections.
func (r *Receiver) take() *workspace {
	w := <-r.spaces
	if w == nil {
		w = &workspace{buffer: make([]byte, r.bounds.message), decoder: wire.NewDecoder()}
	}
	return w
}

// hungUp tells the end of a connection from a datagram of no bytes.
func hungUp(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(fds, 0)
	return err != nil || n > 0
}

// message counts one datagram and publishes the event that it tells of.
func (r *Receiver) message(c *Connection, space *workspace, n int, truncated bool) {
	now := time.Now().UnixNano()
	c.messages.Add(1)
	c.last.Store(now)
	if truncated { // nor is its header believed
		r.fault(c, MalformedOversize)
		return
	}
	h, m, err := space.decoder.Decode(space.buffer[:n])
	if errors.Is(err, wire.ErrHeader) {
		r.fault(c, MalformedHeader)
		return
	}
	r.dropped.Add(c.ledger.advance(h.Dropped))
	switch {
	case err == nil:
		r.messages[h.Type].Add(1)
		r.name(c, m)
		if c.translator.event(m, clocks{wall: now, boot: r.opts.Boot()}, &space.event) {
			r.events[space.event.Point].Add(1)
			r.opts.Publish(&space.event)
		}
	case errors.Is(err, wire.ErrType):
		r.messages[wire.TypeUnknown].Add(1)
	default:
		r.fault(c, MalformedPayload)
	}
}

func (r *Receiver) fault(c *Connection, reason Malformed) {
	c.malformed.Add(1)
	r.malformed[reason].Add(1)
}

// name learns from a message which sandbox it is from.
func (r *Receiver) name(c *Connection, m wire.Message) {
	id := m.Cause().ContainerID
	if start, ok := m.(*wire.ContainerStart); ok && len(start.ID) > 0 {
		id = start.ID
	}
	if c.learn(id) {
		r.opts.Roster.connected(c)
	}
}
