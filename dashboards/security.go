package dashboards

// security is events for those who watch, and what nodes refuse.
func security() board {
	return board{
		uid: "sonde-security", title: "Sonde / Security",
		description: "Security events by point, where they go, and what nodes refused or killed.",
		rows: []row{
			{title: "Events", panels: []panel{
				{kind: stacked, title: "Events by point", unit: "cps", width: 12, height: 8, description: "Events that were understood and offered to sessions.",
					queries: one(`sum by (point) (rate(sonde_events_decoded_total{F, point!="canary"}[R]))`, "{{point}}")},
				{kind: series, title: "Delivered by session and sink", unit: "cps", width: 12, height: 8, description: "What each sink has handed over.",
					queries: one(`sum by (session, sink) (rate(sonde_events_delivered_total{F}[R]))`, "{{session}} {{sink}}")},
			}},
			{title: "Detection rules", panels: []panel{
				{kind: stacked, title: "Matches by severity", unit: "cps", width: 8, height: 8, description: "Events that fit a detection rule. high and critical: SondeRuleMatched. Without rules.files there is nothing to see.",
					queries: one(`sum by (severity) (rate(sonde_rule_matches_total{F}[R]))`, "{{severity}}")},
				{kind: table, title: "Matches by rule", width: 8, height: 8, description: "Matches within the range shown, by rule and severity.",
					queries: one(`sum by (instance, rule, severity) (increase(sonde_rule_matches_total{F}[$__range]))`, "matches"), columns: []column{{title: "Matches", unit: "none", bad: 1}}},
				{kind: table, title: "Newest matches", width: 8, height: 8, description: "How long ago each rule last matched, within the range shown.",
					queries: one(`time() - max by (instance, rule, severity) (max_over_time((timestamp(increase(sonde_rule_matches_total{F}[1m]) > 0))[$__range:15s]))`, "matched"), columns: []column{{title: "Ago", unit: "s"}}, ascending: true},
				{kind: series, title: "Rules that could not decide", unit: "cps", width: 24, height: 6, bad: 0.001, description: "Conditions without a value, and texts that could not be read. A line above 0: SondeRuleFailing.",
					queries: one(`sum by (rule, reason) (rate(sonde_rule_failures_total{F}[R]))`, "{{rule}} {{reason}}")},
			}},
			{title: "Sinks", panels: []panel{
				{kind: table, title: "Sinks by session", width: 12, height: 8, description: "Whether each sink hands events over, and how long ago it last did.",
					queries: []query{
						{`min by (instance, session, sink) (sonde_sink_up{F})`, "up"},
						{`time() - max by (instance, session, sink) (sonde_sink_last_success_timestamp_seconds{F})`, "age"},
						{`sum by (instance, session, sink) (rate(sonde_sink_errors_total{F}[R]))`, "errors"},
					},
					columns: []column{{title: "Up", unit: "bool"}, {title: "Last success", unit: "s"}, {title: "Errors per second", unit: "cps", bad: 0.001}}},
				{kind: series, title: "Errors by class", unit: "cps", width: 12, height: 8, bad: 0.001, description: "Events given up by sinks. A line above 0 is a loss for that session.",
					queries: one(`sum by (session, sink, class) (rate(sonde_sink_errors_total{F}[R]))`, "{{session}} {{sink}} {{class}}")},
			}},
			{title: "Refused, failed, killed", panels: []panel{
				{kind: series, title: "Refused system calls", unit: "cps", width: 8, height: 8, description: "Calls that ended with EPERM or EACCES, the ten commonest. A burst is somebody who tries.",
					queries: one(`topk(10, sum by (syscall, errno) (rate(sonde_syscall_errors_total{F, errno=~"EPERM|EACCES"}[R])))`, "{{syscall}} {{errno}}")},
				{kind: series, title: "Failed outbound connections", unit: "cps", width: 8, height: 8, description: "By error. Many refusals in a short time look like a scan.",
					queries: one(`sum by (errno) (rate(sonde_connections_failed_total{F, direction="outbound"}[R]))`, "{{errno}}")},
				{kind: series, title: "Killed processes", unit: "none", width: 8, height: 8, description: "Ends by signal and by the OOM killer within five minutes.",
					queries: one(`sum by (reason) (increase(sonde_process_exits_total{F, reason=~"signal|oom_kill"}[5m]))`, "{{reason}}")},
				{kind: series, title: "Texts changed", unit: "cps", width: 8, height: 8, description: "Paths and arguments that were cut, or held bytes that are not UTF-8: who hides something may do so.",
					queries: one(`sum by (reason) (rate(sonde_strings_sanitized_total{F}[R]))`, "{{reason}}")},
				{kind: series, title: "System calls refused by seccomp", unit: "cps", width: 8, height: 8, description: "Calls that a seccomp filter stopped before they began.",
					queries: one(`sum by (instance) (rate(sonde_syscalls_unpaired_total{F, reason="seccomp"}[R]))`, "{{instance}}")},
				{kind: series, title: "Depth of new processes", unit: "none", width: 8, height: 8, description: "Average number of ancestors of a new process. Interactive shells are deeper than services.",
					queries: one(`sum(histogram_sum(rate(sonde_process_lineage_depth{F}[R]))) / (sum(histogram_count(rate(sonde_process_lineage_depth{F}[R]))) > 0) or on () histogram_quantile(0.5, sum by (le) (rate(sonde_process_lineage_depth_bucket{F}[R])))`, "depth")},
			}},
			{title: "gVisor sandboxes", panels: []panel{
				{kind: series, title: "Sandboxes", unit: "none", width: 8, height: 8, description: "Connected, silent after the handshake, and left alone by a restart. Without --gvisor.endpoint there is nothing to see.", queries: []query{
					{`sum(sonde_gvisor_connections{F})`, "connected"}, {`sum(sonde_gvisor_silent_connections{F})`, "silent"}, {`sum(sonde_gvisor_orphaned_sandboxes{F})`, "orphaned"},
				}},
				{kind: series, title: "Messages", unit: "cps", width: 8, height: 8, description: "Messages by type, the ten commonest.",
					queries: one(`topk(10, sum by (type) (rate(sonde_gvisor_messages_total{F}[R])))`, "{{type}}")},
				{kind: series, title: "Lost and refused", unit: "cps", width: 8, height: 8, bad: 0.001, description: "Messages that sandboxes lost or that were not understood, and peers that were refused.", queries: []query{
					{`sum(rate(sonde_gvisor_dropped_total{F}[R]))`, "lost by sandboxes"}, {`sum by (reason) (rate(sonde_gvisor_malformed_total{F}[R]))`, "malformed: {{reason}}"},
					{`sum by (reason) (rate(sonde_gvisor_rejected_total{F}[R]))`, "rejected: {{reason}}"},
				}},
			}},
		},
	}
}
