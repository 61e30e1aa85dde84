/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * memory: resident bytes per idle process, everything included: a million servers with 16 bytes of state, which
 * hold no stack, and a million processes blocked in mote_receive(), which do.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

#define N 1000000

struct counter {
	uint64_t calls, seed;
};

static int counter_init(struct counter *c, void *arg)
{
	c->seed = (uintptr_t)arg;
	return 0;
}

static void counter_call(struct counter *c, struct mote_from from, const struct mote_msg *m)
{
	c->calls++;
	mote_reply(from, m->type, c, sizeof(*c));
}

MOTE_SERVER(counter, struct counter, .init = counter_init, .handle_call = counter_call);

static void memory_server(void *arg)
{
	mote_pid *pids = calloc(N, sizeof(*pids));
	int64_t before, after;

	(void)arg;
	memset(pids, 1, N * sizeof(*pids));	/* its pages are ours, not the servers' */
	before = bench_rss();
	for (uintptr_t i = 0; i < N; i++)
		bench_check(mote_server_start(&counter.ops, (void *)i, NULL, &pids[i]) == 0, "a server starts");
	after = bench_rss();
	for (uint64_t i = 0; i < N; i += 997) {
		struct mote_msg *m;
		struct counter *c;

		bench_check(mote_call(pids[i], 2, NULL, 0, &m, MOTE_FOREVER) == 0, "an idle server answers");
		c = m->data;
		bench_check(c->calls == 1 && c->seed == i, "each has its own state");
		mote_msg_free(m);
	}
	bench_figure("memory_server", (double)(after - before) / N, "B", 0);
	bench_done();
}

static struct bench_gate gate;

static void stackful(void *arg)
{
	bench_gate_pass(arg);
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

static void memory_stackful(void *arg)
{
	uint64_t alive = bench_alive();
	int64_t before = bench_rss(), after;

	(void)arg;
	bench_gate_open(&gate, N);
	for (int i = 0; i < N; i++)
		mote_spawn(stackful, &gate);
	bench_gate_wait(&gate);
	mote_yield();
	after = bench_rss();
	bench_check(bench_alive() == alive + N, "all are alive");
	bench_figure("memory_stackful", (double)(after - before) / N, "B", 0);
	bench_done();
}

const struct bench bench_memory[] = {
	{ .name = "memory_server", .run = memory_server },
	{ .name = "memory_stackful", .run = memory_stackful },
	{ 0 },
};
