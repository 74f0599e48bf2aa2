//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * syscalls: counts and times every system call between sys_enter and sys_exit.
 *
 * The hot path of the whole sensor, so it calls as few helpers as can be and
 * allocates nothing: the call in flight lives in an array of thread slots, the
 * histograms in one array element per CPU. What was measured against it
 * (task storage, hash maps) stands in bench/ and docs/performance.md.
 *
 * A thread is known by the address of its user registers: they lie at the same
 * place of its kernel stack at every entry and exit, the tracepoints hand it over
 * as an argument, and it stays when execve changes the thread's id. A thread owns
 * its slot from its first call until it exits, so entry and exit touch memory
 * that no other thread writes and need no atomic operation.
 */
#include "kernel.h"
#include "attach.bpf.h"
#include "hist.bpf.h"
#include "syscall.bpf.h"
#include "workload.bpf.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#if defined(__TARGET_ARCH_x86)
#define NR_EXIT 60
#define NR_EXIT_GROUP 231
#define NR_EXIT_32 1 /* of i386 */
#define NR_EXIT_GROUP_32 252
#elif defined(__TARGET_ARCH_arm64)
#define NR_EXIT 93
#define NR_EXIT_GROUP 94
#define NR_EXIT_32 1 /* of arm */
#define NR_EXIT_GROUP_32 248
#endif

/* Rows of the tables: the numbers below NR_TABLE, then two collective ones. */
#define NR_COMPAT NR_TABLE
#define NR_OTHER (NR_TABLE + 1)
#define NR_ROWS (NR_TABLE + 2)
/* No row: the thread has called exit, which was counted and never returns. */
#define ROW_EXITING NR_ROWS

enum { SUCCESS, ERROR, OUTCOMES };

/* Calls that never return: counted at their entry, and timed nowhere. */
enum { EXIT, EXIT_GROUP, EXIT_COMPAT, EXITS };

/* Why a sys_exit (or a call) could not be timed. */
enum { UNPAIRED_ATTACH, UNPAIRED_FORK, UNPAIRED_SECCOMP, UNPAIRED_NO_SLOT, UNPAIRED };

/*
 * 176 histograms of 1688 bytes are 291 KiB per CPU. The first two are "other",
 * for what occurs after the rest is taken.
 */
#define HISTS 176
#define HIST_OTHER 0
#define HIST_DYNAMIC OUTCOMES

/* Number of thread slots less one; a power of two less one. */
const volatile __u32 thread_mask = 65535;
/* Histograms in use at most; tests lower it to reach the edge. */
const volatile __u32 hist_limit = HISTS;

/*
 * Set where tracepoints run preemptible (kernel.bpf.c). Then another task's
 * program may run on this CPU in the middle of ours: additions must be atomic,
 * and the kernel's recursion guard skips a program that is under way. The
 * programs are attached twice there, and what the first was skipped for the
 * second does.
 */
const volatile bool preemptible = false;

#define ADD(counter, n)                                        \
	do {                                                   \
		if (preemptible)                               \
			__sync_fetch_and_add(&(counter), (n)); \
		else                                           \
			(counter) += (n);                      \
	} while (0)

struct call {
	__u64 owner;    /* address of the thread's user registers; 0: free */
	__u64 start_ns; /* CLOCK_MONOTONIC; 0: no call in flight */
	__u64 row;      /* of the call in flight, taken at the entry */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 65536); /* thread_mask + 1, set by the loader */
	__type(key, __u32);
	__type(value, struct call);
} threads SEC(".maps");

/* Threads that found their whole window taken. Preallocated: never fails for want of memory. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 8192); /* set by the loader */
	__type(key, __u64);
	__type(value, struct call);
} threads_overflow SEC(".maps");

struct cpu_calls {
	struct hist hists[HISTS];
	__u64 exits[EXITS];
	__u64 unpaired[UNPAIRED];
	__u64 errors_other[NR_ROWS]; /* errors that found the errors map full */
};

/* One element per CPU, mapped by user space: a scrape is a memory read. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* possible CPUs, set by the loader */
	__type(key, __u32);
	__type(value, struct cpu_calls);
} calls SEC(".maps");

/* Failed calls by row and errno. Preallocated. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 2048); /* set by the loader */
	__type(key, __u32);        /* row << 16 | errno */
	__type(value, __u64);
} errors SEC(".maps");

