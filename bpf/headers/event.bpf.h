/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The event ring, its ledger and the settings, shared by all objects: each
 * declares these maps, and the loader replaces them by the ones of the kernel
 * object. Reserve or count: there is no way to reserve ring space here that
 * does not count the attempt and its outcome.
 */
#ifndef SONDE_EVENT_BPF_H
#define SONDE_EVENT_BPF_H

#include "kernel.h"
#include "cgroup.bpf.h"
#include "current.bpf.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* Points: the same values as in internal/event. */
enum point {
	POINT_CANARY,
	POINT_PROCESS_EXEC,
	POINT_PROCESS_FORK,
	POINT_PROCESS_EXIT,
	POINT_NETWORK_CONNECT,
	POINT_NETWORK_ACCEPT,
	POINT_NETWORK_CLOSE,
	POINT_NETWORK_LISTEN,
	POINT_SYSCALL,
	POINT_PROCESS_MMAP,
	POINT_SIGNAL_DELIVER,
	POINT_OOM_KILL,
	POINT_MODULE_LOAD,
	POINT_BPF_LOAD,
	POINT_FILE_OPEN,
	POINT_PROCESS_SETNS,
	POINTS = 64, /* size of the ledger: room for points to come */
};

#define COMM_LEN 16

/* Texts, in the order in which they lie in a record, and their bounds: as in decode.go. */
enum text { TEXT_PATH, TEXT_ARGS, TEXT_CWD, TEXT_EXE, TEXT_ENV, TEXTS };
#define PATH_LEN 1024
#define ARGS_LEN 4096
#define ENV_LEN 4096
#define SEEN_LEN 1024 /* of a path that the kernel knows: TEXT_CWD, TEXT_EXE */

/* In a text's length: there was more of it, or it could not be read. */
#define TEXT_TRUNCATED 0x8000
#define TEXT_UNREADABLE 0x4000

/* Who did it. pid and start_ns together never repeat while the machine is up. */
struct process_id {
	__u64 start_ns; /* of the thread group leader, CLOCK_BOOTTIME */
	__u64 cgroup_id;
	__u64 cgroup_v1; /* in that hierarchy; 0: not known */
	__u32 pid;
	__u32 tid;
	__u32 ppid;
	__u32 uid;
	char comm[COMM_LEN];
};

struct event_header {
	__u64 time_ns; /* CLOCK_BOOTTIME */
	__u32 size;    /* of the whole record */
	__u16 cpu;
	__u8 point;
	__u8 flags;
	struct process_id process;
};

struct canary_event {
	struct event_header h;
	__u64 seq;
};

struct credentials {
	__u32 uid, gid, euid, egid, suid, sgid, fsuid, fsgid;
	__u32 securebits;
	__u32 pad;
	__u64 permitted, effective, inheritable;
};

/* Inodes; 0 where the kernel has no such namespace. */
struct namespaces {
	__u32 uts, ipc, mnt, pid, pid_for_children, net, time, time_for_children, cgroup, user;
};

/* Where a file of an overlay is, as containers see their images: as in internal/event. */
enum layer { LAYER_NONE, LAYER_LOWER, LAYER_UPPER, LAYER_UNKNOWN };

/* The texts themselves follow the record, one after the other. */
struct exec_event {
	struct event_header h;
	struct credentials cred;
	struct namespaces ns;
	__u64 inode;
	__u64 bytes;
	__u64 changed_ns; /* when the file last changed, since 1970 */
	__u32 device;
	__u32 links;
	__u16 mode;
	__u8 layer;
	__u8 network_fds; /* bit n: descriptor n, below 3, is an Internet socket */
	__u16 text[TEXTS];
	__u16 pad;
};

struct fork_event {
	struct event_header h;
	struct process_id child;
};

struct exit_event {
	struct event_header h;
	__u64 lifetime_ns;
	__s32 code;
	__u8 signal;
	__u8 oom_killed;
	__u16 pad;
};

struct conn_event {
	struct event_header h;
	__u64 cookie;
	__u64 opened_ns;
	__u64 sent;
	__u64 received;
	__u8 local[16];
	__u8 remote[16];
	__u16 local_port;
	__u16 remote_port;
	__u8 family; /* 4 or 6 */
	__u8 protocol;
	__u8 inbound;
	__u8 pad;
};

/* Of an opened file. */
#define FILE_WRITABLE 1  /* it was opened for writing */
#define FILE_OF_KERNEL 2 /* it is one of the kernel's own: proc, sysfs, cgroups */

/*
 * A file that was mapped, loaded or opened, and how: POINT_PROCESS_MMAP,
 * POINT_MODULE_LOAD, POINT_FILE_OPEN.
 */
struct file_event {
	struct event_header h;
	__s64 result; /* of the call: an address, a descriptor, or an error number negated */
	__u64 length;
	__u64 inode;
	__u32 links;
	__u32 prot;
	__u16 mode;
	__u16 text[1]; /* the path */
	__u32 how;     /* FILE_* */
};

