package state

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

func TestServerKeepsItsPortClientThePeers(t *testing.T) {
	f := newFixture(t, nil)
	f.accept(owner(1, 7), "10.0.0.1:80", "10.0.0.2:41000")
	f.accept(owner(1, 7), "10.0.0.1:80", "10.0.0.2:41001")
	f.connect(owner(2, 7), "10.0.0.1:52000", "10.0.0.3:5432")
	f.connect(owner(2, 7), "10.0.0.1:52001", "10.0.0.3:5432")
	f.connect(owner(3, 0), "[fd00::1]:40000", "[fd00::2]:443")
	wantLines(t, "normalised", f.shown(Query{}),
		"aaaaaaaaaaaa to 10.0.0.3 5432", "aaaaaaaaaaaa from 10.0.0.2 80", "host to fd00::2 443")
	wantLines(t, "raw", f.shown(Query{Raw: true}),
		"aaaaaaaaaaaa from 10.0.0.2 80", "aaaaaaaaaaaa from 10.0.0.2 80",
		"aaaaaaaaaaaa to 10.0.0.3 5432", "aaaaaaaaaaaa to 10.0.0.3 5432", "host to fd00::2 443")
}

func TestV4MappedPeersAreIPv4(t *testing.T) {
	f := newFixture(t, nil)
	f.accept(owner(1, 0), "[::ffff:10.0.0.1]:80", "[::ffff:10.0.0.2]:41000")
	// as it would be if the kernel side had left it mapped
	f.cookies++
	c := event.Conn{Cookie: f.cookies, Family: event.IPv6, Protocol: TCP, Inbound: true, LocalPort: 80, RemotePort: 41001}
	c.Remote = netip.MustParseAddr("::ffff:10.0.0.2").As16()
	f.open(owner(1, 0), c)
	wantLines(t, "mapped", f.shown(Query{}), "host from 10.0.0.2 80")
}

func TestLoopbackIsHiddenUnlessRaw(t *testing.T) {
	f := newFixture(t, nil)
	f.connect(owner(1, 0), "127.0.0.1:40000", "127.0.0.1:8080")
	f.accept(owner(2, 0), "127.0.0.1:8080", "127.0.0.1:40000")
	f.connect(owner(1, 0), "[::1]:40001", "[::1]:8080")
	wantLines(t, "normalised", f.shown(Query{}))
	wantLines(t, "with detail", f.shown(Query{Detail: true}))
	wantLines(t, "raw", f.shown(Query{Raw: true}), "host to 127.0.0.1 8080", "host from 127.0.0.1 8080", "host to ::1 8080")
}

func TestWhatIsShownOfAPeer(t *testing.T) {
	prefixes := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	full := Networking{
		ExternalEgress: true,
		Known: []Network{
			{"internet", netip.MustParsePrefix("0.0.0.0/1")},
			{"office", netip.MustParsePrefix("93.184.0.0/16")},
			{"floor", netip.MustParsePrefix("93.184.216.0/24")},
			{"lab", netip.MustParsePrefix("10.1.0.0/16")},
			{"six", netip.MustParsePrefix("2001:db8:1::/48")},
			{"mapped", netip.MustParsePrefix("::ffff:198.51.100.0/120")},
		},
		Ignored:       prefixes("169.254.0.0/16", "fe80::/10", "203.0.113.9/32"),
		NonAggregated: prefixes("93.184.216.200/29"),
	}
	for _, tc := range []struct {
		name, remote string
		inbound      bool
		want         string
	}{
		{"private stays, with the name of its network", "10.1.2.3:5432", false, "to 10.1.2.3 5432 lab"},
		{"private without a name", "192.168.1.1:53", false, "to 192.168.1.1 53"},
		{"longest prefix", "93.184.216.34:443", false, "to 93.184.216.0/24 443 floor"},
		{"the one around it", "93.184.3.4:443", false, "to 93.184.0.0/16 443 office"},
		{"the outermost", "8.8.8.8:53", false, "to 0.0.0.0/1 53 internet"},
		{"not aggregated", "93.184.216.201:443", false, "to 93.184.216.201 443 floor"},
		{"external address kept outbound", "198.51.99.1:443", false, "to 198.51.99.1 443"},
		{"external address hidden inbound", "198.51.99.1:41000", true, "from 255.255.255.255 80"},
		{"external IPv6 hidden inbound", "[2001:db8:2::1]:41000", true, "from ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 80"},
		{"known IPv6", "[2001:db8:1::1]:443", false, "to 2001:db8:1::/48 443 six"},
		{"known network given as mapped", "198.51.100.7:443", false, "to 198.51.100.0/24 443 mapped"},
		{"ignored", "169.254.169.254:80", false, ""},
		{"one ignored address", "203.0.113.9:80", false, ""},
		{"ignored IPv6", "[fe80::1]:80", false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(o *Options) { o.Networking = full })
			local := "10.0.0.1:40000"
			if tc.inbound {
				f.accept(owner(1, 0), "10.0.0.1:80", tc.remote)
			} else {
				f.connect(owner(1, 0), local, tc.remote)
			}
			var want []string
			if tc.want != "" {
				want = []string{"host " + tc.want}
			}
			wantLines(t, "normalised", f.shown(Query{}), want...)
			wantLines(t, "with detail", f.shown(Query{Detail: true}), want...)
			if n := len(f.shown(Query{Raw: true})); n != 1 {
				t.Errorf("raw: %d rows, want 1", n)
			}
		})
	}
}

