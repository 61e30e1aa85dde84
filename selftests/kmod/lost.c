// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Lost wakes: two nodes play ball over a lane each, both publishing, parking and ringing just as docs/abi.md says,
 * for 10,000 rounds times $MOTE_TEST_ROUNDS, on one CPU and on two, by each way to wait. A wake is lost when something
 * has been published, its publisher has gone on to wait for the answer, and nobody wakes who should look at it.
 */
#include "uring.h"

enum by { ENTER_BOTH, ENTER_EACH, BELL_FD, URING, URING_DEFER, MIXED };

FIXTURE(lost)
{
};

FIXTURE_VARIANT(lost)
{
	int cpus;
	enum by by;
};

#define VARIANT(name, cpus_, by_) FIXTURE_VARIANT_ADD(lost, name) { .cpus = cpus_, .by = by_, }
VARIANT(enter_1, 1, ENTER_BOTH);
VARIANT(enter_2, 2, ENTER_BOTH);
VARIANT(enter_each_1, 1, ENTER_EACH);
VARIANT(enter_each_2, 2, ENTER_EACH);
VARIANT(bell_fd_1, 1, BELL_FD);
VARIANT(bell_fd_2, 2, BELL_FD);
VARIANT(uring_1, 1, URING);
VARIANT(uring_2, 2, URING);
VARIANT(uring_defer_1, 1, URING_DEFER);
VARIANT(uring_defer_2, 2, URING_DEFER);
VARIANT(mixed_1, 1, MIXED);
VARIANT(mixed_2, 2, MIXED);

FIXTURE_SETUP(lost)
{
	NEED_DEVICE();
	if (cpu_count() < variant->cpus)
		SKIP(return, "one CPU only");
	if ((variant->by == URING || variant->by == URING_DEFER) && !(features() & MOTE_FEATURE_URING))
		SKIP(return, "the module is built without io_uring");
}

FIXTURE_TEARDOWN(lost)
{
}

struct player {
	struct node node;
	__u32 peer;
	struct mote_bells *peer_bells;
	_Atomic __u64 *out;		/* the lane that it writes: a counter */
	_Atomic __u64 *in;
	enum by by;
	int bell;
	struct uring ring;
	unsigned long random, sleeps, rings;
};

static unsigned long player_random(struct player *p)
{
	p->random ^= p->random << 13;
	p->random ^= p->random >> 7;
	p->random ^= p->random << 17;
	return p->random;
}

/* 0, or 1: nothing woke it within the time, though there had been a reason for as long. */
static int player_sleep(struct player *p, __u32 seq, bool ring, __u64 round)
{
	struct mote_enter enter = {
		.size = sizeof(enter), .flags = MOTE_ENTER_WAIT | (ring ? MOTE_ENTER_RING : 0),
		.ring = { p->peer, 0 }, .seq = seq,
	};
	struct io_uring_cqe cqe;
	struct pollfd poller = { .fd = p->bell, .events = POLLIN };
	enum by by = p->by == MIXED ? player_random(p) % BELL_FD : p->by;
	__u64 count;
	int err;

	p->sleeps++;
	if (ring && by != ENTER_BOTH && by != URING && by != URING_DEFER && bell_ring(p->node.fd, p->peer, 0))
		return 2;
	for (int tries = 0; tries < 2;) {
		switch (by) {
		case ENTER_BOTH:
			enter.deadline = now_ns() + SOON_MS * 1000000LL;
			err = call(p->node.fd, MOTE_IOC_ENTER, &enter);
			enter.flags = MOTE_ENTER_WAIT;
			break;
		case BELL_FD:
			err = poll(&poller, 1, SOON_MS) == 1 ? 0 : -ETIMEDOUT;
			if (!err)
				read(p->bell, &count, sizeof(count));
			break;
		case URING:
		case URING_DEFER:
			if (!tries) {
				if (ring)
					uring_ring(&p->ring, 2, p->node.fd, p->peer, 0, MOTE_RING_HANDOFF);
				uring_wait(&p->ring, 1, p->node.fd, 0, seq);
			}
			do {
				err = uring_next(&p->ring, &cqe, SOON_MS);
				if (!err && cqe.res)
					return 3;
			} while (!err && cqe.user_data == 2);
			break;
		default:
			err = bell_wait(p->node.fd, 0, seq, SOON_MS);
			break;
		}
		if (!err)
			return 0;
		/* Slow is not lost: only if there was a reason already the time before. */
		if (err != -ETIMEDOUT && err != -ETIME)
			return 4;
		if (atomic_load(p->in) >= round)
			tries++;
	}
	return 1;
}

