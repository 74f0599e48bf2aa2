package bpf

import (
	"fmt"
	"math/bits"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
)

//go:generate go tool bpf2go -cc clang-16 -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type cpu_calls syscalls syscalls.bpf.c -- -Iheaders

// DefaultThreadSlots is the number of threads that are timed without a detour.
// A slot takes 24 bytes; the number is rounded up to a power of two. Threads
// that find no slot are looked up in a hash of 8192 more, and beyond that counted
// as unpaired.
const DefaultThreadSlots = 65536

// SyscallsOptions configures the syscalls probe.
type SyscallsOptions struct {
	// ThreadSlots is the number of thread slots, 0 for DefaultThreadSlots.
	ThreadSlots uint32

	overflow  uint32 // test: size of the hash behind the slots
	histLimit uint32 // test: histograms in use at most
}

// Syscalls counts and times every system call of the node.
type Syscalls struct {
	obj   *object
	calls *counters[syscallsCpuCalls]
	mu    sync.Mutex       // guards what follows: reading reuses it
	sum   syscallsCpuCalls // all CPUs'
	owner [syscallRows][outcomes]uint32
}

// Layout shared with syscalls.bpf.c.
const (
	syscallTable  = 512
	rowCompat     = syscallTable
	rowOther      = syscallTable + 1
	syscallRows   = syscallTable + 2
	syscallHists  = len(syscallsCpuCalls{}.Hists)
	outcomes      = 2
	errorsAtATime = 2048
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
	if opts.overflow > 0 {
		spec.Maps["threads_overflow"].MaxEntries = opts.overflow
	}
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

// refreshHists adds up the histograms that are in use over all CPUs. The caller
// holds mu.
func (s *Syscalls) refreshHists() error {
	if err := s.obj.coll.Variables["hist_of"].Get(&s.owner); err != nil {
		return fmt.Errorf("read hist_of: %w", err)
	}
	var used uint32
	if err := s.obj.coll.Variables["hists_used"].Get(&used); err != nil {
		return fmt.Errorf("read hists_used: %w", err)
	}
	inUse := uintptr(min(int(used), syscallHists)) * unsafe.Sizeof(s.sum.Hists[0])
	return s.calls.sumPart(&s.sum, unsafe.Offsetof(s.sum.Hists), unsafe.Offsetof(s.sum.Hists)+inUse)
}

// refreshTail adds up what lies behind the histograms. The caller holds mu.
func (s *Syscalls) refreshTail() error {
	return s.calls.sumPart(&s.sum, unsafe.Offsetof(s.sum.Exits), unsafe.Sizeof(s.sum))
}

// Read calls yield for each system call and outcome that occurred. Durations are
// valid only during the call of yield.
func (s *Syscalls) Read(yield func(SyscallStat)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refreshHists(); err != nil {
		return err
	}
	if err := s.refreshTail(); err != nil {
		return err
	}
	noReturn := map[string]uint64{}
	for i, name := range neverReturn {
		noReturn[name] = s.sum.Exits[i]
	}
	emit := func(name string, outcome, hist int) {
		b := bucketsNS(s.sum.Hists[hist].Slots[:], s.sum.Hists[hist].Sum)
		n := b.Count()
		if n == 0 {
			return
		}
		if outcome == success { // of compat, some calls return and some do not
			n += noReturn[name]
			delete(noReturn, name)
		}
		yield(SyscallStat{Syscall: name, Outcome: outcomeNames[outcome], Count: n, Duration: &b})
	}
	for row := range s.owner {
		for outcome, owned := range s.owner[row] {
			switch name := rowName(uint32(row)); {
			case owned == 0:
			case name == nameOther:
				s.fold(int(owned-1), outcome)
			default:
				emit(name, outcome, int(owned-1))
			}
		}
	}
	for outcome := range outcomes {
		emit(nameOther, outcome, outcome)
	}
	for name, n := range noReturn {
		yield(SyscallStat{Syscall: name, Outcome: outcomeNames[success], Count: n})
	}
	return nil
}

// fold adds a histogram to the collective one of its outcome, which comes first.
func (s *Syscalls) fold(hist, outcome int) {
	from, to := &s.sum.Hists[hist], &s.sum.Hists[outcome]
	addTo(to.Slots[:], from.Slots[:])
	to.Sum += from.Sum
}

// Folded returns how often a call found all histograms taken and was counted
// under "other".
func (s *Syscalls) Folded() (uint64, error) {
	var n uint64
	if err := s.obj.coll.Variables["hists_folded"].Get(&n); err != nil {
		return 0, fmt.Errorf("read hists_folded: %w", err)
	}
	return n, nil
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
