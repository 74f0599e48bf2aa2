//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * tcp: counts and times TCP connections by following the states of sockets.
 *
 * State changes run in whatever context they happen in: the caller's, a softirq
 * on top of any task, a timer. So a socket that is being followed has an entry
 * in a map that says who owns it, and `current` is believed only where it is the
 * caller by construction: at connect, at listen, and when accept returns.
 *
 * Nothing is lost to the kernel's recursion guard. It skips a program that is
 * already running on the CPU: a softirq on top of a task's state change. The
 * state machine is therefore idempotent and attached twice: what the first
 * program was skipped for, the second one, which was not running, does.
 */
#include "kernel.h"
#include "attach.bpf.h"
#include "event.bpf.h"
#include "hist.bpf.h"
#include "listed.bpf.h"
#include "net.bpf.h"
#include "workload.bpf.h"
#include <bpf/bpf_core_read.h>

#define ENOENT 2
#define EINTR 4
#define EEXIST 17
#define EISCONN 106
#define EALREADY 114
#define EINPROGRESS 115
#define ERESTART_FIRST 512
#define ERESTART_LAST 516

#define SOCK_DONE 1 /* bit of skc_flags: the peer's FIN has been taken in */

enum {
	TCP_SYN_SENT = TCP_ESTABLISHED + 1,
	TCP_SYN_RECV,
	TCP_FIN_WAIT1,
	TCP_FIN_WAIT2,
	TCP_TIME_WAIT,
	TCP_CLOSE,
	TCP_CLOSE_WAIT,
	TCP_LAST_ACK,
	TCP_LISTEN,
	TCP_CLOSING,
};

/* States in which a connection is open and has been established before. */
#define TCPF_OPEN                                                                               \
	(1 << TCP_ESTABLISHED | 1 << TCP_FIN_WAIT1 | 1 << TCP_FIN_WAIT2 | 1 << TCP_CLOSE_WAIT | \
	 1 << TCP_LAST_ACK | 1 << TCP_CLOSING)

/* Those whose beginning means something here. */
#define TCPF_FOLLOWED                                                                     \
	(1 << TCP_SYN_SENT | 1 << TCP_SYN_RECV | 1 << TCP_ESTABLISHED | 1 << TCP_LISTEN | \
	 1 << TCP_CLOSE)

/* Failures by errno: 0 is "aborted", the last one "other". */
#define ERRNOS 136

/* Turns addresses of sockets into identities that tell nothing; odd, random. */
const volatile __u64 cookie_key = 1;

/* tcp_retransmit_skb tells whether the packet went out: newer kernels. */
const volatile bool has_retransmit_err = false;

/* The end of listen is seen: set by user space. */
bool listen_hooked;

/* Sockets that found the map full, or their bucket busy. */
__u64 sockets_failures;
__u64 listening_failures;

enum {
	OPENED = 1 << 0, /* established, and counted in opened (or in seeded) */
	SEEDED = 1 << 1, /* was there before the probe */
	UNTOLD = 1 << 2, /* listens, but at a port that is given to it only now */
};

/*
 * One socket that is followed. sent and received hold what the counters already
 * contain, 48 bits, and above them a tag that makes the words of two connections
 * differ: the scrape adds with compare-and-swap while entries come and go.
 */
struct tracked {
	__u64 since_ns; /* CLOCK_BOOTTIME: start of the handshake, then of the connection */
	__u64 sent;
	__u64 received;
	__u64 owner_start_ns;
	__u64 owner_cgroup;
	__u32 owner_pid; /* 0: not known (yet) */
	__u8 state;      /* TCP_CLOSE: failed, and the caller may not have been told */
	__u8 direction;
	__u8 peer;
	__u8 flags;
	__u64 owner_v1; /* the loader cuts it off where workloads_v1 is 0 */
};

#define TAG_SHIFT 48
#define COUNT_MASK ((1ULL << TAG_SHIFT) - 1)

/* Preallocated: 48 bytes of head, 8 of key, 48 (56 with owner_v1) of value, 16 of bucket. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536); /* set by the loader */
	__type(key, __u64);         /* address of the socket */
	__type(value, struct tracked);
} sockets SEC(".maps");

struct conn_counters {
	__u64 opened;
	__u64 closed;
	__u64 seeded;
	__u64 seeded_closed;
	__u64 sent;
	__u64 received;
};

