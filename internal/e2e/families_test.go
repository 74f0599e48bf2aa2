package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/exporter"
	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// unmoved are the counters and histograms that the reference workload does not move,
// with what would. Whatever is not here must move.
var unmoved = map[string]string{
	"sonde_bpf_map_update_failures_total":      "a map that is full",
	"sonde_bpf_program_missed_total":           "a program that interrupts itself",
	"sonde_canary_lost_total":                  "an event path that is stuck",
	"sonde_container_lookups_total":            "containers",
	"sonde_container_lookup_duration_seconds":  "a container runtime",
	"sonde_connection_reports_deferred_total":  "more connections of a container than its limit",
	"sonde_connection_reports_missed_total":    "connections that end sooner than they are looked at",
	"sonde_event_clock_anomalies_total":        "a clock that jumps",
	"sonde_events_dropped_total":               "a reader that is too slow: TestStoppedReaderLosesEventsNotCounts",
	"sonde_executable_digests_total":           "a session that wants digests",
	"sonde_gvisor_dropped_total":               "a sandbox",
	"sonde_gvisor_events_total":                "a sandbox",
	"sonde_gvisor_malformed_total":             "a sandbox",
	"sonde_gvisor_messages_total":              "a sandbox",
	"sonde_gvisor_rejected_total":              "a sandbox",
	"sonde_oom_kills_total":                    "a lack of memory",
	"sonde_procfs_errors_total":                "files that cannot be read",
	"sonde_profile_samples_total":              "somebody who asks for a profile of the node",
	"sonde_profiles_total":                     "somebody who asks for a profile",
	"sonde_push_failures_total":                "a receiver that fails",
	"sonde_sensor_cpu_throttled_seconds_total": "a CPU limit",
	"sonde_sensor_memory_events_total":         "a memory limit",
	"sonde_sensor_pressure_seconds_total":      "pressure",
	"sonde_sensor_shed_transitions_total":      "a memory limit that is near",
	"sonde_sensor_terminations_total":          "an earlier run of the sensor",
	"sonde_rule_failures_total":                "a text that the kernel cannot read",
	"sonde_rule_matches_total":                 "what rules are about: TestDefaultRules",
	"sonde_series_limited_total":               "more label sets than a budget",
	"sonde_state_drift_total":                  "events that were lost",
	"sonde_state_evictions_total":              "a table that is full",
	"sonde_strings_sanitized_total":            "a text that is not UTF-8",
	"sonde_syscalls_unpaired_total":            "calls refused by seccomp, or under way at the start: it may move",
	"sonde_sink_errors_total":                  "a sink that fails",
	"sonde_tcp_retransmits_total":              "a network that loses segments",
	"sonde_workload_oom_kills_total":           "a lack of memory",
}

// absent are the families that may be without a sample, each with what tells whether
// this machine lacks what it shows. Whatever is not here must have one.
var absent = map[string]func(procfs.FS) bool{
	"sonde_bpf_map_entries":                           before66,
	"sonde_sensor_cpu_throttled_seconds_total":        noThrottling,
	"sonde_sensor_last_termination_timestamp_seconds": always, // this is the first run of the sensor
	"sonde_sensor_memory_events_total":                memoryWithout(func(m procfs.Memory) bool { return len(m.Events) == 0 }),
	"sonde_sensor_memory_limit_bytes":                 memoryWithout(func(procfs.Memory) bool { return false }),
	"sonde_sensor_memory_peak_bytes":                  memoryWithout(func(m procfs.Memory) bool { return m.Peak == nil }),
	"sonde_sensor_memory_usage_bytes":                 memoryWithout(func(m procfs.Memory) bool { return m.Usage == nil }),
	"sonde_sensor_pressure_seconds_total":             noPressure,
}

func always(procfs.FS) bool { return true }

// before66 tells whether the kernel is older than bpf_map_sum_elem_count.
func before66(fs procfs.FS) bool {
	release, err := fs.KernelRelease()
	if err != nil {
		return false
	}
	major, minor, err := procfs.KernelVersion(release)
	return err == nil && (major < 6 || major == 6 && minor < 6)
}

// The sensor's cgroup is that of the test.

func noThrottling(fs procfs.FS) bool {
	_, err := fs.SelfThrottling()
	return errors.Is(err, procfs.ErrNoData)
}

func noPressure(fs procfs.FS) bool {
	stalls, err := fs.SelfPressure()
	return len(stalls) == 0 && (err == nil || errors.Is(err, procfs.ErrNoData))
}

