package collectors

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/metric"
)

// workloadSeries is the budget of these tests.
const workloadSeries = 64

// workloadWorld is a kernel side, and containers, that a test moves by hand.
type workloadWorld struct {
	*Workloads
	at      time.Time
	stats   map[bpf.WorkloadKey]bpf.WorkloadStat
	reside  map[bpf.WorkloadKey]container.Residence
	meta    map[string]container.Meta
	pending map[string]bool
	err     error
}

func newWorkloadWorld(t *testing.T) *workloadWorld {
	t.Helper()
	w := &workloadWorld{
		at: time.Unix(1_700_000_000, 0), stats: map[bpf.WorkloadKey]bpf.WorkloadStat{}, reside: map[bpf.WorkloadKey]container.Residence{},
		meta: map[string]container.Meta{}, pending: map[string]bool{},
	}
	w.Workloads = NewWorkloads(w, w, Limits{Series: workloadSeries, Idle: time.Hour})
	w.now = func() time.Time { return w.at }
	return w
}

func (w *workloadWorld) Read(yield func(bpf.WorkloadStat)) error {
	for _, s := range w.stats {
		yield(s)
	}
	return w.err
}

func (w *workloadWorld) Forget(key bpf.WorkloadKey) error {
	delete(w.stats, key)
	return nil
}

func (w *workloadWorld) Reside(v2, v1 uint64) container.Residence {
	return w.reside[bpf.WorkloadKey{V2: v2, V1: v1}]
}

func (w *workloadWorld) Lookup(id container.ID) (container.Meta, container.State) {
	if w.pending[id.Name] {
		return container.Meta{}, container.Pending
	}
	return w.meta[id.Name], container.Named
}

// execs sets the count of a cgroup.
func (w *workloadWorld) execs(cgroup, n uint64) {
	key := bpf.WorkloadKey{V2: cgroup}
	w.stats[key] = bpf.WorkloadStat{Key: key, Execs: n}
}

// inside puts a cgroup into a container.
func (w *workloadWorld) inside(cgroup uint64, id string, gone bool) {
	w.reside[bpf.WorkloadKey{V2: cgroup}] = container.Residence{ID: container.ID{Name: id}, Place: container.Inside, Gone: gone}
}

// shown collects, some seconds after the last time, and returns the execs by name.
func (w *workloadWorld) shown(t *testing.T, later time.Duration) map[string]float64 {
	t.Helper()
	w.at = w.at.Add(later)
	all, err := w.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := metric.Verify(all); err != nil {
		t.Error(err)
	}
	got := map[string]float64{}
	for _, m := range all {
		if s := m.(*metric.Series); s.Family().Name == "sonde_workload_execs_total" {
			v := s.LabelValues() // container, namespace, pod, runtime
			got[fmt.Sprintf("%s/%s/%s %s", v[1], v[2], v[0], v[3])] = s.Value()
		}
	}
	return got
}

func wantShown(t *testing.T, when string, want, got map[string]float64) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

const web, host, unnamed = "shop/web-0/nginx containerd", "// host", "// unknown"

var nginx = container.Meta{Runtime: container.Containerd, Namespace: "shop", Pod: "web-0", Name: "nginx"}

// TestWorkloadLife: a container is counted under its name once it has one, with all it
// did before, keeps its last counts for a while after its end, and what comes after it
// under the same name goes on from there.
func TestWorkloadLife(t *testing.T) {
	w := newWorkloadWorld(t)
	w.reside[bpf.WorkloadKey{V2: 1}] = container.Residence{Place: container.Host}
	w.execs(1, 100)
	w.execs(2, 3) // being searched
	wantShown(t, "searched", map[string]float64{host: 100}, w.shown(t, 0))

	w.inside(2, "a", false)
	w.meta["a"], w.pending["a"] = nginx, true
	wantShown(t, "pending", map[string]float64{host: 100}, w.shown(t, time.Second))
	w.pending["a"] = false
	w.execs(2, 5)
	wantShown(t, "named", map[string]float64{host: 100, web: 5}, w.shown(t, time.Second))

	w.execs(2, 7)
	w.inside(2, "a", true)
	wantShown(t, "the last counts", map[string]float64{host: 100, web: 7}, w.shown(t, 15*time.Second))
	if len(w.stats) != 2 {
		t.Error("forgotten while it still counted")
	}
	wantShown(t, "kept", map[string]float64{host: 100, web: 7}, w.shown(t, 15*time.Second))
	if len(w.stats) != 1 {
		t.Error("its entry in the kernel is kept")
	}

	w.inside(3, "b", false)
	w.meta["b"] = nginx
	w.execs(3, 1)
	wantShown(t, "begun anew", map[string]float64{host: 100, web: 8}, w.shown(t, time.Minute))
	w.execs(3, 2)
	wantShown(t, "goes on", map[string]float64{host: 100, web: 9}, w.shown(t, 2*workloadKeep))
	w.inside(3, "b", true)
	wantShown(t, "ended", map[string]float64{host: 100, web: 9}, w.shown(t, workloadKeep-1))
	wantShown(t, "gone", map[string]float64{host: 100}, w.shown(t, 1))
}

// TestWorkloadsWithoutAName: what cannot be told is counted all the same.
func TestWorkloadsWithoutAName(t *testing.T) {
	w := newWorkloadWorld(t)
	w.stats[bpf.OverflowWorkload] = bpf.WorkloadStat{Key: bpf.OverflowWorkload, Execs: 1}
	w.execs(2, 2)
	w.reside[bpf.WorkloadKey{V2: 2}] = container.Residence{Place: container.Host, Gone: true, Lost: true}
	w.execs(3, 4) // never found
	wantShown(t, "at once", map[string]float64{unnamed: 3}, w.shown(t, 0))
	wantShown(t, "after the wait", map[string]float64{unnamed: 7}, w.shown(t, workloadWait))
	w.execs(3, 6)
	w.inside(3, "a", false)
	w.meta["a"] = nginx
	wantShown(t, "found late", map[string]float64{unnamed: 7, web: 2}, w.shown(t, time.Second))
}

// TestWorkloadBudget: there are never more series than the budget, and none is lost
// from the sum.
func TestWorkloadBudget(t *testing.T) {
	w := newWorkloadWorld(t)
	const n = 2 * workloadSeries
	for i := range uint64(n) {
		id := fmt.Sprint("c", i)
		w.meta[id] = container.Meta{Runtime: container.Podman, Name: id}
		w.inside(i+1, id, false)
		w.execs(i+1, 1)
	}
	got := w.shown(t, 0)
	var sum float64
	for _, v := range got {
		sum += v
	}
	if len(got) > workloadSeries || sum != n {
		t.Errorf("%d series with a sum of %v; want %d at most, and %d", len(got), sum, workloadSeries, n)
	}
	for _, f := range w.families {
		if f.Folded() == 0 {
			t.Errorf("%s: nothing folded", f.families[0])
		}
	}
}

func TestWorkloadErrors(t *testing.T) {
	w := newWorkloadWorld(t)
	w.err = errors.New("read workloads: bad file descriptor")
	w.execs(1, 1)
	if _, err := w.Collect(t.Context()); !errors.Is(err, w.err) {
		t.Errorf("error %v", err)
	}
}
