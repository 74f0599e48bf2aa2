/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* How a process ended, as its parent will hear. */
#ifndef SONDE_WAIT_BPF_H
#define SONDE_WAIT_BPF_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define SIGILL 4
#define SIGABRT 6
#define SIGBUS 7
#define SIGFPE 8
#define SIGKILL 9
#define SIGSEGV 11

#define SIGNAL_GROUP_EXIT 0x00000004

/* The status that wait(2) reports: of the group, or of its leader where no group exit was begun. */
static __always_inline int wait_status(struct task_struct *t)
{
	if (BPF_CORE_READ(t, signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(t, signal, group_exit_code);
	return BPF_CORE_READ(t, group_leader, exit_code);
}

#endif
