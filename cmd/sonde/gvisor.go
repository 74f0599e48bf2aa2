package main

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/internal/gvisor"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/introspect"
)

// rosterFile remembers in the state directory which sandboxes were connected.
const rosterFile = "gvisor-sandboxes.json"

// listenGVisor opens the endpoint for gVisor's sandboxes; nothing is received yet.
func (a *agent) listenGVisor() (string, error) {
	endpoint := a.settings.gvisorEndpoint
	if endpoint == "" {
		return "off", nil
	}
	log := a.log.With(logging.TargetKey, "gvisor")
	roster, err := gvisor.OpenRoster(log, filepath.Join(a.settings.stateDir, rosterFile), a.settings.procFS)
	if err != nil { // sandboxes are worth more than the names of those lost
		log.Warn("sandboxes of the run before are not known", "err", err)
	}
	p := a.probes.Load()
	receiver := gvisor.New(gvisor.Options{
		Endpoint: endpoint, Logger: log, Roster: roster, Proc: a.settings.procFS,
		Publish: p.sessions.Publish, Editor: &p.editor, Boot: p.model.clock.Now,
	})
	if err := receiver.Listen(); err != nil {
		hint := ""
		if errors.Is(err, syscall.EADDRINUSE) {
			hint = "stop what listens there or choose another --gvisor.endpoint"
		}
		return "", &exitError{code: exitListen, err: err, hint: hint}
	}
	a.gvisor = receiver
	return endpoint, a.exporter.Add("gvisor", collectors.NewGVisor(receiver, time.Now()))
}

// receiveSandboxes begins to receive, if it is wanted, and goes on until ctx ends.
// The channel is closed when what sandboxes had sent by then has been published.
func (a *agent) receiveSandboxes(ctx context.Context, g *errgroup.Group) <-chan struct{} {
	received := make(chan struct{})
	if a.gvisor == nil {
		close(received)
		return received
	}
	g.Go(func() error {
		defer close(received)
		return a.gvisor.Run(ctx)
	})
	return received
}

// gvisorState is the receiver as introspection shows it, nil where it is off.
func (a *agent) gvisorState() *introspect.PipelineGVisor {
	if a.gvisor == nil {
		return nil
	}
	stats := a.gvisor.Stats()
	out := &introspect.PipelineGVisor{Endpoint: a.gvisor.Endpoint(), Dropped: stats.Dropped, Malformed: stats.Malformed, Rejected: stats.Rejected}
	for _, c := range a.gvisor.Connections() {
		out.Connections = append(out.Connections, introspect.PipelineSandbox{
			Sandbox: c.Sandbox, Peer: c.Peer, Since: c.Since, LastMessage: c.Last,
			Messages: c.Messages, Malformed: c.Malformed, Dropped: c.Dropped, Silent: c.Silent,
		})
	}
	for _, s := range a.gvisor.Orphans() {
		out.Orphans = append(out.Orphans, introspect.PipelineOrphan{Sandbox: s.ID, Since: s.Since})
	}
	return out
}
