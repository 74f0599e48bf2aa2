package profile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/event"
)

// Recorder counts stacks in the kernel; *bpf.Kernel is one.
type Recorder interface {
	RecordStacks(ctx context.Context, d time.Duration, o bpf.StackOptions, found func(bpf.AddressSpace, event.Process)) (*bpf.StackProfile, error)
}

// NodeOptions are what a Node needs to know.
type NodeOptions struct {
	Recorder Recorder
	Proc     string // mount point of procfs
	Sys      string // mount point of sysfs
	// Container tells in which container a process is, "" for none.
	Container func(p *event.Process, moved bool) string
	// Cgroup returns the cgroup of v2 that holds a container, and its distance from
	// the root. Where there is none, the samples of others are left out afterwards.
	Cgroup func(container string) (id uint64, level int, ok bool)
}

// Kind is what a profile of the node is of.
type Kind uint8

// The kinds.
const (
	CPU   Kind = iota // what runs, user and kernel stacks
	Drops             // packets dropped, kernel stacks by reason
	Slow              // system calls that took long, user stacks by call
)

var kinds = [...]struct {
	name  string
	stack bpf.StackKind
}{CPU: {"node", bpf.OnCPU}, Drops: {"drops", bpf.PacketDrops}, Slow: {"slow", bpf.SlowCalls}}

// String returns the name that the routes and the metrics have for it.
func (k Kind) String() string { return kinds[k].name }

// Bounds of a Request.
const (
	DefaultHz = bpf.DefaultHz
	MaxHz     = bpf.MaxHz
)

// Host is the container of all processes that are in none.
const Host = "host"

// Request says which stacks to record.
type Request struct {
	Kind     Kind
	Duration time.Duration
	Hz       int           // CPU: looks per second at each processor, 0 for DefaultHz
	Over     time.Duration // Slow: what a call has to take
	Syscall  string        // Slow: the only call looked at, "" for all
	PID      uint32        // CPU, Slow: the only process, in the initial pid namespace; 0 for all
	// Container is the only container looked at, by its whole id, or Host; "" for all.
	Container string
}

// NodeStats count what the profiles of one kind have come to.
type NodeStats struct {
	Kind     Kind
	Profiles uint64
	Outcomes [len(outcomes)]OutcomeStat
}

// OutcomeStat counts the samples of which the same became.
type OutcomeStat struct {
	Outcome string
	Count   uint64
}

// outcomes of samples, as NodeStats and the profiles' comments name them.
var outcomes = [...]struct {
	name string
	of   func(*bpf.StackProfile) uint64
}{
	{"recorded", func(p *bpf.StackProfile) uint64 { return p.Recorded }},
	{"idle", func(p *bpf.StackProfile) uint64 { return p.Idle }},
	{"filtered", func(p *bpf.StackProfile) uint64 { return p.Filtered }},
	{"no_stack", func(p *bpf.StackProfile) uint64 { return p.NoStack }},
	{"stacks_full", func(p *bpf.StackProfile) uint64 { return p.StacksFull }},
	{"samples_full", func(p *bpf.StackProfile) uint64 { return p.SamplesFull }},
	{"busy", func(p *bpf.StackProfile) uint64 { return p.Busy }},
	{"calls_full", func(p *bpf.StackProfile) uint64 { return p.CallsFull }},
	{"missed", func(p *bpf.StackProfile) uint64 { return p.Missed }},
}

// Node takes profiles of the whole node, one at a time. Its methods may be called
// concurrently.
type Node struct {
	opts NodeOptions

	mu    sync.Mutex
	stats [len(kinds)]NodeStats
}

// NewNode returns a Node. It loads nothing.
func NewNode(o NodeOptions) *Node { return &Node{opts: o} }

// Record records stacks and returns them as a profile. If ctx ends before the
// duration has passed the error is its.
func (n *Node) Record(ctx context.Context, r Request) ([]byte, error) {
	o := bpf.StackOptions{Kind: kinds[r.Kind].stack, Hz: r.Hz, Over: r.Over, Syscall: r.Syscall, PID: r.PID}
	if r.Container != "" && r.Container != Host {
		if id, level, ok := n.opts.Cgroup(r.Container); ok {
			o.CgroupID, o.CgroupLevel = id, uint32(level)
		}
	}
	c := newCapture(n.opts.Proc, n.opts.Container)
	defer c.close()
	stacks, err := n.opts.Recorder.RecordStacks(ctx, r.Duration, o, c.found)
	if err != nil {
		return nil, recordError(err)
	}
	c.again()
	b := newBuilder(r, stacks, c)
	b.names(n.opts.Proc, n.opts.Sys)
	p := b.build()
	n.count(r.Kind, stacks)
	return encode(p)
}

// recordError gives errors of package bpf their names here.
func recordError(err error) error {
	switch {
	case errors.Is(err, bpf.ErrProfiling):
		return ErrBusy
	case errors.Is(err, bpf.ErrNoSyscall):
		return fmt.Errorf("%w: %w", ErrSyscall, err)
	}
	return err
}

func (n *Node) count(kind Kind, p *bpf.StackProfile) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := &n.stats[kind]
	s.Profiles++
	for i, o := range outcomes {
		s.Outcomes[i].Count += o.of(p)
	}
}

// Stats returns what the profiles of every kind have come to since the start.
func (n *Node) Stats() []NodeStats {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := slices.Clone(n.stats[:])
	for kind := range all {
		all[kind].Kind = Kind(kind)
		for i, o := range outcomes {
			all[kind].Outcomes[i].Outcome = o.name
		}
	}
	return all
}
