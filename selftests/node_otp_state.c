// SPDX-License-Identifier: MIT OR GPL-2.0
/* State machines, event managers and agents of another node: what works, what says -EREMOTE, what is refused there. */
#include "nodes.h"
#include "otp/event.h"

#include <mote/agent.h>
#include <mote/event.h>
#include <mote/server.h>
#include <mote/statem.h>
#include <mote/sys.h>

enum { LOCKED, OPEN };
enum { COIN = 1, PUSH, COUNT, HERE };

struct here {
	mote_pid machine, events, agent;
};

static void turnstile_event(void *data, int state, const struct mote_statem_event *e)
{
	int *coins = data;

	if (e->type == MOTE_STATEM_CAST && e->m->type == COIN) {
		++*coins;
		mote_statem_next_state(OPEN);
	} else if (e->type == MOTE_STATEM_CALL && state == LOCKED) {
		mote_statem_postpone();
	} else if (e->type == MOTE_STATEM_CALL) {
		mote_reply(e->from, PUSH, coins, sizeof(*coins));
		mote_statem_next_state(LOCKED);
	}
}

static const struct mote_statem_ops turnstile = {
	.size = sizeof(turnstile), .data_size = sizeof(int), .handle_event = turnstile_event,
};

static int count_event(void *state, const struct mote_msg *m)
{
	*(int *)state += m->type == COUNT;
	return 0;
}

static int count_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	/* A type that says what it is not would be a pointer of another program's. */
	EXPECT(m->type < MOTE_MSG_SYSTEM);
	return mote_reply(from, COUNT, state, sizeof(int));
}

static const struct mote_event_ops counter = {
	.size = sizeof(counter), .state_size = sizeof(int), .handle_event = count_event, .handle_call = count_call,
};

/* On node b: starts one of each, and tells its boss. */
static void starter(const void *args, size_t size)
{
	struct here h;

	EXPECT_EQ(size, sizeof(mote_pid));
	EXPECT_EQ(mote_statem_start(&turnstile, NULL, NULL, &h.machine), 0);
	EXPECT_EQ(mote_event_start(NULL, &h.events), 0);
	for (unsigned int apart = 0; apart < 2; apart++)
		EXPECT_EQ(mote_event_add_handler(h.events, &(struct mote_event_handler){
			.id = apart ? "apart" : "inside", .ops = &counter, .flags = apart ? MOTE_EVENT_APART : 0 },
			PATIENCE), 0);
	EXPECT_EQ(mote_agent_start(sizeof(long), NULL, &(long){ 42 }, NULL, &h.agent), 0);
	mote_send(*(const mote_pid *)args, HERE, &h, sizeof(h));
}

static struct here start_on(struct peer *b)
{
	struct here h = { .machine = MOTE_NOBODY };
	struct mote_msg *m;

	peer_spawn(b, "starter", 0, NULL);
	m = mote_receive_type(HERE, PATIENCE);
	if (EXPECT(m && m->size == sizeof(h)))
		memcpy(&h, m->data, sizeof(h));
	mote_msg_free(m);
	return h;
}

static void set(void *state, const void *arg)
{
	*(long *)state = *(const long *)arg;
}

static void from_afar(void)
{
	struct mote_event_handler handler = { .id = "x", .ops = &counter };
	struct mote_msg *m = NULL;
	struct peer b;
	struct here h;
	mote_ref ref;
	size_t size = sizeof(long);
	long n = 0;

	peer_start(&b, "b");
	h = start_on(&b);
	/* the machine: a request waits there until it is to be answered */
	ref = mote_request(h.machine, PUSH, NULL, 0);
	EXPECT_EQ(mote_cast(h.machine, COIN, NULL, 0), 0);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(m && m->type == PUSH && *(int *)m->data == 1);
	mote_msg_free(m);
	m = NULL;
	EXPECT_EQ(mote_sys_get_status(h.machine, &m, PATIENCE), 0);
	EXPECT(m && strstr(m->data, "state 0"));
	mote_msg_free(m);
	EXPECT_EQ(mote_server_stop(h.machine, MOTE_REASON_NORMAL, PATIENCE), 0);
	EXPECT_EQ(mote_server_stop(h.machine, MOTE_REASON_NORMAL, PATIENCE), -ESRCH);

	/* events and questions travel, functions do not */
	EXPECT_EQ(mote_event_notify(h.events, COUNT, NULL, 0), 0);
	EXPECT_EQ(mote_event_sync_notify(h.events, COUNT, NULL, 0, PATIENCE), 0);
	for (int apart = 0; apart < 2; apart++) {
		EXPECT_EQ(mote_event_call(h.events, apart ? "apart" : "inside", COUNT, NULL, 0, &m, PATIENCE), 0);
		EXPECT(m && *(int *)m->data == 2);
		mote_msg_free(m);
		m = NULL;
	}
	EXPECT_EQ(mote_event_which_handlers(h.events, &m, PATIENCE), 0);
	EXPECT(m && m->size == 13 && !memcmp(m->data, "apart\0inside", 13));
	mote_msg_free(m);
	EXPECT_EQ(mote_event_delete_handler(h.events, "inside", NULL, 0, NULL, PATIENCE), 0);
	EXPECT_EQ(mote_event_add_handler(h.events, &handler, PATIENCE), -EREMOTE);
	EXPECT_EQ(mote_event_swap_handler(h.events, "apart", NULL, 0, &handler, PATIENCE), -EREMOTE);
	EXPECT_EQ(mote_event_call(h.events, "inside", COUNT, NULL, 0, NULL, PATIENCE), -ENOENT);

	EXPECT_EQ(mote_agent_update(h.agent, set, &n, sizeof(n), PATIENCE), -EREMOTE);
	EXPECT_EQ(mote_agent_cast(h.agent, set, &n, sizeof(n)), -EREMOTE);
	EXPECT_EQ(mote_sys_get_state(h.agent, &n, &size, PATIENCE), 0);
	EXPECT_EQ(n, 42);
	peer_stop(&b);
}

