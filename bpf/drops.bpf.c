//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * drops: counts packets that the kernel frees with a reason.
 *
 * kfree_skb fires in task, softirq and interrupt context, and the kernel skips a
 * program that interrupts itself on the same CPU. The program is therefore as
 * short as can be: it knows no reason by name, user space does. What is skipped
 * nevertheless is known to the kernel and added by the reader.
 */
#include "kernel.h"
#include "attach.bpf.h"

/* A reason is a number below this in the core's list, or another subsystem's above 16 bits. */
#define CORE_REASONS 256
#define SUBSYSTEM_SHIFT 16

struct cpu_drops {
	__u64 core[CORE_REASONS];
	__u64 subsystem;
	__u64 beyond; /* in the core's list, but past its end here */
};

/* One element per CPU, mapped by user space: a scrape is a memory read. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* possible CPUs, set by the loader */
	__type(key, __u32);
	__type(value, struct cpu_drops);
} counts SEC(".maps");

static __always_inline int drop(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	__u32 cpu = bpf_get_smp_processor_id(), reason = ctx->args[2];
	struct cpu_drops *c = bpf_map_lookup_elem(&counts, &cpu);

	if (!c)
		return 0;
	if (reason < CORE_REASONS)
		__sync_fetch_and_add(&c->core[reason], 1);
	else if (reason >> SUBSYSTEM_SHIFT)
		__sync_fetch_and_add(&c->subsystem, 1);
	else
		__sync_fetch_and_add(&c->beyond, 1);
	return 0;
}

TRACEPOINT(kfree_skb, drop)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
