// Package https sends events as JSON lines to a receiver on the web: a collector of logs,
// or an object store's front.
package https

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/outbound"
	"github.com/sonde-ebpf/sonde/internal/sink"
)

// Bounds of one sink.
const (
	// BodyBytes is the size, before compression, at which lines are sent without waiting
	// for the rest of a batch.
	BodyBytes = 1 << 20
	// FirstPause is the pause after a try that failed; it doubles up to LastPause, and half
	// of each is left to chance, so that nodes do not come back all at once.
	FirstPause = 200 * time.Millisecond
	LastPause  = 10 * time.Second
)

// beatEvery is how often the sink shows, while it waits, that it is alive.
const beatEvery = time.Second

// Sink sends what passes its gate, one request after the other, and tries again what did not
// arrive: meanwhile events wait in the queue of the session. It is for one goroutine, but for
// Trouble.
type Sink struct {
	*sink.Gate

	o       Options
	client  *outbound.Client
	encoder *sink.Encoder
	log     *slog.Logger
	beat    func()
	late    <-chan struct{}

	lines   bytes.Buffer
	body    bytes.Buffer
	packer  *gzip.Writer
	pending []int  // events of the batch whose lines are in the buffer
	missing uint64 // events of which the receiver has still to be told that they are

	mu      sync.Mutex
	trouble *outbound.Failure // guarded by mu
}

// Open reads the configuration of a sink, and returns one that has not connected yet: a
// receiver may come later.
func Open(config map[string]any, m sink.Machine, log *slog.Logger) (*Sink, error) {
	gate, rest, err := sink.TakeGate(config, m)
	if err != nil {
		return nil, err
	}
	o, err := ParseOptions(rest)
	if err != nil {
		return nil, err
	}
	client, err := outbound.New(o.Options)
	if err != nil {
		return nil, err
	}
	return &Sink{
		Gate: gate, o: o, client: client, encoder: sink.NewEncoder(m, gate.Choice), log: log,
		packer: gzip.NewWriter(io.Discard), beat: func() {},
	}, nil
}

// Waits implements stream.Patient.
func (s *Sink) Waits(beat func(), late <-chan struct{}) { s.beat, s.late = beat, late }

// Deliver sends the events. It waits for a receiver that does not answer as long as the
// options say, and then gives up what is in one request.
func (s *Sink) Deliver(batch []event.Event, lost func(*event.Event, event.Loss)) {
	flush := func() {
		if err := s.send(); err != nil {
			for _, i := range s.pending {
				lost(&batch[i], event.LossPeer)
			}
		} else {
			s.missing = 0
		}
		s.pending = s.pending[:0]
		s.lines.Reset()
	}
	for i := range batch {
		if s.missing > 0 && s.lines.Len() == 0 {
			s.lines.Write(s.encoder.Lost(s.missing))
		}
		s.lines.Write(s.encoder.Line(&batch[i]))
		s.pending = append(s.pending, i)
		if s.lines.Len() >= BodyBytes {
			flush()
		}
	}
	if s.lines.Len() > 0 {
		flush()
	}
}

// Lost implements stream.Teller: a line comes before the next that arrives.
func (s *Sink) Lost(n uint64) { s.missing += n }

// send sends the lines, again and again while there is hope and time.
func (s *Sink) send() error {
	body := s.lines.Bytes()
	if s.o.Compress {
		s.body.Reset()
		s.packer.Reset(&s.body)
		_, _ = s.packer.Write(body) // to memory
		_ = s.packer.Close()
		body = s.body.Bytes()
	}
	deadline := time.Now().Add(s.o.Patience)
	for pause := FirstPause; ; pause = min(2*pause, LastPause) {
		s.beat()
		failure := s.try(body)
		s.note(failure)
		if failure == nil {
			return nil
		}
		wait := max(pause/2+rand.N(pause/2), failure.RetryAfter)
		if !failure.Reason.Retriable() || time.Now().Add(wait).After(deadline) {
			return failure
		}
		for until := time.Now().Add(wait); time.Now().Before(until); s.beat() {
			select {
			case <-time.After(min(time.Until(until), beatEvery)):
			case <-s.late:
				return failure
			}
		}
	}
}

// try sends the body once.
func (s *Sink) try(body []byte) *outbound.Failure {
	ctx, done := context.WithTimeout(context.Background(), s.o.Timeout)
	defer done()
	go func() {
		select {
		case <-s.late:
			done()
		case <-ctx.Done():
		}
	}()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.o.URL, bytes.NewReader(body))
	if err != nil {
		return &outbound.Failure{Reason: outbound.Rejected, Err: err}
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	if s.o.Compress {
		r.Header.Set("Content-Encoding", "gzip")
	}
	answer, err := s.client.Do(r)
	if err != nil {
		return outbound.AsFailure(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body) // so that the connection can be used again
	_ = answer.Body.Close()
	return nil
}

// note remembers the outcome of a try, and logs when it is another one than before.
func (s *Sink) note(failure *outbound.Failure) {
	s.mu.Lock()
	before := s.trouble
	s.trouble = failure
	s.mu.Unlock()
	switch {
	case failure != nil && (before == nil || before.Reason != failure.Reason):
		s.log.Warn("receiver does not take events", "to", s.client.Target().Host, "class", failure.Reason.String(), "err", failure.Err, "remedy", failure.Reason.Hint())
	case failure == nil && before != nil:
		s.log.Info("receiver takes events again", "to", s.client.Target().Host)
	}
}

// Trouble implements stream.Patient: class, cause and remedy of the last try, if it failed.
func (s *Sink) Trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble == nil {
		return ""
	}
	return fmt.Sprintf("%s: %v; %s", s.trouble.Reason, s.trouble.Err, s.trouble.Reason.Hint())
}

// Close ends the connection.
func (s *Sink) Close() error {
	s.client.Close()
	return nil
}
