//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * udp: counts flows: what one socket exchanges with one peer address and port.
 *
 * The programs see every packet of every socket at the root of cgroup v2, where
 * the socket is known in both directions, connected or not. The first datagram
 * opens a flow and gives it its direction. It is closed when its socket is
 * released, or when nothing has come or gone for a while.
 *
 * The map of flows is the only truth: an entry that goes in is one opened, an
 * entry that comes out is one closed, and only the one who succeeds counts.
 * Entries come out in a sweep, which user space runs every few seconds and
 * before it reads the counts.
 */
#include "kernel.h"
#include "net.bpf.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define ETH_P_IP 0x0800
#define ETH_P_IPV6 0x86DD
#define EEXIST 17

#define ALLOW 1 /* the packet goes on its way, always */

/* A flow without a datagram for this long is closed. */
const volatile __u64 idle_ns = 60000000000ULL;

/*
 * last_ns is renewed when it is older than a part of idle_ns: sparing the cache. It
 * may lag behind the last datagram by as much, and no flow is closed before idle_ns.
 */
#define RENEWALS 64
#define MAX_LAG_NS (idle_ns / RENEWALS)

/* Flows that found the map full, or their bucket busy: one per datagram. */
__u64 flows_failures;
/* Sockets whose release found the map full: their flows are closed when idle. */
__u64 released_failures;

/* Number of the sweep. A release is taken note of in one and forgotten two later. */
__u64 sweep;

struct flow_key {
	__u64 cookie; /* of the socket, never reused */
	struct address peer;
	__be16 port;
	__u8 family; /* 4 or 6 */
	__u8 pad[5];
};

struct flow {
	__u64 last_ns; /* CLOCK_MONOTONIC */
	__u8 direction;
	__u8 peer;
	__u8 pad[6];
};

/* Preallocated: 48 bytes of head, 32 of key, 16 of value, 16 of bucket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* set by the loader */
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

/* Sockets released since the sweep before the last. 48 bytes of head, 8, 8, 16 of bucket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768); /* set by the loader */
	__type(key, __u64);
	__type(value, __u64); /* number of the sweep */
} released SEC(".maps");

struct flow_counters {
	__u64 opened;
	__u64 closed;
};

struct cpu_udp {
	struct flow_counters flows[DIRECTIONS][PEERS];
};

/* One element per CPU, mapped by user space: a scrape is a memory read. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* possible CPUs, set by the loader */
	__type(key, __u32);
	__type(value, struct cpu_udp);
} counts SEC(".maps");

static __always_inline struct flow_counters *flow_counters(__u32 direction, __u32 peer)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct cpu_udp *c = bpf_map_lookup_elem(&counts, &cpu);

	if (!c || peer >= PEERS)
		return NULL;
	return &c->flows[direction & (DIRECTIONS - 1)][peer];
}

/* ---- packets: they begin with the IP header ---- */

struct iphdr {
	__u8 version_ihl;
	__u8 tos;
	__be16 tot_len;
	__be16 id;
	__be16 frag_off;
	__u8 ttl;
	__u8 protocol;
	__sum16 check;
	__be32 saddr;
	__be32 daddr;
};

struct ipv6hdr {
	__be32 version_flow;
	__be16 payload_len;
	__u8 nexthdr;
	__u8 hop_limit;
	struct address saddr;
	struct address daddr;
};

struct udp_ports {
	__be16 source;
	__be16 dest;
};

/* Fills in the peer and returns the offset of the UDP header; 0: no UDP. */
static __always_inline __u32 parse_ipv4(struct __sk_buff *skb, struct flow_key *key, bool out)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct iphdr *seen = data, ip;

	/* most packets are TCP: let them go without a helper call */
	if ((void *)(seen + 1) <= end && seen->protocol != IPPROTO_UDP)
		return 0;
	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)) || ip.protocol != IPPROTO_UDP)
		return 0;
	key->family = 4;
	key->peer.word[0] = out ? ip.daddr : ip.saddr;
	return (ip.version_ihl & 0xf) * 4;
}

#define NEXTHDR_HOP 0
#define NEXTHDR_ROUTING 43
#define NEXTHDR_DEST 60
#define MAX_EXTENSIONS 4

/* Packets are whole here: fragments are cut later, or have been put together. */
static __always_inline __u32 skip_extensions(struct __sk_buff *skb, __u8 next)
{
	struct {
		__u8 next;
		__u8 len; /* in units of 8 bytes, without the first */
	} ext;
	__u32 offset = sizeof(struct ipv6hdr);

	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		if (next == IPPROTO_UDP)
			return offset;
		if (next != NEXTHDR_HOP && next != NEXTHDR_ROUTING && next != NEXTHDR_DEST)
			return 0;
		if (bpf_skb_load_bytes(skb, offset, &ext, sizeof(ext)))
			return 0;
		next = ext.next;
		offset += (ext.len + 1) * 8;
	}
	return 0;
}

