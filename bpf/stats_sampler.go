package bpf

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Run-time statistics are on for StatsOn out of every StatsEvery.
const (
	StatsOn    = time.Second
	StatsEvery = 10 * time.Second
)

// StatsSampler switches the kernel's run-time statistics on and off. While they
// are on, each run of each program on the node reads the clock twice; the duty
// cycle keeps the price of knowing the cost low. The kernel keeps them on as
// long as a descriptor is open, so a sensor that dies leaves nothing behind.
type StatsSampler struct {
	on, every time.Duration

	mu     sync.Mutex // guards what follows
	begun  time.Time  // of the first period, zero before
	onFrom time.Time  // of the current on-time, zero while off
	onTime time.Duration
}

// NewStatsSampler returns a sampler; Run makes it work.
func NewStatsSampler() *StatsSampler { return &StatsSampler{on: StatsOn, every: StatsEvery} }

// Run samples until ctx ends, and returns nil then. It returns at once with an
// error where the kernel refuses: there will be no statistics.
func (s *StatsSampler) Run(ctx context.Context) error {
	for {
		stats, err := enableStats()
		if err != nil {
			return err
		}
		s.switched(true)
		wait(ctx, s.on)
		stats.Close()
		s.switched(false)
		wait(ctx, s.every-s.on)
		if ctx.Err() != nil {
			return nil
		}
	}
}

func enableStats() (io.Closer, error) {
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		return nil, fmt.Errorf("enable run-time statistics: %w", plainErrno(err))
	}
	return stats, nil
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

func (s *StatsSampler) switched(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.begun.IsZero() {
		s.begun = now
	}
	if on {
		s.onFrom = now
		return
	}
	s.onTime += now.Sub(s.onFrom)
	s.onFrom = time.Time{}
}

// Sampled returns for how long statistics have been on, and since when they have
// been sampled, in seconds. Both are 0 where they never were: what Programs
// says of run times is then unknown, not zero.
func (s *StatsSampler) Sampled() (onSeconds, totalSeconds float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun.IsZero() {
		return 0, 0
	}
	on := s.onTime
	if !s.onFrom.IsZero() {
		on += time.Since(s.onFrom)
	}
	return on.Seconds(), time.Since(s.begun).Seconds()
}

// Enabled returns for how long statistics have been on.
func (s *StatsSampler) Enabled() time.Duration {
	on, _ := s.Sampled()
	return time.Duration(on * float64(time.Second))
}
