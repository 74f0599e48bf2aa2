package collectors

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// runtimeHost is the runtime of what runs in no container.
const runtimeHost = "host"

var (
	workloadLabels = []metric.Label{
		metric.Open("namespace", "namespaces of pods, and of containerd"), metric.Open("pod", "names of pods"), metric.Open("container", "names of containers"),
		metric.Enum("runtime", append(runtimeNames(0), runtimeHost)...),
	}

	workloadOpened = declared.Counter("workload_connections_opened_total",
		"TCP connections that the processes of a container made or accepted.", workloadLabels...)
	workloadFailed = declared.Counter("workload_connections_failed_total",
		"Attempts of the processes of a container to make a TCP connection that failed.", workloadLabels...)
	workloadBytes = declared.Counter("workload_bytes_total",
		"Bytes that the TCP connections of a container's processes carried, since they were accepted.",
		append(slices.Clone(workloadLabels), metric.Enum("flow", "sent", "received"))...)
	workloadExecs = declared.Counter("workload_execs_total",
		"Programs started by a successful exec in a container.", workloadLabels...)
	workloadOOMKills = declared.Counter("workload_oom_kills_total",
		"Processes of a container that ended by the out-of-memory killer.", workloadLabels...)
	workloadSyscallErrors = declared.Counter("workload_syscall_errors_total",
		"Failed system calls of the processes of a container.", workloadLabels...)
)

const (
	// workloadKeep is how long the last counts of a container that has ended are
	// shown: what a Prometheus looks back for, so that nobody misses them.
	workloadKeep = 5 * time.Minute
	// workloadWait is how long counts are held back for the name of their container.
	workloadWait = 2 * time.Minute
)

// WorkloadSource counts by cgroup.
type WorkloadSource interface {
	Read(yield func(bpf.WorkloadStat)) error
	Forget(bpf.WorkloadKey) error
}

// ResidentSource knows whose a cgroup is.
type ResidentSource interface {
	Reside(v2, v1 uint64) container.Residence
	Lookup(container.ID) (container.Meta, container.State)
}

// Workloads shows what containers do. The cgroups of one container, and containers
// that come one after the other under one name, are one workload.
//
// Counts are held back until the container has a name, which takes a moment; what
// nobody could name is shown without one, under the runtime unknown. A workload keeps
// its last counts for some minutes after its last container has ended, then its
// series are gone.
type Workloads struct {
	source     WorkloadSource
	containers ResidentSource
	now        func() time.Time
	cgroups    map[bpf.WorkloadKey]*workloadCgroup
	sums       map[workloadNames]*workloadSum
	families   []workloadFamily
}

// workloadNames are the values of workloadLabels.
type workloadNames struct{ namespace, pod, container, runtime string }

// workloadCounts are the values of the families, in their order.
type workloadCounts [7]uint64

// workloadCgroup is what has been taken from a cgroup.
type workloadCgroup struct {
	taken workloadCounts
	since time.Time // when it was first read
}

// workloadSum is what a workload has done.
type workloadSum struct {
	counts workloadCounts
	lived  time.Time // when a cgroup of it was last known to exist
}

// workloadFamily shows some of the counts.
type workloadFamily struct {
	*bound
	counts []int    // indexes into workloadCounts
	flows  []string // a fifth label value for each, nil: none
}

// NewWorkloads returns the collector.
func NewWorkloads(source WorkloadSource, containers ResidentSource, limits Limits) *Workloads {
	c := &Workloads{
		source: source, containers: containers, now: time.Now,
		cgroups: map[bpf.WorkloadKey]*workloadCgroup{}, sums: map[workloadNames]*workloadSum{},
	}
	for _, f := range []struct {
		declared *metric.Counter
		counts   []int
		flows    []string
	}{
		{workloadOpened, []int{0}, nil}, {workloadFailed, []int{1}, nil}, {workloadBytes, []int{2, 3}, []string{"sent", "received"}},
		{workloadExecs, []int{4}, nil}, {workloadOOMKills, []int{5}, nil}, {workloadSyscallErrors, []int{6}, nil},
	} {
		c.families = append(c.families, workloadFamily{limits.bound(time.Time{}, f.declared), f.counts, f.flows})
	}
	return c
}

