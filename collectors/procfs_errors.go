package collectors

import (
	"context"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/metric"
)

// procfsOperation is one kind of file the sensor reads.
type procfsOperation int

const (
	opMemory procfsOperation = iota
	opCPU
	opPressure
	opStatus

	procfsOperations = int(opStatus) + 1
)

var procfsOperationNames = [procfsOperations]string{"cgroup_memory", "cgroup_cpu", "cgroup_pressure", "process_status"}

var procfsErrors = declared.Counter("procfs_errors_total",
	"Files of /proc and of the cgroup that could not be read or understood. What this kernel does not have is no error.",
	metric.Enum("operation", procfsOperationNames[:]...))

// ProcfsErrors counts the failed readings of other collectors and shows them. It may
// be used concurrently.
type ProcfsErrors struct {
	counts [procfsOperations]atomic.Uint64
}

// NewProcfsErrors returns a count of nothing.
func NewProcfsErrors() *ProcfsErrors { return &ProcfsErrors{} }

// note counts err, if it is one, and returns it.
func (e *ProcfsErrors) note(op procfsOperation, err error) error {
	if err != nil {
		e.counts[op].Add(1)
	}
	return err
}

// Collect implements Collector.
func (e *ProcfsErrors) Collect(context.Context) ([]prometheus.Metric, error) {
	all := make([]prometheus.Metric, procfsOperations)
	for op, name := range procfsOperationNames {
		all[op] = procfsErrors.With(float64(e.counts[op].Load()), name)
	}
	return all, nil
}
