package collectors_test

import (
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

type fakeContainers container.Stats

func (f fakeContainers) Stats() container.Stats { return container.Stats(f) }

// idleContainers is a machine without containers that can be seen whole.
func idleContainers() fakeContainers {
	f := fakeContainers{Visible: true}
	for _, r := range container.Known() {
		f.Runtimes = append(f.Runtimes, container.RuntimeStatus{Runtime: r, Reason: container.Unused})
		f.Durations[r] = metric.Buckets{Created: attached}
	}
	return f
}

// busyContainers is a sensor in a container, with one runtime that answers and one
// that does not.
func busyContainers() fakeContainers {
	f := idleContainers()
	f.Visible, f.Reason = false, container.PrivateNamespace
	f.Containers[container.Containerd], f.Containers[container.Unknown] = 12, 1
	f.Lookups[container.Containerd] = [container.Results]uint64{container.Hit: 900, container.Miss: 15, container.Found: 13, container.NotFound: 1, container.TimedOut: 2}
	f.Runtimes[0] = container.RuntimeStatus{Runtime: container.Containerd, Up: true}
	f.Runtimes[2] = container.RuntimeStatus{Runtime: container.Docker, Reason: container.NotASocket}
	d := nanoseconds()
	f.Durations[container.Containerd] = metric.Buckets{First: d.First, Counts: d.Counts, Sum: 0.016, Created: attached}
	return f
}

// TestContainerRuntimeReasons: a runtime has one series, whose reason tells.
func TestContainerRuntimeReasons(t *testing.T) {
	all := mustCollect(t, collectors.NewContainers(busyContainers()))
	for _, want := range []struct {
		reason, runtime string
		value           float64
	}{{"none", "containerd", 1}, {"unused", "crio", 0}, {"not_a_socket", "docker", 0}, {"unused", "podman", 0}} {
		if got := value(t, all, "sonde_container_runtime_up", want.reason, want.runtime); got != want.value {
			t.Errorf("%s, %q: %v", want.runtime, want.reason, got)
		}
	}
	if got := value(t, all, "sonde_host_cgroup_visible", "private_cgroup_namespace"); got != 0 {
		t.Errorf("host_cgroup_visible: %v", got)
	}
	if got := value(t, all, "sonde_container_lookups_total", "timeout", "containerd"); got != 2 {
		t.Errorf("lookups: %v", got)
	}
}

// TestContainersOfThisMachine collects from the real thing before it runs.
func TestContainersOfThisMachine(t *testing.T) {
	c, err := container.New(container.Options{CallDeadline: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	all := mustCollect(t, collectors.NewContainers(c))
	if err := metric.Verify(all); err != nil {
		t.Error(err)
	}
	if got := value(t, all, "sonde_container_runtime_up", "unused", "docker"); got != 0 {
		t.Errorf("docker: %v", got)
	}
}
