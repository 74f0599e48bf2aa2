//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * process: counts forks, execs and exits, times lives, and knows how many
 * processes there are.
 *
 * The counts need no map: a fork, an exec and the end of a thread group each
 * have a tracepoint of their own. The map of live processes is there for two
 * things only, the time of the last exec and the gauge, and a full map costs
 * nothing but the former.
 *
 * A process is a thread group, kernel threads included: what `ps -e` lists
 * without its zombies.
 */
#include "kernel.h"
#include "attach.bpf.h"
#include "event.bpf.h"
#include "hist.bpf.h"
#include "net.bpf.h"
#include "wait.bpf.h"
#include "task.bpf.h"
#include "workload.bpf.h"
#include <bpf/bpf_core_read.h>

#define EEXIST 17

/* Ancestors that are walked; more count as this many. */
#define MAX_DEPTH 128

enum { FORK_PROCESS, FORK_THREAD, FORK_TYPES };
enum { EXIT_ZERO, EXIT_NONZERO, EXIT_SIGNAL, EXIT_OOM_KILL, EXIT_REASONS };

/* sched_process_exit tells whether the group ends with this thread: newer kernels. */
const volatile bool has_group_dead = false;

/*
 * When the fork program was attached, CLOCK_BOOTTIME: who started later has
 * been seen to start. 0 until user space has set it, before it seeds.
 */
__u64 attached_ns;

/* Processes that found the map full. */
__u64 alive_failures;

struct cpu_processes {
	__u64 execs;
	__u64 forks[FORK_TYPES];
	__u64 exits[EXIT_REASONS];
	__s64 alive; /* a part of the sum, may be negative */
	struct hist lifetime;
	struct hist depth;
};

/* One element per CPU, mapped by user space: a scrape is a memory read. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* possible CPUs, set by the loader */
	__type(key, __u32);
	__type(value, struct cpu_processes);
} counts SEC(".maps");

/* Live processes by pid, with the time of the last exec, 0 if none was seen. Preallocated. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* set by the loader */
	__type(key, __u32);
	__type(value, __u64);
} alive SEC(".maps");

/*
 * Which processes ended last, by a few bits of the pid: of several threads that
 * take themselves for the last one, the first to enter its process here is.
 */
#define ENDED 4096
__u64 ended[ENDED];

static __always_inline struct cpu_processes *cpu_processes(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&counts, &cpu);
}

static __always_inline void hist_add(struct hist *h, __u32 slot, __u64 v)
{
	if (slot >= HIST_SLOTS)
		return;
	__sync_fetch_and_add(&h->slots[slot], 1);
	__sync_fetch_and_add(&h->sum, v);
}

static __always_inline __u64 started_ns(struct task_struct *t)
{
	return BPF_CORE_READ(t, group_leader, start_boottime);
}

/* Ancestors of t, up to and including init or kthreadd; the idle task is nobody's. */
static __always_inline __u32 lineage_depth(struct task_struct *t)
{
	__u32 depth = 0;

	for (int i = 0; i < MAX_DEPTH; i++) {
		t = BPF_CORE_READ(t, real_parent);
		if (!t || !BPF_CORE_READ(t, pid))
			break;
		depth++;
	}
	return depth;
}

static __always_inline void send_fork(struct task_struct *child)
{
	struct fork_event *e;

	if (!point_on(POINT_PROCESS_FORK))
		return;
	e = event_reserve(POINT_PROCESS_FORK, sizeof(*e));
	if (!e)
		return;
	fill_current(&e->h.process);
	fill_process(&e->child, child);
	event_submit(e);
}

/* Enters a new process. Its pid may be there if the seeding was faster. */
static __always_inline void enter_alive(struct cpu_processes *c, __u32 pid)
{
	__u64 none = 0;
	/* an int: before 6.4 the upper half of the result is not to be relied upon */
	int err = bpf_map_update_elem(&alive, &pid, &none, BPF_NOEXIST);

	if (err == -EEXIST)
		return;
	if (err)
		__sync_fetch_and_add(&alive_failures, 1);
	__sync_fetch_and_add(&c->alive, 1);
}