static __always_inline __u32 parse_ipv6(struct __sk_buff *skb, struct flow_key *key, bool out)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct ipv6hdr *seen = data, ip;

	if ((void *)(seen + 1) <= end && seen->nexthdr == IPPROTO_TCP)
		return 0;
	if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip)))
		return 0;
	key->family = 6;
	key->peer = out ? ip.daddr : ip.saddr;
	return skip_extensions(skb, ip.nexthdr);
}

static __always_inline bool parse(struct __sk_buff *skb, struct flow_key *key, bool out)
{
	struct udp_ports ports;
	__u32 offset = 0;

	if (skb->protocol == bpf_htons(ETH_P_IP))
		offset = parse_ipv4(skb, key, out);
	else if (skb->protocol == bpf_htons(ETH_P_IPV6))
		offset = parse_ipv6(skb, key, out);
	if (!offset || bpf_skb_load_bytes(skb, offset, &ports, sizeof(ports)))
		return false;
	key->port = out ? ports.dest : ports.source;
	return true;
}

/* ---- flows ---- */

static __always_inline void open_flow(struct flow_key *key, __u64 now, bool out)
{
	struct flow fresh = { .last_ns = now, .direction = out ? OUTBOUND : INBOUND };
	struct flow_counters *n;
	int err; /* not long: see tcp.bpf.c */

	fresh.peer = peer_of(&key->peer, key->family);
	/* two CPUs may meet the same first datagrams: the one that gets in has opened it */
	err = bpf_map_update_elem(&flows, key, &fresh, BPF_NOEXIST);
	if (err) {
		if (err != -EEXIST)
			__sync_fetch_and_add(&flows_failures, 1);
		return;
	}
	n = flow_counters(fresh.direction, fresh.peer);
	if (n)
		__sync_fetch_and_add(&n->opened, 1);
}

static __always_inline int packet(struct __sk_buff *skb, bool out)
{
	struct flow_key key = {};
	struct flow *f;
	__u64 now;

	if (!parse(skb, &key, out))
		return ALLOW;
	key.cookie = bpf_get_socket_cookie(skb);
	if (!key.cookie)
		return ALLOW;
	now = bpf_ktime_get_ns();
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f)
		open_flow(&key, now, out);
	else if ((__s64)(now - f->last_ns) > (__s64)MAX_LAG_NS)
		f->last_ns = now;
	return ALLOW;
}

SEC("cgroup_skb/ingress")
int udp_ingress(struct __sk_buff *skb)
{
	return packet(skb, false);
}

SEC("cgroup_skb/egress")
int udp_egress(struct __sk_buff *skb)
{
	return packet(skb, true);
}

SEC("cgroup/sock_release")
int udp_release(struct bpf_sock *sk)
{
	__u64 cookie, number = sweep;

	if (sk->protocol != IPPROTO_UDP)
		return ALLOW;
	cookie = bpf_get_socket_cookie(sk);
	if (bpf_map_update_elem(&released, &cookie, &number, BPF_ANY))
		__sync_fetch_and_add(&released_failures, 1);
	return ALLOW;
}

/* ---- the sweep ---- */

/*
 * Takes out what has ended. The key is copied and looked up again, because the
 * element under the iterator may have become another flow's meanwhile. A
 * datagram that arrives between the look at last_ns and the removal belongs to
 * the flow that ends.
 */
SEC("iter/bpf_map_elem")
int sweep_flows(struct bpf_iter__bpf_map_elem *ctx)
{
	struct flow_key *seen = ctx->key, key;
	__u32 direction, peer;
	struct flow_counters *n;
	struct flow *f;

	if (!seen)
		return 0;
	key = *seen;
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f)
		return 0;
	if ((__s64)(bpf_ktime_get_ns() - f->last_ns) < (__s64)(idle_ns + MAX_LAG_NS) &&
	    !bpf_map_lookup_elem(&released, &key.cookie))
		return 0;
	direction = f->direction;
	peer = f->peer;
	n = flow_counters(direction, peer);
	if (n && !bpf_map_delete_elem(&flows, &key))
		__sync_fetch_and_add(&n->closed, 1);
	return 0;
}

/* Forgets the releases whose flows are out. */
SEC("iter/bpf_map_elem")
int sweep_released(struct bpf_iter__bpf_map_elem *ctx)
{
	__u64 *seen = ctx->key, *number = ctx->value, key;

	if (!seen || !number)
		return 0;
	key = *seen;
	if (*number + 1 < sweep) /* twice: an iterator may pass over an element once */
		bpf_map_delete_elem(&released, &key);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