struct cpu_tcp {
	struct conn_counters conns[DIRECTIONS][PEERS];
	__u64 failed[DIRECTIONS][ERRNOS];
	struct hist duration[DIRECTIONS];
	struct hist handshake[DIRECTIONS];
	struct hist rtt[DIRECTIONS];
	__u64 listen_opened;
	__u64 listen_closed;
	__u64 retransmits;
	__u64 resets_sent;
	__u64 resets_received;
	/* no counters: the change that the first program did last, 0 once the second knows */
	__u64 done_sock;
	__u64 done_state;
};

/*
 * One element per CPU, mapped by user space: a scrape is a memory read. Task and
 * softirq share it, so every addition is atomic.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* possible CPUs, set by the loader */
	__type(key, __u32);
	__type(value, struct cpu_tcp);
} counts SEC(".maps");

#define ADD(counter, n) __sync_fetch_and_add(&(counter), (n))

static __always_inline struct cpu_tcp *cpu_counts(void)
{
	__u32 cpu = bpf_get_smp_processor_id();

	return bpf_map_lookup_elem(&counts, &cpu);
}

/* An index that the verifier can follow: read once, bounded by its bits. */
static __always_inline __u32 direction_of(struct tracked *t)
{
	return *(volatile __u8 *)&t->direction & (DIRECTIONS - 1);
}

static __always_inline struct conn_counters *conn_counters(struct tracked *t)
{
	struct cpu_tcp *c = cpu_counts();
	__u32 peer = *(volatile __u8 *)&t->peer;

	return c && peer < PEERS ? &c->conns[direction_of(t)][peer] : NULL;
}

static __always_inline void observe(struct hist *h, __u64 ns)
{
	ADD(h->slots[hist_slot_ns(ns)], 1);
	ADD(h->sum, ns);
}

/* ---- the map ---- */

static __always_inline struct tracked *lookup(struct sock *sk)
{
	__u64 key = (__u64)sk;

	return bpf_map_lookup_elem(&sockets, &key);
}

/* A helper's result is an int: before 6.4 the upper half of the register is not its sign. */
static __always_inline bool track(struct sock *sk, struct tracked *fresh, __u64 how)
{
	__u64 key = (__u64)sk;
	int err = bpf_map_update_elem(&sockets, &key, fresh, how);

	if (err && err != -EEXIST)
		ADD(sockets_failures, 1);
	return !err;
}

/*
 * True for the one who took the entry out: who counts its end. Where the kernel
 * finds the bucket busy, the entry stays, but says that all has been counted;
 * the end of the socket will try again.
 */
static __always_inline bool untrack(struct sock *sk, struct tracked *e)
{
	__u64 key = (__u64)sk;
	int err = bpf_map_delete_elem(&sockets, &key);

	if (err && err != -ENOENT) {
		e->state = TCP_CLOSE;
		e->flags = 0;
		ADD(sockets_failures, 1);
	}
	return err != -ENOENT;
}

/* The low bits of the time are as good as random numbers, and cheaper. */
static __always_inline __u64 new_tag(__u64 now)
{
	return (now >> 4 | 1) << TAG_SHIFT;
}

/* A copy of an entry, as far as the map's values reach. */
static __always_inline struct tracked copy_of(struct tracked *e)
{
	struct tracked t;

	__builtin_memcpy(&t, e, offsetof(struct tracked, owner_v1));
	t.owner_v1 = workloads_v1 ? *(volatile __u64 *)&e->owner_v1 : 0;
	return t;
}

/* The pid comes last, for all to see: who finds an owner finds all of it. */
static __always_inline void set_owner_pid(struct tracked *e, __u32 pid)
{
	if (workloads_on)
		__sync_lock_test_and_set(&e->owner_pid, pid);
	else
		e->owner_pid = pid;
}

static __always_inline void own(struct tracked *e, struct task_struct *t)
{
	e->owner_start_ns = BPF_CORE_READ(t, group_leader, start_boottime);
	e->owner_cgroup = task_cgroup_id(t);
	if (workloads_v1)
		e->owner_v1 = task_cgroup_v1(t);
	set_owner_pid(e, BPF_CORE_READ(t, tgid));
}

static __always_inline void own_current(struct tracked *e)
{
	e->owner_start_ns = current_start_ns();
	e->owner_cgroup = current_cgroup_id();
	if (workloads_v1)
		e->owner_v1 = current_cgroup_v1();
	set_owner_pid(e, current_pid());
}

/* Counts for the workload of an entry's owner, if it has one. */
static __always_inline void count_for_owner(struct tracked *e, enum workload_count what, __u64 n)
{
	struct workload_key key = {};

	if (!workloads_on || !n || !e->owner_pid)
		return;
	key.v2 = e->owner_cgroup;
	if (workloads_v1)
		key.v1 = *(volatile __u64 *)&e->owner_v1;
	workload_count(&key, what, n);
}

