package config

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Snapshot is one version of the configuration, of which only the runtime part is
// ever another. It never changes.
type Snapshot struct {
	Config     *Config
	Generation uint64 // 1 for the one the sensor started with
	Source     string // the file, or who asked
	Time       time.Time
}

// Applier makes one part of the sensor follow the runtime configuration. It is
// called with the new one, and again with the old one if a later applier
// refuses; it must leave things as they were when it returns an error.
type Applier struct {
	Name  string
	Apply func(Runtime) error
}

// Store holds the configuration in force. Apply and Put are its only writers;
// everything else may be called from any goroutine and never waits for it.
type Store struct {
	mu       sync.Mutex // one change at a time
	appliers []Applier
	current  atomic.Pointer[Snapshot]
	failed   atomic.Pointer[failure]
}

// failure is why a change was refused, and when.
type failure struct {
	at  time.Time
	why error
}

// NewStore starts with the configuration that the sensor was started with; the
// appliers are not called for it.
func NewStore(start *Config, source string, appliers ...Applier) *Store {
	s := &Store{appliers: appliers}
	s.current.Store(&Snapshot{Config: start, Generation: 1, Source: source, Time: time.Now()})
	return s
}

// Follow adds an applier, which is called from the next change on.
func (s *Store) Follow(a Applier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.appliers = append(s.appliers, a)
}

// Current returns the snapshot in force.
func (s *Store) Current() *Snapshot { return s.current.Load() }

// Reloaded returns the generation in force, since when, and why a later change
// was refused, nil if none was.
func (s *Store) Reloaded() (generation uint64, since time.Time, refused error) {
	now := s.Current()
	_, refused = s.Refused()
	return now.Generation, now.Time, refused
}

// Refused returns when and why the last change was refused; nil if it was not.
func (s *Store) Refused() (at time.Time, why error) {
	if f := s.failed.Load(); f != nil {
		return f.at, f.why
	}
	return time.Time{}, nil
}

// Apply takes the runtime part of a configuration over: it calls every applier in
// order and then swaps the snapshot. If one refuses, those before it get the old
// configuration back, in reverse order, and the old snapshot stays in force.
func (s *Store) Apply(c *Config, source string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apply(s.current.Load().Config.WithRuntime(c), source)
}

// Put lays a text with runtime keys over the configuration in force, as Config.Put
// does, and applies the result.
func (s *Store) Put(text []byte, source string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.current.Load().Config.Put(source, text)
	if err != nil {
		s.failed.Store(&failure{time.Now(), err})
		return err
	}
	return s.apply(next, source)
}

func (s *Store) apply(next *Config, source string) error {
	old := s.current.Load()
	for i, a := range s.appliers {
		if err := a.Apply(next.Runtime); err != nil {
			err = errors.Join(fmt.Errorf("apply %s to %s: %w", source, a.Name, err), rollBack(s.appliers[:i], old.Config.Runtime))
			s.failed.Store(&failure{time.Now(), err})
			return err
		}
	}
	s.current.Store(&Snapshot{Config: next, Generation: old.Generation + 1, Source: source, Time: time.Now()})
	s.failed.Store(nil)
	return nil
}

// Refuse records a change that never reached the appliers, such as a file that
// cannot be read, so that Refused tells of it.
func (s *Store) Refuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed.Store(&failure{time.Now(), err})
}

func rollBack(done []Applier, old Runtime) error {
	var errs []error
	for _, a := range slices.Backward(done) {
		if err := a.Apply(old); err != nil {
			errs = append(errs, fmt.Errorf("roll back %s: %w", a.Name, err))
		}
	}
	return errors.Join(errs...)
}
