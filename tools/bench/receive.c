/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * receive_ref: what a call costs while other messages wait in the caller's mailbox, as a multiple of what it costs
 * with an empty one. "before": they were there when the call was made. "after": they came between the requests
 * and their answers; taking delivery of them is not charged to the calls. As a million messages push all else out of
 * the caches, the empty mailbox is measured after as many bytes went through them.
 */
#include "bench.h"

#include <stdio.h>
#include <string.h>

#define BATCH 1000
#define MILLION 1000000
#define BLOCK 128	/* what a waiting message of 64 bytes takes */

enum { REQUEST = 2, OTHER = 16, NEVER, ANSWER };

static void fill(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		struct bench_payload p = bench_payload(i);

		mote_send(mote_self(), OTHER, &p, sizeof(p));
	}
	/* Takes delivery of all of them. */
	bench_check(!mote_receive_type(NEVER, MOTE_NOW), "nobody sends such a message");
}

static void sweep_caches(uint64_t n)
{
	static char bytes[MILLION * BLOCK];

	memset(bytes, (int)n, n * BLOCK);
}

static void empty(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		struct mote_msg *m = mote_receive(MOTE_NOW);

		bench_check(m && m->type == OTHER && bench_payload_is(m->data, i), "the others waited, in order");
		mote_msg_free(m);
	}
	bench_check(!mote_receive(MOTE_NOW), "nothing else was there");
}

static double calls_before(mote_pid server, uint64_t others, double *cpu)
{
	struct bench_clock clock;
	double wall;

	fill(others);
	for (int i = 0; i < BATCH; i++)
		bench_call(server, i, MOTE_FOREVER);
	bench_begin(&clock);
	do {
		for (int i = 0; i < BATCH; i++)
			bench_call(server, i, MOTE_FOREVER);
	} while (bench_more(&clock, BATCH));
	wall = (double)(bench_now() - clock.wall) / clock.operations;
	*cpu = (double)(bench_cpu() - clock.cpu) / clock.operations;
	empty(others);
	return wall;
}

/* Answers BATCH requests at once when it is told to. */
static void hoarder(void *arg)
{
	static struct mote_from from[BATCH];

	(void)arg;
	for (;;) {
		for (int i = 0; i < BATCH; i++) {
			struct mote_msg *m = mote_receive_type(REQUEST, MOTE_FOREVER);

			from[i] = mote_msg_from(m);
			bench_check(bench_payload_is(m->data, i), "the request is whole");
			mote_msg_free(m);
		}
		mote_msg_free(mote_receive_type(ANSWER, MOTE_FOREVER));
		for (int i = 0; i < BATCH; i++) {
			struct bench_payload p = bench_payload(2 * i);

			mote_reply(from[i], REQUEST, &p, sizeof(p));
		}
	}
}

static double calls_after(mote_pid server, uint64_t others, bool there, double *cpu)
{
	static mote_ref refs[BATCH];
	int64_t wall = 0, used = 0, wall0, cpu0;
	uint64_t n = 0;

	do {
		for (int i = 0; i < BATCH; i++) {
			struct bench_payload p = bench_payload(i);

			refs[i] = mote_request(server, REQUEST, &p, sizeof(p));
			bench_check(refs[i].id != 0, "a request is made");
		}
		if (there)
			fill(others);
		else
			sweep_caches(others);
		cpu0 = bench_cpu();
		wall0 = bench_now();
		mote_send(server, ANSWER, NULL, 0);
		for (int i = 0; i < BATCH; i++) {
			struct mote_msg *m = mote_receive_ref(refs[i], MOTE_FOREVER);

			bench_check(m && bench_payload_is(m->data, 2 * i), "the answer is right");
			mote_msg_free(m);
		}
		wall += bench_now() - wall0;
		used += bench_cpu() - cpu0;
		empty(there ? others : 0);
		n += BATCH;
	} while (n < (others < MILLION ? 20 : 3) * BATCH);
	*cpu = (double)used / n;
	return (double)wall / n;
}

static void receive_ref(void *arg)
{
	static const struct {
		const char *name;
		uint64_t others;
	} sizes[] = { { "10k", 10000 }, { "1m", MILLION } };
	mote_pid server = bench_echo_start();
	mote_pid later = mote_spawn(hoarder, NULL);
	double base, t, cpu;
	char name[48];

	(void)arg;
	base = calls_before(server, 0, &cpu);
	bench_figure("receive_ref", base, "ns", cpu);
	for (int i = 0; i < 2; i++) {
		t = calls_before(server, sizes[i].others, &cpu);
		snprintf(name, sizeof(name), "receive_ref_before_%s", sizes[i].name);
		bench_figure(name, t / base, "x", cpu);
	}
	calls_after(later, 0, false, &cpu);
	for (int i = 0; i < 2; i++) {
		base = calls_after(later, sizes[i].others, false, &cpu);
		t = calls_after(later, sizes[i].others, true, &cpu);
		snprintf(name, sizeof(name), "receive_ref_after_%s", sizes[i].name);
		bench_figure(name, t / base, "x", cpu);
	}
	bench_done();
}

const struct bench bench_receive[] = {
	{ .name = "receive_ref", .run = receive_ref },
	{ 0 },
};
