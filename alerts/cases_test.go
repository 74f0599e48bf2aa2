package alerts_test

import (
	"fmt"
	"time"
)

type labels = map[string]string

// cases covers every alert. A text says what the reader of the alert sees.
var cases = []unitCase{
	// Availability.
	{
		alert: "SondeAbsent", target: "job", text: "No target of the job sonde exists.",
		fault: []string{`up{job="another"}  1+0x60`}, near: []string{`up{S}  0+0x60`},
	},
	{
		alert: "SondeDown", text: "n:9743 does not answer.",
		fault: []string{`up{S}  0+0x60`}, near: []string{`up{S}  1+0x60`, `up{job="another", instance="x"}  0+0x60`},
	},
	{
		alert: "SondeFleetDown", target: "job", text: "Only 80% of the sensors answer.",
		fault: fleet(10, 2), near: fleet(10, 1),
	},
	{
		alert: "SondeRestarting", text: "n:9743 has started 3 times within 30 minutes.",
		fault: []string{`process_start_time_seconds{S}  1+0x9 2+0x4 3+0x2 4+0x60`}, near: []string{`process_start_time_seconds{S}  1+0x9 2+0x4 3+0x60`},
	},
	{
		alert: "SondeOOMKilled", labels: labels{"reason": "oom_kill"},
		text:  "n:9743 was killed for want of memory within the last 30 minutes, and has started again.",
		fault: []string{`sonde_sensor_terminations_total{S, reason="oom_kill"}  4+0x9 5+0x60`},
		near:  []string{`sonde_sensor_terminations_total{S, reason="oom_kill"}  4+0x60`, `sonde_sensor_terminations_total{S, reason="clean"}  0+1x60`},
	},
	{
		alert: "SondeCrashed", labels: labels{"reason": "crash"},
		text:  "n:9743 ended by crash within the last 30 minutes, and has started again.",
		fault: []string{`sonde_sensor_terminations_total{S, reason="crash"}  0+0x9 1+0x60`},
		near:  []string{`sonde_sensor_terminations_total{S, reason="clean"}  0+1x60`, `sonde_sensor_terminations_total{S, reason="crash"}  2+0x60`},
	},
	{
		alert: "SondeDisabled", text: "No probe of n:9743 is attached.",
		fault: []string{`sonde_probe_attached{S, probe="tcp"}  0+0x60`, `sonde_probe_attached{S, probe="oom"}  0+0x60`},
		near:  []string{`sonde_probe_attached{S, probe="tcp"}  0+0x60`, `sonde_probe_attached{S, probe="oom"}  1+0x60`},
	},
	{
		alert: "SondeCollectorFailing", labels: labels{"collector": "tcp"},
		text:  "The collector tcp of n:9743 fails; its metrics are missing.",
		fault: []string{`sonde_collector_success{S, collector="tcp"}  0+0x60`}, near: []string{`sonde_collector_success{S, collector="tcp"}  1+0x60`},
	},
	{
		alert: "SondeConfigReloadFailed", text: "n:9743 did not take the latest configuration over and works with the one before.",
		fault: []string{`sonde_config_last_reload_successful{S}  0+0x60`}, near: []string{`sonde_config_last_reload_successful{S}  1+0x60`},
	},
	{
		alert: "SondeVersionSkew", target: "job", at: 25 * time.Hour, text: "3 versions have run beside each other for a day.",
		fault: versions("1", "2", "3"), near: versions("1", "2", "2"),
	},
	{
		alert: "SondePushFailing", labels: labels{"reason": "connect"}, text: "Pushes of n:9743 fail (connect).",
		fault: []string{`sonde_push_failures_total{S, reason="connect"}  0+1x60`}, near: []string{`sonde_push_failures_total{S, reason="connect"}  5+0x60`},
	},
	{
		alert: "SondeWatchdog", target: "none", text: "This alert always fires; where it does not arrive, no other does.",
	},

	// Resources.
	{
		alert: "SondeMemoryNearLimit", text: "n:9743 needs 95% of its memory limit.",
		fault: memory(`30`, `60`, `5`, `0`), near: memory(`30`, `58`, `1`, `50`),
	},
	{
		alert: "SondeShedding", text: "n:9743 sheds load at level 1 of 3.",
		fault: []string{`sonde_sensor_shed_level{S}  1+0x60`}, near: []string{`sonde_sensor_shed_level{S}  0+0x60`},
	},
	{
		alert: "SondeEventsShed", text: "n:9743 has no memory for events; only its counters go on.",
		fault: []string{`sonde_sensor_shed_level{S}  3+0x60`}, near: []string{`sonde_sensor_shed_level{S}  2+0x60`},
	},
	{
		alert: "SondeCPUHigh", text: "n:9743 keeps 0.60 cores busy.",
		fault: []string{`process_cpu_seconds_total{S}  0+36x60`}, near: []string{`process_cpu_seconds_total{S}  0+29x60`},
	},
	{
		alert: "SondeBPFOverheadHigh", text: "The programs of n:9743 keep 0.60 cores of the node busy.",
		fault: []string{`sonde_bpf_program_run_seconds_total{S, program="a"}  0+2x60`, `sonde_bpf_program_run_seconds_total{S, program="b"}  0+1.6x60`, `sonde_bpf_stats_enabled_seconds_total{S}  0+6x60`},
		near:  []string{`sonde_bpf_program_run_seconds_total{S, program="a"}  0+2x60`, `sonde_bpf_stats_enabled_seconds_total{S}  0+6x60`},
	},
	{
		alert: "SondeCPUThrottled", text: "n:9743 waited for its quota 50% of the time.",
		fault: []string{`sonde_sensor_cpu_throttled_seconds_total{S}  0+30x60`}, near: []string{`sonde_sensor_cpu_throttled_seconds_total{S}  0+14x60`},
	},
	{
		alert: "SondeScrapeSlow", text: "A scrape of n:9743 takes 4s.",
		fault: []string{`scrape_duration_seconds{S}  4+0x60`}, near: []string{`scrape_duration_seconds{S}  2.9+0x60`},
	},
	{
		alert: "SondeScrapeTooLarge", text: "A scrape of n:9743 brings 20.5k samples.",
		fault: []string{`scrape_samples_scraped{S}  20500+0x60`}, near: []string{`scrape_samples_scraped{S}  19999+0x60`},
	},
	{
		alert: "SondeSeriesLimited", labels: labels{"family": "syscalls_total"},
		text:  "syscalls_total of n:9743 has more label sets than it may have; the rest is added up as other.",
		fault: []string{`sonde_series_limited_total{S, family="syscalls_total"}  0+1x60`}, near: []string{`sonde_series_limited_total{S, family="syscalls_total"}  7+0x60`},
	},
	{
		alert: "SondeFileDescriptorsNearLimit", text: "n:9743 has 90% of its file descriptors open.",
		fault: []string{`process_open_fds{S}  900+0x60`, `process_max_fds{S}  1000+0x60`}, near: []string{`process_open_fds{S}  790+0x60`, `process_max_fds{S}  1000+0x60`},
	},
	{
		alert: "SondeGoroutineLeak", text: "n:9743 has 6k goroutines.",
		fault: []string{`go_goroutines{S}  6000+0x120`}, near: []string{`go_goroutines{S}  4900+0x120`},
	},
	{
		alert: "SondeProcfsErrors", labels: labels{"operation": "cgroup_cpu"},
		text:  "n:9743 cannot read cgroup_cpu; what it tells of its own cost is incomplete.",
		fault: []string{`sonde_procfs_errors_total{S, operation="cgroup_cpu"}  0+4x60`}, near: []string{`sonde_procfs_errors_total{S, operation="cgroup_cpu"}  4+0x60`},
	},

	// Events.
	{
		alert: "SondeStalled", text: "n:9743 has read no event for a quarter of an hour, not even its own canaries.",
		fault: []string{`sonde_events_decoded_total{S, point="canary"}  9+0x60`, `sonde_events_decoded_total{S, point="process/exec"}  0+0x60`},
		near:  []string{`sonde_events_decoded_total{S, point="canary"}  0+1x60`, `sonde_events_decoded_total{S, point="process/exec"}  0+0x60`},
	},
	{
		alert: "SondeCanaryLost", text: "n:9743 has lost 20 canaries within 10 minutes.",
		fault: []string{`sonde_canary_lost_total{S}  0+2x60`}, near: []string{`sonde_canary_lost_total{S}  3+0x60`},
	},
	{
		alert: "SondeEventsDropped", labels: labels{"stage": "ring"}, text: "n:9743 loses 2% of its events at the stage ring.",
		fault: events("ring", 20, 1000), near: events("ring", 9, 1000),
	},
	{
		alert: "SondeRingNearFull", labels: labels{"ring": "events"}, text: "The ring events of n:9743 was 90% full.",
		fault: []string{`sonde_ring_used_peak_bytes{S, ring="events"}  90 10 10 10 90 10 10 10 90 10 10 10 90 10 10 10 90 10 10 10 90 10 10 10 90 10 10 10 90 10 10`, `sonde_ring_size_bytes{S, ring="events"}  100+0x60`},
		near:  []string{`sonde_ring_used_peak_bytes{S, ring="events"}  79+0x60`, `sonde_ring_size_bytes{S, ring="events"}  100+0x60`},
	},
	{
		alert: "SondeEventDelayHigh", labels: labels{"stage": "ring", "quantile": "0.99"},
		text:  "One event of a hundred of n:9743 is older than 7.959s at the stage ring.",
		fault: delays(60), near: delays(0),
	},
	{
		alert: "SondeClockAnomaly", labels: labels{"kind": "future"}, text: "n:9743 got 15 events with a time of the kind future within 15 minutes.",
		fault: []string{`sonde_event_clock_anomalies_total{S, kind="future"}  0+1x60`}, near: []string{`sonde_event_clock_anomalies_total{S, kind="future"}  2+0x60`},
	},
	{
		alert: "SondeStateEvicting", labels: labels{"table": "process"}, text: "The table process of n:9743 gave up 30 entries within 15 minutes.",
		fault: []string{`sonde_state_evictions_total{S, table="process"}  0+2x60`}, near: []string{`sonde_state_evictions_total{S, table="process"}  2+0x60`},
	},
	{
		alert: "SondeLossBudgetBurn", target: "job", at: 10 * time.Minute, labels: labels{"long": "1h", "short": "5m"},
		text:  "2% of all events were lost within 1h: 14.4 times what the budget of 30 days allows.",
		fault: events("ring", 20, 1000), near: events("session", 20, 1000),
	},
	{
		alert: "SondeLossBudgetBurn", target: "job", labels: labels{"long": "6h", "short": "30m"},
		text:  "0.7% of all events were lost within 6h: 6 times what the budget of 30 days allows.",
		fault: events("decode", 7, 1000), near: events("decode", 5, 1000),
	},
	{
		alert: "SondeLossBudgetBurn", target: "job", at: 2 * time.Hour, labels: labels{"long": "1d", "short": "2h"},
		text:  "0.4% of all events were lost within 1d: 3 times what the budget of 30 days allows.",
		fault: events("ring", 4, 1000), near: events("ring", 2, 1000),
	},
	{
		alert: "SondeLossBudgetBurn", target: "job", at: 4 * time.Hour, labels: labels{"long": "3d", "short": "6h"},
		text:  "0.2% of all events were lost within 3d: 1 times what the budget of 30 days allows.",
		fault: events("ring", 2, 1000), near: events("ring", 0, 1000),
	},

	// Kernel side.
	{
		alert: "SondeProbeNotAttached", labels: labels{"probe": "tcp"},
		text:  "The probe tcp of n:9743 is not attached; its metrics and events are missing.",
		fault: []string{`sonde_probe_attached{S, probe="tcp"}  0+0x60`}, near: []string{`sonde_probe_attached{S, probe="tcp"}  1+0x60`},
	},
	{
		alert: "SondeProgramMissedRuns", labels: labels{"program": "syscalls_exit"},
		text:  "The kernel skips 0.10 runs per second of syscalls_exit on n:9743.",
		fault: []string{`sonde_bpf_program_missed_total{S, program="syscalls_exit"}  0+6x60`},
		near:  []string{`sonde_bpf_program_missed_total{S, program="syscalls_exit"}  3+0x60`, `sonde_bpf_program_missed_total{S, program="drops_kfree_skb"}  0+6x60`, `sonde_bpf_program_missed_total{S, program="tcp_inet_sock_set_state_again"}  0+6x60`},
	},
	{
		alert: "SondeMapNearFull", labels: labels{"map": "tcp_sockets"}, text: "The map tcp_sockets of n:9743 is 95% full.",
		fault: []string{`sonde_bpf_map_entries{S, map="tcp_sockets"}  95+0x60`, `sonde_bpf_map_max_entries{S, map="tcp_sockets"}  100+0x60`},
		near:  []string{`sonde_bpf_map_entries{S, map="tcp_sockets"}  89+0x60`, `sonde_bpf_map_max_entries{S, map="tcp_sockets"}  100+0x60`},
	},
	{
		alert: "SondeMapUpdateFailures", labels: labels{"map": "tcp_sockets"},
		text:  "0.10 entries per second find no room in the map tcp_sockets of n:9743.",
		fault: []string{`sonde_bpf_map_update_failures_total{S, map="tcp_sockets"}  0+6x60`}, near: []string{`sonde_bpf_map_update_failures_total{S, map="tcp_sockets"}  6+0x60`},
	},
	{
		alert: "SondeContainerRuntimeDown", labels: labels{"runtime": "containerd", "reason": "refused"},
		text:  "containerd does not answer n:9743 (refused); containers have ids and no names.",
		fault: []string{`sonde_container_runtime_up{S, runtime="containerd", reason="refused"}  0+0x60`},
		near:  []string{`sonde_container_runtime_up{S, runtime="crio", reason="unused"}  0+0x60`, `sonde_container_runtime_up{S, runtime="containerd", reason="none"}  1+0x60`},
	},
	{
		alert: "SondeEnrichmentFailing", labels: labels{"runtime": "docker"}, text: "10% of the calls of n:9743 to docker fail.",
		fault: lookups(6, 4, 90), near: lookups(2, 2, 96),
	},
	{
		alert: "SondeGVisorSilent", text: "1 sandboxes of n:9743 are connected and have never sent a message.",
		fault: []string{`sonde_gvisor_silent_connections{S}  1+0x60`}, near: []string{`sonde_gvisor_silent_connections{S}  0+0x60`},
	},
	{
		alert: "SondeGVisorOrphaned", text: "2 sandboxes of n:9743 run unwatched since the sensor was restarted.",
		fault: []string{`sonde_gvisor_orphaned_sandboxes{S}  2+0x60`}, near: []string{`sonde_gvisor_orphaned_sandboxes{S}  0+0x60`},
	},

	// Sinks.
	{
		alert: "SondeSinkDown", labels: labels{"session": "default", "sink": "remote"},
		text:  "The sink remote of the session default on n:9743 hands nothing over.",
		fault: []string{`sonde_sink_up{S, session="default", sink="remote"}  0+0x60`}, near: []string{`sonde_sink_up{S, session="default", sink="remote"}  1+0x60`},
	},
	{
		alert: "SondeSinkErrors", labels: labels{"session": "default", "sink": "jsonl", "class": "disk_full"},
		text:  "The sink jsonl of the session default on n:9743 fails: disk_full.",
		fault: []string{`sonde_sink_errors_total{S, session="default", sink="jsonl", class="disk_full"}  0+1x60`},
		near:  []string{`sonde_sink_errors_total{S, session="default", sink="jsonl", class="disk_full"}  1+0x60`, `sonde_sink_errors_total{S, session="default", sink="jsonl", class="rate_limited"}  0+1x60`},
	},
	{
		alert: "SondeQueueNearFull", labels: labels{"session": "default", "sink": "remote"},
		text:  "The queue of default, remote on n:9743 is 45% full.",
		fault: []string{`sonde_session_queue_length{S, session="default", sink="remote"}  45+0x60`, `sonde_session_queue_capacity{S, session="default", sink="remote"}  100+0x60`},
		near:  []string{`sonde_session_queue_length{S, session="default", sink="remote"}  39+0x60`, `sonde_session_queue_capacity{S, session="default", sink="remote"}  100+0x60`},
	},
	{
		alert: "SondeRuleMatched", labels: labels{"rule": "crypto-miner", "rule_severity": "high"},
		text:  "crypto-miner (high) matched 5 times on n:9743 within 5 minutes.",
		fault: []string{`sonde_rule_matches_total{S, rule="crypto-miner", severity="high"}  0+1x60`},
		near:  []string{`sonde_rule_matches_total{S, rule="crypto-miner", severity="high"}  3+0x60`, `sonde_rule_matches_total{S, rule="shell", severity="medium"}  0+1x60`},
	},
	{
		alert: "SondeRuleFailing", labels: labels{"rule": "crypto-miner", "reason": "unreadable"},
		text:  "crypto-miner could not decide 10 times on n:9743 within 10 minutes: unreadable.",
		fault: []string{`sonde_rule_failures_total{S, rule="crypto-miner", reason="unreadable"}  0+1x60`},
		near:  []string{`sonde_rule_failures_total{S, rule="crypto-miner", reason="unreadable"}  1+0x60`},
	},

	// The node.
	{
		alert: "SondeConnectionRateAnomaly", at: 10 * time.Hour, text: "n:9743 opens 965.1 connections per second more than its average of a day.",
		fault: opened(60, 60_000), near: opened(60, 90),
	},
	{
		alert: "SondeSyscallLatencyRegression", at: 25*time.Hour + 30*time.Minute, labels: labels{"syscall": "openat", "quantile": "0.99"},
		text:  "One of a hundred calls of openat on n:9743 takes more than 1.986s: twice what it took a day ago.",
		fault: latency("openat"), near: latency("epoll_wait"),
	},

	// Kubernetes.
	{
		alert: "SondeNotOnNode", target: "none", labels: labels{"node": "b"}, text: "The node b has no sensor that answers.",
		fault: []string{`kube_node_info{node="a"}  1+0x60`, `kube_node_info{node="b"}  1+0x60`, `up{S, node="a"}  1+0x60`},
		near:  []string{`kube_node_info{node="a"}  1+0x60`, `up{S, node="a"}  1+0x60`},
	},
	{
		alert: "SondeOOMKilledKubernetes", target: "none", labels: labels{"namespace": "sonde", "pod": "sonde-x"},
		text:  "The pod sonde/sonde-x was killed for want of memory and restarted within 30 minutes.",
		fault: restarts("OOMKilled", "4+0x9 5+0x60"), near: restarts("OOMKilled", "5+0x60"),
	},
}