// TestRowsOfOneNetworkBecomeOne: equal rows of the normalised view are one row.
func TestRowsOfOneNetworkBecomeOne(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.Networking.Known = []Network{{"office", netip.MustParsePrefix("203.0.113.0/24")}}
	})
	for i := range 3 * fewGroups { // so many that they are compacted on the way
		f.connect(owner(1, 7), "10.0.0.1:40000", fmt.Sprintf("203.0.113.%d:443", i%200))
	}
	wantLines(t, "normalised", f.shown(Query{}), "aaaaaaaaaaaa to 203.0.113.0/24 443 office")
}

func TestEndedConnectionsAreNotShown(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.KeepConnections = time.Minute })
	closing := f.connect(owner(1, 7), "10.0.0.1:40000", "10.0.0.3:5432")
	f.connect(owner(1, 7), "10.0.0.1:40001", "10.0.0.4:5432")
	closing()
	wantLines(t, "open", f.shown(Query{}), "aaaaaaaaaaaa to 10.0.0.4 5432")
	wantLines(t, "all", f.shown(Query{Ended: true}), "aaaaaaaaaaaa to 10.0.0.3 5432 ended", "aaaaaaaaaaaa to 10.0.0.4 5432")
	f.clock.pass(time.Minute)
	if n := f.Expire(); n != 1 {
		t.Errorf("%d entries expired, want 1", n)
	}
	wantLines(t, "after a minute", f.shown(Query{Ended: true}), "aaaaaaaaaaaa to 10.0.0.4 5432")
	// one of two that look the same has ended: the other one still shows
	f.connect(owner(1, 7), "10.0.0.1:40002", "10.0.0.4:5432")()
	wantLines(t, "one of two", f.shown(Query{Ended: true}), "aaaaaaaaaaaa to 10.0.0.4 5432")
}

func TestConnectionsAreNotKeptByDefault(t *testing.T) {
	f := newFixture(t, nil)
	f.connect(owner(1, 7), "10.0.0.1:40000", "10.0.0.3:5432")()
	if s := f.table(t, "connection"); s.Entries != 0 || s.Evictions != 0 {
		t.Errorf("%+v, want nothing", s)
	}
}

func TestDetail(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.KeepConnections = time.Minute })
	p := owner(42, 7)
	f.exec(p, "/usr/sbin/nginx")
	closing := f.accept(p, "10.0.0.1:80", "10.0.0.2:41000")
	f.clock.pass(5 * time.Second)
	closing()
	_, rows := f.Connections(Query{Detail: true, Ended: true})
	var got []Connection
	for r := range rows {
		got = append(got, *r)
	}
	want := Connection{
		Container: "aaaaaaaaaaaa", Inbound: true, Protocol: TCP, Port: 80, Peer: netip.MustParsePrefix("10.0.0.2/32"),
		Local: netip.MustParseAddrPort("10.0.0.1:80"), Remote: netip.MustParseAddrPort("10.0.0.2:41000"),
		PID: 42, Comm: "nginx", Exe: "/usr/sbin/nginx",
		OpenedNS: 1000 * second, ClosedNS: 1005 * second, Sent: 100, Received: 200, Measured: true,
	}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestUDPFlowsOfOneSocketAreMany(t *testing.T) {
	f := newFixture(t, nil)
	for _, remote := range []string{"10.0.0.2:53", "10.0.0.3:53", "10.0.0.2:54"} {
		c := conn(99, false, "10.0.0.1:40000", remote)
		c.Protocol = UDP
		f.open(owner(1, 0), c)
	}
	c := conn(99, false, "10.0.0.1:40000", "10.0.0.3:53")
	c.Protocol = UDP
	f.Apply(&event.Event{Point: event.NetworkClose, Conn: c})
	wantLines(t, "flows", f.shown(Query{}), "host to 10.0.0.2 53 udp", "host to 10.0.0.2 54 udp")
}

