package state

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// reporting is a fixture with a Reporter.
type reporting struct {
	*fixture
	*Reporter
}

func newReporting(t *testing.T, afterglow time.Duration, perMinute int) *reporting {
	f := newFixture(t, func(o *Options) {
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
		{"active, ended twice", func(r *reporting) func() {
			c := open(r)
			return func() { c(); r.clock.pass(time.Second); open(r)(); r.clock.pass(glow) }
		},
			[]string{"closed aaaaaaaaaaaa 10.0.0.3 80 at 1001"}},
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
	if n := r.Stats().Deferred; n != 40 {
		t.Errorf("%d deferred, want 40", n)
	}
	for _, closing := range closers {
		closing()
	}
	r.clock.pass(30 * time.Second)
	if n := len(r.Report()); n != 60+30 {
		t.Errorf("after half a minute: %d, want 60 ends and 30 that had to wait", n)
	}
	r.clock.pass(30 * time.Second)
	if n := len(r.Report()); n != 10 {
		t.Errorf("after a minute: %d, want the other 10", n)
	}
	if n := r.Stats().Deferred; n != 40 {
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

// TestExternalIPsSwitchedOfWhatHasEnded: what ended before the switch, and was not told
// of yet, is told in the form that counts now, and only in that.
func TestExternalIPsSwitchedOfWhatHasEnded(t *testing.T) {
	r := newReporting(t, 0, 0)
	r.connect(owner(1, 7), "10.0.0.1:40000", "93.184.216.34:443")()
	r.clock.pass(time.Second)
	n := r.Store.networks.Load().Networking
	n.ExternalEgress = false
	r.SetNetworking(n)
	wantLines(t, "off", r.news(), "closed aaaaaaaaaaaa 255.255.255.255 443 at 1000")
}

// TestEndingsAreBounded: connections that differ by their client's port take one
// entry; what finds no room is counted.
func TestEndingsAreBounded(t *testing.T) {
	r := newReporting(t, 0, 0)
	r.endings.max = 2
	for i := range 100 {
		r.accept(owner(1, 7), "10.0.0.1:80", fmt.Sprintf("10.0.0.2:%d", 40000+i))()
		r.accept(owner(1, 7), "127.0.0.1:80", fmt.Sprintf("127.0.0.1:%d", 40000+i))() // never told of
	}
	if n := len(r.endings.flows); n != 1 {
		t.Errorf("%d entries, want 1", n)
	}
	for i := range 5 {
		r.connect(owner(1, 7), "10.0.0.1:40000", fmt.Sprintf("10.0.1.%d:80", i))()
	}
	r.clock.pass(time.Second)
	if n := len(r.Report()); n != 2 {
		t.Errorf("%d told, want 2", n)
	}
	if s := r.Stats(); s.Missed != 4 || s.Ended != 2 {
		t.Errorf("%+v, want 4 missed and 2 ended", s)
	}
	r.connect(owner(1, 7), "10.0.0.1:40000", "10.0.1.9:80")()
	r.clock.pass(time.Second)
	if n := len(r.Report()); n != 1 || r.Stats().Missed != 4 {
		t.Errorf("after that: %d told, %+v", n, r.Stats())
	}
	r.Close()
	if r.connect(owner(1, 7), "10.0.0.1:40000", "10.0.1.9:80")(); r.Store.endings != nil {
		t.Error("endings are noted for nobody")
	}
}

// TestUnknownContainerOfAnEnding is asked for again when it is told of.
func TestUnknownContainerOfAnEnding(t *testing.T) {
	late := byCgroup{}
	f := newFixture(t, func(o *Options) { o.Containers = late })
	r := &reporting{f, NewReporter(f.Store)}
	r.connect(owner(1, 9), "10.0.0.1:40000", "10.0.0.3:80")()
	r.clock.pass(time.Second)
	late[9] = db
	wantLines(t, "news", r.news(), "closed bbbbbbbbbbbb 10.0.0.3 80 at 1000")
}

// TestRunTellsAtOnce: a switch is not waited for.
func TestRunTellsAtOnce(t *testing.T) {
	r := newReporting(t, time.Hour, 0)
	r.connect(owner(1, 7), "10.0.0.1:40000", "93.184.216.34:443")
	r.Report()
	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan Change, 10)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.Run(ctx, time.Hour, func(c Change) { told <- c })
	}()
	n := r.Store.networks.Load().Networking
	n.ExternalEgress = false
	r.SetNetworking(n)
	for _, active := range []bool{false, true} {
		select {
		case c := <-told:
			if c.Active != active {
				t.Errorf("told of %+v, want the old form's end first", c)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("not told of")
		}
	}
	cancel()
	<-ended
	if s := r.Stats(); s.Active != 2 || s.Ended != 1 {
		t.Errorf("%+v", s)
	}
}

// BenchmarkReport is a round over many connections, each a flow of its own.
func BenchmarkReport(b *testing.B) {
	f := newFixture(b, nil)
	before := heap()
	f.fill(many)
	filled := heap()
	r := NewReporter(f.Store)
	r.Report()
	reported := heap()
	for b.Loop() {
		r.Report()
	}
	b.ReportMetric(float64(filled-before)/many, "B/connection")
	b.ReportMetric(float64(reported-filled)/many, "B/flow")
}

// BenchmarkEnding is what a connection costs with and without a Reporter.
func BenchmarkEnding(b *testing.B) {
	for _, reporting := range []bool{false, true} {
		b.Run(fmt.Sprint("reporter=", reporting), func(b *testing.B) {
			f := newFixture(b, nil)
			if reporting {
				defer NewReporter(f.Store).Close()
			}
			var ev event.Event
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				f.opening(&ev, i%1000)
				f.Apply(&ev)
				ev.Point = event.NetworkClose
				f.Apply(&ev)
			}
		})
	}
}
