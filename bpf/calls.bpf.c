//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * calls: tells of single system calls, for sessions that name them. It is loaded only
 * while one does, so that otherwise a call costs nothing for it: the object that
 * counts system calls knows nothing of this one.
 *
 * Nothing is kept from the entry to the exit, where the registers still hold the
 * arguments. What they point at is the caller's own memory, which it may change
 * meanwhile: a hint, not the truth.
 */
#include "kernel.h"
#include "attach.bpf.h"
#include "event.bpf.h"
#include "syscall.bpf.h"
#include "task.bpf.h"
#include <bpf/bpf_core_read.h>

enum { ENTER, EXIT, ENDS };

/* The calls that are wanted, by number, and those of which texts are, too. */
__u64 wanted[ENDS][NR_TABLE / 64];
__u64 with_texts[ENDS][NR_TABLE / 64];
__u64 with_environment[ENDS][NR_TABLE / 64];
__u64 with_fd_path[ENDS][NR_TABLE / 64];

/* The sensor itself, whose calls are left out: telling of one would make the next. */
const volatile __u32 self;

/*
 * What of a call's memory is told. Arguments are numbered from 1; 0 is none. A block
 * of ADDRESS is a socket's address, with its size in the argument that follows.
 */
#define ADDRESS 255
struct block {
	__u8 arg, size;
};
struct plan {
	__u8 path, args, env, fd;
	struct block in, out;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NR_TABLE);
	__type(key, __u32);
	__type(value, struct plan);
} plans SEC(".maps");

#define TEXT_LEN (PATH_LEN + ARGS_LEN + ENV_LEN + 2 * BLOCK_LEN + SEEN_LEN)

/* Where an event is put together. One per CPU and program: none interrupts itself. */
struct draft {
	struct call_event e;
	char text[TEXT_LEN + ARGS_LEN]; /* behind the last text there is room for one string */
	struct path_room room;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ENDS);
	__type(key, __u32);
	__type(value, struct draft);
} call_drafts SEC(".maps");

static __always_inline bool bit(__u64 set[ENDS][NR_TABLE / 64], __u32 end, __u32 nr)
{
	return set[end][(nr / 64) & (NR_TABLE / 64 - 1)] & (1ULL << (nr & 63));
}

static __always_inline void take_registers(struct call_event *e, struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	e->args[0] = BPF_CORE_READ(regs, di);
	e->args[1] = BPF_CORE_READ(regs, si);
	e->args[2] = BPF_CORE_READ(regs, dx);
	e->args[3] = BPF_CORE_READ(regs, r10);
	e->args[4] = BPF_CORE_READ(regs, r8);
	e->args[5] = BPF_CORE_READ(regs, r9);
#else
	e->args[0] = BPF_CORE_READ(regs, orig_x0);
	for (int i = 1; i < 6; i++)
		e->args[i] = BPF_CORE_READ(regs, user_regs.regs[i]);
#endif
}

/* Each of these writes a text at `at` and returns where the next one begins. */

static __always_inline __u32 take_path(struct draft *x, __u64 from)
{
	long n = bpf_probe_read_user_str(x->text, PATH_LEN, (void *)from);
	char more = 0;

	if (n < 1 || n > PATH_LEN) { /* 0 before 6.13: it is empty */
		x->e.text[CALL_PATH] = n ? TEXT_UNREADABLE : 0;
		return 0;
	}
	x->e.text[CALL_PATH] = n - 1;
	if (n == PATH_LEN && !bpf_probe_read_user(&more, 1, (void *)(from + n - 1)) && more)
		x->e.text[CALL_PATH] |= TEXT_TRUNCATED;
	return n - 1;
}

/* A list of strings in the caller's memory, while it is read. */
struct strings {
	struct draft *x;
	__u64 list;
	__u32 at, end;
	__u16 mark;
};

#define MAX_STRINGS 256

/*
 * 1 of 0, and 0 of what is more: before 6.13 the kernel says 0 of an empty string, without
 * its NUL. Not as a branch, with which the verifier would count its way through the room.
 */
static __always_inline __u64 is_zero(__u64 n)
{
	n--;
	asm volatile("%0 >>= 63" : "+r"(n));
	return n;
}

