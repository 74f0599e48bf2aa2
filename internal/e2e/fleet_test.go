package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// fleet is sensors side by side on this machine, by the names of the faults that are to
// befall them.
type fleet map[string]*agent

// small keeps the memory of each of several sensors small.
var small = []string{"--limits.connections=16384", "--limits.processes=16384", "--limits.ring-bytes=1MiB"}

// newFleet starts the sensors; the faults that a sensor is born with are there.
func newFleet(t *testing.T) fleet {
	t.Helper()
	f := fleet{}
	start := func(name string, flags ...string) {
		f[name] = launch(t, append(flags, small...)...)
	}
	file := func(content string) string {
		path := filepath.Join(t.TempDir(), "sonde.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	t.Cleanup(receiver.Close)
	const session = `sessions: [{name: all, points: [{name: process/exec}, {name: network/connect}], sinks: [%s]}]`
	rules := file(`{version: "1", rules: [{name: words, description: Long arguments., severity: low, technique: T1059, points: [process/exec], condition: 'exec.name == "true"'}]}`)
	start("well", "--config.file="+file(fmt.Sprintf(session+"\nrules: {files: [%s]}", `{name: "null"}`, rules)), "--collector.workloads", "--push.url="+receiver.URL, "--push.interval=1s", "--gvisor.endpoint="+t.TempDir()+"/gvisor.sock")
	start("stopped")
	start("killed", "--web.listen-address="+freeAddress(t))
	start("reload", "--config.file="+file("log: {level: info}"))
	disk := tmpfs(t, "size=64k", 0)
	start("sink", "--events.dir="+disk, "--config.file="+file(fmt.Sprintf(session, `{name: jsonl, config: {path: `+disk+`/events.json}}`)))
	f["stalled"] = launch(t, "--limits.ring-bytes=256KiB")
	dir, pins := directories(t)
	f["refused"] = launchIn(t, testenv.MemoryCgroup(t, 256<<20), dir, pins, "--limits.flows=4194304") // more than it may have
	for _, a := range f {
		a.waitReady(t)
	}
	return f
}

// config is that of a Prometheus which scrapes them, each under its name.
func (f fleet) config(native bool, rules string) string {
	var c strings.Builder
	fmt.Fprintf(&c, `global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - job_name: sonde
    scrape_native_histograms: %v
    static_configs:
`, rules, native)
	for name, a := range f {
		fmt.Fprintf(&c, "      - {targets: [%q], labels: {instance: %s}}\n", a.address, name)
	}
	return c.String()
}

// work gives the sensors something to count, until the test ends: processes with long
// arguments, connections, and calls that are refused.
func (f fleet) work(t *testing.T) {
	t.Helper()
	background(t, act(t, "wordy"))
	referenceWorkload(t)
	fd, err := unix.MemfdCreate("sealed", unix.MFD_ALLOW_SEALING)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Write(fd, []byte("x")); err != unix.EPERM {
		t.Errorf("writing what is sealed: %v", err)
	}
}

// wordy starts processes with long arguments until it is killed.
func wordy() error {
	for {
		if err := exec.Command("/bin/true", strings.Repeat("word ", 800)).Run(); err != nil {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// befall brings the other faults about.
func (f fleet) befall(t *testing.T) {
	t.Helper()
	f["stopped"].stop(t)
	if err := os.WriteFile(f["reload"].config(t), []byte("log: {level: loud}"), 0o600); err != nil {
		t.Fatal(err)
	}
	f["stalled"].hold(t)

	a := f["killed"]
	a.stop(t)
	doomed := launchIn(t, testenv.MemoryCgroup(t, tooSmall), a.dir, a.pins)
	if status := doomed.die(t); status.Signal() != unix.SIGKILL {
		t.Fatalf("with %d bytes it ended with %v:\n%s", tooSmall, doomed.cmd.ProcessState, doomed.log)
	}
	f["killed"] = a.again(t, "", append(small, "--web.listen-address="+a.address)...)
}

// config returns the configuration file that the agent was given.
func (a *agent) config(t *testing.T) string {
	t.Helper()
	for _, arg := range a.cmd.Args {
		if path, ok := strings.CutPrefix(arg, "--config.file="); ok {
			return path
		}
	}
	t.Fatal("it was given no configuration file")
	return ""
}

// hold keeps the agent from running three quarters of the time, until the test ends.
func (a *agent) hold(t *testing.T) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			_ = a.cmd.Process.Signal(unix.SIGSTOP)
			time.Sleep(750 * time.Millisecond)
			_ = a.cmd.Process.Signal(unix.SIGCONT)
			select {
			case <-stop:
				return
			case <-time.After(250 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped })
}