/*
 * Hooks: a probe that must see the result of one system call (tcp: connect,
 * accept) does not attach to every sys_exit again but is tail-called from here.
 * A call without a hook costs one bit test.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, NR_TABLE);
	__type(key, __u32);
	__type(value, __u32);
} sys_exit_hooks SEC(".maps");

__u64 hooked[NR_TABLE / 64];

/* Which histogram a row and outcome owns, plus one; 0 until the first such call. */
__u32 hist_of[NR_ROWS][OUTCOMES];
__u32 hists_used = HIST_DYNAMIC;
/* Pairs of row and outcome that came when all histograms were taken. */
__u64 hists_folded;
/* What found its map full. */
__u64 threads_overflow_failures;
__u64 errors_failures;
/* When all programs were attached, CLOCK_BOOTTIME; set by user space. */
__u64 attached_ns;

/* From the lowest address of a kernel stack to the registers: one for all threads. */
__u32 regs_offset;

/*
 * The window of slots a thread may own: its home and the three after it. Stacks
 * are at least 16 KiB apart, so neighbours in a window are strangers only where
 * stacks span more than 16 KiB times the number of slots.
 */
#define WINDOW 4
#define STACK_SHIFT 14

/*
 * The low half of an address. In a BTF tracepoint the argument is a typed
 * pointer on which the verifier forbids shifts; a 32-bit move makes it a number,
 * and the compiler must not see through it.
 */
static __always_inline __u32 low_half(__u64 address)
{
	__u32 low;

	asm volatile("%0 = %1" : "=w"(low) : "w"((__u32)address));
	return low;
}

static __always_inline struct call *slot_at(__u64 owner, __u32 i)
{
	__u32 key = ((low_half(owner) >> STACK_SHIFT) + i) & thread_mask;

	return bpf_map_lookup_elem(&threads, &key);
}

static __always_inline struct call *slot_find(__u64 owner)
{
	struct call *c = slot_at(owner, 0);

	if (c && c->owner == owner)
		return c;
	for (int i = 1; i < WINDOW; i++) {
		c = slot_at(owner, i);
		if (c && c->owner == owner)
			return c;
	}
	return bpf_map_lookup_elem(&threads_overflow, &owner);
}

static __always_inline struct call *slot_claim(__u64 owner)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	struct call *c, fresh = { .owner = owner };

	regs_offset = low_half(owner) - (__u32)(__u64)BPF_CORE_READ(t, stack);
	for (int i = 0; i < WINDOW; i++) {
		c = slot_at(owner, i);
		if (c && !c->owner && !__sync_val_compare_and_swap(&c->owner, 0, owner))
			return c;
	}
	if (bpf_map_update_elem(&threads_overflow, &owner, &fresh, BPF_ANY))
		__sync_fetch_and_add(&threads_overflow_failures, 1);
	return bpf_map_lookup_elem(&threads_overflow, &owner);
}

static __always_inline void slot_release(__u64 owner)
{
	struct call *c;

	for (int i = 0; i < WINDOW; i++) {
		c = slot_at(owner, i);
		if (c && c->owner == owner) {
			c->start_ns = 0;
			c->owner = 0; /* last: from here on it belongs to whoever claims it */
			return;
		}
	}
	bpf_map_delete_elem(&threads_overflow, &owner);
}

static __always_inline struct cpu_calls *cpu_calls(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&calls, &cpu);
}

static __always_inline void count_unpaired(__u32 reason)
{
	struct cpu_calls *cc = cpu_calls();

	if (cc)
		ADD(cc->unpaired[reason], 1);
}

/*
 * Which of the calls that never return this is, EXITS for none. x32 is left out:
 * where a kernel has it switched off, its exit returns ENOSYS like any other call.
 */
static __always_inline __u32 exit_kind(__u32 row, __s64 nr)
{
	if (row == NR_EXIT)
		return EXIT;
	if (row == NR_EXIT_GROUP)
		return EXIT_GROUP;
	return row == NR_COMPAT && (nr == NR_EXIT_32 || nr == NR_EXIT_GROUP_32) ? EXIT_COMPAT
										: EXITS;
}

static __always_inline struct task_struct *current_task(bool btf)
{
	return btf ? bpf_get_current_task_btf() : (struct task_struct *)bpf_get_current_task();
}

