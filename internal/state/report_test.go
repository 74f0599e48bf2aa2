package state

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// reporting is a fixture with a Reporter.
type reporting struct {
	*fixture
	*Reporter
}

func newReporting(t *testing.T, afterglow time.Duration, perMinute int) *reporting {
	f := newFixture(t, func(o *Options) {
		o.KeepConnections = 2 * time.Minute
		o.Networking.Afterglow, o.Networking.PerMinute = afterglow, perMinute
	})
	return &reporting{f, NewReporter(f.Store)}
}

// news writes what Report returns, one line each.
func (r *reporting) news() []string {
	lines := []string{}
	for _, c := range r.Report() {
		text := "closed"
		if c.Active {
			text = "open"
		}
		lines = append(lines, fmt.Sprintf("%s %s %v %d at %d", text, c.Container, c.Peer.Addr(), c.Port, c.AtNS/second))
	}
	return lines
}

// curl is a connection of half a second.
func (r *reporting) curl() {
	closing := r.connect(owner(1, 7), "10.0.0.1:40000", "10.0.0.3:80")
	r.clock.pass(500 * time.Millisecond)
	closing()
	r.clock.pass(500 * time.Millisecond)
}

// TestRepeatedFlowInAfterglow: eleven short connections are one.
func TestRepeatedFlowInAfterglow(t *testing.T) {
	r := newReporting(t, 30*time.Second, 0)
	for i := range 11 {
		r.curl()
		want := []string{}
		if i == 0 {
			want = []string{"open aaaaaaaaaaaa 10.0.0.3 80 at 1000"}
		}
		wantLines(t, fmt.Sprintf("round %d", i), r.news(), want...)
	}
	r.clock.pass(29 * time.Second)
	wantLines(t, "still glowing", r.news())
	r.clock.pass(time.Second)
	wantLines(t, "gone out", r.news(), "closed aaaaaaaaaaaa 10.0.0.3 80 at 1010")
	r.clock.pass(time.Second)
	wantLines(t, "after", r.news())
	r.curl()
	wantLines(t, "again", r.news(), "open aaaaaaaaaaaa 10.0.0.3 80 at 1042")
}

// TestRepeatedFlowWithoutAfterglow: each of three is told of.
func TestRepeatedFlowWithoutAfterglow(t *testing.T) {
	r := newReporting(t, 0, 0)
	for i := range 3 {
		r.curl()
		wantLines(t, fmt.Sprintf("round %d", i), r.news(), fmt.Sprintf("closed aaaaaaaaaaaa 10.0.0.3 80 at %d", 1000+i))
		wantLines(t, "and once", r.news())
	}
}

// TestAfterglowMatrix goes through what a flow can have been and can be: absent,
// active, within the afterglow, and past it.
func TestAfterglowMatrix(t *testing.T) {
	const glow = 10 * time.Second
	open := func(r *reporting) func() { return r.connect(owner(1, 7), "10.0.0.1:40000", "10.0.0.3:80") }
	for _, tc := range []struct {
		name   string
		before func(*reporting) (then func())
		want   []string
	}{
		{"absent, active", func(r *reporting) func() { return func() { open(r) } }, []string{"open aaaaaaaaaaaa 10.0.0.3 80 at 1000"}},
		{"absent, glowing", func(r *reporting) func() { return func() { open(r)(); r.clock.pass(time.Second) } },
			[]string{"open aaaaaaaaaaaa 10.0.0.3 80 at 1000"}},
		{"absent, past", func(r *reporting) func() { return func() { open(r)(); r.clock.pass(glow) } },
			[]string{"closed aaaaaaaaaaaa 10.0.0.3 80 at 1000"}},
		{"active, active", func(r *reporting) func() { open(r); return func() { r.clock.pass(time.Minute) } }, nil},
		{"active, glowing", func(r *reporting) func() { c := open(r); return func() { c(); r.clock.pass(time.Second) } }, nil},
		{"active, past", func(r *reporting) func() { c := open(r); return func() { c(); r.clock.pass(glow) } },
			[]string{"closed aaaaaaaaaaaa 10.0.0.3 80 at 1000"}},
		{"active, forgotten", func(r *reporting) func() {
			c := open(r)
			return func() { r.KeepConnections(0); c(); r.clock.pass(glow) }
		},
			[]string{"closed aaaaaaaaaaaa 10.0.0.3 80 at 1000"}},
		{"active, forgotten within the afterglow", func(r *reporting) func() { c := open(r); return func() { r.KeepConnections(0); c() } }, nil},
		{"glowing, active", func(r *reporting) func() { open(r)(); return func() { open(r); r.clock.pass(glow) } }, nil},
		{"glowing, glowing anew", func(r *reporting) func() { open(r)(); return func() { r.clock.pass(glow - 1); open(r)() } }, nil},
		{"glowing, past", func(r *reporting) func() { open(r)(); return func() { r.clock.pass(glow) } },
			[]string{"closed aaaaaaaaaaaa 10.0.0.3 80 at 1000"}},
		{"past, active", func(r *reporting) func() { open(r)(); r.clock.pass(glow); return func() { open(r) } },
			[]string{"open aaaaaaaaaaaa 10.0.0.3 80 at 1010"}},
		{"past, past anew", func(r *reporting) func() {
			open(r)()
			r.clock.pass(glow)
			return func() { open(r)(); r.clock.pass(glow) }
		},
			[]string{"closed aaaaaaaaaaaa 10.0.0.3 80 at 1010"}},
		{"past, the same", func(r *reporting) func() { open(r)(); r.clock.pass(glow); return func() { r.clock.pass(time.Second) } }, nil},
		{"past, forgotten", func(r *reporting) func() {
			open(r)()
			r.clock.pass(glow)
			return func() { r.clock.pass(time.Hour); r.Expire() }
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newReporting(t, glow, 0)
			then := tc.before(r)
			r.Report()
			then()
			wantLines(t, "news", r.news(), tc.want...)
			wantLines(t, "asked again", r.news())
		})
	}
}