/* ---- what the kernel counts itself ---- */

/* The TCP part of a socket. One with a type must be compared with NULL, which it is not. */
static __always_inline struct tcp_sock *tcp_of(struct sock *sk, bool btf)
{
	return btf ? bpf_skc_to_tcp_sock(sk) : (struct tcp_sock *)sk;
}

static __always_inline __u64 smoothed_rtt_ns(struct tcp_sock *tp, bool btf)
{
	return FIELD(btf, tp, srtt_us) * 125ULL; /* 1000 / 8 */
}

/* What was sent once: without what was sent again. Never more than the truth. */
static __always_inline __u64 bytes_sent(struct tcp_sock *tp, bool btf)
{
	__u64 sent = FIELD(btf, tp, bytes_sent);

	return sent - FIELD(btf, tp, bytes_retrans);
}

/* The kernel counts the peer's FIN as a byte. */
static __always_inline __u64 bytes_received(struct sock *sk, struct tcp_sock *tp, bool btf)
{
	__u64 received = FIELD(btf, tp, bytes_received);
	bool fin = FIELD(btf, sk, __sk_common.skc_flags) & (1UL << SOCK_DONE);

	return received - (received && fin);
}

/*
 * Takes the last difference out of a word that nobody will use after this. It is
 * -1 where a scrape came just between the peer's FIN and its flag; less than
 * that means that the socket is another one by now.
 */
static __always_inline __s64 last_delta(__u64 *word, __u64 now)
{
	__u64 old = __sync_lock_test_and_set(word, 0);
	__s64 delta = (__s64)((now - old) << (64 - TAG_SHIFT)) >> (64 - TAG_SHIFT);

	return delta < -1 ? 0 : delta;
}

/*
 * Adds what came since the word was written, if it is still the same
 * connection's: the end of a connection changes the word before the socket can
 * be freed, so where the swap succeeds, now was read from a live socket. Returns
 * what was added.
 */
static __always_inline __u64 add_delta(__u64 *word, __u64 now, __u64 old, __u64 *counter)
{
	__u64 tag = old & ~COUNT_MASK, delta = now - (old & COUNT_MASK);

	if (!tag || (__s64)delta <= 0 || now > COUNT_MASK)
		return 0;
	if (__sync_val_compare_and_swap(word, old, tag | now) != old)
		return 0;
	ADD(*counter, delta);
	return delta;
}

/*
 * False where nothing has come since the words were written: what bytes_sent() and
 * bytes_received() return is never more than the socket's own counters. Most sockets
 * are idle between two scrapes, and this is half the reads.
 */
static __always_inline bool moved(struct tcp_sock *tp, __u64 sent, __u64 received)
{
	return BPF_CORE_READ(tp, bytes_sent) > (sent & COUNT_MASK) ||
	       BPF_CORE_READ(tp, bytes_received) > (received & COUNT_MASK);
}

/* ---- events ---- */

static __always_inline void fill_addresses(struct conn_event *e, struct sock *sk, bool listener,
					   bool btf)
{
	struct address a;

	e->family = local_address(sk, &a, btf);
	__builtin_memcpy(e->local, &a, sizeof(a));
	e->local_port = local_port(sk, btf);
	if (listener) {
		e->remote_port = 0;
		__builtin_memset(e->remote, 0, sizeof(e->remote));
		return;
	}
	e->family = remote_address(sk, &a, btf);
	__builtin_memcpy(e->remote, &a, sizeof(a));
	e->remote_port = bpf_ntohs(FIELD(btf, sk, __sk_common.skc_dport));
}

/* Reading the pointer through the helper makes a plain number of it. */
static __always_inline __u64 cookie(struct sock *sk)
{
	__u64 address = 0;

	bpf_probe_read_kernel(&address, sizeof(address), &sk);
	return address * cookie_key;
}

/* What events and surveys say alike; t is what is known of the socket. */
static __always_inline void fill_socket(struct conn_event *e, struct sock *sk, struct tracked *t,
					bool btf)
{
	fill_addresses(e, sk, t->state == TCP_LISTEN, btf);
	e->cookie = cookie(sk);
	e->opened_ns = t->flags & OPENED && !(t->flags & SEEDED) ? t->since_ns : 0;
	e->protocol = IPPROTO_TCP;
	e->inbound = t->direction == INBOUND;
	e->pad = 0;
}

struct transferred {
	__u64 sent;
	__u64 received;
};

/* bytes is NULL where none are told. */
static __noinline void emit(enum point point, struct sock *sk, struct tracked *t,
			    struct transferred *bytes, bool btf)
{
	struct conn_event *e;

