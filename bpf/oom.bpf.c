//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * oom: the black box. It counts the kills of the OOM killer, and how sensors
 * ended, and remembers the last of both. Its links and its maps are pinned: it
 * goes on when the sensor is the victim.
 *
 * Nothing here may live in global variables that change: those belong to one
 * program, and two generations count into the same maps while one takes over
 * from the other. What a map holds is an ABI between versions of the sensor:
 * its layout has a number in pins.go.
 */
#include "kernel.h"
#include "attach.bpf.h"
#include "wait.bpf.h"
#include <bpf/bpf_core_read.h>

#define ENOENT 2
#define EEXIST 17
#define COMM_LEN 16

/* The first argument is the victim; older kernels give the pid of one of its threads. */
const volatile bool victim_is_task = true;

/* Where mem_cgroup_out_of_memory begins and ends: its frame on the stack tells whose memory ran out. */
const volatile __u64 memcg_oom_begin = 0;
const volatile __u64 memcg_oom_end = 0;

enum { VICTIM_SENSOR, VICTIM_OTHER, VICTIMS };
enum { SCOPE_CGROUP, SCOPE_GLOBAL, SCOPES };

/* pid and start never repeat while the machine is up */
struct identity {
	__u64 start_ns; /* CLOCK_BOOTTIME; 0 if the victim could not be found by its pid */
	__u32 pid;
	__u32 pad;
};

struct tally {
	__u64 kills[VICTIMS][SCOPES];
	__u64 seq; /* kills written to `last` */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tally);
} totals SEC(".maps");

/*
 * Victims that are counted: the kernel marks each thread that needs memory to
 * die, for the life of the process, and two generations of this program see each
 * mark. When full the oldest is forgotten; it would be counted again only if it
 * were marked again after a thousand other kills.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct identity);
	__type(value, __u64); /* time of the kill */
} victims SEC(".maps");

/* A run of the sensor that has not ended. Times are CLOCK_BOOTTIME. */
struct run {
	__u64 since_ns;
	__u64 clean_ns; /* of its recorded clean stop, 0: none */
	__u64 kill_seq; /* of its kill, 0: none */
};

/*
 * Runs that have not ended: one, and for an instant two. Whoever takes one out
 * records its end, so it is recorded once however many generations see it.
 */
#define SENSORS 16
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, SENSORS);
	__type(key, struct identity);
	__type(value, struct run);
} sensors SEC(".maps");

enum {
	END_OOM_KILL,
	END_SIGNAL,
	END_CRASH,
	END_CLEAN,
	END_ERROR, /* the sensor's own exit code, which names the cause */
	END_UNKNOWN,
	END_REASONS,
};

struct end_tally {
	__u64 count[END_REASONS];
	__u64 last_ns[END_REASONS]; /* CLOCK_BOOTTIME; 0: never, or not known */
	__u64 seq;                  /* ends written to `ends` */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct end_tally);
} endings SEC(".maps");

struct end {
	__u64 seq;     /* of the end, from 1 */
	__u64 time_ns; /* CLOCK_BOOTTIME; 0: not known */
	struct identity sensor;
	__u64 since_ns;
	__u64 kill_seq; /* of the kill in `last`, 0: none */
	__u32 status;   /* as wait(2) reports it */
	__u32 reason;
};

#define ENDS 16
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, ENDS);
	__type(key, __u32);
	__type(value, struct end);
} ends SEC(".maps");

struct kill {
	__u64 seq;     /* of the kill, from 1; 0 while it is being written */
	__u64 time_ns; /* CLOCK_BOOTTIME */
	struct identity victim;
	__u64 file_pages;
	__u64 anon_pages;
	__u64 swap_pages;
	__u64 shmem_pages;
	__u64 limit_pages; /* of the memory cgroup that was full, else of the victim's own; ~0: none */
	__u64 usage_pages;
	__u32 uid;
	__u8 by_sensor; /* the victim was a sensor */
	__u8 scope;
	__u16 pad;
	char comm[COMM_LEN];
};

#define KILLS 16
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KILLS);
	__type(key, __u32);
	__type(value, struct kill);
} last SEC(".maps");

static __always_inline void identify(struct identity *id, struct task_struct *t)
{
	id->start_ns = BPF_CORE_READ(t, group_leader, start_boottime);
	id->pid = BPF_CORE_READ(t, tgid);
	id->pad = 0;
}

/* Run once by the sensor, through BPF_PROG_TEST_RUN: the caller is a sensor. */
SEC("raw_tp")
int enlist(void *ctx)
{
	struct run r = { .since_ns = bpf_ktime_get_boot_ns() };
	struct identity id;

	identify(&id, (struct task_struct *)bpf_get_current_task());
	return bpf_map_update_elem(&sensors, &id, &r, BPF_ANY);
}

