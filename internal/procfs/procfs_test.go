package procfs

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fixture is a machine below testdata: v1 (a container without a cgroup
// namespace), v2 (a service of systemd), v2-namespace (a container), hybrid.
func fixture(machine string) FS {
	base := filepath.Join("testdata", machine)
	return New(Options{Proc: filepath.Join(base, "proc"), Sys: filepath.Join(base, "sys"), Root: filepath.Join(base, "root")})
}

func ptr(n uint64) *uint64 { return &n }

func TestSelfMemory(t *testing.T) {
	for machine, want := range map[string]Memory{
		// The slice's limit is lower than the service's own.
		"v2": {
			Limit: ptr(256 << 20), Usage: ptr(40 << 20), Peak: ptr(60 << 20),
			Events: []Count{{"low", 0}, {"high", 12}, {"max", 3}, {"oom", 1}, {"oom_kill", 1}, {"oom_group_kill", 0}},
		},
		// No limit, and a kernel without memory.peak.
		"v2-namespace": {Usage: ptr(1000000), Events: []Count{{"oom_kill", 0}}},
		// hierarchical_memory_limit knows of an ancestor that is not visible.
		"v1": {
			Limit: ptr(96 << 20), Usage: ptr(50 << 20), Peak: ptr(90000000),
			Events: []Count{{"failcnt", 42}, {"oom_kill", 2}},
		},
		// The memory controller is on v1 although v2 is mounted too; a parent limits.
		"hybrid": {Limit: ptr(20 << 20), Usage: ptr(10 << 20), Events: []Count{{"failcnt", 0}}},
	} {
		t.Run(machine, func(t *testing.T) {
			got, err := fixture(machine).SelfMemory()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSelfThrottling(t *testing.T) {
	for machine, want := range map[string]Throttling{
		"v2":     {Periods: 4521, Throttled: 17, Time: 250500 * time.Microsecond},
		"v1":     {Periods: 100, Throttled: 4, Time: 123456789},
		"hybrid": {},
	} {
		got, err := fixture(machine).SelfThrottling()
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", machine, got, err, want)
		}
	}
	if _, err := fixture("v2-namespace").SelfThrottling(); !errors.Is(err, ErrNoData) {
		t.Errorf("without cpu.stat: got %v, want ErrNoData", err)
	}
}

func TestSelfPressure(t *testing.T) {
	got, err := fixture("v2").SelfPressure()
	if err != nil {
		t.Fatal(err)
	}
	want := []Pressure{
		{"cpu", "some", 1500 * time.Millisecond}, {"cpu", "full", 250 * time.Microsecond},
		{"memory", "some", 7 * time.Millisecond}, {"memory", "full", 4 * time.Millisecond},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := fixture("hybrid").SelfPressure(); err != nil || len(got) != 2 {
		t.Errorf("hybrid: got %v, %v; want the two lines of cpu.pressure", got, err)
	}
	if _, err := fixture("v1").SelfPressure(); !errors.Is(err, ErrNoData) {
		t.Errorf("v1: got %v, want ErrNoData", err)
	}
}

func TestCgroupV2(t *testing.T) {
	host := filepath.Join("testdata", "v2-namespace", "root", "host", "sys", "fs", "cgroup")
	own := filepath.Join("testdata", "v2-namespace", "root", "sys", "fs", "cgroup")
	got, err := fixture("v2-namespace").CgroupV2(own)
	want := []Hierarchy{{Dir: host, Host: true}, {Dir: own}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("the host's root must come first: %v\n%s", err, diff)
	}
	if got, err := fixture("v1").CgroupV2("/nonexistent"); err != nil || len(got) != 0 {
		t.Errorf("v1: got %v, %v; want none", got, err)
	}
}

func TestSelfOnThisMachine(t *testing.T) {
	fs := New(Options{})
	if _, err := fs.SelfMemory(); err != nil && !errors.Is(err, ErrNoData) {
		t.Error(err)
	}
	if _, err := fs.SelfCapabilities(); err != nil {
		t.Error(err)
	}
	release, err := fs.KernelRelease()
	if err != nil {
		t.Fatal(err)
	}
	if major, _, err := KernelVersion(release); err != nil || major < 4 {
		t.Errorf("KernelVersion(%q) = %d, %v", release, major, err)
	}
	if n, err := fs.Sysctl("kernel/pid_max"); err != nil || n < 300 {
		t.Errorf("pid_max = %d, %v", n, err)
	}
}

func TestParseLockdown(t *testing.T) {
	check := func(in, want string) {
		t.Helper()
		if got, err := parseLockdown(strings.NewReader(in)); got != want || (err == nil) != (want != "") {
			t.Errorf("parseLockdown(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	check("[none] integrity confidentiality\n", "none")
	check("none [integrity] confidentiality\n", "integrity")
	check("none integrity confidentiality\n", "")
	check("", "")
}

func TestParseCapabilities(t *testing.T) {
	got, err := parseCapabilities(strings.NewReader("Name:\tsonde\nCapEff:\t000000c000201004\n"))
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint(41) {
		want := n == CapDACReadSearch || n == CapNetAdmin || n == CapSysAdmin || n == CapPerfmon || n == CapBPF
		if got.Has(n) != want {
			t.Errorf("capability %d: got %v", n, got.Has(n))
		}
	}
	if _, err := parseCapabilities(strings.NewReader("Name:\tsonde\n")); err == nil {
		t.Error("a status file without CapEff must be an error")
	}
}

func TestKernelVersion(t *testing.T) {
	check := func(release string, major, minor int) {
		t.Helper()
		a, b, err := KernelVersion(release)
		if err != nil || a != major || b != minor {
			t.Errorf("KernelVersion(%q) = %d.%d, %v", release, a, b, err)
		}
	}
	check("6.1.0-18-amd64", 6, 1)
	check("5.10", 5, 10)
	check("7.2-rc3+", 7, 2)
	for _, bad := range []string{"", "6", "six.one", "6.x", "-1.2"} {
		if _, _, err := KernelVersion(bad); err == nil {
			t.Errorf("KernelVersion(%q) must fail", bad)
		}
	}
}

func TestParseMountinfo(t *testing.T) {
	mounts, err := parseMountinfo(strings.NewReader(`1 2 0:1 / /a\040b rw,relatime shared:1 master:2 - cgroup  rw,memory` + "\n"))
	want := []Mount{{Device: 1, Root: "/", Point: "/a b", Type: "cgroup", Options: []string{"rw", "memory"}}}
	if err != nil || len(mounts) != 1 {
		t.Fatalf("got %v, %v", mounts, err)
	}
	if diff := cmp.Diff(want, mounts); diff != "" {
		t.Error(diff)
	}
	if _, err := parseMountinfo(strings.NewReader("1 2 0:1 / /a rw\n")); err == nil {
		t.Error("a line without separator must be an error")
	}
}

func TestKernelNumber(t *testing.T) {
	for release, want := range map[string]struct {
		number uint32
		dotted string
	}{
		"4.17.19":                       {266515, "4.17.19"},
		"4.18.0-553.el8_10.x86_64":      {266752, "4.18.0"},
		"5.10.165-143.735.amzn2.x86_64": {330405, "5.10.165"},
		"6.18.44":                       {397868, "6.18.44"},
		"4.9.337":                       {264703, "4.9.337"}, // capped at 255
		"7.2-rc1":                       {459264, "7.2"},
		"6.1+":                          {393472, "6.1"},
	} {
		number, err := KernelNumber(release)
		if err != nil || number != want.number || KernelDotted(release) != want.dotted {
			t.Errorf("%s: %d, %q, %v; want %d, %q", release, number, KernelDotted(release), err, want.number, want.dotted)
		}
	}
	if n, err := KernelNumber("plan9"); err == nil {
		t.Errorf("plan9 is kernel %d", n)
	}
}
