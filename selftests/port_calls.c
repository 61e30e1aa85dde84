// SPDX-License-Identifier: MIT OR GPL-2.0
/* Making connections: both at once, again after the end, many at a time, with some that never answer. */
#include "port_helpers.h"

/* --- both at once --- */

/* Without sleeping: so that the two go on together. */
static bool meet(unsigned int other, uint64_t number)
{
	int64_t until = test_now_ms() + WAIT_S * 1000;

	while (shared->number[other] < number && test_now_ms() < until) {
		port_poll(NULL, 0, false);
		sched_yield();
	}
	return EXPECT(shared->number[other] >= number);
}

static unsigned long nr_rounds;

/*
 * Two nodes call each other, each round with a new connection: one stands, both say that. Then one of the two closes it.
 */
static void both(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg, other = 1 - me;
	uint64_t seed = test_seed() + me;
	char name[8] = { 'b', (char)('0' + other) };

	if (!EXPECT(!node_start(me ? "b1" : "b0", 1)))
		return;
	shared->id[me] = port_node;
	AWAIT(shared->id[other]);
	for (unsigned long i = 1; i <= nr_rounds; i++) {
		unsigned int fails = nr_unreachables;

		/* The round begins for both. */
		shared->number[me] = 2 * i;
		meet(other, 2 * i);
		test_spin(test_random(&seed) % 2000);
		if (test_random(&seed) % 8)
			EXPECT_EQ(port_connect(test_random(&seed) % 2 ? shared->id[other] : 0, name), 0);
		else if (!me)
			/* Somebody has to. */
			EXPECT_EQ(port_connect(0, name), 0);
		if (!UNTIL(nr_ups == i))
			return;
		EXPECT_EQ(carrier_node(last_up), shared->id[other]);
		/* And it works. */
		EXPECT(send_record(last_up, 1, NULL, 0));
		UNTIL(nr_records == i);
		shared->number[me] = 2 * i + 1;
		meet(other, 2 * i + 1);
		EXPECT(nr_unreachables == fails || last_err == -EISCONN);
		if (i % 2 == me)
			carrier_cut(last_up, PORT_CLOSED, NULL);
		UNTIL(nr_downs == i);
		EXPECT_EQ(last_why, PORT_CLOSED);
		carrier_release(last_down);
	}
	EXPECT_EQ(nr_ups, nr_rounds);
	shared->number[me] = UINT64_MAX;
	UNTIL(shared->number[other] == UINT64_MAX);
	node_stop(1);
}

static void simultaneous(void)
{
	pid_t a, b;

	nr_rounds = test_rounds(200);
	a = node_fork(both, (void *)0);
	b = node_fork(both, (void *)1);
	EXPECT_EQ(node_status(a), 0);
	EXPECT_EQ(node_status(b), 0);
}

/* --- who never answers --- */

static void plain(void *arg)
{
	if (!EXPECT(!node_start(arg, 1)))
		return;
	shared->number[0]++;
	UNTIL(shared->stage >= 9);
	node_stop(1);
}

static void stopped(void)
{
	pid_t sleeper = node_fork(plain, "sleeper"), other = node_fork(plain, "other");
	int64_t began;
	unsigned int fds;

	AWAIT(shared->number[0] == 2);
	if (!EXPECT(!node_start("asker", 1)))
		return;
	fds = fds_open();
	kill(sleeper, SIGSTOP);
	began = test_now_ms();
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(port_connect(0, "sleeper"), 0);
	/* Meanwhile others are reached. */
	EXPECT(node_connect("other"));
	EXPECT_EQ(nr_unreachables, 0);
	UNTIL(nr_unreachables == 3);
	EXPECT_EQ(last_err, -ETIMEDOUT);
	EXPECT(test_now_ms() - began >= 4900);
	EXPECT_EQ(nr_ups, 1);
	carrier_cut(last_up, PORT_CLOSED, NULL);
	UNTIL(nr_downs == 1);
	carrier_release(last_down);
	AWAIT(fds_open() == fds);
	/* It wakes up, finds calls of ours that are over, and takes the next one. */
	kill(sleeper, SIGCONT);
	EXPECT(node_connect("sleeper"));
	EXPECT_EQ(nr_downs, 1);
	test_stage(9);
	EXPECT_EQ(node_status(sleeper), 0);
	EXPECT_EQ(node_status(other), 0);
	node_stop(1);
}

/* Stopped for a moment at random places of the handshake, or killed there: one answer each, and nothing is left. */
static void victim(void *arg)
{
	char name[16];

	snprintf(name, sizeof(name), "v%u", (unsigned int)(uintptr_t)arg);
	AWAIT(shared->stage >= (uintptr_t)arg);
	if (!EXPECT(!node_start(name, 1)))
		return;
	shared->number[1] = (uintptr_t)arg;
	for (;;)
		loop_once(0, 1000);
}

static void killed_in_handshake(void)
{
	enum { MAX = 400 };
	unsigned long rounds = test_rounds(100), ups = 0, fails = 0;
	uint64_t seed = test_seed();
	unsigned int fds, maps;
	pid_t pids[MAX];
	char name[16];

	if (rounds > MAX)
		rounds = MAX;
	for (unsigned long i = 0; i < rounds; i++)
		pids[i] = node_fork(victim, (void *)(uintptr_t)(i + 1));
	if (!EXPECT(!node_start("asker", 1)))
		return;
	fds = fds_open();
	maps = maps_open();
	for (unsigned long i = 0; i < rounds; i++) {
		unsigned int up = nr_ups, failed = nr_unreachables, downs = nr_downs;

		test_stage((unsigned int)i + 1);
		AWAIT(shared->number[1] == i + 1);
		snprintf(name, sizeof(name), "v%lu", i + 1);
		EXPECT_EQ(port_connect(0, name), 0);
		test_spin(test_random(&seed) % (i % 2 ? 300000 : 6000000));
		kill(pids[i], SIGKILL);
		UNTIL(nr_ups > up || nr_unreachables > failed);
		if (nr_ups > up) {
			ups++;
			UNTIL(nr_downs > downs);
			EXPECT_EQ(last_why, PORT_DIED);
			carrier_release(last_down);
		} else {
			fails++;
			EXPECT(last_err == -ECONNREFUSED || last_err == -ENOENT);
		}
		EXPECT_EQ(nr_ups - up + nr_unreachables - failed, 1);
		node_status(pids[i]);
	}
	test_note("%lu connections, %lu failures", ups, fails);
	AWAIT(fds_open() == fds);
	AWAIT(maps_open() == maps);
	node_stop(1);
}

int main(void)
{
	port_tests_begin();
	port_case("both at once: one connection", simultaneous);
	port_case("a stopped node holds nobody up", stopped);
	port_case("killed in the handshake", killed_in_handshake);
	return port_tests_done();
}
