package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// binary builds cmd/sonde once per run of the tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sonde-e2e-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "sonde")
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "github.com/sonde-ebpf/sonde/cmd/sonde")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sonde: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	if act := os.Getenv("SONDE_E2E_ACT"); act != "" {
		if err := acts[act](); err != nil {
			fmt.Fprintln(os.Stderr, act, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// lockedBuffer collects a child's output while the test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// agent is one running sensor with directories of its own.
type agent struct {
	cmd     *exec.Cmd
	log     *lockedBuffer
	dir     string
	pins    string
	address string // host:port of the metrics listener
	started time.Time
	ready   time.Duration // from exec to ready
}

// startAgent runs the sensor with extra flags and waits until it is ready.
func startAgent(t *testing.T, flags ...string) *agent {
	t.Helper()
	a := launch(t, flags...)
	a.waitReady(t)
	return a
}

// launch runs the sensor without waiting for anything.
func launch(t *testing.T, flags ...string) *agent {
	t.Helper()
	dir, pins := directories(t)
	return launchIn(t, "", dir, pins, flags...)
}

// directories are a sensor's own: for its files, and for what it pins.
func directories(t *testing.T) (dir, pins string) {
	t.Helper()
	dir = t.TempDir()
	pins = fmt.Sprintf("/sys/fs/bpf/sonde-e2e-%d-%s", os.Getpid(), filepath.Base(dir))
	t.Cleanup(func() { os.RemoveAll(pins) })
	return dir, pins
}

// again runs the sensor once more, in the directories of one that has ended and
// in a cgroup, if one is named, and waits until it is ready.
func (a *agent) again(t *testing.T, cgroup string, flags ...string) *agent {
	t.Helper()
	next := launchIn(t, cgroup, a.dir, a.pins, flags...)
	next.waitReady(t)
	return next
}

// launchIn runs the sensor in directories and a cgroup that are given.
func launchIn(t *testing.T, cgroup, dir, pins string, flags ...string) *agent {
	t.Helper()
	if cgroup == "" {
		return launchBy(t, nil, dir, pins, flags...)
	}
	return launchBy(t, []string{"join", filepath.Join(cgroup, "cgroup.procs")}, dir, pins, flags...)
}

// launchBy runs the sensor through an act with an argument, if one is named, which
// becomes the sensor when it has changed what it runs in.
func launchBy(t *testing.T, through []string, dir, pins string, flags ...string) *agent {
	t.Helper()
	testenv.Root(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{dir: dir, pins: pins, log: &lockedBuffer{}}
	args := append([]string{
		"run", "--web.listen-address=127.0.0.1:0", "--run.dir=" + a.dir, "--bpf.pin-dir=" + a.pins,
		"--grpc.info-file=" + filepath.Join(a.dir, "tetragon", "info.json"),
	}, flags...)
	if !slices.ContainsFunc(flags, func(flag string) bool { return strings.HasPrefix(flag, "--state.dir=") }) {
		args = append(args, "--state.dir="+filepath.Join(a.dir, "state"))
	}
	a.cmd = exec.Command(path, args...)
	if through != nil {
		a.cmd = act(t, through[0], slices.Concat(through[1:], []string{path}, args)...)
	}
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	a.cmd.Env = append(a.cmd.Environ(), "NOTIFY_SOCKET=")
	a.started = time.Now()
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.stop(t) })
	return a
}

// waitReady waits for the discovery file and for /readyz.
func (a *agent) waitReady(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		if a.address == "" {
			a.address = a.discover()
		} else if res, err := http.Get("http://" + a.address + "/readyz"); err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				a.ready = time.Since(a.started)
				return
			}
		}
		if a.exited() {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("agent did not become ready:\n%s", a.log)
}

func (a *agent) discover() string {
	data, err := os.ReadFile(filepath.Join(a.dir, "sonde.json"))
	if err != nil {
		return ""
	}
	var d struct {
		PID       int
		Addresses map[string][]string
	}
	if err := json.Unmarshal(data, &d); err != nil || d.PID != a.cmd.Process.Pid || len(d.Addresses["metrics"]) == 0 {
		return ""
	}
	return strings.TrimPrefix(d.Addresses["metrics"][0], "http://")
}

// exited reports whether the process has ended, without reaping it.
func (a *agent) exited() bool {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, a.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err != nil || info.Signo != 0
}

// stop ends the agent in order and returns its exit code.
func (a *agent) stop(t *testing.T) int {
	t.Helper()
	if a.cmd.ProcessState != nil {
		return a.cmd.ProcessState.ExitCode()
	}
	a.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(20*time.Second, func() {
		t.Errorf("agent did not stop within 20 s:\n%s", a.log)
		a.cmd.Process.Kill()
	})
	defer timer.Stop()
	var exit *exec.ExitError
	if err := a.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Error(err)
	}
	return a.cmd.ProcessState.ExitCode()
}

// families scrapes the agent once.
func (a *agent) families(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	res, err := http.Get("http://" + a.address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("scrape: %s, %v", res.Status, err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// sum adds up the series of a family that carry all the given labels ("name=value").
func sum(families map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	var total float64
	f := families[name]
	for _, m := range f.GetMetric() {
		if !has(m, labels) {
			continue
		}
		switch {
		case m.Counter != nil:
			total += m.Counter.GetValue()
		case m.Gauge != nil:
			total += m.Gauge.GetValue()
		case m.Histogram != nil:
			total += float64(m.Histogram.GetSampleCount())
		case m.Untyped != nil:
			total += m.Untyped.GetValue()
		}
	}
	return total
}

func has(m *dto.Metric, labels []string) bool {
	for _, want := range labels {
		name, value, _ := strings.Cut(want, "=")
		found := false
		for _, l := range m.Label {
			found = found || l.GetName() == name && l.GetValue() == value
		}
		if !found {
			return false
		}
	}
	return true
}
