package main

import (
	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/exporter"
	"github.com/sonde-ebpf/sonde/internal/shed"
)

// AddCollectors gives the exporter the collectors that are switched on. A probe
// that is not attached has no collector: its families are absent, not 0.
func (p *probes) AddCollectors(e *exporter.Exporter) error {
	on := p.opts.config.Collectors
	groups := []struct {
		name    string
		members collectors.Group
	}{
		{"syscalls", p.syscallCollectors()},
		{"process", p.processCollectors()},
		{"connections", p.connectionCollectors()},
		{"drops", p.dropCollectors()},
		{"oom", p.oomCollectors()},
		{"workloads", p.workloadCollectors()},
		{"probes", collectors.Group{collectors.NewProbes(p)}},
		{"state", p.stateCollectors()},
		{"profiles", collectors.Group{collectors.NewProfiles(p.profiles, p.attached)}},
	}
	if on["pipeline"] {
		groups = append(groups, struct {
			name    string
			members collectors.Group
		}{"pipeline", p.pipelineCollectors()})
	}
	if on["bpf"] {
		groups = append(groups, struct {
			name    string
			members collectors.Group
		}{"bpf", collectors.Group{collectors.NewBPF(p.kernel, p.kernel, p.stats)}})
	}
	for _, g := range groups {
		if len(g.members) == 0 {
			continue
		}
		if err := e.Add(g.name, g.members); err != nil {
			return err
		}
	}
	return nil
}

func (p *probes) stateCollectors() collectors.Group {
	if p.model.containers == nil {
		return collectors.Group{collectors.NewState(p.model.store, nil, p.model.teller)}
	}
	return collectors.Group{
		collectors.NewState(p.model.store, p.model.containers, p.model.teller),
		collectors.NewContainers(p.model.containers),
	}
}

func (p *probes) seriesLimits() collectors.Limits {
	return collectors.Limits{Series: p.opts.config.Limits.Series, Idle: p.opts.config.Limits.SeriesIdle}
}

func (p *probes) syscallCollectors() collectors.Group {
	if p.syscalls == nil {
		return nil
	}
	source := timed[bpf.SyscallStats]{readSyscalls, p.syscalls.Read, p.timers}
	return collectors.Group{collectors.NewSyscalls(source, p.attached, p.seriesLimits())}
}

func (p *probes) processCollectors() collectors.Group {
	if p.processes == nil {
		return nil
	}
	source := timed[bpf.ProcessStats]{readProcesses, p.processes.Read, p.timers}
	return collectors.Group{collectors.NewProcess(source, p.attached, p.examples)}
}

func (p *probes) connectionCollectors() collectors.Group {
	o := collectors.ConnectionsOptions{TCPCreated: p.attached, UDPCreated: p.attached, Exemplars: p.examples, Limits: p.seriesLimits()}
	if p.tcp != nil {
		o.TCP = timed[bpf.TCPStats]{readTCP, p.tcp.Read, p.timers}
	}
	if p.udp != nil {
		o.UDP = timed[bpf.UDPStats]{readUDP, p.udp.Read, p.timers}
	}
	if o.TCP == nil && o.UDP == nil {
		return nil
	}
	return collectors.Group{collectors.NewConnections(o)}
}

// workloadCollectors are none where workloads are not counted, or nobody knows whose
// a cgroup is.
func (p *probes) workloadCollectors() collectors.Group {
	source := p.kernel.Workloads()
	if source == nil || p.model.containers == nil {
		return nil
	}
	detail := collectors.NewPausable(collectors.NewWorkloads(source, p.model.containers, p.seriesLimits()))
	p.governor.Register(shed.Reduce, "metrics by container", detail.Pause)
	return collectors.Group{detail}
}

func (p *probes) dropCollectors() collectors.Group {
	if p.drops == nil {
		return nil
	}
	return collectors.Group{collectors.NewPacketDrops(p.drops, p.attached, p.seriesLimits())}
}

func (p *probes) oomCollectors() collectors.Group {
	all := collectors.Group{collectors.NewTerminations(p.box)}
	if p.oom != nil {
		all = append(all, collectors.NewOOMKills(p.oom, p.box))
	}
	return all
}

func (p *probes) pipelineCollectors() collectors.Group {
	return collectors.Group{
		collectors.NewEvents(p.kernel, p.events, p.sessions, p.attached),
		collectors.NewRings(p.events, p.pipeline),
		collectors.NewEventTiming(p.pipeline, p.sessions),
		collectors.NewStrings(&p.editor, p.attached),
		collectors.NewSessions(p.sessions),
		collectors.NewRules(p.rules, p.attached),
		collectors.NewDigests(p.digests, p.attached),
		collectors.NewCanary(p.pipeline),
		collectors.NewOperations(p.timers),
	}
}
