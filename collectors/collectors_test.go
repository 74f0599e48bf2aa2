package collectors_test

import (
	"context"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/procfs"
)

// mustCollect collects and wants no error.
func mustCollect(t *testing.T, c collectors.Collector) []prometheus.Metric {
	t.Helper()
	all, err := c.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// names returns the families among the samples.
func names(all []prometheus.Metric) map[string]bool {
	found := map[string]bool{}
	for _, m := range all {
		found[strings.TrimPrefix(m.(*metric.Series).Family().Name, metric.Prefix)] = true
	}
	return found
}

func TestSyscallsTotalIsTheCountOfTheHistogram(t *testing.T) {
	shown := collect(t, busy())
	total := map[string]float64{}
	for _, s := range shown["sonde_syscalls_total"] {
		total[strings.Join(s.LabelValues(), " ")] = s.Value()
	}
	for _, s := range shown["sonde_syscall_duration_seconds"] {
		h, _ := s.Histogram()
		if key := strings.Join(s.LabelValues(), " "); float64(h.Count) != total[key] || h.Count == 0 {
			t.Errorf("%s: histogram %d, counter %v", key, h.Count, total[key])
		}
	}
}

// TestSyscallsTotalAtTheCap: what shares a budget is folded alike.
func TestSyscallsTotalAtTheCap(t *testing.T) {
	all := mustCollect(t, collectors.NewSyscalls(manySyscalls(20), attached, collectors.Limits{Series: 8, Idle: time.Hour}))
	durations, total := map[string]uint64{}, map[string]float64{}
	for _, m := range all {
		s := m.(*metric.Series)
		key := strings.Join(s.LabelValues(), " ")
		if h, ok := s.Histogram(); ok {
			durations[key] = h.Count
		} else if s.Family().Name == "sonde_syscalls_total" {
			total[key] = s.Value()
		}
	}
	for key, n := range durations {
		if total[key] != float64(n) {
			t.Errorf("%s: histogram %d, counter %v", key, n, total[key])
		}
	}
	if len(durations) != 7 || len(total) != 7 { // 5 of their own, other of both outcomes
		t.Errorf("%d histograms and %d counters, want 7 of each", len(durations), len(total))
	}
	if got := value(t, all, "sonde_series_limited_total", "sonde_syscalls_total"); got != 15 {
		t.Errorf("limited: %v, want 15", got)
	}
}

func TestSumsAreInBaseUnits(t *testing.T) {
	shown := collect(t, busy())
	for family, want := range map[string]float64{
		"sonde_syscall_duration_seconds": 0.016012345,
		"sonde_process_lineage_depth":    16,
	} {
		h, _ := shown[family][0].Histogram()
		if math.Abs(h.Sum-want) > 1e-12 {
			t.Errorf("%s: sum %v, want %v", family, h.Sum, want)
		}
	}
}

// TestBucketsKeepTheirPlace: the bucket of the kernel's index -79 is that of
// 2^(-79/4) s, about 1.1 µs.
func TestBucketsKeepTheirPlace(t *testing.T) {
	h, _ := collect(t, busy())["sonde_syscall_duration_seconds"][0].Histogram()
	spans, _ := h.Native(nil, nil)
	if got, want := spans[0].Offset, metric.Index(1.1e-6); got != want {
		t.Errorf("first bucket %d, want %d", got, want)
	}
}

// TestConnectionsFailedFold: error numbers above the cap join those that the kernel
// side could not tell apart, and both are counted as folded.
func TestConnectionsFailedFold(t *testing.T) {
	s := busy()
	limits := collectors.Limits{Series: 12, Idle: time.Minute} // 9 common ones, 3 of "other"
	all := mustCollect(t, collectors.NewConnections(collectors.ConnectionsOptions{TCP: s.tcp, Limits: limits}))
	if got := value(t, all, "sonde_connections_failed_total", "outbound", "other"); got != 3 {
		t.Errorf("other: %v, want 1 of its own and 2 of ENOKEY", got)
	}
	if got := value(t, all, "sonde_series_limited_total", "sonde_connections_failed_total"); got != 2 {
		t.Errorf("limited: %v, want 1 in the kernel and 1 here", got)
	}
	if got := value(t, all, "sonde_connections_failed_total", "outbound", "ECONNREFUSED"); got != 4 {
		t.Errorf("ECONNREFUSED: %v, want 4", got)
	}
}

// TestConnectionsWithoutAProbe: a probe that is refused costs its own protocol, as
// series that are absent and not 0.
func TestConnectionsWithoutAProbe(t *testing.T) {
	s, limits := busy(), collectors.Limits{Series: 1000, Idle: time.Hour}
	for _, test := range []struct {
		name    string
		options collectors.ConnectionsOptions
		series  int // of sonde_connections
		err     error
	}{
		{"no udp", collectors.ConnectionsOptions{TCP: s.tcp, Limits: limits}, 6, nil},
		{"no tcp", collectors.ConnectionsOptions{UDP: s.udp}, 6, nil},
		{"neither", collectors.ConnectionsOptions{}, 0, nil},
		{"tcp fails", collectors.ConnectionsOptions{TCP: fake[bpf.TCPStats]{err: errFake}, UDP: s.udp, Limits: limits}, 6, errFake},
	} {
		t.Run(test.name, func(t *testing.T) {
			all, err := collectors.NewConnections(test.options).Collect(t.Context())
			if !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			n := 0
			for _, m := range all {
				if m.(*metric.Series).Family().Name == "sonde_connections" {
					n++
				}
			}
			if n != test.series {
				t.Errorf("%d series, want %d", n, test.series)
			}
		})
	}
}

// TestErrorsArePassedOn: every collector whose source can fail says so.
func TestErrorsArePassedOn(t *testing.T) {
	s := busy()
	s.syscalls.err, s.processes.err, s.tcp.err, s.drops.err, s.oom.err = errFake, errFake, errFake, errFake, errFake
	s.ledger.err, s.programs.err, s.fs.err = errFake, errFake, errFake
	s.workloads.err = errFake
	for name, c := range s.collectors() {
		_, err := c.Collect(t.Context())
		infallible := map[string]bool{"probes": true, "start": true, "build": true, "log": true, "config": true, "containers": true, "state": true, "gvisor": true, "profiles": true}[name]
		if errors.Is(err, errFake) == infallible {
			t.Errorf("collector %s: error %v", name, err)
		}
	}
}

func TestGroupShowsWhatItCan(t *testing.T) {
	s := busy()
	g := collectors.Group{
		collectors.NewPacketDrops(fake[[]bpf.DropStat]{err: errFake}, attached, collectors.Limits{Series: 1000, Idle: time.Hour}),
		collectors.NewOOMKills(s.oom, s.box),
	}
	all, err := g.Collect(t.Context())
	if !errors.Is(err, errFake) || len(all) != 4 {
		t.Errorf("%d samples and error %v, want 4 and %v", len(all), err, errFake)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if all, err := g.Collect(ended); !errors.Is(err, context.Canceled) || len(all) != 0 {
		t.Errorf("after the deadline: %d samples and error %v", len(all), err)
	}
}

func TestSensorMemoryLimit(t *testing.T) {
	faults := collectors.NewProcfsErrors()
	for _, test := range []struct {
		name string
		fs   fakeFS
		want map[string]bool // of the cgroup's families
	}{
		{"no limit", fakeFS{}, map[string]bool{"sensor_memory_limit_bytes": true}},
		{"no controller", fakeFS{err: procfs.ErrNoData}, map[string]bool{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := mustCollect(t, collectors.NewSensorMemory(test.fs, fakeFS{}, nil, faults))
			got := names(all)
			delete(got, "sensor_memory_bytes")
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("families (-want +got):\n%s", diff)
			}
			if got["sensor_memory_limit_bytes"] && !math.IsInf(value(t, all, "sonde_sensor_memory_limit_bytes"), 1) {
				t.Error("no limit is not shown as +Inf")
			}
		})
	}
}

// TestSensorMemorySplit: what the Go runtime holds is plausible for this process.
func TestSensorMemorySplit(t *testing.T) {
	s := busy()
	all := mustCollect(t, collectors.NewSensorMemory(s.fs, s.fs, s.maps, collectors.NewProcfsErrors()))
	for _, kind := range []string{"go_heap", "go_other"} {
		if v := value(t, all, "sonde_sensor_memory_bytes", kind); v < 1<<16 || v > 1<<32 {
			t.Errorf("%s is %v bytes", kind, v)
		}
	}
	if got, want := value(t, all, "sonde_sensor_memory_bytes", "bpf"), float64(13<<20+8192); got != want {
		t.Errorf("bpf is %v bytes, want the sum over maps, %v", got, want)
	}
}

func TestProcfsErrorsCountsOthersFailures(t *testing.T) {
	faults := collectors.NewProcfsErrors()
	for _, c := range []collectors.Collector{
		collectors.NewSensorCPU(fakeFS{err: errFake}, faults),
		collectors.NewSensorCPU(fakeFS{err: errFake}, faults),
		collectors.NewSensorPressure(fakeFS{err: procfs.ErrNoData}, faults),
	} {
		_, _ = c.Collect(t.Context()) // the errors are what is counted
	}
	all := mustCollect(t, faults)
	if got := value(t, all, "sonde_procfs_errors_total", "cgroup_cpu"); got != 2 {
		t.Errorf("cgroup_cpu: %v, want 2", got)
	}
	if got := value(t, all, "sonde_procfs_errors_total", "cgroup_pressure"); got != 0 {
		t.Errorf("cgroup_pressure: %v, but a kernel without PSI is no error", got)
	}
}

func TestSelfStatus(t *testing.T) {
	status, err := collectors.NewSelfStatus("/proc")
	if err != nil {
		t.Fatal(err)
	}
	mapped, err := status.Mapped()
	if err != nil {
		t.Fatal(err)
	}
	if page := uint64(os.Getpagesize()); mapped < page || mapped > 1<<32 || mapped%page != 0 {
		t.Errorf("%d bytes mapped", mapped)
	}
}

func TestMapsWithoutACount(t *testing.T) {
	s := busy()
	all := mustCollect(t, collectors.NewBPF(s.programs, s.maps, nil))
	n := 0
	for _, m := range all {
		if m.(*metric.Series).Family().Name == "sonde_bpf_map_entries" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d series of entries, want only that of the map that counts them", n)
	}
}

// TestRunTimesWithoutStatistics: where the kernel refused them, run times are
// unknown and not 0; missed runs are always counted.
func TestRunTimesWithoutStatistics(t *testing.T) {
	s := busy()
	for name, stats := range map[string]collectors.RunStatsSource{"none": nil, "refused": fakeRunStats(0)} {
		found := names(mustCollect(t, collectors.NewBPF(s.programs, s.maps, stats)))
		if found["bpf_program_runs_total"] || found["bpf_program_run_seconds_total"] || !found["bpf_program_missed_total"] {
			t.Errorf("%s: families %v", name, found)
		}
	}
}

func TestProbeReasonIsOneShortLine(t *testing.T) {
	long := strings.Repeat("ä", 200) + "\xff\nsecond line"
	all := mustCollect(t, collectors.NewProbes(fakeProbes{{Probe: "udp", Reason: long}}))
	reason := all[1].(*metric.Series).LabelValues()[2]
	if len(reason) > 160 || len(reason) < 150 || !utf8.ValidString(reason) || strings.Contains(reason, "\n") {
		t.Errorf("reason %q (%d bytes)", reason, len(reason))
	}
}

func TestExemplarsRememberTheLatest(t *testing.T) {
	e := collectors.NewExemplars("n")
	if got := e.Exemplar(collectors.ProcessLifetime); got != nil {
		t.Errorf("before any event: %+v", got)
	}
	for pid := range uint32(3) {
		e.Record(&event.Event{Point: event.ProcessExit, Process: event.Process{PID: pid, StartNS: 7}, Exit: event.Exit{LifetimeNS: 2e9}})
	}
	e.Record(&event.Event{Point: event.ProcessExec, Process: event.Process{PID: 9}})
	e.Record(&event.Event{Point: event.NetworkClose, TimeNS: 5, Conn: event.Conn{Protocol: 17, OpenedNS: 1}})
	got := e.Exemplar(collectors.ProcessLifetime)
	if got.ID != "bjo3OjI=" || got.Value != 2 { // n:7:2
		t.Errorf("exemplar %+v", got)
	}
	if got := e.Exemplar(collectors.ConnectionOutbound); got != nil {
		t.Errorf("a UDP flow became an exemplar: %+v", got)
	}
}

func TestExemplarsRecordAllocatesNothing(t *testing.T) {
	e := collectors.NewExemplars("n")
	ev := event.Event{Point: event.ProcessExit, Exit: event.Exit{LifetimeNS: 1}}
	if n := testing.AllocsPerRun(1000, func() { e.Record(&ev) }); n != 0 {
		t.Errorf("%v allocations for an event", n)
	}
}

// A collector that is paused shows nothing, and everything again afterwards.
func TestPausable(t *testing.T) {
	s := busy()
	c := collectors.NewPausable(collectors.NewShed(s.shed))
	for _, paused := range []bool{false, true, false} {
		c.Pause(paused)
		if all, err := c.Collect(t.Context()); err != nil || (len(all) == 0) != paused {
			t.Errorf("paused %v: %d samples, error %v", paused, len(all), err)
		}
	}
}
