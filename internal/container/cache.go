package container

import (
	"sync"
	"sync/atomic"
)

// cache is a map with a bound. When it is full, an entry that has not been asked
// for since the last look goes first (the clock algorithm), so that a hit writes
// one flag and takes only a read lock. It may be used from any goroutine.
type cache[K comparable, V any] struct {
	max int

	mu      sync.RWMutex
	entries map[K]*cached[K, V]
	clock   []*cached[K, V] // every entry, in no order
	hand    int
	evicted uint64
}

type cached[K comparable, V any] struct {
	key   K
	value V
	place int // in clock
	used  atomic.Bool
}

func newCache[K comparable, V any](max int) *cache[K, V] {
	return &cache[K, V]{max: max, entries: map[K]*cached[K, V]{}}
}

func (c *cache[K, V]) get(key K) (value V, ok bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, ok := c.entries[key]
	if !ok {
		return value, false
	}
	if !e.used.Load() { // most hits only read: no cache line travels
		e.used.Store(true)
	}
	return e.value, true
}

func (c *cache[K, V]) put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		e.value = value
		return
	}
	if len(c.clock) >= c.max {
		c.evict()
	}
	e := &cached[K, V]{key: key, value: value, place: len(c.clock)}
	c.entries[key] = e
	c.clock = append(c.clock, e)
}

// evict removes one entry. The caller holds the lock.
func (c *cache[K, V]) evict() {
	for {
		c.hand %= len(c.clock)
		e := c.clock[c.hand]
		if !e.used.Swap(false) {
			c.remove(e)
			c.evicted++
			return
		}
		c.hand++
	}
}

// remove takes e out; the last of the clock takes its place.
func (c *cache[K, V]) remove(e *cached[K, V]) {
	delete(c.entries, e.key)
	last := c.clock[len(c.clock)-1]
	c.clock[e.place], last.place = last, e.place
	c.clock[len(c.clock)-1] = nil
	c.clock = c.clock[:len(c.clock)-1]
}

// review shows every entry to look, which may change it and says whether to keep it.
// What is not kept counts as ended, not as evicted.
func (c *cache[K, V]) review(look func(K, *V) (keep bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, e := range c.entries {
		if !look(key, &e.value) {
			c.remove(e)
		}
	}
}

// CacheStats is the fill of a bounded table.
type CacheStats struct {
	Entries, Max int
	Evictions    uint64 // entries that had to go before their time
}

func (c *cache[K, V]) stats() CacheStats {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return CacheStats{Entries: len(c.clock), Max: c.max, Evictions: c.evicted}
}
