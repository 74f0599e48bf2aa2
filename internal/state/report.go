package state

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Change is news of a connection in the normalised view.
type Change struct {
	Container string // as ShortID shows it
	Inbound   bool
	Protocol  uint8
	Port      uint16
	Peer      netip.Prefix
	Network   string
	Active    bool   // it is, or was within the afterglow
	AtNS      uint64 // when it was last active
}

// Reporter finds out what is new about connections since it was last asked. A
// connection that comes and goes within the afterglow is one that stays: it is
// reported once as active and once, when it has been gone for that long, as not.
//
// New connections of a container beyond its limit are deferred: they are reported
// when the limit allows it, even if they have ended by then.
//
// A connection that begins and ends between two questions is seen: the Store notes
// what ends while it has a Reporter, one at a time. A Reporter is for one goroutine,
// except for Stats.
type Reporter struct {
	s        *Store
	endings  *endings
	networks *networks
	known    map[reportKey]reportState
	limits   map[string]bucket

	active, ended, deferred, missed, lost atomic.Uint64
}

// ReportStats counts what a Reporter has told. All of it only grows.
type ReportStats struct {
	Active   uint64 // changes to active
	Ended    uint64 // and to ended
	Deferred uint64 // connections that had to wait for their container's limit
	Missed   uint64 // endings of connections that there was no room to remember: not told
}

type reportKey struct {
	container string
	flow
}

// reportState is what was last reported.
type reportState struct {
	lastNS  uint64 // when it was last active
	sinceNS uint64 // when it was first seen
	glowing bool   // reported as active
	waiting bool   // not reported yet
}

// bucket holds the reports that a container may still make; it fills with time.
type bucket struct {
	tokens   float64
	filledNS uint64
}

// NewReporter returns a Reporter that has reported nothing. Close ends it.
func NewReporter(s *Store) *Reporter {
	r := &Reporter{
		s: s, endings: newEndings(maxEndings), networks: s.networks.Load(), known: map[reportKey]reportState{}, limits: map[string]bucket{},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endings = r.endings
	return r
}

// Close tells the Store that nobody asks any more.
func (r *Reporter) Close() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if r.s.endings == r.endings {
		r.s.endings = nil
	}
}

// Stats returns what was told so far.
func (r *Reporter) Stats() ReportStats {
	return ReportStats{r.active.Load(), r.ended.Load(), r.deferred.Load(), r.missed.Load() + r.lost.Load()}
}

// Plus adds what two Reporters have told.
func (s ReportStats) Plus(o ReportStats) ReportStats {
	return ReportStats{s.Active + o.Active, s.Ended + o.Ended, s.Deferred + o.Deferred, s.Missed + o.Missed}
}

// Run tells of every change until ctx ends: at once of what there is, then of the
// changes of some time together, and at once when peers are shown in another way than before. A change is valid as long as
// anybody likes.
func (r *Reporter) Run(ctx context.Context, every time.Duration, tell func(Change)) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		for _, c := range r.Report() {
			tell(c)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-r.s.shownAnew:
		}
	}
}

// Report returns what has changed since the last call, oldest first. After a change
// of how peers are shown, what was reported in the old form ends at once and appears
// in the new one, without regard to limits.
func (r *Reporter) Report() []Change {
	round := &reportRound{Reporter: r, now: r.s.now(), networks: r.s.networks.Load()}
	round.changed = !round.networks.showsAs(r.networks)
	r.networks = round.networks
	seen := round.observe()
	for k, o := range seen {
		round.compare(k, o)
	}
	for k, old := range r.known {
		if _, still := seen[k]; !still {
			round.absent(k, old)
		}
	}
	round.admit()
	r.forgetLimits(round.now)
	slices.SortFunc(round.changes, compareChanges)
	return round.changes
}

// observation is one flow as it is now.
type observation struct {
	lastNS uint64
	active bool
}

// candidate is a flow that nobody has heard of.
type candidate struct {
	key     reportKey
	sinceNS uint64
	lastNS  uint64
}

// reportRound is one call of Report.
type reportRound struct {
	*Reporter
	now      uint64
	networks *networks
	changed  bool
	news     []candidate
	changes  []Change
}

