package collectors

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

var (
	runtimeLabel  = metric.Enum("runtime", runtimeNames(0)...)
	askedLabel    = metric.Enum("runtime", runtimeNames(container.Unknown+1)...)
	lookupResults = namesOf(container.Results, func(i int) string { return container.Result(i).String() })

	containers = declared.Gauge("containers",
		"Containers that live now. Their runtime is unknown where the cgroup's path does not tell and no runtime has answered.",
		runtimeLabel)
	containerRuntimeUp = declared.Gauge("container_runtime_up",
		"Whether a container runtime answers, and why not. The reason unused is no fault: no socket, none configured, no container of it.",
		askedLabel,
		metric.Enum("reason", namesOf(container.Reasons, func(i int) string { return container.Reason(i).String() })...))
	containerLookups = declared.Counter("container_lookups_total",
		"Lookups of containers: hit, miss and late (events were held for the answer, in vain) in the sensor's own table, the other results of calls to a runtime.",
		runtimeLabel, metric.Enum("result", lookupResults...))
	containerLookupDuration = declared.Histogram("container_lookup_duration_seconds",
		"Time of a call to a container runtime, whatever its result. No event waits for it.",
		metric.Seconds(-13, 2), askedLabel)
	hostCgroupVisible = declared.Gauge("host_cgroup_visible",
		"Whether the cgroups of the whole machine can be seen, without which containers may have no id, and why not.",
		metric.Enum("reason", namesOf(container.Blinds, func(i int) string { return container.Blind(i).String() })...))
)

// namesOf returns n names.
func namesOf(n int, name func(int) string) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = name(i)
	}
	return all
}

func runtimeNames(first container.Runtime) []string {
	return namesOf(container.Runtimes, func(i int) string { return container.Runtime(i).String() })[first:]
}

// ContainerSource knows the containers of this machine.
type ContainerSource interface {
	Stats() container.Stats
}

// Containers shows what is known of containers, and whether it could be more.
type Containers struct {
	source ContainerSource
}

// NewContainers returns the collector.
func NewContainers(source ContainerSource) *Containers { return &Containers{source: source} }

// Collect implements Collector.
func (c *Containers) Collect(context.Context) ([]prometheus.Metric, error) {
	s := c.source.Stats()
	all := []prometheus.Metric{hostCgroupVisible.With(gaugeOf(s.Visible), s.Reason.String())}
	for i := range container.Runtimes {
		runtime := container.Runtime(i)
		all = append(all, containers.With(float64(s.Containers[i]), runtime.String()))
		for result, n := range s.Lookups[i] {
			all = append(all, containerLookups.With(float64(n), runtime.String(), lookupResults[result]))
		}
		if runtime != container.Unknown {
			all = append(all, containerLookupDuration.With(s.Durations[i], runtime.String()))
		}
	}
	for _, r := range s.Runtimes {
		all = append(all, containerRuntimeUp.With(gaugeOf(r.Up), r.Runtime.String(), r.Reason.String()))
	}
	return all, nil
}
