package alerts

import (
	"fmt"
	"strings"
	"time"
)

// records returns the recording rules.
func records() []Record {
	all := []Record{
		{Name: "instance:sonde_events_attempted:rate5m", Expr: `sum by (I) (rate(sonde_events_attempted_total{S}[5m]))`},
		{Name: "instance_stage:sonde_events_dropped:rate5m", Expr: `sum by (I, stage) (rate(sonde_events_dropped_total{S}[5m]))`},
		{Name: "instance_stage:sonde_events_dropped:ratio_rate5m",
			Expr: `instance_stage:sonde_events_dropped:rate5m / on (I) group_left () (instance:sonde_events_attempted:rate5m > 0)`},
		{Name: "instance:sonde_connections_opened:rate5m", Expr: `sum by (I) (rate(sonde_connections_opened_total{S}[5m]))`},
		{Name: "instance_direction_peer:sonde_connections:sum", Expr: `sum by (I, direction, peer) (sonde_connections{S, peer!="loopback"})`},
		{Name: "instance_direction_peer:sonde_connections_opened:rate5m",
			Expr: `sum by (I, direction, peer) (rate(sonde_connections_opened_total{S, peer!="loopback"}[5m]))`},
		{Name: "instance_syscall:sonde_syscalls:rate5m", Expr: `sum by (I, syscall) (rate(sonde_syscalls_total{S}[5m]))`},
		{Name: "instance:sonde_bpf_run:ratio_rate5m",
			Expr: `sum by (I) (rate(sonde_bpf_program_run_seconds_total{S}[5m])) / (sum by (I) (rate(sonde_bpf_stats_enabled_seconds_total{S}[5m])) > 0)`},
		{Name: "instance:sonde_sensor_memory:ratio",
			Expr: `sum by (I) (sonde_sensor_memory_bytes{S, kind!="mmap"}) / (sum by (I) (sonde_sensor_memory_limit_bytes{S}) > 0)`},
	}
	for _, window := range []string{"5m", "30m", "1h", "2h", "6h", "1d", "3d"} {
		all = append(all, Record{Name: "job:sonde_events_lost:ratio_rate" + window, Expr: strings.ReplaceAll(
			`sum by (cluster, job) (rate(sonde_events_dropped_total{S, stage=~"ring|decode"}[W]))`+
				` / (sum by (cluster, job) (rate(sonde_events_attempted_total{S}[W])) > 0)`, "W", window)})
	}
	for _, h := range []struct{ family, by string }{
		{"sonde_event_delay_seconds", "stage"},
		{"sonde_canary_delay_seconds", ""},
		{"sonde_syscall_duration_seconds", ""},
		{"sonde_process_lifetime_seconds", ""},
		{"sonde_connection_duration_seconds", "direction"},
		{"sonde_connection_handshake_seconds", "direction"},
		{"sonde_tcp_rtt_seconds", "direction"},
	} {
		for _, q := range []string{"0.5", "0.9", "0.99"} {
			all = append(all, quantile(h.family, h.by, q, 5*time.Minute))
		}
	}
	all = append(all, quantile("sonde_syscall_duration_seconds", "syscall", "0.99", 5*time.Minute))
	for _, q := range []string{"0.5", "0.9", "0.95", "0.99"} {
		all = append(all, hourly("sonde_connections", "sum", q), hourly("sonde_connections_opened", "rate5m", q))
	}
	for i := range all {
		all[i].Expr = expand(all[i].Expr)
	}
	return all
}

// quantile records a quantile of a histogram: of its native form, or where that is
// not scraped of its classic one. by is a label to keep besides the target's.
func quantile(family, by, q string, window time.Duration) Record {
	level, labels := "instance", "I"
	if by != "" {
		level, labels = level+"_"+by, labels+", "+by
	}
	minutes := fmt.Sprintf("%dm", int(window.Minutes()))
	return Record{
		Name: level + ":" + family + ":quantile" + minutes,
		Expr: fmt.Sprintf(`histogram_quantile(%[1]s, sum by (%[2]s) (rate(%[3]s{S}[%[4]s]))) or `+
			`histogram_quantile(%[1]s, sum by (%[2]s, le) (rate(%[3]s_bucket{S}[%[4]s])))`, q, labels, family, minutes),
		Labels: map[string]string{"quantile": q},
	}
}

// hourly records a quantile over the last hour of what is recorded, as the summaries of
// StackRox Collector show it.
func hourly(name, operation, q string) Record {
	const level = "instance_direction_peer:"
	return Record{
		Name:   level + name + ":" + operation + "_quantile1h",
		Expr:   fmt.Sprintf("quantile_over_time(%s, %s%s:%s{S}[1h])", q, level, name, operation),
		Labels: map[string]string{"quantile": q},
	}
}