static __always_inline int enter(struct bpf_raw_tracepoint_args *ctx, bool btf, bool again)
{
	__u64 owner = ctx->args[0];
	__s64 nr = (__s64)ctx->args[1];
	struct call *c;
	__u32 row, kind;

	if (is_compat(current_task(btf), nr, btf))
		row = NR_COMPAT;
	else
		row = nr >= 0 && nr < NR_TABLE ? nr : NR_OTHER;
	c = slot_find(owner);
	if (again && c && (c->start_ns || c->row == ROW_EXITING))
		return 0;
	if (!c)
		c = slot_claim(owner);
	kind = exit_kind(row, nr);
	if (kind < EXITS) {
		struct cpu_calls *cc = cpu_calls();

		if (cc)
			ADD(cc->exits[kind], 1);
		if (c)
			c->row = ROW_EXITING;
		return 0;
	}
	if (!c) {
		count_unpaired(UNPAIRED_NO_SLOT);
		return 0;
	}
	c->row = row;
	c->start_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline __u32 hist_assign(__u32 *owned, __u32 outcome)
{
	__u32 h = HIST_OTHER + outcome, old;
	bool folded = true;

	if (hists_used < hist_limit) {
		__u32 next = __sync_fetch_and_add(&hists_used, 1);

		if (next < hist_limit) {
			h = next;
			folded = false;
		}
	}
	/* Two CPUs may meet the same first call: the later one's histogram stays empty. */
	old = __sync_val_compare_and_swap(owned, 0, h + 1);
	if (old)
		return old - 1;
	if (folded)
		__sync_fetch_and_add(&hists_folded, 1);
	return h;
}

static __always_inline void count_errno(struct cpu_calls *cc, __u32 row, __u32 err)
{
	__u32 key = row << 16 | err;
	__u64 one = 1, *n = bpf_map_lookup_elem(&errors, &key);

	if (n) {
		ADD(*n, 1);
		return;
	}
	if (!bpf_map_update_elem(&errors, &key, &one, BPF_NOEXIST))
		return;
	n = bpf_map_lookup_elem(&errors, &key); /* another CPU was first, or the map is full */
	if (n) {
		ADD(*n, 1);
		return;
	}
	__sync_fetch_and_add(&errors_failures, 1);
	if (row < NR_ROWS)
		ADD(cc->errors_other[row], 1);
}

/* A sys_exit without a sys_enter: say why, never time it. */
static __always_inline void unpaired(struct bpf_raw_tracepoint_args *ctx, struct call *c)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	__s32 nr = syscall_nr((struct pt_regs *)ctx->args[0]);
	__s64 ret = (__s64)ctx->args[1];

	if (!ret && makes_task(nr))
		count_unpaired(UNPAIRED_FORK);
	else if (!c && (!attached_ns || BPF_CORE_READ(t, start_boottime) < attached_ns))
		count_unpaired(UNPAIRED_ATTACH);
	else
		count_unpaired(UNPAIRED_SECCOMP);
}

static __always_inline int leave(struct bpf_raw_tracepoint_args *ctx, bool again)
{
	struct call *c = slot_find(ctx->args[0]);
	__s64 ret = (__s64)ctx->args[1];
	__u32 row, outcome, h;
	struct cpu_calls *cc;
	__u64 ns;

	if (!c || !c->start_ns) {
		if (!again) /* where it was the first that did the work, nothing is amiss */
			unpaired(ctx, c);
		return 0;
	}
	ns = bpf_ktime_get_ns() - c->start_ns;
	c->start_ns = 0;
	row = c->row;
	cc = cpu_calls();
	if (!cc || row >= NR_ROWS)
		return 0;
	/* rt_sigreturn's exit shows what the interrupted code had in the register */
	outcome = ret < 0 && ret >= -4095 && row != NR_RT_SIGRETURN ? ERROR : SUCCESS;
	h = hist_of[row][outcome];
	h = h ? h - 1 : hist_assign(&hist_of[row][outcome], outcome);
	if (h < HISTS) {
		ADD(cc->hists[h].slots[hist_slot_ns(ns)], 1);
		ADD(cc->hists[h].sum, ns);
	}
	if (outcome == ERROR) {
		count_errno(cc, row, -ret);
		workload_count_current(WORKLOAD_SYSCALL_ERRORS);
	}
	if (row < NR_TABLE && hooked[row / 64] & (1ULL << (row & 63)))
		bpf_tail_call(ctx, &sys_exit_hooks, row);
	return 0;
}

/* The slot of a thread that ends is free. A thread that never made a call has none. */
static __always_inline int thread_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();

	if (regs_offset)
		slot_release((__u64)BPF_CORE_READ(t, stack) + regs_offset);
	return 0;
}

static __always_inline int first_enter(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	return enter(ctx, btf, false);
}

static __always_inline int second_enter(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	return enter(ctx, btf, true);
}

static __always_inline int first_leave(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	return leave(ctx, false);
}

static __always_inline int second_leave(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	return leave(ctx, true);
}

TRACEPOINT_AS(sys_enter, sys_enter, first_enter)
TRACEPOINT_AS(sys_enter_again, sys_enter, second_enter)
TRACEPOINT_AS(sys_exit, sys_exit, first_leave)
TRACEPOINT_AS(sys_exit_again, sys_exit, second_leave)
TRACEPOINT(sched_process_exit, thread_exit)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