/* Waits until `in` has reached round; first tells the peer, if it sleeps, that `out` has something for it. */
static int player_wait(struct player *p, __u64 round, bool publish)
{
	_Atomic __u32 *state = (_Atomic __u32 *)&p->node.bells->bell[0].state;
	bool ring = false;
	__u32 seq;
	int err;

	if (publish) {
		/* release: what precedes in the lane is written. Then a full barrier: publish before looking. */
		atomic_fetch_add(p->out, 1);
		ring = bell_state(p->peer_bells, 0) == MOTE_BELL_PARKED;
		p->rings += ring;
	}
	/* Now and then just before or after the other parks. */
	for (unsigned long spin = player_random(p) % 64; spin; spin--)
		__asm__ volatile("" ::: "memory");
	while (atomic_load_explicit(p->in, memory_order_acquire) < round || ring) {
		seq = bell_seq(p->node.bells, 0);
		atomic_store_explicit(state, MOTE_BELL_PARKED, memory_order_release);
		/* A full barrier: parked before looking. */
		atomic_fetch_add((_Atomic __u32 *)&p->node.bells->bell[0].user[0], 1);
		if (atomic_load_explicit(p->in, memory_order_acquire) >= round) {
			atomic_store_explicit(state, MOTE_BELL_RUNNING, memory_order_relaxed);
			/* The peer has still to be told. */
			if (ring && bell_ring(p->node.fd, p->peer, 0))
				return 5;
			return 0;
		}
		err = player_sleep(p, seq, ring, round);
		atomic_store_explicit(state, MOTE_BELL_RUNNING, memory_order_relaxed);
		ring = false;
		if (err)
			return err;
	}
	return 0;
}

static int player_open(struct player *p, int cpu, enum by by)
{
	if (cpu >= 0)
		cpu_pin(cpu);
	p->by = by;
	p->random = 88172645463325252UL + cpu;
	if (node_make(&p->node, "", 1, 0600))
		return 10;
	if (by == BELL_FD) {
		p->bell = object_call(p->node.fd, MOTE_IOC_BELL_FD, 0, 0);
		if (p->bell < 0)
			return 11;
	}
	if ((by == URING || by == URING_DEFER) &&
	    uring_open(&p->ring, 8, by == URING ? 0 : IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN))
		return 12;
	return 0;
}

/* The lanes and bells of both ends, once both are open. answers: it was called. */
static int player_connect(struct player *p, __u32 peer, bool answers)
{
	struct mote_event event;
	int lane;

	p->peer = peer;
	if (answers && (event_next(p->node.fd, &event, SOON_MS) || event.type != MOTE_EVENT_LANE_OPENED))
		return 20;
	if (answers)
		p->peer = event.node;
	lane = lane_open(p->node.fd, p->peer);
	if (lane <= 0)
		return 21;
	p->out = area_map(p->node.fd, MOTE_AREA_WRITER, lane, writer_length(DATA), PROT_READ | PROT_WRITE);
	if (!answers && (event_next(p->node.fd, &event, SOON_MS) || event.type != MOTE_EVENT_LANE_OPENED))
		return 22;
	p->in = area_map(p->node.fd, MOTE_AREA_WRITER, event.lane, writer_length(DATA), PROT_READ);
	p->peer_bells = bells_map(p->node.fd, p->peer, 1, PROT_READ);
	if (p->out == MAP_FAILED || p->in == MAP_FAILED || p->peer_bells == MAP_FAILED)
		return 23;
	return 0;
}

static int first_plays(struct player *p, long rounds)
{
	int err = 0;

	for (long round = 1; round <= rounds && !err; round++)
		err = player_wait(p, round, true);
	return err;
}

