//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The rungs that the real probe is measured against: an empty pair of programs,
 * the floor of anything that times a system call with tracepoints, and the two
 * designs in common use, a hash keyed by thread id and task storage. Each rung
 * counts into the same per-CPU histogram, so only the pairing differs. Processes
 * and connections have a floor of their own.
 */
#include "kernel.h"
#include "hist.bpf.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define ROWS 512

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ROWS);
	__type(key, __u32);
	__type(value, struct hist);
} hists SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, __u32);
	__type(value, __u64);
} starts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u64);
} storage SEC(".maps");

static __always_inline void count(__u32 nr, __u64 ns)
{
	struct hist *h = bpf_map_lookup_elem(&hists, &nr);

	if (h) {
		h->slots[hist_slot_ns(ns)]++;
		h->sum += ns;
	}
}

static __always_inline __u64 syscall_nr(struct bpf_raw_tracepoint_args *ctx)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];

#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, orig_ax);
#else
	return BPF_CORE_READ(regs, syscallno);
#endif
}

SEC("tp_btf/sys_enter")
int empty_enter(void *ctx)
{
	return 0;
}

SEC("tp_btf/sys_exit")
int empty_exit(void *ctx)
{
	return 0;
}

/* The floor of whatever follows processes and connections. */
SEC("tp_btf/sched_process_fork")
int empty_fork(void *ctx)
{
	return 0;
}

SEC("tp_btf/sched_process_exec")
int empty_exec(void *ctx)
{
	return 0;
}

SEC("tp_btf/sched_process_exit")
int empty_process_exit(void *ctx)
{
	return 0;
}

SEC("tp_btf/inet_sock_set_state")
int empty_set_state(void *ctx)
{
	return 0;
}

SEC("tp_btf/sys_enter")
int hash_enter(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u64 now = bpf_ktime_get_ns();

	bpf_map_update_elem(&starts, &tid, &now, BPF_ANY);
	return 0;
}

SEC("tp_btf/sys_exit")
int hash_exit(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u64 *start = bpf_map_lookup_elem(&starts, &tid);
	__u64 nr = 0;

	if (!start)
		return 0;
	nr = syscall_nr(ctx);
	if (nr < ROWS)
		count(nr, bpf_ktime_get_ns() - *start);
	bpf_map_delete_elem(&starts, &tid);
	return 0;
}

SEC("tp_btf/sys_enter")
int storage_enter(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 *start = bpf_task_storage_get(&storage, bpf_get_current_task_btf(), 0,
					    BPF_LOCAL_STORAGE_GET_F_CREATE);

	if (start)
		*start = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/sys_exit")
int storage_exit(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 *start = bpf_task_storage_get(&storage, bpf_get_current_task_btf(), 0, 0);
	__u64 nr = 0;

	if (!start || !*start)
		return 0;
	nr = syscall_nr(ctx);
	if (nr < ROWS)
		count(nr, bpf_ktime_get_ns() - *start);
	*start = 0;
	return 0;
}

/* The slot functions by themselves, for comparison with Prometheus' own arithmetic. */
SEC("raw_tp")
int slot_ns(struct bpf_raw_tracepoint_args *ctx)
{
	return hist_slot_ns(ctx->args[0]);
}

SEC("raw_tp")
int slot_int(struct bpf_raw_tracepoint_args *ctx)
{
	return hist_slot_int(ctx->args[0]);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
