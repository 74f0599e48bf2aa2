package bpf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

//go:generate go tool bpf2go -cc clang-16 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type stack -type sample_key -type sample_value -type found_space profile profile.bpf.c -- -Iheaders

// ErrProfiling is the error of a profile that is asked for while another one runs:
// each takes StackMemory, so there is one at a time.
var ErrProfiling = errors.New("stacks are being counted already")

// ErrNoSyscall is the error of a name that this architecture has no system call of.
var ErrNoSyscall = errors.New("not known on this architecture")

// Bounds of a profile of stacks. What does not fit is counted as lost.
const (
	// MaxStacks are different stacks, of the kernel or of a process. One takes
	// 1072 bytes, together 8.4 MiB.
	MaxStacks = 8192
	// MaxStackSamples are different combinations of process, stacks and cause. One
	// takes 104 bytes.
	MaxStackSamples = 16384
	// MaxStackSpaces are address spaces that user space is told of. One takes 72 bytes.
	MaxStackSpaces = 4096
	// MaxSlowCalls are calls under way at once. One takes 72 bytes.
	MaxSlowCalls = 8192
	// DefaultHz is how often each CPU is looked at per second. It is no divisor of
	// the frequencies that timers have, so that it does not run in step with them.
	DefaultHz = 99
	// MaxHz bounds what a profile may cost: 7 µs for each look, 0.7 % of a processor.
	MaxHz = 999
	// StackMemory is the most that the maps of a profile take, in bytes.
	StackMemory = 12 << 20
)

// StackKind is what stacks are counted of.
type StackKind uint8

// The kinds.
const (
	OnCPU       StackKind = iota // what runs, Hz times a second on every CPU
	PacketDrops                  // kernel stacks of packets dropped with a reason
	SlowCalls                    // user stacks of system calls that took at least Over
)

// StackOptions say what to count stacks of.
type StackOptions struct {
	Kind StackKind
	// Hz is how often each CPU is looked at, 0 for DefaultHz. OnCPU only.
	Hz int
	// Over is what a call has to take, and Syscall the only name looked at, "" for
	// all. SlowCalls only.
	Over    time.Duration
	Syscall string
	// PID is the only thread group looked at, in the initial pid namespace; 0 for all.
	PID uint32
	// CgroupID and CgroupLevel are the only cgroup of v2 looked at, with what is
	// below it, and its distance from the root; 0 for all.
	CgroupID    uint64
	CgroupLevel uint32

	maxStacks, maxSamples uint32 // test: smaller maps
}

// AddressSpace is an address space in which samples were taken. A process gets
// another one by an execve.
type AddressSpace struct {
	ID  uint64
	PID uint32
}

// StackSample is one combination of process, stacks and cause. Frames are addresses,
// the innermost first; all but the first of a stack are return addresses.
type StackSample struct {
	Space  AddressSpace // zero for packet drops
	Kernel []uint64
	User   []uint64
	What   string // reason of the drop, name of the call
	Count  uint64
	NS     uint64 // time in all of them together: SlowCalls only
}

// StackProfile is what was counted.
type StackProfile struct {
	Samples  []StackSample
	Begin    time.Time
	Duration time.Duration
	Hz       int // of OnCPU
	// Taken is how often the program ran to its end: the sum of what follows it.
	Taken                        uint64
	Recorded, Idle, Filtered     uint64
	NoStack, StacksFull          uint64
	SamplesFull, Busy, CallsFull uint64
	// Missed are ticks that were due and on which the program did not run, because the
	// CPU slept or was taken away. OnCPU only.
	Missed uint64
	// Truncated are stacks with more frames than the kernel unwinds.
	Truncated uint64
	// SpacesLost is how often an address space could not be told of in time.
	SpacesLost uint64
}

// Lost is how many samples are not in the profile and should be. Missed is apart from
// it: most of those ticks were due on CPUs that slept.
func (p *StackProfile) Lost() uint64 {
	return p.NoStack + p.StacksFull + p.SamplesFull + p.Busy + p.CallsFull
}

// RecordStacks counts stacks for d and returns them. found is told of every address
// space when it is first seen, from one goroutine, while its process is most likely
// still there. The kernel's side is loaded for this time only. If ctx ends earlier the error
// is its.
func (k *Kernel) RecordStacks(ctx context.Context, d time.Duration, o StackOptions, found func(AddressSpace, event.Process)) (*StackProfile, error) {
	if !k.profiling.CompareAndSwap(false, true) {
		return nil, ErrProfiling
	}
	defer k.profiling.Store(false)
	r, err := k.newStackRecorder(o)
	if err != nil {
		return nil, fmt.Errorf("record stacks: %w", err)
	}
	defer r.close()
	p, err := r.run(ctx, d, found)
	if err != nil {
		return nil, fmt.Errorf("record stacks: %w", err)
	}
	return p, nil
}

