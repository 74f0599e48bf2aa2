/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Every kernel type that Sonde reads, trimmed to the fields it reads: this page
 * is the whole of what the programs see of the kernel. Offsets are relocated at
 * load time against the running kernel's BTF (CO-RE), so neither order nor gaps
 * matter here; names and types do.
 */
#ifndef SONDE_KERNEL_H
#define SONDE_KERNEL_H

typedef signed char __s8;
typedef unsigned char __u8;
typedef short __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long __s64;
typedef unsigned long long __u64;
typedef __u16 __le16;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef __u16 __sum16;
typedef _Bool bool;
enum { false = 0, true = 1 };

/* linux/bpf.h: the part of the BPF ABI in use */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_TASK_STORAGE = 29,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
	BPF_EXIST = 2,
	BPF_F_NO_PREALLOC = 1U << 0,
	BPF_F_MMAPABLE = 1U << 10,
	BPF_LOCAL_STORAGE_GET_F_CREATE = 1U << 0,
	BPF_RB_NO_WAKEUP = 1ULL << 0,
	BPF_RB_FORCE_WAKEUP = 1ULL << 1,
	BPF_RB_AVAIL_DATA = 0,
	BPF_RB_RING_SIZE = 1,
};

/* helpers that not every kernel has */
enum bpf_func_id {
	BPF_FUNC_loop = 181, /* since 5.17 */
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef int pid_t;
typedef struct {
	int counter;
} atomic_t;
typedef struct {
	__s64 counter;
} atomic64_t;
typedef struct {
	unsigned int val;
} kuid_t;

/* ---- tasks ---- */

struct thread_info {
	unsigned long flags;
	__u32 status; /* x86: TS_COMPAT */
};

struct kernfs_node {
	__u64 id; /* since 5.5; the cgroup id of v2 */
};

struct cgroup {
	struct kernfs_node *kn;
	int level;
};

/* embedded at the start of each controller's own structure */
struct cgroup_subsys_state {
	struct cgroup *cgroup;
};

struct css_set {
	struct cgroup *dfl_cgrp;
	struct cgroup_subsys_state *subsys[1]; /* by enum cgroup_subsys_id, whose values differ */
};

enum cgroup_subsys_id {
	memory_cgrp_id = 1,
};

struct ns_common {
	unsigned int inum;
};

struct user_namespace {
	struct ns_common ns;
};

typedef struct {
	__u64 val; /* two words of 32 bits before 6.3, which read the same */
} kernel_cap_t;

typedef struct {
	unsigned int val;
} kgid_t;

struct cred {
	kuid_t uid, suid, euid, fsuid;
	kgid_t gid, sgid, egid, fsgid;
	unsigned int securebits;
	kernel_cap_t cap_inheritable, cap_permitted, cap_effective;
	struct user_namespace *user_ns;
};

struct uts_namespace {
	struct ns_common ns;
};
struct ipc_namespace {
	struct ns_common ns;
};
struct mnt_namespace {
	struct ns_common ns;
};
struct time_namespace {
	struct ns_common ns;
};
struct cgroup_namespace {
	struct ns_common ns;
};
struct net {
	struct ns_common ns;
};
struct pid_namespace {
	struct ns_common ns;
};

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct pid_namespace *pid_ns_for_children;
	struct net *net_ns;
	struct time_namespace *time_ns; /* since 5.6 */
	struct time_namespace *time_ns_for_children;
	struct cgroup_namespace *cgroup_ns;
};

struct upid {
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1]; /* one per level */
};

typedef struct {
	__s64 counter;
} atomic_long_t; /* on 64-bit architectures */

struct percpu_counter {
	__s64 count; /* without what CPUs keep back, some dozens each */
};

/* resident pages by kind: file, anonymous, swapped out, shared */
struct mm_struct {
	struct percpu_counter rss_stat[4]; /* since 6.2 */
	unsigned long arg_start, arg_end;  /* of the arguments, each with its NUL */
	unsigned long env_start,
		env_end; /* the same of the environment; execve's path follows it */
};
struct mm_rss_stat {
	atomic_long_t count[4];
};
struct mm_struct___before_6_2 {
	struct mm_rss_stat rss_stat;
};

struct page_counter {
	atomic_long_t usage; /* pages */
	unsigned long max;
	struct page_counter *parent;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
};

struct list_head {
	struct list_head *next;
};

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
	struct mm_struct *oom_mm;
};

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
};

struct files_struct {
	struct fdtable *fdt;
};