// fleet is n sensors of which some are down.
func fleet(n, down int) []string {
	var all []string
	for i := range n {
		value := 1
		if i < down {
			value = 0
		}
		all = append(all, fmt.Sprintf(`up{job="sonde", instance="n%d"}  %d+0x60`, i, value))
	}
	return all
}

func versions(all ...string) []string {
	for i, v := range all {
		all[i] = fmt.Sprintf(`sonde_build_info{job="sonde", instance="n%d", version=%q}  1+0x1500`, i, v)
	}
	return all
}

// memory is kinds of memory at a limit of 100.
func memory(heap, bpf, other, mmap string) []string {
	series := []string{`sonde_sensor_memory_limit_bytes{S}  100+0x60`}
	for kind, value := range map[string]string{"go_heap": heap, "bpf": bpf, "go_other": other, "mmap": mmap} {
		series = append(series, fmt.Sprintf(`sonde_sensor_memory_bytes{S, kind=%q}  %s+0x60`, kind, value))
	}
	return sorted(series)
}

// events is events per minute, attempted and lost at a stage, for ten hours.
func events(stage string, lost, attempted int) []string {
	return []string{
		fmt.Sprintf(`sonde_events_dropped_total{S, point="process/exec", stage=%q, reason="x"}  0+%dx600`, stage, lost),
		fmt.Sprintf(`sonde_events_attempted_total{S, point="process/exec"}  0+%dx600`, attempted),
	}
}

