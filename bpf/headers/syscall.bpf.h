/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the registers of a thread say of its system call.
 */
#ifndef SONDE_SYSCALL_BPF_H
#define SONDE_SYSCALL_BPF_H

#include "kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#if defined(__TARGET_ARCH_x86)
#define NR_RT_SIGRETURN 15
#define NR_FORK 57
#define NR_VFORK 58
#define NR_CLONE 56
#define X32_BIT 0x40000000
#define TS_COMPAT 0x0002
#elif defined(__TARGET_ARCH_arm64)
#define NR_RT_SIGRETURN 139
#define NR_CLONE 220
#define NR_FORK NR_CLONE
#define NR_VFORK NR_CLONE
#define TIF_32BIT 22
#endif
#define NR_CLONE3 435

/* Numbers from here on are in no table. */
#define NR_TABLE 512

/* int 0x80, x32 and 32-bit processes have tables of their own: one row for all. */
static __always_inline bool is_compat(struct task_struct *t, __s64 nr, bool btf)
{
#if defined(__TARGET_ARCH_x86)
	__u32 status = btf ? t->thread_info.status : BPF_CORE_READ(t, thread_info.status);

	return (status & TS_COMPAT) || (nr > 0 && (nr & X32_BIT));
#else
	unsigned long flags = btf ? t->thread_info.flags : BPF_CORE_READ(t, thread_info.flags);

	return flags & (1UL << TIF_32BIT);
#endif
}

/* The number of a call at its end, -1 after rt_sigreturn. */
static __always_inline __s32 syscall_nr(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, orig_ax);
#else
	return BPF_CORE_READ(regs, syscallno);
#endif
}

/* Whether a call makes a task, which then returns 0 from a call that it never made. */
static __always_inline bool makes_task(__s64 nr)
{
	return nr == NR_CLONE || nr == NR_CLONE3 || nr == NR_FORK || nr == NR_VFORK;
}

#endif