static __always_inline int process_fork(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct task_struct *child = (struct task_struct *)ctx->args[1];
	struct cpu_processes *c = cpu_processes();
	__u32 pid = BPF_CORE_READ(child, pid), depth;

	if (!c)
		return 0;
	if (pid != (__u32)BPF_CORE_READ(child, tgid)) {
		__sync_fetch_and_add(&c->forks[FORK_THREAD], 1);
		return 0;
	}
	__sync_fetch_and_add(&c->forks[FORK_PROCESS], 1);
	depth = lineage_depth(child);
	hist_add(&c->depth, hist_slot_int(depth), depth);
	enter_alive(c, pid);
	send_fork(child);
	return 0;
}

/*
 * Where an exec is put together, texts and all, before it goes to the ring in one
 * piece. One per CPU is enough: the program cannot interrupt itself.
 */
struct exec_draft {
	struct exec_event e;
	char text[PATH_LEN + ARGS_LEN + 2 * SEEN_LEN + ENV_LEN];
	struct path_room room;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct exec_draft);
} exec_drafts SEC(".maps");

/* Each of these writes a text at `at` and returns where the next one begins. */

static __always_inline __u32 draft_path(struct exec_draft *x, const char *path)
{
	long n = bpf_probe_read_kernel_str(x->text, PATH_LEN, path);
	char more = 0;

	if (n < 1 || n > PATH_LEN) {
		x->e.text[TEXT_PATH] = TEXT_UNREADABLE;
		return 0;
	}
	x->e.text[TEXT_PATH] = n - 1;
	if (n == PATH_LEN && !bpf_probe_read_kernel(&more, 1, path + n - 1) && more)
		x->e.text[TEXT_PATH] |= TEXT_TRUNCATED;
	return n - 1;
}

/* Strings of the new program, which lie in one piece. */
static __always_inline __u32 draft_strings(struct exec_draft *x, __u32 at, __u32 room,
					   enum text which, unsigned long begin, unsigned long end)
{
	unsigned long size = end - begin;
	__u32 len = size < room ? size : room;

	if (at > sizeof(x->text) - room || bpf_probe_read_user(x->text + at, len, (void *)begin)) {
		x->e.text[which] = TEXT_UNREADABLE;
		return at;
	}
	x->e.text[which] = size > len ? len | TEXT_TRUNCATED : len;
	return at + len;
}

/* room_left is what the text must leave of x->text. */
static __always_inline __u32 draft_seen(struct exec_draft *x, __u32 at, __u32 room_left,
					enum text which, const struct path *path,
					struct task_struct *t)
{
	__u32 text = path_text(&x->room, BPF_CORE_READ(path, dentry), BPF_CORE_READ(path, mnt), t);
	__u32 len = text & ~TEXT_TRUNCATED;

	if (at > sizeof(x->text) - SEEN_LEN - room_left || len > SEEN_LEN) {
		x->e.text[which] = TEXT_UNREADABLE;
		return at;
	}
	bpf_probe_read_kernel(x->text + at, len, x->room.text + SEEN_LEN - len);
	x->e.text[which] = text;
	return at + len;
}

/* Which of standard input, output and error are Internet sockets, as bits. */
static __always_inline __u8 network_fds(void)
{
	__u8 fds = 0;

	for (int fd = 0; fd < 3; fd++) {
		__u16 family =
			BPF_CORE_READ(sock_of_file(current_file(fd)), __sk_common.skc_family);

		fds |= (family == AF_INET || family == AF_INET6) << fd;
	}
	return fds;
}

