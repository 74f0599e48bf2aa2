/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Sockets that were there before the probe, as /proc lists them: the way out where
 * the kernel refuses to iterate over files. A list has no addresses of sockets, so
 * they are known by what they are bound and connected to, and are met again when they
 * are used or end.
 */
#ifndef SONDE_LISTED_BPF_H
#define SONDE_LISTED_BPF_H

#include "net.bpf.h"

/* There is a list. Where there is none, what follows costs nothing. */
const volatile bool use_listed = false;

/* Sockets that found the map full; counted by user space, which enters them. */
__u64 listed_failures;

struct list_key {
	struct address local;
	struct address remote; /* zero where the socket has no peer, as its port */
	__u32 net;             /* inode number of the network namespace */
	__u16 local_port;
	__u16 remote_port;
	__u8 family;
	__u8 pad[7];
};

struct list_entry {
	__u64 n; /* sockets like this: several may share a port */
	__u8 direction;
	__u8 peer;
	__u8 pad[6];
};

/* Preallocated: 48 bytes of head, 48 of key, 16 of value, 16 of bucket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* set by the loader where there is a list */
	__type(key, struct list_key);
	__type(value, struct list_entry);
} listed SEC(".maps");

/* Takes a socket off the list; NULL where it is not on it, or has no peer though it should. */
static __always_inline struct list_entry *unlist(struct sock *sk, bool has_peer)
{
	struct list_key key = {};
	struct list_entry *l;

	if (!use_listed)
		return NULL;
	key.net = BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
	key.family = local_address(sk, &key.local, false);
	key.local_port = local_port(sk, false);
	if (has_peer) {
		key.family = remote_address(sk, &key.remote, false);
		key.remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
		if (!key.remote_port)
			return NULL;
	}
	l = bpf_map_lookup_elem(&listed, &key);
	if (!l || (__s64) * (volatile __u64 *)&l->n <= 0)
		return NULL;
	__sync_fetch_and_add(&l->n, -1);
	return l;
}

#endif
