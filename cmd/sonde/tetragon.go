package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/logging"
	"github.com/sonde-ebpf/sonde/internal/tetragon"
)

// tetragonSocket is where Tetragon's API listens if nobody says otherwise, in the run
// directory.
const tetragonSocket = "tetragon.sock"

// listenTetragon opens the address of Tetragon's API; nothing is served yet.
func (a *agent) listenTetragon() (string, error) {
	s := a.settings
	address := s.grpcListen
	if address == "" {
		return "off", nil
	}
	if origin, _ := s.setting("grpc.listen-address").origin(); origin == config.OriginDefault {
		address = "unix://" + filepath.Join(s.runDir, tetragonSocket)
	}
	server := tetragon.New(tetragon.Options{
		Logger: a.log.With(logging.TargetKey, "grpc"), Address: address, InfoFile: s.grpcInfoFile, Version: version, Revision: revision,
	})
	err := server.Listen()
	switch {
	case errors.Is(err, tetragon.ErrOpenToAll):
		return "", &exitError{code: exitConfig, err: err}
	case errors.Is(err, syscall.EADDRINUSE):
		return "", &exitError{code: exitListen, err: err, hint: "another process listens there: stop it or choose another --grpc.listen-address"}
	case err != nil:
		return "", &exitError{code: exitListen, err: err}
	}
	a.tetragon = server
	return server.Address(), nil
}

// tetragonSources is where the API's answers come from.
func (a *agent) tetragonSources(p *probes) tetragon.Sources {
	return tetragon.Sources{
		Sessions: p.sessions.Manager, Machine: p.sessions.machine, Levels: a.levels, Unwell: a.unwell,
		Probes: func() (all []tetragon.Probe) {
			for _, s := range p.Probes() {
				all = append(all, tetragon.Probe{Name: s.Probe, Attached: s.Attached})
			}
			return all
		},
		Settings: func() (all []tetragon.Setting) {
			for _, v := range a.settings.values(a.store.Current().Config) {
				all = append(all, tetragon.Setting{Name: v.Key, Value: fmt.Sprint(v.Value)})
			}
			return all
		},
	}
}

// unwell is why the sensor is not ready, and every probe that is not attached.
func (a *agent) unwell() []string {
	p := a.probes.Load()
	why := p.NotReady()
	for _, s := range p.Probes() {
		if !s.Attached {
			why = append(why, "probe "+s.Probe+" is not attached: "+s.Reason)
		}
	}
	return why
}
