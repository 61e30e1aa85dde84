// SPDX-License-Identifier: MIT OR GPL-2.0
/* Nodes find each other by name and by id, talk, and hear of the end. No runtime: lib/port alone. */
#include "port_helpers.h"

static bool echo(struct carrier *c, const struct record *head, const void *body)
{
	return send_record(c, head->type + 1, body, head->size);
}

static void answerer(void *arg)
{
	on_record = echo;
	if (!EXPECT(!node_start(arg, 1)))
		return;
	shared->id[0] = port_node;
	test_stage(1);
	UNTIL(nr_downs == 1);
	EXPECT_EQ(last_why, PORT_CLOSED);
	node_stop(1);
}

static uint64_t body_seen[4];

static bool keep(struct carrier *c, const struct record *head, const void *body)
{
	(void)c;
	EXPECT_EQ(head->type, 8);
	EXPECT_EQ(head->size, sizeof(body_seen));
	memcpy(body_seen, body, sizeof(body_seen));
	return true;
}

static void talk(struct carrier *c)
{
	uint64_t body[4] = { 1, 2, 3, 4 };

	on_record = keep;
	EXPECT(send_record(c, 7, body, sizeof(body)));
	UNTIL(nr_records == 1);
	EXPECT(!memcmp(body, body_seen, sizeof(body)));
}

static void asker_by_name(void *arg)
{
	struct carrier *c;

	if (!EXPECT(!node_start("asker", 1)))
		return;
	EXPECT(port_node > 0);
	c = node_connect(arg);
	if (!EXPECT(c))
		return;
	EXPECT_EQ(carrier_node(c), shared->id[0]);
	EXPECT(!strcmp(carrier_name(c), arg));
	EXPECT(carrier_record_max(c) >= 4096);
	talk(c);
	/* It stands already: that is said, with no other hook up. */
	EXPECT_EQ(port_connect(shared->id[0], NULL), 0);
	UNTIL(nr_unreachables == 1);
	EXPECT_EQ(last_err, -EISCONN);
	EXPECT_EQ(nr_ups, 1);
	node_stop(1);
}

static void asker_by_id(void *arg)
{
	(void)arg;
	if (!EXPECT(!node_start("asker", 1)))
		return;
	EXPECT_EQ(port_connect(shared->id[0], NULL), 0);
	UNTIL(nr_ups == 1);
	talk(last_up);
	node_stop(1);
}

static void pair(void (*asker)(void *arg))
{
	pid_t a = node_fork(answerer, "answerer"), b;

	AWAIT(shared->stage >= 1);
	b = node_fork(asker, "answerer");
	EXPECT_EQ(node_status(b), 0);
	EXPECT_EQ(node_status(a), 0);
}

static void by_name(void)
{
	pair(asker_by_name);
}

static void by_id(void)
{
	pair(asker_by_id);
}

int main(void)
{
	port_tests_begin();
	port_case("by name; there and back", by_name);
	port_case("by id", by_id);
	return port_tests_done();
}
