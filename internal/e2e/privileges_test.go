package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"golang.org/x/sys/unix"
)

// A sensor that has attached holds the capabilities that docs/privileges.md lists
// and can gain no other, in none of its threads; with them it goes on doing all
// that it does, and it leaves nothing that others can read.
func TestPrivilegesAreDropped(t *testing.T) {
	a := startAgent(t)
	var keep uint64
	for _, c := range []int{
		unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH, unix.CAP_SYSLOG, unix.CAP_SYS_ADMIN,
	} {
		keep |= 1 << c
	}
	tasks, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(a.cmd.Process.Pid), "task", "*", "status"))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("threads: %q, %v", tasks, err)
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if err != nil {
			continue // the thread has ended
		}
		field := map[string]string{}
		for line := range strings.Lines(string(status)) {
			name, value, _ := strings.Cut(line, ":")
			field[name] = strings.TrimSpace(value)
		}
		for _, set := range []string{"CapEff", "CapPrm", "CapBnd"} {
			if has, err := strconv.ParseUint(field[set], 16, 64); err != nil || has&^keep != 0 {
				t.Errorf("%s: %s is %s, more than %x", task, set, field[set], keep)
			}
		}
		if field["NoNewPrivs"] != "1" || field["CapInh"] != "0000000000000000" {
			t.Errorf("%s: NoNewPrivs %s, CapInh %s", task, field["NoNewPrivs"], field["CapInh"])
		}
	}
	a.stillWorks(t)
	err = filepath.WalkDir(filepath.Join(a.dir, "state"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if code := a.stop(t); code != 0 || !strings.Contains(a.log.String(), "stays pinned") {
		t.Errorf("exit code %d:\n%s", code, a.log)
	}
	a.cleanup(t)
}

// confine drops all capabilities but those whose numbers its argument lists, and
// becomes the program that follows.
func confine() error {
	runtime.LockOSThread()
	var keep []int
	if err := json.Unmarshal([]byte(os.Args[1]), &keep); err != nil {
		return err
	}
	for c := range unix.CAP_LAST_CAP + 1 {
		if slices.Contains(keep, c) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil {
			return err
		}
	}
	return become(os.Args[2:])
}

// toStart are the capabilities that docs/privileges.md lists for a start, but for
// CAP_SYS_ADMIN, which contains most of the others.
var toStart = map[string]int{
	"CAP_BPF": unix.CAP_BPF, "CAP_PERFMON": unix.CAP_PERFMON, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN,
	"CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE, "CAP_DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH, "CAP_SYSLOG": unix.CAP_SYSLOG,
}

// startWithout runs the sensor with those capabilities less one.
func startWithout(t *testing.T, missing string) *agent {
	t.Helper()
	keep := []int{}
	for name, bit := range toStart {
		if name != missing {
			keep = append(keep, bit)
		}
	}
	list, err := json.Marshal(keep)
	if err != nil {
		t.Fatal(err)
	}
	dir, pins := directories(t)
	return launchBy(t, []string{"confine", string(list)}, dir, pins)
}

// With the listed capabilities nothing is missing but what only CAP_SYS_ADMIN gives.
func TestLeastPrivilege(t *testing.T) {
	a := startWithout(t, "")
	a.waitReady(t)
	f := a.families(t)
	for _, m := range f["sonde_probe_info"].GetMetric() {
		if !has(m, []string{"reason="}) {
			t.Errorf("degraded: %v", m)
		}
	}
	for _, family := range []string{"sonde_probe_attached", "sonde_collector_success"} {
		for _, m := range f[family].GetMetric() {
			if m.GetGauge().GetValue() != 1 {
				t.Errorf("%s: %v", family, m)
			}
		}
	}
	if f["sonde_bpf_program_runs_total"] != nil || !strings.Contains(a.log.String(), "no run-time statistics of programs") {
		t.Errorf("run-time statistics are there, or nobody says why not:\n%s", a.log)
	}
	if traces := a.profile(t, othersSpin(t), "-traces"); !strings.Contains(traces, "spin_in_c") {
		t.Errorf("no names in the profile of another user's process:\n%s", traces)
	}
	for _, route := range []string{"/profile/drops?seconds=1", "/profile/slow?seconds=1&over=1ms"} {
		a.profile(t, route, "-top")
	}
}

// Without one of them that is missing which docs/privileges.md says, and it is named.
func TestEachCapabilityIsNeeded(t *testing.T) {
	spin := othersSpin(t)
	nameless := func(t *testing.T, a *agent) bool {
		return !strings.Contains(a.profile(t, spin, "-traces"), "spin_in_c")
	}
	for missing, lost := range map[string]func(*testing.T, *agent) bool{ // nil: the start fails
		"CAP_BPF": nil, "CAP_PERFMON": nil, "CAP_SYS_PTRACE": nameless, "CAP_DAC_READ_SEARCH": nameless,
		"CAP_NET_ADMIN": func(t *testing.T, a *agent) bool {
			return sum(a.families(t), "sonde_probe_attached", "probe=udp") == 0
		},
		"CAP_SYSLOG": func(t *testing.T, a *agent) bool {
			return slices.ContainsFunc(a.families(t)["sonde_probe_info"].GetMetric(), func(m *dto.Metric) bool {
				return has(m, []string{"probe=oom"}) && strings.Contains(m.String(), "the kernel hides addresses")
			})
		},
	} {
		t.Run(missing, func(t *testing.T) {
			a := startWithout(t, missing)
			if lost == nil {
				if status := a.die(t); status.ExitStatus() != 15 || !strings.Contains(a.log.String(), missing+" missing") {
					t.Errorf("ended with %v, want exit code 15:\n%s", a.cmd.ProcessState, a.log)
				}
				return
			}
			a.waitReady(t)
			if !lost(t, a) {
				t.Error("nothing is lost without it")
			}
			if !strings.Contains(a.log.String(), missing+", CAP_SYS_ADMIN missing") {
				t.Errorf("it is not named:\n%s", a.log)
			}
		})
	}
}

// othersSpin runs a program of another user that nobody else may read, and returns the
// route of its profile.
func othersSpin(t *testing.T) (route string) {
	t.Helper()
	const nobody = 65534
	dir, err := os.MkdirTemp("", "sonde-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	program := filepath.Join(dir, "spin-c")
	err = errors.Join(os.Rename(compiled(t, "spin-c.c", spinC, "gcc", "-O2", "-fno-omit-frame-pointer"), program),
		os.Chown(program, nobody, nobody), os.Chmod(program, 0o700), os.Chown(dir, nobody, nobody))
	if err != nil {
		t.Fatal(err)
	}
	spin := exec.Command(program)
	spin.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return fmt.Sprintf("/profile/node?seconds=1&pid=%d", background(t, spin).Process.Pid)
}

// stillWorks does what needs privileges after the start.
func (a *agent) stillWorks(t *testing.T) {
	t.Helper()
	for _, m := range a.families(t)["sonde_collector_success"].GetMetric() {
		if m.GetGauge().GetValue() != 1 {
			t.Errorf("collector fails: %v", m)
		}
	}
	waitUntil(t, func() error { // on for a second out of ten
		if sum(a.families(t), "sonde_bpf_program_runs_total") == 0 {
			return fmt.Errorf("no run-time statistics")
		}
		return nil
	})
}

// cleanup removes what the sensor has left, by its own verb.
func (a *agent) cleanup(t *testing.T) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "cleanup", "--json", "--bpf.pin-dir="+a.pins, "--run.dir="+a.dir, "--state.dir="+filepath.Join(a.dir, "state")).Output()
	if err != nil {
		t.Fatal(err)
	}
	var report struct{ Removed []string }
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, want := range []string{a.pins, filepath.Join(a.pins, "oom", "totals-v1"), filepath.Join(a.dir, "state", "blackbox.json")} {
		if !slices.Contains(report.Removed, want) {
			t.Errorf("%s is not among what was removed: %q", want, report.Removed)
		}
		if _, err := os.Stat(want); err == nil {
			t.Errorf("%s was not removed", want)
		}
	}
}
