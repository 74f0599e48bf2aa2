package collectors_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/sonde-ebpf/sonde/bpf"
	"github.com/sonde-ebpf/sonde/collectors"
	"github.com/sonde-ebpf/sonde/internal/blackbox"
	"github.com/sonde-ebpf/sonde/internal/event"
	"github.com/sonde-ebpf/sonde/internal/metric"
	"github.com/sonde-ebpf/sonde/internal/procfs"
	"github.com/sonde-ebpf/sonde/internal/profile"
	"github.com/sonde-ebpf/sonde/internal/rules"
	"github.com/sonde-ebpf/sonde/internal/shed"
)

// sources is everything the collectors read from.
type sources struct {
	syscalls   fake[bpf.SyscallStats]
	processes  fake[bpf.ProcessStats]
	tcp        fake[bpf.TCPStats]
	udp        fake[bpf.UDPStats]
	drops      fake[[]bpf.DropStat]
	oom        fake[[]bpf.OOMStat]
	box        fakeBox
	shed       fakeShed
	ledger     fakeLedger
	reader     fakeReader
	rings      fakeRings
	pipeline   fakePipeline
	sanitized  fakeSanitized
	sessions   fakeSessions
	rules      *rules.Engine
	digests    fakeDigests
	probes     fakeProbes
	programs   fakePrograms
	maps       fakeMaps
	runStats   fakeRunStats
	fs         fakeFS
	start      fakeStart
	levels     fakeLevels
	containers fakeContainers
	state      fakeState
	profiles   fakeProfiles
	workloads  fakeWorkloads
	exemplars  *collectors.Exemplars
	gvisor     fakeGVisor
}

// idle is a sensor that has just started: nothing has happened yet.
func idle() sources {
	s := sources{exemplars: collectors.NewExemplars("node-1"), containers: idleContainers(), state: idleState(), gvisor: idleGVisor(), rules: idleRules()}
	for _, p := range event.AllPoints() {
		s.ledger.value = append(s.ledger.value, bpf.LedgerStat{Point: p})
	}
	for _, reason := range []string{"attach", "fork", "seccomp", "no_slot"} {
		s.syscalls.value.Unpaired = append(s.syscalls.value.Unpaired, bpf.UnpairedStat{Reason: reason})
	}
	for _, b := range []*bpf.Buckets{
		&s.processes.value.Lifetime,
		&s.tcp.value.Duration[bpf.Inbound], &s.tcp.value.Duration[bpf.Outbound],
		&s.tcp.value.Handshake[bpf.Inbound], &s.tcp.value.Handshake[bpf.Outbound],
		&s.tcp.value.RTT[bpf.Inbound], &s.tcp.value.RTT[bpf.Outbound],
	} {
		b.Nanoseconds = true
	}
	s.pipeline.delay.Created = attached
	s.profiles = profile.NewNode(profile.NodeOptions{}).Stats()
	s.sessions.delay.Created = attached
	return s
}

