/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What security events tell of a task beyond who it is: credentials, namespaces,
 * files and their paths. Helper calls without number: for what happens some thousand times a second.
 */
#ifndef SONDE_TASK_BPF_H
#define SONDE_TASK_BPF_H

#include "kernel.h"
#include "event.bpf.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

static __always_inline void fill_credentials(struct credentials *c, struct task_struct *t)
{
	const struct cred *cred = BPF_CORE_READ(t, cred);

	c->uid = BPF_CORE_READ(cred, uid.val);
	c->gid = BPF_CORE_READ(cred, gid.val);
	c->euid = BPF_CORE_READ(cred, euid.val);
	c->egid = BPF_CORE_READ(cred, egid.val);
	c->suid = BPF_CORE_READ(cred, suid.val);
	c->sgid = BPF_CORE_READ(cred, sgid.val);
	c->fsuid = BPF_CORE_READ(cred, fsuid.val);
	c->fsgid = BPF_CORE_READ(cred, fsgid.val);
	c->securebits = BPF_CORE_READ(cred, securebits);
	c->pad = 0;
	bpf_core_read(&c->permitted, sizeof(c->permitted), &cred->cap_permitted);
	bpf_core_read(&c->effective, sizeof(c->effective), &cred->cap_effective);
	bpf_core_read(&c->inheritable, sizeof(c->inheritable), &cred->cap_inheritable);
}

/* The pid namespace that a task is in: that of the deepest of its ids. */
static __always_inline __u32 pid_namespace_of(struct task_struct *t)
{
	struct pid *pid = BPF_CORE_READ(t, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);
	struct upid *id = (void *)pid + bpf_core_field_offset(struct pid, numbers) +
			  level * bpf_core_type_size(struct upid);

	return BPF_CORE_READ(id, ns, ns.inum);
}

static __always_inline void fill_namespaces(struct namespaces *n, struct task_struct *t)
{
	struct nsproxy *p = BPF_CORE_READ(t, nsproxy);

	n->uts = BPF_CORE_READ(p, uts_ns, ns.inum);
	n->ipc = BPF_CORE_READ(p, ipc_ns, ns.inum);
	n->mnt = BPF_CORE_READ(p, mnt_ns, ns.inum);
	n->pid = pid_namespace_of(t);
	n->pid_for_children = BPF_CORE_READ(p, pid_ns_for_children, ns.inum);
	n->net = BPF_CORE_READ(p, net_ns, ns.inum);
	n->time = n->time_for_children = 0;
	if (bpf_core_field_exists(p->time_ns)) {
		n->time = BPF_CORE_READ(p, time_ns, ns.inum);
		n->time_for_children = BPF_CORE_READ(p, time_ns_for_children, ns.inum);
	}
	n->cgroup = BPF_CORE_READ(p, cgroup_ns, ns.inum);
	n->user = BPF_CORE_READ(t, cred, user_ns, ns.inum);
}

#define S_IFMT 0170000
#define S_IFDIR 0040000
#define S_IFREG 0100000
#define S_IFSOCK 0140000
#define S_IROTH 04

/* When a file last changed, in nanoseconds since 1970. */
static __always_inline __u64 changed_ns(struct inode *inode)
{
	struct inode___before_6_11 *of_6_6 = (void *)inode;
	struct inode___before_6_6 *old = (void *)inode;

	if (bpf_core_field_exists(inode->i_ctime_sec)) /* the upper bits are the kernel's marks */
		return BPF_CORE_READ(inode, i_ctime_sec) * 1000000000 +
		       (BPF_CORE_READ(inode, i_ctime_nsec) & 0x3fffffff);
	if (bpf_core_field_exists(of_6_6->__i_ctime))
		return BPF_CORE_READ(of_6_6, __i_ctime.tv_sec) * 1000000000 +
		       (BPF_CORE_READ(of_6_6, __i_ctime.tv_nsec) & 0x3fffffff);
	return BPF_CORE_READ(old, i_ctime.tv_sec) * 1000000000 +
	       BPF_CORE_READ(old, i_ctime.tv_nsec);
}

#define OVERLAYFS_SUPER_MAGIC 0x794c7630