// stackRecorder is a profile under way.
type stackRecorder struct {
	kernel *Kernel
	opts   StackOptions
	obj    *object
	names  map[int32]string // of what samples are of
	clocks []perfClock
}

// tracepoints of each kind, in the order in which they attach: OnCPU has none.
var stackTracepoints = [...][]string{OnCPU: nil, PacketDrops: {"kfree_skb"}, SlowCalls: {"sys_exit", "sys_enter"}}

func (k *Kernel) newStackRecorder(o StackOptions) (*stackRecorder, error) {
	spec, err := loadProfile()
	if err != nil {
		return nil, fmt.Errorf("parse profile object: %w", err)
	}
	r := &stackRecorder{kernel: k, opts: o}
	if r.opts.Hz == 0 {
		r.opts.Hz = DefaultHz
	}
	if r.names, err = r.namesOf(); err != nil {
		return nil, err
	}
	if err := r.configure(spec); err != nil {
		return nil, err
	}
	tracepoints := stackTracepoints[o.Kind]
	defer k.Loaded() // the types are not needed while it runs
	if r.obj, err = k.load(blueprint{probe: "profile", spec: spec, tracepoints: tracepoints}); err != nil {
		return nil, err
	}
	return r, nil
}

// namesOf returns the names of drop reasons or of system calls, by their numbers.
func (r *stackRecorder) namesOf() (map[int32]string, error) {
	names := map[int32]string{}
	switch r.opts.Kind {
	case PacketDrops:
		reasons, err := dropReasons(r.kernel)
		if err != nil {
			return nil, err
		}
		for number, name := range reasons {
			names[int32(number)] = name
		}
	case SlowCalls:
		for number, name := range syscallNames {
			names[int32(number)] = name
		}
	}
	return names, nil
}

// configure sizes the maps, sets the filters, and leaves out the programs and maps
// of other kinds.
func (r *stackRecorder) configure(spec *ebpf.CollectionSpec) error {
	o := r.opts
	sizes := map[string]uint32{"stacks": MaxStacks, "samples": MaxStackSamples, "spaces": MaxStackSpaces, "under_way": 1}
	if o.Kind == SlowCalls {
		sizes["under_way"] = MaxSlowCalls
	}
	if o.maxStacks > 0 {
		sizes["stacks"], sizes["samples"] = o.maxStacks, o.maxSamples
	}
	for name, n := range sizes {
		spec.Maps[name].MaxEntries = n
	}
	if o.Kind != OnCPU {
		delete(spec.Programs, "on_cpu")
	}
	for kind, tracepoints := range stackTracepoints {
		for _, tp := range tracepoints {
			if StackKind(kind) != o.Kind {
				delete(spec.Programs, programFor(tp, AttachTpBTF))
				delete(spec.Programs, programFor(tp, AttachRawTp))
			}
		}
	}
	only := int32(-1)
	if o.Syscall != "" {
		only = int32(slices.Index(syscallNames[:], o.Syscall))
		if only < 0 {
			return fmt.Errorf("system call %q: %w", o.Syscall, ErrNoSyscall)
		}
	}
	for name, value := range map[string]any{
		"only_pid": o.PID, "only_cgroup": o.CgroupID, "cgroup_level": o.CgroupLevel, "only_syscall": only,
		"slow_ns": uint64(o.Over), "nr_exit": uint32(unix.SYS_EXIT), "nr_exit_group": uint32(unix.SYS_EXIT_GROUP),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// close detaches and frees everything.
func (r *stackRecorder) close() {
	r.stop()
	r.kernel.unload(r.obj)
}

// start lets the programs run. The Kernel may detach everything at any time.
func (r *stackRecorder) start() (err error) {
	if r.opts.Kind == OnCPU {
		r.clocks, err = startClocks(r.obj.coll.Programs["on_cpu"], r.opts.Hz)
		return err
	}
	r.kernel.mu.Lock()
	defer r.kernel.mu.Unlock()
	return r.obj.attach(stackTracepoints[r.opts.Kind]...)
}

// stop ends that; what was counted stays readable.
func (r *stackRecorder) stop() {
	for _, c := range r.clocks {
		c.close()
	}
	r.clocks = nil
	r.kernel.mu.Lock()
	defer r.kernel.mu.Unlock()
	r.obj.detach()
}
