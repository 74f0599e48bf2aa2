package bpf

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

//go:generate go tool bpf2go -cc clang-16 -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type cpu_tcp -type port -type socket_record -type list_key -type list_entry tcp tcp.bpf.c -- -Iheaders

// DefaultMaxSockets bounds the map of TCP sockets that are followed. An entry
// takes 120 bytes of kernel memory (48 head, 8 key, 48 value, 16 bucket; the
// buckets rounded up to a power of two), 7.5 MiB in all. A connection that finds
// the map full is in none of the counts of connections, but in the map's
// UpdateFailures. Failed attempts are counted regardless. Where workloads are told
// apart by v1 cgroups, an entry takes 8 bytes more.
const DefaultMaxSockets = 65536

// DefaultMaxListeners bounds the map of listening ports while connections are seeded:
// 88 bytes of kernel memory for each (48 head, 16 key, 8 value, 16 bucket) until that
// is done. Connections at a port that found it full are taken for outbound.
const DefaultMaxListeners = 16384

// TCPOptions configures the tcp probe.
type TCPOptions struct {
	// MaxSockets is the size of the map of sockets, 0 for DefaultMaxSockets.
	MaxSockets uint32
	// MaxListeners bounds the ports that are known to be listened at where the roles
	// of older connections are told by them, 0 for DefaultMaxListeners.
	MaxListeners uint32
	// Listed lists listening and established sockets where the kernel refuses to
	// iterate over files; with it they are at least in the gauges. May be nil.
	Listed SocketList
}

// TCP counts and times the TCP connections of all network namespaces. It is
// safe for concurrent use.
//
// It cannot see an attempt that found the listener's backlog full, nor, before
// the first packet, a connect that came through io_uring or a 32-bit call; an
// accept that came that way leaves its connection without an owner, and a listen
// on a socket that was never bound is told by surveys only. Resets that answer
// packets without a socket are counted from kernel 6.10 on.
type TCP struct {
	obj      *object
	opts     TCPOptions
	listing  listing // empty where the kernel iterates itself
	degraded []string

	mu     sync.Mutex // guards what follows
	counts *counters[tcpCpuTcp]
	scrape *link.Iter // nil where the kernel refuses iterators over maps
	sum    tcpCpuTcp
	bytes  [Directions][Peers]struct{ sent, received uint64 } // highest values handed out
}

// hookedCalls are the system calls whose return the probe must see.
var hookedCalls = []hookedCall{
	{unix.SYS_CONNECT, "connect_exit"},
	{unix.SYS_LISTEN, "listen_exit"},
	{unix.SYS_ACCEPT, "accept_exit"},
	{unix.SYS_ACCEPT4, "accept_exit"},
}

// tcpTracepoints are the programs that attach to a tracepoint, in the order in
// which they do: ends before beginnings.
var tcpTracepoints = []string{
	"tcp_destroy_sock", "inet_sock_set_state", "inet_sock_set_state_again",
	"tcp_retransmit_skb", "tcp_send_reset", "tcp_receive_reset",
}

// NewTCP loads the probe, attaches it, and finds the connections and listeners
// that are there already. Create the syscalls probe before: its hooks tell who
// accepted a connection, and of attempts that failed before the first packet.
// Without it this probe works and says what is missing.
func NewTCP(k *Kernel, opts TCPOptions) (*TCP, error) {
	return construct(k, func() (*TCP, error) { return makeTCP(k, opts) })
}

func makeTCP(k *Kernel, opts TCPOptions) (*TCP, error) {
	opts.MaxSockets = cmp.Or(opts.MaxSockets, DefaultMaxSockets)
	opts.MaxListeners = cmp.Or(opts.MaxListeners, DefaultMaxListeners)
	spec, err := tcpSpec(k, opts)
	if err != nil {
		return nil, err
	}
	t := &TCP{opts: opts}
	programs := append([]string{"connect_exit", "listen_exit", "accept_exit"}, tcpTracepoints...)
	b := blueprint{
		probe: "tcp", spec: spec, tracepoints: programs,
		optional: []string{"seed_listeners", "seed_connections", "survey_held"},
		without:  useListing(opts.Listed, opts.MaxSockets),
	}
	if t.obj, err = k.load(b); err != nil {
		return nil, err
	}
	if t.counts, err = openCounters[tcpCpuTcp](t.obj, "counts"); err != nil {
		return nil, err
	}
	if t.obj.refused != nil {
		t.listing = listing{list: opts.Listed, role: byListener}
		t.degraded = append(t.degraded, t.listing.begin(t.obj))
	}
	if err := t.obj.attach(tcpTracepoints...); err != nil {
		return nil, err
	}
	t.hook(k)
	if t.obj.refused == nil {
		t.seed()
	} else if err := t.listing.prune(); err != nil {
		return nil, err
	}
	t.openScrape()
	return t, nil
}

func tcpSpec(k *Kernel, opts TCPOptions) (*ebpf.CollectionSpec, error) {
	spec, err := loadTcp()
	if err != nil {
		return nil, fmt.Errorf("parse tcp object: %w", err)
	}
	if err := sizeCounters(spec, "counts"); err != nil {
		return nil, err
	}
	spec.Maps["sockets"].MaxEntries = opts.MaxSockets
	spec.Maps["listening"].MaxEntries = opts.MaxListeners
	if !k.workloadsV1() {
		if err := cutLastMember(spec.Maps["sockets"]); err != nil {
			return nil, fmt.Errorf("size map sockets: %w", err)
		}
	}
	args, err := k.tracepointArgs("tcp_retransmit_skb")
	if err != nil {
		return nil, err
	}
	if err := spec.Variables["has_retransmit_err"].Set(len(args) > 2); err != nil {
		return nil, fmt.Errorf("set has_retransmit_err: %w", err)
	}
	if err := spec.Variables["cookie_key"].Set(rand.Uint64() | 1); err != nil {
		return nil, fmt.Errorf("set cookie_key: %w", err)
	}
	return spec, nil
}

