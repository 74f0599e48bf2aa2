package collectors

import (
	"context"
	"errors"
	"math"
	"runtime/metrics"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

var (
	memoryEventLabel = metric.Enum("event", "low", "high", "max", "oom", "oom_kill", "failcnt")

	sensorMemoryLimit = declared.Gauge("sensor_memory_limit_bytes",
		"Smallest hard memory limit of the sensor's cgroup and those above it; +Inf if there is none.")
	sensorMemoryUsage = declared.Gauge("sensor_memory_usage_bytes",
		"Memory charged to the sensor's cgroup now, page cache included.")
	sensorMemoryPeak = declared.Gauge("sensor_memory_peak_bytes",
		"Highest memory use of the sensor's cgroup since it was made.")
	sensorMemoryEvents = declared.Counter("sensor_memory_events_total",
		"Memory events of the sensor's cgroup since it was made; failcnt is kept by cgroup v1 only, others by v2.",
		memoryEventLabel)
	sensorMemory = declared.Gauge("sensor_memory_bytes",
		"What the sensor's memory is: the Go heap, the rest of the Go runtime, BPF maps, "+
			"and mapped files (its own binary; pages of maps that it reads in place are here and in bpf).",
		metric.Enum("kind", "go_heap", "go_other", "bpf", "mmap"))
)

// CgroupMemorySource reads the memory controller of the sensor's own cgroup.
type CgroupMemorySource interface {
	SelfMemory() (procfs.Memory, error)
}

// MappedSource tells how much file-backed memory the sensor has mapped.
type MappedSource interface {
	Mapped() (bytes uint64, err error)
}

// SensorMemory shows the memory of the sensor as its cgroup is charged for it.
type SensorMemory struct {
	cgroup CgroupMemorySource
	maps   MapSource
	mapped MappedSource
	faults *ProcfsErrors
	goMem  []metrics.Sample
}

// NewSensorMemory returns the collector. maps may be nil: then the share of BPF is
// unknown and left out.
func NewSensorMemory(cgroup CgroupMemorySource, mapped MappedSource, maps MapSource, faults *ProcfsErrors) *SensorMemory {
	c := &SensorMemory{cgroup: cgroup, maps: maps, mapped: mapped, faults: faults}
	for _, name := range goMemoryClasses {
		c.goMem = append(c.goMem, metrics.Sample{Name: name})
	}
	return c
}

// Collect implements Collector.
func (c *SensorMemory) Collect(context.Context) ([]prometheus.Metric, error) {
	all, cgroupErr := c.appendCgroup(nil)
	all = c.appendGo(all)
	all, otherErr := c.appendOther(all)
	return all, errors.Join(cgroupErr, otherErr)
}

func (c *SensorMemory) appendCgroup(all []prometheus.Metric) ([]prometheus.Metric, error) {
	m, err := c.cgroup.SelfMemory()
	switch {
	case errors.Is(err, procfs.ErrNoData):
		return all, nil // no memory controller: nothing is known, not even that nothing limits
	case err != nil:
		return all, c.faults.note(opMemory, err)
	}
	limit := math.Inf(1)
	if m.Limit != nil {
		limit = float64(*m.Limit)
	}
	all = append(all, sensorMemoryLimit.With(limit))
	if m.Usage != nil {
		all = append(all, sensorMemoryUsage.With(float64(*m.Usage)))
	}
	if m.Peak != nil {
		all = append(all, sensorMemoryPeak.With(float64(*m.Peak)))
	}
	for _, e := range m.Events {
		if slices.Contains(memoryEventLabel.Values, e.Name) {
			all = append(all, sensorMemoryEvents.With(float64(e.Value), e.Name))
		}
	}
	return all, nil
}

// goMemoryClasses are the samples of the Go runtime that appendGo adds up.
var goMemoryClasses = [...]string{
	"/memory/classes/total:bytes",
	"/memory/classes/heap/released:bytes",
	"/memory/classes/heap/objects:bytes",
	"/memory/classes/heap/unused:bytes",
	"/memory/classes/heap/free:bytes",
}

// appendGo splits what the Go runtime holds. Memory that it gave back to the system
// is no longer charged.
func (c *SensorMemory) appendGo(all []prometheus.Metric) []prometheus.Metric {
	metrics.Read(c.goMem)
	var v [len(goMemoryClasses)]uint64
	for i, s := range c.goMem {
		if s.Value.Kind() != metrics.KindUint64 {
			return all // this runtime has other classes
		}
		v[i] = s.Value.Uint64()
	}
	heap := v[2] + v[3] + v[4]
	return append(all,
		sensorMemory.With(float64(heap), "go_heap"),
		sensorMemory.With(float64(v[0]-v[1]-heap), "go_other"))
}

func (c *SensorMemory) appendOther(all []prometheus.Metric) ([]prometheus.Metric, error) {
	mapped, mappedErr := c.mapped.Mapped()
	if mappedErr == nil {
		all = append(all, sensorMemory.With(float64(mapped), "mmap"))
	}
	mappedErr = c.faults.note(opStatus, mappedErr)
	if c.maps == nil {
		return all, mappedErr
	}
	stats, err := c.maps.Maps()
	if err == nil {
		var sum uint64
		for _, s := range stats {
			sum += s.MemoryBytes
		}
		all = append(all, sensorMemory.With(float64(sum), "bpf"))
	}
	return all, errors.Join(mappedErr, err)
}
