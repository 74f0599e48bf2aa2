package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A sensor that has attached holds the capabilities that docs/privileges.md lists
// and can gain no other, in none of its threads; with them it goes on doing all
// that it does, and it leaves nothing that others can read.
func TestPrivilegesAreDropped(t *testing.T) {
	a := startAgent(t)
	var keep uint64
	for _, c := range []int{
		unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_NET_ADMIN, unix.CAP_SYS_PTRACE,
		unix.CAP_DAC_READ_SEARCH, unix.CAP_DAC_OVERRIDE, unix.CAP_SYSLOG, unix.CAP_SYS_ADMIN,
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
