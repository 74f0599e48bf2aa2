package profile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"sync"
	"time"

	"github.com/google/pprof/profile"
)

// MaxRecording is the longest time that the CPU recorder runs before it switches
// itself off: who forgets it does not pay for it for ever.
const MaxRecording = 10 * time.Minute

// Errors that say why a profile cannot be taken or switched.
var (
	ErrState   = errors.New("not possible in this state")         // switch something else first
	ErrBusy    = errors.New("a profile is being taken already")   // ask again later
	ErrWord    = errors.New("write on, off or empty")             // no such switch
	ErrName    = errors.New("the run time has no profile called") // no such profile
	ErrSyscall = errors.New("no such system call")
)

// conflict is an ErrState that says what is in the way.
type conflict string

func (c conflict) Error() string { return string(c) }

// Is makes it an ErrState.
func (c conflict) Is(target error) bool { return target == ErrState }

// State is what a recorder holds.
type State string

// The states of a recorder.
const (
	Empty State = "empty" // nothing
	On    State = "on"    // it records
	Off   State = "off"   // a record that has ended
)

// Self takes profiles of this process. There should be one, because the run time
// has one CPU profiler only. Its methods may be called concurrently.
type Self struct {
	longest time.Duration // test: other than MaxRecording

	mu   sync.Mutex
	heap heapRecorder
	cpu  cpuRecorder
}

// NewSelf returns a Self that records nothing.
func NewSelf() *Self { return &Self{longest: MaxRecording} }

// Status tells the states of both recorders.
func (s *Self) Status() (heap, cpu State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heap.state(), s.cpu.state()
}

// SwitchHeap begins (on) or ends (off) a record of what is allocated and not freed
// again, or forgets one (empty). It stops the world for some milliseconds.
func (s *Self) SwitchHeap(word string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return switchTo(word, &s.heap)
}

// SwitchCPU does the same with the processor's time. A record ends by itself after
// MaxRecording.
func (s *Self) SwitchCPU(word string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := switchTo(word, &s.cpu); err != nil || word != string(On) {
		return err
	}
	record := s.cpu.running
	s.cpu.expiry = time.AfterFunc(s.longest, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.cpu.running == record {
			_ = s.cpu.off() // it only stops what runs
		}
	})
	return nil
}

// Heap returns what the record holds: the difference between its beginning and its
// end, or now if it is on. Without a record it is the heap as it is.
func (s *Self) Heap() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heap.read()
}

// CPU returns the record that has ended.
func (s *Self) CPU() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cpu.record == nil {
		return nil, conflict("the record is " + string(s.cpu.state()) + ": switch it on, and off again")
	}
	return s.cpu.record, nil
}

// RecordCPU profiles the processor's time until ctx ends or d has passed. A context
// that was cancelled is an error, so that nobody takes less for the whole.
func (s *Self) RecordCPU(ctx context.Context, d time.Duration) ([]byte, error) {
	var out bytes.Buffer
	if err := pprof.StartCPUProfile(&out); err != nil {
		return nil, fmt.Errorf("start CPU profile: %w", ErrBusy)
	}
	err := sleep(ctx, d)
	pprof.StopCPUProfile()
	return out.Bytes(), err
}

// Trace writes an execution trace of d to w, as it is made.
func (s *Self) Trace(ctx context.Context, w io.Writer, d time.Duration) error {
	if err := trace.Start(w); err != nil {
		return fmt.Errorf("start trace: %w", ErrBusy)
	}
	defer trace.Stop()
	return sleep(ctx, d)
}

// Names lists the run time's profiles: heap, goroutine and others.
func (s *Self) Names() []string {
	var names []string
	for _, p := range pprof.Profiles() {
		names = append(names, p.Name())
	}
	return names
}

