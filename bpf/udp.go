package bpf

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

//go:generate go tool bpf2go -cc clang-16 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type cpu_udp -type flow_key -type flow -type entry -type address udp udp.bpf.c -- -Iheaders

// AttachCgroupSkb is how the udp probe attaches, as probe_info's label "attach" shows it.
const AttachCgroupSkb = "cgroup_skb"

// DefaultMaxFlows bounds the map of UDP flows. A flow takes 160 bytes of kernel
// memory (48 head, 32 key, 64 value, 16 bucket), 10 MiB in all. A flow that finds the
// map full is not counted, but in the map's UpdateFailures, once per datagram.
const DefaultMaxFlows = 65536

// DefaultMaxUDPSockets bounds the map of UDP sockets: those that are bound and those
// that have flows. A socket takes 120 bytes of kernel memory (48 head, 8 key, 48
// value, 16 bucket), 3.75 MiB in all. One that finds the map full is no endpoint, its
// flows have no owner and are closed when they are idle; the map's UpdateFailures
// counts it once for each try.
const DefaultMaxUDPSockets = 32768

// DefaultFlowIdle is how long a flow without a datagram stays open.
const DefaultFlowIdle = time.Minute

// sweepInterval is how often ended flows are taken out where nobody reads.
const sweepInterval = 5 * time.Second

// UDPOptions configures the udp probe.
type UDPOptions struct {
	// MaxFlows is the size of the map of flows, 0 for DefaultMaxFlows.
	MaxFlows uint32
	// MaxSockets is the size of the map of sockets, 0 for DefaultMaxUDPSockets.
	MaxSockets uint32
	// Listed lists bound and connected sockets where the kernel refuses to iterate
	// over files; with it they are at least in the gauges. May be nil.
	Listed SocketList
	// CgroupPath is where the root of cgroup v2 is mounted.
	CgroupPath string
	// Idle closes flows without a datagram, 0 for DefaultFlowIdle.
	Idle time.Duration
}

// UDP counts the UDP flows of all sockets under the root of cgroup v2, and the
// endpoints: sockets that have a port and no peer of their own. It is safe for
// concurrent use.
//
// A socket that connects stops being an endpoint, one that disconnects becomes one
// again; this is found out and told in the next sweep. A socket that has got a port by
// a send that failed is found by the next survey.
type UDP struct {
	kernel   *Kernel
	obj      *object
	hooks    []udpHook // those that were attached
	listing  listing   // empty where the kernel iterates itself
	degraded []string

	mu     sync.Mutex // guards what follows
	counts *counters[udpCpuUdp]
	sweeps map[string]*link.Iter // by program
}

// sweepPrograms run in this order: flows end with their sockets.
var sweepPrograms = []string{"sweep_sockets", "sweep_flows"}

// NewUDP loads the probe, attaches it at the root of cgroup v2, and finds the sockets
// that are there already.
func NewUDP(k *Kernel, opts UDPOptions) (*UDP, error) {
	return construct(k, func() (*UDP, error) { return makeUDP(k, opts) })
}

func makeUDP(k *Kernel, opts UDPOptions) (*UDP, error) {
	if opts.CgroupPath == "" {
		return nil, ErrNoCgroup2
	}
	opts.MaxFlows = cmp.Or(opts.MaxFlows, DefaultMaxFlows)
	opts.MaxSockets = cmp.Or(opts.MaxSockets, DefaultMaxUDPSockets)
	opts.Idle = cmp.Or(opts.Idle, DefaultFlowIdle)
	spec, err := udpSpec(opts)
	if err != nil {
		return nil, err
	}
	u := &UDP{kernel: k, sweeps: map[string]*link.Iter{}}
	b := blueprint{probe: "udp", spec: spec, optional: []string{"seed"}, without: useListing(opts.Listed, opts.MaxSockets)}
	if u.obj, err = k.load(b); err != nil {
		return nil, err
	}
	if u.counts, err = openCounters[udpCpuUdp](u.obj, "counts"); err != nil {
		return nil, err
	}
	if err := u.openSweeps(); err != nil {
		return nil, err
	}
	if u.obj.refused != nil {
		u.listing = listing{list: opts.Listed, role: byPorts}
		u.degraded = append(u.degraded, u.listing.begin(u.obj))
	}
	if err := u.attach(opts.CgroupPath); err != nil {
		return nil, err
	}
	return u, u.listing.prune()
}