static long take_string(__u32 i, struct strings *s)
{
	__u32 at = s->at;
	__u64 from = 0;
	long n;

	if (bpf_probe_read_user(&from, sizeof(from), (void *)(s->list + i * sizeof(from)))) {
		s->mark = TEXT_UNREADABLE;
		return 1;
	}
	if (!from)
		return 1;
	if (at >= s->end || at >= TEXT_LEN || i == MAX_STRINGS - 1) {
		s->mark = TEXT_TRUNCATED;
		return 1;
	}
	n = bpf_probe_read_user_str(s->x->text + at, ARGS_LEN, (void *)from);
	if (n < 0) {
		s->mark = TEXT_UNREADABLE;
		return 1;
	}
	n += is_zero(n);
	if (n == ARGS_LEN)
		s->mark = TEXT_TRUNCATED;
	s->at = at + n;
	return n == ARGS_LEN;
}

static __always_inline __u32 take_strings(struct draft *x, __u32 at, enum call_text which,
					  __u32 room, __u64 list)
{
	struct strings s = { .x = x, .list = list, .at = at, .end = at + room };

	if (!list)
		return at;
	bpf_loop(MAX_STRINGS, take_string, &s, 0);
	if (s.mark == TEXT_UNREADABLE) {
		x->e.text[which] = TEXT_UNREADABLE;
		return at;
	}
	if (s.at > s.end) {
		s.at = s.end;
		s.mark = TEXT_TRUNCATED;
	}
	x->e.text[which] = (s.at - at) | s.mark;
	return s.at;
}

/* Strings that lie in one piece. */
static __always_inline __u32 take_piece(struct draft *x, __u32 at, enum call_text which, __u32 room,
					__u64 from, __u64 to)
{
	__u64 size = to - from;
	__u32 len = size < room ? size : room;

	if (at > TEXT_LEN || bpf_probe_read_user(x->text + at, len, (void *)from)) {
		x->e.text[which] = TEXT_UNREADABLE;
		return at;
	}
	x->e.text[which] = size > len ? len | TEXT_TRUNCATED : len;
	return at + len;
}

/* The value of an argument; that there are six is for the plan to mind, not the verifier. */
static __always_inline __u64 argument(struct draft *x, __u32 number)
{
	__u64 at = number - 1;

	asm volatile("%0 &= 7" : "+r"(at));
	return ((__u64 *)x->e.args)[at];
}

static __always_inline __u32 take_block(struct draft *x, __u32 at, enum call_text which,
					const struct block *b)
{
	__u32 len = b->size;
	__u64 from;

	if (!b->arg)
		return at;
	from = argument(x, b->arg);
	if (!from)
		return at;
	if (len == ADDRESS) {
		len = argument(x, b->arg + 1);
		if (which == CALL_OUT &&
		    bpf_probe_read_user(&len, sizeof(len), (void *)argument(x, b->arg + 1)))
			len = 0;
	}
	if (len > BLOCK_LEN)
		len = BLOCK_LEN;
	if (at > TEXT_LEN || bpf_probe_read_user(x->text + at, len, (void *)from)) {
		x->e.text[which] = TEXT_UNREADABLE;
		return at;
	}
	x->e.text[which] = len;
	return at + len;
}

/*
 * After execve has succeeded nothing is left of the caller's memory; the kernel has
 * copied the strings into the new program's, in one piece.
 */
static __always_inline __u32 take_new_program(struct draft *x, bool env)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	struct mm_struct *mm = BPF_CORE_READ(t, mm);
	__u32 at = take_path(x, BPF_CORE_READ(mm, env_end));

	at = take_piece(x, at, CALL_ARGS, ARGS_LEN, BPF_CORE_READ(mm, arg_start),
			BPF_CORE_READ(mm, arg_end));
	if (env)
		at = take_piece(x, at, CALL_ENV, ENV_LEN, BPF_CORE_READ(mm, env_start),
				BPF_CORE_READ(mm, env_end));
	return at;
}

