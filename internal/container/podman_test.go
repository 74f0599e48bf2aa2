package container_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// podman is a private podman with its service.
type podman struct {
	*runtimes
	socket string
	kill   func(syscall.Signal)
}

func (r *runtimes) startPodman(t *testing.T) *podman {
	t.Helper()
	p := &podman{runtimes: r, socket: r.path("podman.sock")}
	r.write(t, "containers.conf", fmt.Sprintf(`[containers]
cgroupns = "host"
apparmor_profile = "unconfined"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
conmon_path = [%q]
[engine.runtimes]
runc = [%q]
`, filepath.Join(r.root, "usr/bin/conmon"), filepath.Join(r.root, "usr/sbin/runc")))
	r.write(t, "storage.conf", `[storage]
driver = "vfs"
graphroot = "DIR/graph"
runroot = "DIR/runroot"
`)
	for _, dir := range []string{"bin", "dev", "etc", "proc", "run", "sys", "tmp"} {
		if err := os.MkdirAll(r.path("rootfs", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(r.path("rootfs/bin/sleep"), r.busybox(t), 0o755); err != nil {
		t.Fatal(err)
	}
	p.kill = r.daemon(t, "podman", p.args("system", "service", "--time=0", "unix://"+p.socket)...)
	eventually(t, "podman listens", func() bool { return exists(p.socket) })
	t.Cleanup(func() {
		p.run(t, "podman", p.args("rm", "--force", "--all", "--time=0")...)
		removeCgroups(t, "libpod_parent/conmon", "libpod_parent")
	})
	return p
}

func (p *podman) args(args ...string) []string {
	return append([]string{"--root", p.path("graph"), "--runroot", p.path("runroot"), "--tmpdir", p.path("tmp")}, args...)
}

// runContainer starts a container that sleeps for so many seconds.
func (p *podman) runContainer(t *testing.T, seconds string, args ...string) (id string) {
	t.Helper()
	all := append([]string{"run", "--detach", "--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"}, args...)
	return p.run(t, "podman", p.args(append(all, "--rootfs", p.path("rootfs"), "/bin/sleep", seconds)...)...)
}
