package collectors

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/procfs"
)

var sensorCPUThrottled = declared.Counter("sensor_cpu_throttled_seconds_total",
	"Time for which the CPU quota of the sensor's cgroup kept it from running, summed over CPUs.")

// ThrottlingSource reads the CPU controller of the sensor's own cgroup.
type ThrottlingSource interface {
	SelfThrottling() (procfs.Throttling, error)
}

// SensorCPU shows whether the sensor is denied CPU time.
type SensorCPU struct {
	source ThrottlingSource
	faults *ProcfsErrors
}

// NewSensorCPU returns the collector.
func NewSensorCPU(source ThrottlingSource, faults *ProcfsErrors) *SensorCPU {
	return &SensorCPU{source: source, faults: faults}
}

// Collect implements Collector.
func (c *SensorCPU) Collect(context.Context) ([]prometheus.Metric, error) {
	t, err := c.source.SelfThrottling()
	switch {
	case errors.Is(err, procfs.ErrNoData):
		return nil, nil // a cgroup without quota is not throttled, but it is not 0 either
	case err != nil:
		return nil, c.faults.note(opCPU, err)
	}
	return []prometheus.Metric{sensorCPUThrottled.With(t.Time.Seconds())}, nil
}