// A UDP socket is an endpoint while it has no peer, and nobody counts what its flows
// carry.
func TestUDPEndpointsAndFlows(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.KeepConnections = time.Minute })
	server := conn(7, true, "0.0.0.0:53", "0.0.0.0:0")
	flow := conn(7, true, "10.0.0.1:53", "10.0.0.9:40000")
	server.Protocol, flow.Protocol = UDP, UDP
	f.Apply(&event.Event{Point: event.NetworkListen, Process: owner(1, 0), Conn: server})
	f.Apply(&event.Event{Point: event.NetworkAccept, Process: owner(1, 0), Conn: flow})
	wantLines(t, "flows", f.shown(Query{}), "host from 10.0.0.9 53 udp")
	if _, rows := f.Endpoints(Query{}); len(rows) != 1 || rows[0].Protocol != UDP || rows[0].Port != 53 {
		t.Errorf("endpoints: %+v", rows)
	}
	f.Apply(&event.Event{Point: event.NetworkClose, Process: owner(1, 0), Conn: flow})
	f.Apply(&event.Event{Point: event.NetworkClose, Process: owner(1, 0), Conn: server})
	if _, rows := f.Endpoints(Query{}); len(rows) != 0 {
		t.Errorf("endpoints after the end: %+v", rows)
	}
	_, rows := f.Connections(Query{Detail: true, Ended: true})
	for r := range rows {
		if r.Active || r.Measured {
			t.Errorf("%+v: want it ended, and nothing measured", r)
		}
	}
}

func TestUnknownEndsChangeNothing(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.KeepConnections = time.Minute })
	f.Apply(&event.Event{Point: event.NetworkClose, Conn: conn(5, true, "10.0.0.1:80", "10.0.0.2:1")})
	f.exit(owner(9, 0))
	f.Apply(&event.Event{Point: event.Canary, Seq: 1})
	for _, s := range f.Tables() {
		if s.Entries != 0 || s.Drift != 0 {
			t.Errorf("%+v, want nothing", s)
		}
	}
}

// TestReusedIdentity: a socket whose end has passed unseen is another one now.
func TestReusedIdentity(t *testing.T) {
	f := newFixture(t, nil)
	f.open(owner(1, 7), conn(5, false, "10.0.0.1:40000", "10.0.0.3:5432"))
	f.open(owner(1, 8), conn(5, false, "10.0.0.1:40000", "10.0.0.3:5432")) // the same: it only has another owner
	if d := f.table(t, "connection").Drift; d != 0 {
		t.Errorf("drift %d, want 0", d)
	}
	wantLines(t, "owner", f.shown(Query{}), "bbbbbbbbbbbb to 10.0.0.3 5432")
	f.open(owner(1, 7), conn(5, false, "10.0.0.1:40001", "10.0.0.4:5432"))
	wantLines(t, "reused", f.shown(Query{}), "aaaaaaaaaaaa to 10.0.0.4 5432")
	if s := f.table(t, "connection"); s.Drift != 1 || s.Entries != 1 {
		t.Errorf("%+v, want one entry and one drift", s)
	}
}

func TestFullTableGivesUpTheOldestEndedFirst(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.MaxConnections, o.KeepConnections = 4, time.Hour })
	closers := make([]func(), 4)
	for i := range closers {
		closers[i] = f.connect(owner(1, 0), "10.0.0.1:40000", fmt.Sprintf("10.0.1.%d:1", i))
	}
	closers[2]()
	closers[1]()
	f.connect(owner(1, 0), "10.0.0.1:40000", "10.0.1.4:1") // 2 goes, it ended first
	wantLines(t, "one ended given up", f.shown(Query{Ended: true}),
		"host to 10.0.1.0 1", "host to 10.0.1.1 1 ended", "host to 10.0.1.3 1", "host to 10.0.1.4 1")
	f.connect(owner(1, 0), "10.0.0.1:40000", "10.0.1.5:1") // 1 goes
	f.connect(owner(1, 0), "10.0.0.1:40000", "10.0.1.6:1") // 0 goes, the oldest
	wantLines(t, "the oldest given up", f.shown(Query{}),
		"host to 10.0.1.3 1", "host to 10.0.1.4 1", "host to 10.0.1.5 1", "host to 10.0.1.6 1")
	closers[0]() // the end of one that was given up
	if s := f.table(t, "connection"); s.Evictions != 3 || s.Entries != 4 || s.Max != 4 {
		t.Errorf("%+v, want 3 evictions, 4 entries", s)
	}
}

