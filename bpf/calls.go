package bpf

import (
	"fmt"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/sonde-ebpf/sonde/internal/event"
)

//go:generate go tool bpf2go -cc clang-16 -target amd64,arm64 -cflags "-O2 -g -mcpu=v3 -Wall -Werror" -type plan calls calls.bpf.c -- -Iheaders

// Calls tells of single system calls. Its programs are in the kernel only while some
// are wanted; all others cost nothing then, and one bit test while they are. Its
// methods may be called concurrently.
type Calls struct {
	kernel *Kernel

	mu  sync.Mutex
	obj *object // nil while nothing is wanted
}

// NewCalls returns a Calls that wants nothing yet.
func NewCalls(k *Kernel) *Calls { return &Calls{kernel: k} }

// Want sets which ends of which calls send events, from now on. The sensor's own
// calls and those of 32-bit programs never do.
func (c *Calls) Want(w event.WantedCalls) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.All == (event.CallSet{}) {
		if c.obj != nil {
			c.kernel.unload(c.obj)
			c.obj = nil
		}
		return nil
	}
	if c.obj != nil {
		return c.choose(w)
	}
	spec, err := callsSpec(c.kernel)
	if err != nil {
		return err
	}
	order := []string{"sys_exit", "sys_enter"}
	if c.obj, err = c.kernel.load(blueprint{probe: "calls", spec: spec, tracepoints: order}); err != nil {
		return err
	}
	if err = c.choose(w); err == nil {
		err = c.obj.attach(order...)
	}
	if err != nil {
		c.kernel.unload(c.obj)
		c.obj = nil
	}
	return err
}

// choose writes the sets that the programs look at. The caller holds mu.
func (c *Calls) choose(w event.WantedCalls) error {
	for _, v := range []struct {
		name string
		set  event.CallSet
	}{
		{"with_texts", w.Texts}, {"with_environment", w.Environment}, {"with_fd_path", w.FDPaths}, {"wanted", w.All},
	} {
		if err := c.obj.coll.Variables[v.name].Set(v.set); err != nil {
			return fmt.Errorf("set %s: %w", v.name, err)
		}
	}
	return nil
}

func callsSpec(k *Kernel) (*ebpf.CollectionSpec, error) {
	spec, err := loadCalls()
	if err != nil {
		return nil, fmt.Errorf("parse calls object: %w", err)
	}
	if err := spec.Variables["self"].Set(k.self.PID); err != nil {
		return nil, fmt.Errorf("set self: %w", err)
	}
	for _, s := range event.CallSchemas() {
		spec.Maps["plans"].Contents = append(spec.Maps["plans"].Contents, ebpf.MapKV{Key: uint32(s.Number), Value: planOf(&s)})
	}
	return spec, nil
}

// planOf says what of a call's memory the kernel side has to read.
func planOf(s *event.CallSchema) (p callsPlan) {
	p.Path, p.Args, p.Env, p.Fd = s.Path, s.Strings, s.Environment, s.Descriptor()
	p.In.Arg, p.In.Size = s.In.Arg, s.In.Size
	p.Out.Arg, p.Out.Size = s.Out.Arg, s.Out.Size
	return p
}