/* Run once by the sensor when it has stopped as it should. */
SEC("raw_tp")
int retire(void *ctx)
{
	struct identity id;
	struct run *r;

	identify(&id, (struct task_struct *)bpf_get_current_task());
	r = bpf_map_lookup_elem(&sensors, &id);
	if (!r)
		return -ENOENT;
	r->clean_ns = bpf_ktime_get_boot_ns();
	return 0;
}

/* ---- finding the victim by pid, on kernels that do not hand it over ---- */

#define MAX_PROCESSES (1 << 20)
#define MAX_DEPTH 128

struct search {
	struct task_struct *at, *end, *found;
	__u32 pid;
};

static long search_step(__u32 i, struct search *s)
{
	struct list_head *next = BPF_CORE_READ(s->at, tasks.next);

	s->at = (void *)next - bpf_core_field_offset(struct task_struct, tasks);
	if (s->at == s->end)
		return 1;
	if ((__u32)BPF_CORE_READ(s->at, pid) != s->pid)
		return 0;
	s->found = s->at;
	return 1;
}

/*
 * The victim is the caller, or it was chosen among the group leaders: walk their
 * list, which begins with the ancestor of all, the idle task. Tracing programs
 * run under RCU, so what is on the list stays readable.
 */
static __always_inline struct task_struct *find_task(__u32 pid)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	struct search s = { .pid = pid };

	if ((__u32)BPF_CORE_READ(t, pid) == pid)
		return t;
	for (int i = 0; i < MAX_DEPTH && BPF_CORE_READ(t, pid); i++)
		t = BPF_CORE_READ(t, real_parent);
	s.at = s.end = t;
	bpf_loop(MAX_PROCESSES, search_step, &s, 0);
	return s.found;
}

/* ---- whose memory ran out ---- */

#define FRAMES 24

static __always_inline bool memcg_oom_on_stack(void *ctx)
{
	__u64 frames[FRAMES] = {};

	bpf_get_stack(ctx, frames, sizeof(frames), 0);
	for (int i = 0; i < FRAMES; i++)
		if (frames[i] > memcg_oom_begin && frames[i] < memcg_oom_end)
			return true;
	return false;
}

static __always_inline struct page_counter *memory_of(struct task_struct *t)
{
	void *set = BPF_CORE_READ(t, cgroups);
	void *slot = set + bpf_core_field_offset(struct css_set, subsys);
	void *css = NULL;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return NULL;
	slot += bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id) * sizeof(void *);
	if (bpf_probe_read_kernel(&css, sizeof(css), slot) || !css)
		return NULL;
	return css - bpf_core_field_offset(struct mem_cgroup, css) +
	       bpf_core_field_offset(struct mem_cgroup, memory);
}

/* A charge that failed left less room than one batch of pages. */
#define CHARGE_BATCH 64

/* Finds the nearest full cgroup from the victim's upwards and notes its figures, else the victim's own. */
static __always_inline bool cgroup_full(struct kill *k, struct task_struct *t)
{
	struct page_counter *own = memory_of(t), *c = own;

	for (int i = 0; i < MAX_DEPTH && c; i++) {
		__u64 max = BPF_CORE_READ(c, max);
		__u64 usage = BPF_CORE_READ(c, usage.counter);

		if (c == own || usage + CHARGE_BATCH >= max) {
			k->limit_pages = max;
			k->usage_pages = usage;
		}
		if (usage + CHARGE_BATCH >= max)
			return true;
		c = BPF_CORE_READ(c, parent);
	}
	return false;
}

static __always_inline __u64 positive(__s64 pages)
{
	return pages > 0 ? pages : 0;
}

static __always_inline void memory_figures(struct kill *k, struct task_struct *t)
{
	struct mm_struct *mm = BPF_CORE_READ(t, signal, oom_mm);
	struct mm_struct___before_6_2 *old = (void *)mm;

	if (bpf_core_type_exists(struct mm_rss_stat)) {
		k->file_pages = positive(BPF_CORE_READ(old, rss_stat.count[0].counter));
		k->anon_pages = positive(BPF_CORE_READ(old, rss_stat.count[1].counter));
		k->swap_pages = positive(BPF_CORE_READ(old, rss_stat.count[2].counter));
		k->shmem_pages = positive(BPF_CORE_READ(old, rss_stat.count[3].counter));
		return;
	}
	k->file_pages = positive(BPF_CORE_READ(mm, rss_stat[0].count));
	k->anon_pages = positive(BPF_CORE_READ(mm, rss_stat[1].count));
	k->swap_pages = positive(BPF_CORE_READ(mm, rss_stat[2].count));
	k->shmem_pages = positive(BPF_CORE_READ(mm, rss_stat[3].count));
}