// busy is a sensor that has something to show of every family.
func busy() sources {
	s := idle()
	duration := nanoseconds()
	s.syscalls.value.Calls = []bpf.SyscallStat{
		{Syscall: "openat", Outcome: "error", Count: duration.Count(), Duration: &duration},
		{Syscall: "openat", Outcome: "success", Count: duration.Count(), Duration: &duration},
		{Syscall: "exit_group", Outcome: "success", Count: 7},
	}
	s.syscalls.value.Errors = []bpf.SyscallErrorStat{
		{Syscall: "openat", Errno: "ENOENT", Count: 10}, {Syscall: "ppoll", Errno: "restart", Count: 2},
	}
	s.syscalls.value.Unpaired[1].Count = 3
	s.syscalls.value.FoldedCalls, s.syscalls.value.FoldedErrors = 5, 2
	s.processes.value = bpf.ProcessStats{
		Execs: 11, ForksProcess: 12, ForksThread: 13, ExitsZero: 14, ExitsNonzero: 15, ExitsSignal: 16, ExitsOOM: 1,
		Live: 210, Lifetime: duration, LineageDepth: integers(),
	}
	s.tcp.value = bpf.TCPStats{
		Failed: []bpf.ConnErrorStat{
			{Direction: bpf.Outbound, Errno: "ECONNREFUSED", Count: 4},
			{Direction: bpf.Outbound, Errno: "ENOKEY", Count: 2},
			{Direction: bpf.Outbound, Errno: "other", Count: 1},
			{Direction: bpf.Inbound, Errno: "aborted", Count: 5},
		},
		Duration: [2]bpf.Buckets{duration, duration}, Handshake: [2]bpf.Buckets{duration, duration}, RTT: [2]bpf.Buckets{duration, duration},
		Retransmits: 6, ResetsSent: 7, ResetsReceived: 8, Listeners: 9,
	}
	s.tcp.value.Conns[bpf.Inbound][bpf.Public] = bpf.ConnStat{Open: 3, Opened: 30, Closed: 28, Sent: 5000, Received: 600}
	s.udp.value.Endpoints = 12
	s.udp.value.Flows[bpf.Outbound][bpf.Loopback] = bpf.ConnStat{Open: 1, Opened: 10, Closed: 9}
	s.drops.value = []bpf.DropStat{{Reason: "no_socket", Count: 17}, {Reason: "netfilter_drop", Count: 18}}
	s.oom.value = []bpf.OOMStat{{Victim: "other", Scope: "cgroup", Count: 2}}
	s.shed = fakeShed{level: 2, transitions: [shed.Levels]uint64{1, 2, 1, 0}}
	s.box = fakeBox{
		Ends:  map[string]blackbox.Tally{"oom_kill": {Count: 2, Last: attached}, "clean": {Count: 7, Last: attached}, "unknown": {Count: 1}},
		Kills: map[string]uint64{"cgroup": 2},
	}
	s.ledger.value[event.ProcessExec] = bpf.LedgerStat{Point: event.ProcessExec, Attempted: 11, Submitted: 9, Dropped: 2}
	s.reader = fakeReader{Read: 9, Undecodable: 1}
	s.rings.value = []bpf.RingStat{{Ring: "events", SizeBytes: 8 << 20, UsedBytes: 4096, PeakBytes: 65536}}
	delay := metric.Buckets{First: duration.First, Counts: duration.Counts, Sum: 0.016012345, Created: attached}
	s.pipeline = fakePipeline{delay: delay, future: 1, past: 2, lost: 3}
	s.pipeline.events[event.ProcessExec] = 8
	s.sanitized = fakeSanitized{Cut: 2, Repaired: 1, Unreadable: 3, Redacted: 4}
	s.sessions = busySessions(delay)
	s.rules = busyRules()
	s.digests = fakeDigests{7, 1, 2, 3, 4}
	s.probes = fakeProbes{
		{Probe: "kernel", Attached: true, Attach: "tp_btf"},
		{Probe: "udp", Reason: "attach cgroup_skb: operation not permitted\nsecond line"},
	}
	s.programs.value = []bpf.ProgramStat{{Program: "sys_exit_btf", Run: 1.5, Runs: 1000}, {Program: "sys_enter_btf", Run: 0.5, Runs: 1001, Missed: 1}}
	s.maps.value = []bpf.MapStat{
		{Map: "alive", Entries: new(uint64(210)), MaxEntries: 65536, MemoryBytes: 5 << 20, UpdateFailures: 1},
		{Map: "events", MaxEntries: 8 << 20, MemoryBytes: 8<<20 + 8192},
	}
	s.runStats = fakeRunStats(90 * time.Second)
	s.fs = fakeFS{
		memory: procfs.Memory{
			Limit: new(uint64(256 << 20)), Usage: new(uint64(40 << 20)), Peak: new(uint64(60 << 20)),
			Events: []procfs.Count{{Name: "low"}, {Name: "high"}, {Name: "max", Value: 3}, {Name: "oom"}, {Name: "oom_kill"}, {Name: "oom_group_kill"}, {Name: "failcnt", Value: 3}},
		},
		throttling: procfs.Throttling{Periods: 100, Throttled: 3, Time: 250 * time.Millisecond},
		pressure: []procfs.Pressure{
			{Resource: "cpu", Kind: "some", Time: time.Second}, {Resource: "cpu", Kind: "full"},
			{Resource: "io", Kind: "some", Time: time.Millisecond}, {Resource: "io", Kind: "full"},
			{Resource: "memory", Kind: "some", Time: time.Microsecond}, {Resource: "memory", Kind: "full"},
		},
		mapped: 12 << 20,
	}
	s.start = fakeStart{{Step: "load_kernel", Duration: 120 * time.Millisecond, Success: true}, {Step: "attach_udp", Duration: time.Millisecond}}
	s.levels = fakeLevels{"bpf": slog.LevelDebug, "exporter": slog.LevelInfo}
	s.profiles[profile.CPU].Profiles, s.profiles[profile.CPU].Outcomes[0].Count = 2, 1980
	s.containers = busyContainers()
	s.state = busyState()
	s.gvisor = busyGVisor()
	s.workloads.value = []bpf.WorkloadStat{
		{Key: bpf.WorkloadKey{V2: 1}, Execs: 4, SyscallErrors: 90},
		{Key: bpf.WorkloadKey{V2: 7}, ConnectionsOpened: 3, ConnectionsFailed: 1, SentBytes: 5000, ReceivedBytes: 600, Execs: 2, OOMKills: 1, SyscallErrors: 8},
	}
	return s
}