func TestPagesAndContainers(t *testing.T) {
	f := newFixture(t, nil)
	for i := range 10 {
		f.connect(owner(1, 7), "10.0.0.1:40000", fmt.Sprintf("10.0.1.%d:1", i))
		f.connect(owner(1, 0), "10.0.0.1:40000", fmt.Sprintf("10.0.1.%d:1", i))
	}
	all := f.shown(Query{})
	if len(all) != 20 {
		t.Fatalf("%d rows, want 20", len(all))
	}
	for _, q := range []Query{{}, {Raw: true}} {
		all := f.shown(q)
		var paged []string
		for q.Limit = 7; q.Offset < 30; q.Offset += q.Limit {
			total, _ := f.Connections(q)
			if total != 20 {
				t.Errorf("total %d, want 20", total)
			}
			paged = append(paged, f.shown(q)...)
		}
		if !slices.Equal(paged, all) {
			t.Errorf("pages %q\nwhole %q", paged, all)
		}
	}
	for container, want := range map[string]int{"host": 10, web[:12]: 10, web: 10, db[:12]: 0, "aaaa": 0} {
		if n := len(f.shown(Query{Container: container})); n != want {
			t.Errorf("container %s: %d rows, want %d", container, n, want)
		}
	}
}

// TestContainerThatBecomesKnownLate: what was not known at the event is asked again.
func TestContainerThatBecomesKnownLate(t *testing.T) {
	known := byCgroup{}
	f := newFixture(t, func(o *Options) { o.Containers = known })
	f.connect(owner(1, 7), "10.0.0.1:40000", "10.0.0.3:5432")
	f.listen(owner(1, 7), "0.0.0.0:80")
	known[7] = web
	wantLines(t, "connections", f.shown(Query{Container: web}), "aaaaaaaaaaaa to 10.0.0.3 5432")
	if n, _ := f.Endpoints(Query{Container: web}); n != 1 {
		t.Errorf("%d endpoints, want 1", n)
	}
}

// A listener that is killed and begun again at its port is one endpoint, of the new
// process, whichever of the two events comes first.
func TestListenerBegunAgain(t *testing.T) {
	f := newFixture(t, nil)
	first, second := owner(41, 7), owner(42, 7)
	end := f.listen(first, "0.0.0.0:80")
	end()
	overlap := f.listen(second, "0.0.0.0:80")
	f.listen(owner(43, 7), "0.0.0.0:80") // SO_REUSEPORT
	overlap()
	total, rows := f.Endpoints(Query{Detail: true})
	if want := "[{aaaaaaaaaaaa true 6 0.0.0.0 80}]"; total != 1 || brief(rows) != want || rows[0].PID != 43 {
		t.Errorf("%d rows: %s of %d, want %s of 43", total, brief(rows), rows[0].PID, want)
	}
}

func TestEndpoints(t *testing.T) {
	f := newFixture(t, nil)
	p := owner(42, 7)
	f.exec(p, "/usr/sbin/nginx")
	closing := f.listen(p, "0.0.0.0:80")
	f.listen(p, "0.0.0.0:80") // SO_REUSEPORT
	f.listen(p, "[::]:80")
	f.clock.pass(100 * time.Millisecond)
	f.listen(owner(2, 0), "127.0.0.1:9000")()
	f.exec(p, "/bin/other")

	total, rows := f.Endpoints(Query{})
	if want := "[{aaaaaaaaaaaa true 6 0.0.0.0 80} {aaaaaaaaaaaa true 6 :: 80}]"; total != 2 || brief(rows) != want {
		t.Errorf("together: %s, want %s", brief(rows), want)
	}
	if total, _ = f.Endpoints(Query{Raw: true}); total != 3 {
		t.Errorf("raw: %d rows, want 3", total)
	}
	_, rows = f.Endpoints(Query{Detail: true, Limit: 1})
	if r := rows[0]; r.PID != 42 || r.Exe != "/usr/sbin/nginx" || r.Comm != "nginx" || r.OpenedNS != 1000*second {
		t.Errorf("detail: %+v", r)
	}
	// a port that was open for an instant is seen by whoever asks for it
	_, rows = f.Endpoints(Query{Ended: true, Container: Host})
	if want := "[{host false 6 127.0.0.1 9000}]"; brief(rows) != want {
		t.Errorf("ended: %s, want %s", brief(rows), want)
	}
	closing()
	if total, _ = f.Endpoints(Query{}); total != 2 {
		t.Errorf("one of two closed: %d rows, want 2", total)
	}
	f.clock.pass(time.Minute)
	f.Expire()
	if total, _ = f.Endpoints(Query{Ended: true}); total != 2 {
		t.Errorf("after a minute: %d rows, want 2", total)
	}
}

func brief(rows []Endpoint) string {
	type row struct {
		Container string
		Active    bool
		Protocol  uint8
		Address   netip.Addr
		Port      uint16
	}
	var all []row
	for _, r := range rows {
		all = append(all, row{r.Container, r.Active, r.Protocol, r.Address, r.Port})
	}
	return fmt.Sprint(all)
}
