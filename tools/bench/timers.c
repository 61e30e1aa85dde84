/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* timers: what it costs to set one and cancel it, and how late 10,000 of them are. */
#include "bench.h"

#include <stdlib.h>

#define BATCH 1000
#define DUE 10000
#define SPREAD_NS 100000000

enum { TICK = 16 };

static void set_and_cancel(void)
{
	static mote_timer timer[BATCH];
	mote_deadline due = mote_in_ms(5000);
	mote_pid self = mote_self();

	for (int i = 0; i < BATCH; i++)
		timer[i] = mote_send_after(due, self, TICK, NULL, 0);
	for (int i = 0; i < BATCH; i++)
		bench_check(mote_timer_cancel(timer[i], NULL) == 0, "a timer that is not due can be cancelled");
}

static void timer_cancel(void *arg)
{
	struct bench_clock clock;

	(void)arg;
	for (int i = 0; i < 10; i++)
		set_and_cancel();
	bench_begin(&clock);
	do
		set_and_cancel();
	while (bench_more(&clock, BATCH));
	bench_end(&clock, "timer_cancel");
	bench_check(!mote_receive(MOTE_NOW), "cancelled timers deliver nothing");
	bench_done();
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

/* All are set before the first is due, in no order, at moments spread over 100 ms. */
static void timer_late(void *arg)
{
	static int64_t late[DUE];
	int64_t first = bench_now() + 50000000;
	mote_pid self = mote_self();

	(void)arg;
	srandom(1);
	for (int i = 0; i < DUE; i++) {
		int64_t due = first + random() % SPREAD_NS;

		mote_send_after((mote_deadline){ due }, self, TICK, &due, sizeof(due));
	}
	bench_check(bench_now() < first, "all are set in time");
	for (int i = 0; i < DUE; i++) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		late[i] = bench_now() - *(int64_t *)m->data;
		bench_check(late[i] >= 0, "no timer is early");
		mote_msg_free(m);
	}
	qsort(late, DUE, sizeof(late[0]), by_value);
	bench_figure("timer_late_p50", late[DUE / 2] / 1e3, "us", 0);
	bench_figure("timer_late_p99", late[DUE * 99 / 100] / 1e3, "us", 0);
	bench_done();
}

const struct bench bench_timers[] = {
	{ .name = "timer_cancel", .run = timer_cancel },
	{ .name = "timer_late", .run = timer_late },
	{ 0 },
};
