package bpf

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/testenv"
)

// release is a kernel's: major and minor.
type release [2]int

func (r release) String() string { return fmt.Sprintf("%d.%d", r[0], r[1]) }

func (r release) before(o release) bool { return r[0] < o[0] || r[0] == o[0] && r[1] < o[1] }

// loadsSince is the first kernel that takes each probe and each kind of profile: with
// what it needs of newer kernels, as docs/kernels.md says.
var loadsSince = map[string]release{
	"kernel":            {5, 10},
	"syscalls":          {5, 12}, // atomic exchange
	"tcp":               {5, 12},
	"process":           {5, 17}, // calls back from loops
	"oom":               {5, 17},
	"drops":             {5, 17}, // reasons
	"udp":               {5, 10},
	"`/profile/node`":   {5, 10},
	"`/profile/slow`":   {5, 10},
	"`/profile/drops`":  {5, 17},
	"`bpf_map_entries`": {6, 6}, // bpf_map_sum_elem_count
}

func runningRelease(t *testing.T) (r release) {
	t.Helper()
	var name unix.Utsname
	must(t, "ask for the kernel's release", unix.Uname(&name))
	if _, err := fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &r[0], &r[1]); err != nil {
		t.Fatalf("release %q: %v", name.Release, err)
	}
	return r
}

// Every probe and profile loads in both kinds where loadsSince says so, and is refused
// with a reason before.
func TestProbesOfThisKernel(t *testing.T) {
	running := runningRelease(t)
	for _, kind := range attachKinds {
		t.Run(kind, func(t *testing.T) {
			k := newKernel(t, Options{Attach: kind, RingBytes: 1 << 20})
			t.Logf("%v, tracepoints preemptible: %v", running, k.preemptible)
			loads := func(name, how string, err error) {
				t.Logf("%-15s %s %v", name, how, err)
				switch expected := !running.before(loadsSince[name]); {
				case expected && err != nil:
					t.Errorf("%s: absent, and loads since %v: %v", name, loadsSince[name], err)
				case !expected && err == nil:
					t.Errorf("%s: loads, and is said to need %v", name, loadsSince[name])
				case err != nil && err.Error() == "":
					t.Errorf("%s: refused without a reason", name)
				}
			}
			for _, probe := range []struct {
				name string
				load func() (ProbeStatus, error)
			}{
				{"syscalls", func() (ProbeStatus, error) { return status(NewSyscalls(k, SyscallsOptions{})) }},
				{"process", func() (ProbeStatus, error) { return status(NewProcesses(k, ProcessesOptions{})) }},
				{"tcp", func() (ProbeStatus, error) { return status(NewTCP(k, TCPOptions{})) }},
				{"udp", func() (ProbeStatus, error) { return status(NewUDP(k, UDPOptions{CgroupPath: testenv.CgroupV2()})) }},
				{"drops", func() (ProbeStatus, error) { return status(NewDrops(k)) }},
				{"oom", func() (ProbeStatus, error) { return status(NewOOM(k, OOMOptions{})) }},
			} {
				s, err := probe.load()
				loads(probe.name, s.Attach+" "+s.Reason, err)
				if err == nil && !s.Attached {
					t.Errorf("%s: neither attached nor refused: %+v", probe.name, s)
				}
				if errors.Is(err, ErrNoHooks) {
					t.Errorf("%s: refused for want of hooks, which only degrades", probe.name)
				}
			}
			for path, kind := range map[string]StackKind{"node": OnCPU, "drops": PacketDrops, "slow": SlowCalls} {
				_, err := k.RecordStacks(t.Context(), 10*time.Millisecond, StackOptions{Kind: kind}, func(AddressSpace, event.Process) {})
				loads("`/profile/"+path+"`", "", err)
			}
			var uncounted error
			if k.fillCounter == nil {
				uncounted = errors.New("entries of maps are not counted")
			}
			loads("`bpf_map_entries`", "", uncounted)
		})
	}
}

func status[P interface{ Status() ProbeStatus }](p P, err error) (ProbeStatus, error) {
	if err != nil {
		return ProbeStatus{}, err
	}
	return p.Status(), nil
}

// The table of docs/kernels.md says the same as loadsSince.
func TestKernelsPage(t *testing.T) {
	if os.Getenv("SONDE_TEST_VM") != "" {
		t.Skip("no pages in the guest; the host's run compares the table")
	}
	text, err := os.ReadFile("../docs/kernels.md")
	if err != nil {
		t.Fatal(err)
	}
	var kernels []release
	said := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if strings.TrimSpace(cells[0]) == "probe" {
			for _, cell := range cells[1:] {
				var r release
				if _, err := fmt.Sscanf(cell, "%d.%d", &r[0], &r[1]); err != nil {
					t.Fatalf("column %q: %v", cell, err)
				}
				kernels = append(kernels, r)
			}
			continue
		}
		if len(kernels) == 0 || len(cells) != len(kernels)+1 {
			continue
		}
		for name, since := range loadsSince {
			if !names(cells[0], name) {
				continue
			}
			said[name] = true
			for i, cell := range cells[1:] {
				if yes := strings.TrimSpace(cell) == "yes"; yes == kernels[i].before(since) {
					t.Errorf("%s on %v: %q, and it loads since %v", name, kernels[i], cell, since)
				}
			}
		}
	}
	if len(said) != len(loadsSince) {
		t.Errorf("the table names %d of %d: %v", len(said), len(loadsSince), said)
	}
}

// names tells whether the first cell of a row speaks of the name.
func names(cell, name string) bool {
	for word := range strings.FieldsFuncSeq(cell, func(r rune) bool { return strings.ContainsRune(" ,()", r) }) {
		if word == name {
			return true
		}
	}
	return false
}
