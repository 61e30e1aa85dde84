/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * What a process notices of a bad neighbour: every millisecond it is due to make a call to a server. Measured is how late
 * the answer is in its hands, from the moment it was due, also when the ones before were late. After a tenth of the time
 * moves in, one per scheduler: nobody; a hog; a blocker; a loop of crashes.
 */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define PERIOD_NS 1000000
#define BLOCK_NS 10000000
#define FIRST 10
#define MAX_SAMPLES 100000

/* Volatile, not atomic: it only has to be seen to grow. */
static volatile uint64_t deeds;

void bench_hog(void *arg)
{
	(void)arg;
	for (;;)
		deeds++;
}

/* Ten milliseconds in the kernel, past mote's I/O; then it calls the library, as such code does, and blocks again. */
void bench_blocker(void *arg)
{
	struct timespec t = { .tv_nsec = BLOCK_NS };

	(void)arg;
	for (;;) {
		nanosleep(&t, NULL);
		deeds++;
		mote_yield();
	}
}

static void crash(void *arg)
{
	(void)arg;
	*(volatile int *)NULL = 1;
}

static void crash_loop(void *arg)
{
	(void)arg;
	for (;;) {
		mote_ref ref;
		const struct mote_down_info *down;
		struct mote_msg *m;

		mote_spawn_monitor(crash, NULL, &ref);
		m = mote_receive_ref(ref, MOTE_FOREVER);
		down = mote_msg_down(m);
		bench_check(down && down->reason.kind == MOTE_SIGNAL, "DOWN says that a signal ended the process");
		mote_msg_free(m);
		deeds++;
	}
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void report(const char *name, int64_t *late, int n)
{
	static const struct {
		const char *name;
		double share;
	} quantiles[] = { { "p50", 0.5 }, { "p99", 0.99 }, { "p999", 0.999 }, { "max", 1 } };
	char text[48];

	qsort(late, n, sizeof(late[0]), by_value);
	for (int i = 0; i < 4; i++) {
		int at = quantiles[i].share * n;

		snprintf(text, sizeof(text), "%s_%s", name, quantiles[i].name);
		bench_figure(text, late[at < n ? at : n - 1] / 1e3, "us", 0);
	}
}

static void beside(const char *name, mote_fn bad)
{
	static int64_t late[MAX_SAMPLES];
	struct mote_runtime_info info = { .size = sizeof(info) };
	mote_pid server = bench_echo_start();
	int n = bench_seconds() * 8e9 / PERIOD_NS;
	int64_t start;

	bench_check(mote_runtime_info(&info) == 0, "the runtime can be asked");
	n = n < MAX_SAMPLES ? n : MAX_SAMPLES;
	for (int i = 0; i < FIRST; i++)
		bench_call(server, i, MOTE_FOREVER);
	start = bench_now();
	for (int i = 0; i < n; i++) {
		int64_t due = start + (i + 1LL) * PERIOD_NS;

		mote_sleep((mote_deadline){ due });
		bench_call(server, i, MOTE_FOREVER);
		late[i] = bench_now() - due;
		bench_check(late[i] >= 0, "nothing is early");
		/* It comes when all have settled, not while the runtime is new. */
		for (unsigned int j = 0; i == n / 10 && bad && j < info.schedulers; j++)
			bench_check(mote_pid_valid(mote_spawn(bad, NULL)), "the neighbour moves in");
	}
	bench_check(!bad || deeds, "the neighbour is as bad as it should be");
	report(name, late, n);
	bench_done();
}

static const char *name_of(const char *one, const char *two)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	return mote_runtime_info(&info) == 0 && info.schedulers == 1 ? one : two;
}

#define CASE(what, bad) \
	static void beside_##what(void *arg) \
	{ \
		(void)arg; \
		beside(name_of("neighbour_" #what, "neighbours_" #what), bad); \
	}

CASE(nobody, NULL)
CASE(hog, bench_hog)
CASE(blocker, bench_blocker)
CASE(crashes, crash_loop)

const struct bench bench_neighbour[] = {
	{ .name = "neighbour_nobody", .run = beside_nobody },
	{ .name = "neighbour_hog", .run = beside_hog },
	{ .name = "neighbour_blocker", .run = beside_blocker },
	{ .name = "neighbour_crashes", .run = beside_crashes },
	{ .name = "neighbours_nobody", .run = beside_nobody, .schedulers = 2 },
	{ .name = "neighbours_hog", .run = beside_hog, .schedulers = 2 },
	{ .name = "neighbours_blocker", .run = beside_blocker, .schedulers = 2 },
	{ .name = "neighbours_crashes", .run = beside_crashes, .schedulers = 2 },
	{ 0 },
};
