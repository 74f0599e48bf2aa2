package main

import (
	"errors"
	"path/filepath"
	"time"

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
	receiver := gvisor.New(gvisor.Options{Endpoint: endpoint, Logger: log, Roster: roster, Proc: a.settings.procFS})
	if err := receiver.Listen(); err != nil {
		hint := ""
		if errors.Is(err, gvisor.ErrTaken) {
			hint = "stop what listens there or choose another --gvisor.endpoint"
		}
		return "", &exitError{code: exitListen, err: err, hint: hint}
	}
	a.gvisor = receiver
	return endpoint, a.exporter.Add("gvisor", collectors.NewGVisor(receiver, time.Now()))
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
