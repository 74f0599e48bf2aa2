package bpf

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// run counts until d has passed and reads what was counted.
func (r *stackRecorder) run(ctx context.Context, d time.Duration, found func(AddressSpace, event.Process)) (*StackProfile, error) {
	spaces, err := ringbuf.NewReader(r.obj.coll.Maps["found"])
	if err != nil {
		return nil, fmt.Errorf("open ring of address spaces: %w", err)
	}
	told := make(chan error, 1)
	go func() { told <- tellSpaces(spaces, found) }()
	p, err := r.count(ctx, d)
	return p, errors.Join(err, spaces.Flush(), <-told, spaces.Close())
}

// count is run without the address spaces.
func (r *stackRecorder) count(ctx context.Context, d time.Duration) (*StackProfile, error) {
	p := &StackProfile{Begin: time.Now(), Hz: r.opts.Hz}
	if err := r.start(); err != nil {
		return nil, err
	}
	begin := time.Now()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-timer.C:
	}
	var due uint64
	for _, c := range r.clocks {
		n, err := c.pause()
		if err != nil {
			return nil, err
		}
		due += n
	}
	p.Duration = time.Since(begin)
	r.stop()
	if err := r.readOutcomes(p, due); err != nil {
		return nil, err
	}
	return p, r.readSamples(p)
}

// tellSpaces hands out address spaces until the ring is flushed.
func tellSpaces(r *ringbuf.Reader, found func(AddressSpace, event.Process)) error {
	var rec ringbuf.Record
	for {
		err := r.ReadInto(&rec)
		if errors.Is(err, ringbuf.ErrFlushed) || errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read address spaces: %w", err)
		}
		if len(rec.RawSample) < int(unsafe.Sizeof(profileFoundSpace{})) {
			return fmt.Errorf("read address spaces: record of %d bytes", len(rec.RawSample))
		}
		f := (*profileFoundSpace)(unsafe.Pointer(unsafe.SliceData(rec.RawSample)))
		found(AddressSpace{ID: f.Key.Space, PID: uint32(f.Key.Pid)}, process((*kernelProcessId)(unsafe.Pointer(&f.Process))))
	}
}

func (r *stackRecorder) readOutcomes(p *StackProfile, due uint64) error {
	var outcomes [8]uint64
	for name, into := range map[string]any{"outcomes": &outcomes, "truncated": &p.Truncated, "spaces_failures": &p.SpacesLost} {
		if err := r.obj.coll.Variables[name].Get(into); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	for i, field := range []*uint64{&p.Recorded, &p.Idle, &p.Filtered, &p.NoStack, &p.StacksFull, &p.SamplesFull, &p.Busy, &p.CallsFull} {
		*field = outcomes[i]
		p.Taken += outcomes[i]
	}
	if due > p.Taken {
		p.Missed = due - p.Taken
	}
	return nil
}

// readSamples reads the maps. Samples share the frames of their stacks.
func (r *stackRecorder) readSamples(p *StackProfile) error {
	stacks := map[uint64][]uint64{}
	var hash uint64
	var stack profileStack
	entries := r.obj.coll.Maps["stacks"].Iterate()
	for entries.Next(&hash, &stack) {
		stacks[hash] = frames(&stack)
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("read stacks: %w", err)
	}
	var key profileSampleKey
	var value profileSampleValue
	entries = r.obj.coll.Maps["samples"].Iterate()
	for entries.Next(&key, &value) {
		p.Samples = append(p.Samples, StackSample{
			Space:  AddressSpace{ID: key.Space, PID: key.Pid},
			Kernel: stacks[key.Kernel], User: stacks[key.User],
			What: r.name(key.What), Count: value.Count, NS: value.Ns,
		})
	}
	if err := entries.Err(); err != nil {
		return fmt.Errorf("read samples: %w", err)
	}
	return nil
}

func frames(s *profileStack) []uint64 {
	n := 0
	for n < len(s.Frames) && s.Frames[n] != 0 {
		n++
	}
	return append([]uint64(nil), s.Frames[:n]...)
}

// name is what a sample is of; numbers that have no name are shown as such.
func (r *stackRecorder) name(what int32) string {
	if r.opts.Kind == OnCPU {
		return ""
	}
	if name, ok := r.names[what]; ok {
		return name
	}
	return strconv.Itoa(int(what))
}
