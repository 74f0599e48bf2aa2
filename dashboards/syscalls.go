package dashboards

// syscalls is time and errors of system calls.
func syscalls() board {
	const calls = `, syscall=~"$syscall"`
	return board{
		uid: "sonde-syscalls", title: "Sonde / Syscalls",
		description: "Every system call, counted and timed in the kernel: latency, the dearest, the failing. Nothing is sampled.",
		variables:   []variable{{"syscall", "System call", "sonde_syscalls_total"}},
		rows: []row{
			{title: "Latency", panels: []panel{
				{kind: heat, title: "Time in the kernel", unit: "s", width: 16, height: 9, description: "Time per call from entry to exit, of the chosen calls. Calls that wait on purpose (poll, futex, sleep) are high up and no fault.",
					queries: histogram("sonde_syscall_duration_seconds", calls)},
				{kind: series, title: "Quantiles of all calls", unit: "s", width: 8, height: 9, description: "Time that 50, 90 and 99 % of the calls stay below, of the slowest sensor chosen.",
					queries: quantiles("instance:sonde_syscall_duration_seconds", "", "p{{quantile}}")},
				{kind: series, title: "Slowest calls, 99th percentile", unit: "s", width: 12, height: 9, description: "The ten calls whose 99th percentile is highest. Twice that of a day ago: SondeSyscallLatencyRegression.",
					queries: one(`topk(10, max by (syscall) (instance_syscall:sonde_syscall_duration_seconds:quantile5m{F`+calls+`}))`, "{{syscall}}")},
				{kind: series, title: "Calls, now and a day ago", unit: "cps", width: 12, height: 9, description: "All chosen calls per second, and the same a day before.", queries: []query{
					{`sum(instance_syscall:sonde_syscalls:rate5m{F` + calls + `})`, "now"},
					{`sum(instance_syscall:sonde_syscalls:rate5m{F` + calls + `} offset 1d)`, "a day ago"},
				}},
			}},
			{title: "Which calls", panels: []panel{
				{kind: series, title: "Busiest calls", unit: "cps", width: 12, height: 9, description: "The ten calls that are made most often.",
					queries: one(`topk(10, sum by (syscall) (rate(sonde_syscalls_total{F`+calls+`}[R])))`, "{{syscall}}")},
				{kind: table, title: "Calls by time", width: 12, height: 9, description: "Seconds per second that threads spend in a call, and calls per second. A call that waits on purpose has many.",
					queries: []query{
						{`topk(20, sum by (syscall) (histogram_sum(rate(sonde_syscall_duration_seconds{F` + calls + `}[R]))) or sum by (syscall) (rate(sonde_syscalls_total{F` + calls + `}[R]) * 0))`, "time"},
						{`sum by (syscall) (rate(sonde_syscalls_total{F` + calls + `}[R]))`, "calls"},
					},
					columns: []column{{title: "Time per second", unit: "s"}, {title: "Calls per second", unit: "cps"}}},
			}},
			{title: "Errors", panels: []panel{
				{kind: series, title: "Share of calls that fail", unit: "percentunit", width: 8, height: 9, description: "The ten calls that fail most, as a part of their calls. For many calls failing is usual (EAGAIN of reads).",
					queries: one(`topk(10, sum by (syscall) (rate(sonde_syscalls_total{F, outcome="error"`+calls+`}[R])) / (sum by (syscall) (rate(sonde_syscalls_total{F`+calls+`}[R])) > 0))`, "{{syscall}}")},
				{kind: series, title: "Errors by number", unit: "cps", width: 8, height: 9, description: "The ten commonest errors. EPERM and EACCES are refusals.",
					queries: one(`topk(10, sum by (errno) (rate(sonde_syscall_errors_total{F`+calls+`}[R])))`, "{{errno}}")},
				{kind: table, title: "Errors by call", width: 8, height: 9, description: "Errors per second by call and number, the commonest first.",
					queries: one(`topk(20, sum by (syscall, errno) (rate(sonde_syscall_errors_total{F`+calls+`}[R])))`, "errors"),
					columns: []column{{title: "Errors per second", unit: "cps"}}},
				{kind: series, title: "Ends without a beginning", unit: "cps", width: 24, height: 6, description: "In no other count: calls under way at the start, returns of fork in the child, refusals by seccomp.",
					queries: one(`sum by (reason) (rate(sonde_syscalls_unpaired_total{F}[R]))`, "{{reason}}")},
			}},
		},
	}
}
