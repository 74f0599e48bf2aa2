package testenv

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// Podman is a private podman with its service.
type Podman struct {
	*Runtimes
	Socket string // of its service
	Kill   func(syscall.Signal)
}

// StartPodman starts the service. Containers and pods end with the test.
func (r *Runtimes) StartPodman(tb testing.TB) *Podman {
	tb.Helper()
	p := &Podman{Runtimes: r, Socket: r.Path("podman.sock")}
	r.Write(tb, "containers.conf", fmt.Sprintf(`[containers]
cgroupns = "host"
apparmor_profile = "unconfined"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
conmon_path = [%q]
[engine.runtimes]
runc = [%q]
`, r.Program("usr/bin/conmon"), r.Program("usr/sbin/runc")))
	r.Write(tb, "storage.conf", `[storage]
driver = "vfs"
graphroot = "DIR/graph"
runroot = "DIR/runroot"
`)
	if err := os.MkdirAll(r.Path(".config/containers"), 0o755); err != nil {
		tb.Fatal(err)
	}
	r.Write(tb, ".config/containers/policy.json", `{"default": [{"type": "insecureAcceptAnything"}]}`)
	for _, dir := range []string{"bin", "dev", "etc", "proc", "run", "sys", "tmp"} {
		if err := os.MkdirAll(r.Path("rootfs", dir), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	if err := os.WriteFile(r.Path("rootfs/bin/sleep"), r.Busybox(tb), 0o755); err != nil {
		tb.Fatal(err)
	}
	p.Kill = r.Daemon(tb, "podman", p.args("system", "service", "--time=0", "unix://"+p.Socket)...)
	Eventually(tb, "podman listens", func() bool { return exists(p.Socket) })
	tb.Cleanup(func() {
		p.Podman(tb, "rm", "--force", "--all", "--time=0")
		RemoveCgroups(tb, "libpod_parent/conmon", "libpod_parent")
	})
	return p
}

func (p *Podman) args(args ...string) []string {
	return append([]string{"--root", p.Path("graph"), "--runroot", p.Path("runroot"), "--tmpdir", p.Path("tmp")}, args...)
}

// Podman runs podman with its own storage.
func (p *Podman) Podman(tb testing.TB, args ...string) string {
	tb.Helper()
	return p.Run(tb, "podman", p.args(args...)...)
}

// Sleep starts a container that sleeps for so many seconds, and returns its id.
func (p *Podman) Sleep(tb testing.TB, seconds string, args ...string) (id string) {
	tb.Helper()
	all := append([]string{"run", "--detach", "--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"}, args...)
	return p.Podman(tb, append(all, "--rootfs", p.Path("rootfs"), "/bin/sleep", seconds)...)
}
