/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Which cgroups a task is in: by them containers are known. */
#ifndef SONDE_CGROUP_BPF_H
#define SONDE_CGROUP_BPF_H

#include "kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/*
 * The controller whose v1 hierarchy tells cgroups apart, by its number in this
 * kernel, plus one; 0 where only v2 does.
 */
const volatile __u32 cgroups_v1 = 0;

static __always_inline __u64 task_cgroup_id(struct task_struct *t)
{
	return BPF_CORE_READ(t, cgroups, dfl_cgrp, kn, id);
}

/* Only where there is such a hierarchy. Ids of different hierarchies may be equal. */
static __always_inline __u64 task_cgroup_v1(struct task_struct *t)
{
	void *slot =
		(void *)BPF_CORE_READ(t, cgroups) + bpf_core_field_offset(struct css_set, subsys);
	struct cgroup_subsys_state *css = NULL;

	slot += (cgroups_v1 - 1) * sizeof(css);
	bpf_probe_read_kernel(&css, sizeof(css), slot);
	return BPF_CORE_READ(css, cgroup, kn, id);
}

#endif
