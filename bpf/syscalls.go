package bpf

import (
	"cmp"
	"fmt"
	"math/bits"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
)

//go:generate go tool bpf2go -cc clang-16 -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type cpu_calls syscalls syscalls.bpf.c -- -Iheaders

// The usual bounds of SyscallsOptions.
const (
	DefaultThreadSlots     = 65536
	DefaultThreadsOverflow = 8192
	DefaultSyscallErrors   = 2048
)

// SyscallsOptions configures the syscalls probe. 0 means the usual bound.
type SyscallsOptions struct {
	// ThreadSlots is the number of threads that are timed without a detour, rounded
	// up to a power of two. A slot takes 24 bytes.
	ThreadSlots uint32
	// ThreadsOverflow is the number of threads beyond, which found no slot near
	// theirs: they are looked up in a hash of 96 bytes an entry. The calls of what
	// finds no place there either are counted as unpaired.
	ThreadsOverflow uint32
	// Errors is the number of pairs of system call and error number that are told
	// apart, at 72 bytes and 8 more for each CPU. The rest is summed up per call.
	Errors uint32

	histLimit uint32 // test: histograms in use at most
}

// Syscalls counts and times every system call of the node.
type Syscalls struct {
	obj   *object
	calls *counters[syscallsCpuCalls]

	mu        sync.Mutex       // guards what follows: reading reuses it
	sum       syscallsCpuCalls // all CPUs'
	owner     [syscallRows][outcomes]uint32
	stats     []SyscallStat
	durations [syscallHists]Buckets
	errors    errorTable
}

// Layout shared with syscalls.bpf.c.
const (
	syscallTable = 512
	rowCompat    = syscallTable
	rowOther     = syscallTable + 1
	syscallRows  = syscallTable + 2
	syscallHists = len(syscallsCpuCalls{}.Hists)
	outcomes     = 2 // and the numbers of the histograms for "other"
)

var outcomeNames = [outcomes]string{"success", "error"}

const success = 0

// neverReturn are the calls that are counted at their entry, in the kernel's order:
// of the 32-bit ones, those that end a thread.
var neverReturn = [len(syscallsCpuCalls{}.Exits)]string{"exit", "exit_group", "compat"}

// unpairedReasons are the values of the label "reason", in the kernel's order:
// a call was under way at attach, a child's return from fork, a call refused by
// seccomp before its entry, no room to remember the thread.
var unpairedReasons = [len(syscallsCpuCalls{}.Unpaired)]string{"attach", "fork", "seccomp", "no_slot"}

// NewSyscalls loads the probe and attaches it.
func NewSyscalls(k *Kernel, opts SyscallsOptions) (*Syscalls, error) {
	return construct(k, func() (*Syscalls, error) { return makeSyscalls(k, opts) })
}

func makeSyscalls(k *Kernel, opts SyscallsOptions) (*Syscalls, error) {
	spec, err := loadSyscalls()
	if err != nil {
		return nil, fmt.Errorf("parse syscalls object: %w", err)
	}
	if err := sizeCounters(spec, "calls"); err != nil {
		return nil, err
	}
	slots := threadSlots(opts.ThreadSlots)
	spec.Maps["threads"].MaxEntries = slots
	if err := spec.Variables["thread_mask"].Set(slots - 1); err != nil {
		return nil, fmt.Errorf("set thread_mask: %w", err)
	}
	spec.Maps["threads_overflow"].MaxEntries = cmp.Or(opts.ThreadsOverflow, DefaultThreadsOverflow)
	spec.Maps["errors"].MaxEntries = cmp.Or(opts.Errors, DefaultSyscallErrors)
	if opts.histLimit > 0 {
		if err := spec.Variables["hist_limit"].Set(opts.histLimit); err != nil {
			return nil, fmt.Errorf("set hist_limit: %w", err)
		}
	}
	order, err := syscallTracepoints(k, spec)
	if err != nil {
		return nil, err
	}
	s := &Syscalls{}
	if s.obj, err = k.load(blueprint{probe: "syscalls", spec: spec, tracepoints: order}); err != nil {
		return nil, err
	}
	if s.calls, err = openCounters[syscallsCpuCalls](s.obj, "calls"); err != nil {
		return nil, err
	}
	if err := s.obj.attach(order...); err != nil {
		return nil, err
	}
	k.hooks = hookTable{programs: s.obj.coll.Maps["sys_exit_hooks"], bits: s.obj.coll.Variables["hooked"]}
	return s, s.markAttached()
}