/*
 * The layer of an overlay that a file is in. The overlay keeps its file of the upper
 * layer behind its own inode. Where it is a module, and so not in the kernel's BTF, that
 * is at once behind it, as it is in every kernel since 4.13; what is no such file, by
 * its mode, is said to be unknown.
 */
static __always_inline enum layer layer_of(struct inode *inode)
{
	__u64 behind = bpf_core_type_size(struct inode);
	struct dentry *upper = NULL;

	if (BPF_CORE_READ(inode, i_sb, s_magic) != OVERLAYFS_SUPER_MAGIC)
		return LAYER_NONE;
	if (bpf_core_type_exists(struct ovl_inode))
		behind = bpf_core_field_offset(struct ovl_inode, __upperdentry) -
			 bpf_core_field_offset(struct ovl_inode, vfs_inode);
	if (bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + behind))
		return LAYER_UNKNOWN;
	if (!upper)
		return LAYER_LOWER;
	return BPF_CORE_READ(upper, d_inode, i_mode) == BPF_CORE_READ(inode, i_mode)
		       ? LAYER_UPPER
		       : LAYER_UNKNOWN;
}

#define NAME_LEN 256
#define MAX_PATH_DEPTH 32

/* Room for a path that is written from its end to its beginning, and for one name more. */
struct path_room {
	char text[SEEN_LEN + NAME_LEN];
};

static __always_inline struct mount *mount_of(struct vfsmount *mnt)
{
	return (void *)mnt - bpf_core_field_offset(struct mount, mnt);
}

/* How far the walk from a file to its task's root has come. */
struct walk {
	struct path_room *room;
	struct dentry *d, *root;
	struct mount *m, *last; /* last: that of the root */
	__u32 pos;              /* where the text begins */
	bool whole;
};

/* One step up: to the directory that holds the file, or to what the mount lies on. */
static long walk_up(__u32 step, struct walk *w)
{
	struct dentry *d = w->d, *parent = BPF_CORE_READ(d, d_parent);
	struct mount *m = w->m, *up; /* not w->m below: CO-RE would relocate that, too */
	__u32 len, pos;

	if (d == w->root && m == w->last)
		goto whole;
	if (d == BPF_CORE_READ(m, mnt.mnt_root) || (d == parent && step)) {
		up = BPF_CORE_READ(m, mnt_parent);
		if (up == m)
			goto whole; /* outside of the task's root */
		w->d = BPF_CORE_READ(m, mnt_mountpoint);
		w->m = up;
		return 0;
	}
	len = BPF_CORE_READ(d, d_name.len) & (NAME_LEN - 1);
	if (w->pos < len + 1)
		return 1;
	pos = (w->pos - len - 1) & (SEEN_LEN - 1);
	w->pos = pos;
	w->room->text[pos] = '/';
	bpf_probe_read_kernel(&w->room->text[pos + 1], len, BPF_CORE_READ(d, d_name.name));
	if (d == parent)
		goto whole;
	w->d = parent;
	return 0;
whole:
	w->whole = true;
	return 1;
}

/*
 * Writes the path of a file as the task sees it, and returns its length, which may
 * be marked as truncated: the beginning is what is missing then. It lies at
 * room->text + SEEN_LEN less its length. A file that is in no directory, as a
 * memfd, has its name alone. bpf_loop (5.17) has the verifier look at one step only:
 * unrolled, two walks took it a second.
 */
static __always_inline __u32 path_text(struct path_room *room, struct dentry *d,
				       struct vfsmount *mnt, struct task_struct *t)
{
	struct fs_struct *fs = BPF_CORE_READ(t, fs);
	struct walk w = {
		.room = room,
		.d = d,
		.root = BPF_CORE_READ(fs, root.dentry),
		.m = mount_of(mnt),
		.last = mount_of(BPF_CORE_READ(fs, root.mnt)),
		.pos = SEEN_LEN,
	};
	__u32 pos;

	bpf_loop(MAX_PATH_DEPTH, walk_up, &w, 0);
	pos = w.pos;
	if (!w.whole)
		return (SEEN_LEN - pos) | TEXT_TRUNCATED;
	if (pos == SEEN_LEN)
		room->text[--pos] = '/';
	return SEEN_LEN - pos;
}

#endif
