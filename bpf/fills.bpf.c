//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * fills: how many entries maps hold. The kernel counts them for hash maps (since
 * 6.6) and shows the number to iterators over maps only.
 */
#include "kernel.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct bpf_map {
	__u32 id;
};
#pragma clang attribute pop

extern __s64 bpf_map_sum_elem_count(const struct bpf_map *map) __ksym;

struct fill {
	__u64 entries;
	__u32 id;
	__u32 pad;
};

/* Prints one record per map on the node; the reader picks its own. */
SEC("iter/bpf_map")
int fills(struct bpf_iter__bpf_map *ctx)
{
	struct bpf_map *map = ctx->map;
	struct fill f = {};

	if (!map)
		return 0;
	f.entries = bpf_map_sum_elem_count(map);
	f.id = map->id;
	bpf_seq_write(ctx->meta->seq, &f, sizeof(f));
	return 0;
}

const struct fill *fill_type __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