static __always_inline void send_exec(struct linux_binprm *bprm)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	struct fs_struct *fs = BPF_CORE_READ(t, fs);
	struct file *file = BPF_CORE_READ(bprm, file);
	struct inode *inode = BPF_CORE_READ(file, f_inode);
	struct mm_struct *mm = BPF_CORE_READ(t, mm);
	struct exec_draft *x;
	__u32 zero = 0, len;

	if (!point_on(POINT_PROCESS_EXEC))
		return;
	x = bpf_map_lookup_elem(&exec_drafts, &zero);
	if (!x)
		return;
	event_begin(&x->e.h, POINT_PROCESS_EXEC);
	fill_process(&x->e.h.process, t);
	fill_credentials(&x->e.cred, t);
	fill_namespaces(&x->e.ns, t);
	x->e.inode = BPF_CORE_READ(inode, i_ino);
	x->e.bytes = BPF_CORE_READ(inode, i_size);
	x->e.changed_ns = changed_ns(inode);
	x->e.device = BPF_CORE_READ(inode, i_sb, s_dev);
	x->e.links = BPF_CORE_READ(inode, i_nlink);
	x->e.mode = BPF_CORE_READ(inode, i_mode);
	x->e.layer = layer_of(inode);
	x->e.network_fds = network_fds();
	len = draft_path(x, BPF_CORE_READ(bprm, filename));
	len = draft_strings(x, len, ARGS_LEN, TEXT_ARGS, BPF_CORE_READ(mm, arg_start),
			    BPF_CORE_READ(mm, arg_end));
	len = draft_seen(x, len, SEEN_LEN + ENV_LEN, TEXT_CWD, &fs->pwd, t);
	len = draft_seen(x, len, ENV_LEN, TEXT_EXE, &file->f_path, t);
	x->e.text[TEXT_ENV] = 0;
	if (detail_on(DETAIL_ENVIRONMENT))
		len = draft_strings(x, len, ENV_LEN, TEXT_ENV, BPF_CORE_READ(mm, env_start),
				    BPF_CORE_READ(mm, env_end));
	if (len <= sizeof(x->text))
		event_send(&x->e.h, sizeof(x->e) + len);
}

static __always_inline int process_exec(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct linux_binprm *bprm = (struct linux_binprm *)ctx->args[2];
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct cpu_processes *c = cpu_processes();
	__u64 *exec_ns;

	if (!c)
		return 0;
	__sync_fetch_and_add(&c->execs, 1);
	workload_count_current(WORKLOAD_EXECS);
	exec_ns = bpf_map_lookup_elem(&alive, &pid);
	if (exec_ns)
		*exec_ns = bpf_ktime_get_boot_ns();
	send_exec(bprm);
	return 0;
}

/*
 * Whether the calling thread ends its process. Without the tracepoint's word
 * for it, two threads on two CPUs can both find no other alive.
 */
static __always_inline bool last_thread(struct bpf_raw_tracepoint_args *ctx, struct task_struct *t)
{
	if (has_group_dead)
		return ctx->args[1] & 0xff;
	return !BPF_CORE_READ(t, signal, live.counter);
}

/*
 * Takes the process out of the map and tells whether this thread is the one to
 * count its end. Among threads that all believe to be the last one:
 *
 *   - Of a process that was entered at its fork, one deletes the entry, and it
 *     counts. One that comes later finds neither an entry nor, since the mark in
 *     `ended` was set before the deletion, an unmarked process.
 *   - Else (before it was seeded, or the map was full) the mark decides alone.
 *     It is exact unless a process with the same low bits of the pid ends in the
 *     instant between two last threads.
 */
static __always_inline bool leave_alive(struct cpu_processes *c, __u32 pid, __u64 start_ns,
					__u64 *exec_ns)
{
	bool young = attached_ns && start_ns >= attached_ns, first = true, deleted;
	__u64 *known = bpf_map_lookup_elem(&alive, &pid);

	*exec_ns = known ? *known : 0;
	if (!has_group_dead) {
		__u64 mark = start_ns ^ ((__u64)pid << 40);

		first = __sync_lock_test_and_set(&ended[pid & (ENDED - 1)], mark) != mark;
	}
	deleted = known && !bpf_map_delete_elem(&alive, &pid);
	if (!has_group_dead && known && young)
		first = deleted;
	/* an old process that is not in the map has never been in the gauge */
	if (deleted || (first && !known && young))
		__sync_fetch_and_add(&c->alive, -1);
	return first;
}

