//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * acts: tells of what few programs do and security wants to know: executable
 * mappings, loading of modules and BPF programs, secrets and settings of the kernel that
 * are opened, namespaces that are joined, signals, OOM kills. Loaded while a session
 * wants one of them.
 *
 * What is seen at the end of a system call is tail-called by the syscalls object, so
 * that no other call pays for it. Files and programs are the kernel's own objects, not
 * what the caller's memory says.
 */
#include "kernel.h"
#include "attach.bpf.h"
#include "event.bpf.h"
#include "task.bpf.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

#define PROT_EXEC 4
#define BPF_PROG_LOAD 5

/* The sensor itself: what it opens is left out, telling of it would have it open more. */
const volatile __u32 self;

/* mark_victim hands over a task, a pid before 6.10. */
const volatile bool victim_is_task = false;

/*
 * Where an event with a path is put together. Where tracepoints are preemptible another
 * task may come by meanwhile: what finds the room taken is counted as lost.
 */
struct file_draft {
	__u64 busy;
	struct file_event e;
	char text[SEEN_LEN];
	struct path_room room;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct file_draft);
} file_drafts SEC(".maps");

static __always_inline __u64 nth_argument(struct pt_regs *regs, int n)
{
#if defined(__TARGET_ARCH_x86)
	switch (n) {
	case 0:
		return BPF_CORE_READ(regs, di);
	case 1:
		return BPF_CORE_READ(regs, si);
	default:
		return BPF_CORE_READ(regs, dx);
	}
#else
	return n ? BPF_CORE_READ(regs, user_regs.regs[n]) : BPF_CORE_READ(regs, orig_x0);
#endif
}

static __always_inline void send_file(enum point point, struct file *file, __s64 result,
				      __u64 length, __u32 prot, __u32 how)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	struct inode *inode;
	__u32 zero = 0, len = 0;
	struct file_draft *x;

	if (!point_on_here(point))
		return;
	x = bpf_map_lookup_elem(&file_drafts, &zero);
	if (!x)
		return;
	if (__sync_lock_test_and_set(&x->busy, 1)) {
		event_lose(point);
		return;
	}
	event_begin(&x->e.h, point);
	fill_process(&x->e.h.process, t);
	x->e.result = result;
	x->e.length = length;
	x->e.prot = prot;
	x->e.how = how;
	inode = BPF_CORE_READ(file, f_inode);
	x->e.inode = BPF_CORE_READ(inode, i_ino);
	x->e.links = BPF_CORE_READ(inode, i_nlink);
	x->e.mode = BPF_CORE_READ(inode, i_mode);
	x->e.text[0] = 0;
	if (file) {
		x->e.text[0] = path_text(&x->room, BPF_CORE_READ(file, f_path.dentry),
					 BPF_CORE_READ(file, f_path.mnt), t);
		len = x->e.text[0] & ~TEXT_TRUNCATED;
	}
	if (len <= SEEN_LEN) {
		bpf_probe_read_kernel(x->text, len, x->room.text + SEEN_LEN - len);
		event_send(&x->e.h, sizeof(x->e) + len);
	}
	__sync_lock_test_and_set(&x->busy, 0);
}

struct found_file {
	struct file *file;
};

static long take_file(struct task_struct *t, struct vm_area_struct *vma, struct found_file *f)
{
	f->file = BPF_CORE_READ(vma, vm_file);
	return 0;
}

/* The file at an address of the caller's memory; NULL too where others change it just now. */
static __always_inline struct file *file_at(__u64 address)
{
	struct found_file f = {};

	bpf_find_vma(bpf_get_current_task_btf(), address, take_file, &f, 0);
	return f.file;
}

static __always_inline int mmap_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	__u32 prot = nth_argument(regs, 2);
	__s64 address = ctx->args[1];

	if (!(prot & PROT_EXEC) || (address < 0 && address >= -4095))
		return 0;
	send_file(POINT_PROCESS_MMAP, file_at(address), address, nth_argument(regs, 1), prot, 0);
	return 0;
}

