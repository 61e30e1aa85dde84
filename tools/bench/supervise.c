/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * supervise: a worker ends badly, its supervisor hears of it, starts another, and that one answers. By mote_exit(), and by
 * a store through a null pointer.
 */
#include "bench.h"

#include <signal.h>
#include <stddef.h>

#define BATCH 100

enum { ASK = 16, EXIT, FAULT };

static void worker(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		const struct bench_payload *p = m->data;

		switch (m->type) {
		case ASK:
			bench_check(bench_payload_is(p, p->word[0]), "the question is whole");
			mote_reply(mote_msg_from(m), ASK, p, sizeof(*p));
			break;
		case EXIT:
			mote_exit(mote_reason_error(5, "told to"));
		case FAULT:
			*(volatile int *)NULL = 1;
		}
		mote_msg_free(m);
	}
}

static mote_pid start(mote_ref *ref, uint64_t seed)
{
	struct bench_payload p = bench_payload(seed);
	mote_pid pid = mote_spawn_monitor(worker, NULL, ref);
	struct mote_msg *m;

	bench_check(mote_call(pid, ASK, &p, sizeof(p), &m, mote_in_ms(5000)) == 0, "the worker answers");
	bench_check(bench_payload_is(m->data, seed), "the answer is right");
	mote_msg_free(m);
	return pid;
}

static void supervise(const char *name, uint32_t how, uint32_t kind, int code)
{
	struct bench_clock clock;
	uint64_t seed = 0;
	mote_ref ref;
	mote_pid pid = start(&ref, seed);

	bench_begin(&clock);
	do {
		for (int i = 0; i < BATCH; i++) {
			const struct mote_down_info *down;
			struct mote_msg *m;

			mote_send(pid, how, NULL, 0);
			m = mote_receive_ref(ref, MOTE_FOREVER);
			down = mote_msg_down(m);
			bench_check(down && down->reason.kind == kind && down->reason.code == code, "DOWN says why");
			mote_msg_free(m);
			pid = start(&ref, ++seed);
		}
	} while (bench_more(&clock, BATCH));
	bench_end(&clock, name);
	bench_done();
}

static void by_exit(void *arg)
{
	(void)arg;
	supervise("supervise_exit", EXIT, MOTE_ERROR, 5);
}

static void by_fault(void *arg)
{
	(void)arg;
	supervise("supervise_fault", FAULT, MOTE_SIGNAL, SIGSEGV);
}

const struct bench bench_supervise[] = {
	{ .name = "supervise_exit", .run = by_exit },
	{ .name = "supervise_fault", .run = by_fault },
	{ 0 },
};
