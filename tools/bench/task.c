/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* async: a task and its answer; async_stream: many items, eight tasks at a time. */
#include "bench.h"

#define ROUND 1000

static int64_t twice(void *arg)
{
	return 2 * *(int64_t *)arg;
}

static void async(uint64_t i)
{
	int64_t n = (int64_t)i, value;
	mote_task task = mote_task_async(twice, &n);

	bench_check(mote_task_await(task, &value, mote_in_ms(5000)) == 0 && value == 2 * n, "the task's answer is right");
}

static void bench_async(void *arg)
{
	struct bench_clock clock;
	uint64_t n = 0;

	(void)arg;
	for (; n < 10 * ROUND; n++)
		async(n);
	bench_begin(&clock);
	do {
		for (int i = 0; i < ROUND; i++)
			async(n++);
	} while (bench_more(&clock, ROUND));
	bench_end(&clock, "async");
	bench_done();
}

const struct bench bench_task[] = {
	{ .name = "async", .run = bench_async },
	{ 0 },
};
