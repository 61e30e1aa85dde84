// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The end of a node is heard of once, as what it was, after all that the node had published: however it ends.
 */
#include "port_helpers.h"


#define RECORDS	2000

static uint64_t expected;

static bool in_order(struct carrier *c, const struct record *head, const void *body)
{
	(void)c;
	if (EXPECT(head->size == sizeof(uint64_t)) && EXPECT(!memcmp(body, &expected, sizeof(expected))))
		expected++;
	/* None after the end. */
	EXPECT(!nr_downs);
	return true;
}

static void publish(struct carrier *c)
{
	for (uint64_t i = 0; i < RECORDS; i++)
		EXPECT(send_record(c, 1, &i, sizeof(i)));
}

enum how { KILLED, EXITED, EXECED, FORKED, STOPPED, CUT, CLOSED };

/* The one that ends. */
static void ends(void *arg)
{
	enum how how = (enum how)(uintptr_t)arg;
	struct carrier *c;

	AWAIT(shared->stage >= 1);
	if (!EXPECT(!node_start("ends", 1)))
		return;
	c = node_connect("stays");
	if (!EXPECT(c))
		return;
	if (how == FORKED && !fork()) {
		/* A child that holds all descriptors, until it is killed below. */
		shared->id[1] = (uint32_t)getpid();
		for (;;)
			pause();
	}
	publish(c);
	test_stage(2);
	switch (how) {
	case KILLED:
	case FORKED:
		raise(SIGKILL);
		break;
	case EXITED:
		_exit(0);
	case EXECED:
		execl("/bin/sleep", "sleep", "60", (char *)NULL);
		break;
	case STOPPED:
		node_stop(1);
		break;
	case CUT:
		carrier_cut(c, PORT_CUT, "of no use");
		UNTIL(nr_downs == 1);
		EXPECT_EQ(last_why, PORT_CUT);
		EXPECT(!strcmp(carrier_complaint(c), "of no use"));
		carrier_release(c);
		node_stop(1);
		break;
	case CLOSED:
		carrier_cut(c, PORT_CLOSED, "not wanted any more");
		UNTIL(nr_downs == 1);
		EXPECT_EQ(last_why, PORT_CLOSED);
		carrier_release(c);
		node_stop(1);
		break;
	}
}

static void ends_as(enum how how, enum port_end why)
{
	pid_t other;
	int status;

	expected = 0;
	other = node_fork(ends, (void *)(uintptr_t)how);
	on_record = in_order;
	if (!EXPECT(!node_start("stays", 1)))
		return;
	test_stage(1);
	/* It ends before a single record of it was read. */
	AWAIT(shared->stage >= 2);
	if (how == KILLED || how == EXITED || how == FORKED)
		EXPECT(waitpid(other, &status, 0) == other);
	UNTIL(nr_downs == 1);
	EXPECT_EQ(nr_ups, 1);
	EXPECT(last_down == last_up);
	EXPECT_EQ(last_why, why);
	EXPECT_EQ(nr_records, how == CUT ? nr_records : RECORDS);
	EXPECT(!strcmp(carrier_complaint(last_down),
		       how == CUT ? "of no use" : how == CLOSED ? "not wanted any more" : ""));
	/* Whoever does not know yet may write; it reaches nobody. */
	send_record(last_down, 1, "x", 1);
	carrier_release(last_down);
	for (int i = 0; i < 5; i++)
		loop_once(0, 1);
	EXPECT_EQ(nr_downs, 1);
	node_stop(1);
	if (how == FORKED)
		kill((pid_t)shared->id[1], SIGKILL);
	if (how == EXECED)
		kill(other, SIGKILL);
	if (how == EXECED || how >= STOPPED)
		EXPECT(waitpid(other, &status, 0) == other && (how == EXECED || !status));
}

static void killed(void)
{
	ends_as(KILLED, PORT_DIED);
}

static void exited(void)
{
	ends_as(EXITED, PORT_DIED);
}

static void execed(void)
{
	ends_as(EXECED, PORT_DIED);
}

static void forked(void)
{
	ends_as(FORKED, PORT_DIED);
}

static void stopped(void)
{
	ends_as(STOPPED, PORT_CLOSED);
}

static void cut(void)
{
	ends_as(CUT, PORT_CUT);
}

static void closed(void)
{
	ends_as(CLOSED, PORT_CLOSED);
}

/* Dies in the middle of streaming: what came before is whole, and in order. */
static void streams(void *arg)
{
	struct carrier *c;

	AWAIT(shared->stage >= (uintptr_t)arg);
	if (!EXPECT(!node_start("streams", 1)))
		return;
	c = node_connect("stays");
	for (uint64_t i = 0; EXPECT(c); ) {
		if (send_record(c, 1, &i, sizeof(i)))
			i++;
		else
			loop_once(0, 100);
	}
}

