package main

import (
	"runtime"

	"github.com/sonde-ebpf/sonde/collectors"
)

// addOwnCollectors gives the exporter the collectors whose subject is the sensor
// itself, and those that need no probe.
func (a *agent) addOwnCollectors(p *probes) error {
	err := a.exporter.Add("build", collectors.Group{
		collectors.BuildInfo{Version: version, Revision: revision, GoVersion: runtime.Version()},
		collectors.NewLogLevel(a.levels),
		collectors.NewStart(a.steps),
		collectors.NewConfig(a.store),
	})
	if err != nil || !a.config.Collectors["sensor"] {
		return err
	}
	status, err := collectors.NewSelfStatus(a.settings.procFS)
	if err != nil {
		return err
	}
	fs, faults := a.machine.fs, collectors.NewProcfsErrors()
	return a.exporter.Add("sensor", collectors.Group{
		collectors.NewSensorMemory(fs, status, p.kernel, faults),
		collectors.NewShed(p.governor),
		collectors.NewSensorCPU(fs, faults),
		collectors.NewSensorPressure(fs, faults),
		faults,
	})
}

// StartSteps implements collectors.StartSource.
func (s *Steps) StartSteps() []collectors.StartStep {
	all := s.All()
	steps := make([]collectors.StartStep, len(all))
	for i, step := range all {
		steps[i] = collectors.StartStep{Step: step.Name, Duration: step.Duration, Success: step.Err == nil}
	}
	return steps
}
