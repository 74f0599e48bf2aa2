package bpf

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Attach kinds in order of preference, as probe_info's label "attach" shows them.
const (
	AttachTpBTF = "tp_btf"
	AttachRawTp = "raw_tp"
)

var attachKinds = []string{AttachTpBTF, AttachRawTp}

// blueprint is what is known of an object before it meets a kernel.
type blueprint struct {
	probe string
	spec  *ebpf.CollectionSpec
	// tracepoints in the order in which they attach. Every one has two
	// programs in the object, <tracepoint>_btf and <tracepoint>_raw.
	tracepoints []string
	// optional are programs that the object is loaded without where this kernel does
	// not accept it with them; without adapts it to that, and may be nil.
	optional []string
	without  func(*ebpf.CollectionSpec) error
	// reuse are maps of an earlier run that take the place of the object's own.
	reuse map[string]*ebpf.Map
	// configure sets sizes and constants that depend on the kind of attachment.
	configure func(spec *ebpf.CollectionSpec, kind string) error
}

// object is a blueprint that the running kernel has accepted.
type object struct {
	probe string
	kind  string
	coll  *ebpf.Collection
	own   []string // names of the maps that are not shared
	// described are the maps that are not shared, by their names.
	described map[string]mapDescription
	// refused says why the optional programs are missing; nil if they are there.
	refused error
	links   []link.Link
	// iterators are read, not attached: they live until the object is closed, so
	// that counts can be read after the end of counting.
	iterators []*link.Iter
	// targets are the kernel's names of the tracepoints, by the names of their programs.
	targets map[string]string
}

// programFor returns the name of the program of a tracepoint for one kind.
func programFor(tracepoint, kind string) string {
	if kind == AttachTpBTF {
		return tracepoint + "_btf"
	}
	return tracepoint + "_raw"
}

// load loads an object, without its optional programs where the kernel refuses it
// with them: the object then says why.
func (k *Kernel) load(b blueprint) (*object, error) {
	o, err := k.loadWhole(b)
	if err == nil || len(b.optional) == 0 {
		return o, err
	}
	b.spec = b.spec.Copy()
	for _, name := range b.optional {
		delete(b.spec.Programs, name)
	}
	if b.without != nil {
		if e := b.without(b.spec); e != nil {
			return nil, e
		}
	}
	less, e := k.loadWhole(b)
	if e != nil {
		return nil, e
	}
	less.refused = err
	return less, nil
}

// loadWhole tries the attach kinds in order until the kernel accepts the object.
func (k *Kernel) loadWhole(b blueprint) (*object, error) {
	var faults []error
	for _, kind := range k.kinds() {
		o, err := k.loadAs(b, kind)
		if err == nil {
			k.mu.Lock()
			k.objects = append(k.objects, o)
			k.mu.Unlock()
			k.changed()
			return o, nil
		}
		faults = append(faults, fmt.Errorf("as %s: %w", kind, err))
	}
	return nil, fmt.Errorf("load %s: %w", b.probe, errors.Join(faults...))
}

func (k *Kernel) kinds() []string {
	if k.opts.Attach != "" {
		return []string{k.opts.Attach}
	}
	return attachKinds
}