struct setns_event {
	struct event_header h;
	struct namespaces ns; /* afterwards */
	__s32 result;
	__u32 types; /* CLONE_NEW* of those that were joined, or should have been */
};

struct program_event {
	struct event_header h;
	__s32 result;
	__u32 id;
	__u32 type;
	__u32 pad;
	char name[16];
};

struct signal_event {
	struct event_header h;
	__s32 code;
	__u32 sender; /* pid, where one process has sent it */
	__u32 sender_uid;
	__u32 signal;
};

/* The victim is what the child of a fork_event is. */

/* Texts of a call, in the order in which they follow its record. */
enum call_text { CALL_PATH, CALL_ARGS, CALL_ENV, CALL_IN, CALL_OUT, CALL_FD, CALL_TEXTS };
#define BLOCK_LEN 128 /* of memory that a call is given or fills: CALL_IN, CALL_OUT */

struct call_event {
	struct event_header h;
	__s64 result;
	__u64 args[6];
	__u64 fd_inode; /* of the file whose path CALL_FD is */
	__u16 number;
	__u16 fd_mode;
	__u8 exit;
	__u8 pad[3];
	__u16 text[CALL_TEXTS];
	__u16 pads[2];
};

#define DETAIL_ENVIRONMENT 1 /* of a new program */

/*
 * settings: the few words that user space sends down, in one mmapped page.
 * points has one bit per point. silence_ns is how long after a wake-up of the reader
 * the next one waits, as the reader looks by itself a little later; 0 leaves it to the
 * kernel, which wakes whoever has caught up. From a fill of wakeup_bytes on, a wake-up
 * waits only as long as it takes the reader to come.
 */
struct settings_page {
	__u64 points;
	__u64 wakeup_bytes;
	__u64 canary; /* tid of the canary thread, in the initial pid namespace */
	__u64 silence_ns;
	__u64 details; /* DETAIL_*: what is told on request only */
	__u64 limited; /* points of which only some processes are wanted: see `limits` */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings_page);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23); /* set by the loader */
} events SEC(".maps");

/*
 * One line per point. Tracepoints run in task, softirq and interrupt context on
 * one CPU, so the additions are atomic although the memory is per CPU.
 */
struct ledger_row {
	__u64 attempted;
	__u64 submitted;
	__u64 dropped;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, POINTS);
	__type(key, __u32);
	__type(value, struct ledger_row);
} ledger SEC(".maps");

/* What submissions note of the ring. */
struct ring_page {
	__u64 peak;     /* highest fill in bytes since user space has read it */
	__u64 woken_ns; /* when the reader was woken last, CLOCK_BOOTTIME */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ring_page);
} ring SEC(".maps");

static __always_inline bool point_on(enum point point)
{
	__u32 zero = 0;
	struct settings_page *s = bpf_map_lookup_elem(&settings, &zero);

	return s && (s->points & (1ULL << point));
}

/*
 * Of whom a limited point is wanted: of a process whose id, cgroup or user is here.
 * Preallocated; written by user space alone.
 */
enum limit { LIMIT_PID, LIMIT_CGROUP, LIMIT_UID };
struct limit_key {
	__u64 id;
	__u32 point;
	__u32 kind;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 2048); /* old and new ones, for an instant */
	__type(key, struct limit_key);
	__type(value, __u8);
} limits SEC(".maps");

/* point_on for what the current task does. What nobody wants of it is no attempt. */
static __always_inline bool point_on_here(enum point point)
{
	struct limit_key k = { .point = point, .kind = LIMIT_PID };
	__u32 zero = 0;
	struct settings_page *s = bpf_map_lookup_elem(&settings, &zero);

	if (!s || !(s->points & (1ULL << point)))
		return false;
	if (!(s->limited & (1ULL << point)))
		return true;
	k.id = bpf_get_current_pid_tgid() >> 32;
	if (bpf_map_lookup_elem(&limits, &k))
		return true;
	k.kind = LIMIT_CGROUP;
	k.id = task_cgroup_id((struct task_struct *)bpf_get_current_task());
	if (bpf_map_lookup_elem(&limits, &k))
		return true;
	k.kind = LIMIT_UID;
	k.id = (__u32)bpf_get_current_uid_gid();
	return bpf_map_lookup_elem(&limits, &k);
}

static __always_inline bool detail_on(__u64 detail)
{
	__u32 zero = 0;
	struct settings_page *s = bpf_map_lookup_elem(&settings, &zero);

	return s && (s->details & detail);
}

static __always_inline void event_begin(struct event_header *h, enum point point)
{
	h->time_ns = bpf_ktime_get_boot_ns();
	h->cpu = bpf_get_smp_processor_id();
	h->point = point;
	h->flags = 0;
}

