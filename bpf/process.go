package bpf

import (
	"fmt"

	"github.com/cilium/ebpf"
)

//go:generate go tool bpf2go -cc clang-16 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type cpu_processes process process.bpf.c -- -Iheaders

// DefaultMaxProcesses bounds the map of live processes. An entry takes 80 bytes
// of kernel memory, 5 MiB in all. A process beyond it is counted like any
// other, but its life is timed from its fork and not from its last exec.
const DefaultMaxProcesses = 65536

// ProcessList lists the processes of the initial pid namespace.
type ProcessList interface {
	// Processes returns their pids. self is the caller's in that namespace: a list of
	// another one is an error.
	Processes(self uint32) ([]uint32, error)
	// Running tells whether a process has a thread that has not begun to exit.
	Running(pid uint32) bool
}

// ProcessesOptions configures the process probe.
type ProcessesOptions struct {
	// Max is the size of the map of live processes, 0 for DefaultMaxProcesses.
	Max uint32
	// Listed lists the processes that task iterators do not show. May be nil.
	Listed ProcessList

	noGroupDead bool // test: as on kernels whose sched_process_exit has no group_dead
}

// Processes counts forks, execs and ends of processes, and how many there are.
// It is safe for concurrent use.
type Processes struct {
	obj      *object
	counts   *counters[processCpuProcesses]
	seeded   int64 // entered by user space, where the kernel could not
	degraded string
}

// The indexes of the kernel's counters (process.bpf.c).
const (
	forkProcess = iota
	forkThread
)

const (
	exitZero = iota
	exitNonzero
	exitSignal
	exitOOM
)

// NewProcesses loads the probe, attaches it, and finds the processes that were
// there before. The exit side goes first, so that no process is entered whose
// exit will not be seen.
func NewProcesses(k *Kernel, opts ProcessesOptions) (*Processes, error) {
	return construct(k, func() (*Processes, error) { return makeProcesses(k, opts) })
}

func makeProcesses(k *Kernel, opts ProcessesOptions) (*Processes, error) {
	spec, err := processSpec(k, opts)
	if err != nil {
		return nil, err
	}
	order := []string{"sched_process_exit", "sched_process_exec", "sched_process_fork"}
	p := &Processes{}
	b := blueprint{probe: "process", spec: spec, tracepoints: order, optional: []string{"seed", "survey"}}
	if p.obj, err = k.load(b); err != nil {
		return nil, err
	}
	if p.counts, err = openCounters[processCpuProcesses](p.obj, "counts"); err != nil {
		return nil, err
	}
	if err := p.obj.attach(order...); err != nil {
		return nil, err
	}
	return p, p.seed(k, opts.Listed)
}

func processSpec(k *Kernel, opts ProcessesOptions) (*ebpf.CollectionSpec, error) {
	spec, err := loadProcess()
	if err != nil {
		return nil, fmt.Errorf("parse process object: %w", err)
	}
	if err := sizeCounters(spec, "counts"); err != nil {
		return nil, err
	}
	args, err := k.tracepointArgs("sched_process_exit")
	if err != nil {
		return nil, err
	}
	if err := spec.Variables["has_group_dead"].Set(len(args) > 1 && !opts.noGroupDead); err != nil {
		return nil, fmt.Errorf("set has_group_dead: %w", err)
	}
	if opts.Max == 0 {
		opts.Max = DefaultMaxProcesses
	}
	spec.Maps["alive"].MaxEntries = opts.Max
	return spec, nil
}

// Status tells how the probe is attached and what it cannot see.
func (p *Processes) Status() ProbeStatus {
	if p.degraded == "" {
		return p.obj.status()
	}
	return p.obj.status(p.degraded)
}

// Read returns the counts since the probe was attached. It costs a copy of 4 KiB
// per CPU and no system call.
func (p *Processes) Read() (ProcessStats, error) {
	var sum processCpuProcesses
	if err := p.counts.sum(&sum); err != nil {
		return ProcessStats{}, err
	}
	return ProcessStats{
		Execs:        sum.Execs,
		ForksProcess: sum.Forks[forkProcess],
		ForksThread:  sum.Forks[forkThread],
		ExitsZero:    sum.Exits[exitZero],
		ExitsNonzero: sum.Exits[exitNonzero],
		ExitsSignal:  sum.Exits[exitSignal],
		ExitsOOM:     sum.Exits[exitOOM],
		Live:         p.seeded + sum.Alive,
		Lifetime:     bucketsNS(sum.Lifetime.Slots[:], sum.Lifetime.Sum),
		LineageDepth: bucketsInt(sum.Depth.Slots[:], sum.Depth.Sum),
	}, nil
}
