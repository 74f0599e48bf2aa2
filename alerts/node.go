package alerts

import "time"

// blocking are the calls whose time is that of a wait somebody asked for.
const blocking = `futex.*|.*wait.*|.*poll.*|p?select6?|.*sleep|pause|rt_sig.*|accept4?|recv.*|restart_syscall|other`

// node is about what sensors see, not about themselves.
func node() []Alert {
	return expanded([]Alert{
		{
			Name: "SondeConnectionRateAnomaly", Severity: Info, For: 15 * time.Minute, Dashboard: "sonde-network",
			Expr: `instance:sonde_connections_opened:rate5m{S} - avg_over_time(instance:sonde_connections_opened:rate5m{S}[1d] offset 10m)` +
				` > 5 * stddev_over_time(instance:sonde_connections_opened:rate5m{S}[1d] offset 10m)` +
				` and instance:sonde_connections_opened:rate5m{S} > 50`,
			Summary:     "A node opens far more connections than it did during the last day.",
			Description: "{{ $labels.instance }} opens {{ $value | humanize }} connections per second more than its average of a day.",
		},
		{
			Name: "SondeSyscallLatencyRegression", Severity: Info, For: 30 * time.Minute, Dashboard: "sonde-syscalls",
			Expr: `instance_syscall:sonde_syscall_duration_seconds:quantile5m{S, syscall!~"` + blocking + `"}` +
				` > 2 * (avg_over_time(instance_syscall:sonde_syscall_duration_seconds:quantile5m{S}[1h] offset 1d) > 0.0001)` +
				` and on (I, syscall) instance_syscall:sonde_syscalls:rate5m{S} > 10`,
			Summary:     "A system call has become slow.",
			Description: "One of a hundred calls of {{ $labels.syscall }} on {{ $labels.instance }} takes more than {{ $value | humanizeDuration }}: twice what it took a day ago.",
		},
	})
}

// kubernetes needs kube-state-metrics, and the label node that the monitors of deploy/
// give to every target; elsewhere it is silent.
func kubernetes() []Alert {
	return expanded([]Alert{
		{
			Name: "SondeNotOnNode", Severity: Warning, For: 30 * time.Minute, Dashboard: "sonde-overview",
			Expr:        `sum by (cluster, node) (kube_node_info) unless on (cluster, node) (sum by (cluster, node) (up{S}) > 0)`,
			Summary:     "A node of the cluster has no sensor.",
			Description: "The node {{ $labels.node }} has no sensor that answers.",
		},
		{
			Name: "SondeOOMKilledKubernetes", Severity: Warning, Dashboard: "sonde-sensor",
			Expr: `max by (cluster, namespace, pod) (kube_pod_container_status_last_terminated_reason{reason="OOMKilled", container="sonde"}) == 1` +
				` and on (cluster, namespace, pod) sum by (cluster, namespace, pod) (increase(kube_pod_container_status_restarts_total{container="sonde"}[30m])) > 0`,
			Summary:     "Kubernetes has ended a sensor for want of memory.",
			Description: "The pod {{ $labels.namespace }}/{{ $labels.pod }} was killed for want of memory and restarted within 30 minutes.",
		},
	})
}