// observe returns every flow that is, and those that have ended since the last round.
// What ends while it looks is in the one or the other.
func (r *reportRound) observe() map[reportKey]observation {
	seen := make(map[reportKey]observation)
	r.s.eachConnection(&Query{}, func(_ slotID, c *copiedConnection) {
		if f, ok := r.s.normalise(r.networks, &c.connection); ok {
			seen[reportKey{ShortID(c.container), f}] = observation{r.now, true}
		}
	})
	lost := r.endings.each(r.s, func(k *endedFlow, container string, atNS uint64) {
		f, ok := r.s.renormalise(r.networks, k.flow)
		if !ok {
			return
		}
		key := reportKey{ShortID(container), f}
		o := seen[key]
		o.lastNS = max(o.lastNS, min(atNS, r.now))
		seen[key] = o
	})
	r.lost.Store(lost)
	return seen
}

// glows reports whether something last active then counts as active now.
func (r *reportRound) glows(lastNS uint64) bool {
	return r.now < lastNS+uint64(r.networks.Afterglow)
}

func (r *reportRound) compare(k reportKey, o observation) {
	old, known := r.known[k]
	if !known {
		old = reportState{sinceNS: r.now, waiting: true}
	}
	if old.waiting {
		old.lastNS = o.lastNS
		if !known && len(r.known) >= r.s.connections.max { // no room to remember it
			if o.active {
				r.deferred.Add(1) // the next round finds it again
			} else {
				r.missed.Add(1)
			}
			return
		}
		r.known[k] = old
		r.news = append(r.news, candidate{k, old.sinceNS, o.lastNS})
		return
	}
	glowing := o.active || r.glows(o.lastNS)
	if glowing != old.glowing || !glowing && o.lastNS > old.lastNS {
		r.tell(k, glowing, o.lastNS)
	}
	old.glowing, old.lastNS = glowing, o.lastNS
	r.known[k] = old
}

// absent deals with a flow of which the Store knows nothing any more.
func (r *reportRound) absent(k reportKey, old reportState) {
	switch {
	case old.waiting && r.changed:
		delete(r.known, k) // it was never reported in the old form, and never will be
	case old.waiting:
		r.news = append(r.news, candidate{k, old.sinceNS, old.lastNS})
	case r.glows(old.lastNS) && !r.changed:
	case old.glowing:
		r.tell(k, false, old.lastNS)
		delete(r.known, k)
	default:
		delete(r.known, k)
	}
}

// admit reports what is new, as far as the limits allow, who has waited longest
// first.
func (r *reportRound) admit() {
	slices.SortFunc(r.news, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.sinceNS, b.sinceNS), compareKeys(&a.key, &b.key))
	})
	for _, c := range r.news {
		if !r.changed && !r.allow(c.key.container) {
			if c.sinceNS == r.now {
				r.deferred.Add(1)
			}
			continue
		}
		glowing := c.lastNS == r.now || r.glows(c.lastNS)
		r.known[c.key] = reportState{lastNS: c.lastNS, sinceNS: c.sinceNS, glowing: glowing}
		r.tell(c.key, glowing, c.lastNS)
	}
}

// allow takes one token of the container.
func (r *reportRound) allow(container string) bool {
	limit := float64(r.networks.PerMinute)
	if limit == 0 {
		return true
	}
	b, used := r.limits[container]
	if !used {
		b = bucket{limit, r.now}
	}
	b.tokens = min(limit, b.tokens+limit*float64(r.now-b.filledNS)/float64(time.Minute))
	b.filledNS = r.now
	ok := b.tokens >= 1
	if ok {
		b.tokens--
	}
	r.limits[container] = b
	return ok
}

// forgetLimits forgets the buckets that are full again.
func (r *Reporter) forgetLimits(now uint64) {
	for container, b := range r.limits {
		if now-b.filledNS >= uint64(time.Minute) {
			delete(r.limits, container)
		}
	}
}

func (r *reportRound) tell(k reportKey, active bool, at uint64) {
	if active {
		r.active.Add(1)
	} else {
		r.ended.Add(1)
	}
	peer := k.prefix()
	r.changes = append(r.changes, Change{
		Container: k.container, Inbound: k.inbound, Protocol: k.protocol, Port: k.port,
		Peer: peer, Network: r.networks.nameOf(peer.Addr()), Active: active, AtNS: at,
	})
}

func compareKeys(a, b *reportKey) int {
	return cmp.Or(strings.Compare(a.container, b.container), compareFlows(&a.flow, &b.flow))
}

func compareChanges(a, b Change) int {
	return cmp.Or(
		cmp.Compare(a.AtNS, b.AtNS), strings.Compare(a.Container, b.Container), cmp.Compare(b2i(a.Active), b2i(b.Active)),
		cmp.Compare(a.Port, b.Port), a.Peer.Addr().Compare(b.Peer.Addr()), cmp.Compare(b2i(a.Inbound), b2i(b.Inbound)),
	)
}