static __always_inline void remember(struct tally *all, struct kill *k, struct run *sensor)
{
	__u64 seq = __sync_fetch_and_add(&all->seq, 1);
	__u32 at = seq & (KILLS - 1);

	k->seq = seq + 1;
	bpf_map_update_elem(&last, &at, k, BPF_ANY);
	if (sensor)
		sensor->kill_seq = k->seq;
}

static __always_inline int victim(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct kill k = { .time_ns = bpf_ktime_get_boot_ns(), .limit_pages = ~0ULL };
	struct task_struct *t = victim_is_task ? (void *)ctx->args[0] : find_task(ctx->args[0]);
	bool full = false;
	struct run *sensor;
	struct tally *all;
	__u32 zero = 0;
	int err; /* before 6.4 the upper half of the result is not to be relied upon */

	if (t) {
		identify(&k.victim, t);
		full = cgroup_full(&k, t);
	} else if (!victim_is_task) {
		k.victim.pid = ctx->args[0];
	}
	err = bpf_map_update_elem(&victims, &k.victim, &k.time_ns, BPF_NOEXIST);
	if (err == -EEXIST)
		return 0;
	if (memcg_oom_end)
		full = memcg_oom_on_stack(ctx);
	k.scope = full ? SCOPE_CGROUP : SCOPE_GLOBAL;
	sensor = bpf_map_lookup_elem(&sensors, &k.victim);
	k.by_sensor = sensor != NULL;
	all = bpf_map_lookup_elem(&totals, &zero);
	if (!all)
		return 0;
	__sync_fetch_and_add(&all->kills[k.by_sensor ? VICTIM_SENSOR : VICTIM_OTHER][k.scope & 1],
			     1);
	if (t) {
		memory_figures(&k, t);
		k.uid = BPF_CORE_READ(t, cred, uid.val);
		BPF_CORE_READ_STR_INTO(&k.comm, t, group_leader, comm);
	}
	remember(all, &k, sensor);
	return 0;
}

TRACEPOINT(mark_victim, victim)

/* ---- how a sensor ended ---- */

/* The status with which the Go run time ends after a crash. */
#define GO_CRASH 2
/* Above it the status says which signal made the sensor end itself. */
#define BY_SIGNAL 128

static __always_inline __u32 end_reason(struct task_struct *t, struct run *r, int status)
{
	int code = (status >> 8) & 0xff;

	switch (status & 0x7f) {
	case 0:
		break;
	case SIGILL:
	case SIGABRT:
	case SIGBUS:
	case SIGFPE:
	case SIGSEGV:
		return END_CRASH;
	case SIGKILL:
		return BPF_CORE_READ(t, signal, oom_mm) ? END_OOM_KILL : END_SIGNAL;
	default:
		return END_SIGNAL;
	}
	if (code == GO_CRASH)
		return END_CRASH;
	if (code > BY_SIGNAL)
		return END_SIGNAL;
	if (code)
		return END_ERROR;
	return r->clean_ns ? END_CLEAN : END_UNKNOWN;
}

static __always_inline int sensor_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct task_struct *t = (struct task_struct *)ctx->args[0];
	struct end e = { .time_ns = bpf_ktime_get_boot_ns() };
	struct end_tally *all;
	struct run *r, was;
	__u32 zero = 0, at;
	int status;

	/* two last threads may both see that nobody else lives */
	if (BPF_CORE_READ(t, signal, live.counter))
		return 0;
	identify(&e.sensor, t);
	r = bpf_map_lookup_elem(&sensors, &e.sensor);
	all = bpf_map_lookup_elem(&endings, &zero);
	if (!r || !all)
		return 0;
	was = *r;
	if (bpf_map_delete_elem(&sensors, &e.sensor))
		return 0;
	status = wait_status(t);
	e.since_ns = was.since_ns;
	e.kill_seq = was.kill_seq;
	e.status = status;
	e.reason = end_reason(t, &was, status);
	e.seq = __sync_fetch_and_add(&all->seq, 1) + 1;
	at = (e.seq - 1) & (ENDS - 1);
	bpf_map_update_elem(&ends, &at, &e, BPF_ANY);
	if (e.reason < END_REASONS) {
		all->last_ns[e.reason] = e.time_ns;
		__sync_fetch_and_add(&all->count[e.reason], 1);
	}
	return 0;
}

TRACEPOINT(sched_process_exit, sensor_exit)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