	if (!point_on(point))
		return;
	e = event_reserve(point, sizeof(*e));
	if (!e)
		return;
	fill_owner(&e->h.process, t->owner_pid, t->owner_start_ns, t->owner_cgroup);
	fill_socket(e, sk, t, btf);
	e->sent = bytes ? bytes->sent : 0;
	e->received = bytes ? bytes->received : 0;
	event_submit(e);
}

/* ---- the state machine ---- */

static __always_inline void count_failed(__u32 direction, __u32 err)
{
	struct cpu_tcp *c = cpu_counts();
	__u64 slot = err;

	barrier_var(slot); /* the verifier follows 64 bits, and no others, everywhere */
	if (slot >= ERRNOS)
		slot = ERRNOS - 1;
	if (c)
		ADD(c->failed[direction & (DIRECTIONS - 1)][slot], 1);
}

static __always_inline void close_listener(struct sock *sk, struct tracked *e, bool btf)
{
	struct tracked t = copy_of(e); /* the entry may be another's as soon as it is out */
	struct cpu_tcp *c = cpu_counts();

	if (!c || !untrack(sk, e))
		return;
	ADD(c->listen_closed, 1);
	if (!(t.flags & UNTOLD))
		emit(POINT_NETWORK_CLOSE, sk, &t, NULL, btf);
}

static __always_inline void close_connection(struct sock *sk, struct tracked *e, bool btf)
{
	struct tcp_sock *tp = tcp_of(sk, btf);
	struct cpu_tcp *c = cpu_counts();
	struct transferred bytes;
	__s64 sent_delta, received_delta;
	struct conn_counters *n;
	struct tracked t;
	__u64 rtt;

	if (!tp || !c)
		return;
	bytes.sent = bytes_sent(tp, btf);
	bytes.received = bytes_received(sk, tp, btf);
	rtt = smoothed_rtt_ns(tp, btf);
	sent_delta = last_delta(&e->sent, bytes.sent);
	received_delta = last_delta(&e->received, bytes.received);
	t = copy_of(e); /* the entry may be another's as soon as it is out */
	n = conn_counters(&t);
	if (!n)
		return;
	ADD(n->sent, sent_delta);
	ADD(n->received, received_delta);
	count_for_owner(&t, WORKLOAD_SENT, sent_delta);
	count_for_owner(&t, WORKLOAD_RECEIVED, received_delta);
	if (!untrack(sk, e))
		return;
	if (t.flags & SEEDED) {
		ADD(n->seeded_closed, 1);
	} else {
		ADD(n->closed, 1);
		observe(&c->duration[direction_of(&t)], bpf_ktime_get_boot_ns() - t.since_ns);
		if (rtt)
			observe(&c->rtt[direction_of(&t)], rtt);
	}
	emit(POINT_NETWORK_CLOSE, sk, &t, &bytes, btf);
}

/*
 * A socket ends, or starts anew. An outbound one that never got through leaves
 * its entry until the caller has been told, or the socket is destroyed.
 */
static __noinline void finish(struct sock *sk, struct tracked *e, bool btf)
{
	int err;

	if (e->state == TCP_LISTEN) {
		close_listener(sk, e, btf);
	} else if (e->flags & OPENED) {
		close_connection(sk, e, btf);
	} else if (e->state != TCP_CLOSE) {
		err = FIELD(btf, sk, sk_err);
		e->state = TCP_CLOSE;
		count_failed(direction_of(e), err);
		count_for_owner(e, WORKLOAD_FAILED, 1);
		if (e->direction == INBOUND)
			untrack(sk, e);
	}
}

/* In the context of the caller of connect. */
static __always_inline void on_syn_sent(struct sock *sk)
{
	struct tracked fresh = { .state = TCP_SYN_SENT, .direction = OUTBOUND };

	fresh.since_ns = bpf_ktime_get_boot_ns();
	own_current(&fresh);
	track(sk, &fresh, BPF_ANY);
}

/* A child of a listener appears; its addresses are not filled in yet. */
static __always_inline void on_syn_recv(struct sock *sk)
{
	struct tracked fresh = { .state = TCP_SYN_RECV, .direction = INBOUND };

	track(sk, &fresh, BPF_ANY);
}