// delays is events of which some per minute are older than 4 s, in classic buckets.
func delays(old int) []string {
	return []string{
		`sonde_event_delay_seconds_bucket{S, stage="ring", le="4"}  0+1x60`,
		fmt.Sprintf(`sonde_event_delay_seconds_bucket{S, stage="ring", le="8"}  0+%dx60`, 1+old),
		fmt.Sprintf(`sonde_event_delay_seconds_bucket{S, stage="ring", le="+Inf"}  0+%dx60`, 1+old),
	}
}

// lookups is calls per minute to a runtime by their result.
func lookups(errors, timeouts, found int) []string {
	var all []string
	for _, r := range []struct {
		result string
		n      int
	}{{"error", errors}, {"timeout", timeouts}, {"found", found}, {"hit", 1000}} {
		all = append(all, fmt.Sprintf(`sonde_container_lookups_total{S, runtime="docker", result=%q}  0+%dx60`, r.result, r.n))
	}
	return all
}

// opened is connections per minute, of which there are suddenly more.
func opened(before, then int) []string {
	const minutes = 9*60 + 30
	return []string{fmt.Sprintf(`sonde_connections_opened_total{S, direction="inbound", peer="public", protocol="tcp"}  0+%dx%d %d+%dx60`,
		before, minutes, before*minutes, then)}
}

// latency is a call that takes up to 0.5 s for a day and up to 2 s from then on, in
// native buckets of schema 0.
func latency(syscall string) []string {
	const day = 24 * 60
	return []string{
		fmt.Sprintf(`sonde_syscalls_total{S, syscall=%q, outcome="success"}  0+6000x1600`, syscall),
		fmt.Sprintf(`sonde_syscall_duration_seconds{S, syscall=%q, outcome="success"}  `+
			`{{schema:0 sum:1 count:6000 offset:-1 buckets:[6000]}}+{{schema:0 sum:1 count:6000 offset:-1 buckets:[6000]}}x%d `+
			`{{schema:0 sum:1 count:8640000 offset:-1 buckets:[8640000 0 0]}}+{{schema:0 sum:1 count:6000 offset:-1 buckets:[0 0 6000]}}x100`, syscall, day),
	}
}

func restarts(reason, values string) []string {
	return []string{
		fmt.Sprintf(`kube_pod_container_status_last_terminated_reason{namespace="sonde", pod="sonde-x", container="sonde", reason=%q}  1+0x60`, reason),
		`kube_pod_container_status_restarts_total{namespace="sonde", pod="sonde-x", container="sonde"}  ` + values,
	}
}
