//go:build ignore
/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Sends execs of 256 bytes, as quickly as can be, for the measurement of who reads them. */
#include "kernel.h"
#include "event.bpf.h"
#include <bpf/bpf_helpers.h>

#define PATH "/bin/flood"
#define ARGS "flood\0x\0"
#define CWD "/tmp"
#define EXE "/bin/flood"
#define TEXTS_LEN (sizeof(PATH) - 1 + sizeof(ARGS) - 1 + sizeof(CWD) - 1 + sizeof(EXE) - 1)

#define TEXT_ROOM \
	(256 - sizeof(struct exec_event)) /* a record is compared with raw ones of 256 bytes */

struct flood_event {
	struct exec_event e;
	char text[TEXT_ROOM];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flood_event);
} floods SEC(".maps");

_Static_assert(TEXTS_LEN <= TEXT_ROOM, "texts fit");

static long flood_once(__u32 i, struct flood_event **f)
{
	event_send(&(*f)->e.h, sizeof(**f));
	return 0;
}

SEC("raw_tp")
int flood(struct bpf_raw_tracepoint_args *ctx)
{
	const char text[TEXT_ROOM] = PATH ARGS CWD EXE;
	struct flood_event *f;
	__u32 zero = 0;

	f = bpf_map_lookup_elem(&floods, &zero);
	if (!f)
		return 0;
	event_begin(&f->e.h, POINT_PROCESS_EXEC);
	fill_current(&f->e.h.process);
	f->e.text[TEXT_PATH] = sizeof(PATH) - 1;
	f->e.text[TEXT_ARGS] = sizeof(ARGS) - 1;
	f->e.text[TEXT_CWD] = sizeof(CWD) - 1;
	f->e.text[TEXT_EXE] = TEXT_ROOM - (sizeof(PATH) + sizeof(ARGS) + sizeof(CWD) - 3);
	__builtin_memcpy(f->text, text, sizeof(text));
	return bpf_loop(ctx->args[0], flood_once, &f, 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
