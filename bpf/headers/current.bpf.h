/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The running task. It is to be had as a pointer with a type, in programs at cgroups
 * too since 5.16: what is read of it is a load then, where BPF_CORE_READ calls a helper
 * for each step. Both forms are in every program, and the verifier throws one of them away.
 */
#ifndef SONDE_CURRENT_BPF_H
#define SONDE_CURRENT_BPF_H

#include "kernel.h"
#include "cgroup.bpf.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

static __always_inline bool current_has_type(void)
{
	return bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_loop);
}

static __always_inline struct task_struct *untyped_current(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

/* Start of the running process, CLOCK_BOOTTIME. */
static __always_inline __u64 current_start_ns(void)
{
	if (current_has_type())
		return bpf_get_current_task_btf()->group_leader->start_boottime;
	return BPF_CORE_READ(untyped_current(), group_leader, start_boottime);
}

static __always_inline __u32 current_pid(void)
{
	if (current_has_type())
		return bpf_get_current_task_btf()->tgid;
	return BPF_CORE_READ(untyped_current(), tgid);
}

/* In the hierarchy of v2. */
static __always_inline __u64 current_cgroup_id(void)
{
	if (current_has_type())
		return bpf_get_current_task_btf()->cgroups->dfl_cgrp->kn->id;
	return task_cgroup_id(untyped_current());
}

/* In that of v1, where there is one. */
static __always_inline __u64 current_cgroup_v1(void)
{
	struct cgroup_subsys_state **states;

	if (!current_has_type())
		return task_cgroup_v1(untyped_current());
	states = bpf_get_current_task_btf()->cgroups->subsys;
	return states[cgroups_v1 - 1]->cgroup->kn->id;
}

/* The open file behind a descriptor of the running task, NULL for none. */
static __always_inline struct file *current_file(__u32 fd)
{
	struct file **files, *file = NULL;
	struct fdtable *table;
	__u32 max;

	if (current_has_type()) {
		table = bpf_get_current_task_btf()->files->fdt;
		max = table->max_fds;
		files = table->fd;
	} else {
		table = BPF_CORE_READ(untyped_current(), files, fdt);
		max = BPF_CORE_READ(table, max_fds);
		files = BPF_CORE_READ(table, fd);
	}
	if (fd < max)
		bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	return file;
}

#endif