// memoryWithout tells whether there is no memory controller, or one that lacks a number.
func memoryWithout(lacks func(procfs.Memory) bool) func(procfs.FS) bool {
	return func(fs procfs.FS) bool {
		m, err := fs.SelfMemory()
		return errors.Is(err, procfs.ErrNoData) || err == nil && lacks(m)
	}
}

// Every family of the catalogue has a sample, and every counter and histogram moves
// under a workload of processes, connections, flows, failures and scrapes, with every
// collector on and a session.
func TestEveryFamilyLives(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }))
	defer receiver.Close()
	file := filepath.Join(t.TempDir(), "sonde.yaml")
	session := `{rules: {files: [default]}, sessions: [{name: all, points: [{name: process/exec}, {name: network/connect}], sinks: [{name: "null", config: {deny_list: [{event_set: [PROCESS_KPROBE]}]}}]}]}`
	if err := os.WriteFile(file, []byte(session), 0o600); err != nil {
		t.Fatal(err)
	}
	a := startAgent(t, "--config.file="+file, "--collector.workloads", "--push.url="+receiver.URL, "--push.interval=1s",
		"--gvisor.endpoint="+t.TempDir()+"/gvisor.sock")
	before := a.families(t)
	referenceWorkload(t)
	machine := procfs.New(procfs.Options{})
	waitUntil(t, func() error {
		now := a.families(t)
		var faults []error
		for _, f := range slices.Concat(collectors.Declared(), exporter.Declared()) {
			faults = append(faults, lives(machine, f, before[f.Name], now[f.Name]))
		}
		return errors.Join(faults...)
	})
}

// lives says what is missing of a family.
func lives(machine procfs.FS, f metric.Family, before, now *dto.MetricFamily) error {
	switch {
	case len(now.GetMetric()) == 0 && (absent[f.Name] == nil || !absent[f.Name](machine)):
		return fmt.Errorf("%s has no sample", f.Name)
	case len(now.GetMetric()) == 0 || f.Type == metric.TypeGauge || unmoved[f.Name] != "":
		return nil
	}
	if was, is := total(before), total(now); is <= was {
		return fmt.Errorf("%s does not move: %v, then %v", f.Name, was, is)
	}
	return nil
}

func total(f *dto.MetricFamily) float64 {
	return sum(map[string]*dto.MetricFamily{f.GetName(): f}, f.GetName())
}

// referenceWorkload does a little of everything that the probes count.
func referenceWorkload(t *testing.T) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		must(act(t, "nothing").Run())
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	defer l.Close()
	for i := range 50 {
		c, err := net.Dial("tcp", l.Addr().String())
		must(err)
		s, err := l.Accept()
		must(err)
		_, err = c.Write([]byte("hello"))
		must(err)
		_, err = io.ReadFull(s, make([]byte, 5))
		must(err)
		if i%2 == 0 {
			must(c.(*net.TCPConn).SetLinger(0)) // ends with a reset
		}
		must(errors.Join(c.Close(), s.Close()))
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	refuses := free.Addr().String()
	must(free.Close())
	if c, err := net.Dial("tcp", refuses); err == nil {
		c.Close() // somebody else has taken the port: the failures of other programs will do
	}

	flow, err := net.Dial("udp", refuses) // nobody listens: the packet is dropped
	must(err)
	for range 10 {
		_, _ = flow.Write([]byte("hello"))
	}
	must(flow.Close())
}

// The sensor's count of forks lies between the kernel's own, read around it.
func TestForksAreTheKernels(t *testing.T) {
	a := startAgent(t)
	forks := func() float64 { return sum(a.families(t), "sonde_process_forks_total") }
	// A fork that is under way at a reading is in one count and not yet in the other:
	// then it takes another attempt.
	waitUntil(t, func() error {
		low0, first, high0 := nodeForks(t), forks(), nodeForks(t)
		for range 20 {
			if err := act(t, "nothing").Run(); err != nil {
				t.Fatal(err)
			}
		}
		low1, last, high1 := nodeForks(t), forks(), nodeForks(t)
		counted, least, most := last-first, low1-high0, high1-low0
		if least < 20 {
			t.Fatalf("20 processes made, and the kernel counts %v forks", least)
		}
		if counted < least || counted > most {
			return fmt.Errorf("counted %v forks, the kernel between %v and %v", counted, least, most)
		}
		return nil
	})
}
