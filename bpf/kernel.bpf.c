//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * kernel: what all probes share. It owns the event ring, the drop ledger, the
 * settings and the counts of workloads, and makes the canary event that proves the whole path alive.
 */
#include "kernel.h"
#include "event.bpf.h"
#include "attach.bpf.h"
#include "workload.bpf.h"

/* Who am I, in the initial pid namespace: run once through BPF_PROG_TEST_RUN. */
__u64 self_pid_tgid;

SEC("raw_tp")
int whoami(void *ctx)
{
	self_pid_tgid = bpf_get_current_pid_tgid();
	return 0;
}

/*
 * Whether tracepoints run preemptible. Up to 6.18 the kernel disables preemption
 * around them; 7.2 only pins the task to its CPU (migrate_disable),
 * and another task's program may run in the middle of ours. Seen at the first
 * canary, which the loader causes before it loads any probe.
 */
bool preemptible;

static __always_inline void look_at_context(struct task_struct *t)
{
	if (bpf_core_field_exists(t->migration_disabled))
		preemptible = BPF_CORE_READ(t, migration_disabled) > 0;
}

/*
 * The canary is a thread of the agent that renames itself: task_rename is a
 * tracepoint that hardly ever fires, so watching it costs nobody anything. The
 * new name carries the number: "canary" and nine or fewer decimal digits.
 */
#define CANARY_PREFIX_LEN 6

static __always_inline int canary(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	const char *name = (const char *)ctx->args[1];
	char comm[COMM_LEN] = {};
	struct canary_event *e;
	struct settings_page *s;
	__u32 zero = 0;
	__u64 seq = 0;

	s = bpf_map_lookup_elem(&settings, &zero);
	if (!s || !s->canary || (__u32)bpf_get_current_pid_tgid() != s->canary)
		return 0;
	look_at_context((struct task_struct *)bpf_get_current_task());
	if (!point_on(POINT_CANARY) || bpf_probe_read_kernel(comm, sizeof(comm), name))
		return 0;
	for (int i = CANARY_PREFIX_LEN; i < COMM_LEN; i++) {
		if (comm[i] < '0' || comm[i] > '9')
			break;
		seq = seq * 10 + (comm[i] - '0');
	}
	e = event_reserve(POINT_CANARY, sizeof(*e));
	if (!e)
		return 0;
	fill_current(&e->h.process);
	e->seq = seq;
	event_submit(e);
	return 0;
}

TRACEPOINT(task_rename, canary)

/* Named so that their layout reaches the object's BTF, from which the Go types are made. */
const struct exec_event *exec_event_type __attribute__((unused));
const struct fork_event *fork_event_type __attribute__((unused));
const struct exit_event *exit_event_type __attribute__((unused));
const struct conn_event *conn_event_type __attribute__((unused));
const struct call_event *call_event_type __attribute__((unused));
const struct file_event *file_event_type __attribute__((unused));
const struct program_event *program_event_type __attribute__((unused));
const struct setns_event *setns_event_type __attribute__((unused));
const struct signal_event *signal_event_type __attribute__((unused));
const struct canary_event *canary_event_type __attribute__((unused));
const struct limit_key *limit_key_type __attribute__((unused));
const struct workload *workload_type __attribute__((unused));
const enum point *point_type __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
