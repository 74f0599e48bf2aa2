/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Native histograms computed where the value is born. The index is that of a
 * Prometheus exponential bucket of schema 2 (four per octave, upper bound
 * inclusive), so nothing is ever re-binned.
 *
 * A value v with its top bit at e is normalised to m = v << (63 - e); within an
 * octave the bucket bounds, normalised alike, are the same four constants for
 * every octave, so the index is the octave's first one plus the number of
 * bounds below m. For times, v counts nanoseconds while the bounds are those of
 * seconds: 2^(i/4) * 10^9 ns. The constants are floor(bound) with 64 significant
 * bits: bounds other than whole octaves are irrational and no integer equals
 * them, whole octaves are 1953125 * 2^n and exact. hist_test.go derives them
 * with big integers and compares every boundary with client_golang.
 */
#ifndef SONDE_HIST_BPF_H
#define SONDE_HIST_BPF_H

#include "kernel.h"
#include <bpf/bpf_helpers.h>

/*
 * Slots: 0 counts zeros, slot 1 is index HIST_FIRST. Times reach from 1 ns
 * (index -119) to 2^22 s, 48 days (index 88); the last slot also takes what is
 * longer. Integers reach from 1 (index 0 is slot 1) to 2^52.
 */
#define HIST_SLOTS 210
#define HIST_FIRST_NS (-119)
#define HIST_FIRST_INT 0

/* floor of the four bounds of an octave, normalised to 64 bits */
#define HIST_NS_0 0x8dc3b8960164a7d9ULL
#define HIST_NS_1 0xa8965f74bf065071ULL
#define HIST_NS_2 0xc87c3e7d03cdbec3ULL
#define HIST_NS_3 0xee6b280000000000ULL  /* 10^9, exact */
#define HIST_INT_0 0x8000000000000000ULL /* 1, exact */
#define HIST_INT_1 0x9837f0518db8a96fULL
#define HIST_INT_2 0xb504f333f9de6484ULL
#define HIST_INT_3 0xd744fccad69d6af4ULL

struct hist {
	__u64 sum;
	__u64 slots[HIST_SLOTS];
};

/* Position of the highest bit set; v must not be 0. The ISA has no such instruction. */
static __always_inline __u32 top_bit(__u64 v)
{
	__u32 e = 0;

	if (v >> 32) {
		e += 32;
		v >>= 32;
	}
	if (v >> 16) {
		e += 16;
		v >>= 16;
	}
	if (v >> 8) {
		e += 8;
		v >>= 8;
	}
	if (v >> 4) {
		e += 4;
		v >>= 4;
	}
	if (v >> 2) {
		e += 2;
		v >>= 2;
	}
	return e + (v >> 1);
}

static __always_inline __u32 hist_bound(__u64 slot)
{
	return slot < HIST_SLOTS ? slot : HIST_SLOTS - 1;
}

/* Slot of a duration in nanoseconds. */
static __always_inline __u32 hist_slot_ns(__u64 ns)
{
	if (!ns)
		return 0;
	__u32 e = top_bit(ns);
	__u64 m = ns << (63 - e);

	/* ns = 1 (e = 0, m = 2^63) lies in index -119, which is slot 1 */
	return hist_bound(4 * e + 1 + (m > HIST_NS_0) + (m > HIST_NS_1) + (m > HIST_NS_2) +
			  (m > HIST_NS_3));
}

/* Slot of a plain integer: index ceil(4 * log2(v)). */
static __always_inline __u32 hist_slot_int(__u64 v)
{
	if (!v)
		return 0;
	__u32 e = top_bit(v);
	__u64 m = v << (63 - e);

	return hist_bound(4 * e + 1 + (m > HIST_INT_0) + (m > HIST_INT_1) + (m > HIST_INT_2) +
			  (m > HIST_INT_3));
}

#endif
