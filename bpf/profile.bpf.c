//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * profile: counts stacks. One of three programs feeds the same maps: what runs on
 * every CPU some times per second, packets that are dropped, system calls that
 * took long. The object is loaded while a profile runs, no longer.
 *
 * A stack is stored once, under a hash of its frames; samples refer to it. With 64
 * bits two stacks of one profile do not meet (with 8192 of them the chance is one in
 * 10^12), so that unlike in the kernel's own stack maps a place that is taken is
 * never a loss. What does not fit is counted by its reason: samples taken are always
 * the sum of all outcomes.
 */
#include "kernel.h"
#include "attach.bpf.h"
#include "event.bpf.h"
#include <bpf/bpf_core_read.h>

#define BPF_F_USER_STACK (1ULL << 8)
#define EEXIST 17
#define E2BIG 7

/* The kernel unwinds no further: kernel.perf_event_max_stack, 127 unless changed. */
#define FRAMES 127

/* What became of a sample. */
enum {
	RECORDED,
	IDLE,         /* the CPU had nothing to do */
	FILTERED,     /* of a process that was not asked for */
	NO_STACK,     /* the kernel gave no frame at all */
	STACKS_FULL,  /* no room for one more stack */
	SAMPLES_FULL, /* no room for one more combination of process and stacks */
	BUSY,         /* the map was being changed by what was interrupted */
	CALLS_FULL,   /* no room for one more call under way */
	OUTCOMES,
};

/* Whom to look at; set before loading. */
const volatile __u32 only_pid = 0;    /* thread group, 0 for all */
const volatile __u64 only_cgroup = 0; /* and what is below it, 0 for all */
const volatile __u32 cgroup_level = 0;

/* Which calls are slow; set before loading. */
const volatile __s32 only_syscall = -1; /* number, -1 for all */
const volatile __u64 slow_ns = 0;
const volatile __u32 nr_exit = 0, nr_exit_group = 0; /* they never return */

struct stack {
	__u64 frames[FRAMES]; /* innermost first, 0 after the last */
};

struct sample_key {
	__u64 space; /* address of the mm_struct, 0 for what has none; another one after an execve */
	__u64 kernel; /* hash of a stack, 0 for none */
	__u64 user;
	__u32 pid;
	__s32 what; /* reason of a drop, number of a system call */
};

struct sample_value {
	__u64 count;
	__u64 ns; /* slow calls: time in all of them */
};

struct space_key {
	__u64 space;
	__u64 pid;
};

/* Tells user space of an address space when it is first seen, while it is there. */
struct found_space {
	struct space_key key;
	struct process_id process;
};

struct call_start {
	__u64 ns; /* CLOCK_MONOTONIC */
	__s64 nr;
};

/* All maps are preallocated. Sizes are set by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct stack);
} stacks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, struct sample_key);
	__type(value, struct sample_value);
} samples SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, struct space_key);
	__type(value, __u64);
} spaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} found SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64); /* thread */
	__type(value, struct call_start);
} under_way SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct stack);
} scratch SEC(".maps");

/* By outcome. Programs of several contexts write here: additions are atomic. */
__u64 outcomes[OUTCOMES];

/* Stacks that ended at FRAMES, and address spaces that user space was not told of. */
__u64 truncated;
__u64 spaces_failures;

static __always_inline int ended(__u32 outcome)
{
	__sync_fetch_and_add(&outcomes[outcome], 1);
	return 0;
}

/* Tells whether the current process is one that was asked for. */
static __always_inline bool wanted(__u32 pid)
{
	if (only_pid && pid != only_pid)
		return false;
	return !only_cgroup || bpf_get_current_ancestor_cgroup_id(cgroup_level) == only_cgroup;
}

