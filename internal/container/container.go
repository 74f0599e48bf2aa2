package container

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sonde-ebpf/sonde/internal/event"
)

// Containers knows the containers of this machine. Everything but Run may be
// called from any goroutine and returns at once.
type Containers struct {
	opts      Options
	resolver  *resolver
	directory *directory
	lookups   *lookups
	services  []*service
	kick      chan struct{} // have the sockets checked soon
}

// Per container there may be this many cgroups (init systems make some of their
// own) and, on v1, processes. What does not fit is found again when it is needed.
const (
	groupsPerContainer    = 4
	processesPerContainer = 16
)

// New returns Containers that know nothing yet. It looks for the cgroup trees and
// starts nothing.
func New(o Options) (*Containers, error) {
	o.setDefaults()
	view, err := Discover(o.Proc, o.CgroupRoot, HostCgroups(o.Rootfs)...)
	if err != nil {
		return nil, err
	}
	c := &Containers{opts: o, kick: make(chan struct{}, 1), services: newServices(o)}
	c.lookups = &lookups{
		services: c.services, believed: o.Believe, failed: c.checkSoon,
		queue: make(chan ID, o.Max), observers: map[int]func(Meta, State){},
	}
	c.directory = newDirectory(o.Max, c.lookups.push, o.Changed)
	c.lookups.directory = c.directory
	c.resolver = newResolver(o.Proc, view, o.Max*groupsPerContainer, o.Max*processesPerContainer,
		int(o.Keep/o.SweepEvery), c.found)
	return c, nil
}

// found notes a container.
func (c *Containers) found(ref Ref, cgroup string) {
	for _, s := range c.services {
		if s.runtime == ref.Runtime && !ref.Guess && !s.seen.Swap(true) {
			c.checkSoon() // it may be missing, which until now was not worth a word
		}
	}
	c.directory.see(ref, cgroup, time.Now())
}

func (c *Containers) checkSoon() {
	select {
	case c.kick <- struct{}{}:
	default: // somebody has said so already
	}
}

// Resolve tells in which container a process is. moved says that the process may
// have gone to another one since it was last asked about: at an exec, which is how
// every container begins. With Searching the answer will be there soon; ask again.
//
// It makes a system call for a cgroup that it has not seen before only. Where it may
// not (CAP_DAC_READ_SEARCH) the cgroup is looked for in the background, and on machines
// with v1 two files of /proc are read (some 50 µs), as for a process whose cgroups are
// not known, when it is first asked about and at an exec.
func (c *Containers) Resolve(p *event.Process, moved bool) (ID, Place) {
	g := c.resolver.resolve(p, moved)
	place := c.placeOf(&g)
	if place != Inside {
		return ID{}, place
	}
	return g.ref.ID, Inside
}

// placeOf says where a group is: what may be a container is one if its runtime says so.
func (c *Containers) placeOf(g *group) Place {
	if !g.ref.Guess {
		return g.place
	}
	switch c.directory.state(g.ref.ID) {
	case Named:
		return Inside
	case Pending:
		return Searching
	}
	return Host
}

// ContainerOf is Resolve for whoever wants no more than a text: the whole id, empty
// for the host and while it is being searched.
func (c *Containers) ContainerOf(p *event.Process, moved bool) string {
	g := c.resolver.resolve(p, moved)
	if c.placeOf(&g) != Inside {
		return ""
	}
	return g.text
}

// Fork says that a process has made another. It saves reading /proc for the child
// on machines with v1.
func (c *Containers) Fork(parent, child *event.Process) { c.resolver.fork(parent, child) }

// Lookup returns what is known of a container now, and counts a hit or a miss.
// What is not known yet is being asked for.
func (c *Containers) Lookup(id ID) (Meta, State) { return c.directory.lookup(id) }

// Wait returns how long an event of a container may still wait for the container's name,
// 0 where that would be in vain. Nobody waits longer than Options.Hold after the
// container was first seen, or Run began; a container whose name comes later counts as
// Late, once.
func (c *Containers) Wait(id ID) time.Duration {
	if c.opts.Hold == 0 {
		return 0
	}
	return c.directory.wait(id, c.opts.Hold, time.Now())
}

// Subscribe has fn called whenever a container gets its name or is found to have
// none for now (Nameless, Failed), which may happen several times. fn is called
// from several goroutines and must not wait.
func (c *Containers) Subscribe(fn func(Meta, State)) (cancel func()) { return c.lookups.subscribe(fn) }

// Record is one container as a list shows it.
type Record struct {
	Meta  Meta
	State State
}

// All returns every container that is known, those that have ended a while ago
// included, the oldest first.
func (c *Containers) All() []Record {
	all := c.directory.all()
	slices.SortFunc(all, func(a, b Record) int {
		if order := a.Meta.Seen.Compare(b.Meta.Seen); order != 0 {
			return order
		}
		return strings.Compare(a.Meta.ID.String(), b.Meta.ID.String())
	})
	return all
}

// Find returns the containers whose id begins with text, or is text.
func (c *Containers) Find(text string) (found []Record) {
	for _, r := range c.All() {
		if id := r.Meta.ID; id.String() == text || id.Namespace == "" && len(text) >= shortLen && strings.HasPrefix(id.Name, text) {
			found = append(found, r)
		}
	}
	return found
}

// View returns what can be seen of the machine's cgroups.
func (c *Containers) View() View { return c.resolver.view }

// CgroupV2 returns the cgroup of v2 that holds a container, and its distance from the
// root. There is none where containers are in v1 trees.
func (c *Containers) CgroupV2(id string) (cgroup uint64, level int, ok bool) {
	found := c.Find(id)
	if view := c.View(); len(found) == 1 && view.V2 != "" {
		path := filepath.Clean("/" + found[0].Meta.Cgroup)
		info, err := os.Stat(filepath.Join(view.V2, path))
		if err == nil && path != "/" {
			return info.Sys().(*syscall.Stat_t).Ino, strings.Count(path, "/"), true
		}
	}
	return 0, 0, false
}

// Run does all that takes time, until ctx ends. It is called once.
func (c *Containers) Run(ctx context.Context) error {
	defer func() {
		for _, s := range c.services {
			s.close()
		}
	}()
	if v := c.View(); !v.Visible() {
		c.opts.Log.Warn("containers of this machine cannot all be seen", "reason", v.Reason.String(), "hint", v.Hint)
	}
	c.check(ctx) // before the first lookup, or all of them would fail
	c.directory.serve(time.Now())
	var wait sync.WaitGroup
	wait.Go(func() { c.lookups.run(ctx) })
	wait.Go(func() { c.watchSockets(ctx) })
	c.watchCgroups(ctx)
	wait.Wait()
	return nil
}
