package vmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sonde-ebpf/sonde/internal/testenv"
)

const root = "../.."

// tested are the packages whose tests run in each kernel. The first is the rig's
// own: without the machine it checks, the others' results mean little.
var tested = []string{"internal/vmtest/testdata/guest", "bpf"}

// machineLimit bounds one boot with all its tests; they take a fraction of it.
const machineLimit = 860 * time.Second

// machines is how many run at a time. Each keeps one host CPU busy; three of the
// kernels take long, and three on two CPUs are done before two and then one.
var machines = make(chan struct{}, 3)

func TestKernels(t *testing.T) {
	needMachine(t)
	suites := compile(t, tested...)
	table := &table{}
	begin := time.Now()
	t.Run("in", func(t *testing.T) {
		for _, k := range Kernels() {
			t.Run(k.Name, func(t *testing.T) {
				t.Parallel()
				testKernel(t, k, suites, table)
			})
		}
	})
	t.Logf("%d s in all\n%s", int(time.Since(begin).Seconds()), table)
}

func testKernel(t *testing.T, k Kernel, suites []Suite, table *table) {
	dir, err := k.Fetch(t.Context(), root)
	if err != nil {
		table.add(k, nil, "not available: "+err.Error())
		if k.Required {
			t.Fatal(err)
		}
		t.Skipf("kernel %s is optional and was not tested: %v", k.Name, err)
	}
	arguments := ""
	if k.Tests != "" {
		arguments = "sonde.run=" + k.Tests
	}
	report, logs := boot(t, dir, suites, arguments, machineLimit)
	fault := report.Fault()
	table.add(k, &report, fault)
	for _, s := range report.Suites {
		if len(s.Skips) > 0 {
			t.Logf("%s skipped on %s: %s", s.Name, k.Name, strings.Join(s.Skips, " "))
		}
	}
	if slow := report.Slow(10 * time.Second); len(slow) > 0 {
		t.Logf("slow on %s: %s", k.Name, strings.Join(slow, ", "))
	}
	if fault == "" {
		return
	}
	for _, s := range report.Suites {
		if s.Status != 0 {
			t.Logf("%s on %s:\n%s", s.Name, k.Name, tail(s.Unpassed(), 16<<10))
		}
	}
	if report.Exit == NoVerdict {
		console, _ := os.ReadFile(filepath.Join(logs, "console.log"))
		t.Logf("console of %s:\n%s", k.Name, tail(string(console), 8<<10))
	}
	t.Errorf("kernel %s: %s (see %s)", k.Name, fault, logs)
}

// TestFaults proves that the rig notices a guest that fails, crashes, or
// is not done in time.
func TestFaults(t *testing.T) {
	needMachine(t)
	suites := compile(t, "internal/vmtest/testdata/guest")
	kernel := requiredKernel()
	dir, err := kernel.Fetch(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		fault string
		limit time.Duration
		want  string // part of Report.Fault
		exit  int
	}{
		{"fail", machineLimit, "1 tests failed", 1},
		{"crash", machineLimit, "died", NoVerdict},
		{"", time.Second, "did not boot", NoVerdict}, // killed at its limit
	} {
		t.Run("fault="+test.fault, func(t *testing.T) {
			t.Parallel()
			report, _ := boot(t, dir, suites, "SONDE_FAULT="+test.fault, test.limit)
			if got := report.Fault(); !strings.Contains(got, test.want) || report.Exit != test.exit {
				t.Errorf("fault %q, exit %d; want %q, %d", got, report.Exit, test.want, test.exit)
			}
		})
	}
}

// needMachine asks for what boots a machine; hack/need.sh vm installs it.
func needMachine(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("boots machines, and -short was asked for")
	}
	testenv.File(t, busybox)
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		testenv.Skip(t, "needs qemu-system-x86_64")
	}
}

func compile(t *testing.T, packages ...string) []Suite {
	t.Helper()
	var suites []Suite
	for _, dir := range packages {
		s, err := Compile(t.Context(), root, dir, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		suites = append(suites, s)
	}
	return suites
}

// boot runs the suites in a kernel when a machine is free. The second result is
// the directory with the logs, which stays only if the test fails.
func boot(t *testing.T, kernel string, suites []Suite, arguments string, limit time.Duration) (Report, string) {
	t.Helper()
	machines <- struct{}{}
	defer func() { <-machines }()

	initramfs := filepath.Join(t.TempDir(), "initramfs")
	if err := WriteInitramfs(initramfs, kernel, suites); err != nil {
		t.Fatal(err)
	}
	logs, err := os.MkdirTemp("", "sonde-vmtest-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			os.RemoveAll(logs)
		}
	})
	m := Machine{Kernel: kernel, Initramfs: initramfs, Arguments: arguments, Dir: logs, Limit: limit}
	report, err := m.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return report, logs
}

func requiredKernel() Kernel {
	for _, k := range Kernels() {
		if k.Required {
			return k
		}
	}
	panic("no kernel is required")
}

// tail returns the last part of s, at most limit bytes.
func tail(s string, limit int) string {
	if len(s) > limit {
		return "..." + s[len(s)-limit:]
	}
	return s
}

// A table collects one row per kernel, from tests that run at the same time.
type table struct {
	mu   sync.Mutex
	rows map[string]string
}

func (t *table) add(k Kernel, r *Report, verdict string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if verdict == "" {
		verdict = "ok"
	}
	row := fmt.Sprintf("%s\t-\t-\t-\t-\t-\t-\t%s", k.Name, verdict)
	if r != nil {
		var passed, failed, skipped int
		for _, s := range r.Suites {
			passed, failed, skipped = passed+s.Passed, failed+s.Failed, skipped+s.Skipped
		}
		row = fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%.1f\t%.1f\t%s", k.Name, r.Release, passed, failed, skipped,
			r.Boot.Seconds(), r.Elapsed.Seconds(), verdict)
	}
	if t.rows == nil {
		t.rows = make(map[string]string)
	}
	t.rows[k.Name] = row
}

// String lists the kernels in their own order.
func (t *table) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "kernel\trelease\tpassed\tfailed\tskipped\tboot s\tall s\tverdict")
	for _, k := range Kernels() {
		if row, ok := t.rows[k.Name]; ok {
			fmt.Fprintln(w, row)
		}
	}
	w.Flush()
	return b.String()
}
