/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Supervisors, where supervise.c has their work by hand: a server ends badly, and the one that was started in its place
 * has answered; 10,000 servers under a tree of supervisors started, and stopped.
 */
#include "bench.h"

#include <stddef.h>

#define BATCH	100		/* restarts that one supervisor sees: Erlang's keeps a list of them */
#define INNER	100
#define LEAVES	100		/* of each inner one */

enum { ASK = 16, EXIT, FAULT, HERE };

static mote_pid client;

static int worker_init(uint64_t *count, void *arg)
{
	mote_pid self = mote_self();

	*count = 0;
	return arg ? mote_send(*(mote_pid *)arg, HERE, &self, sizeof(self)) : 0;
}

static void worker_call(uint64_t *count, struct mote_from from, const struct mote_msg *m)
{
	const struct bench_payload *p = m->data;

	++*count;
	bench_check(bench_payload_is(p, p->word[0]), "the question is whole");
	mote_reply(from, ASK, p, sizeof(*p));
}

static void worker_cast(uint64_t *count, const struct mote_msg *m)
{
	(void)count;
	if (m->type == FAULT)
		*(volatile int *)NULL = 1;
	mote_server_exit(mote_reason_error(5, "told to"));
}

MOTE_SERVER(worker, uint64_t, .init = worker_init, .handle_call = worker_call, .handle_cast = worker_cast);

/* The next one is there, and answers. */
static mote_pid next_worker(uint64_t seed)
{
	struct mote_msg *m = mote_receive_type(HERE, mote_in_ms(5000));
	mote_pid pid;

	bench_check(m && m->size == sizeof(pid), "a worker is there");
	pid = *(mote_pid *)m->data;
	mote_msg_free(m);
	bench_call(pid, seed, mote_in_ms(5000));
	return pid;
}

static void restarts(const char *name, uint32_t how)
{
	static const struct mote_child_spec child = { .id = "worker", .server = &worker.ops, .arg = &client };
	static const struct mote_supervisor_opts opts = {
		.size = sizeof(opts), .max_restarts = 2 * BATCH, .children = &child, .nr_children = 1,
	};
	struct bench_clock clock;
	uint64_t seed = 0;

	client = mote_self();
	/* Erlang's twin has its logger off, too. */
	mote_log_set_level(MOTE_LOG_NONE);
	bench_begin(&clock);
	do {
		mote_pid supervisor, pid;

		bench_check(mote_supervisor_start_link(&opts, &supervisor) == 0, "the supervisor starts");
		pid = next_worker(seed++);
		for (int i = 0; i < BATCH; i++) {
			mote_cast(pid, how, NULL, 0);
			pid = next_worker(seed++);
		}
		bench_check(mote_server_stop(supervisor, MOTE_REASON_NORMAL, MOTE_FOREVER) == 0, "it stops");
	} while (bench_more(&clock, BATCH));
	bench_end(&clock, name);
	bench_done();
}

static void by_exit(void *arg)
{
	(void)arg;
	restarts("supervisor_exit", EXIT);
}

static void by_fault(void *arg)
{
	(void)arg;
	restarts("supervisor_fault", FAULT);
}

static void tree(void *arg)
{
	static struct mote_child_spec leaves[LEAVES], inner[INNER];
	static char ids[INNER][16];
	static const struct mote_supervisor_opts below = {
		.size = sizeof(below), .children = leaves, .nr_children = LEAVES,
	};
	static const struct mote_supervisor_opts top = {
		.size = sizeof(top), .children = inner, .nr_children = INNER,
	};
	struct bench_clock clock;

	(void)arg;
	mote_log_set_level(MOTE_LOG_NONE);
	for (int i = 0; i < INNER; i++) {
		ids[i][0] = (char)('0' + i / 10);
		ids[i][1] = (char)('0' + i % 10);
		leaves[i] = (struct mote_child_spec){ .id = ids[i], .server = &worker.ops };
		inner[i] = (struct mote_child_spec){ .id = ids[i], .supervisor = &below };
	}
	bench_begin(&clock);
	do {
		mote_pid supervisor;

		bench_check(mote_supervisor_start_link(&top, &supervisor) == 0, "the tree starts");
		bench_check(bench_alive() >= INNER * (LEAVES + 1) + 2, "it has all its servers");
		bench_check(mote_server_stop(supervisor, MOTE_REASON_NORMAL, MOTE_FOREVER) == 0, "the tree stops");
		bench_check(bench_alive() < INNER, "all of them are gone");
	} while (bench_more(&clock, INNER * LEAVES));
	bench_end(&clock, "supervisor_tree");
	bench_done();
}

const struct bench bench_supervisor[] = {
	{ .name = "supervisor_exit", .run = by_exit },
	{ .name = "supervisor_fault", .run = by_fault },
	{ .name = "supervisor_tree", .run = tree },
	{ 0 },
};