static __always_inline int mprotect_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	__u64 address = nth_argument(regs, 0);
	__u32 prot = nth_argument(regs, 2);

	if (!(prot & PROT_EXEC) || ctx->args[1])
		return 0;
	send_file(POINT_PROCESS_MMAP, file_at(address), address, nth_argument(regs, 1), prot, 0);
	return 0;
}

static __always_inline int init_module_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];

	send_file(POINT_MODULE_LOAD, NULL, (__s64)ctx->args[1], nth_argument(regs, 1), 0, 0);
	return 0;
}

static __always_inline int finit_module_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	__u32 fd = nth_argument((struct pt_regs *)ctx->args[0], 0);

	send_file(POINT_MODULE_LOAD, current_file(fd), (__s64)ctx->args[1], 0, 0, 0);
	return 0;
}

#define FMODE_READ 1
#define FMODE_WRITE 2

#define CGROUP_SUPER_MAGIC 0x27e0eb
#define CGROUP2_SUPER_MAGIC 0x63677270
#define DEBUGFS_MAGIC 0x64626720
#define PROC_SUPER_MAGIC 0x9fa0
#define SYSFS_MAGIC 0x62656572
#define TRACEFS_MAGIC 0x74726163

/* Whether a file is one by which the kernel is looked into and set. */
static __always_inline bool is_of_kernel(struct inode *inode)
{
	switch (BPF_CORE_READ(inode, i_sb, s_magic)) {
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case DEBUGFS_MAGIC:
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case TRACEFS_MAGIC:
		return true;
	}
	return false;
}

/*
 * Of all files that are opened few are told of: what not everybody may read, and what
 * sets something in the kernel. With O_PATH a file is not opened.
 */
static __always_inline int open_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	__s64 fd = (__s64)ctx->args[1];
	struct inode *inode;
	struct file *file;
	__u32 mode, how = 0;

	if (fd < 0 || !point_on_here(POINT_FILE_OPEN) || bpf_get_current_pid_tgid() >> 32 == self)
		return 0;
	file = current_file(fd);
	inode = BPF_CORE_READ(file, f_inode);
	mode = BPF_CORE_READ(inode, i_mode);
	if ((mode & S_IFMT) != S_IFREG ||
	    !(BPF_CORE_READ(file, f_mode) & (FMODE_READ | FMODE_WRITE)))
		return 0;
	if (BPF_CORE_READ(file, f_mode) & FMODE_WRITE)
		how |= FILE_WRITABLE;
	if (is_of_kernel(inode))
		how |= FILE_OF_KERNEL;
	if (!(mode & S_IROTH) || how == (FILE_WRITABLE | FILE_OF_KERNEL))
		send_file(POINT_FILE_OPEN, file, fd, 0, 0, how);
	return 0;
}

#define CLONE_NEWTIME 0x00000080
#define CLONE_NEWNS 0x00020000
#define CLONE_NEWCGROUP 0x02000000
#define CLONE_NEWUTS 0x04000000
#define CLONE_NEWIPC 0x08000000
#define CLONE_NEWUSER 0x10000000
#define CLONE_NEWPID 0x20000000
#define CLONE_NEWNET 0x40000000

/* The type of a namespace that a task has joined, by its inode; they share one space. */
static __always_inline __u32 type_of(const struct namespaces *n, __u32 inode)
{
	if (!inode)
		return 0;
	if (inode == n->mnt)
		return CLONE_NEWNS;
	if (inode == n->cgroup)
		return CLONE_NEWCGROUP;
	if (inode == n->uts)
		return CLONE_NEWUTS;
	if (inode == n->ipc)
		return CLONE_NEWIPC;
	if (inode == n->user)
		return CLONE_NEWUSER;
	if (inode == n->pid_for_children)
		return CLONE_NEWPID;
	if (inode == n->net)
		return CLONE_NEWNET;
	if (inode == n->time_for_children)
		return CLONE_NEWTIME;
	return 0;
}

