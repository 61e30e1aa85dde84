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

	bench_check(!mote_task_await(task, &value, mote_in_ms(5000)) && value == 2 * n, "the task's answer is right");
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

struct items {
	int64_t items[ROUND];
	uint64_t n;
};

static bool next_item(void *it, void **item)
{
	struct items *all = it;

	if (all->n == ROUND)
		return false;
	*item = &all->items[all->n++];
	return true;
}

/* The answers come in the order of the items. */
static void stream(struct items *all)
{
	struct mote_task_stream_opts opts = { .size = sizeof(opts), .fn = twice, .next = next_item, .it = all,
					      .max_concurrency = 8 };
	struct mote_task_stream *stream = mote_task_stream(&opts);
	struct mote_task_result result;
	int64_t n = 0;

	bench_check(stream != NULL, "a stream can be had");
	all->n = 0;
	while (!mote_task_stream_next(stream, &result, MOTE_FOREVER)) {
		bench_check(!result.err && result.value == 2 * n, "the answers are right");
		n++;
	}
	bench_check(n == ROUND && !mote_task_stream_stop(stream, MOTE_FOREVER), "all have answered");
}

static void bench_stream(void *arg)
{
	static struct items all;
	struct bench_clock clock;

	(void)arg;
	for (int i = 0; i < ROUND; i++)
		all.items[i] = i;
	for (int i = 0; i < 10; i++)
		stream(&all);
	bench_begin(&clock);
	do
		stream(&all);
	while (bench_more(&clock, ROUND));
	bench_end(&clock, "async_stream");
	bench_done();
}

const struct bench bench_task[] = {
	{ .name = "async", .run = bench_async },
	{ .name = "async_stream", .run = bench_stream },
	{ 0 },
};
