package container

import "github.com/sonde-ebpf/sonde/internal/metric"

// Stats is what Containers have counted. Everything but Containers and the tables
// only grows.
type Stats struct {
	Containers [Runtimes]int // that live
	Table      CacheStats    // containers, ended ones and guesses included
	Cgroups    CacheStats
	Processes  CacheStats // of machines with v1
	Lookups    [Runtimes][Results]uint64
	Durations  [Runtimes]metric.Buckets // of calls, in seconds; none for Unknown
	Runtimes   []RuntimeStatus
	Visible    bool
	Reason     Blind
	Missed     uint64 // cgroups not looked for, for want of room
	Lost       uint64 // cgroups that were gone before they were found
}

// Stats returns the counts.
func (c *Containers) Stats() Stats {
	v := c.View()
	s := Stats{
		Cgroups: c.resolver.groups.stats(), Processes: c.resolver.processes.stats(),
		Visible: v.Visible(), Reason: v.Reason,
		Missed: c.resolver.dropped.Load(), Lost: c.resolver.lost.Load(),
	}
	s.Containers, s.Table = c.directory.count()
	for r := range Runtimes {
		for _, result := range []Result{Hit, Miss, Late} {
			s.Lookups[r][result] = c.directory.results[r][result].Load()
		}
	}
	for _, service := range c.services {
		for result := Found; int(result) < Results; result++ {
			s.Lookups[service.runtime][result] = service.results[result].Load()
		}
		s.Durations[service.runtime] = service.duration.Buckets()
		s.Runtimes = append(s.Runtimes, *service.status.Load())
	}
	return s
}