static __always_inline void on_established(struct sock *sk, struct tracked *e, int old, bool btf)
{
	__u64 now = bpf_ktime_get_boot_ns(), handshake = 0;
	struct tracked fresh = {};
	struct conn_counters *n;
	struct tcp_sock *tp;
	struct cpu_tcp *c;
	struct address a;
	__u8 family;

	if (e && e->flags & OPENED)
		return;
	if (!e) { /* the handshake began before the probe, or found the map full */
		fresh.direction = old == TCP_SYN_SENT ? OUTBOUND : INBOUND;
		if (track(sk, &fresh, BPF_NOEXIST))
			e = lookup(sk);
		if (!e)
			return;
	}
	family = remote_address(sk, &a, btf);
	e->peer = peer_of(&a, family);
	n = conn_counters(e);
	c = cpu_counts();
	tp = tcp_of(sk, btf);
	if (!n || !c || !tp)
		return;
	if (e->direction == INBOUND)
		handshake = smoothed_rtt_ns(tp, btf);
	else if (e->since_ns)
		handshake = now - e->since_ns;
	e->since_ns = now;
	e->sent = e->received = new_tag(now);
	e->state = TCP_ESTABLISHED;
	e->flags = OPENED;
	ADD(n->opened, 1);
	count_for_owner(e, WORKLOAD_OPENED, 1); /* an inbound one has no owner yet */
	if (handshake) /* not known: no RTT was measured, or its begin was not seen */
		observe(&c->handshake[direction_of(e)], handshake);
	if (e->direction == OUTBOUND)
		emit(POINT_NETWORK_CONNECT, sk, e, NULL, btf);
}

/*
 * In the context of the caller of listen. A socket that was never bound gets its
 * port a moment later, and is told of when listen returns.
 */
static __always_inline void on_listen(struct sock *sk, bool btf)
{
	struct tracked fresh = { .state = TCP_LISTEN, .direction = INBOUND };
	struct cpu_tcp *c = cpu_counts();

	own_current(&fresh);
	if (listen_hooked && !FIELD(btf, sk, __sk_common.skc_num))
		fresh.flags = UNTOLD;
	if (!c || !track(sk, &fresh, BPF_ANY))
		return;
	ADD(c->listen_opened, 1);
	if (!(fresh.flags & UNTOLD))
		emit(POINT_NETWORK_LISTEN, sk, &fresh, NULL, btf);
}

/* The end of a socket that was found in a list. */
static __always_inline void on_listed_close(struct sock *sk, int old)
{
	struct cpu_tcp *c = cpu_counts();
	struct list_entry *l = unlist(sk, old != TCP_LISTEN);
	__u32 peer;

	if (!l || !c)
		return;
	peer = *(volatile __u8 *)&l->peer;
	if (old == TCP_LISTEN)
		ADD(c->listen_closed, 1);
	else if (peer < PEERS)
		ADD(c->conns[*(volatile __u8 *)&l->direction & (DIRECTIONS - 1)][peer]
			    .seeded_closed,
		    1);
}

/* A failure without an entry, as in on_established. */
static __always_inline void on_untracked_close(struct sock *sk, int old, bool btf)
{
	struct tracked fresh = { .state = TCP_CLOSE, .direction = OUTBOUND };

	if (old == TCP_SYN_SENT) {
		count_failed(OUTBOUND, FIELD(btf, sk, sk_err));
		track(sk, &fresh, BPF_NOEXIST);
	} else if (old == TCP_SYN_RECV) {
		count_failed(INBOUND, FIELD(btf, sk, sk_err));
	} else {
		on_listed_close(sk, old);
	}
}

/*
 * Whatever the first program has done, the second one finds done. Only where
 * there is no entry to tell, it leaves the count to the first.
 */
static __always_inline void follow(struct sock *sk, int old, int new, bool again, bool btf)
{
	struct tracked *e = lookup(sk);

	if (new == TCP_ESTABLISHED) {
		on_established(sk, e, old, btf);
		return;
	}
	if (e && e->state == new)
		return;
	if (e && new == TCP_SYN_RECV && old == TCP_SYN_SENT) {
		e->state = new; /* both sides sent a SYN at once */
		return;
	}
	if (e)
		finish(sk, e, btf);
	if (new == TCP_SYN_SENT)
		on_syn_sent(sk);
	else if (new == TCP_SYN_RECV)
		on_syn_recv(sk);
	else if (new == TCP_LISTEN)
		on_listen(sk, btf);
	else if (!e && !again)
		on_untracked_close(sk, old, btf);
}

static __always_inline int first(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int old = ctx->args[1], new = ctx->args[2];
	struct cpu_tcp *c;

	if (!(1 << new &TCPF_FOLLOWED) || !is_tcp(sk, btf))
		return 0;
	c = cpu_counts();
	if (!c)
		return 0;
	follow(sk, old, new, false, btf);
	c->done_sock = (__u64)sk;
	c->done_state = new;
	return 0;
}

