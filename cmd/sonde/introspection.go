package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/profile"
	"github.com/sonde-ebpf/sonde/introspect"
)

// defaultIntrospection is where introspection listens if nobody says otherwise,
// beside its socket in the run directory.
const defaultIntrospection = "127.0.0.1:8080"

// listenIntrospection opens the introspection listeners; nothing is served yet.
func (a *agent) listenIntrospection() (string, error) {
	s := a.settings
	if !s.introspect {
		return "off", nil
	}
	o := introspect.Options{
		Logger: a.log.With(logging.TargetKey, "introspect"), WebConfigFile: s.introspectWebConfigFile, Version: version,
	}
	if origin, _ := s.setting("introspect.listen-address").origin(); origin == config.OriginDefault {
		o.ListenAddresses = []string{"unix://" + filepath.Join(s.runDir, "introspect.sock")}
		o.DefaultAddress = defaultIntrospection
	} else {
		o.ListenAddresses = s.introspectListen
	}
	if origin, _ := s.setting("introspect.enable-write").origin(); origin != config.OriginDefault {
		o.EnableWrite = &s.introspectWrite
	}
	// The pages that show profiles look for settings of their user and offer to save
	// some. The sensor has no such user: below a file nothing can be read or written.
	if err := os.Setenv("XDG_CONFIG_HOME", os.DevNull); err != nil {
		return "", err
	}
	a.introspect = introspect.New(o)
	err := a.introspect.Listen()
	switch {
	case errors.Is(err, introspect.ErrOpenToAll):
		return "", &exitError{code: exitConfig, err: err}
	case errors.Is(err, syscall.EADDRINUSE):
		return "", &exitError{code: exitListen, err: err, hint: "another process listens there: stop it or choose another --introspect.listen-address"}
	case err != nil:
		return "", &exitError{code: exitListen, err: err}
	}
	return fmt.Sprint(a.introspect.Addresses()), nil
}

// sources is where introspection's answers come from.
func (a *agent) sources() introspect.Sources {
	p := a.probes.Load()
	return introspect.Sources{
		Ready:       a.readiness,
		Connections: p.model.store, Endpoints: p.model.store, Processes: p.model.store,
		Containers: containerList{p.model.containers},
		Runtime:    runtimeConfig{a},
		Pipeline:   func() introspect.Pipeline { return a.pipelineState(p) },
		Trace:      p.sessions,
		Machine:    p.sessions.machine,
		Stopping:   p.work.Done(),
		Sensor:     a.sensor,
		Levels:     a.levels,
		Wall:       p.model.wall,
		Self:       profile.NewSelf(),
		Node:       p.profiles,
		Pages:      profile.NewPages(),
	}
}

func (a *agent) readiness() introspect.Readiness {
	p := a.probes.Load()
	r := introspect.Readiness{Node: a.settings.node, Reasons: p.NotReady()}
	stats := p.events.Stats()
	r.Events, r.Drops.Decode = stats.Read, stats.Undecodable
	if ledger, err := p.kernel.Ledger(); err == nil {
		for _, l := range ledger {
			r.Drops.RingBuffer += l.Dropped
		}
	}
	r.Drops.Session, r.Drops.Sink = p.sessions.lost()
	r.Drops.Total = r.Drops.RingBuffer + r.Drops.Decode + r.Drops.Session + r.Drops.Sink
	return r
}

// pipelineState is the way of the events, in the metrics' own numbers.
func (a *agent) pipelineState(p *probes) introspect.Pipeline {
	out := p.pipelineState()
	out.GVisor = a.gvisorState()
	return out
}

// pipelineState is the part of it that begins in the kernel.
func (p *probes) pipelineState() introspect.Pipeline {
	var out introspect.Pipeline
	for _, s := range p.Probes() {
		out.Probes = append(out.Probes, introspect.PipelineProbe{Probe: s.Probe, Attached: s.Attached, Attach: s.Attach, Reason: s.Reason})
	}
	ring := p.events.Fill()
	out.Rings = []introspect.PipelineRing{{Ring: ring.Ring, Size: ring.SizeBytes, Used: ring.UsedBytes}}
	decoded := p.pipeline.Events()
	if ledger, err := p.kernel.Ledger(); err == nil {
		for _, l := range ledger {
			out.Points = append(out.Points, introspect.PipelinePoint{
				Point: l.Point.String(), Attempted: l.Attempted, Submitted: l.Submitted, Dropped: l.Dropped, Decoded: decoded[l.Point],
			})
		}
	}
	reader, canary := p.events.Stats(), p.canary.Stats()
	out.Reader = introspect.PipelineReader{Read: reader.Read, Undecodable: reader.Undecodable}
	out.Canary = introspect.PipelineCanary{Arrived: canary.Arrived, Lost: canary.Lost}
	out.Sessions = p.sessions.pipeline()
	for _, t := range p.model.store.Tables() {
		out.State = append(out.State, introspect.PipelineTable{
			Table: t.Table, Entries: t.Entries, Max: t.Max, Evictions: t.Evictions, Drift: t.Drift,
		})
	}
	r := p.model.teller.Stats()
	out.Reports = introspect.PipelineReports{Active: r.Active, Ended: r.Ended, Deferred: r.Deferred, Missed: r.Missed}
	out.BlackBox, out.Memory = p.blackBoxState(), p.memoryState()
	return out
}

// containerList presents containers to introspection; nil shows none.
type containerList struct{ containers *container.Containers }

func (l containerList) Containers() []introspect.Container {
	if l.containers == nil {
		return nil
	}
	var all []introspect.Container
	for _, r := range l.containers.All() {
		all = append(all, shown(r))
	}
	return all
}

func (l containerList) Container(id string) (introspect.Container, bool) {
	if l.containers == nil {
		return introspect.Container{}, false
	}
	found := l.containers.Find(id)
	if len(found) != 1 {
		return introspect.Container{}, false
	}
	return shown(found[0]), true
}

func shown(r container.Record) introspect.Container {
	return introspect.Container{
		ID: r.Meta.ID.String(), Namespace: r.Meta.Namespace, Pod: r.Meta.Pod, Name: r.Meta.Name, Image: r.Meta.Image,
		Runtime: r.Meta.Runtime.String(), Cgroup: r.Meta.Cgroup, Enrichment: r.State.String(),
	}
}

// runtimeConfig presents the configuration to introspection.
type runtimeConfig struct{ agent *agent }

func (r runtimeConfig) RuntimeConfig() introspect.RuntimeConfig {
	snapshot := r.agent.store.Current()
	at, why := r.agent.store.Refused()
	return introspect.RuntimeConfig{
		Values:     r.agent.settings.values(snapshot.Config),
		Generation: snapshot.Generation, Source: snapshot.Source, Time: snapshot.Time,
		LastError: why, LastErrorTime: at,
	}
}

func (r runtimeConfig) PutRuntimeConfig(text []byte, source string) error {
	return r.agent.store.Put(text, source)
}