// Lookup writes one of the run time's profiles as it is now: debug 0 is protobuf,
// 1 and 2 are texts. gc collects garbage first.
func (s *Self) Lookup(w io.Writer, name string, debug int, gc bool) error {
	p := pprof.Lookup(name)
	if p == nil {
		return fmt.Errorf("%w %q", ErrName, name)
	}
	if gc {
		runtime.GC()
	}
	return p.WriteTo(w, debug)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// recorder is something that begins and ends.
type recorder interface {
	state() State
	on() error
	off() error
	empty()
}

// switchTo moves a recorder to another state, where that makes sense.
func switchTo(word string, r recorder) error {
	was := r.state()
	switch State(word) {
	case On:
		if was == On {
			return conflict("the record is on already")
		}
		return r.on()
	case Off:
		if was != On {
			return conflict("the record is " + string(was) + ", not on")
		}
		return r.off()
	case Empty:
		if was == On {
			return conflict("the record is on: switch it off first")
		}
		r.empty()
		return nil
	}
	return ErrWord
}

// heapRecorder remembers the heap at the beginning of a record.
type heapRecorder struct {
	begin  *profile.Profile // nil if it is not on
	record []byte           // nil if none has ended
}

func (h *heapRecorder) state() State {
	switch {
	case h.begin != nil:
		return On
	case h.record != nil:
		return Off
	}
	return Empty
}

func (h *heapRecorder) on() (err error) {
	h.record = nil
	h.begin, err = heap()
	return err
}

func (h *heapRecorder) off() (err error) {
	if h.record, err = h.read(); err == nil {
		h.begin = nil
	}
	return err
}

func (h *heapRecorder) empty() { h.record = nil }

func (h *heapRecorder) read() ([]byte, error) {
	if h.record != nil {
		return h.record, nil
	}
	now, err := heap()
	if err != nil {
		return nil, err
	}
	if h.begin != nil {
		if now, err = difference(now, h.begin); err != nil {
			return nil, err
		}
	}
	return encode(now)
}

// heap is the heap of this process. The run time knows it as of the last garbage
// collection, so there is one now.
func heap() (*profile.Profile, error) {
	var out bytes.Buffer
	runtime.GC()
	if err := pprof.Lookup("heap").WriteTo(&out, 0); err != nil {
		return nil, fmt.Errorf("take heap profile: %w", err)
	}
	p, err := profile.Parse(&out)
	if err != nil {
		return nil, fmt.Errorf("read heap profile: %w", err)
	}
	return p, nil
}

// difference is what has come since an earlier profile, and as negative values what
// has gone. It does not change begin.
func difference(end, begin *profile.Profile) (*profile.Profile, error) {
	less := begin.Copy()
	less.Scale(-1)
	d, err := profile.Merge([]*profile.Profile{end, less})
	if err != nil {
		return nil, fmt.Errorf("subtract profiles: %w", err)
	}
	d.TimeNanos, d.DurationNanos = begin.TimeNanos, end.TimeNanos-begin.TimeNanos
	return d, nil
}

func encode(p *profile.Profile) ([]byte, error) {
	var out bytes.Buffer
	if err := p.Write(&out); err != nil {
		return nil, fmt.Errorf("write profile: %w", err)
	}
	return out.Bytes(), nil
}

// cpuRecorder runs the run time's CPU profiler.
type cpuRecorder struct {
	running *bytes.Buffer // what it writes to when it stops; nil if it is not on
	record  []byte
	expiry  *time.Timer
}

func (c *cpuRecorder) state() State {
	switch {
	case c.running != nil:
		return On
	case c.record != nil:
		return Off
	}
	return Empty
}

func (c *cpuRecorder) on() error {
	out := &bytes.Buffer{}
	if err := pprof.StartCPUProfile(out); err != nil {
		return fmt.Errorf("start CPU profile: %w", ErrBusy)
	}
	c.running, c.record = out, nil
	return nil
}

func (c *cpuRecorder) off() error {
	pprof.StopCPUProfile()
	c.expiry.Stop()
	c.record, c.running = c.running.Bytes(), nil
	return nil
}

func (c *cpuRecorder) empty() { c.record = nil }
