// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * No wake is lost between two OS processes: each sleeps without a time limit whenever it finds nothing, in all the
 * ways that two can get in each other's way. MOTE_TEST_ROUNDS=10: a million rounds.
 */
#include "port_helpers.h"

static unsigned long nr_rounds;
static uint64_t seed;

/* Sleeps until something wakes it. A minute is for ever. */
static bool doze(void)
{
	return EXPECT(loop_once(0, WAIT_S * 1000));
}

/* Moves the racers against each other. */
static void dawdle(void)
{
	uint32_t r = test_random(&seed);

	if (r % 4 == 0)
		test_spin((r >> 2) % 3000);
	else if (r % 64 == 1)
		sched_yield();
}

static bool begin(unsigned int me, bool caller)
{
	seed = test_seed() + me;
	if (!EXPECT(!node_start(me ? "w1" : "w0", 1)))
		return false;
	shared->id[me] = port_node;
	AWAIT(shared->id[1 - me]);
	if (caller)
		return EXPECT(node_connect("w0"));
	return UNTIL(nr_ups == 1);
}

/* So that nobody hears of an end before all is done. */
static void end(unsigned int me)
{
	shared->number[me] = 1;
	UNTIL(shared->number[1 - me]);
	node_stop(1);
}

/* --- one record there, one back --- */

static void pings(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;

	if (!begin(me, me))
		return;
	for (unsigned long i = 1; i <= nr_rounds; i++) {
		if (me)
			EXPECT(send_record(last_up, 1, &i, sizeof(i)));
		while (nr_records < i) {
			dawdle();
			if (!doze())
				return;
		}
		dawdle();
		if (!me)
			EXPECT(send_record(last_up, 1, &i, sizeof(i)));
	}
	end(me);
}

/* --- a stream in both directions, at uneven pace, with full rings --- */

static char body[8000];
static _Atomic bool has_room;

static bool slowly(struct carrier *c, const struct record *head, const void *data)
{
	(void)c;
	(void)head;
	(void)data;
	if (test_random(&seed) % 256 == 0)
		test_spin(test_random(&seed) % 30000);
	/* Now and then core has had enough. */
	return test_random(&seed) % 4096;
}

static void streams(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg, rooms = 0;
	unsigned long sent = 0;

	if (!begin(me, me))
		return;
	on_record = slowly;
	while (sent < nr_rounds || nr_records < nr_rounds) {
		unsigned int burst = test_random(&seed) % 64;

		if (rooms == nr_rooms && sent && !has_room) {
			if (!doze())
				return;
			continue;
		}
		rooms = nr_rooms;
		has_room = true;
		while (burst-- && sent < nr_rounds && has_room) {
			has_room = send_record(last_up, 1, body, test_random(&seed) % (sent % 1000 < 500 ? 8000 : 80));
			sent += has_room;
		}
		if (sent < nr_rounds && has_room)
			port_poll(NULL, 0, false);
		else if (nr_records < nr_rounds || sent < nr_rounds) {
			if (!doze())
				return;
		}
	}
	EXPECT_EQ(nr_records, nr_rounds);
	test_note("room was announced %u times", nr_rooms);
	end(me);
}

/* --- four of one node ring one of another, at once --- */

static bool answer(struct carrier *c, const struct record *head, const void *data)
{
	return send_record(c, head->type, data, head->size);
}

static void bell_of_many(void *arg)
{
	seed = test_seed();
	(void)arg;
	on_record = answer;
	if (!EXPECT(!node_start("hub", 1)))
		return;
	test_stage(1);
	while (nr_downs < 4) {
		dawdle();
		if (!doze())
			return;
	}
	node_stop(1);
}

static void one_of_many(void *arg)
{
	struct carrier *c;
	char name[8];

	seed = test_seed() + 2 + (uintptr_t)arg;
	snprintf(name, sizeof(name), "m%u", (unsigned int)(uintptr_t)arg);
	AWAIT(shared->stage >= 1);
	if (!EXPECT(!node_start(name, 1)))
		return;
	c = node_connect("hub");
	for (unsigned long i = 1; EXPECT(c) && i <= nr_rounds; i++) {
		EXPECT(send_record(c, 1, &i, sizeof(i)));
		while (nr_records < i) {
			dawdle();
			if (!doze())
				return;
		}
	}
	node_stop(1);
}

static void two(void (*fn)(void *arg))
{
	pid_t a = node_fork(fn, (void *)0), b = node_fork(fn, (void *)1);

	EXPECT_EQ(node_status(b), 0);
	EXPECT_EQ(node_status(a), 0);
}

static void ping_pong(void)
{
	nr_rounds = test_rounds(100000);
	two(pings);
}

static void full_rings(void)
{
	nr_rounds = test_rounds(100000);
	two(streams);
}

static void many(void)
{
	pid_t hub, pids[4];

	nr_rounds = test_rounds(10000);
	hub = node_fork(bell_of_many, NULL);
	for (unsigned int i = 0; i < 4; i++)
		pids[i] = node_fork(one_of_many, (void *)(uintptr_t)i);
	for (unsigned int i = 0; i < 4; i++)
		EXPECT_EQ(node_status(pids[i]), 0);
	EXPECT_EQ(node_status(hub), 0);
}

int main(void)
{
	port_tests_begin();
	port_case("ping and pong", ping_pong);
	port_case("streams, and room", full_rings);
	port_case("four ring one", many);
	return port_tests_done();
}
