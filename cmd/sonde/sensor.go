package main

import (
	"os"
	"runtime"

	"github.com/sonde-ebpf/sonde/introspect"
)

// sensor is what introspection tells about the sensor itself. What cannot be read
// is left out.
func (a *agent) sensor() introspect.Sensor {
	s := a.status()
	out := introspect.Sensor{
		Version: s.Version, Revision: s.Revision, GoVersion: runtime.Version(),
		Node: s.Node, Kernel: s.Kernel, PID: os.Getpid(), Started: s.Started, Addresses: a.addresses(),
		CPURatio: s.Cost.CPURatio, Memory: introspect.SensorMemory{Sensor: s.Cost.MemoryBytes, BPF: s.Cost.BPFMemoryBytes},
	}
	if m, err := a.machine.fs.SelfMemory(); err == nil {
		out.Memory.Usage, out.Memory.Limit = m.Usage, m.Limit
	}
	set := a.probes.Load().rules.Set()
	out.Rules = introspect.SensorRules{Rules: set.Len(), Version: set.Version, Hash: set.ShortHash()}
	kernel := a.probes.Load().kernel
	if programs, err := kernel.Programs(); err == nil {
		for _, p := range programs {
			out.Programs = append(out.Programs, introspect.SensorProgram{Program: p.Program, Runs: p.Runs, Seconds: p.Run, Missed: p.Missed})
		}
	}
	if maps, err := kernel.Maps(); err == nil {
		for _, m := range maps {
			out.Maps = append(out.Maps, introspect.SensorMap{
				Map: m.Map, Entries: m.Entries, MaxEntries: m.MaxEntries, Memory: m.MemoryBytes, Failures: m.UpdateFailures,
			})
		}
	}
	return out
}
