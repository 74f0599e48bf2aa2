package bpf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Events reads and decodes the event ring. Next is for one goroutine; all other
// methods may be called concurrently.
type Events struct {
	kernel  *Kernel
	reader  *ringbuf.Reader
	record  ringbuf.Record
	again   time.Time // when to look unasked
	watch   Watch
	inDrain int

	read, undecodable atomic.Uint64
}

// EventStats is the reader's side of the ledger: Read = decoded + Undecodable.
type EventStats struct{ Read, Undecodable uint64 }

// Watch is told what reading costs. It is called from the goroutine of Next and
// must be quick.
type Watch interface {
	// Drained notes after a wake-up how many records it brought.
	Drained(records int)
	// Decoded notes how long one event took to decode; one in decodeSample is timed.
	Decoded(p event.Point, took time.Duration)
}

const decodeSample = 128

// NewEvents opens the ring for reading; watch may be nil.
func NewEvents(k *Kernel, watch Watch) (*Events, error) {
	reader, err := ringbuf.NewReader(k.shared["events"])
	if err != nil {
		return nil, fmt.Errorf("open event ring: %w", err)
	}
	if err := k.setWakeups(reader.BufferSize()); err != nil {
		reader.Close()
		return nil, err
	}
	e := &Events{kernel: k, reader: reader, watch: watch}
	e.lookIn(readAgain)
	return e, nil
}

// Next waits for the next event and decodes it into ev. After Flush it returns
// what is left in the ring and then io.EOF. A record that cannot be decoded is
// counted and passed over. Next does not allocate, but once for ev's texts.
func (e *Events) Next(ev *event.Event) error {
	for {
		err := e.reader.ReadInto(&e.record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !time.Now().Before(e.again) { // else something was found at it
				e.lookIn(readIdle)
			}
			continue
		case errors.Is(err, ringbuf.ErrFlushed):
			if e.reader.AvailableBytes() > 0 {
				e.reader.SetDeadline(time.Now())
				continue
			}
			return io.EOF
		case err != nil:
			return fmt.Errorf("read event ring: %w", err)
		}
		e.inDrain++
		ok := e.decode(e.read.Add(1), ev)
		if e.record.Remaining == 0 {
			e.endDrain()
		}
		if ok {
			return nil
		}
		e.undecodable.Add(1)
	}
}

// decode decodes the current record, the n-th, and times a sample of them.
func (e *Events) decode(n uint64, ev *event.Event) bool {
	if e.watch == nil || n%decodeSample != 0 {
		return decode(e.record.RawSample, ev, e.kernel.opts.Editor)
	}
	began := time.Now()
	ok := decode(e.record.RawSample, ev, e.kernel.opts.Editor)
	if ok {
		e.watch.Decoded(ev.Point, time.Since(began))
	}
	return ok
}

// endDrain closes the books of one look at the ring that brought something.
func (e *Events) endDrain() {
	if e.watch != nil {
		e.watch.Drained(e.inDrain)
	}
	e.inDrain = 0
	e.lookIn(readAgain)
}

// lookIn sets when to look at the ring unasked.
func (e *Events) lookIn(d time.Duration) {
	e.again = time.Now().Add(d)
	e.reader.SetDeadline(e.again)
}

// Flush makes Next return what the ring holds and then io.EOF. Detach first.
func (e *Events) Flush() error { return e.reader.Flush() }

// Close frees the ring's mapping; a waiting Next returns an error.
func (e *Events) Close() error { return e.reader.Close() }

// Stats returns the reader's counters.
func (e *Events) Stats() EventStats {
	return EventStats{Read: e.read.Load(), Undecodable: e.undecodable.Load()}
}

// Fill describes the event ring without touching the measurement of its peak.
func (e *Events) Fill() RingStat {
	used := uint64(e.reader.AvailableBytes())
	peak, err := readUint64(e.kernel.ring, 0)
	if err != nil { // a mapped page cannot fail to be read before Close
		peak = 0
	}
	return RingStat{Ring: "events", SizeBytes: uint64(e.reader.BufferSize()), UsedBytes: used, PeakBytes: max(peak, used)}
}

// Rings describes the event ring and restarts the measurement of its peak.
func (e *Events) Rings() ([]RingStat, error) {
	r := e.Fill()
	if err := writeUint64(e.kernel.ring, 0, r.UsedBytes); err != nil {
		return nil, fmt.Errorf("restart ring peak: %w", err)
	}
	return []RingStat{r}, nil
}