// syscallTracepoints returns what to attach, in order: the exit side goes first,
// so that no entry can be paired with the exit of a later call. Second programs
// are for kernels whose recursion guard would skip the first.
func syscallTracepoints(k *Kernel, spec *ebpf.CollectionSpec) ([]string, error) {
	if err := spec.Variables["preemptible"].Set(k.preemptible); err != nil {
		return nil, fmt.Errorf("set preemptible: %w", err)
	}
	if k.preemptible {
		return []string{"sched_process_exit", "sys_exit", "sys_exit_again", "sys_enter", "sys_enter_again"}, nil
	}
	for _, kind := range attachKinds {
		delete(spec.Programs, programFor("sys_exit_again", kind))
		delete(spec.Programs, programFor("sys_enter_again", kind))
	}
	return []string{"sched_process_exit", "sys_exit", "sys_enter"}, nil
}

func threadSlots(n uint32) uint32 {
	if n == 0 {
		n = DefaultThreadSlots
	}
	return 1 << bits.Len32(n-1)
}

// Status tells how the probe is attached.
func (s *Syscalls) Status() ProbeStatus { return s.obj.status() }

// markAttached tells the kernel side from when on every call must have an entry.
func (s *Syscalls) markAttached() error {
	now, err := bootTime()
	if err != nil {
		return err
	}
	if err := s.obj.coll.Variables["attached_ns"].Set(now); err != nil {
		return fmt.Errorf("set attached_ns: %w", err)
	}
	return nil
}

// Read returns the counts since the probe was attached. What it returns is valid
// until the next Read.
func (s *Syscalls) Read() (SyscallStats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(); err != nil {
		return SyscallStats{}, err
	}
	stats := SyscallStats{Calls: s.callStats(), Unpaired: s.unpairedStats()}
	if err := s.obj.coll.Variables["hists_folded"].Get(&stats.FoldedCalls); err != nil {
		return SyscallStats{}, fmt.Errorf("read hists_folded: %w", err)
	}
	var err error
	stats.Errors, stats.FoldedErrors, err = s.errors.read(s.obj.coll.Maps["errors"], s.sum.ErrorsOther[:])
	return stats, err
}

// refresh adds up the counters of all CPUs: the histograms in use, and what lies
// behind them. The caller holds mu.
func (s *Syscalls) refresh() error {
	if err := s.obj.coll.Variables["hist_of"].Get(&s.owner); err != nil {
		return fmt.Errorf("read hist_of: %w", err)
	}
	var used uint32
	if err := s.obj.coll.Variables["hists_used"].Get(&used); err != nil {
		return fmt.Errorf("read hists_used: %w", err)
	}
	inUse := uintptr(min(int(used), syscallHists)) * unsafe.Sizeof(s.sum.Hists[0])
	if err := s.calls.sumPart(&s.sum, 0, inUse); err != nil {
		return err
	}
	return s.calls.sumPart(&s.sum, unsafe.Offsetof(s.sum.Exits), unsafe.Sizeof(s.sum))
}

// callStats lists the calls that occurred: those that were timed, the collective ones
// last, and then those that never return.
func (s *Syscalls) callStats() []SyscallStat {
	s.stats = s.stats[:0]
	timed := func(name string, outcome, hist int) {
		b := &s.durations[hist]
		*b = bucketsNS(s.sum.Hists[hist].Slots[:], s.sum.Hists[hist].Sum)
		if n := b.Count(); n > 0 {
			s.stats = append(s.stats, SyscallStat{Syscall: name, Outcome: outcomeNames[outcome], Count: n, Duration: b})
		}
	}
	for row := range s.owner {
		for outcome, owned := range s.owner[row] {
			hist := int(owned) - 1
			switch name := rowName(uint32(row)); {
			case hist < outcomes: // none, or a collective one
			case name == nameOther:
				s.fold(hist, outcome)
			default:
				timed(name, outcome, hist)
			}
		}
	}
	for outcome := range outcomes {
		timed(nameOther, outcome, outcome)
	}
	for i, name := range neverReturn {
		s.stats = append(s.stats, SyscallStat{Syscall: name, Outcome: outcomeNames[success], Count: s.sum.Exits[i]})
	}
	return s.stats
}

// fold adds a histogram to the collective one of its outcome.
func (s *Syscalls) fold(hist, outcome int) {
	from, to := &s.sum.Hists[hist], &s.sum.Hists[outcome]
	addTo(to.Slots[:], from.Slots[:])
	to.Sum += from.Sum
}

// unpairedStats lists the calls that could not be timed; every reason is present.
func (s *Syscalls) unpairedStats() []UnpairedStat {
	stats := make([]UnpairedStat, len(unpairedReasons))
	for i, reason := range unpairedReasons {
		stats[i] = UnpairedStat{Reason: reason, Count: s.sum.Unpaired[i]}
	}
	return stats
}

// nameOther stands for what has no row of its own.
const nameOther = "other"

// rowName names a row of the kernel's tables.
func rowName(row uint32) string {
	switch {
	case row == rowCompat:
		return "compat"
	case row >= uint32(len(syscallNames)) || syscallNames[row] == "":
		return nameOther
	default:
		return syscallNames[row]
	}
}