// TestLimitDefers: what is beyond the limit of a container is told of later, not
// never; ends are not limited; other containers are not held up.
func TestLimitDefers(t *testing.T) {
	r := newReporting(t, 0, 60)
	var closers []func()
	for i := range 100 {
		closers = append(closers, r.connect(owner(1, 7), "10.0.0.1:40000", fmt.Sprintf("10.0.1.%d:80", i)))
	}
	r.connect(owner(2, 8), "10.0.0.1:40000", "10.0.0.9:80")
	if n := len(r.Report()); n != 61 {
		t.Errorf("first report: %d, want 60 of one container and 1 of the other", n)
	}
	if n := r.Deferred(); n != 40 {
		t.Errorf("%d deferred, want 40", n)
	}
	for _, closing := range closers {
		closing()
	}
	r.KeepConnections(0) // and forgotten: what was deferred is remembered by the Reporter alone
	r.Expire()
	r.clock.pass(30 * time.Second)
	if n := len(r.Report()); n != 60+30 {
		t.Errorf("after half a minute: %d, want 60 ends and 30 that had to wait", n)
	}
	r.clock.pass(30 * time.Second)
	if n := len(r.Report()); n != 10 {
		t.Errorf("after a minute: %d, want the other 10", n)
	}
	if n := r.Deferred(); n != 40 {
		t.Errorf("%d deferred, want 40: each counts once", n)
	}
	r.clock.pass(time.Minute)
	if r.Report(); len(r.known) != 1 || len(r.limits) != 0 {
		t.Errorf("%d flows and %d limits are remembered, want 1 and 0", len(r.known), len(r.limits))
	}
}

// TestExternalIPsSwitched: connections with public peers end in the old form and
// appear in the new one, at once and whatever the limit; others are left alone.
func TestExternalIPsSwitched(t *testing.T) {
	r := newReporting(t, time.Hour, 2)
	r.connect(owner(1, 7), "10.0.0.1:40000", "93.184.216.34:443")
	r.connect(owner(1, 7), "10.0.0.1:40001", "10.0.0.3:80")
	r.Report()
	n := r.Store.networks.Load().Networking
	n.PerMinute = 1
	r.SetNetworking(n)
	wantLines(t, "another limit", r.news())
	n.ExternalEgress = false
	r.SetNetworking(n)
	wantLines(t, "off", r.news(),
		"closed aaaaaaaaaaaa 93.184.216.34 443 at 1000", "open aaaaaaaaaaaa 255.255.255.255 443 at 1000")
	n.Known = []Network{{"cdn", netip.MustParsePrefix("93.184.216.0/24")}}
	r.SetNetworking(n)
	wantLines(t, "known", r.news(),
		"closed aaaaaaaaaaaa 255.255.255.255 443 at 1000", "open aaaaaaaaaaaa 93.184.216.0 443 at 1000")
}
