package dashboards

import "github.com/sonde-ebpf/sonde/alerts"

// sensor is what the sensor costs, and how it keeps within its bounds.
func sensor() board {
	return board{
		uid: "sonde-sensor", title: "Sonde / Sensor",
		description: "The sensor itself: memory against its limit, shedding, ends of earlier runs, processor time in user space and in the kernel, scrapes.",
		rows: []row{
			{title: "Memory", panels: []panel{
				{kind: stacked, title: "Memory by kind", unit: "bytes", width: 12, height: 8, description: "What the cgroup is charged for: Go heap, rest of the run time, BPF maps, mapped files.",
					queries: one(`sum by (kind) (sonde_sensor_memory_bytes{F})`, "{{kind}}")},
				{kind: series, title: "Memory against its limit", unit: "percentunit", width: 12, height: 8, warn: 0.8, bad: alerts.MemoryFill, description: "What the kernel cannot take back, as a part of the limit. From 80 % on load is shed.",
					queries: one(`max by (instance) (instance:sonde_sensor_memory:ratio{F})`, "{{instance}}")},
				{kind: series, title: "Shedding", unit: "none", width: 6, height: 7, warn: 1, bad: 3, description: "0 none, 1 caches, 2 details, 3 all but counters.",
					queries: one(`max by (instance) (sonde_sensor_shed_level{F})`, "{{instance}}")},
				{kind: series, title: "Charged, and peak", unit: "bytes", width: 6, height: 7, description: "The cgroup's own account, page cache included.", queries: []query{
					{`max by (instance) (sonde_sensor_memory_usage_bytes{F})`, "{{instance}} now"}, {`max by (instance) (sonde_sensor_memory_peak_bytes{F})`, "{{instance}} peak"},
				}},
				{kind: series, title: "Go heap and its limit", unit: "bytes", width: 6, height: 7, description: "Heap in use, and the limit that the run time keeps: what is left of the memory limit beside the maps.", queries: []query{
					{`max by (instance) (go_memstats_heap_inuse_bytes{F})`, "{{instance}} heap"}, {`max by (instance) (go_gc_gomemlimit_bytes{F}) < 1e15`, "{{instance}} limit"},
				}},
				{kind: bars, title: "Ends of earlier runs", unit: "none", width: 6, height: 7, description: "How earlier runs ended, since the state directory was made. oom_kill and crash need a look.",
					queries: one(`sum by (reason) (sonde_sensor_terminations_total{F})`, "{{reason}}")},
			}},
			{title: "Processor", panels: []panel{
				{kind: series, title: "In user space", unit: "percentunit", width: 8, height: 8, bad: alerts.CPUCores, description: "Of one core. Above the line: SondeCPUHigh.",
					queries: one(`sum by (instance) (rate(process_cpu_seconds_total{F}[R]))`, "{{instance}}")},
				{kind: series, title: "In the kernel", unit: "percentunit", width: 8, height: 8, bad: alerts.BPFCores, description: "Run time of all programs, of one core, from the share of the time that is measured. Too high where another tool keeps run-time statistics on.",
					queries: one(`max by (instance) (instance:sonde_bpf_run:ratio_rate5m{F})`, "{{instance}}")},
				{kind: series, title: "Dearest programs", unit: "percentunit", width: 8, height: 8, description: "The ten programs that run longest, of one core.",
					queries: one(`topk(10, sum by (program) (rate(sonde_bpf_program_run_seconds_total{F}[R])) / on () group_left () (sum(rate(sonde_bpf_stats_enabled_seconds_total{F}[R])) > 0))`, "{{program}}")},
				{kind: series, title: "Waiting for its quota, and pressure", unit: "percentunit", width: 12, height: 8, bad: alerts.ThrottleRatio, description: "Time that the CPU quota kept it from running, and time that some task waited for a resource.", queries: []query{
					{`max by (instance) (rate(sonde_sensor_cpu_throttled_seconds_total{F}[R]))`, "{{instance}} throttled"}, {`max by (resource) (rate(sonde_sensor_pressure_seconds_total{F, kind="some"}[R]))`, "pressure: {{resource}}"},
				}},
				{kind: series, title: "Goroutines and open files", unit: "none", width: 12, height: 8, description: "Both level off; what grows all the time is a leak.", queries: []query{
					{`sum by (instance) (go_goroutines{F})`, "{{instance}} goroutines"}, {`sum by (instance) (process_open_fds{F})`, "{{instance}} files"},
				}},
				{kind: series, title: "Garbage collection", unit: "percentunit", width: 12, height: 8, description: "Share of the time that the Go run time stops the program.",
					queries: one(`sum by (instance) (rate(go_gc_duration_seconds_sum{F}[R]))`, "{{instance}}")},
				{kind: heat, title: "Own recurring work", unit: "s", width: 12, height: 8, description: "Time of the sensor's own operations, all of them.", queries: histogram("sonde_operation_duration_seconds", "")},
			}},
			{title: "Scrapes", panels: []panel{
				{kind: series, title: "Time of a scrape", unit: "s", width: 8, height: 8, bad: alerts.ScrapeSeconds, description: "As Prometheus measures it. Above the line: SondeScrapeSlow.",
					queries: one(`max by (instance) (scrape_duration_seconds{F})`, "{{instance}}")},
				{kind: series, title: "Samples of a scrape", unit: "none", width: 8, height: 8, bad: alerts.ScrapeSamples, description: "A native histogram is one sample. Above the line: SondeScrapeTooLarge.",
					queries: one(`max by (instance) (scrape_samples_scraped{F})`, "{{instance}}")},
				{kind: series, title: "Slowest collectors", unit: "s", width: 8, height: 8, description: "Time of the latest collection.",
					queries: one(`topk(10, max by (collector) (sonde_collector_duration_seconds{F}))`, "{{collector}}")},
				{kind: table, title: "Collectors", width: 8, height: 8, description: "Whether the latest collection succeeded; 0 is SondeCollectorFailing.",
					queries: one(`min by (instance, collector) (sonde_collector_success{F})`, "ok"), columns: []column{{title: "Succeeds", unit: "bool"}}},
				{kind: series, title: "Label sets beyond a bound", unit: "cps", width: 8, height: 8, description: "Label sets that were added up as other, by family.",
					queries: one(`topk(10, sum by (family) (rate(sonde_series_limited_total{F}[R])))`, "{{family}}")},
				{kind: table, title: "Configuration", width: 8, height: 8, description: "Whether the latest change was taken over, which generation is in force, and since when.",
					queries: []query{
						{`min by (instance) (sonde_config_last_reload_successful{F})`, "ok"}, {`max by (instance) (sonde_config_generation{F})`, "generation"},
						{`time() - max by (instance) (sonde_config_last_reload_success_timestamp_seconds{F})`, "age"},
					},
					columns: []column{{title: "Taken over", unit: "bool"}, {title: "Generation", unit: "none"}, {title: "Since", unit: "s"}}},
				{kind: series, title: "Pushes", unit: "cps", width: 12, height: 7, bad: 0.001, description: "Failed tries to push the metrics, by reason. Without --push.url there are none.",
					queries: one(`sum by (reason) (rate(sonde_push_failures_total{F}[R]))`, "{{reason}}")},
				{kind: bars, title: "Steps of the latest start", unit: "s", width: 12, height: 7, description: "How long each step of the start took.",
					queries: one(`max by (step) (sonde_start_step_duration_seconds{F})`, "{{step}}")},
			}},
		},
	}
}