static void in_a_stream(void)
{
	unsigned long rounds = test_rounds(40);
	uint64_t seed = test_seed();
	pid_t others[400];

	if (rounds > 400)
		rounds = 400;
	for (unsigned long i = 0; i < rounds; i++)
		others[i] = node_fork(streams, (void *)(uintptr_t)(i + 1));
	on_record = in_order;
	if (!EXPECT(!node_start("stays", 1)))
		return;
	for (unsigned long i = 0; i < rounds; i++) {
		uint64_t enough = 1 + test_random(&seed) % 20000;

		expected = 0;
		nr_downs = 0;
		nr_records = 0;
		test_stage(i + 1);
		UNTIL(nr_records >= enough);
		kill(others[i], SIGKILL);
		node_status(others[i]);
		if (!UNTIL(nr_downs == 1))
			test_bail_out();
		EXPECT_EQ(last_why, PORT_DIED);
		EXPECT_EQ(expected, nr_records);
		carrier_release(last_down);
	}
	node_stop(1);
}

/* A record that core refuses comes again, nothing before it, and the end waits for it. */
static unsigned int refusals;

static bool refuse_some(struct carrier *c, const struct record *head, const void *body)
{
	if (expected % 100 == 50 && refusals < 3 + expected / 100 * 3) {
		refusals++;
		return false;
	}
	return in_order(c, head, body);
}

static void refused(void)
{
	pid_t other = node_fork(ends, (void *)(uintptr_t)KILLED);

	refusals = 0;
	expected = 0;
	on_record = refuse_some;
	if (!EXPECT(!node_start("stays", 1)))
		return;
	test_stage(1);
	UNTIL(nr_downs == 1);
	EXPECT_EQ(nr_records, RECORDS);
	EXPECT_EQ(refusals, RECORDS / 100 * 3);
	EXPECT(!port_pending(0));
	node_stop(1);
	node_status(other);
}

/* Whoever is cut while a record of it is looked at is not heard of again, whatever lies behind that. */
static bool cuts_at_ten(struct carrier *c, const struct record *head, const void *body)
{
	in_order(c, head, body);
	if (expected == 10)
		carrier_cut(c, PORT_CUT, "enough");
	return true;
}

static void cut_by_record(void)
{
	pid_t other = node_fork(streams, (void *)1);

	expected = 0;
	on_record = cuts_at_ten;
	if (!EXPECT(!node_start("stays", 1)))
		return;
	test_stage(1);
	UNTIL(nr_downs == 1);
	EXPECT_EQ(last_why, PORT_CUT);
	EXPECT_EQ(nr_records, 10);
	node_stop(1);
	kill(other, SIGKILL);
	node_status(other);
}

static void lingers(void *arg)
{
	(void)arg;
	AWAIT(shared->stage >= 1);
	if (!EXPECT(!node_start("lingers", 1)))
		return;
	EXPECT(node_connect("stays"));
	UNTIL(shared->stage >= 2);
	node_stop(1);
}

/* In a child, forked from a node, nothing is left of it; and its own end is not the node's. */
static void child_of_node(void)
{
	unsigned int before = fds_open(), started, left;
	pid_t other, child;
	int status;

	if (SANITIZED == 5) {
		selftest_skip("TSan allows no threads in a child that is forked from several");
		return;
	}
	other = node_fork(lingers, NULL);
	if (!EXPECT(!node_start("stays", 1)))
		return;
	started = fds_open();
	test_stage(1);
	UNTIL(nr_ups == 1);
	/* The port's thread is done with it: it keeps these. */
	AWAIT(fds_open() == started + 4);
	fflush(stdout);
	child = fork();
	if (!child) {
		port_forget();
		EXPECT_EQ(port_connect(0, "ends"), -ENETDOWN);
		EXPECT_EQ(port_node, 0);
		EXPECT(!port_pending(0));
		EXPECT(!strcmp(port_name(), "none"));
		close(loop_wake[0]);
		close(loop_epoll[0]);
		left = fds_open();
		EXPECT_EQ(left, before);
		EXPECT_EQ(maps_open(), 0);
		/* The name is not its own. */
		EXPECT_EQ(node_start("stays", 1), -EEXIST);
		EXPECT_EQ(node_start("child", 1), 0);
		EXPECT(port_node);
		EXPECT(node_connect("stays"));
		node_stop(1);
		_exit(atomic_load(&selftest_failed) ? 1 : 0);
	}
	UNTIL(waitpid(child, &status, WNOHANG) == child);
	EXPECT_EQ(status, 0);
	/* The child's node has come and gone. */
	UNTIL(nr_downs == 1);
	EXPECT_EQ(nr_ups, 2);
	test_stage(2);
	UNTIL(nr_downs == 2);
	node_stop(1);
	EXPECT_EQ(node_status(other), 0);
}

int main(void)
{
	port_tests_begin();
	port_case("SIGKILL", killed);
	port_case("exit", exited);
	port_case("exec", execed);
	port_case("SIGKILL, while a forked child has all descriptors", forked);
	port_case("stopped in order", stopped);
	port_case("cut by the other side", cut);
	port_case("closed by the other side", closed);
	port_case("SIGKILL while it streams", in_a_stream);
	port_case("records refused for a while, then SIGKILL", refused);
	port_case("cut in the middle of a batch", cut_by_record);
	port_case("a forked child has nothing of the node", child_of_node);
	return port_tests_done();
}
