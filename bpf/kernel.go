// Package bpf is all contact with the kernel's BPF side: it loads and attaches
// the probes, reads what they count, and decodes the events they send. Bytes go
// in, Go values come out; it knows nothing of metrics, sinks or containers.
//
// Each probe is an ELF object of its own. They share the event ring, its ledger
// and the settings, which the Kernel owns; a probe that this kernel refuses is
// one missing probe.
package bpf

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/rlimit"

	"github.com/sonde-ebpf/sonde/internal/event"
)

//go:generate go tool bpf2go -cc clang-16 -target bpfel -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type point -type process_id -type settings_page -type limit_key -type ledger_row -type event_header -type credentials -type namespaces -type canary_event -type exec_event -type fork_event -type exit_event -type conn_event -type call_event -type file_event -type program_event -type setns_event -type signal_event -type workload kernel kernel.bpf.c -- -Iheaders

// DefaultRingBytes is the size of the event ring: 8 MiB in total, whatever the
// number of CPUs, because the ring is one for all.
const DefaultRingBytes = 8 << 20

// Options are what all probes need to know.
type Options struct {
	// RingBytes is the size of the event ring, a power of two and at least a
	// page. 0 means DefaultRingBytes.
	RingBytes uint32
	// BTF is the path of an external BTF file for kernels without their own.
	BTF string
	// Attach forces one attach kind (AttachTpBTF, AttachRawTp); "" tries both.
	Attach string
	// Editor takes the texts of events in; nil is one that withholds nothing.
	Editor *event.Editor
	// Changed is called when maps were made or are gone, nil for nobody. It must be
	// quick and may not call the Kernel.
	Changed func()
	// Controller is the controller ("memory", "pids", …) whose cgroup v1 hierarchy
	// tells tasks apart, beside v2. Empty where no v1 hierarchy has containers.
	Controller string
	// Workloads has workloads counted; nil counts none, and costs nothing.
	Workloads *WorkloadOptions

	preemptible     bool       // test: as on kernels that run tracepoints preemptible
	refuseIterators bool       // test: as where iterators over tasks and files are refused
	cache           *btf.Cache // test: shared, because decoding takes most of a test's time
}

// Kernel owns what the probes share. Create it with Load, close it last. Its
// methods may be called concurrently unless they say otherwise.
type Kernel struct {
	opts     Options
	types    *btf.Spec  // external; nil for the kernel's own
	cache    *btf.Cache // the kernel's own, decoded once for all objects; emptied by Loaded
	self     Task
	obj      *object
	shared   map[string]*ebpf.Map
	mu       sync.RWMutex // guards objects once a profile may come and go
	objects  []*object
	settings *ebpf.Memory
	ring     *ebpf.Memory
	points   atomic.Uint64
	choosing sync.Mutex // held while the points of the kernel are changed
	refused  uint64     // points that are kept off
	limited  uint64     // points that are limited, to those of limits
	limits   map[kernelLimitKey]bool
	// preemptible says that this kernel runs tracepoints preemptible, as 7.2 does:
	// its recursion guard then also skips programs of other tasks.
	preemptible bool
	profiling   atomic.Bool // stacks are being counted
	hooks       hookTable   // empty until the syscalls probe is loaded

	cgroupsV1   uint32        // the controller that tells v1 cgroups apart, plus one; 0: none
	fillCounter *ebpf.Program // nil where the kernel does not tell how full maps are
}

// Task names a thread in the initial pid namespace, whatever namespace it sees itself in.
type Task struct{ PID, TID uint32 }

// Load loads the kernel object and attaches the canary. Nothing else runs in
// the kernel until a probe is created.
func Load(opts Options) (*Kernel, error) {
	if opts.RingBytes == 0 {
		opts.RingBytes = DefaultRingBytes
	}
	if err := checkRingBytes(opts.RingBytes); err != nil {
		return nil, err
	}
	opts.Editor = cmp.Or(opts.Editor, new(event.Editor))
	types, err := loadTypes(opts.BTF)
	if err != nil {
		return nil, err
	}
	// Before 5.11 BPF memory counts against RLIMIT_MEMLOCK; later this does nothing.
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("raise memlock limit: %w", err)
	}
	spec, err := loadKernel()
	if err != nil {
		return nil, fmt.Errorf("parse kernel object: %w", err)
	}
	spec.Maps["events"].MaxEntries = opts.RingBytes
	k := &Kernel{opts: opts, types: types, cache: cmp.Or(opts.cache, btf.NewCache())}
	if opts.Controller != "" {
		n, err := k.controllerNumber(opts.Controller)
		if err != nil {
			return nil, err
		}
		k.cgroupsV1 = n + 1
	}
	k.prepareWorkloads(spec)
	if k.obj, err = k.load(blueprint{probe: "kernel", spec: spec, tracepoints: []string{"task_rename"}}); err != nil {
		return nil, err
	}
	if err := k.init(); err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// checkRingBytes says what the kernel would refuse with a bare EINVAL.
func checkRingBytes(n uint32) error {
	if page := uint32(os.Getpagesize()); n < page || n&(n-1) != 0 {
		return fmt.Errorf("ring size %d: must be a power of two and at least %d bytes", n, page)
	}
	return nil
}

