/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Requests, replies and aliases between nodes: one answer or one DOWN, never both, never late. */
#include "nodes.h"

enum { ADD = 1, SLOW, NEVER, DIE, HAND_ON, COUNT, STOP, ASK, KEPT, SERVER };

struct sum {
	uint64_t a, b;
};

static void sum_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	uint64_t *calls = state;
	const struct sum *s = m->data;
	uint64_t sum = m->size == sizeof(*s) ? s->a + s->b : 0;

	++*calls;
	switch (m->type) {
	case ADD:
		mote_reply(from, ADD, &sum, sizeof(sum));
		break;
	case SLOW:
		mote_sleep(mote_in_us((int64_t)sum));
		mote_reply(from, ADD, &sum, sizeof(sum));
		break;
	case COUNT:
		mote_reply(from, COUNT, calls, sizeof(*calls));
		break;
	case DIE:
		mote_exit(mote_reason_error(EIO, NULL));
	case HAND_ON:				/* the answer comes from another node */
		mote_send(*(mote_pid *)m->data, HAND_ON, &from, sizeof(from));
		break;
	}
}

static const struct mote_handler_ops sum_server = {
	.size = sizeof(struct mote_handler_ops), .state_size = sizeof(uint64_t), .call = sum_call,
};

/* Starts the server on its node, and tells its boss its pid. */
static void starter(const void *args, size_t size)
{
	mote_pid p = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .handler = &sum_server });

	if (EXPECT(size == sizeof(mote_pid)))
		mote_send(*(const mote_pid *)args, SERVER, &p, sizeof(p));
}

static mote_pid server_on(struct peer *b)
{
	struct mote_msg *m;
	mote_pid p = MOTE_NOBODY;

	peer_spawn(b, "starter", 0, NULL);
	m = mote_receive_type(SERVER, PATIENCE);
	if (EXPECT(m))
		memcpy(&p, m->data, sizeof(p));
	mote_msg_free(m);
	return p;
}

static bool add(mote_pid p, uint32_t how, uint64_t a, uint64_t b)
{
	struct sum s = { a, b };
	struct mote_msg *reply = NULL;
	bool ok = mote_call(p, how, &s, sizeof(s), &reply, PATIENCE) == 0 && reply->type == ADD &&
		  reply->size == sizeof(uint64_t) && *(uint64_t *)reply->data == a + b;

	mote_msg_free(reply);
	return ok;
}

static void calls(void)
{
	struct peer b;
	mote_pid p;

	peer_start(&b, "b");
	p = server_on(&b);
	for (unsigned long i = 0; i < test_rounds(5000); i++) {
		if (!EXPECT(add(p, ADD, i, 2 * i)))
			return;
	}
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
	peer_stop(&b);
}

struct asker {
	mote_pid server, boss;
	uint64_t n;
};

static void asker(const void *args, size_t size)
{
	const struct asker *a = args;

	if (!EXPECT(size == sizeof(*a)))
		return;
	for (uint64_t i = 0; i < a->n; i++)
		EXPECT(add(a->server, ADD, i, mote_self().serial));
	mote_send(a->boss, KEPT, NULL, 0);
}

/* Calls both ways at once, many askers each. */
static void crowds_call(void)
{
	struct asker a = { .boss = mote_self(), .n = test_rounds(300) };
	struct peer b;

	peer_start(&b, "b");
	a.server = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .handler = &sum_server });
	for (int i = 0; i < 20; i++)
		peer_spawn_args(&b, "asker", &a, sizeof(a), 0, NULL);
	a.server = server_on(&b);
	for (int i = 0; i < 20; i++)
		EXPECT(mote_pid_valid(mote_spawn_on(mote_node_self(), &(struct mote_spawn_on_opts){
			.size = sizeof(struct mote_spawn_on_opts), .entry = "asker", .args = &a,
			.args_size = sizeof(a) }, PATIENCE)));
	for (int i = 0; i < 40; i++)
		EXPECT(got_type(KEPT));
	peer_stop(&b);
}