static __always_inline __u64 hash_of(struct stack *s)
{
	__u64 h = 0;

	for (int i = 0; i < FRAMES; i++) {
		if (!s->frames[i])
			break;
		h = (h ^ s->frames[i]) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	return h;
}

/*
 * Stores the current stack of one side and returns its hash. No frames are no error:
 * a kernel thread has none of its user side.
 */
static __always_inline __u64 keep_stack(void *ctx, __u64 flags, __u32 *outcome)
{
	__u32 zero = 0;
	struct stack *s = bpf_map_lookup_elem(&scratch, &zero);
	__u64 h;
	long err;

	if (!s || bpf_get_stack(ctx, s, sizeof(*s), flags) <= 0)
		return 0;
	h = hash_of(s);
	if (s->frames[FRAMES - 1])
		__sync_fetch_and_add(&truncated, 1);
	if (!h || bpf_map_lookup_elem(&stacks, &h))
		return h;
	err = bpf_map_update_elem(&stacks, &h, s, BPF_NOEXIST);
	if (err && err != -EEXIST)
		*outcome = err == -E2BIG ? STACKS_FULL : BUSY;
	return h;
}

static __always_inline void announce_space(struct sample_key *k)
{
	struct space_key key = { .space = k->space, .pid = k->pid };
	struct found_space *f;
	__u64 one = 1;

	if (bpf_map_lookup_elem(&spaces, &key))
		return;
	f = bpf_ringbuf_reserve(&found, sizeof(*f), 0);
	if (!f) {
		__sync_fetch_and_add(&spaces_failures, 1);
		return; /* the next sample of it tries again */
	}
	f->key = key;
	fill_current(&f->process);
	if (bpf_map_update_elem(&spaces, &key, &one, BPF_NOEXIST)) {
		__sync_fetch_and_add(&spaces_failures, 1);
		bpf_ringbuf_discard(f, 0); /* or it would be announced for ever */
		return;
	}
	bpf_ringbuf_submit(f, 0);
}

/* Adds to the sample of a key that is complete. */
static __always_inline int count(struct sample_key *k, __u64 ns)
{
	struct sample_value *v = bpf_map_lookup_elem(&samples, k), fresh = { .count = 1, .ns = ns };
	long err;

	if (!v) {
		err = bpf_map_update_elem(&samples, k, &fresh, BPF_NOEXIST);
		if (!err)
			return ended(RECORDED);
		v = bpf_map_lookup_elem(&samples,
					k); /* another CPU was first, or the map is full */
		if (!v)
			return ended(err == -E2BIG ? SAMPLES_FULL : BUSY);
	}
	__sync_fetch_and_add(&v->count, 1);
	if (ns) /* of a constant 0 the compiler makes an atomic "or", which is younger than 5.10 */
		__sync_fetch_and_add(&v->ns, ns);
	return ended(RECORDED);
}

/* What the process does: its own stack and, where it is in the kernel, the kernel's. */
static __always_inline int count_process(void *ctx, struct sample_key *k, bool kernel, __u64 ns)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	__u32 outcome = RECORDED;

	k->space = (__u64)BPF_CORE_READ(t, mm);
	if (kernel)
		k->kernel = keep_stack(ctx, 0, &outcome);
	if (k->space)
		k->user = keep_stack(ctx, BPF_F_USER_STACK, &outcome);
	if (outcome != RECORDED)
		return ended(outcome);
	if (kernel && !k->kernel && !k->user)
		return ended(NO_STACK);
	announce_space(k);
	return count(k, ns);
}

SEC("perf_event")
int on_cpu(void *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct sample_key k = { .pid = id >> 32 };

	if (!wanted(k.pid))
		return ended(FILTERED);
	if (!id)
		return ended(IDLE);
	return count_process(ctx, &k, true, 0);
}

/* Packets are dropped in softirqs, too: who runs there has nothing to do with it. */
static __always_inline int drop(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct sample_key k = { .what = ctx->args[2] };
	__u32 outcome = RECORDED;

	k.kernel = keep_stack(ctx, 0, &outcome);
	if (outcome != RECORDED)
		return ended(outcome);
	return k.kernel ? count(&k, 0) : ended(NO_STACK);
}

static __always_inline int call_begins(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct call_start c = { .nr = ctx->args[1] };

	if (only_syscall >= 0 && c.nr != only_syscall)
		return 0;
	if (c.nr == nr_exit || c.nr == nr_exit_group || !wanted(id >> 32))
		return 0;
	c.ns = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&under_way, &id, &c, BPF_ANY))
		ended(CALLS_FULL);
	return 0;
}

static __always_inline int call_ends(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	__u64 id = bpf_get_current_pid_tgid(), ns;
	struct call_start *c = bpf_map_lookup_elem(&under_way, &id);
	struct sample_key k = { .pid = id >> 32 };

	if (!c)
		return 0;
	ns = bpf_ktime_get_ns() - c->ns;
	k.what = c->nr;
	bpf_map_delete_elem(&under_way, &id);
	if (ns < slow_ns)
		return ended(FILTERED);
	return count_process(ctx, &k, false, ns);
}

TRACEPOINT(kfree_skb, drop)
TRACEPOINT(sys_enter, call_begins)
TRACEPOINT(sys_exit, call_ends)

const struct found_space *found_space_type __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
