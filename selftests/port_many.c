// SPDX-License-Identifier: MIT OR GPL-2.0
/* Many peers at once, and many one after the other: nothing is mixed up, nothing is left. */
#include "port_helpers.h"

enum { SLOTS = 4 };

static _Atomic uint64_t counts[128];	/* by the peer's number */
static _Atomic bool stop_loops;

/* Each record says whose it is: the peer's number, as in its name, and how many it has sent before. */
static bool count(struct carrier *c, const struct record *head, const void *body)
{
	unsigned int n = (unsigned int)atoi(carrier_name(c) + 1);
	uint64_t number;

	memcpy(&number, body, sizeof(number));
	EXPECT_EQ(head->type, n);
	EXPECT_EQ(number, counts[n]);
	counts[n]++;
	return true;
}

static void *loop(void *arg)
{
	unsigned int slot = (unsigned int)(uintptr_t)arg;

	while (!stop_loops)
		loop_once(slot, WAIT_S * 1000);
	return NULL;
}

static pthread_t loops[SLOTS];

static void loops_start(void)
{
	stop_loops = false;
	for (uintptr_t i = 0; i < SLOTS; i++)
		pthread_create(&loops[i], NULL, loop, (void *)i);
}

static void loops_stop(void)
{
	stop_loops = true;
	for (unsigned int i = 0; i < SLOTS; i++) {
		hook_wake(i);
		pthread_join(loops[i], NULL);
	}
}

static unsigned long nr_each;

static void one(void *arg)
{
	unsigned int n = (unsigned int)(uintptr_t)arg;
	struct carrier *c;
	char name[8];

	snprintf(name, sizeof(name), "p%u", n);
	AWAIT(shared->stage >= 1);
	if (!EXPECT(!node_start(name, 1)))
		return;
	c = node_connect("hub");
	for (uint64_t i = 0; EXPECT(c) && i < nr_each; ) {
		if (send_record(c, n, &i, sizeof(i)))
			i++;
		else
			loop_once(0, 100);
	}
	/* Half of them go in order, half do not. */
	if (n % 2) {
		UNTIL(shared->stage >= 2);
		node_stop(1);
	} else {
		UNTIL(shared->stage >= 2);
		raise(SIGKILL);
	}
}

/* 64 peers of a node with four slots. */
static void crowd(void)
{
	unsigned int n = SANITIZED ? 16 : 64;
	pid_t pids[64];

	nr_each = test_rounds(1000);
	for (unsigned int i = 0; i < n; i++) {
		counts[i] = 0;
		pids[i] = node_fork(one, (void *)(uintptr_t)i);
	}
	on_record = count;
	if (!EXPECT(!node_start("hub", SLOTS)))
		return;
	loops_start();
	test_stage(1);
	AWAIT(nr_records == n * nr_each);
	EXPECT_EQ(nr_ups, n);
	EXPECT_EQ(nr_downs, 0);
	for (unsigned int i = 0; i < n; i++)
		EXPECT_EQ(counts[i], nr_each);
	test_stage(2);
	AWAIT(nr_downs == n);
	for (unsigned int i = 0; i < n; i++)
		EXPECT_EQ(node_status(pids[i]), i % 2 ? 0 : SIGKILL);
	loops_stop();
	node_stop(SLOTS);
}

/* --- one after the other --- */

static void visitor(void *arg)
{
	unsigned long rounds = (uintptr_t)arg;

	AWAIT(shared->stage >= 1);
	for (unsigned long i = 0; i < rounds; i++) {
		struct carrier *c;

		if (!EXPECT(!node_start("visitor", 1)))
			return;
		c = node_connect("host");
		if (!EXPECT(c))
			return;
		EXPECT(send_record(c, 0, &i, sizeof(i)));
		/* Every other time one carrier is over, and another one follows. */
		if (i % 2) {
			carrier_cut(c, PORT_CLOSED, NULL);
			UNTIL(nr_downs > i / 2);
			carrier_release(c);
			EXPECT(node_connect("host"));
		}
		node_stop(1);
	}
}


/* Has copies of all descriptors, of carriers that are over as well. */
static pid_t holder(void)
{
	pid_t pid = SANITIZED == 5 ? 0 : fork();

	if (pid || SANITIZED == 5)
		return pid;
	for (;;)
		pause();
}

static void come_and_go(void)
{
	unsigned long rounds = test_rounds(1000), ups = 0;
	pid_t held = 0;
	pid_t other = node_fork(visitor, (void *)(uintptr_t)rounds);
	unsigned int fds, maps;

	if (!EXPECT(!node_start("host", 1)))
		return;
	fds = fds_open();
	maps = maps_open();
	release_downs = true;
	test_stage(1);
	while (nr_downs < rounds + rounds / 2) {
		if (!UNTIL(nr_ups > ups || nr_downs == rounds + rounds / 2))
			break;
		ups = nr_ups;
		if (ups % 5)
			continue;
		if (held)
			kill(held, SIGKILL);
		held = holder();
	}
	if (held)
		kill(held, SIGKILL);
	EXPECT_EQ(nr_ups, nr_downs);
	EXPECT_EQ(nr_records, rounds);
	AWAIT(fds_open() == fds);
	AWAIT(maps_open() == maps);
	node_stop(1);
	EXPECT_EQ(node_status(other), 0);
}

/* --- an idle slot helps one that does not look --- */

static _Atomic unsigned int helped;

static bool by_whom(struct carrier *c, const struct record *head, const void *body)
{
	(void)c;
	(void)head;
	(void)body;
	helped++;
	return true;
}

static void sends_some(void *arg)
{
	struct carrier *c;

	(void)arg;
	AWAIT(shared->stage >= 1);
	if (!EXPECT(!node_start("sends", 1)))
		return;
	c = node_connect("lazy");
	for (uint64_t i = 0; EXPECT(c) && i < 100; i++)
		EXPECT(send_record(c, 0, &i, sizeof(i)));
	UNTIL(shared->stage >= 2);
	node_stop(1);
}

static void help(void)
{
	pid_t other = node_fork(sends_some, NULL);
	int64_t until = test_now_ms() + WAIT_S * 1000;

	on_record = by_whom;
	/* Carriers come to slots in turn: the first to 0, on which nobody looks. */
	if (!EXPECT(!node_start("lazy", 2)))
		return;
	test_stage(1);
	while (helped < 100 && test_now_ms() < until)
		port_poll(NULL, 1, true);
	EXPECT_EQ(helped, 100);
	/* What is not another's is not touched without `all`. */
	test_stage(2);
	AWAIT(port_pending(0));
	EXPECT(!port_pending(1));
	EXPECT(!port_poll(NULL, 1, false));
	EXPECT_EQ(nr_downs, 0);
	while (!nr_downs && test_now_ms() < until)
		port_poll(NULL, 1, true);
	EXPECT_EQ(nr_downs, 1);
	EXPECT_EQ(node_status(other), 0);
	node_stop(2);
}

int main(void)
{
	port_tests_begin();
	port_case("64 peers", crowd);
	port_case("1,000 one after the other", come_and_go);
	port_case("who is idle helps", help);
	return port_tests_done();
}
