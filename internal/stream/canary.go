package stream

import (
	"sync"
	"time"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// Canary keeps the books of the self-made events that prove the path alive. Its
// methods may be called concurrently.
type Canary struct {
	deadline time.Duration
	now      func() time.Time
	alive    func()

	mu       sync.Mutex
	pending  map[uint64]time.Time // sent and not yet arrived; those too late are removed
	arrivals uint64
	lost     uint64
	last     time.Time
	delay    *metric.Live
}

// NewCanary returns the books for canaries that count as lost when they have not
// arrived after deadline.
func NewCanary(deadline time.Duration) *Canary {
	return &Canary{deadline: deadline, now: time.Now, alive: func() {}, pending: map[uint64]time.Time{}, delay: metric.NewLive()}
}

// Alive sets what is called when a canary arrives. It must be quick, and set before
// the first is sent.
func (c *Canary) Alive(call func()) { c.alive = call }

// Sent notes that a canary is about to be made.
func (c *Canary) Sent(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	c.expire(now)
	c.pending[seq] = now
}

func (c *Canary) arrived(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if sent, ok := c.pending[seq]; ok {
		delete(c.pending, seq)
		c.delay.ObserveDuration(now.Sub(sent))
		c.arrivals++
		c.last = now
		c.alive()
	}
	c.expire(now)
}

// expire gives up on canaries that are overdue. The caller holds mu.
func (c *Canary) expire(now time.Time) {
	for seq, sent := range c.pending {
		if now.Sub(sent) > c.deadline {
			delete(c.pending, seq)
			c.lost++
		}
	}
}

// CanaryStats are the canary's counters.
type CanaryStats struct {
	Arrived, Lost uint64
	Last          time.Time // arrival of the last one; zero before the first
	Delay         metric.Buckets
}

// Stats returns a snapshot; canaries overdue by now count as lost.
func (c *Canary) Stats() CanaryStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(c.now())
	return CanaryStats{Arrived: c.arrivals, Lost: c.lost, Last: c.last, Delay: c.delay.Buckets()}
}
