package container

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Timing of lookups.
const (
	workers = 2 // lookups under way at once
	// A container is asked about this often before the answer "no such container"
	// is believed: its cgroup may exist before its runtime tells of it.
	notFoundAttempts = 4
	firstBackoff     = 100 * time.Millisecond
	lastBackoff      = 30 * time.Second
	// An ended container is asked about this often at most.
	endedAttempts = 5
)

// lookups asks the runtimes, a few at a time.
type lookups struct {
	directory *directory
	services  []*service // in the order in which they are asked
	believed  time.Duration
	failed    func() // a call has failed; never waits

	queue chan ID

	mu        sync.Mutex
	observers map[int]func(Meta, State)
	next      int
}

// push queues a lookup that has been claimed. There is room: a container is queued
// once at most, and there are not more containers than room. Only one that was
// evicted while it waited can be in the way; its place is then a later lookup's.
func (l *lookups) push(id ID) {
	select {
	case l.queue <- id:
	default:
		l.release(id)
	}
}

// release gives a claim back, so that the next sweep takes it up.
func (l *lookups) release(id ID) {
	l.directory.mu.Lock()
	defer l.directory.mu.Unlock()
	if r, ok := l.directory.entries[id]; ok {
		r.asking, r.state = false, Failed
	}
}

// run works off the queue until ctx ends.
func (l *lookups) run(ctx context.Context) {
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case id := <-l.queue:
					l.one(ctx, id)
				}
			}
		})
	}
	wait.Wait()
}

// one looks one container up.
func (l *lookups) one(ctx context.Context, id ID) {
	ref, ok := l.directory.ref(id)
	if !ok {
		return // evicted meanwhile
	}
	m, err := l.ask(ctx, ref)
	if ctx.Err() != nil {
		return
	}
	meta, state, retry := l.enter(id, m, err)
	if retry > 0 {
		time.AfterFunc(retry, func() { l.push(id) })
	}
	if state == Failed && l.failed != nil {
		l.failed()
	}
	if state == Named {
		l.directory.tellBegin(id)
	}
	if state != Pending {
		l.tell(meta, state)
	}
}

// ask asks the runtime that the path names, or every one. An error counts more
// than a "no such container": who did not answer may be the one that knows.
func (l *lookups) ask(ctx context.Context, ref Ref) (Meta, error) {
	var faults []error
	asked := false
	for _, s := range l.services {
		if ref.Runtime != Unknown && ref.Runtime != s.runtime {
			continue
		}
		m, err := s.inspect(ctx, ref)
		switch {
		case err == nil:
			return m, nil
		case errors.Is(err, errNotFound):
			asked = true
		case errors.Is(err, errNoSocket) && !s.expected():
			// Not used here, so it cannot be the one that knows.
		default:
			faults = append(faults, fmt.Errorf("%s: %w", s.runtime, err))
		}
	}
	switch {
	case len(faults) > 0:
		return Meta{}, errors.Join(faults...)
	case asked:
		return Meta{}, errNotFound
	}
	return Meta{}, errNoSocket
}

// enter writes an answer down. With retry > 0 the claim is kept, and the lookup has
// to be pushed again after that time.
func (l *lookups) enter(id ID, m Meta, err error) (meta Meta, state State, retry time.Duration) {
	d := l.directory
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.entries[id]
	if !ok {
		return Meta{}, Pending, 0
	}
	r.attempts++
	switch {
	case err == nil:
		r.meta = merge(r.meta, m)
		r.state, r.attempts = Named, 0
	case errors.Is(err, errNoSocket):
		// No point in trying: when a socket answers, everybody is asked about again.
		r.state, r.attempts, r.meta.Fault = Nameless, 0, faultText(err)
		r.again = time.Now().Add(l.believed)
	case errors.Is(err, errNotFound) && r.attempts < notFoundAttempts:
		retry = pause(r.attempts)
	case errors.Is(err, errNotFound):
		r.state, r.attempts, r.meta.Fault = Nameless, 0, faultText(err)
		r.again = time.Now().Add(l.believed)
	default:
		r.state, r.meta.Fault = Failed, faultText(err)
		if r.meta.Ended.IsZero() || r.attempts < endedAttempts {
			retry = pause(r.attempts)
		} else {
			r.again = time.Now().Add(l.believed)
		}
	}
	r.asking = retry > 0
	return r.meta, r.state, retry
}

// faultText makes one line of an error.
func faultText(err error) string { return clean(strings.ReplaceAll(err.Error(), "\n", "; ")) }

// merge lays an answer over what the path has told.
func merge(old, answer Meta) Meta {
	answer.ID, answer.Cgroup, answer.Seen, answer.Ended = old.ID, old.Cgroup, old.Seen, old.Ended
	if answer.PodUID == "" {
		answer.PodUID = old.PodUID
	}
	return answer
}

// pause is the time before attempt n+1: doubling, and between half and one and a
// half of that, so that the containers of one outage do not all come back at once.
func pause(n int) time.Duration {
	full := min(firstBackoff<<min(n-1, 16), lastBackoff)
	return full/2 + rand.N(full)
}

// subscribe has fn called, from the workers' goroutines, whenever a container gets
// a name or is found to have none. fn must not wait.
func (l *lookups) subscribe(fn func(Meta, State)) (cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number := l.next
	l.next++
	l.observers[number] = fn
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.observers, number)
	}
}

func (l *lookups) tell(m Meta, state State) {
	l.mu.Lock()
	observers := slices.Collect(maps.Values(l.observers))
	l.mu.Unlock()
	for _, fn := range observers {
		fn(m, state)
	}
}
