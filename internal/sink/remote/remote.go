// Package remote sends events to a monitor that speaks gVisor's remote protocol,
// byte for byte as gVisor's own sink does, and finds the monitor again when it has
// gone.
package remote

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/gvisor/wire"
)

// Bounds of one sink.
const (
	// ConnectTimeout is how long a connect with its handshake may take.
	ConnectTimeout = time.Second

	// RetryFirst is the pause after a connect that failed; it doubles with every
	// further one up to RetryLast. Events that come meanwhile are lost. The first
	// connect after a loss is tried at once.
	RetryFirst = 100 * time.Millisecond
	RetryLast  = 30 * time.Second
)

// Sink is one connection to a monitor, or the search for it. It is for one goroutine.
type Sink struct {
	options Options
	conn    *conn // nil while there is none
	pause   time.Duration
	retryAt time.Time
	until   time.Time // when the patience with a full socket ends, for this batch

	converter converter
	encoder   wire.Encoder
	datagram  []byte

	// lost is what was given up since the sink was opened. A monitor expects a
	// count that begins with its connection, and must be told of what was lost
	// between two: base is where the last monitor has read up to.
	lost, told, base uint32
}

// Open connects to the monitor.
func Open(o Options) (*Sink, error) {
	c, err := dial(o.Endpoint)
	if err != nil {
		return nil, err
	}
	return &Sink{options: o, conn: c}, nil
}

// Deliver sends the events, one message each. It waits for a monitor that does not make
// room as long as it has patience, for all of them together.
func (s *Sink) Deliver(batch []event.Event, lost func(*event.Event, event.Loss)) {
	s.converter.setClock()
	s.until = time.Now().Add(s.options.patience())
	for i := range batch {
		if loss, ok := s.send(&batch[i]); !ok {
			s.lost++
			lost(&batch[i], loss)
		}
	}
}

// Lost implements stream.Teller: a monitor is told of what its queue has lost as of what
// the sink has.
func (s *Sink) Lost(n uint64) { s.lost += uint32(n) }

// send sends one event, a second time if the connection breaks at it: a datagram
// is taken whole or not at all.
func (s *Sink) send(ev *event.Event) (event.Loss, bool) {
	m := s.converter.message(ev)
	if m == nil {
		return event.LossEncode, false
	}
	for range 2 {
		if !s.connected() {
			return event.LossPeer, false
		}
		total := s.lost
		s.datagram = s.encoder.Append(s.datagram[:0], m, total-s.base)
		switch err := s.conn.send(s.datagram, s.until); {
		case err == nil:
			s.told = total
			return 0, true
		case errors.Is(err, syscall.EMSGSIZE):
			return event.LossEncode, false
		case errors.Is(err, errFull):
			return event.LossPeer, false
		}
		s.disconnect()
	}
	return event.LossPeer, false
}

// connected reports whether there is a connection, and tries to make one if it is
// time to.
func (s *Sink) connected() bool {
	if s.conn != nil {
		return true
	}
	if time.Now().Before(s.retryAt) {
		return false
	}
	c, err := dial(s.options.Endpoint)
	if err != nil {
		s.pause = min(max(2*s.pause, RetryFirst), RetryLast)
		s.retryAt = time.Now().Add(s.pause)
		return false
	}
	s.conn, s.pause = c, 0
	return true
}

// disconnect gives a broken connection up.
func (s *Sink) disconnect() {
	_ = s.conn.Close() // broken already
	s.conn, s.base = nil, s.told
}

// Close ends the connection. What was sent stays readable for the monitor.
func (s *Sink) Close() error {
	if s.conn == nil {
		return nil
	}
	if err := s.conn.Close(); err != nil {
		return fmt.Errorf("close sink %s: %w", s.options.Endpoint, err)
	}
	return nil
}

// wallOffset is what turns a time of CLOCK_BOOTTIME into Unix time.
func wallOffset() int64 {
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return 0 // never: every kernel that runs eBPF has the clock
	}
	return time.Now().UnixNano() - boot.Nano()
}