static void many_requests(void)
{
	unsigned long n = test_crowd(1000);
	mote_ref *refs = calloc(n, sizeof(*refs));
	struct peer b;
	mote_pid p;

	peer_start(&b, "b");
	p = server_on(&b);
	for (uint64_t i = 0; i < n; i++) {
		struct sum s = { i, 1 };

		refs[i] = mote_request(p, ADD, &s, sizeof(s));
		EXPECT(refs[i].id);
	}
	for (uint64_t i = n; i-- > 0;) {
		struct mote_msg *m = mote_receive_ref(refs[i], PATIENCE);

		if (!EXPECT(m && m->type == ADD && *(uint64_t *)m->data == i + 1))
			return;
		mote_msg_free(m);
	}
	EXPECT(mailbox_is_empty());
	free(refs);
	peer_stop(&b);
}

static void too_late(void)
{
	unsigned long n = test_rounds(300), late = 0;
	uint64_t seed = test_seed();
	struct peer b;
	mote_pid p;

	peer_start(&b, "b");
	p = server_on(&b);
	EXPECT_EQ(mote_call(p, NEVER, NULL, 0, NULL, mote_in_ms(5)), -ETIMEDOUT);
	for (unsigned long i = 0; i < n; i++) {
		struct sum s = { test_random(&seed) % 200, 0 };
		struct mote_msg *reply = NULL;
		int err = mote_call(p, SLOW, &s, sizeof(s), &reply, mote_in_us(test_random(&seed) % 300));

		if (!EXPECT(err ? err == -ETIMEDOUT && !reply : reply && *(uint64_t *)reply->data == s.a))
			return;
		late += err != 0;
		mote_msg_free(reply);
	}
	EXPECT(add(p, ADD, 1, 2));		/* all late answers have come by now, and vanished */
	EXPECT(mailbox_is_empty());
	test_note("%lu of %lu came too late", late, n);
	peer_stop(&b);
}

static void death_of_the_asked(void)
{
	struct peer b;
	mote_ref ref;
	mote_pid p;

	peer_start(&b, "b");
	p = server_on(&b);
	EXPECT_EQ(mote_call(p, DIE, NULL, 0, NULL, PATIENCE), -EPIPE);
	EXPECT_EQ(mote_call(p, ADD, NULL, 0, NULL, PATIENCE), -ESRCH);
	p = server_on(&b);
	ref = mote_request(p, NEVER, NULL, 0);
	EXPECT(add(p, ADD, 1, 1));
	mote_exit_pid(p, MOTE_REASON_KILL);
	EXPECT(got_down(ref, p, MOTE_KILLED));
	/* a request that nobody will ever look at */
	p = peer_spawn(&b, "nothing", 0, NULL);
	ref = mote_request(p, ADD, NULL, 0);
	EXPECT(ref.id);
	EXPECT(mote_msg_down(mote_receive_ref(ref, PATIENCE)));
	/* given up */
	p = server_on(&b);
	ref = mote_request(p, NEVER, NULL, 0);
	EXPECT_EQ(mote_demonitor(ref, MOTE_FLUSH), 1);
	mote_exit_pid(p, MOTE_REASON_KILL);
	p = server_on(&b);
	EXPECT(add(p, ADD, 1, 1));
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

/* Answers for another: from a third node. */
static void stand_in(const void *args, size_t size)
{
	(void)args;
	(void)size;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		uint64_t sum = 42;

		if (EXPECT(m->type == HAND_ON && m->size == sizeof(struct mote_from)))
			EXPECT_EQ(mote_reply(*(struct mote_from *)m->data, ADD, &sum, sizeof(sum)), 0);
		mote_msg_free(m);
	}
}

static void answered_by_a_third(void)
{
	struct mote_msg *reply;
	mote_pid server, helper;
	struct peer b, c;

	peer_start(&b, "b");
	peer_start(&c, "c");
	server = server_on(&b);
	helper = peer_spawn(&c, "stand_in", 0, NULL);
	for (int i = 0; i < 100; i++) {
		if (!EXPECT(mote_call(server, HAND_ON, &helper, sizeof(helper), &reply, PATIENCE) == 0))
			return;
		EXPECT(reply->type == ADD && *(uint64_t *)reply->data == 42 && mote_pid_equal(reply->from, helper));
		mote_msg_free(reply);
	}
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
	peer_stop(&c);
}

/* The asker's node dies while the server is about to answer. */
static void hurried(const void *args, size_t size)
{
	const struct asker *a = args;

	if (!EXPECT(size == sizeof(*a)))
		return;
	mote_send(a->boss, KEPT, NULL, 0);
	mote_call(a->server, NEVER, NULL, 0, NULL, PATIENCE);
}