static __always_inline __u32 take_texts(struct draft *x, const struct plan *p, bool env)
{
	bool done = x->e.exit && x->e.result >= 0;
	__u32 at = 0;

	if (p->args && done)
		return take_new_program(x, env);
	if (p->path)
		at = take_path(x, argument(x, p->path));
	if (p->args)
		at = take_strings(x, at, CALL_ARGS, ARGS_LEN, argument(x, p->args));
	if (env && p->env)
		at = take_strings(x, at, CALL_ENV, ENV_LEN, argument(x, p->env));
	at = take_block(x, at, CALL_IN, &p->in);
	if (done)
		at = take_block(x, at, CALL_OUT, &p->out);
	return at;
}

#define AT_FDCWD (-100)

/*
 * The path of the file that a descriptor stands for. It is the kernel's own, and no hint.
 * Not inlined, and by numbers alone: the verifier looks at it once.
 */
__noinline __u32 take_fd(__u32 row, __u32 at, __s32 fd)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	struct draft *x = bpf_map_lookup_elem(&call_drafts, &row);
	struct fs_struct *fs = BPF_CORE_READ(t, fs);
	struct file *file = current_file(fd);
	const struct path *path = &file->f_path;
	struct inode *inode;
	__u64 begin = at;
	__u32 text, len;
	__u16 mode;

	if (!x || (!file && fd != AT_FDCWD))
		return at;
	if (!file)
		path = &fs->pwd;
	inode = BPF_CORE_READ(path, dentry, d_inode);
	x->e.fd_inode = BPF_CORE_READ(inode, i_ino);
	mode = BPF_CORE_READ(inode, i_mode);
	x->e.fd_mode = mode;
	text = path_text(&x->room, BPF_CORE_READ(path, dentry), BPF_CORE_READ(path, mnt), t);
	len = text & ~TEXT_TRUNCATED;
	/* sockets and pipes are in no directory: user space names them */
	if ((mode & S_IFMT) == S_IFSOCK || (len < 2 && (mode & S_IFMT) != S_IFDIR))
		return at;
	asm volatile("" : "+r"(begin)); /* so that it is checked and used in one register */
	if (begin > TEXT_LEN - SEEN_LEN || len > SEEN_LEN)
		return at;
	bpf_probe_read_kernel(x->text + begin, len, x->room.text + SEEN_LEN - len);
	x->e.text[CALL_FD] = text;
	return at + len;
}

static __always_inline int tell(struct pt_regs *regs, __u32 nr, __s64 result, __u32 end)
{
	__u32 row = end, len = 0;
	struct draft *x;
	struct plan *p;

	if (nr >= NR_TABLE || !bit(wanted, end, nr) || !point_on_here(POINT_SYSCALL) ||
	    bpf_get_current_pid_tgid() >> 32 == self)
		return 0;
	x = bpf_map_lookup_elem(&call_drafts, &row);
	p = bpf_map_lookup_elem(&plans, &nr);
	if (!x || !p)
		return 0;
	event_begin(&x->e.h, POINT_SYSCALL);
	fill_current(&x->e.h.process);
	x->e.number = nr;
	x->e.exit = end;
	x->e.result = result;
	x->e.fd_inode = x->e.fd_mode = 0;
	__builtin_memset(x->e.pad, 0, sizeof(x->e.pad) + sizeof(x->e.text) + sizeof(x->e.pads));
	take_registers(&x->e, regs);
	if (bit(with_texts, end, nr))
		len = take_texts(x, p, bit(with_environment, end, nr));
	if (p->fd && bit(with_fd_path, end, nr))
		len = take_fd(end, len, argument(x, p->fd));
	if (len <= TEXT_LEN)
		event_send(&x->e.h, sizeof(x->e) + len);
	return 0;
}

static __always_inline int call_enter(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	__s64 nr = (__s64)ctx->args[1];

	if (is_compat(t, nr, false))
		return 0;
	return tell((struct pt_regs *)ctx->args[0], nr, 0, ENTER);
}

static __always_inline int call_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct task_struct *t = (struct task_struct *)bpf_get_current_task();
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	__s64 result = (__s64)ctx->args[1];
	__s32 nr = syscall_nr(regs);

	if (nr == -1) { /* what the interrupted code had in the register is no result */
		nr = NR_RT_SIGRETURN;
		result = 0;
	}
	if (is_compat(t, nr, false) || (!result && makes_task(nr)))
		return 0;
	return tell(regs, nr, result, EXIT);
}

TRACEPOINT(sys_enter, call_enter)
TRACEPOINT(sys_exit, call_exit)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
