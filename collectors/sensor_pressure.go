package collectors

import (
	"context"
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

var sensorPressure = declared.Counter("sensor_pressure_seconds_total",
	"Time for which some or all tasks of the sensor's cgroup waited for a resource (PSI).",
	metric.Enum("resource", "cpu", "io", "memory"),
	metric.Enum("kind", "some", "full"))

// PressureSource reads the pressure files of the sensor's own cgroup.
type PressureSource interface {
	SelfPressure() ([]procfs.Pressure, error)
}

// SensorPressure shows what the sensor has to wait for.
type SensorPressure struct {
	source PressureSource
	faults *ProcfsErrors
}

// NewSensorPressure returns the collector.
func NewSensorPressure(source PressureSource, faults *ProcfsErrors) *SensorPressure {
	return &SensorPressure{source: source, faults: faults}
}

// Collect implements Collector.
func (c *SensorPressure) Collect(context.Context) ([]prometheus.Metric, error) {
	stalls, err := c.source.SelfPressure()
	if err != nil && !errors.Is(err, procfs.ErrNoData) {
		return nil, c.faults.note(opPressure, err)
	}
	var all []prometheus.Metric
	for _, p := range stalls {
		all = append(all, sensorPressure.With(p.Time.Seconds(), p.Resource, p.Kind))
	}
	return all, nil
}
