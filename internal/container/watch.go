package container

import (
	"context"
	"fmt"
	"time"
)

// watchCgroups finds the cgroups of events, and sweeps.
func (c *Containers) watchCgroups(ctx context.Context) {
	tick := time.NewTicker(c.opts.SweepEvery)
	defer tick.Stop()
	c.sweep(ctx)
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.sweep(ctx)
		case m := <-c.resolver.misses:
			err = c.resolver.find(ctx, m)
		}
		if err != nil && ctx.Err() == nil {
			c.opts.Log.Warn("cgroup not found", "err", err)
		}
	}
}

// sweep compares what is known with what is there.
func (c *Containers) sweep(ctx context.Context) {
	alive, err := c.resolver.sweep(ctx)
	if err != nil {
		if ctx.Err() == nil {
			c.opts.Log.Warn("cgroup tree not read", "err", err)
		}
		return
	}
	now := time.Now()
	if alive != nil {
		c.directory.sweep(alive, now, now.Add(-c.opts.Keep))
	}
	c.directory.begun.Store(true)
	c.push(c.directory.due(now, false))
}

func (c *Containers) push(ids []ID) {
	for _, id := range ids {
		c.lookups.push(id)
	}
}

// checkPause is the time between two looks at the sockets that failures ask for.
const checkPause = time.Second

// watchSockets checks the runtimes.
func (c *Containers) watchSockets(ctx context.Context) {
	tick := time.NewTicker(c.opts.CheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.kick:
		}
		c.check(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(min(checkPause, c.opts.CheckEvery)):
		}
	}
}

// check looks at every socket, says what has changed, and has the containers
// without a name looked up again if somebody new can be asked.
func (c *Containers) check(ctx context.Context) {
	up := false
	for _, s := range checkAll(ctx, c.services) {
		if ctx.Err() != nil {
			return
		}
		now := s.status.Load()
		up = up || now.Up
		switch log := c.opts.Log.With("runtime", s.runtime.String()); {
		case now.Up:
			log.Info("container runtime answers", "sockets", now.Sockets, "version", now.Version)
		case now.Reason == Unused:
			log.Debug("container runtime is not used here")
		default:
			log.Warn("container runtime does not answer", "reason", now.Reason.String(), "err", now.Fault, "hint", now.Hint)
		}
	}
	if up {
		c.push(c.directory.due(time.Now(), true))
	}
}

// hint says what to do about a runtime that does not answer.
func (r Reason) hint(s *service) string {
	switch r {
	case Missing:
		return fmt.Sprintf("mount its socket (below /host, or at its own place), or say where it is with containers.runtimes.%s in the configuration file", s.runtime)
	case NotASocket:
		return "a bind mount has made a directory where the socket was missing: mount the socket of the host, with hostPath type Socket in Kubernetes"
	case Refused:
		return "start the runtime, or mount the directory of the socket instead of the socket: a runtime that restarts makes a new one"
	case Denied:
		return "run the sensor as root, and allow it the socket where SELinux or AppArmor confines it"
	case Timeout, Broken:
		return "look into the runtime's own log"
	}
	return ""
}