/*
 * Sees at once that there is nothing to do, unless the first program did not
 * run, or another change came in between the two: then it looks for itself.
 */
static __always_inline int second(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	int old = ctx->args[1], new = ctx->args[2];
	struct cpu_tcp *c;

	if (!(1 << new &TCPF_FOLLOWED))
		return 0;
	c = cpu_counts();
	if (!c)
		return 0;
	if (c->done_sock == (__u64)sk && c->done_state == new)
		c->done_sock = 0;
	else if (is_tcp(sk, btf))
		follow(sk, old, new, true, btf);
	return 0;
}

/* The last word on a socket, whatever was missed before. */
static __always_inline int destroy(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct sock *sk = (struct sock *)ctx->args[0];
	struct tracked *e = lookup(sk);

	if (!e)
		return 0;
	finish(sk, e, btf);
	untrack(sk, e); /* what stayed to tell the caller */
	return 0;
}

TRACEPOINT_AS(inet_sock_set_state, inet_sock_set_state, first)
TRACEPOINT_AS(inet_sock_set_state_again, inet_sock_set_state, second)
TRACEPOINT(tcp_destroy_sock, destroy)

/* ---- what is only counted ---- */

static __always_inline int retransmit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct cpu_tcp *c = cpu_counts();

	if (c && !(has_retransmit_err && (int)ctx->args[2]))
		ADD(c->retransmits, 1);
	return 0;
}

static __always_inline int send_reset(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct cpu_tcp *c = cpu_counts();

	if (c)
		ADD(c->resets_sent, 1);
	return 0;
}

static __always_inline int receive_reset(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct cpu_tcp *c = cpu_counts();

	if (c)
		ADD(c->resets_received, 1);
	return 0;
}

TRACEPOINT(tcp_retransmit_skb, retransmit)
TRACEPOINT(tcp_send_reset, send_reset)
TRACEPOINT(tcp_receive_reset, receive_reset)

/* ---- hooks of system calls: tail-called by the syscalls object ---- */

static __always_inline int first_argument(struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(regs, di);
#else
	return BPF_CORE_READ(regs, orig_x0);
#endif
}

/*
 * The TCP socket behind a descriptor, and its entry. A file whose memory leads to the
 * address of a socket that is followed is that socket; only another one takes a closer
 * look at what it is.
 */
static __always_inline struct sock *followed_of_fd(int fd, struct tracked **e)
{
	struct file *file = current_file(fd);
	struct socket *socket = BPF_CORE_READ(file, private_data);
	struct sock *sk = BPF_CORE_READ(socket, sk);

	*e = lookup(sk);
	if (*e)
		return sk;
	sk = sock_of_file(file);
	if (!is_tcp(sk, false))
		return NULL;
	*e = lookup(sk);
	return sk;
}

/*
 * connect has returned. An error that the state machine has seen is its own
 * report; any other one is an attempt that never sent a SYN. Success on a socket
 * that failed means that it was disconnected: the next attempt is a new one.
 */
static __always_inline int connect_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct pt_regs *regs = (struct pt_regs *)ctx->args[0];
	__s64 err = -(__s64)ctx->args[1];
	struct tracked *e;
	struct sock *sk;

	if (err == EINPROGRESS || err == EINTR || err == EALREADY || err == EISCONN ||
	    (err >= ERESTART_FIRST && err <= ERESTART_LAST))
		return 0;
	sk = followed_of_fd(first_argument(regs), &e);
	if (!sk)
		return 0;
	if (e && e->state == TCP_CLOSE) {
		untrack(sk, e);
	} else if (!e && err > 0 && BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_CLOSE) {
		count_failed(OUTBOUND, err);
		workload_count_current(WORKLOAD_FAILED);
	}
	return 0;
}

/* accept has returned: now the connection has an owner. */
static __always_inline int accept_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	__s64 fd = ctx->args[1];
	struct tracked *e, t;
	struct sock *sk;

	if (fd < 0)
		return 0;
	sk = followed_of_fd(fd, &e);
	if (!sk || !e || e->owner_pid)
		return 0;
	own_current(e);
	t = copy_of(e);
	if (t.flags & OPENED)
		count_for_owner(&t, WORKLOAD_OPENED, 1);
	emit(POINT_NETWORK_ACCEPT, sk, &t, NULL, false);
	return 0;
}

