package container_test

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sonde-ebpf/sonde/internal/config"
	"github.com/sonde-ebpf/sonde/internal/container"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// start runs Containers until the test ends. The sockets are the only places where
// runtimes are looked for.
func start(t *testing.T, sockets map[string]string) *container.Containers {
	t.Helper()
	c, err := container.New(container.Options{
		Runtimes:   config.Containers{Runtimes: sockets},
		SweepEvery: 200 * time.Millisecond, CheckEvery: 200 * time.Millisecond,
		CallDeadline: 20 * time.Second, // real runtimes, on a machine that may be busy
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wait.Wait()
	})
	return c
}

// resolved waits until a process is placed.
func resolved(t *testing.T, c *container.Containers, p event.Process) (id container.ID, place container.Place) {
	t.Helper()
	testenv.Eventually(t, "process is placed", func() bool {
		id, place = c.Resolve(&p, false)
		return place != container.Searching
	})
	return id, place
}

// named waits until a container has the wanted metadata.
func named(t *testing.T, c *container.Containers, id container.ID, want container.Meta) {
	t.Helper()
	var (
		m     container.Meta
		state container.State
	)
	testenv.Eventually(t, id.String()+" has a name", func() bool {
		m, state = c.Lookup(id)
		return state == container.Named
	})
	want.ID = id
	if diff := cmp.Diff(want, m, cmpopts.IgnoreFields(container.Meta{}, "Seen", "Ended")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// resides waits until the cgroups of a process are known to be a container's.
func resides(t *testing.T, c *container.Containers, p event.Process, id container.ID) {
	t.Helper()
	var v1 uint64
	if view := c.View(); view.V1Controller != "" {
		v1 = cgroupV1(t, int(p.PID), view.V1, view.V1Controller)
	}
	testenv.Eventually(t, "cgroups of "+id.String()+" are known", func() bool {
		r := c.Reside(p.CgroupID, v1)
		return r.Place == container.Inside && r.ID == id && !r.Gone
	})
}

func up(c *container.Containers, r container.Runtime) container.RuntimeStatus {
	for _, s := range c.Stats().Runtimes {
		if s.Runtime == r {
			return s
		}
	}
	return container.RuntimeStatus{}
}

// reason waits until a runtime is down for the wanted reason, or up with Answers.
func reason(t *testing.T, c *container.Containers, r container.Runtime, want container.Reason) {
	t.Helper()
	testenv.Eventually(t, r.String()+" is "+want.String(), func() bool {
		s := up(c, r)
		return s.Reason == want && s.Up == (want == container.Answers)
	})
}

// TestContainerd: real containers of a real containerd, by cgroup id and by pid,
// under the names a kubelet gave them; then the runtime dies and comes back.
func TestContainerd(t *testing.T) {
	d := startContainerd(t, testenv.NewRuntimes(t))
	pod := d.pod(t, "shop", "web-0")
	podID := d.runPod(t, pod)
	labels := map[string]string{
		"io.kubernetes.pod.namespace": "shop", "io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.uid": d.uid,
		"io.kubernetes.container.name": "nginx",
	}
	nginx := d.runContainer(t, pod, podID, "nginx", span(1), labels)
	bare := d.runContainer(t, pod, podID, "bare", span(2), nil)
	d.ctr(t, "demo", "run", "--detach", "--net-host", "--snapshotter=native", imageName, "My_plain.name-1", "/bin/sleep", span(3))

	c := start(t, map[string]string{"containerd": d.socket})
	inPod := func(name, id string) container.Meta {
		return container.Meta{
			Runtime: container.Containerd, Namespace: "shop", Pod: "web-0", PodUID: d.uid, Name: name, Image: imageName,
			Cgroup: d.cgroup() + "/" + id,
		}
	}
	for _, test := range []struct {
		name, seconds string
		id            container.ID
		want          container.Meta
	}{
		{"kubelet's labels", span(1), container.ID{Name: nginx}, inPod("nginx", nginx)},
		{"no labels", span(2), container.ID{Name: bare}, inPod("bare", bare)},
		{"ctr", span(3), container.ID{Namespace: "demo", Name: "My_plain.name-1"}, container.Meta{
			Runtime: container.Containerd, Name: "My_plain.name-1", Image: imageName, Cgroup: "/demo/My_plain.name-1",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := sleeper(t, test.seconds)
			if id, place := resolved(t, c, p); id != test.id || place != container.Inside {
				t.Errorf("by cgroup id: %v, %v", id, place)
			}
			if v := c.View(); v.HasV1 {
				// As an event shows a process that is in a container on v1 only.
				p.CgroupID = 1
				if id, place := resolved(t, c, p); id != test.id || place != container.Inside {
					t.Errorf("by pid: %v, %v", id, place)
				}
			}
			named(t, c, test.id, test.want)
		})
	}
	t.Run("sandbox", func(t *testing.T) {
		want := inPod("POD", podID)
		want.Image, want.Sandbox = "", true
		named(t, c, container.ID{Name: podID}, want)
	})
	t.Run("host", func(t *testing.T) {
		if id, place := resolved(t, c, process(t, os.Getpid())); place != container.Host {
			t.Errorf("the test itself is in %v, %v", id, place)
		}
	})
	t.Run("counts", func(t *testing.T) {
		s := c.Stats()
		if s.Containers[container.Containerd] != 4 || s.Lookups[container.Containerd][container.Found] < 4 ||
			s.Lookups[container.Containerd][container.Hit] < 4 || s.Durations[container.Containerd].Sum == 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("short-lived", func(t *testing.T) {
		shortLived(t, c, d.runContainer(t, pod, podID, "job", "0.3", labels))
	})
	t.Run("dies", func(t *testing.T) {
		dies(t, c, d)
		id := d.runContainer(t, pod, podID, "late", span(4), labels)
		if got, place := resolved(t, c, sleeper(t, span(4))); got.Name != id || place != container.Inside {
			t.Errorf("%v, %v, want %s", got, place, id)
		}
		named(t, c, container.ID{Name: id}, inPod("nginx", id))
	})
}

// shortLived: what was learnt of a container outlives it.
func shortLived(t *testing.T, c *container.Containers, name string) {
	id := container.ID{Name: name}
	testenv.Eventually(t, "it has come and gone", func() bool {
		m, state := c.Lookup(id)
		return state == container.Named && !m.Ended.IsZero()
	})
	m, _ := c.Lookup(id)
	if m.Pod != "web-0" || m.Name != "nginx" { // the label, not CRI's own name, is what counts
		t.Errorf("%+v", m)
	}
	if _, err := os.Stat(filepath.Join(testenv.CgroupV2(), m.Cgroup)); err == nil {
		t.Errorf("%s is still there", m.Cgroup)
	}
}

// dies: every way in which a socket can be useless is told apart, and the containers
// stay known until the runtime is back.
func dies(t *testing.T, c *container.Containers, d *containerd) {
	reason(t, c, container.Containerd, container.Answers)
	d.kill(syscall.SIGKILL)
	reason(t, c, container.Containerd, container.Refused)
	if err := os.Remove(d.socket); err != nil {
		t.Fatal(err)
	}
	reason(t, c, container.Containerd, container.Missing)
	if err := os.Mkdir(d.socket, 0o755); err != nil {
		t.Fatal(err)
	}
	reason(t, c, container.Containerd, container.NotASocket)
	if s := up(c, container.Containerd); !strings.Contains(s.Fault, "not a socket but a directory") {
		t.Errorf("fault %q", s.Fault)
	}
	if n := c.Stats().Containers[container.Containerd]; n != 4 {
		t.Errorf("%d containers while the runtime is away, want 4", n)
	}
	d.start(t)
	reason(t, c, container.Containerd, container.Answers)
}

// TestPodman: real containers of a real podman, through its Docker-compatible API.
func TestPodman(t *testing.T) {
	p := testenv.NewRuntimes(t).StartPodman(t)
	db := container.ID{Name: p.Sleep(t, span(5), "--name=db", "--label=io.kubernetes.pod.name=db-0", "--label=io.kubernetes.pod.namespace=shop")}
	p.Podman(t, "pod", "create", "--name=group", "--infra=false")
	member := container.ID{Name: p.Sleep(t, span(6), "--name=member", "--pod=group", `--label=json={"a":["b"]}`)}

	c := start(t, map[string]string{"podman": p.Socket})
	for seconds, id := range map[string]container.ID{span(5): db, span(6): member} {
		if got, place := resolved(t, c, sleeper(t, seconds)); got != id || place != container.Inside {
			t.Errorf("%v, %v, want %v", got, place, id)
		}
		resides(t, c, sleeper(t, seconds), id)
	}
	named(t, c, db, container.Meta{
		Runtime: container.Podman, Namespace: "shop", Pod: "db-0", Name: "db", Cgroup: "/libpod_parent/libpod-" + db.Name,
	})
	named(t, c, member, container.Meta{Runtime: container.Podman, Name: "member", Cgroup: "/libpod_parent/libpod-" + member.Name})
	if found := c.Find(db.Short()); len(found) != 1 || found[0].Meta.Name != "db" {
		t.Errorf("by its first 12 digits: %+v", found)
	}

	p.Kill(syscall.SIGKILL)
	reason(t, c, container.Podman, container.Refused)
	if m, state := c.Lookup(db); state != container.Named || m.Name != "db" {
		t.Errorf("without the runtime: %+v, %v", m, state)
	}
}

// TestLogsSayWhatIsMissing: one line with the remedy for each thing that is wrong.
func TestLogsSayWhatIsMissing(t *testing.T) {
	var log bytes.Buffer
	c, err := container.New(container.Options{
		CgroupRoot: "/no/such", CheckEvery: 10 * time.Millisecond, SweepEvery: 10 * time.Millisecond,
		Runtimes: config.Containers{Runtimes: map[string]string{"crio": "/no/such.sock", "docker": t.TempDir()}},
		Log:      slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"reason=missing hint=\"open /no/such: no such file or directory",
		"runtime=crio reason=missing", "containers.runtimes.crio in the configuration file",
		"runtime=docker reason=not_a_socket", "hostPath type Socket",
	} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%d lines with %q in:\n%s", n, want, &log)
		}
	}
}
