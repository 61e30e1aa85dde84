/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* skynet: a tree of processes, fan-out 10, a million leaves; each adds up what its children send. */
#include "bench.h"

#define LEAVES 1000000
#define FAN 10

enum { SUM = 16 };

struct branch {
	mote_pid parent;
	uint64_t number, size;
};

static void branch(void *arg);

/* The children's arguments lie on their parent's stack: it waits for all of them. */
static uint64_t grow(uint64_t number, uint64_t size)
{
	struct branch child[FAN];
	uint64_t sum = 0;

	for (int i = 0; i < FAN; i++) {
		child[i] = (struct branch){ mote_self(), number + i * (size / FAN), size / FAN };
		bench_check(mote_pid_valid(mote_spawn(branch, &child[i])), "a branch grows");
	}
	for (int i = 0; i < FAN; i++) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		sum += *(uint64_t *)m->data;
		mote_msg_free(m);
	}
	return sum;
}

static void branch(void *arg)
{
	const struct branch *b = arg;
	uint64_t sum = b->size == 1 ? b->number : grow(b->number, b->size);

	mote_send(b->parent, SUM, &sum, sizeof(sum));
}

static void tree(void)
{
	bench_check(grow(0, LEAVES) == (uint64_t)LEAVES * (LEAVES - 1) / 2, "the sum is right");
}

/* The second tree is measured: the memory is there. */
void bench_skynet_run(void *arg)
{
	int64_t cpu, wall;

	(void)arg;
	tree();
	cpu = bench_cpu();
	wall = bench_now();
	tree();
	bench_figure("skynet", (bench_now() - wall) / 1e6, "ms", (bench_cpu() - cpu) / 1e6);
	bench_done();
}

const struct bench bench_skynet[] = {
	{ .name = "skynet", .run = bench_skynet_run },
	{ 0 },
};
