package bpf

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
)

//go:generate go tool bpf2go -cc clang-16 -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -Wall -Werror" acts acts.bpf.c -- -Iheaders

// actsOf says by which programs each of the points that Acts serves is told.
var actsOf = map[event.Point]struct {
	tracepoint string // to attach to; "" for none
	calls      []hookedCall
}{
	event.SignalDeliver: {tracepoint: "signal_deliver"},
	event.OOMKill:       {tracepoint: "mark_victim"},
	event.ProcessMmap:   {calls: []hookedCall{{unix.SYS_MMAP, "mmap_exit"}, {unix.SYS_MPROTECT, "mprotect_exit"}, {unix.SYS_PKEY_MPROTECT, "mprotect_exit"}}},
	event.ModuleLoad:    {calls: []hookedCall{{unix.SYS_INIT_MODULE, "init_module_exit"}, {unix.SYS_FINIT_MODULE, "finit_module_exit"}}},
	event.BPFLoad:       {calls: []hookedCall{{unix.SYS_BPF, "bpf_exit"}}},
	event.FileOpen:      {calls: hooksOf("open_exit", "open", "openat", "openat2", "creat", "open_by_handle_at")},
	event.ProcessSetns:  {calls: []hookedCall{{unix.SYS_SETNS, "setns_exit"}}},
}

// hooksOf hooks those of the calls that this architecture has.
func hooksOf(program string, names ...string) (all []hookedCall) {
	for nr, name := range syscallNames {
		if slices.Contains(names, name) {
			all = append(all, hookedCall{uint32(nr), program})
		}
	}
	return all
}

// Acts tells of acts that few programs do: executable mappings, modules and BPF programs
// that are loaded, secrets and settings of the kernel that are opened, namespaces that
// are joined, signals, OOM kills. Its programs are in the kernel while one of them
// is wanted. Its methods may be called concurrently.
type Acts struct {
	kernel *Kernel

	mu      sync.Mutex
	ready   bool
	pending []event.Point // wanted before it was ready
	obj     *object       // nil while nothing is wanted
	on      map[event.Point]*installed
}

// installed is what is in the kernel for one point.
type installed struct {
	link   link.Link // nil for none
	hooked []uint32  // numbers of calls
}

// NewActs returns an Acts that wants nothing yet.
func NewActs(k *Kernel) *Acts { return &Acts{kernel: k, on: map[event.Point]*installed{}} }

// Ready says that the syscalls probe is loaded, if it ever is: from now on Want acts
// at once, and what was wanted before is seen to.
func (a *Acts) Ready() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = true
	return a.want(a.pending)
}

// Want makes the kernel able to send the events of those of the points that Acts
// serves, and of no others that it serves. What is seen at the end of system calls needs
// the syscalls probe, and fails with ErrNoHooks without.
func (a *Acts) Want(points []event.Point) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.ready {
		a.pending = slices.Clone(points)
		return nil
	}
	return a.want(points)
}

// want is Want for who holds mu. Of a point that cannot be wanted nothing stays.
func (a *Acts) want(points []event.Point) error {
	err := a.change(points)
	if len(a.on) == 0 && a.obj != nil {
		a.kernel.unload(a.obj)
		a.obj = nil
	}
	return err
}

func (a *Acts) change(points []event.Point) error {
	for p := range a.on {
		if !slices.Contains(points, p) {
			if err := a.end(p); err != nil {
				return err
			}
		}
	}
	for _, p := range points {
		_, ours := actsOf[p]
		if _, on := a.on[p]; on || !ours {
			continue
		}
		if err := a.begin(p); err != nil {
			return fmt.Errorf("point %v: %w", p, err)
		}
	}
	return nil
}

// begin attaches the programs of a point: all of them or none. The caller holds mu.
func (a *Acts) begin(p event.Point) (err error) {
	if a.obj == nil {
		if a.obj, err = a.load(); err != nil {
			return err
		}
	}
	on := &installed{}
	a.on[p] = on
	if err := a.install(p, on); err != nil {
		return errors.Join(err, a.end(p))
	}
	return nil
}

// install attaches them one after the other, and notes in on how far it has come.
func (a *Acts) install(p event.Point, on *installed) error {
	how := actsOf[p]
	if how.tracepoint != "" {
		l, err := a.obj.attachOne(how.tracepoint)
		if err != nil {
			return fmt.Errorf("attach %s as %s: %w", how.tracepoint, a.obj.kind, plainErrno(err))
		}
		on.link = l
		a.obj.links = append(a.obj.links, l)
	}
	for _, c := range how.calls {
		if err := a.kernel.hooks.set(c.nr, a.obj.coll.Programs[programFor(c.program, a.obj.kind)]); err != nil {
			return err
		}
		on.hooked = append(on.hooked, c.nr)
	}
	return nil
}

// end detaches what is in the kernel for a point. The caller holds mu.
func (a *Acts) end(p event.Point) error {
	on := a.on[p]
	delete(a.on, p)
	if l := on.link; l != nil {
		a.obj.links = slices.DeleteFunc(a.obj.links, func(other link.Link) bool { return other == l })
		l.Close()
	}
	var faults []error
	for _, nr := range on.hooked {
		faults = append(faults, a.kernel.hooks.clear(nr))
	}
	return errors.Join(faults...)
}

// load loads the object, with nothing attached.
func (a *Acts) load() (*object, error) {
	spec, err := loadActs()
	if err != nil {
		return nil, fmt.Errorf("parse acts object: %w", err)
	}
	if err := setVictimIsTask(a.kernel, spec); err != nil {
		return nil, err
	}
	if err := spec.Variables["self"].Set(a.kernel.self.PID); err != nil {
		return nil, fmt.Errorf("set self: %w", err)
	}
	b := blueprint{probe: "acts", spec: spec}
	for p := range actsOf {
		if tp := actsOf[p].tracepoint; tp != "" {
			b.tracepoints = append(b.tracepoints, tp)
		}
		for _, c := range actsOf[p].calls {
			b.tracepoints = append(b.tracepoints, c.program)
		}
	}
	return a.kernel.load(b)
}

// setVictimIsTask tells a program of mark_victim whether it is handed a task or a pid.
func setVictimIsTask(k *Kernel, spec *ebpf.CollectionSpec) error {
	args, err := k.tracepointArgs("mark_victim")
	if err != nil {
		return err
	}
	_, isTask := args[0].Type.(*btf.Pointer)
	if err := spec.Variables["victim_is_task"].Set(isTask); err != nil {
		return fmt.Errorf("set victim_is_task: %w", err)
	}
	return nil
}