func (k *Kernel) loadAs(b blueprint, kind string) (*object, error) {
	spec := b.spec.Copy()
	if err := k.setCgroups(spec); err != nil {
		return nil, err
	}
	for _, tp := range b.tracepoints {
		for _, other := range attachKinds {
			if other != kind {
				delete(spec.Programs, programFor(tp, other))
			}
		}
	}
	if b.configure != nil {
		if err := b.configure(spec, kind); err != nil {
			return nil, err
		}
	}
	o := &object{probe: b.probe, kind: kind, targets: map[string]string{}}
	for name, prog := range spec.Programs {
		if k.opts.refuseIterators && prog.AttachType == ebpf.AttachTraceIter && prog.AttachTo != "bpf_map_elem" {
			prog.AttachTo = "nothing_of_that_name"
		}
		o.targets[name] = prog.AttachTo
	}
	opts := ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{}, Cache: k.cache}
	opts.Programs.KernelTypes = k.types
	for name := range spec.Maps {
		if m, ok := k.shared[name]; ok {
			opts.MapReplacements[name] = m
			spec.Maps[name].MaxEntries = m.MaxEntries()
		} else if !strings.HasPrefix(name, ".") {
			o.own = append(o.own, name)
			if m := b.reuse[name]; m != nil {
				opts.MapReplacements[name] = m
			}
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, opts)
	if err != nil {
		return nil, plainErrno(err)
	}
	o.coll = coll
	slices.Sort(o.own)
	if err := o.describe(); err != nil {
		coll.Close()
		return nil, err
	}
	return o, nil
}

// construct makes a probe. What was loaded for one that failed is closed again, so
// that a refused probe leaves neither programs nor maps, and nil is returned for it.
func construct[P any](k *Kernel, probe func() (*P, error)) (*P, error) {
	mark := len(k.objects)
	p, err := probe()
	if err == nil {
		return p, nil
	}
	for _, o := range k.objects[mark:] {
		o.close()
	}
	k.objects = k.objects[:mark]
	k.changed()
	return nil, err
}

// changed tells whoever wants to know that maps were made or are gone.
func (k *Kernel) changed() {
	if k.opts.Changed != nil {
		k.opts.Changed()
	}
}

// unload frees an object that the Kernel does not need any more. One that the Kernel
// has closed already stays as it is.
func (k *Kernel) unload(o *object) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if i := slices.Index(k.objects, o); i >= 0 {
		k.objects = slices.Delete(k.objects, i, i+1)
		o.close()
		k.changed()
	}
}

// attach attaches the object's tracepoints in order; on an error all are detached again.
func (o *object) attach(tracepoints ...string) error {
	for _, tp := range tracepoints {
		l, err := o.attachOne(tp)
		if err != nil {
			o.detach()
			return fmt.Errorf("attach %s as %s: %w", tp, o.kind, plainErrno(err))
		}
		o.links = append(o.links, l)
	}
	return nil
}

func (o *object) attachOne(tp string) (link.Link, error) {
	name := programFor(tp, o.kind)
	prog := o.coll.Programs[name]
	if o.kind == AttachTpBTF {
		return link.AttachTracing(link.TracingOptions{Program: prog})
	}
	return link.AttachRawTracepoint(link.RawTracepointOptions{Name: o.targets[name], Program: prog})
}

// status tells how the object is attached; reasons say what it cannot see.
func (o *object) status(reasons ...string) ProbeStatus {
	return ProbeStatus{Probe: o.probe, Attached: len(o.links) > 0, Attach: o.kind, Reason: strings.Join(reasons, "; ")}
}

func (o *object) detach() {
	for _, l := range o.links {
		l.Close()
	}
	o.links = nil
}

func (o *object) close() {
	o.detach()
	for _, it := range o.iterators {
		it.Close()
	}
	o.iterators = nil
	o.coll.Close()
}

// plainErrno drops the advice that the library adds to EPERM (raise the
// memlock limit): BPF memory is accounted to the cgroup since kernel 5.11 and
// the cause is another one. The verifier's log stays.
func plainErrno(err error) error {
	if _, ok := errors.AsType[*ebpf.VerifierError](err); ok {
		return err
	}
	if errors.Is(err, unix.EPERM) {
		return unix.EPERM
	}
	return err
}

// loadTypes reads an external BTF file; an empty path means the kernel's own.
func loadTypes(path string) (*btf.Spec, error) {
	if path == "" {
		return nil, nil
	}
	spec, err := btf.LoadSpec(path)
	if err != nil {
		return nil, fmt.Errorf("read BTF %s: %w", path, err)
	}
	return spec, nil
}
