package dashboards

import "github.com/sonde-ebpf/sonde/alerts"

// pipeline follows events from the kernel to the sinks: where any is lost, and why.
func pipeline() board {
	return board{
		uid: "sonde-pipeline", title: "Sonde / Pipeline",
		description: "Events on their way: attempted = submitted + dropped; read = decoded + undecodable; matched = delivered + filtered + dropped. Every loss has a place and a reason.",
		rows: []row{
			{title: "Losses", panels: []panel{
				{kind: series, title: "Lost by point, stage and reason", unit: "cps", width: 12, height: 9, bad: 0.001, description: "The ten largest losses. ring_full: the reader is too slow; queue_full, shed: a sink is; peer, write, disk_full: the receiver.",
					queries: one(`topk(10, sum by (point, stage, reason) (rate(sonde_events_dropped_total{F}[R])))`, "{{point}} {{stage}}: {{reason}}")},
				{kind: table, title: "Lost within the range shown", width: 12, height: 9, description: "The same as numbers: what was lost, where and why.",
					queries: one(`topk(20, sum by (instance, point, stage, reason) (increase(sonde_events_dropped_total{F}[$__range])))`, "lost"),
					columns: []column{{title: "Events", unit: "none", bad: 1}}},
				{kind: series, title: "Share lost by stage", unit: "percentunit", width: 12, height: 8, bad: alerts.LossRatio, description: "Of the events attempted. Above the line: SondeEventsDropped.",
					queries: one(`max by (instance, stage) (instance_stage:sonde_events_dropped:ratio_rate5m{F})`, "{{instance}} {{stage}}")},
				{kind: series, title: "Loss of the fleet by window", unit: "percentunit", width: 12, height: 8, bad: alerts.LossBudget, description: "Share of all events of the fleet that did not reach user space, over an hour, a day and three days. The line is the budget.", queries: []query{
					{`max(job:sonde_events_lost:ratio_rate1h{J})`, "1 hour"}, {`max(job:sonde_events_lost:ratio_rate1d{J})`, "1 day"}, {`max(job:sonde_events_lost:ratio_rate3d{J})`, "3 days"},
				}},
			}},
			{title: "Ledgers", panels: []panel{
				{kind: series, title: "Kernel to reader", unit: "cps", width: 12, height: 8, description: "attempted = submitted + dropped at the ring; read = decoded + undecodable. Lines that part are a loss, or a ring that fills.", queries: []query{
					{`sum(rate(sonde_events_attempted_total{F}[R]))`, "attempted"}, {`sum(rate(sonde_events_submitted_total{F}[R]))`, "submitted"},
					{`sum(rate(sonde_events_read_total{F}[R]))`, "read"}, {`sum(rate(sonde_events_decoded_total{F}[R]))`, "decoded"},
				}},
				{kind: series, title: "Session to sink", unit: "cps", width: 12, height: 8, description: "matched = delivered + filtered + dropped + what waits.", queries: []query{
					{`sum by (session, sink) (rate(sonde_events_matched_total{F}[R]))`, "{{session}} {{sink}} matched"},
					{`sum by (session, sink) (rate(sonde_events_delivered_total{F}[R]))`, "{{session}} {{sink}} delivered"},
					{`sum by (session, sink) (rate(sonde_events_filtered_total{F}[R]))`, "{{session}} {{sink}} filtered"},
				}},
			}},
			{title: "Rings and queues", panels: []panel{
				{kind: series, title: "Ring, peak fill", unit: "percentunit", width: 8, height: 8, warn: alerts.RingFill / 2, bad: alerts.RingFill, description: "Highest fill since the scrape before. Above the line: SondeRingNearFull.",
					queries: one(`max by (instance, ring) (sonde_ring_used_peak_bytes{F} / sonde_ring_size_bytes{F})`, "{{instance}} {{ring}}")},
				{kind: heat, title: "Records per wake-up", unit: "none", width: 8, height: 8, description: "How many records the reader finds when it wakes up. Large numbers: bursts, or a reader that is late.",
					queries: histogram("sonde_ring_drain_records", "")},
				{kind: series, title: "Queues of sinks", unit: "percentunit", width: 8, height: 8, bad: alerts.QueueFill, description: "Fill of each sink's queue. The least important events are let in up to a half of it.",
					queries: one(`max by (instance, session, sink) (sonde_session_queue_length{F} / sonde_session_queue_capacity{F})`, "{{instance}} {{session}} {{sink}}")},
			}},
			{title: "Delay", panels: []panel{
				{kind: heat, title: "Age of events in user space", unit: "s", width: 8, height: 8, description: "From the kernel's clock to the reader.", queries: histogram("sonde_event_delay_seconds", `, stage="ring"`)},
				{kind: series, title: "Age, quantiles", unit: "s", width: 8, height: 8, bad: alerts.DelaySeconds, description: "At the reader (ring) and when handed over (sink), of the slowest sensor chosen. Above the line: SondeEventDelayHigh.",
					queries: quantiles("instance_stage:sonde_event_delay_seconds", ", stage", "{{stage}} p{{quantile}}")},
				{kind: series, title: "Canaries", unit: "s", width: 8, height: 8, description: "Time of events that the sensor causes itself, from cause to reading.",
					queries: quantiles("instance:sonde_canary_delay_seconds", "", "p{{quantile}}")},
				{kind: series, title: "Canaries lost, clocks that cannot be true", unit: "none", width: 12, height: 7, bad: 1, description: "Within five minutes. Both should be 0.", queries: []query{
					{`sum(increase(sonde_canary_lost_total{F}[5m]))`, "canaries lost"}, {`sum by (kind) (increase(sonde_event_clock_anomalies_total{F}[5m]))`, "clock: {{kind}}"},
				}},
				{kind: heat, title: "Own work per event", unit: "s", width: 12, height: 7, description: "Processing time of a sample of the events, all steps.", queries: histogram("sonde_event_step_seconds", "")},
			}},
			{title: "Probes, programs, maps", panels: []panel{
				{kind: table, title: "Probes", width: 12, height: 9, description: "How each probe is attached, and why it is not or not fully.",
					queries: one(`max by (instance, probe, attach, reason) (sonde_probe_info{F})`, "probes"), columns: []column{{title: "", unit: "none"}}},
				{kind: bars, title: "Fullest maps", unit: "percentunit", width: 12, height: 9, warn: 0.7, bad: alerts.MapFill, description: "Entries of kernel maps as a part of their size. Above 90 %: SondeMapNearFull.",
					queries: one(`topk(10, max by (instance, map) (sonde_bpf_map_entries{F} / (sonde_bpf_map_max_entries{F} > 0)))`, "{{instance}} {{map}}")},
				{kind: series, title: "Entries that found no room, runs that were skipped", unit: "cps", width: 12, height: 8, bad: 0.001, description: "Counts that are missing. For the programs tcp_inet_sock_set_state and drops_kfree_skb a skipped run is made up for.", queries: []query{
					{`topk(5, sum by (map) (rate(sonde_bpf_map_update_failures_total{F}[R])))`, "map {{map}}"}, {`topk(5, sum by (program) (rate(sonde_bpf_program_missed_total{F}[R])))`, "program {{program}}"},
				}},
				{kind: series, title: "The picture of the node", unit: "percentunit", width: 12, height: 8, bad: alerts.MapFill, description: "Fill of the tables that introspection shows. A full one gives up what has ended.",
					queries: one(`max by (instance, table) (sonde_state_entries{F} / (sonde_state_max_entries{F} > 0))`, "{{instance}} {{table}}")},
				{kind: series, title: "Entries given up, differences mended", unit: "cps", width: 12, height: 8, description: "Evictions: a table is too small. Differences from the kernel that were mended: events were lost.", queries: []query{
					{`sum by (table) (rate(sonde_state_evictions_total{F}[R]))`, "{{table}} given up"}, {`sum by (table) (rate(sonde_state_drift_total{F}[R]))`, "{{table}} mended"},
				}},
				{kind: table, title: "Container runtimes", width: 12, height: 8, description: "Whether a runtime answers, and why not; unused is no fault.",
					queries: one(`max by (instance, runtime, reason) (sonde_container_runtime_up{F})`, "runtimes"), columns: []column{{title: "Answers", unit: "bool"}}},
			}},
		},
	}
}