/* listen has returned: now the port is known. */
static __always_inline int listen_exit(struct bpf_raw_tracepoint_args *ctx, bool btf)
{
	struct tracked *e, t;
	struct sock *sk = followed_of_fd(first_argument((struct pt_regs *)ctx->args[0]), &e);

	if (!sk || !e || e->state != TCP_LISTEN || !(e->flags & UNTOLD))
		return 0;
	e->flags &= ~UNTOLD;
	t = copy_of(e);
	emit(POINT_NETWORK_LISTEN, sk, &t, NULL, false);
	return 0;
}

TRACEPOINT_AS(connect_exit, sys_exit, connect_exit)
TRACEPOINT_AS(listen_exit, sys_exit, listen_exit)
TRACEPOINT_AS(accept_exit, sys_exit, accept_exit)

/* ---- iterators: what was there before, and what is open at a scrape ---- */

struct port {
	__u64 net;
	__u64 number;
};

/* Ports with a listener, while connections are being seeded; user space empties it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384); /* set by the loader */
	__type(key, struct port);
	__type(value, __u8);
} listening SEC(".maps");

static __always_inline struct port port_of(struct sock *sk)
{
	struct port p = { .net = (__u64)BPF_CORE_READ(sk, __sk_common.skc_net.net),
			  .number = BPF_CORE_READ(sk, __sk_common.skc_num) };

	return p;
}

SEC("iter/task_file")
int seed_listeners(struct bpf_iter__task_file *ctx)
{
	struct tracked fresh = { .state = TCP_LISTEN, .direction = INBOUND, .flags = SEEDED };
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct cpu_tcp *c = cpu_counts();
	struct sock *sk;
	struct port p;
	__u8 yes = 1;
	__u64 key;

	if (!task || !file || !c)
		return 0;
	sk = sock_of_file(file);
	if (!is_tcp(sk, false) || BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_LISTEN)
		return 0;
	key = (__u64)sk;
	p = port_of(sk);
	if (bpf_map_update_elem(&listening, &p, &yes, BPF_ANY))
		ADD(listening_failures, 1);
	own(&fresh, task);
	if (!track(sk, &fresh, BPF_NOEXIST))
		return 0;
	ADD(c->listen_opened, 1);
	if (BPF_CORE_READ(sk, __sk_common.skc_state) != TCP_LISTEN &&
	    !bpf_map_delete_elem(&sockets, &key))
		ADD(c->listen_closed, 1);
	return 0;
}

static __always_inline bool is_open(struct sock *sk)
{
	return 1 << BPF_CORE_READ(sk, __sk_common.skc_state) & TCPF_OPEN;
}

/*
 * Runs after seed_listeners. An end that comes between the look at the state
 * and the entry is found by the second look; both ends may see the entry, and
 * the one who takes it out counts it.
 */
SEC("iter/task_file")
int seed_connections(struct bpf_iter__task_file *ctx)
{
	struct tracked fresh = { .state = TCP_ESTABLISHED, .flags = OPENED | SEEDED };
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct conn_counters *n;
	struct tcp_sock *tp;
	struct address a;
	struct sock *sk;
	struct port p;
	__u8 family;
	__u64 key, tag;

	if (!task || !file)
		return 0;
	sk = sock_of_file(file);
	if (!is_tcp(sk, false) || !is_open(sk))
		return 0;
	key = (__u64)sk;
	p = port_of(sk);
	fresh.direction = bpf_map_lookup_elem(&listening, &p) ? INBOUND : OUTBOUND;
	family = remote_address(sk, &a, false);
	fresh.peer = peer_of(&a, family);
	tp = tcp_of(sk, false);
	tag = new_tag(bpf_ktime_get_boot_ns());
	fresh.sent = tag | (bytes_sent(tp, false) & COUNT_MASK);
	fresh.received = tag | (bytes_received(sk, tp, false) & COUNT_MASK);
	own(&fresh, task);
	n = conn_counters(&fresh);
	if (!n || !track(sk, &fresh, BPF_NOEXIST))
		return 0;
	ADD(n->seeded, 1);
	if (!is_open(sk) && !bpf_map_delete_elem(&sockets, &key))
		ADD(n->seeded_closed, 1);
	return 0;
}