// hook makes the syscalls probe call on when connect and accept return.
func (t *TCP) hook(k *Kernel) {
	for _, h := range hookedCalls {
		if err := k.hooks.set(h.nr, t.obj.coll.Programs[programFor(h.program, t.obj.kind)]); err != nil {
			t.degraded = append(t.degraded, "no owner of accepted connections, no attempts that failed before a packet, no port of listeners that were never bound: "+err.Error())
			return
		}
	}
	if err := t.obj.coll.Variables["listen_hooked"].Set(true); err != nil {
		t.degraded = append(t.degraded, "no port of listeners that were never bound: "+err.Error())
	}
}

// seed enters the sockets that were there before the probe was attached. They
// are in the gauges, never in opened or closed.
func (t *TCP) seed() {
	for _, name := range []string{"seed_listeners", "seed_connections"} {
		if err := runIterator(t.obj.coll.Programs[name]); err != nil {
			t.degraded = append(t.degraded, fmt.Sprintf("sockets are only known from their start: iterate files: %v", err))
			return
		}
	}
	var (
		listening = t.obj.coll.Maps["listening"]
		port      tcpPort
		yes       uint8
	)
	for it := listening.Iterate(); it.Next(&port, &yes); it = listening.Iterate() {
		if err := listening.Delete(port); err != nil {
			return // it stays until the probe is closed, and costs memory only
		}
	}
}

func (t *TCP) openScrape() {
	it, err := link.AttachIter(link.IterOptions{
		Program: t.obj.coll.Programs["scrape"], Map: t.obj.coll.Maps["sockets"],
	})
	if err != nil {
		t.degraded = append(t.degraded, fmt.Sprintf("bytes are counted when a connection ends: iterate sockets: %v", plainErrno(err)))
		return
	}
	t.scrape = it
	t.obj.iterators = append(t.obj.iterators, it)
}

// Status tells how the probe is attached and what it cannot see.
func (t *TCP) Status() ProbeStatus {
	return ProbeStatus{
		Probe: "tcp", Attached: len(t.obj.links) > 0, Attach: t.obj.kind,
		Reason: strings.Join(t.degraded, "; "),
	}
}

// Read returns the counts since the probe was attached. It walks the open
// connections once, in the kernel, to add the bytes that they have transferred
// since the last Read. The histograms are valid until the next Read.
func (t *TCP) Read() (TCPStats, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.addOpenBytes(); err != nil {
		return TCPStats{}, err
	}
	if err := t.counts.sum(&t.sum); err != nil {
		return TCPStats{}, err
	}
	s := TCPStats{
		Retransmits: t.sum.Retransmits, ResetsSent: t.sum.ResetsSent, ResetsReceived: t.sum.ResetsReceived,
		Listeners: int64(t.sum.ListenOpened + t.listing.endpoints - t.sum.ListenClosed),
	}
	for d := range Directions {
		s.Duration[d] = bucketsNS(t.sum.Duration[d].Slots[:], t.sum.Duration[d].Sum)
		s.Handshake[d] = bucketsNS(t.sum.Handshake[d].Slots[:], t.sum.Handshake[d].Sum)
		s.RTT[d] = bucketsNS(t.sum.Rtt[d].Slots[:], t.sum.Rtt[d].Sum)
		for p := range Peers {
			s.Conns[d][p] = t.conn(d, p)
		}
		s.Failed = append(s.Failed, failures(Direction(d), t.sum.Failed[d][:])...)
	}
	return s, nil
}

func (t *TCP) addOpenBytes() error {
	if t.scrape == nil {
		return nil
	}
	r, err := t.scrape.Open()
	if err != nil {
		return fmt.Errorf("iterate sockets: %w", err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("iterate sockets: %w", err)
	}
	return nil
}

// conn returns one cell. The kernel takes back a byte if it was read while the
// peer's FIN was being taken in; what has been handed out stays.
func (t *TCP) conn(d, p int) ConnStat {
	c, high := &t.sum.Conns[d][p], &t.bytes[d][p]
	high.sent = max(high.sent, c.Sent)
	high.received = max(high.received, c.Received)
	return ConnStat{
		Open:   int64(c.Opened + c.Seeded + t.listing.conns[d][p] - c.Closed - c.SeededClosed),
		Opened: c.Opened, Closed: c.Closed,
		Sent: high.sent, Received: high.received,
	}
}

// failures names the errnos of failed attempts; the first slot counts those
// without one, the last what lies above the table.
func failures(d Direction, byErrno []uint64) []ConnErrorStat {
	var stats []ConnErrorStat
	for errno, n := range byErrno {
		if n == 0 {
			continue
		}
		name := "aborted"
		if errno == len(byErrno)-1 {
			name = nameOther
		} else if errno > 0 {
			name = errnoName(uint32(errno))
		}
		stats = append(stats, ConnErrorStat{Direction: d, Errno: name, Count: n})
	}
	return stats
}
