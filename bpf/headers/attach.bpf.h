/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * One body, two ways in. A BTF tracepoint (tp_btf) and a raw tracepoint hand
 * over the same argument words; the loader takes the first kind that the kernel
 * accepts and drops the other from the object before loading.
 */
#ifndef SONDE_ATTACH_BPF_H
#define SONDE_ATTACH_BPF_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>

/*
 * Defines the programs <name>_btf and <name>_raw of a tracepoint around
 * body(ctx, btf). btf is a compile-time constant: with it, BTF-typed pointers
 * may be followed directly.
 */
#define TRACEPOINT_AS(name, tp, body)                       \
	SEC("tp_btf/" #tp)                                  \
	int name##_btf(struct bpf_raw_tracepoint_args *ctx) \
	{                                                   \
		return body(ctx, true);                     \
	}                                                   \
	SEC("raw_tp/" #tp)                                  \
	int name##_raw(struct bpf_raw_tracepoint_args *ctx) \
	{                                                   \
		return body(ctx, false);                    \
	}

/* The same where the programs are named after their tracepoint. */
#define TRACEPOINT(tp, body) TRACEPOINT_AS(tp, tp, body)

#endif