func countsOf(w *bpf.WorkloadStat) workloadCounts {
	return workloadCounts{
		w.ConnectionsOpened, w.ConnectionsFailed, w.SentBytes, w.ReceivedBytes, w.Execs, w.OOMKills, w.SyscallErrors,
	}
}

// Collect implements Collector.
func (c *Workloads) Collect(context.Context) ([]prometheus.Metric, error) {
	now := c.now()
	var ended []bpf.WorkloadKey
	err := c.source.Read(func(w bpf.WorkloadStat) {
		if c.take(&w, now) {
			ended = append(ended, w.Key)
		}
	})
	for _, key := range ended {
		if forgetErr := c.source.Forget(key); forgetErr != nil {
			err = cmp.Or(err, forgetErr)
			continue
		}
		delete(c.cgroups, key)
	}
	maps.DeleteFunc(c.sums, func(_ workloadNames, s *workloadSum) bool { return now.Sub(s.lived) >= workloadKeep })
	return c.show(now), err
}

// take adds what a cgroup has done since the last time to its workload. It reports
// whether the cgroup has ended and will do no more.
func (c *Workloads) take(w *bpf.WorkloadStat, now time.Time) (ended bool) {
	g := c.cgroups[w.Key]
	if g == nil {
		g = &workloadCgroup{since: now}
		c.cgroups[w.Key] = g
	}
	names, gone, ok := c.owner(w.Key, now.Sub(g.since))
	if !ok {
		return false
	}
	sum := c.sums[names]
	if sum == nil {
		sum = &workloadSum{lived: now}
		c.sums[names] = sum
	}
	if !gone {
		sum.lived = now
	}
	ended = gone
	for i, n := range countsOf(w) {
		if n > g.taken[i] { // bytes may go back by one, for a moment
			sum.counts[i] += n - g.taken[i]
			g.taken[i] = n
			ended = false
		}
	}
	return ended
}

// owner tells whose a cgroup is, and whether it is gone; not ok: it will be known soon.
func (c *Workloads) owner(key bpf.WorkloadKey, waited time.Duration) (names workloadNames, gone, ok bool) {
	unknown := workloadNames{runtime: container.Unknown.String()}
	if key == bpf.OverflowWorkload {
		return unknown, false, true
	}
	r := c.containers.Reside(key.V2, key.V1)
	switch {
	case r.Lost:
		return unknown, true, true
	case r.Place == container.Searching:
		return unknown, r.Gone, waited >= workloadWait
	case r.Place == container.Host:
		return workloadNames{runtime: runtimeHost}, r.Gone, true
	}
	meta, state := c.containers.Lookup(r.ID)
	if state == container.Pending && waited < workloadWait {
		return unknown, r.Gone, false
	}
	return workloadNames{meta.Namespace, meta.Pod, meta.Name, meta.Runtime.String()}, r.Gone, true
}

func (c *Workloads) show(now time.Time) (all []prometheus.Metric) {
	order := slices.SortedFunc(maps.Keys(c.sums), func(a, b workloadNames) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.pod, b.pod),
			cmp.Compare(a.container, b.container), cmp.Compare(a.runtime, b.runtime))
	})
	for _, f := range c.families {
		round := f.Begin(now)
		for _, n := range order {
			for i, which := range f.counts {
				values := []string{n.namespace, n.pod, n.container, n.runtime}
				if f.flows != nil {
					values = append(values, f.flows[i])
				}
				round.Add(float64(c.sums[n].counts[which]), values...)
			}
		}
		all = f.limited(append(all, round.End()...))
	}
	return all
}