func udpSpec(opts UDPOptions) (*ebpf.CollectionSpec, error) {
	spec, err := loadUdp()
	if err != nil {
		return nil, fmt.Errorf("parse udp object: %w", err)
	}
	if err := sizeCounters(spec, "counts"); err != nil {
		return nil, err
	}
	spec.Maps["flows"].MaxEntries = opts.MaxFlows
	spec.Maps["sockets"].MaxEntries = opts.MaxSockets
	if err := spec.Variables["idle_ns"].Set(uint64(opts.Idle)); err != nil {
		return nil, fmt.Errorf("set idle_ns: %w", err)
	}
	return spec, nil
}

func (u *UDP) openSweeps() error {
	for _, name := range sweepPrograms {
		m := u.obj.coll.Maps[strings.TrimPrefix(name, "sweep_")]
		it, err := link.AttachIter(link.IterOptions{Program: u.obj.coll.Programs[name], Map: m})
		if err != nil {
			u.obj.detach()
			return fmt.Errorf("attach %s: %w", name, plainErrno(err))
		}
		u.sweeps[name] = it
		u.obj.iterators = append(u.obj.iterators, it)
	}
	return nil
}

// udpHook is a program of the probe and where it belongs.
type udpHook struct {
	name    string
	at      ebpf.AttachType
	without string // what is missing without it; "" where nothing works then
	link    link.Link
}

var udpHooks = []udpHook{
	{name: "udp_release", at: ebpf.AttachCgroupInetSockRelease, without: "sockets are found released by the next sweep only"},
	{name: "udp_bind4", at: ebpf.AttachCGroupInet4PostBind, without: "bound sockets are known from their first datagram"},
	{name: "udp_bind6", at: ebpf.AttachCGroupInet6PostBind, without: "bound sockets are known from their first datagram"},
	{name: "udp_ingress", at: ebpf.AttachCGroupInetIngress},
	{name: "udp_egress", at: ebpf.AttachCGroupInetEgress},
}

// attach attaches the ends before the beginnings, so that no socket and no flow
// begins whose end is not seen. What was there before is found in between: after the
// beginnings of sockets, so that none is missed, and before datagrams are seen, so that
// none of those opens a flow that is older.
func (u *UDP) attach(root string) error {
	for _, h := range udpHooks {
		if h.name == "udp_ingress" && u.obj.refused == nil {
			u.seed()
		}
		l, err := link.AttachCgroup(link.CgroupOptions{Path: root, Attach: h.at, Program: u.obj.coll.Programs[h.name]})
		switch {
		case err == nil:
			h.link = l
			u.hooks = append(u.hooks, h)
			u.obj.links = append(u.obj.links, l)
		case h.without != "":
			u.degrade(h.without, fmt.Errorf("attach %s at %s: %w", h.name, root, plainErrno(err)))
		default:
			u.obj.detach()
			return fmt.Errorf("attach %s at %s: %w", h.name, root, plainErrno(err))
		}
	}
	return nil
}

func (u *UDP) degrade(what string, err error) {
	u.degraded = append(u.degraded, fmt.Sprintf("%s: %v", what, err))
}

// seed enters the sockets that were there before the probe, and the flows of those
// that are connected: they are in the gauges, never in opened or closed.
func (u *UDP) seed() {
	if err := u.iterate(true); err != nil {
		u.degrade("sockets are only known from their first bind or datagram", err)
	}
}

