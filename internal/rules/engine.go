package rules

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/cel-go/common/types"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Engine marks events with the rules that they fit. Its methods may be called
// concurrently.
type Engine struct {
	set   atomic.Pointer[Set]
	views sync.Pool
}

// Self is what rules know of the sensor and its place.
type Self struct {
	PID       uint32 // the machine's
	HostMount uint32 // inode of the host's mount namespace, 0 if it is not known
}

// NewEngine returns an Engine with no rules.
func NewEngine(s Self) *Engine {
	e := &Engine{views: sync.Pool{New: func() any { return &view{self: s} }}}
	e.set.Store(&Set{})
	return e
}

// Use makes a set the one in force. Rules that were in the one before, by name and
// severity, keep their counts.
func (e *Engine) Use(s *Set) {
	next := *s
	next.rules, next.index = nil, index{}
	before := e.set.Load()
	for _, r := range s.rules {
		kept := *r
		for _, old := range before.rules {
			if old.mark.Name == r.mark.Name && old.mark.Severity == r.mark.Severity {
				kept.counts = old.counts
			}
		}
		next.rules = append(next.rules, &kept)
		next.index.add(&kept)
	}
	e.set.Store(&next)
}

// Set returns the set in force.
func (e *Engine) Set() *Set { return e.set.Load() }

// Mark evaluates the rules that are about the event's point, marks the event with
// those that it fits, and counts them. It waits for nobody.
func (e *Engine) Mark(ev *event.Event) {
	ev.Rules = nil
	about := e.set.Load().about(ev)
	if len(about) == 0 {
		return
	}
	v := e.views.Get().(*view)
	v.begin(ev)
	for _, r := range about {
		if !v.fits(r) {
			continue
		}
		r.matched.Add(1)
		if ev.Rules == nil {
			ev.Rules = r.marks
		} else {
			ev.Rules = append(slices.Clip(ev.Rules), &r.mark)
		}
	}
	v.end()
	e.views.Put(v)
}

// fits evaluates one rule.
func (v *view) fits(r *rule) bool {
	v.unreadable = false
	out, _, err := r.program.Eval(v)
	if err != nil {
		r.failed[Evaluation].Add(1)
	}
	if v.unreadable {
		r.failed[Unreadable].Add(1)
	}
	return err == nil && out == types.True
}

// Count is what became of one rule.
type Count struct {
	Rule     string
	Severity event.Severity
	Matched  uint64
	Failed   [Failures]uint64
}

// Counts returns what became of the rules of the set in force.
func (e *Engine) Counts() []Count {
	rules := e.set.Load().rules
	all := make([]Count, len(rules))
	for i, r := range rules {
		all[i] = Count{Rule: r.mark.Name, Severity: r.mark.Severity, Matched: r.matched.Load()}
		for f := range all[i].Failed {
			all[i].Failed[f] = r.failed[f].Load()
		}
	}
	return all
}