static __always_inline __u32 exit_reason(struct task_struct *t, int status)
{
	int signal = status & 0x7f;

	if (signal == SIGKILL && BPF_CORE_READ(t, signal, oom_mm))
		return EXIT_OOM_KILL;
	if (signal)
		return EXIT_SIGNAL;
	return status ? EXIT_NONZERO : EXIT_ZERO;
}

static __always_inline void send_exit(struct task_struct *t, int status, __u32 reason,
				      __u64 lifetime)
{
	struct exit_event *e;

	if (!point_on(POINT_PROCESS_EXIT))
		return;
	e = event_reserve(POINT_PROCESS_EXIT, sizeof(*e));
	if (!e)
		return;
	fill_current(&e->h.process);
	BPF_CORE_READ_STR_INTO(&e->h.process.comm, t, group_leader, comm);
	e->lifetime_ns = lifetime;
	e->signal = status & 0x7f;
	e->code = e->signal ? 0 : (status >> 8) & 0xff;
	e->oom_killed = reason == EXIT_OOM_KILL;
	e->pad = 0;
	event_submit(e);
}

static __always_inline int process_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct task_struct *t = (struct task_struct *)ctx->args[0];
	struct cpu_processes *c = cpu_processes();
	__u64 start_ns, exec_ns, lifetime;
	__u32 reason;
	int status;

	if (!c || !last_thread(ctx, t))
		return 0;
	start_ns = started_ns(t);
	if (!leave_alive(c, BPF_CORE_READ(t, tgid), start_ns, &exec_ns))
		return 0;
	status = wait_status(t);
	reason = exit_reason(t, status);
	lifetime = bpf_ktime_get_boot_ns() - (exec_ns ? exec_ns : start_ns);
	__sync_fetch_and_add(&c->exits[reason & (EXIT_REASONS - 1)], 1);
	if (reason == EXIT_OOM_KILL)
		workload_count_current(WORKLOAD_OOM_KILLS);
	hist_add(&c->lifetime, hist_slot_ns(lifetime), lifetime);
	send_exit(t, status, reason, lifetime);
	return 0;
}

TRACEPOINT(sched_process_fork, process_fork)
TRACEPOINT(sched_process_exec, process_exec)
TRACEPOINT(sched_process_exit, process_exit)

/*
 * Enters the processes that were there before. Run once, after the tracepoints
 * are attached. One that ends meanwhile is taken out by whichever comes second,
 * its exit or the look back here: an exit that ran before the entry was made
 * has left no thread alive.
 */
SEC("iter/task")
int seed(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	struct cpu_processes *c = cpu_processes();
	__u64 none = 0;
	__u32 pid;
	int err;

	if (!t || !c || t->pid != t->tgid || t->start_boottime >= attached_ns)
		return 0;
	if (!BPF_CORE_READ(t, signal, live.counter))
		return 0;
	pid = t->tgid;
	err = bpf_map_update_elem(&alive, &pid, &none, BPF_NOEXIST);
	if (err && err != -EEXIST)
		__sync_fetch_and_add(&alive_failures, 1);
	if (err)
		return 0;
	__sync_fetch_and_add(&c->alive, 1);
	if (!BPF_CORE_READ(t, signal, live.counter) && !bpf_map_delete_elem(&alive, &pid))
		__sync_fetch_and_add(&c->alive, -1);
	return 0;
}

/* Writes who is alive, one struct process_id after the other. */
SEC("iter/task")
int survey(struct bpf_iter__task *ctx)
{
	struct task_struct *t = ctx->task;
	struct process_id p = {};

	if (!t || t->pid != t->tgid || !BPF_CORE_READ(t, signal, live.counter))
		return 0;
	fill_process(&p, t);
	bpf_seq_write(ctx->meta->seq, &p, sizeof(p));
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
