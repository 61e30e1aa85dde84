/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * ring: 1,000 processes pass a number on, each adding one, 1,000 times around.
 *
 *	ring [PROCESSES [ROUNDS]]
 */
#include <mote.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOKEN = 1 };

struct ring {
	long processes, rounds;
};

static void node(void *arg)
{
	mote_pid next = *(mote_pid *)arg;	/* in the memory of the first process, which outlives the others */

	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		++*(long *)m->data;
		mote_send_msg(next, m);		/* the message itself, not a copy */
	}
}

static void run(void *arg)
{
	const struct ring *ring = arg;
	mote_pid *next = mote_alloc((ring->processes + 1) * sizeof(*next));
	long token = 0, hops = ring->processes * ring->rounds;
	mote_deadline start;
	double ns;

	if (!next)
		mote_exit(mote_reason_error(-mote_errno(), "ring"));
	next[0] = mote_self();
	for (long i = 0; i < ring->processes; i++) {
		next[i + 1] = mote_spawn_link(node, &next[i]);
		if (!mote_pid_valid(next[i + 1]))
			mote_exit(mote_reason_error(-mote_errno(), "spawn"));
	}

	start = mote_now();
	for (long i = 0; i < ring->rounds; i++) {
		struct mote_msg *m;

		mote_send(next[ring->processes], TOKEN, &token, sizeof(token));
		m = mote_receive(MOTE_FOREVER);
		token = *(long *)m->data;
		mote_msg_free(m);
	}
	ns = mote_now().ns - start.ns;
	printf("%ld hops, %.0f ns each\n", token, ns / hops);
	if (token != hops)
		mote_exit(mote_reason_error(5, "hops were lost"));
}

int main(int argc, char **argv)
{
	struct ring ring = {
		.processes = argc > 1 ? atol(argv[1]) : 1000,
		.rounds = argc > 2 ? atol(argv[2]) : 1000,
	};

	if (ring.processes < 1 || ring.rounds < 1) {
		fprintf(stderr, "usage: ring [PROCESSES [ROUNDS]]\n");
		return 2;
	}
	return mote_run(run, &ring, NULL);
}
