package main

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/exporter"
)

// FillStatus adds what the landing page tells of probes, losses, rings and cost.
// What cannot be read is left out.
func (p *probes) FillStatus(s *exporter.Status) {
	for _, probe := range p.Probes() {
		s.Probes = append(s.Probes, exporter.ProbeStatus{
			Name: probe.Probe, Attached: probe.Attached, How: probe.Attach, Reason: probe.Reason,
		})
	}
	if ledger, err := p.kernel.Ledger(); err == nil {
		var dropped uint64
		for _, l := range ledger {
			dropped += l.Dropped
		}
		s.Losses = append(s.Losses, exporter.LossStatus{Stage: "ring", Reason: "ring_full", Count: dropped})
	}
	s.Losses = append(s.Losses,
		exporter.LossStatus{Stage: "decode", Reason: "malformed", Count: p.events.Stats().Undecodable})
	r := p.events.Fill()
	s.Rings = append(s.Rings, exporter.RingStatus{Name: r.Ring, Size: r.SizeBytes, Used: r.UsedBytes, Peak: r.PeakBytes})
	p.fillCost(&s.Cost)
}

// fillCost adds what the sensor has cost since its start.
func (p *probes) fillCost(c *exporter.CostStatus) {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err == nil {
		cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		c.CPURatio = new(cpu.Seconds() / time.Since(p.attached).Seconds())
	}
	if programs, err := p.kernel.Programs(); err == nil && p.stats.Enabled() > 0 {
		var run float64
		for _, program := range programs {
			run += program.Run
		}
		c.BPFRatio = new(run / p.stats.Enabled().Seconds())
	}
	maps, err := p.kernel.Maps()
	if err != nil {
		return
	}
	kernel := bpfMemory(maps)
	c.BPFMemoryBytes = new(kernel)
	if anon, err := p.opts.machine.anonymousMemory(); err == nil {
		c.MemoryBytes = new(kernel + anon)
	}
}

// bpfMemory adds up what the kernel charges for maps.
func bpfMemory(maps []bpf.MapStat) (bytes uint64) {
	for _, m := range maps {
		bytes += m.MemoryBytes
	}
	return bytes
}