/* The caller may leave the type out where it hands over a namespace, not a process. */
static __always_inline int setns_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	struct setns_event *e;

	if (!point_on_here(POINT_PROCESS_SETNS))
		return 0;
	e = event_reserve(POINT_PROCESS_SETNS, sizeof(*e));
	if (!e)
		return 0;
	fill_process(&e->h.process, t);
	fill_namespaces(&e->ns, t);
	e->result = ctx->args[1];
	e->types = nth_argument(regs, 1);
	if (!e->types && !e->result)
		e->types = type_of(
			&e->ns, BPF_CORE_READ(current_file(nth_argument(regs, 0)), f_inode, i_ino));
	event_submit(e);
	return 0;
}

static __always_inline int bpf_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	__s64 result = (__s64)ctx->args[1];
	struct program_event *e;
	struct bpf_prog *prog;

	if ((__u32)nth_argument((struct pt_regs *)ctx->args[0], 0) != BPF_PROG_LOAD ||
	    !point_on_here(POINT_BPF_LOAD))
		return 0;
	e = event_reserve(POINT_BPF_LOAD, sizeof(*e));
	if (!e)
		return 0;
	fill_process(&e->h.process, t);
	e->result = result;
	e->id = e->type = e->pad = 0;
	__builtin_memset(e->name, 0, sizeof(e->name));
	if (result >= 0) {
		prog = BPF_CORE_READ(current_file(result), private_data);
		e->type = BPF_CORE_READ(prog, type);
		e->id = BPF_CORE_READ(prog, aux, id);
		BPF_CORE_READ_STR_INTO(&e->name, prog, aux, name);
	}
	event_submit(e);
	return 0;
}

static __always_inline int signal_deliver(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct kernel_siginfo *info = (struct kernel_siginfo *)ctx->args[1];
	struct signal_event *e;

	if (!point_on_here(POINT_SIGNAL_DELIVER))
		return 0;
	e = event_reserve(POINT_SIGNAL_DELIVER, sizeof(*e));
	if (!e)
		return 0;
	fill_current(&e->h.process);
	e->signal = ctx->args[0];
	e->code = BPF_CORE_READ(info, si_code);
	e->sender = e->sender_uid = 0;
	if (e->code <= 0) { /* of kill, tgkill, sigqueue: from a process */
		e->sender = BPF_CORE_READ(info, _sifields._kill._pid);
		e->sender_uid = BPF_CORE_READ(info, _sifields._kill._uid);
	}
	event_submit(e);
	return 0;
}

static __always_inline int mark_victim(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct fork_event *e;

	if (!point_on_here(POINT_OOM_KILL))
		return 0;
	e = event_reserve(POINT_OOM_KILL, sizeof(*e));
	if (!e)
		return 0;
	fill_current(&e->h.process);
	__builtin_memset(&e->child, 0, sizeof(e->child));
	if (victim_is_task)
		fill_process(&e->child, (struct task_struct *)ctx->args[0]);
	else
		e->child.pid = ctx->args[0];
	event_submit(e);
	return 0;
}

TRACEPOINT_AS(mmap_exit, sys_exit, mmap_exit)
TRACEPOINT_AS(mprotect_exit, sys_exit, mprotect_exit)
TRACEPOINT_AS(init_module_exit, sys_exit, init_module_exit)
TRACEPOINT_AS(finit_module_exit, sys_exit, finit_module_exit)
TRACEPOINT_AS(bpf_exit, sys_exit, bpf_exit)
TRACEPOINT_AS(open_exit, sys_exit, open_exit)
TRACEPOINT_AS(setns_exit, sys_exit, setns_exit)
TRACEPOINT(signal_deliver, signal_deliver)
TRACEPOINT(mark_victim, mark_victim)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
