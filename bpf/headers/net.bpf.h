/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Addresses and the class of a peer. Go holds the same list of networks
 * (peers.go), and a test compares the two at the edges of every network.
 */
#ifndef SONDE_NET_BPF_H
#define SONDE_NET_BPF_H

#include "kernel.h"
#include "current.bpf.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define AF_INET 2
#define AF_INET6 10
#define IPPROTO_TCP 6
#define IPPROTO_UDP 17
#define IPPROTO_MPTCP 262
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define TCP_ESTABLISHED 1 /* of a UDP socket: it has a peer */

enum direction { INBOUND, OUTBOUND, DIRECTIONS };

enum peer { PEER_PRIVATE, PEER_PUBLIC, PEER_LOOPBACK, PEERS };

/* Words in network order; an IPv4 address is the first word, the others are 0. */
struct address {
	__be32 word[4];
};

/* Turns a v4-mapped address into the IPv4 one; returns the family, 4 or 6. */
static __always_inline __u8 unmap(struct address *a)
{
	if (a->word[0] || a->word[1] || a->word[2] != bpf_htonl(0xffff))
		return 6;
	a->word[0] = a->word[3];
	a->word[2] = a->word[3] = 0;
	return 4;
}

#define IN_NET(host_order, net, bits) ((host_order) >> (32 - (bits)) == (net) >> (32 - (bits)))

static __always_inline enum peer peer_of_ipv4(__be32 address)
{
	__u32 a = bpf_ntohl(address);

	if (IN_NET(a, 0x7f000000, 8))
		return PEER_LOOPBACK;
	if (IN_NET(a, 0x0a000000, 8) || IN_NET(a, 0xac100000, 12) || IN_NET(a, 0xc0a80000, 16) ||
	    IN_NET(a, 0x64400000, 10) || IN_NET(a, 0xa9fe0000, 16))
		return PEER_PRIVATE;
	return PEER_PUBLIC;
}

static __always_inline enum peer peer_of(const struct address *a, __u8 family)
{
	__u32 first = bpf_ntohl(a->word[0]);

	if (family == 4)
		return peer_of_ipv4(a->word[0]);
	if (!a->word[0] && !a->word[1] && !a->word[2] && a->word[3] == bpf_htonl(1))
		return PEER_LOOPBACK;
	if (IN_NET(first, 0xfc000000, 7) || IN_NET(first, 0xfe800000, 10))
		return PEER_PRIVATE;
	return PEER_PUBLIC;
}

/*
 * btf says that the pointer came as an argument of a BTF tracepoint, a constant
 * where this is called: then a field is a load and no helper call.
 */
#define FIELD(btf, ptr, field) ((btf) ? (ptr)->field : BPF_CORE_READ(ptr, field))

/* Reads one of the two IPv6 addresses of a socket, 16 bytes without a gap. */
static __always_inline void read_ipv6(struct address *a, struct in6_addr *from, bool btf)
{
	if (btf)
		*a = *(struct address *)from;
	else
		bpf_probe_read_kernel(a, sizeof(*a), from);
}

/* Reads the remote address of a connected socket; returns its family, 4 or 6. */
static __always_inline __u8 remote_address(struct sock *sk, struct address *a, bool btf)
{
	__builtin_memset(a, 0, sizeof(*a));
	if (FIELD(btf, sk, __sk_common.skc_family) != AF_INET6) {
		a->word[0] = FIELD(btf, sk, __sk_common.skc_daddr);
		return 4;
	}
	read_ipv6(a, &sk->__sk_common.skc_v6_daddr, btf);
	return unmap(a);
}

/* Reads the local address of a socket; returns its family, 4 or 6. */
static __always_inline __u8 local_address(struct sock *sk, struct address *a, bool btf)
{
	__builtin_memset(a, 0, sizeof(*a));
	if (FIELD(btf, sk, __sk_common.skc_family) != AF_INET6) {
		a->word[0] = FIELD(btf, sk, __sk_common.skc_rcv_saddr);
		return 4;
	}
	read_ipv6(a, &sk->__sk_common.skc_v6_rcv_saddr, btf);
	return unmap(a);
}

/* In host order. At the end of a socket skc_num may have been given back already. */
static __always_inline __u16 local_port(struct sock *sk, bool btf)
{
	__u16 port = FIELD(btf, sk, __sk_common.skc_num);

	return port ? port : bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
}

/*
 * The socket behind a file, NULL where the file is none. An MPTCP socket stands
 * for its first subflow, which is the TCP connection.
 */
static __always_inline struct sock *sock_of_file(struct file *file)
{
	struct socket *socket;
	struct sock *sk;

	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & 0170000) != 0140000)
		return NULL;
	socket = BPF_CORE_READ(file, private_data);
	sk = BPF_CORE_READ(socket, sk);
	if (sk && BPF_CORE_READ(sk, sk_protocol) == IPPROTO_MPTCP) {
		if (!bpf_core_field_exists(struct mptcp_sock, first))
			return NULL;
		sk = BPF_CORE_READ((struct mptcp_sock *)sk, first);
	}
	return sk;
}

static __always_inline bool is_tcp(struct sock *sk, bool btf)
{
	__u16 family;

	if (!sk || FIELD(btf, sk, sk_protocol) != IPPROTO_TCP ||
	    FIELD(btf, sk, sk_type) != SOCK_STREAM)
		return false;
	family = FIELD(btf, sk, __sk_common.skc_family);
	return family == AF_INET || family == AF_INET6;
}

#endif
