package bpf

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

//go:generate go tool bpf2go -cc clang-16 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type cpu_udp udp udp.bpf.c -- -Iheaders

// AttachCgroupSkb is how the udp probe attaches, as probe_info's label "attach" shows it.
const AttachCgroupSkb = "cgroup_skb"

// DefaultMaxFlows bounds the map of UDP flows. A flow takes 112 bytes of kernel
// memory (48 head, 32 key, 16 value, 16 bucket), and half as many releases of
// sockets 80 bytes each: 152 bytes for each flow of the bound, 9.5 MiB in all. A
// flow that finds the map full is not counted, but in the map's UpdateFailures,
// once per datagram.
const DefaultMaxFlows = 65536

// DefaultFlowIdle is how long a flow without a datagram stays open.
const DefaultFlowIdle = time.Minute

// sweepInterval is how often ended flows are taken out where nobody reads.
const sweepInterval = 5 * time.Second

// UDPOptions configures the udp probe.
type UDPOptions struct {
	// MaxFlows is the size of the map of flows, 0 for DefaultMaxFlows.
	MaxFlows uint32
	// CgroupPath is where the root of cgroup v2 is mounted; "" looks for it.
	CgroupPath string
	// Idle closes flows without a datagram, 0 for DefaultFlowIdle.
	Idle time.Duration
}

// UDP counts the UDP flows of all sockets under the root of cgroup v2. It is
// safe for concurrent use.
type UDP struct {
	obj      *object
	degraded []string

	mu     sync.Mutex // guards what follows
	counts *counters[udpCpuUdp]
	number uint64                // of the sweep
	sweeps map[string]*link.Iter // by program, in the order of sweepPrograms
}

// sweepPrograms run in this order: the releases that a sweep has seen are
// forgotten only after it.
var sweepPrograms = []string{"sweep_flows", "sweep_released"}

// NewUDP loads the probe and attaches it at the root of cgroup v2.
func NewUDP(k *Kernel, opts UDPOptions) (*UDP, error) {
	return construct(k, func() (*UDP, error) { return makeUDP(k, opts) })
}

func makeUDP(k *Kernel, opts UDPOptions) (*UDP, error) {
	root := opts.CgroupPath
	if root == "" {
		var err error
		if root, err = cgroup2Root(); err != nil {
			return nil, err
		}
	}
	spec, err := udpSpec(opts)
	if err != nil {
		return nil, err
	}
	u := &UDP{sweeps: map[string]*link.Iter{}}
	if u.obj, err = k.load(blueprint{probe: "udp", spec: spec}); err != nil {
		return nil, err
	}
	if u.counts, err = openCounters[udpCpuUdp](u.obj, "counts"); err != nil {
		return nil, err
	}
	if err := u.openSweeps(); err != nil {
		return nil, err
	}
	return u, u.attach(root)
}

func udpSpec(opts UDPOptions) (*ebpf.CollectionSpec, error) {
	spec, err := loadUdp()
	if err != nil {
		return nil, fmt.Errorf("parse udp object: %w", err)
	}
	if err := sizeCounters(spec, "counts"); err != nil {
		return nil, err
	}
	if opts.MaxFlows == 0 {
		opts.MaxFlows = DefaultMaxFlows
	}
	if opts.Idle == 0 {
		opts.Idle = DefaultFlowIdle
	}
	spec.Maps["flows"].MaxEntries = opts.MaxFlows
	spec.Maps["released"].MaxEntries = max(opts.MaxFlows/2, 1)
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

// attach attaches the releases first, so that no flow opens whose end is not
// seen. Where the kernel has no such hook, flows end when they are idle.
func (u *UDP) attach(root string) error {
	programs := []struct {
		name     string
		at       ebpf.AttachType
		optional bool
	}{
		{"udp_release", ebpf.AttachCgroupInetSockRelease, true},
		{"udp_ingress", ebpf.AttachCGroupInetIngress, false},
		{"udp_egress", ebpf.AttachCGroupInetEgress, false},
	}
	for _, p := range programs {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: root, Attach: p.at, Program: u.obj.coll.Programs[p.name]})
		switch {
		case err == nil:
			u.obj.links = append(u.obj.links, l)
		case p.optional:
			u.degraded = append(u.degraded, fmt.Sprintf("flows are closed when idle only: attach %s at %s: %v", p.name, root, plainErrno(err)))
		default:
			u.obj.detach()
			return fmt.Errorf("attach %s at %s: %w", p.name, root, plainErrno(err))
		}
	}
	return nil
}

// ErrNoCgroup2 says that the root of cgroup v2 is mounted nowhere in sight.
var ErrNoCgroup2 = errors.New("cgroup v2 is not mounted")

// cgroup2Root finds where the root of cgroup v2 is mounted.
func cgroup2Root() (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("find cgroup v2: %w", err)
	}
	defer f.Close()
	return parseCgroup2Root(f)
}

// parseCgroup2Root reads lines like
// "35 28 0:30 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw".
func parseCgroup2Root(r io.Reader) (string, error) {
	const root, mountPoint = 3, 4
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		mount, fs, found := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(mount)
		if found && strings.HasPrefix(fs, "cgroup2 ") && len(fields) > mountPoint && fields[root] == "/" {
			// octal escapes stand for blanks in paths
			return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(fields[mountPoint]), nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("find cgroup v2: %w", err)
	}
	return "", ErrNoCgroup2
}

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

// sweep runs in the kernel over all flows. The caller holds mu.
func (u *UDP) sweep() error {
	u.number++
	if err := u.obj.coll.Variables["sweep"].Set(u.number); err != nil {
		return fmt.Errorf("set sweep: %w", err)
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

// Status tells how the probe is attached and what it cannot see.
func (u *UDP) Status() ProbeStatus {
	return ProbeStatus{
		Probe: "udp", Attached: len(u.obj.links) > 0, Attach: AttachCgroupSkb,
		Reason: strings.Join(u.degraded, "; "),
	}
}

// Read closes the flows that have ended and returns the counts since the probe
// was attached.
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
			s.Flows[d][p] = ConnStat{Open: int64(f.Opened - f.Closed), Opened: f.Opened, Closed: f.Closed}
		}
	}
	return s, nil
}
