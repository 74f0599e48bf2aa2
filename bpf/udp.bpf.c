//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * udp: counts flows: what one socket exchanges with one peer address and port; and
 * endpoints: sockets that have a port, but no peer of their own.
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
 *
 * The map of sockets says who owns one: packets come and go in softirqs, on top of
 * any task. A socket gets in when it is bound, with its first datagram, or by the
 * iterator over files; it gets out when it is released. No hook tells of connect and
 * disconnect, so the sweep looks at every socket, and counts the endpoints.
 */
#include "kernel.h"
#include "event.bpf.h"
#include "listed.bpf.h"
#include "net.bpf.h"
#include <bpf/bpf_core_read.h>
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
/* Sockets that did: they are no endpoints, and their flows are closed when idle. */
__u64 sockets_failures;

/* Endpoints that the sweep has found; user space sets it to 0 before. */
__u64 endpoints;

/* Endpoints that were on the list, and are no more. */
__u64 endpoints_unlisted;

/* The iterator over files also enters the flows of connected sockets. */
bool seed_flows;

enum {
	HELD = 1 << 0,   /* its socket is in the map of sockets, and ends it */
	SEEDED = 1 << 1, /* was there before the probe */
};

struct flow_key {
	__u64 cookie; /* of the socket, never reused */
	struct address peer;
	__be16 port;
	__u8 family; /* 4 or 6 */
	__u8 pad[5];
};

struct flow {
	__u64 last_ns;   /* CLOCK_MONOTONIC */
	__u64 opened_ns; /* CLOCK_BOOTTIME; 0: before the probe */
	__u64 owner_start_ns;
	__u64 owner_cgroup;
	__u32 owner_pid;
	__u16 local_port; /* in host order */
	__u8 direction;
	__u8 peer;
	struct address local;
	__u8 flags;
	__u8 pad[7];
};

/* Preallocated: 48 bytes of head, 32 of key, 64 of value, 16 of bucket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* set by the loader */
	__type(key, struct flow_key);
	__type(value, struct flow);
} flows SEC(".maps");

struct entry {
	__u64 sock; /* its address, to be read only: it may be gone */
	__u64 owner_start_ns;
	__u64 owner_cgroup;
	__u32 owner_pid; /* 0: not known */
	__u16 port;      /* as it was told: in host order */
	__u8 family;
	__u8 endpoint; /* the ring has been told of it */
	struct address local;
};

/* Preallocated: 48 bytes of head, 8 of key, 48 of value, 16 of bucket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768); /* set by the loader */
	__type(key, __u64);         /* cookie */
	__type(value, struct entry);
} sockets SEC(".maps");

