/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What is counted for each workload, that is for each cgroup that tasks are in.
 * Objects that see something worth counting include this; the map is the kernel
 * object's and shared. Where workloads are not counted, workloads_on is a constant
 * that the verifier knows, and nothing of this is left in a loaded program.
 */
#ifndef SONDE_WORKLOAD_BPF_H
#define SONDE_WORKLOAD_BPF_H

#include "kernel.h"
#include "cgroup.bpf.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define WORKLOAD_EEXIST 17

const volatile bool workloads_on = false;

/* They are told apart by their cgroups of v1, too: cgroups_v1 is not 0. */
const volatile bool workloads_v1 = false;

/*
 * Where a task is. On machines with v1 a container may be told from others by
 * either of the two, depending on its runtime: so both are the key. The ids of
 * different hierarchies may be equal. All bits set is the entry for what finds the
 * map full; user space makes it before anything is counted.
 */
struct workload_key {
	__u64 v2;
	__u64 v1;
};

enum workload_count {
	WORKLOAD_OPENED,
	WORKLOAD_FAILED,
	WORKLOAD_SENT,
	WORKLOAD_RECEIVED,
	WORKLOAD_EXECS,
	WORKLOAD_OOM_KILLS,
	WORKLOAD_SYSCALL_ERRORS,
	WORKLOAD_COUNTS,
};

struct workload {
	__u64 counts[WORKLOAD_COUNTS];
};

/* Preallocated: 48 bytes of head, 16 of key, 56 of value, 16 of bucket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* set by the loader */
	__type(key, struct workload_key);
	__type(value, struct workload);
} workloads SEC(".maps");

/* Counts that found the map full, or their bucket busy: they are in the entry for that. */
__u64 workloads_failures;

static __always_inline struct workload *workload_at(struct workload_key *key)
{
	struct workload *w = bpf_map_lookup_elem(&workloads, key), fresh = {};
	int err; /* not long: see tcp.bpf.c */

	if (w)
		return w;
	err = bpf_map_update_elem(&workloads, key, &fresh, BPF_NOEXIST);
	if (err && err != -WORKLOAD_EEXIST) {
		__sync_fetch_and_add(&workloads_failures, 1);
		key->v2 = key->v1 = ~0ULL;
	}
	return bpf_map_lookup_elem(&workloads, key);
}

/* Counts for a workload whose key is at hand. */
static __always_inline void workload_count(struct workload_key *key, enum workload_count what,
					   __u64 n)
{
	struct workload *w = workload_at(key);

	if (w)
		__sync_fetch_and_add(&w->counts[what], n);
}

/* Counts one for the workload of the running task. */
static __always_inline void workload_count_current(enum workload_count what)
{
	struct workload_key key = {};

	if (!workloads_on)
		return;
	key.v2 = bpf_get_current_cgroup_id();
	if (workloads_v1)
		key.v1 = task_cgroup_v1((struct task_struct *)bpf_get_current_task());
	workload_count(&key, what, 1);
}

#endif
