package gvisor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
	"github.com/sonde-ebpf/sonde/internal/unixsocket"
)

// Bounds of the receiver.
const (
	// MaxConnections is how many sandboxes are listened to at once. One more is
	// greeted, so that its container starts, and left.
	MaxConnections = 1024

	// MaxHandshakes is how many handshakes go on at once; others wait their turn.
	MaxHandshakes = 64

	// HandshakeTimeout is how long a sandbox may take for its handshake. A
	// container that starts waits for our answer, not the other way round.
	HandshakeTimeout = 5 * time.Second

	// SilentAfter is when a sandbox counts as silent that shook hands and sent
	// nothing: a session with an unknown point looks just like that.
	SilentAfter = time.Minute

	// workspaces is how many messages are worked on at once. Memory for messages
	// = workspaces x 1 MiB, whatever the sandboxes do; connections without a
	// message hold none.
	workspaces = 4

	// acceptPause is the pause after an accept that failed for want of something
	// that others may give back, such as descriptors.
	acceptPause = 100 * time.Millisecond
)

// Options are what a receiver needs.
type Options struct {
	Endpoint string // path of the socket
	Logger   *slog.Logger
	// Publish is called with every event, from several goroutines. It must not
	// block, and the event is valid until it returns.
	Publish func(*event.Event)
	// Editor takes the texts of events in.
	Editor *event.Editor
	// Boot returns nanoseconds of CLOCK_BOOTTIME, the clock of events.
	Boot func() uint64
	// Roster remembers which sandboxes were connected; nil for none.
	Roster *Roster
	Proc   string // where procfs is mounted
}

// Receiver is the monitor's end of any number of connections. Listen opens the
// endpoint, Run serves it; the counters may be read at any time.
type Receiver struct {
	opts       Options
	log        *slog.Logger
	listener   *net.UnixListener
	proc       fs.FS
	bounds     bounds
	spaces     chan *workspace // of nil where none has been needed yet
	handshakes chan struct{}   // room for MaxHandshakes
	counters

	mu          sync.Mutex
	greeted     map[*net.UnixConn]struct{} // handshakes under way
	connections map[*Connection]struct{}
	stopping    bool
}

// bounds are the constants of that name; tests have smaller ones.
type bounds struct {
	message, connections int
	handshake            time.Duration
}

// workspace is what one message is received, decoded and translated in.
type workspace struct {
	buffer  []byte
	decoder *wire.Decoder
	event   event.Event
}

// New returns a receiver that listens to nothing yet.
func New(o Options) *Receiver {
	r := &Receiver{
		opts: o, log: o.Logger, proc: os.DirFS(o.Proc),
		bounds: bounds{message: wire.MaxMessage, connections: MaxConnections, handshake: HandshakeTimeout},
		spaces: make(chan *workspace, workspaces), handshakes: make(chan struct{}, MaxHandshakes),
		greeted: map[*net.UnixConn]struct{}{}, connections: map[*Connection]struct{}{},
	}
	for range workspaces {
		r.spaces <- nil
	}
	return r
}

// Endpoint returns the path of the socket.
func (r *Receiver) Endpoint() string { return r.opts.Endpoint }

// Listen opens the endpoint. An error that is EADDRINUSE says that somebody else
// has it.
func (r *Receiver) Listen() (err error) {
	r.listener, err = unixsocket.Listen("unixpacket", r.opts.Endpoint)
	return err
}

// Close removes the endpoint; a receiver that has run needs no Close.
func (r *Receiver) Close() error { return r.listener.Close() }

// Orphans lists the sandboxes that run and will not connect again.
func (r *Receiver) Orphans() []Sandbox { return r.opts.Roster.Orphans() }

// Run serves the endpoint until ctx ends. Then it removes the socket, takes what
// the sandboxes have sent so far, and leaves them: they go on without us.
func (r *Receiver) Run(ctx context.Context) error {
	remember, end := context.WithCancel(context.WithoutCancel(ctx))
	var roster sync.WaitGroup
	roster.Go(func() { r.opts.Roster.run(remember) })
	r.accept(ctx)
	end() // only now: what was read last may have named a sandbox
	roster.Wait()
	return nil
}