static void death_of_the_asker(void)
{
	struct asker a = { .boss = mote_self() };
	struct mote_from from;
	struct mote_msg *m;
	struct peer b;

	a.server = mote_self();
	peer_start(&b, "b");
	peer_spawn_args(&b, "hurried", &a, sizeof(a), 0, NULL);
	EXPECT(got_type(KEPT));
	m = mote_receive_type(NEVER, PATIENCE);
	from = mote_msg_from(m);
	EXPECT(from.ref.id && mote_pid_node(from.pid).id == b.node.id);
	peer_kill(&b);
	EXPECT_EQ(mote_reply(from, ADD, NULL, 0), 0);
	mote_msg_free(m);
	EXPECT(mailbox_is_empty());
}

/* args: an alias; sends to it numbers, until it is told to stop. */
static void to_alias(const void *args, size_t size)
{
	uint64_t n = 0;
	mote_ref alias;

	if (!EXPECT(size == sizeof(alias)))
		return;
	memcpy(&alias, args, sizeof(alias));
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		if (m->type == PING) {
			mote_send(m->from, PING, NULL, 0);
		} else {
			EXPECT_EQ(mote_send_alias(alias, ASK, &n, sizeof(n)), 0);
			n++;
		}
		mote_msg_free(m);
	}
}

static void aliases(void)
{
	mote_ref alias = mote_alias(0), once = mote_alias(MOTE_ALIAS_REPLY);
	struct mote_msg *m;
	struct peer b;
	mote_pid p, q;

	peer_start(&b, "b");
	p = peer_spawn_args(&b, "to_alias", &alias, sizeof(alias), 0, NULL);
	q = peer_spawn_args(&b, "to_alias", &once, sizeof(once), 0, NULL);
	for (uint64_t i = 0; i < 10; i++) {
		mote_send(p, STOP, NULL, 0);
		m = mote_receive_ref(alias, PATIENCE);
		EXPECT(m && m->type == ASK && *(uint64_t *)m->data == i && mote_pid_equal(m->from, p));
		EXPECT(m && mote_ref_equal(mote_msg_ref(m), alias));
		mote_msg_free(m);
	}
	EXPECT_EQ(mote_unalias(alias), 1);
	mote_send(p, STOP, NULL, 0);
	EXPECT(ping(p));
	EXPECT(mailbox_is_empty());
	mote_send(q, STOP, NULL, 0);
	mote_send(q, STOP, NULL, 0);
	EXPECT(ping(q));
	m = mote_receive_ref(once, PATIENCE);
	EXPECT(m && *(uint64_t *)m->data == 0);
	mote_msg_free(m);
	EXPECT_EQ(mote_unalias(once), 0);
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

/* Calls under way when the node dies: each ends, with an error. */
static void late_asker(void *arg)
{
	const struct asker *a = arg;
	int err = mote_call(a->server, NEVER, NULL, 0, NULL, PATIENCE);

	EXPECT_EQ(err, -ECONNRESET);
	mote_send(a->boss, STOP, NULL, 0);
}

static void calls_into_death(void)
{
	struct asker a = { .boss = mote_self() };
	struct peer b;

	peer_start(&b, "b");
	a.server = server_on(&b);
	for (int i = 0; i < 100; i++)
		mote_spawn(late_asker, &a);
	EXPECT(add(a.server, ADD, 3, 4));
	peer_kill(&b);
	for (int i = 0; i < 100; i++)
		EXPECT(got_type(STOP));
	EXPECT(mailbox_is_empty());
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = {
		ENTRY(starter), ENTRY(asker), ENTRY(stand_in), ENTRY(hurried), ENTRY(to_alias), { 0 }
	};

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	EXPECT_EQ(mote_entry_register("asker", asker), 0);
	nodes_case("calls of a server there", calls);
	nodes_case("crowds call both ways", crowds_call);
	nodes_case("a thousand requests at once, answers taken in any order", many_requests);
	nodes_case("a deadline: no late reply ever", too_late);
	nodes_case("the death of who was asked", death_of_the_asked);
	nodes_case("the answer of a third node", answered_by_a_third);
	nodes_case("the death of the asker's node", death_of_the_asker);
	nodes_case("aliases", aliases);
	nodes_case("calls under way when the node dies", calls_into_death);
	return nodes_done();
}
