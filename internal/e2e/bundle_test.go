package e2e

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// unpacked runs support-bundle and returns the files of the bundle by their names.
func (a *agent) unpacked(t *testing.T, flags ...string) map[string]string {
	t.Helper()
	output := filepath.Join(t.TempDir(), "bundle.tar.gz")
	args := append([]string{"support-bundle", "--watch=1s", "--output=" + output, "--bpf.pin-dir=" + a.pins, "--state.dir=" + filepath.Join(a.dir, "state")}, flags...)
	if code, stdout, stderr := a.verb(t, args...); code != 0 || !strings.Contains(stdout, "wrote "+output) {
		t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
	}
	file, err := os.Open(output)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the bundle: %v, %v", info, err)
	}
	compressed, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(compressed); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		_, name, _ := strings.Cut(header.Name, "/")
		files[name] = string(content)
	}
}

// A sensor with all that can be broken at once: a full disk for its events, cgroups
// that are none, a runtime whose socket is dead, a pin directory that is none. Its
// bundle names each cause. A secret in its environment, its arguments, its
// configuration and its URLs is in none of what it says.
func TestBundleNamesCausesAndNoSecrets(t *testing.T) {
	const canary = "canary-7f3a9c51"
	t.Setenv("SONDE_TEST_PASSWORD", canary) // of the sensor, and of the verb
	full := tmpfs(t, "size=4k", 0)
	if err := os.WriteFile(filepath.Join(full, "fill"), make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	dead := filepath.Join(dir, "containerd.sock")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	config, password := filepath.Join(dir, "sonde.yaml"), filepath.Join(dir, "password")
	session := fmt.Sprintf("{name: full, points: [{name: process/exec}], sinks: [{name: jsonl, config: {path: %s/events.json}}]}", full)
	text := fmt.Sprintf("containers: {runtimes: {containerd: %s}}\nsessions: [%s]\n# token: %s\n", dead, session, canary)
	for path, text := range map[string]string{config: text, password: canary + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	flags := []string{
		"--config.file=" + config, "--events.dir=" + full, "--path.cgroupfs=" + filepath.Join(dir, "nowhere"),
		"--push.url=http://127.0.0.1:1/push?token=" + canary, "--push.username=me", "--push.password-file=" + password,
	}
	pins := filepath.Join(dir, "no-bpffs")
	a := launchIn(t, "", t.TempDir(), pins, append(flags, "--introspect.listen-address=unix://"+filepath.Join(dir, "i.sock"), "--log.level=trace")...)
	a.waitReady(t)
	waitUntil(t, func() error {
		if err := exec.Command("true").Run(); err != nil {
			t.Fatal(err)
		}
		if n := sum(a.families(t), "sonde_sink_errors_total", "sink=jsonl"); n == 0 {
			return fmt.Errorf("the sink has met no error")
		}
		return nil
	})
	files := a.unpacked(t, flags...)
	for name, causes := range map[string][]string{
		"sensor/check.json":    {"(missing)", filepath.Join(dir, "nowhere"), "containerd does not answer", "is not on bpffs", full + " has 0 MiB left"},
		"sensor/metrics-1.txt": {`sonde_container_runtime_up{reason="refused",runtime="containerd"} 0`, `sonde_host_cgroup_visible{reason="missing"} 0`, `sonde_sink_errors_total{class="disk_full",session="full",sink="jsonl"}`},
		"sensor/pipeline.json": {"not pinned"},
		"machine/disk.txt":     {full + " tmpfs 4096 0"},
		"manifest.json":        {`"item": "sensor/pipeline.json"`},
	} {
		for _, cause := range causes {
			if !strings.Contains(files[name], cause) {
				t.Errorf("%s does not say %q:\n%s", name, cause, files[name])
			}
		}
	}
	if !strings.Contains(files["sensor/processes.json"], `"exe"`) {
		t.Error("the processes are not in the bundle")
	}
	files["log"] = a.log.String()
	if !strings.Contains(files["sensor/settings.json"]+files["log"], "push.url") {
		t.Error("nothing tells of the URL with the secret: this test proves nothing")
	}
	for name, content := range files {
		if strings.Contains(content, canary) {
			t.Errorf("%s holds the secret", name)
		}
	}
}