/* As mote_event_add_handler() and the like ask, and what they would never say. */
static int forge(mote_pid events, uint32_t what, const struct event_order *o, const char *ids)
{
	char bytes[64 + sizeof(*o)];
	struct mote_msg *m = NULL;
	int err;

	memcpy(bytes, ids, strlen(ids));
	memcpy(bytes + strlen(ids), o, sizeof(*o));
	err = mote_call(events, what, bytes, strlen(ids) + sizeof(*o), &m, PATIENCE);
	if (!err && m->type == EVENT_ERROR)
		err = *(int32_t *)m->data;
	mote_msg_free(m);
	return err;
}

static void forged(void)
{
	struct event_order add = { .ops = (void *)16, .id_size = 1 };
	struct event_order swap = { .ops = (void *)16, .id_size = 1, .old_size = 6 };
	struct event_order call = { .id_size = 6, .type = MOTE_MSG_DOWN }, large = { .id_size = 600, .old_size = 600 };
	struct { void *fn; uint32_t result_size, kind; } order = { (void *)16, 8, 0 };
	const uint32_t agent_order = MOTE_MSG_SYSTEM + 0x500;
	size_t size = sizeof(long);
	struct mote_msg *m = NULL;
	struct peer b;
	struct here h;
	long n = 0;

	peer_start(&b, "b");
	h = start_on(&b);
	EXPECT_EQ(forge(h.events, EVENT_ADD, &add, "x"), -EINVAL);
	EXPECT_EQ(forge(h.events, EVENT_SWAP, &swap, "xinside"), -EINVAL);
	EXPECT_EQ(forge(h.events, EVENT_CALL, &call, "inside"), -EINVAL);
	EXPECT_EQ(forge(h.events, EVENT_CALL, &large, ""), -EINVAL);
	EXPECT_EQ(forge(h.events, EVENT_TERMINATE, &(struct event_order){ .end = 99 }, ""), -EINVAL);
	EXPECT_EQ(mote_event_which_handlers(h.events, &m, PATIENCE), 0);
	EXPECT(m && m->size == 13 && !memcmp(m->data, "apart\0inside", 13));
	mote_msg_free(m);
	for (order.kind = 0; order.kind < 3; order.kind++) {
		EXPECT_EQ(mote_call(h.agent, agent_order, &order, sizeof(order), NULL, mote_in_ms(5)), -ETIMEDOUT);
		mote_send(h.agent, agent_order | MOTE_MSG_CAST, &order, sizeof(order));
	}
	EXPECT_EQ(mote_sys_get_state(h.agent, &n, &size, PATIENCE), 0);
	EXPECT_EQ(n, 42);
	peer_stop(&b);
}

/* Whatever is sent to types of the library's own, of any size: nothing of it is called, and nobody falls. */
static void hostile(void)
{
	uint64_t random = test_seed();
	char bytes[256];
	struct peer b;
	struct here h;
	size_t size = sizeof(long);
	long n = 0;

	peer_start(&b, "b");
	h = start_on(&b);
	for (unsigned long i = 0; i < test_rounds(3000); i++) {
		uint32_t low = test_random(&random) % 16;
		uint32_t room = (test_random(&random) % 3 + 3) << 8;
		uint32_t bit = test_random(&random) % 2 ? MOTE_MSG_CAST : 0;
		mote_pid to = i % 3 == 0 ? h.machine : i % 3 == 1 ? h.events : h.agent;

		for (size_t j = 0; j < sizeof(bytes); j++)
			bytes[j] = (char)(test_random(&random) % 4 ? 0 : test_random(&random));
		size = test_random(&random) % sizeof(bytes);
		if (test_random(&random) % 2) {
			mote_send(to, (MOTE_MSG_SYSTEM + room + low) | bit, bytes, size);
		} else {
			mote_ref ref = mote_request(to, MOTE_MSG_SYSTEM + room + low, bytes, size);

			EXPECT(ref.id);
			mote_demonitor(ref, MOTE_FLUSH);
		}
	}
	size = sizeof(n);
	EXPECT_EQ(mote_sys_get_state(h.agent, &n, &size, PATIENCE), 0);
	EXPECT_EQ(n, 42);
	EXPECT_EQ(mote_event_sync_notify(h.events, COUNT, NULL, 0, PATIENCE), 0);
	EXPECT_EQ(mote_cast(h.machine, COIN, NULL, 0), 0);
	EXPECT_EQ(mote_server_stop(h.machine, MOTE_REASON_NORMAL, PATIENCE), 0);
	peer_stop(&b);
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(starter), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("machines, managers and agents of another node", from_afar);
	nodes_case("what a hostile node may send them: forged orders", forged);
	nodes_case("what a hostile node may send them: noise", hostile);
	return nodes_done();
}
