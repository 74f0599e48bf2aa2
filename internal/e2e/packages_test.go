package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// installation is a root directory in which dpkg installs and the sensor runs as it
// would on a host of its own: the kernel and /proc are this machine's, the BPF file
// system and all else are its own. There is no systemd in it, so that the unit's
// command is run by hand.
type installation struct {
	root string
	deb  map[string]string // by version
}

// newInstallation makes the root, with a shell for the scripts of the packages.
func newInstallation(t *testing.T) *installation {
	t.Helper()
	testenv.Root(t)
	testenv.Program(t, "dpkg")
	busybox := testenv.Program(t, "busybox")
	i := &installation{root: t.TempDir(), deb: map[string]string{}}
	for _, dir := range []string{"bin", "dev", "proc", "sys", "run", "tmp", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"} {
		if err := os.MkdirAll(filepath.Join(i.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(i.root, "var/lib/dpkg/status"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	shell, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sh", "rm"} {
		if err := os.WriteFile(filepath.Join(i.root, "bin", name), shell, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	i.mount(t, "proc", "proc")
	i.mount(t, "sysfs", "sys")
	i.mount(t, "bpf", "sys/fs/bpf")
	return i
}

// mount mounts a file system of that kind until the test has ended.
func (i *installation) mount(t *testing.T, kind, point string) {
	t.Helper()
	at := filepath.Join(i.root, point)
	if err := unix.Mount(kind, at, kind, 0, ""); err != nil {
		testenv.Skip(t, "needs to mount: "+err.Error())
	}
	t.Cleanup(func() {
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
}

// build packs the binary under a version; it is the same binary for all of them.
func (i *installation) build(t *testing.T, version string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	i.deb[version] = filepath.Join(t.TempDir(), "sonde.deb")
	nfpm := exec.Command(testenv.Tool(t, "nfpm"), "package", "--config=deploy/packages/nfpm.yaml", "--packager=deb", "--target="+i.deb[version])
	nfpm.Dir = filepath.Join("..", "..")
	nfpm.Env = append(os.Environ(), "ARCH=amd64", "VERSION="+version, "BINARY="+path)
	if out, err := nfpm.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func (i *installation) dpkg(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("dpkg", append([]string{"--root=" + i.root, "--force-unsafe-io", "--force-confdef", "--force-confold"}, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dpkg %v: %v\n%s", args, err, out)
	}
}

// files lists the files that are there, but those of dpkg and of the test.
func (i *installation) files(t *testing.T) (all []string) {
	t.Helper()
	for _, top := range []string{"etc", "usr", "var/lib/sonde", "var/log", "run", "sys/fs/bpf/sonde"} {
		_ = filepath.WalkDir(filepath.Join(i.root, top), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				all = append(all, strings.TrimPrefix(path, i.root))
			}
			return nil
		})
	}
	slices.Sort(all)
	return all
}

// start runs the command of the installed unit and waits until the sensor is ready.
func (i *installation) start(t *testing.T) *agent {
	t.Helper()
	unit, err := os.ReadFile(filepath.Join(i.root, "usr/lib/systemd/system/sonde.service"))
	if err != nil {
		t.Fatal(err)
	}
	_, command, _ := strings.Cut(string(unit), "\nExecStart=")
	command, _, _ = strings.Cut(command, "\n")
	a := &agent{log: &lockedBuffer{}, dir: filepath.Join(i.root, "run/sonde")}
	args := strings.Fields(command)
	a.cmd = exec.Command(args[0], args[1:]...)
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: i.root}
	a.cmd.Dir = "/"
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	a.cmd.Env = []string{"SONDE_WEB_LISTEN_ADDRESS=127.0.0.1:0", "PATH=/bin:/usr/bin"}
	a.started = time.Now()
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.stop(t) })
	a.waitReady(t)
	return a
}

// verb runs a verb of the installed sensor.
func (i *installation) verb(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("/usr/bin/sonde", args...)
	cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{Chroot: i.root}, "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// From nothing but the package: install, start, status, scrape, bundle, upgrade while
// the machine works, remove; nothing is left. That the upgrade leaves something
// uncounted shows in process_start_time_seconds, as any restart does.
func TestPackage(t *testing.T) {
	i := newInstallation(t)
	i.build(t, "1.0.0")
	i.build(t, "1.1.0")
	i.dpkg(t, "--install", i.deb["1.0.0"])
	want := []string{
		"/etc/sonde/sonde.yaml", "/usr/bin/sonde", "/usr/lib/systemd/system/sonde.service", "/usr/lib/systemd/system/sonde.socket", "/usr/share/doc/sonde/copyright",
	}
	if got := i.files(t); !slices.Equal(got, want) {
		t.Errorf("installed %q, want %q", got, want)
	}
	config := filepath.Join(i.root, "etc/sonde/sonde.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, append(text, "log: {level: debug}\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	a := i.start(t)
	if got := i.verb(t, "status"); !strings.Contains(got, fmt.Sprintf("pid %d", a.cmd.Process.Pid)) {
		t.Errorf("status: %s", got)
	}
	i.verb(t, "support-bundle", "--watch=100ms", "--output=/tmp/bundle.tar.gz")

	storm := act(t, "fork-storm")
	if err := storm.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { storm.Process.Kill(); _ = storm.Wait() }()
	waitUntil(t, func() error { return moved(a.families(t), 100) })
	old, end := sum(a.families(t), "process_start_time_seconds"), time.Now()
	i.dpkg(t, "--install", i.deb["1.1.0"])
	if code := a.stop(t); code != 0 {
		t.Errorf("the old one: exit code %d\n%s", code, a.log)
	}
	a = i.start(t)
	t.Logf("gap in the counters: %v from the last scrape of the old one until the new one is ready, %v of it to start", a.started.Add(a.ready).Sub(end), a.ready)
	waitUntil(t, func() error { return moved(a.families(t), 100) })
	families := a.families(t)
	if begin := sum(families, "process_start_time_seconds"); begin <= old {
		t.Errorf("process_start_time_seconds went from %v to %v: nothing shows the gap", old, begin)
	}
	if n := sum(families, "sonde_sensor_terminations_total", "reason=clean"); n != 1 {
		t.Errorf("the new one knows of %v clean ends", n)
	}
	if kept, err := os.ReadFile(config); err != nil || !strings.Contains(string(kept), "level: debug") {
		t.Errorf("the configuration was not kept: %v", err)
	}
	if code := a.stop(t); code != 0 {
		t.Errorf("exit code %d\n%s", code, a.log)
	}
	i.dpkg(t, "--remove", "sonde")
	if got := i.files(t); !slices.Equal(got, []string{"/etc/sonde/sonde.yaml"}) {
		t.Errorf("after the removal there are %q", got)
	}
	i.dpkg(t, "--purge", "sonde")
	if got := i.files(t); len(got) > 0 {
		t.Errorf("after the purge there are %q", got)
	}
	for _, dir := range []string{"etc/sonde", "var/lib/sonde", "var/log/sonde", "run/sonde", "sys/fs/bpf/sonde"} {
		if _, err := os.Stat(filepath.Join(i.root, dir)); err == nil {
			t.Errorf("/%s is left", dir)
		}
	}
	if res, err := http.Get("http://" + a.address + "/metrics"); err == nil {
		res.Body.Close()
		t.Error("somebody still answers")
	}
}

// moved wants the sensor to have counted at least n forks.
func moved(families map[string]*dto.MetricFamily, n float64) error {
	if got := sum(families, "sonde_process_forks_total"); got < n {
		return fmt.Errorf("%v forks", got)
	}
	return nil
}
