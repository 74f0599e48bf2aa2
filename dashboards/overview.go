package dashboards

import (
	"fmt"

	"github.com/sonde-ebpf/sonde/alerts"
)

const firing = `ALERTS{alertname=~"Sonde.+", alertname!="SondeWatchdog", alertstate="firing"}`

// overview is the fleet on one screen: is every sensor well, what is lost, what it
// costs. From here a click on an instance leads to why.
func overview() board {
	return board{
		uid: "sonde-overview", title: "Sonde / Overview",
		description: "The fleet: is every sensor well, what is lost, what it costs. Click an instance to see why.",
		rows: []row{
			{title: "State", panels: []panel{
				{kind: stat, title: "Sensors that answer", unit: "none", width: 4, height: 4,
					description: "Sensors whose latest scrape succeeded. Fewer than expected: see SondeDown.",
					queries:     one(`sum(up{F})`, "up")},
				{kind: stat, title: "Sensors expected", unit: "none", width: 4, height: 4,
					description: "Targets of the job, whether they answer or not.",
					queries:     one(`count(up{F})`, "expected")},
				{kind: stat, title: "Alerts that fire", unit: "none", width: 4, height: 4, bad: 1,
					description: "Firing alerts of Sonde, the watchdog left out. Each has a runbook.",
					queries:     one(`count(`+firing+`) or vector(0)`, "alerts")},
				{kind: stat, title: "Probes not attached", unit: "none", width: 4, height: 4, bad: 1,
					description: "Probes that do not run, over all sensors: their metrics are missing.",
					queries:     one(`sum(1 - sonde_probe_attached{F})`, "probes")},
				{kind: stat, title: "Events lost", unit: "percentunit", width: 4, height: 4, warn: alerts.LossBudget, bad: alerts.LossRatio,
					description: "Share of the events that did not reach user space. Counters are not touched by it.",
					queries:     one(`sum(rate(sonde_events_dropped_total{F, stage=~"ring|decode"}[R])) / (sum(rate(sonde_events_attempted_total{F}[R])) > 0)`, "lost")},
				{kind: stat, title: "Loss budget used, 3 days", unit: "percentunit", width: 4, height: 4, warn: 0.5, bad: 1,
					description: "Loss of the last three days as a part of what 99.9 % delivery allows. Above 100 % the promise is broken.",
					queries:     one(fmt.Sprintf(`max(job:sonde_events_lost:ratio_rate3d{J}) / %v`, alerts.LossBudget), "used")},
			}},
			{title: "Where events are lost, and which sensors are unwell", panels: []panel{
				{kind: table, title: "Losses by sensor, stage and reason", width: 12, height: 9, link: "sonde-pipeline",
					description: "Events lost per second, the worst first. Stage: ring = the reader is too slow, decode = not understood, session = a queue is full, sink = the receiver refuses. Click the instance.",
					queries:     one(`topk(20, sum by (instance, stage, reason) (rate(sonde_events_dropped_total{F}[R])))`, "lost"),
					columns:     []column{{title: "Lost per second", unit: "cps", bad: 0.001}}},
				{kind: table, title: "Sensors", width: 12, height: 9, link: "sonde-node",
					description: "Each sensor: events lost, how late events arrive, processor time in user space and in the kernel, probes missing. Click the instance.",
					queries: []query{
						{`sum by (instance) (rate(sonde_events_dropped_total{F}[R]))`, "lost"},
						{`max by (instance) (instance_stage:sonde_event_delay_seconds:quantile5m{F, quantile="0.99", stage="ring"})`, "delay"},
						{`sum by (instance) (rate(process_cpu_seconds_total{F}[R]))`, "user"},
						{`sum by (instance) (instance:sonde_bpf_run:ratio_rate5m{F})`, "kernel"},
						{`sum by (instance) (1 - sonde_probe_attached{F})`, "missing"},
					},
					columns: []column{
						{title: "Lost per second", unit: "cps", bad: 0.001}, {title: "Delay p99", unit: "s", bad: alerts.DelaySeconds},
						{title: "CPU", unit: "percentunit", bad: alerts.CPUCores}, {title: "In the kernel", unit: "percentunit", bad: alerts.BPFCores},
						{title: "Probes missing", unit: "none", bad: 1},
					}},
				{kind: table, title: "Alerts that fire", width: 12, height: 7,
					description: "Firing alerts by name and instance, the watchdog included: it shows that rules are evaluated.",
					queries:     one(`sum by (alertname, severity, instance) (ALERTS{alertname=~"Sonde.+", alertstate="firing"})`, "alerts"),
					columns:     []column{{title: "Alerts", unit: "none"}}},
				{kind: table, title: "Versions", width: 12, height: 7,
					description: "Sensors by version. More than two at once for a day: SondeVersionSkew.",
					queries:     one(`count by (version, goversion) (sonde_build_info{F})`, "versions"),
					columns:     []column{{title: "Sensors", unit: "none"}}},
			}},
			{title: "Traffic", panels: []panel{
				{kind: stacked, title: "Events by point", unit: "cps", width: 12, height: 8,
					description: "Events that the kernel side wanted to send, lost ones included.",
					queries:     one(`sum by (point) (rate(sonde_events_attempted_total{F}[R]))`, "{{point}}")},
				{kind: series, title: "Busiest sensors", unit: "cps", width: 12, height: 8,
					description: "The ten sensors with most events.",
					queries:     one(`topk(10, sum by (instance) (rate(sonde_events_attempted_total{F}[R])))`, "{{instance}}")},
				{kind: series, title: "Losses by reason", unit: "cps", width: 12, height: 8, bad: 0.001,
					description: "Events lost by stage and reason. A line above 0 is a loss.",
					queries:     one(`sum by (stage, reason) (rate(sonde_events_dropped_total{F}[R]))`, "{{stage}}: {{reason}}")},
				{kind: heat, title: "Age of events in user space", unit: "s", width: 12, height: 8,
					description: "How long events were on their way from the kernel to the reader. Bright cells high up: the reader is late.",
					queries:     histogram("sonde_event_delay_seconds", `, stage="ring"`)},
			}},
			{title: "Cost and saturation", panels: []panel{
				{kind: series, title: "Processor time by sensor", unit: "percentunit", width: 8, height: 8, bad: alerts.CPUCores,
					description: "Of one core, in user space. The limit is that of SondeCPUHigh.",
					queries:     one(`topk(10, sum by (instance) (rate(process_cpu_seconds_total{F}[R])))`, "{{instance}}")},
				{kind: series, title: "Memory by sensor", unit: "bytes", width: 8, height: 8,
					description: "What the kernel cannot take back: Go heap, run time and BPF maps.",
					queries:     one(`topk(10, sum by (instance) (sonde_sensor_memory_bytes{F, kind!="mmap"}))`, "{{instance}}")},
				{kind: bars, title: "Fullest rings", unit: "percentunit", width: 8, height: 8, warn: alerts.RingFill / 2, bad: alerts.RingFill,
					description: "Peak fill of event rings since the scrape before. Near 100 % events are lost.",
					queries:     one(`topk(10, max by (instance, ring) (sonde_ring_used_peak_bytes{F} / sonde_ring_size_bytes{F}))`, "{{instance}} {{ring}}")},
			}},
		},
	}
}
