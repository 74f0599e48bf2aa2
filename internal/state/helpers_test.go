package state

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

const second = uint64(time.Second)

// testClock is CLOCK_BOOTTIME, moved by hand.
type testClock struct{ atomic.Uint64 }

func (c *testClock) pass(d time.Duration) { c.Add(uint64(d)) }

// byCgroup is Containers: the container of a cgroup.
type byCgroup map[uint64]string

func (m byCgroup) ContainerOf(p *event.Process, _ bool) string { return m[p.CgroupID] }

// web and db are the ids of two containers.
const (
	web = "aaaaaaaaaaaa1111111111111111111111111111111111111111111111111111"
	db  = "bbbbbbbbbbbb2222222222222222222222222222222222222222222222222222"
)

var classes = []ClassNetwork{
	{netip.MustParsePrefix("127.0.0.0/8"), Loopback}, {netip.MustParsePrefix("::1/128"), Loopback},
	{netip.MustParsePrefix("10.0.0.0/8"), Private}, {netip.MustParsePrefix("172.16.0.0/12"), Private},
	{netip.MustParsePrefix("192.168.0.0/16"), Private}, {netip.MustParsePrefix("100.64.0.0/10"), Private},
	{netip.MustParsePrefix("169.254.0.0/16"), Private}, {netip.MustParsePrefix("fc00::/7"), Private},
	{netip.MustParsePrefix("fe80::/10"), Private},
}

// fixture is a Store with the clock and the events of a test. Its time begins at
// 1000 s after boot.
type fixture struct {
	*Store
	clock   *testClock
	cookies uint64
	editor  event.Editor
}

func newFixture(t testing.TB, change func(*Options)) *fixture {
	t.Helper()
	f := &fixture{clock: &testClock{}, cookies: 1 << 20}
	f.clock.Store(1000 * second)
	o := Defaults()
	o.Now = f.clock.Load
	o.Containers = byCgroup{7: web, 8: db}
	o.Classes = classes
	o.Networking = Networking{ExternalIngress: true, ExternalEgress: true}
	if change != nil {
		change(&o)
	}
	var err error
	if f.Store, err = New(o); err != nil {
		t.Fatal(err)
	}
	return f
}

// owner is a process in a container: cgroup 7 is web, 8 is db, others are the host.
func owner(pid uint32, cgroup uint64) event.Process {
	p := event.Process{PID: pid, TID: pid, PPID: 1, UID: 1000, StartNS: uint64(pid) * 10, CgroupID: cgroup}
	copy(p.Comm[:], "nginx")
	return p
}

// conn makes the connection of an event from "address:port" texts.
func conn(cookie uint64, inbound bool, local, remote string) event.Conn {
	c := event.Conn{Cookie: cookie, Protocol: TCP, Inbound: inbound}
	c.Family, c.Local, c.LocalPort = side(local)
	if remote != "" {
		c.Family, c.Remote, c.RemotePort = side(remote)
	}
	return c
}

func side(text string) (event.Family, [16]byte, uint16) {
	a := netip.MustParseAddrPort(text)
	addr := a.Addr().Unmap()
	var raw [16]byte
	if addr.Is4() {
		four := addr.As4()
		copy(raw[:], four[:])
		return event.IPv4, raw, a.Port()
	}
	return event.IPv6, addr.As16(), a.Port()
}

// connect applies an established outbound connection and returns what closes it.
func (f *fixture) connect(p event.Process, local, remote string) (closing func()) {
	f.cookies++
	return f.open(p, conn(f.cookies, false, local, remote))
}

// accept is connect for an inbound one.
func (f *fixture) accept(p event.Process, local, remote string) (closing func()) {
	f.cookies++
	return f.open(p, conn(f.cookies, true, local, remote))
}

func (f *fixture) open(p event.Process, c event.Conn) (closing func()) {
	point := event.NetworkConnect
	if c.Inbound {
		point = event.NetworkAccept
	}
	f.Apply(&event.Event{Point: point, TimeNS: f.clock.Load(), Process: p, Conn: c})
	return func() {
		c.Sent, c.Received = 100, 200
		f.Apply(&event.Event{Point: event.NetworkClose, TimeNS: f.clock.Load(), Process: p, Conn: c})
	}
}

// listen applies a listener and returns what closes it.
func (f *fixture) listen(p event.Process, local string) (closing func()) {
	f.cookies++
	c := conn(f.cookies, true, local, "")
	f.Apply(&event.Event{Point: event.NetworkListen, TimeNS: f.clock.Load(), Process: p, Conn: c})
	return func() { f.Apply(&event.Event{Point: event.NetworkClose, TimeNS: f.clock.Load(), Process: p, Conn: c}) }
}

func (f *fixture) exec(p event.Process, path string) {
	ev := event.Event{Point: event.ProcessExec, TimeNS: f.clock.Load(), Process: p}
	f.editor.Set(&ev, event.TextPath, []byte(path), false)
	f.Apply(&ev)
}

func (f *fixture) fork(parent, child event.Process) {
	child.PPID = parent.PID
	f.Apply(&event.Event{Point: event.ProcessFork, TimeNS: f.clock.Load(), Process: parent, Child: child})
}

func (f *fixture) exit(p event.Process) {
	f.Apply(&event.Event{Point: event.ProcessExit, TimeNS: f.clock.Load(), Process: p})
}

// shown writes the rows of a query, one line each.
func (f *fixture) shown(q Query) []string {
	_, rows := f.Connections(q)
	lines := []string{}
	for r := range rows {
		lines = append(lines, line(r))
	}
	return lines
}

func line(r *Connection) string {
	text := r.Container + " "
	if r.Inbound {
		text += "from "
	} else {
		text += "to "
	}
	if r.Peer.IsSingleIP() {
		text += r.Peer.Addr().String()
	} else {
		text += r.Peer.String()
	}
	text += " " + netip.AddrPortFrom(netip.IPv4Unspecified(), r.Port).String()[len("0.0.0.0:"):]
	if r.Protocol == UDP {
		text += " udp"
	}
	if r.Network != "" {
		text += " " + r.Network
	}
	if !r.Active {
		text += " ended"
	}
	return text
}

// table returns the statistics of one table.
func (f *fixture) table(t *testing.T, name string) TableStat {
	t.Helper()
	for _, s := range f.Tables() {
		if s.Table == name {
			return s
		}
	}
	t.Fatalf("no table %s", name)
	return TableStat{}
}

// wantLines compares rows with what is wanted.
func wantLines(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s: %q, want %q", what, got, want)
		return
	}
	for i := range got {
		if got[i] != want[i] {
			t.Errorf("%s: %q, want %q", what, got, want)
			return
		}
	}
}

func closed(c event.Conn) *event.Event { return &event.Event{Point: event.NetworkClose, Conn: c} }