struct task_struct {
	struct thread_info thread_info;
	void *stack;                       /* lowest address of the kernel stack */
	unsigned short migration_disabled; /* since 5.11 */
	int exit_code;
	pid_t pid;
	pid_t tgid;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct list_head tasks; /* of the group leaders */
	__u64 start_boottime;   /* since 5.5, named real_start_time before */
	const struct cred *cred;
	char comm[16];
	struct files_struct *files;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct mm_struct *mm;
	unsigned int flags;
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	struct pid *thread_pid;
};

struct vm_area_struct {
	struct file *vm_file; /* NULL for memory of no file */
};

struct bpf_prog_aux {
	__u32 id;
	char name[16];
};

enum bpf_prog_type {
	BPF_PROG_TYPE_UNSPEC,
};

struct bpf_prog {
	enum bpf_prog_type type;
	struct bpf_prog_aux *aux;
};

struct kernel_siginfo {
	int si_signo;
	int si_code;
	union {
		struct {
			pid_t _pid;
			unsigned int _uid;
		} _kill;
	} _sifields;
};

struct linux_binprm {
	const char *filename;
	struct file *file;
};

/* ---- files and sockets ---- */

struct super_block {
	unsigned long s_magic;
	__u32 s_dev;
};

struct timespec64 {
	__s64 tv_sec;
	long tv_nsec;
};

struct inode {
	struct super_block *i_sb;
	__s64 i_size;
	__s64 i_ctime_sec; /* since 6.11 */
	__u32 i_ctime_nsec;
	__u16 i_mode;
	unsigned long i_ino;
	unsigned int i_nlink;
};

struct inode___before_6_11 {
	struct timespec64 __i_ctime;
};
struct inode___before_6_6 {
	struct timespec64 i_ctime;
};

struct qstr {
	__u32 len;
	const unsigned char *name;
};

struct dentry {
	struct inode *d_inode;
	struct dentry *d_parent;
	struct qstr d_name;
};

/* In the kernel's BTF where overlayfs is no module. */
struct ovl_inode {
	struct inode vfs_inode;
	struct dentry *__upperdentry;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct fs_struct {
	struct path root, pwd;
};

struct file {
	struct path f_path;
	struct inode *f_inode;
	unsigned int f_mode;
	void *private_data;
};

struct in6_addr {
	union {
		__u8 u6_addr8[16];
	} in6_u;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	__u16 skc_family;
	volatile unsigned char skc_state;
	unsigned long skc_flags;
	possible_net_t skc_net;
	atomic64_t skc_cookie; /* 0 until somebody asks for it, and then never another's */
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol; /* 8 bits wide before 5.6 */
	__u16 sk_type;
	unsigned int sk_kern_sock : 1; /* the kernel's own */
	int sk_err;
	struct socket *sk_socket; /* NULL once nobody holds it */
};

struct inet_sock {
	__be16 inet_sport;
};

struct tcp_sock {
	__u32 srtt_us; /* smoothed round trip time in eighths of a microsecond */
	__u64 bytes_sent;
	__u64 bytes_retrans;
	__u64 bytes_received;
};

struct mptcp_sock {
	struct sock *first; /* the subflow that opened the connection */
};

struct socket {
	struct sock *sk;
};

struct pt_regs; /* per architecture: bpf_tracing.h */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip,
		cs, flags, sp, ss;
};
#elif defined(__TARGET_ARCH_arm64)
struct user_pt_regs {
	__u64 regs[31];
	__u64 sp;
	__u64 pc;
	__u64 pstate;
};
struct pt_regs {
	struct user_pt_regs user_regs;
	__u64 orig_x0;
	int syscallno;
};
#endif

#pragma clang attribute pop

/* context of a raw tracepoint and of tp_btf alike: the tracepoint's arguments */
struct bpf_raw_tracepoint_args {
	__u64 args[0];
};

/* linux/bpf.h: contexts of programs at cgroups; fixed by the ABI, not relocated */
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol; /* network order */
	__u32 unused[14];
	__u32 data;
	__u32 data_end;
	__u32 unused_too[21];
	struct bpf_sock *sk;
};

struct bpf_sock {
	__u32 bound_dev_if;
	__u32 family;
	__u32 type;
	__u32 protocol;
};

/* contexts of iterators; the object is NULL in the last call */
struct seq_file;
struct bpf_iter_meta {
	struct seq_file *seq;
};
struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
};
struct bpf_map;
struct bpf_iter__bpf_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
};
struct bpf_iter__bpf_map_elem {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	void *key;
	void *value;
};

#endif