// accept serves whoever connects, and returns when all have been served.
func (r *Receiver) accept(ctx context.Context) {
	var serving sync.WaitGroup
	defer serving.Wait()
	defer context.AfterFunc(ctx, r.stop)()
	for {
		r.handshakes <- struct{}{}
		conn, err := r.listener.AcceptUnix()
		switch {
		case err == nil:
			serving.Go(func() { r.serve(conn) })
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		<-r.handshakes
		r.log.Warn("accepting a sandbox failed", "err", err)
		pause(ctx, acceptPause)
	}
}

// pause waits, and no longer than ctx lives.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// stop closes the endpoint and ends handshakes; connections it closes for what the
// other side may still send, so that what has been sent is read.
func (r *Receiver) stop() {
	_ = r.listener.Close() // nothing depends on it
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
	for conn := range r.greeted {
		_ = conn.Close() // it was of no use yet
	}
	for c := range r.connections {
		_ = c.conn.CloseRead() // fails where the sandbox has left
	}
}

// serve is the life of one connection.
func (r *Receiver) serve(conn *net.UnixConn) {
	defer func() { _ = conn.Close() }() // only read from by now
	c := newConnection(conn, r.proc, r.opts.Editor)
	err := r.greet(c)
	<-r.handshakes
	if err != nil {
		r.log.Warn("sandbox turned away", "peer", c.peer, "err", err)
		return
	}
	if !r.enter(c) {
		r.rejected[RejectedLimit].Add(1)
		r.log.Warn("sandbox left unwatched", "peer", c.peer, "connections", r.bounds.connections)
		return
	}
	defer r.leave(c)
	r.log.Info("sandbox connected", "peer", c.peer, "sandbox", c.Sandbox())
	err = r.receive(c)
	r.log.Info("sandbox disconnected", "peer", c.peer, "sandbox", c.Sandbox(),
		"messages", c.messages.Load(), "dropped", c.ledger.total(), "err", err)
}

// greet shakes hands and counts why it did not come to that.
func (r *Receiver) greet(c *Connection) error {
	r.mu.Lock()
	if r.stopping {
		r.mu.Unlock()
		return net.ErrClosed
	}
	r.greeted[c.conn] = struct{}{}
	r.mu.Unlock()
	err := shakeHands(c.conn, r.bounds.handshake)
	r.mu.Lock()
	delete(r.greeted, c.conn)
	r.mu.Unlock()
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		r.rejected[RejectedTimeout].Add(1)
	case errors.Is(err, wire.ErrVersion):
		r.rejected[RejectedVersion].Add(1)
	default:
		r.rejected[RejectedHandshake].Add(1)
	}
	return err
}

func shakeHands(conn *net.UnixConn, within time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return fmt.Errorf("shake hands: %w", err)
	}
	theirs := make([]byte, wire.MaxHandshake)
	n, err := conn.Read(theirs)
	if err != nil {
		return fmt.Errorf("read handshake: %w", err)
	}
	if _, err := wire.ParseHandshake(theirs[:n]); err != nil {
		return err
	}
	if _, err := conn.Write(wire.AppendHandshake(nil)); err != nil {
		return fmt.Errorf("answer handshake: %w", err)
	}
	return conn.SetDeadline(time.Time{})
}

// enter takes a connection into the books, unless they are full.
func (r *Receiver) enter(c *Connection) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.connections) == r.bounds.connections {
		return false
	}
	if r.stopping {
		_ = c.conn.CloseRead() // as stop did with the others
	}
	r.connections[c] = struct{}{}
	r.opts.Roster.connected(c)
	return true
}

func (r *Receiver) leave(c *Connection) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.connections, c)
	if !r.stopping { // the roster is for those that we left, not those that left us
		r.opts.Roster.gone(c)
	}
}

// Connections lists the open connections, the oldest first.
func (r *Receiver) Connections() []ConnectionState {
	r.mu.Lock()
	all, now := make([]ConnectionState, 0, len(r.connections)), time.Now()
	for c := range r.connections {
		all = append(all, c.state(now))
	}
	r.mu.Unlock()
	slices.SortFunc(all, func(a, b ConnectionState) int { return a.Since.Compare(b.Since) })
	return all
}
