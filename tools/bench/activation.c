/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * activation: from the moment before a process blocks in read() to its neighbour's first step, on one
 * scheduler. With the module the kernel says so; without, the overseer notices (milliseconds). In a guest that
 * counts instructions (tools/lab/run --icount) a nanosecond is one.
 *
 * activation_malloc: processes on two schedulers that take each other's locks all the time, in malloc(),
 * free() and the kernel's memory management: per round of work; and what activations, hand-overs and those in
 * vain there were. With MOTE_PORT=user there are none: that is what to compare with.
 */
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_SAMPLES 10000
#define HOLD mote_in_ms(1)		/* a block, and until the next: all threads are where they wait by then */
#define CROWD 16
#define SLOTS 64

static int pipe_fds[2];
static volatile int64_t blocked_at;	/* plain: one scheduler */
static int64_t sample[MAX_SAMPLES];

/* Woken, it waits for its turn on the scheduler of who has woken it. */
static void neighbour(void *arg)
{
	volatile int *n = arg;

	for (;;) {
		mote_msg_free(mote_receive(MOTE_FOREVER));
		sample[(*n)++] = bench_now() - blocked_at;
		mote_sleep(HOLD);
		bench_check(write(pipe_fds[1], "x", 1) == 1, "the pipe takes a byte");
	}
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void activation(void *arg)
{
	int64_t end = bench_now() + (int64_t)(bench_seconds() * 1e9);
	volatile int n = 0;
	mote_pid pid;
	char c;

	(void)arg;
	bench_check(pipe(pipe_fds) == 0, "there is a pipe");
	pid = mote_spawn(neighbour, (void *)&n);
	while (n < MAX_SAMPLES && bench_now() < end) {
		mote_sleep(HOLD);
		mote_send(pid, 1, NULL, 0);
		blocked_at = bench_now();
		bench_check(read(pipe_fds[0], &c, 1) == 1, "the pipe has a byte");
	}
	qsort(sample, (size_t)n, sizeof(sample[0]), by_value);
	bench_figure("activation", (double)sample[n / 2], "ns", 0);
}

/* What one puts down another one frees, from whichever thread that runs on. */
static char *slots[SLOTS];

static void allocates(void *arg)
{
	uint64_t rng = (uintptr_t)arg * 77 + 1;

	for (;;) {
		for (int i = 0; i < 32; i++) {
			size_t size;
			char *p;

			rng ^= rng << 13;
			rng ^= rng >> 7;
			rng ^= rng << 17;
			/* Every eighth comes from the kernel, and goes back to it. */
			size = rng % 8 ? 64 + rng % 2000 : 200000 + rng % 100000;
			p = malloc(size);
			bench_check(p, "there is memory");
			memset(p, 1, size < 8192 ? size : 8192);
			free(__atomic_exchange_n(&slots[rng / 8 % SLOTS], p, __ATOMIC_ACQ_REL));
		}
		__atomic_fetch_add((uint64_t *)&sample[0], 1, __ATOMIC_RELAXED);
		mote_yield();
	}
}

static struct mote_runtime_info runtime_info(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	bench_check(mote_runtime_info(&info) == 0, "the runtime can be asked");
	return info;
}

static void activation_malloc(void *arg)
{
	struct mote_runtime_info before, after;
	uint64_t rounds;
	int64_t wall, cpu;

	(void)arg;
	for (uintptr_t i = 0; i < CROWD; i++)
		mote_spawn(allocates, (void *)i);
	mote_sleep(mote_in_ms(50));
	before = runtime_info();
	rounds = __atomic_load_n((uint64_t *)&sample[0], __ATOMIC_RELAXED);
	wall = bench_now();
	cpu = bench_cpu();
	mote_sleep(mote_in_ms((int64_t)(bench_seconds() * 4000)));
	rounds = __atomic_load_n((uint64_t *)&sample[0], __ATOMIC_RELAXED) - rounds;
	wall = bench_now() - wall;
	cpu = bench_cpu() - cpu;
	after = runtime_info();
	bench_figure("activation_malloc", (double)wall / rounds, "ns", (double)cpu / rounds);
	bench_figure("activation_malloc_taken", (after.activations - before.activations) * 1e9 / wall, "/s", 0);
	bench_figure("activation_malloc_vain", (after.activations_vain - before.activations_vain) * 1e9 / wall, "/s", 0);
	bench_figure("activation_malloc_handovers", (after.handovers - before.handovers) * 1e9 / wall, "/s", 0);
}

const struct bench bench_activation[] = {
	{ .name = "activation", .run = activation },
	{ .name = "activation_malloc", .run = activation_malloc, .schedulers = 2 },
	{ 0 },
};
