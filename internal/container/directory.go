package container

import (
	"sync"
	"sync/atomic"
	"time"
)

// directory holds what is known of every container. It may be used from any
// goroutine; reading it never waits for a runtime.
type directory struct {
	max     int
	notify  func(ID)         // asks for a lookup; never waits, and is not called with the lock held
	changed func(Meta, bool) // tells of beginnings and ends; not called with the lock held
	begun   atomic.Bool      // what was there before is known: the rest is news
	results [Runtimes][Late + 1]atomic.Uint64

	mu      sync.RWMutex
	entries map[ID]*record
	evicted uint64
	served  time.Time // since when runtimes are asked; zero before
}

// record is one container. All of it is guarded by the directory's lock.
type record struct {
	ref      Ref
	meta     Meta
	state    State
	told     bool // it is known to have begun
	asking   bool // a lookup is queued, under way, or waiting for its next attempt
	late     bool // somebody has waited for its name in vain
	attempts int  // since the last answer
	again    time.Time
}

func newDirectory(max int, notify func(ID), changed func(Meta, bool)) *directory {
	return &directory{max: max, notify: notify, changed: changed, entries: map[ID]*record{}}
}

// lookup returns what is known now, and counts whether that was a name.
func (d *directory) lookup(id ID) (Meta, State) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	r, ok := d.entries[id]
	if !ok {
		d.results[Unknown][Miss].Add(1)
		return Meta{}, Unheard
	}
	result := Miss
	if r.state == Named {
		result = Hit
	}
	d.results[r.meta.Runtime][result].Add(1)
	return r.meta, r.state
}

// wait returns how long somebody may still wait for the name of a container: 0 where
// there is an answer, whatever it is, and where most has passed since the container was
// first seen and could be asked about, which counts once.
func (d *directory) wait(id ID, most time.Duration, now time.Time) time.Duration {
	d.mu.RLock()
	r, ok := d.entries[id]
	left, waits := most, ok && r.state == Pending && !r.late
	if waits && !d.served.IsZero() {
		left -= min(now.Sub(r.meta.Seen), now.Sub(d.served))
	}
	d.mu.RUnlock()
	switch {
	case !waits:
		return 0
	case left <= 0:
		d.giveUp(r)
		return 0
	}
	return left
}

// serve notes that runtimes are asked from now on.
func (d *directory) serve(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.served = now
}

// giveUp counts that nobody waits for a container's name any more.
func (d *directory) giveUp(r *record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !r.late {
		r.late = true
		d.results[r.meta.Runtime][Late].Add(1)
	}
}

// state returns how far a container is, without counting.
func (d *directory) state(id ID) State {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if r, ok := d.entries[id]; ok {
		return r.state
	}
	return Unheard
}

// see notes that a container exists, and has it looked up if it is new.
func (d *directory) see(ref Ref, cgroup string, now time.Time) {
	d.mu.RLock()
	r, ok := d.entries[ref.ID]
	alive := ok && r.meta.Ended.IsZero()
	d.mu.RUnlock()
	if alive {
		return
	}
	ask := d.enter(ref, cgroup, now)
	d.tellBegin(ref.ID)
	if ask {
		d.notify(ref.ID)
	}
}

// tellBegin tells that a container has begun, once, when it is certain that it is one.
func (d *directory) tellBegin(id ID) {
	d.mu.Lock()
	r, ok := d.entries[id]
	news := ok && r.real() && !r.told && r.meta.Ended.IsZero()
	var meta Meta
	if news {
		r.told, meta = true, r.meta
	}
	d.mu.Unlock()
	if news && d.begun.Load() {
		d.changed(meta, true)
	}
}

// enter adds a container, or brings one back that had been taken for ended. It
// reports whether it has to be looked up.
func (d *directory) enter(ref Ref, cgroup string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := d.entries[ref.ID]; ok {
		r.meta.Ended = time.Time{}
		r.meta.Cgroup = cgroup
		return r.state != Named && r.ask()
	}
	if len(d.entries) >= d.max {
		d.evict()
	}
	r := &record{ref: ref, state: Pending, meta: Meta{
		ID: ref.ID, Runtime: ref.Runtime, PodUID: ref.PodUID, Cgroup: cgroup, Seen: now,
	}}
	d.entries[ref.ID] = r
	return r.ask()
}

// ask claims the lookup of a container for the caller; false if it is claimed.
func (r *record) ask() bool {
	claimed := !r.asking
	r.asking = true
	return claimed
}

// evict removes the entry that is missed least: first containers that have ended,
// then what may be none, then those without a name; of equals the oldest. The
// caller holds the lock. It looks at every entry, which happens only when there
// are more containers than the limit allows.
func (d *directory) evict() {
	worth := func(r *record) int {
		switch {
		case !r.meta.Ended.IsZero():
			return 0
		case r.ref.Guess && r.state != Named:
			return 1
		case r.state != Named:
			return 2
		}
		return 3
	}
	var least *record
	for _, r := range d.entries {
		if least == nil || worth(r) < worth(least) || worth(r) == worth(least) && r.meta.Seen.Before(least.meta.Seen) {
			least = r
		}
	}
	delete(d.entries, least.ref.ID)
	d.evicted++
}

// sweep marks the containers that are not in alive as ended, and forgets those
// that ended before forget. In alive is every container that has a cgroup.
func (d *directory) sweep(alive map[ID]bool, now, forget time.Time) {
	var ended []Meta
	d.mu.Lock()
	for id, r := range d.entries {
		switch {
		case !r.meta.Ended.IsZero() && r.meta.Ended.Before(forget):
			delete(d.entries, id)
		case r.meta.Ended.IsZero() && !alive[id]:
			r.meta.Ended = now
			if r.told {
				ended = append(ended, r.meta)
			}
			r.told = false
		}
	}
	d.mu.Unlock()
	for _, m := range ended {
		d.changed(m, false)
	}
}

// due claims every container that has no name, is not being looked up and may be
// asked about again: at now, or at once if all is set.
func (d *directory) due(now time.Time, all bool) (ids []ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, r := range d.entries {
		if (r.state == Nameless || r.state == Failed) && (all || !now.Before(r.again)) && r.ask() {
			ids = append(ids, id)
		}
	}
	return ids
}

// ref returns what is known of a container from its path.
func (d *directory) ref(id ID) (Ref, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	r, ok := d.entries[id]
	if !ok {
		return Ref{}, false
	}
	return r.ref, true
}

// all returns a copy of everything, guesses that nobody has confirmed left out.
func (d *directory) all() []Record {
	d.mu.RLock()
	defer d.mu.RUnlock()
	list := make([]Record, 0, len(d.entries))
	for _, r := range d.entries {
		if r.real() {
			list = append(list, Record{r.meta, r.state})
		}
	}
	return list
}

// real reports whether it is a container for certain.
func (r *record) real() bool { return !r.ref.Guess || r.state == Named }

// count returns how many containers each runtime has that live.
func (d *directory) count() (counts [Runtimes]int, stats CacheStats) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, r := range d.entries {
		if r.real() && r.meta.Ended.IsZero() {
			counts[r.meta.Runtime]++
		}
	}
	return counts, CacheStats{Entries: len(d.entries), Max: d.max, Evictions: d.evicted}
}