func (k *Kernel) init() error {
	k.shared = map[string]*ebpf.Map{}
	for _, name := range k.obj.own {
		k.shared[name] = k.obj.coll.Maps[name]
	}
	var err error
	if k.settings, err = k.shared["settings"].Memory(); err != nil {
		return fmt.Errorf("map settings: %w", err)
	}
	if k.ring, err = k.shared["ring"].Memory(); err != nil {
		return fmt.Errorf("map ring: %w", err)
	}
	if k.self, err = k.whoami(); err != nil {
		return err
	}
	if err := k.makeOverflowWorkload(); err != nil {
		return err
	}
	if err := k.loadFills(); err != nil {
		return err
	}
	if err := k.obj.attach("task_rename"); err != nil {
		return err
	}
	return k.lookAtContext()
}

// lookAtContext causes a tracepoint to find out how this kernel runs them.
func (k *Kernel) lookAtContext() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	self, err := k.whoami()
	if err != nil {
		return err
	}
	if err := k.set(settingCanary, uint64(self.TID)); err != nil {
		return err
	}
	if err := renameThread(filepath.Base(os.Args[0])); err != nil {
		return err
	}
	if err := k.obj.coll.Variables["preemptible"].Get(&k.preemptible); err != nil {
		return fmt.Errorf("read preemptible: %w", err)
	}
	k.preemptible = k.preemptible || k.opts.preemptible
	return k.set(settingCanary, 0)
}

// whoami asks the kernel for the caller's ids in the initial pid namespace. The
// caller must not be a goroutine that may move between threads if it wants its TID.
func (k *Kernel) whoami() (Task, error) {
	if _, err := k.obj.coll.Programs["whoami"].Run(&ebpf.RunOptions{}); err != nil {
		return Task{}, fmt.Errorf("run whoami: %w", err)
	}
	var id uint64
	if err := k.obj.coll.Variables["self_pid_tgid"].Get(&id); err != nil {
		return Task{}, fmt.Errorf("read self_pid_tgid: %w", err)
	}
	return Task{PID: uint32(id >> 32), TID: uint32(id)}, nil
}

// Status tells how the canary is attached.
func (k *Kernel) Status() ProbeStatus { return k.obj.status() }

// Self returns the agent's ids in the initial pid namespace.
func (k *Kernel) Self() Task { return k.self }

// SetPoints switches event points on; all others are off. It takes effect at
// once and costs a point that is off one bit test.
func (k *Kernel) SetPoints(points ...event.Point) error {
	k.choosing.Lock()
	defer k.choosing.Unlock()
	k.points.Store(maskOf(points))
	return k.setPoints()
}

// Allow keeps all points off but those given and the canary, whichever are chosen
// meanwhile. Before its first call all are allowed.
func (k *Kernel) Allow(points ...event.Point) error {
	k.choosing.Lock()
	defer k.choosing.Unlock()
	k.refused = ^maskOf(points)
	return k.setPoints()
}

func maskOf(points []event.Point) (mask uint64) {
	for _, p := range points {
		mask |= 1 << p
	}
	return mask
}

func (k *Kernel) setPoints() error {
	return k.set(settingPoints, k.points.Load()&^(k.refused&^(1<<event.Canary)))
}

// Words of struct settings (headers/event.bpf.h).
const (
	settingPoints = 8 * iota
	settingWakeupBytes
	settingCanary
	settingSilence
	settingDetails
	settingLimited
)

// detailEnvironment has the environment of a new program told (headers/event.bpf.h).
const detailEnvironment = 1

// TellEnvironments says whether events of execs carry the environment of the new program.
func (k *Kernel) TellEnvironments(tell bool) error {
	if tell {
		return k.set(settingDetails, detailEnvironment)
	}
	return k.set(settingDetails, 0)
}

func (k *Kernel) set(word int64, value uint64) error {
	if err := writeUint64(k.settings, word, value); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	return nil
}

// Loaded tells that no probe will be loaded any more: it lets go of the kernel's
// type information, some ten MiB that only loading needs. A probe loaded later
// all the same decodes it again.
func (k *Kernel) Loaded() { k.cache = cmp.Or(k.opts.cache, btf.NewCache()) }

// Detach ends all events and counts: links of every probe are closed, maps stay
// readable.
func (k *Kernel) Detach() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range slices.Backward(k.objects) {
		o.detach()
	}
}

// Close detaches everything and frees programs and maps. No probe created from
// this Kernel may be used afterwards.
func (k *Kernel) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range slices.Backward(k.objects) {
		o.close()
	}
	k.objects = nil
}

// Ledger returns the kernel side of the event ledger, one line per point.
func (k *Kernel) Ledger() ([]LedgerStat, error) {
	stats := make([]LedgerStat, event.Points)
	var perCPU []kernelLedgerRow
	for i := range stats {
		if err := k.shared["ledger"].Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("read ledger: %w", err)
		}
		stats[i].Point = event.Point(i)
		for _, l := range perCPU {
			stats[i].Attempted += l.Attempted
			stats[i].Submitted += l.Submitted
			stats[i].Dropped += l.Dropped
		}
	}
	return stats, nil
}