struct flow_counters {
	__u64 opened;
	__u64 closed;
	__u64 seeded;
	__u64 seeded_closed;
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

/* The other end of the same packet. */
static __noinline bool parse_local(struct __sk_buff *skb, struct flow_key *key, bool out)
{
	return parse(skb, key, !out);
}

/* ---- events ---- */

static __noinline void emit_endpoint(enum point point, __u64 cookie, struct entry *s)
{
	struct conn_event *e;

	if (!point_on(point))
		return;
	e = event_reserve(point, sizeof(*e));
	if (!e)
		return;
	fill_owner(&e->h.process, s->owner_pid, s->owner_start_ns, s->owner_cgroup);
	e->cookie = cookie;
	e->opened_ns = e->sent = e->received = 0;
	__builtin_memcpy(e->local, &s->local, sizeof(e->local));
	__builtin_memset(e->remote, 0, sizeof(e->remote));
	e->local_port = s->port;
	e->remote_port = 0;
	e->family = s->family;
	e->protocol = IPPROTO_UDP;
	e->inbound = true;
	e->pad = 0;
	event_submit(e);
}

static __noinline void emit_flow(enum point point, struct flow_key *key, struct flow *f)
{
	struct conn_event *e;

	if (!point_on(point))
		return;
	e = event_reserve(point, sizeof(*e));
	if (!e)
		return;
	fill_owner(&e->h.process, f->owner_pid, f->owner_start_ns, f->owner_cgroup);
	e->cookie = key->cookie;
	e->opened_ns = f->opened_ns;
	e->sent = e->received = 0;
	__builtin_memcpy(e->local, &f->local, sizeof(e->local));
	__builtin_memcpy(e->remote, &key->peer, sizeof(e->remote));
	e->local_port = f->local_port;
	e->remote_port = bpf_ntohs(key->port);
	e->family = key->family;
	e->protocol = IPPROTO_UDP;
	e->inbound = f->direction == INBOUND;
	e->pad = 0;
	event_submit(e);
}

/* ---- sockets ---- */

/* The address of the socket that a context stands for: as a number, to be read from. */
static __always_inline struct sock *sock_of(struct bpf_sock *sk)
{
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return (struct sock *)address;
}

/* Whether this is a UDP socket with a port and without a peer, as ss -lun lists them. */
static __always_inline bool is_endpoint(struct sock *sk)
{
	return BPF_CORE_READ(sk, sk_type) == SOCK_DGRAM && BPF_CORE_READ(sk, __sk_common.skc_num) &&
	       BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_ESTABLISHED;
}

static __always_inline void own(struct entry *s, struct task_struct *t)
{
	s->owner_start_ns = BPF_CORE_READ(t, group_leader, start_boottime);
	s->owner_cgroup = task_cgroup_id(t);
	s->owner_pid = BPF_CORE_READ(t, tgid);
}

static __always_inline void note_endpoint(struct entry *s, struct sock *sk)
{
	s->family = local_address(sk, &s->local, false);
	s->port = BPF_CORE_READ(sk, __sk_common.skc_num);
	s->endpoint = true;
}

static __always_inline void unlist_endpoint(struct sock *sk)
{
	if (unlist(sk, false))
		__sync_fetch_and_add(&endpoints_unlisted, 1);
}

/*
 * Enters a socket that may be there already. owner is NULL where nobody can tell
 * whose it is; the kernel's own sockets are nobody's.
 */
static __noinline void enter(struct sock *sk, __u64 cookie, struct task_struct *owner)
{
	struct entry fresh = { .sock = (__u64)sk };
	int err;

	if (owner && !BPF_CORE_READ_BITFIELD_PROBED(sk, sk_kern_sock))
		own(&fresh, owner);
	if (is_endpoint(sk)) {
		note_endpoint(&fresh, sk);
		unlist_endpoint(sk);
	}
	err = bpf_map_update_elem(&sockets, &cookie, &fresh, BPF_NOEXIST);
	if (err) {
		if (err != -EEXIST)
			__sync_fetch_and_add(&sockets_failures, 1);
		return;
	}
	if (fresh.endpoint)
		emit_endpoint(POINT_NETWORK_LISTEN, cookie, &fresh);
}

/* Takes a socket out; the one who succeeds tells of the endpoint's end. */
static __noinline void leave(__u64 cookie)
{
	struct entry *s = bpf_map_lookup_elem(&sockets, &cookie), last;

	if (!s)
		return;
	last = *s;
	if (!bpf_map_delete_elem(&sockets, &cookie) && last.endpoint)
		emit_endpoint(POINT_NETWORK_CLOSE, cookie, &last);
}

/* ---- flows ---- */

/*
 * Who sends is running, unless it is the kernel itself; who receives is not known
 * here. Either way an owner that is known already stays.
 */
static __always_inline struct entry *socket_of(struct __sk_buff *skb, __u64 cookie, bool out)
{
	struct entry *s = bpf_map_lookup_elem(&sockets, &cookie);
	struct bpf_sock *sk = skb->sk;

	if (s || !sk)
		return s;
	enter(sock_of(sk), cookie, out ? (struct task_struct *)bpf_get_current_task() : NULL);
	return bpf_map_lookup_elem(&sockets, &cookie);
}

static __always_inline void hold(struct flow *f, struct entry *s)
{
	f->owner_start_ns = s->owner_start_ns;
	f->owner_cgroup = s->owner_cgroup;
	f->owner_pid = s->owner_pid;
	f->flags |= HELD;
}

/* The flow of a socket that was on the list begins with it, and not with its next datagram. */
static __always_inline void unlist_flow(struct bpf_sock *ctx, struct flow *f)
{
	struct list_entry *l;

	if (!use_listed || !ctx)
		return;
	l = unlist(sock_of(ctx), true);
	if (!l)
		return;
	f->direction = l->direction;
	f->opened_ns = 0;
	f->flags |= SEEDED;
}

/* Two CPUs may meet the same first datagrams: the one that gets in has opened it. */
static __always_inline struct flow_counters *enter_flow(struct flow_key *key, struct flow *fresh)
{
	int err; /* not long: see tcp.bpf.c */

	fresh->peer = peer_of(&key->peer, key->family);
	err = bpf_map_update_elem(&flows, key, fresh, BPF_NOEXIST);
	if (err) {
		if (err != -EEXIST)
			__sync_fetch_and_add(&flows_failures, 1);
		return NULL;
	}
	return flow_counters(fresh->direction, fresh->peer);
}

static __noinline int open_flow(struct __sk_buff *skb, struct flow_key *key, bool out)
{
	struct flow fresh = { .direction = out ? OUTBOUND : INBOUND };
	struct entry *s = socket_of(skb, key->cookie, out);
	struct flow_key local = {};
	struct flow_counters *n;

	fresh.last_ns = bpf_ktime_get_ns();
	fresh.opened_ns = bpf_ktime_get_boot_ns();
	if (s)
		hold(&fresh, s);
	if (parse_local(skb, &local, out)) {
		fresh.local = local.peer;
		fresh.local_port = bpf_ntohs(local.port);
	}
	unlist_flow(skb->sk, &fresh);
	n = enter_flow(key, &fresh);
	if (!n || fresh.flags & SEEDED)
		return 0;
	__sync_fetch_and_add(&n->opened, 1);
	emit_flow(out ? POINT_NETWORK_CONNECT : POINT_NETWORK_ACCEPT, key, &fresh);
	return 0;
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
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f) {
		open_flow(skb, &key, out);
		return ALLOW;
	}
	now = bpf_ktime_get_ns();
	if ((__s64)(now - f->last_ns) > (__s64)MAX_LAG_NS)
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

/* In the context of the caller of bind. */
static __always_inline int bound(struct bpf_sock *ctx)
{
	__u64 cookie;

	if (ctx->protocol != IPPROTO_UDP)
		return ALLOW;
	cookie = bpf_get_socket_cookie(ctx);
	enter(sock_of(ctx), cookie, (struct task_struct *)bpf_get_current_task());
	return ALLOW;
}

SEC("cgroup/post_bind4")
int udp_bind4(struct bpf_sock *ctx)
{
	return bound(ctx);
}

SEC("cgroup/post_bind6")
int udp_bind6(struct bpf_sock *ctx)
{
	return bound(ctx);
}

/* A socket ends that was on the list, and was never used since. */
static __always_inline void release_listed(struct sock *sk)
{
	struct flow_counters *n;
	struct list_entry *l;

	if (is_endpoint(sk)) {
		unlist_endpoint(sk);
		return;
	}
	l = unlist(sk, true);
	if (!l)
		return;
	n = flow_counters(l->direction, l->peer);
	if (n)
		__sync_fetch_and_add(&n->seeded_closed, 1);
}

SEC("cgroup/sock_release")
int udp_release(struct bpf_sock *ctx)
{
	__u64 cookie;

	if (ctx->protocol != IPPROTO_UDP)
		return ALLOW;
	cookie = bpf_get_socket_cookie(ctx);
	if (use_listed && !bpf_map_lookup_elem(&sockets, &cookie))
		release_listed(sock_of(ctx));
	leave(cookie);
	return ALLOW;
}

/* ---- the sweep ---- */

/*
 * Whether this is still the socket with that cookie: then all that was read of it
 * before was read of this one. A socket that nobody holds is at its end: the kernel's
 * own ones are found by this, their release has no hook.
 */
static __always_inline bool is_held(struct sock *sk, __u64 cookie)
{
	return BPF_CORE_READ(sk, __sk_common.skc_cookie.counter) == cookie &&
	       BPF_CORE_READ(sk, sk_socket);
}

/* Takes note of what connect, disconnect or another bind has made of a socket. */
static __always_inline void look_again(struct entry *s, __u64 cookie, struct entry *now)
{
	struct entry last = *s;

	if (last.endpoint == now->endpoint && (!last.endpoint || last.port == now->port))
		return;
	now->sock = last.sock;
	now->owner_start_ns = last.owner_start_ns;
	now->owner_cgroup = last.owner_cgroup;
	now->owner_pid = last.owner_pid;
	if (bpf_map_update_elem(&sockets, &cookie, now, BPF_EXIST))
		return; /* released meanwhile */
	if (last.endpoint)
		emit_endpoint(POINT_NETWORK_CLOSE, cookie, &last);
	if (!now->endpoint)
		return;
	emit_endpoint(POINT_NETWORK_LISTEN, cookie, now);
	if (!bpf_map_lookup_elem(&sockets, &cookie)) /* then its end was told too early */
		emit_endpoint(POINT_NETWORK_CLOSE, cookie, now);
}

/*
 * Here and below the key is copied and looked up again, because the element under
 * the iterator may have become another's meanwhile.
 */
SEC("iter/bpf_map_elem")
int sweep_sockets(struct bpf_iter__bpf_map_elem *ctx)
{
	__u64 *seen = ctx->key, cookie;
	struct entry *s, now = {};
	struct sock *sk;

	if (!seen)
		return 0;
	cookie = *seen;
	s = bpf_map_lookup_elem(&sockets, &cookie);
	if (!s)
		return 0;
	sk = (struct sock *)s->sock;
	if (is_endpoint(sk))
		note_endpoint(&now, sk);
	if (!is_held(sk, cookie)) {
		leave(cookie);
		return 0;
	}
	endpoints += now.endpoint;
	look_again(s, cookie, &now);
	return 0;
}

/*
 * Takes out what has ended. A datagram that arrives between the look at last_ns and
 * the removal belongs to the flow that ends.
 */
SEC("iter/bpf_map_elem")
int sweep_flows(struct bpf_iter__bpf_map_elem *ctx)
{
	struct flow_key *seen = ctx->key, key;
	struct flow_counters *n;
	struct flow *f, last;

	if (!seen)
		return 0;
	key = *seen;
	f = bpf_map_lookup_elem(&flows, &key);
	if (!f)
		return 0;
	last = *f;
	if ((__s64)(bpf_ktime_get_ns() - last.last_ns) < (__s64)(idle_ns + MAX_LAG_NS) &&
	    !(last.flags & HELD && !bpf_map_lookup_elem(&sockets, &key.cookie)))
		return 0;
	n = flow_counters(last.direction, last.peer);
	if (!n || bpf_map_delete_elem(&flows, &key))
		return 0;
	if (last.flags & SEEDED)
		__sync_fetch_and_add(&n->seeded_closed, 1);
	else
		__sync_fetch_and_add(&n->closed, 1);
	emit_flow(POINT_NETWORK_CLOSE, &key, &last);
	return 0;
}

/* ---- what was there before ---- */

/*
 * How much a port looks like one of those that kernels give out: the ranges of IANA,
 * of Linux, and of systems older than both. State guesses alike, and a test compares.
 */
static __always_inline __u32 ephemeral(__u16 port)
{
	if (port >= 49152)
		return 4;
	if (port >= 32768)
		return 3;
	if (port >= 1025 && port <= 5000)
		return 2;
	return port == 1024;
}

static __always_inline void seed_flow(struct sock *sk, __u64 cookie)
{
	struct entry *s = bpf_map_lookup_elem(&sockets, &cookie);
	struct flow fresh = { .direction = OUTBOUND, .flags = SEEDED };
	struct flow_key key = { .cookie = cookie };
	struct flow_counters *n;

	if (s)
		hold(&fresh, s);
	fresh.last_ns = bpf_ktime_get_ns();
	fresh.local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	key.port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	local_address(sk, &fresh.local, false);
	key.family = remote_address(sk, &key.peer, false);
	if (ephemeral(fresh.local_port) < ephemeral(bpf_ntohs(key.port)))
		fresh.direction = INBOUND;
	n = enter_flow(&key, &fresh);
	if (n)
		__sync_fetch_and_add(&n->seeded, 1);
}

/*
 * Enters the sockets that tasks hold, and at the start the flows of those that are
 * connected. The file keeps its socket from being released meanwhile.
 */
SEC("iter/task_file")
int seed(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct entry *s;
	struct socket *socket;
	struct sock *sk;
	__u64 cookie;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket || !socket->sk)
		return 0;
	sk = sock_of((struct bpf_sock *)socket->sk);
	if (BPF_CORE_READ(sk, sk_protocol) != IPPROTO_UDP ||
	    BPF_CORE_READ(sk, sk_type) != SOCK_DGRAM || !BPF_CORE_READ(sk, __sk_common.skc_num))
		return 0;
	cookie = bpf_get_socket_cookie(socket->sk);
	s = bpf_map_lookup_elem(&sockets, &cookie);
	if (!s)
		enter(sk, cookie, task);
	else if (!s->owner_pid)
		own(s, task);
	if (seed_flows && BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_ESTABLISHED)
		seed_flow(sk, cookie);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