/* Adds what the open connections have sent and received since the last scrape. */
SEC("iter/bpf_map_elem")
int scrape(struct bpf_iter__bpf_map_elem *ctx)
{
	struct tracked *e = ctx->value;
	__u64 *key = ctx->key, sent, received;
	struct conn_counters *n;
	struct tracked owned;
	struct tcp_sock *tp;
	struct sock *sk;

	if (!key || !e || !(e->flags & OPENED))
		return 0;
	/* what it carries before it is accepted is added when it has an owner, or at its end */
	if (workloads_on && !*(volatile __u32 *)&e->owner_pid)
		return 0;
	sk = (struct sock *)*key;
	tp = tcp_of(sk, false);
	/* the words first: what is read after them is older than a swap that succeeds */
	sent = *(volatile __u64 *)&e->sent;
	received = *(volatile __u64 *)&e->received;
	if (!moved(tp, sent, received))
		return 0;
	n = conn_counters(e);
	if (!n)
		return 0;
	owned = copy_of(e);
	sent = add_delta(&e->sent, bytes_sent(tp, false), sent, &n->sent);
	received = add_delta(&e->received, bytes_received(sk, tp, false), received, &n->received);
	count_for_owner(&owned, WORKLOAD_SENT, sent);
	count_for_owner(&owned, WORKLOAD_RECEIVED, received);
	return 0;
}

/* ---- surveys: what is there now ---- */

/* One socket, as an event would tell of it; opened_ns is 0 where it is not known. */
struct socket_record {
	struct conn_event conn;
	__u64 net; /* tells network namespaces apart, and says no more */
	__u8 listen;
	__u8 role_known;   /* inbound means something */
	__u8 process_full; /* all of the owner is known, not only what its entry says */
	__u8 pad[5];
};

/* Where there is no room for the record, the kernel calls the program again. */
static __always_inline void write_record(struct bpf_iter_meta *meta, struct socket_record *r)
{
	bpf_seq_write(meta->seq, r, sizeof(*r));
}

static __always_inline void fill_record(struct socket_record *r, struct sock *sk, struct tracked *t)
{
	struct tcp_sock *tp = tcp_of(sk, false);

	r->conn.h.process.start_ns = t->owner_start_ns;
	r->conn.h.process.cgroup_id = t->owner_cgroup;
	r->conn.h.process.pid = t->owner_pid;
	r->listen = t->state == TCP_LISTEN;
	r->net = (__u64)BPF_CORE_READ(sk, __sk_common.skc_net.net) * cookie_key;
	fill_socket(&r->conn, sk, t, false);
	if (!r->listen) {
		r->conn.sent = bytes_sent(tp, false);
		r->conn.received = bytes_received(sk, tp, false);
	}
}

/*
 * Writes the TCP sockets that tasks hold, once per descriptor; the reader keeps one
 * of them. The owner is the entry's, as in events, and without an entry whoever
 * holds the socket.
 */
SEC("iter/task_file")
int survey_held(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket_record r = {};
	struct tracked t = {}, *e;
	struct process_id *p = &r.conn.h.process;
	struct sock *sk;

	if (!task || !file)
		return 0;
	sk = sock_of_file(file);
	if (!is_tcp(sk, false))
		return 0;
	r.listen = BPF_CORE_READ(sk, __sk_common.skc_state) == TCP_LISTEN;
	if (!r.listen && !is_open(sk))
		return 0;
	e = lookup(sk);
	if (e)
		t = copy_of(e);
	r.role_known = e || r.listen;
	/* what the entry says of the state may be a moment old */
	t.state = r.listen ? TCP_LISTEN : TCP_ESTABLISHED;
	fill_record(&r, sk, &t);
	if (!p->pid || (p->pid == BPF_CORE_READ(task, tgid) &&
			p->start_ns == BPF_CORE_READ(task, group_leader, start_boottime))) {
		fill_process(p, task);
		r.process_full = true;
	}
	write_record(ctx->meta, &r);
	return 0;
}

/*
 * Writes the connections that are followed and have an owner: those that no task
 * holds any more, but that still have something to send, are found nowhere else.
 * The end of a connection changes the word before the socket can be freed, so
 * where its tag is the same afterwards, all was read from a live socket.
 */
SEC("iter/bpf_map_elem")
int survey_followed(struct bpf_iter__bpf_map_elem *ctx)
{
	struct tracked *e = ctx->value, t;
	struct socket_record r = {};
	__u64 *key = ctx->key, word;
	struct sock *sk;

	if (!key || !e)
		return 0;
	word = *(volatile __u64 *)&e->sent;
	sk = (struct sock *)*(volatile __u64 *)key;
	t = copy_of(e);
	if (!(t.flags & OPENED) || !t.owner_pid || !(word >> TAG_SHIFT))
		return 0;
	r.role_known = true;
	fill_record(&r, sk, &t);
	if (!is_open(sk) || *(volatile __u64 *)&e->sent >> TAG_SHIFT != word >> TAG_SHIFT)
		return 0;
	write_record(ctx->meta, &r);
	return 0;
}

const struct socket_record *socket_record_type __attribute__((unused));

char LICENSE[] SEC("license") = "Dual BSD/GPL";