/* Counts an event that is lost before there is a record of it. */
static __always_inline void event_lose(enum point point)
{
	__u32 key = point;
	struct ledger_row *l = bpf_map_lookup_elem(&ledger, &key);

	if (!l)
		return;
	__sync_fetch_and_add(&l->attempted, 1);
	__sync_fetch_and_add(&l->dropped, 1);
}

/* Reserves a record of a point that is on; NULL is already counted as dropped. */
static __always_inline void *event_reserve(enum point point, __u64 size)
{
	__u32 key = point;
	struct ledger_row *l = bpf_map_lookup_elem(&ledger, &key);
	struct event_header *h;

	if (!l)
		return NULL;
	__sync_fetch_and_add(&l->attempted, 1);
	h = bpf_ringbuf_reserve(&events, size, 0);
	if (!h) {
		__sync_fetch_and_add(&l->dropped, 1);
		return NULL;
	}
	event_begin(h, point);
	h->size = size;
	return h;
}

#define COMING_NS 200000 /* a reader that was woken takes less to come, or is kept from it */

/* Notes how full the ring is, and returns the flags of a submission that wakes the reader or not. */
static __always_inline __u64 event_wakeup(__u64 now)
{
	__u32 zero = 0;
	struct settings_page *s = bpf_map_lookup_elem(&settings, &zero);
	struct ring_page *r = bpf_map_lookup_elem(&ring, &zero);
	__u64 fill = bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA);
	__s64 silence;

	if (!s || !r)
		return 0;
	/* Racing maxima may lose the smaller step of two; the next event mends it. */
	if (fill > r->peak)
		r->peak = fill;
	if (!s->silence_ns)
		return 0;
	silence = fill < s->wakeup_bytes ? s->silence_ns : COMING_NS;
	if ((__s64)(now - r->woken_ns) < silence)
		return BPF_RB_NO_WAKEUP;
	r->woken_ns = now;
	return BPF_RB_FORCE_WAKEUP;
}

static __always_inline void event_submit(void *event)
{
	struct event_header *h = event;
	__u32 key = h->point;
	struct ledger_row *l = bpf_map_lookup_elem(&ledger, &key);

	if (l)
		__sync_fetch_and_add(&l->submitted, 1);
	bpf_ringbuf_submit(event, event_wakeup(h->time_ns));
}

/*
 * Sends a record of variable size that was put together in the program's own
 * memory: reserving needs a constant size. size was checked against that memory.
 */
static __always_inline void event_send(struct event_header *h, __u64 size)
{
	__u32 key = h->point;
	struct ledger_row *l = bpf_map_lookup_elem(&ledger, &key);

	h->size = size;
	if (!l)
		return;
	__sync_fetch_and_add(&l->attempted, 1);
	/* h->time_ns is when the record was begun, and the ring has no place for it before this */
	if (bpf_ringbuf_output(&events, h, size, event_wakeup(bpf_ktime_get_boot_ns())))
		__sync_fetch_and_add(&l->dropped, 1);
	else
		__sync_fetch_and_add(&l->submitted, 1);
}

static __always_inline void fill_process(struct process_id *p, struct task_struct *t)
{
	p->start_ns = BPF_CORE_READ(t, group_leader, start_boottime);
	p->cgroup_id = task_cgroup_id(t);
	p->cgroup_v1 = cgroups_v1 ? task_cgroup_v1(t) : 0;
	p->pid = BPF_CORE_READ(t, tgid);
	p->tid = BPF_CORE_READ(t, pid);
	p->ppid = BPF_CORE_READ(t, real_parent, tgid);
	p->uid = BPF_CORE_READ(t, cred, uid.val);
	BPF_CORE_READ_STR_INTO(&p->comm, t, comm);
}

static __always_inline void fill_current(struct process_id *p)
{
	struct task_struct *t;
	const __u64 *comm;

	if (!current_has_type()) {
		fill_process(p, untyped_current());
		return;
	}
	t = bpf_get_current_task_btf();
	p->start_ns = current_start_ns();
	p->cgroup_id = current_cgroup_id();
	p->cgroup_v1 = cgroups_v1 ? current_cgroup_v1() : 0;
	p->pid = t->tgid;
	p->tid = t->pid;
	p->ppid = t->real_parent->tgid;
	p->uid = t->cred->uid.val;
	comm = (const __u64 *)t->comm;
	((__u64 *)p->comm)[0] = comm[0];
	((__u64 *)p->comm)[1] = comm[1];
}

/*
 * Fills in an owner of which only that much is kept, with pid 0 where it is not
 * known; all of it where the owner is running.
 */
static __always_inline void fill_owner(struct process_id *p, __u32 pid, __u64 start_ns,
				       __u64 cgroup_id)
{
	if (pid && pid == current_pid() && start_ns == current_start_ns()) {
		fill_current(p);
		return;
	}
	__builtin_memset(p, 0, sizeof(*p));
	p->start_ns = start_ns;
	p->cgroup_id = cgroup_id;
	p->pid = pid;
}

#endif