// iterate enters the sockets that tasks hold and that are not known, and with flows
// also the flows of those that are connected.
func (u *UDP) iterate(flows bool) error {
	if err := u.obj.coll.Variables["seed_flows"].Set(flows); err != nil {
		return fmt.Errorf("set seed_flows: %w", err)
	}
	if err := runIterator(u.obj.coll.Programs["seed"]); err != nil {
		return fmt.Errorf("iterate files: %w", err)
	}
	return nil
}

// ErrNoCgroup2 says that the root of cgroup v2 is mounted nowhere in sight.
var ErrNoCgroup2 = errors.New("cgroup v2 is not mounted")

// Run takes ended flows out of the kernel's map until ctx is done. Read does the
// same: without Run the counts are right, but ended flows take up room.
func (u *UDP) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			u.mu.Lock()
			err := u.sweep()
			u.mu.Unlock()
			if err != nil {
				return err
			}
		}
	}
}

// sweep looks in the kernel at all sockets and flows. The caller holds mu.
func (u *UDP) sweep() error {
	if err := u.obj.coll.Variables["endpoints"].Set(uint64(0)); err != nil {
		return fmt.Errorf("set endpoints: %w", err)
	}
	for _, name := range sweepPrograms {
		if err := drainIterator(u.sweeps[name]); err != nil {
			return fmt.Errorf("run %s: %w", name, err)
		}
	}
	return nil
}

// drainIterator runs an iterator over all its objects and drops what it prints.
func drainIterator(it *link.Iter) error {
	r, err := it.Open()
	if err != nil {
		return plainErrno(err)
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// Status tells how the probe is attached now and what it cannot see. Links to cgroups
// are the only ones that others may detach: a probe of which that was done says so.
func (u *UDP) Status() ProbeStatus {
	u.kernel.mu.RLock()
	defer u.kernel.mu.RUnlock()
	s := ProbeStatus{Probe: "udp", Attached: len(u.obj.links) > 0, Attach: AttachCgroupSkb}
	var fatal, reasons []string
	for i := range u.hooks {
		h := &u.hooks[i]
		if len(u.obj.links) == 0 || !h.severed() { // none are left where we have detached them
			continue
		}
		reason := h.name + " was detached by somebody else"
		if h.without == "" {
			s.Attached = false
			fatal = append(fatal, reason)
		} else {
			reasons = append(reasons, h.without+": "+reason)
		}
	}
	s.Reason = strings.Join(slices.Concat(fatal, u.degraded, reasons), "; ")
	return s
}

// severed tells whether the link does not lead to a cgroup any more.
func (h *udpHook) severed() bool {
	info, err := h.link.Info()
	if err != nil {
		return false
	}
	cgroup := info.Cgroup()
	return cgroup != nil && cgroup.CgroupId == 0
}

// Read closes the flows that have ended and returns the counts since the probe
// was attached, and the endpoints of now.
func (u *UDP) Read() (UDPStats, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if err := u.sweep(); err != nil {
		return UDPStats{}, err
	}
	var (
		sum udpCpuUdp
		s   UDPStats
	)
	if err := u.counts.sum(&sum); err != nil {
		return UDPStats{}, err
	}
	for d := range Directions {
		for p := range Peers {
			f := &sum.Flows[d][p]
			s.Flows[d][p] = ConnStat{
				Open:   int64(f.Opened + f.Seeded + u.listing.conns[d][p] - f.Closed - f.SeededClosed),
				Opened: f.Opened, Closed: f.Closed,
			}
		}
	}
	var unlisted uint64
	if err := u.obj.coll.Variables["endpoints"].Get(&s.Endpoints); err != nil {
		return UDPStats{}, fmt.Errorf("read endpoints: %w", err)
	}
	if err := u.obj.coll.Variables["endpoints_unlisted"].Get(&unlisted); err != nil {
		return UDPStats{}, fmt.Errorf("read endpoints_unlisted: %w", err)
	}
	s.Endpoints += u.listing.endpoints - unlisted
	return s, nil
}
