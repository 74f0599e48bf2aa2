package dashboards

// node is one node in depth: what its kernel does.
func node() board {
	return board{
		uid: "sonde-node", title: "Sonde / Node",
		description: "One node in depth: processes, system calls, connections, memory, packets. Choose an instance above.",
		rows: []row{
			{title: "Now", panels: []panel{
				{kind: stat, title: "Processes", unit: "none", width: 4, height: 4, description: "Processes alive.", queries: one(`sum(sonde_processes{F})`, "processes")},
				{kind: stat, title: "Connections", unit: "none", width: 4, height: 4, description: "TCP connections and UDP flows open, in all network namespaces; those over loopback count at both ends.",
					queries: one(`sum(sonde_connections{F})`, "connections")},
				{kind: stat, title: "Listening sockets", unit: "none", width: 4, height: 4, description: "Sockets that wait for peers, TCP and UDP.",
					queries: one(`sum(sonde_endpoints{F})`, "endpoints")},
				{kind: stat, title: "Containers", unit: "none", width: 4, height: 4, description: "Containers that live.", queries: one(`sum(sonde_containers{F})`, "containers")},
				{kind: stat, title: "OOM kills", unit: "none", width: 4, height: 4, bad: 1, description: "Processes killed for want of memory within the range shown.",
					queries: one(`sum(increase(sonde_oom_kills_total{F}[$__range]))`, "kills")},
				{kind: stat, title: "Events lost", unit: "none", width: 4, height: 4, bad: 1, description: "Events lost at any stage within the range shown. Counters are not touched by it.",
					queries: one(`sum(increase(sonde_events_dropped_total{F}[$__range]))`, "lost")},
			}},
			{title: "Processes", panels: []panel{
				{kind: series, title: "Processes made and executed", unit: "cps", width: 8, height: 8, description: "Forks, threads and execs per second.", queries: []query{
					{`sum by (type) (rate(sonde_process_forks_total{F}[R]))`, "new {{type}}"},
					{`sum(rate(sonde_process_execs_total{F}[R]))`, "exec"},
				}},
				{kind: stacked, title: "Ends of processes", unit: "cps", width: 8, height: 8, description: "By how they ended: nonzero is an exit code other than 0, oom_kill a victim of the OOM killer.",
					queries: one(`sum by (reason) (rate(sonde_process_exits_total{F}[R]))`, "{{reason}}")},
				{kind: heat, title: "Lifetime of processes", unit: "s", width: 8, height: 8, description: "From the last exec, else the fork, to the end. Bright cells at the bottom: many short-lived processes.",
					queries: histogram("sonde_process_lifetime_seconds", "")},
			}},
			{title: "System calls", panels: []panel{
				{kind: series, title: "Busiest calls", unit: "cps", width: 12, height: 8, description: "The ten calls that are made most often.",
					queries: one(`topk(10, sum by (syscall) (instance_syscall:sonde_syscalls:rate5m{F}))`, "{{syscall}}")},
				{kind: series, title: "Failing calls", unit: "cps", width: 12, height: 8, description: "The ten pairs of call and error that occur most often.",
					queries: one(`topk(10, sum by (syscall, errno) (rate(sonde_syscall_errors_total{F}[R])))`, "{{syscall}} {{errno}}")},
			}},
			{title: "Network", panels: []panel{
				{kind: stacked, title: "Connections open", unit: "none", width: 8, height: 8, description: "By direction and class of the peer.",
					queries: one(`sum by (direction, peer) (sonde_connections{F})`, "{{direction}} {{peer}}")},
				{kind: series, title: "Connections opened and failed", unit: "cps", width: 8, height: 8, description: "Failures are attempts that did not establish.", queries: []query{
					{`sum by (direction) (rate(sonde_connections_opened_total{F}[R]))`, "{{direction}} opened"},
					{`sum by (direction) (rate(sonde_connections_failed_total{F}[R]))`, "{{direction}} failed"},
				}},
				{kind: series, title: "Packets dropped", unit: "cps", width: 8, height: 8, description: "The ten commonest reasons for which the kernel drops packets.",
					queries: one(`topk(10, sum by (reason) (rate(sonde_packet_drops_total{F}[R])))`, "{{reason}}")},
			}},
		},
	}
}