static int second_plays(struct player *p, long rounds)
{
	int err = player_wait(p, 1, false);

	/* Each answer is also the wait for what follows; the last one waits for nothing. */
	for (long round = 1; round < rounds && !err; round++)
		err = player_wait(p, round + 1, true);
	if (!err) {
		atomic_fetch_add(p->out, 1);
		if (bell_state(p->peer_bells, 0) == MOTE_BELL_PARKED)
			bell_ring(p->node.fd, p->peer, 0);
	}
	return err;
}

TEST_F_TIMEOUT(lost, ball, 1800)
{
	long rounds = test_rounds(10000);
	struct player p = { 0 };
	int line[2], err;
	__u32 id;
	pid_t pid;

	ASSERT_EQ(0, pipe2(line, O_CLOEXEC));
	pid = child_start();
	if (!pid) {
		err = player_open(&p, variant->cpus - 1, variant->by);
		write(line[1], &p.node.id, sizeof(p.node.id));
		_exit(err ?: player_connect(&p, 0, true) ?: second_plays(&p, rounds));
	}
	ASSERT_EQ(0, player_open(&p, 0, variant->by));
	ASSERT_EQ(sizeof(id), read(line[0], &id, sizeof(id)));
	ASSERT_EQ(0, player_connect(&p, id, false));
	err = first_plays(&p, rounds);
	EXPECT_EQ(0, err)
		TH_LOG("the first: %d, after %llu of %ld rounds", err, (unsigned long long)atomic_load(p.in), rounds);
	EXPECT_EQ(0, child_wait(pid));
	EXPECT_EQ(rounds, atomic_load(p.in));
	/* Else nothing has been tested. */
	EXPECT_LT(0, p.sleeps);
	EXPECT_LT(0, p.rings);
}

/* Several ring one bell at random times; each ring that is counted is seen, and none is left asleep. */
struct ringer {
	struct node *from;
	__u32 to;
	_Atomic long *left;
	_Atomic __u64 *published;
	int err;
};

static void *ringer_run(void *arg)
{
	struct ringer *r = arg;

	while (!r->err && atomic_fetch_sub(r->left, 1) > 0) {
		atomic_fetch_add(r->published, 1);
		r->err = bell_ring(r->from->fd, r->to, 0);
	}
	return NULL;
}

FIXTURE(crowd)
{
};

FIXTURE_VARIANT(crowd)
{
	int cpus;
};

FIXTURE_VARIANT_ADD(crowd, 1) { .cpus = 1 };
FIXTURE_VARIANT_ADD(crowd, 2) { .cpus = 2 };

FIXTURE_SETUP(crowd)
{
	NEED_DEVICE();
	if (cpu_count() < variant->cpus)
		SKIP(return, "one CPU only");
}

FIXTURE_TEARDOWN(crowd)
{
}

TEST_F_TIMEOUT(crowd, rings_one, 1800)
{
	_Atomic long left = test_rounds(10000);
	const __u64 total = left;
	_Atomic __u64 published = 0;
	struct node nodes[4];
	struct ringer ringers[3];
	pthread_t threads[3];
	__u64 seen = 0;
	__u32 seq;

	if (variant->cpus == 1)
		cpu_pin(0);
	for (int i = 0; i < 4; i++)
		ASSERT_EQ(0, node_make(&nodes[i], "", 1, 0600));
	for (int i = 0; i < 3; i++) {
		ASSERT_LT(0, lane_open(nodes[i].fd, nodes[3].id));
		ringers[i] = (struct ringer){ &nodes[i], nodes[3].id, &left, &published, 0 };
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, ringer_run, &ringers[i]));
	}
	while (seen < total) {
		seq = bell_seq(nodes[3].bells, 0);
		seen = atomic_load(&published);
		if (seen < total)
			ASSERT_EQ(0, bell_wait(nodes[3].fd, 0, seq, 2 * SOON_MS));
	}
	for (int i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		EXPECT_EQ(0, ringers[i].err);
	}
	EXPECT_EQ(total, bell_seq(nodes[3].bells, 0));
	for (int i = 0; i < 4; i++)
		node_end(&nodes[i]);
}

TEST_HARNESS_MAIN
