package main

import (
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/profile"
)

// newNodeProfiles makes what takes profiles of the node.
func (p *probes) newNodeProfiles() *profile.Node {
	o := profile.NodeOptions{
		Recorder: p.kernel, Proc: p.opts.settings.procFS, Sys: p.opts.settings.sysFS,
		Container: func(*event.Process, bool) string { return "" },
		Cgroup:    func(string) (uint64, int, bool) { return 0, 0, false },
	}
	if c := p.model.containers; c != nil {
		o.Container, o.Cgroup = c.ContainerOf, c.CgroupV2
	}
	return profile.NewNode(o)
}
