package main

// collectorTable names the collectors and says which are on by default. The
// names are those of --collector.<name> and of the file's section "collectors".
var collectorTable = []struct {
	name string
	on   bool
	help string
}{
	{"syscalls", true, "time and outcome of every system call."},
	{"process", true, "forks, execs and ends of processes."},
	{"tcp", true, "TCP connections, bytes, retransmits, round trips."},
	{"udp", true, "UDP flows."},
	{"drops", true, "packets dropped by the kernel, by reason."},
	{"oom", true, "kills by the out-of-memory killer, those of earlier runs of the sensor included."},
	{"workloads", false, "connections, bytes, execs, OOM kills and failed system calls by container. Kernel memory while on: 2.2 MiB."},
	{"pipeline", true, "event ring and loss ledger."},
	{"bpf", true, "what the sensor's own eBPF programs and maps cost."},
	{"sensor", true, "limits, memory, throttling and pressure of the sensor's own cgroup."},
}

// defaultCollectors returns every collector and whether it is on by default.
func defaultCollectors(disable bool) map[string]bool {
	on := make(map[string]bool, len(collectorTable))
	for _, c := range collectorTable {
		on[c.name] = c.on && !disable
	}
	return on
}