// collectors returns every collector under the name the sensor gives it.
func (s *sources) collectors() map[string]collectors.Collector {
	faults, limits := collectors.NewProcfsErrors(), collectors.Limits{Series: 1000, Idle: time.Hour}
	return map[string]collectors.Collector{
		"syscalls": collectors.NewSyscalls(s.syscalls, attached, limits),
		"process":  collectors.NewProcess(s.processes, attached, s.exemplars),
		"connections": collectors.NewConnections(collectors.ConnectionsOptions{
			TCP: s.tcp, TCPCreated: attached, UDP: s.udp, UDPCreated: attached, Exemplars: s.exemplars, Limits: limits,
		}),
		"drops": collectors.NewPacketDrops(s.drops, attached, limits),
		"oom":   collectors.Group{collectors.NewOOMKills(s.oom, s.box), collectors.NewTerminations(s.box)},
		"pipeline": collectors.Group{
			collectors.NewEvents(s.ledger, s.reader, s.sessions, attached),
			collectors.NewEventTiming(s.pipeline, s.sessions),
			collectors.NewStrings(s.sanitized, attached),
			collectors.NewSessions(s.sessions),
			collectors.NewRules(s.rules, attached),
			collectors.NewDigests(s.digests, attached),
			collectors.NewRings(s.rings, s.pipeline),
			collectors.NewCanary(s.pipeline),
			collectors.NewOperations(s.pipeline),
		},
		"probes": collectors.NewProbes(s.probes),
		"bpf":    collectors.NewBPF(s.programs, s.maps, s.runStats),
		"sensor": collectors.Group{
			collectors.NewSensorMemory(s.fs, s.fs, s.maps, faults),
			collectors.NewShed(s.shed),
			collectors.NewSensorCPU(s.fs, faults),
			collectors.NewSensorPressure(s.fs, faults),
			faults,
		},
		"start":      collectors.NewStart(s.start),
		"build":      collectors.BuildInfo{Version: "1.2.3", Revision: "0123456789ab", GoVersion: "go1.26.0"},
		"log":        collectors.NewLogLevel(s.levels),
		"config":     collectors.NewConfig(fakeConfig{}),
		"containers": collectors.NewContainers(s.containers),
		"profiles":   collectors.NewProfiles(s.profiles, attached),
		"state":      collectors.NewState(s.state, s.containers, s.state),
		"gvisor":     collectors.NewGVisor(s.gvisor, attached),
		"workloads":  collectors.NewWorkloads(s.workloads, s.workloads, limits),
	}
}

// record lets the fake sensor see the end of a process and of a connection.
func (s *sources) record(t testing.TB) {
	t.Helper()
	process := event.Process{PID: 4242, StartNS: 987654321}
	s.exemplars.Record(&event.Event{Point: event.ProcessExit, Process: process, Exit: event.Exit{LifetimeNS: 15_000_000}})
	s.exemplars.Record(&event.Event{
		Point: event.NetworkClose, Process: process, TimeNS: 3_500_000_000,
		Conn: event.Conn{Protocol: 6, Inbound: true, OpenedNS: 1_000_000_000},
	})
}
