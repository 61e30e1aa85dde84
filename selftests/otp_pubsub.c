// SPDX-License-Identifier: MIT OR GPL-2.0
/* Messages to all who subscribe to a topic, on this node and on others. */
#include "nodes.h"

#include <mote/pg.h>
#include <mote/pubsub.h>

#define NEWS 5

static struct mote_pubsub *start(const char *name)
{
	mote_pid pid;

	EXPECT_EQ(mote_pubsub_start_link(name, &pid), 0);
	EXPECT(mote_pid_equal(mote_whereis(name), pid));
	return mote_pubsub_named(name);
}

/* What comes from others may come before or after. */
static bool got_news(const char *text)
{
	struct mote_msg *m = mote_receive_type(NEWS, PATIENCE);
	bool ok = m && m->type == NEWS && m->size == strlen(text) && !memcmp(m->data, text, m->size);

	if (!ok)
		test_describe(m);
	mote_msg_free(m);
	return ok;
}

/* Subscribes, and sends what it hears to its boss, as another type. */
enum { SUBSCRIBED = 6, HEARD };

struct subscription {
	mote_pid boss;
	char name[16], topic[16];
};

static void hear(const struct subscription *sub)
{
	EXPECT_EQ(mote_pubsub_subscribe(mote_pubsub_named(sub->name), sub->topic), 0);
	mote_send(sub->boss, SUBSCRIBED, NULL, 0);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		mote_send(sub->boss, HEARD, m->data, m->size);
		mote_msg_free(m);
	}
}

static void subscriber(void *arg)
{
	struct subscription sub = *(struct subscription *)arg;

	hear(&sub);
}

static bool is_heard(const struct mote_msg *m, void *who)
{
	return m->type == HEARD && mote_pid_equal(m->from, *(mote_pid *)who);
}

static bool heard(mote_pid who, const char *text)
{
	struct mote_msg *m = mote_receive_match(is_heard, &who, PATIENCE);
	bool ok = m && m->size == strlen(text) && !memcmp(m->data, text, m->size);

	if (!ok)
		test_describe(m);
	mote_msg_free(m);
	return ok;
}

static mote_pid subscribed(const char *topic)
{
	struct subscription sub = { .boss = mote_self(), .name = "news" };
	mote_pid pid;

	snprintf(sub.topic, sizeof(sub.topic), "%s", topic);
	pid = mote_spawn(subscriber, &sub);
	EXPECT(got_type(SUBSCRIBED));
	return pid;
}

static void topics(void)
{
	struct mote_pubsub *p = mote_pubsub_named("news");
	char long_name[300];
	mote_pid a, b;

	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[241] = 0;
	EXPECT(!mote_pubsub_named(long_name) && mote_errno() == -EINVAL);
	EXPECT_EQ(mote_pubsub_start_link(long_name, NULL), -EINVAL);
	EXPECT_EQ(mote_pubsub_subscribe(p, "a"), -ESRCH);
	EXPECT_EQ(mote_pubsub_broadcast(p, "a", NEWS, NULL, 0), -ESRCH);
	EXPECT(start("news") == p);
	EXPECT_EQ(mote_pubsub_start_link("news", &a), -EEXIST);
	EXPECT(mote_pid_equal(a, mote_whereis("news")));
	EXPECT_EQ(mote_pubsub_broadcast(p, "a", NEWS, "nobody", 6), 0);
	a = subscribed("a");
	b = subscribed("b");
	EXPECT_EQ(mote_pubsub_subscribe(p, "a"), 0);
	EXPECT_EQ(mote_pubsub_subscribe(p, ""), 0);
	EXPECT_EQ(mote_pubsub_broadcast(p, "b", NEWS, "to b", 4), 0);
	EXPECT(heard(b, "to b"));
	EXPECT_EQ(mote_pubsub_broadcast(p, "a", NEWS, "to a", 4), 0);
	EXPECT(got_news("to a"));		/* the caller's own, too */
	EXPECT(heard(a, "to a"));
	EXPECT_EQ(mote_pubsub_broadcast_from(p, mote_self(), "a", NEWS, "from me", 7), 0);
	EXPECT(heard(a, "from me"));
	EXPECT_EQ(mote_pubsub_local(p, "a", NEWS, "here", 4), 0);
	EXPECT(got_news("here") && heard(a, "here"));
	EXPECT_EQ(mote_pubsub_local_from(p, a, "a", NEWS, "not a", 5), 0);
	EXPECT(got_news("not a"));
	EXPECT_EQ(mote_pubsub_on(p, mote_node_self(), "", NEWS, "on", 2), 0);
	EXPECT(got_news("on"));
	EXPECT_EQ(mote_pubsub_on(p, (mote_node){ 77777 }, "", NEWS, "on", 2), -ENETUNREACH);
	/* As often as subscribed. */
	EXPECT_EQ(mote_pubsub_subscribe(p, "a"), 0);
	EXPECT_EQ(mote_pubsub_broadcast_from(p, a, "a", NEWS, "twice", 5), 0);
	EXPECT(got_news("twice") && got_news("twice"));
	EXPECT_EQ(mote_pubsub_unsubscribe(p, "a"), 2);
	EXPECT_EQ(mote_pubsub_unsubscribe(p, "a"), 0);
	put_down(a);
	EXPECT_EQ(mote_pubsub_broadcast(p, "a", NEWS, "gone", 4), 0);
	EXPECT_EQ(mote_pubsub_broadcast(p, "a", MOTE_MSG_SYSTEM, "x", 1), -EINVAL);
	EXPECT_EQ(mote_pubsub_broadcast(p, NULL, NEWS, "x", 1), -EINVAL);
	EXPECT_EQ(mote_pubsub_broadcast(NULL, "a", NEWS, "x", 1), -EINVAL);
	EXPECT(mailbox_is_empty());
}

static void many(void)
{
	struct mote_pubsub *p = start("news");
	unsigned long n = test_crowd(300), heard_by = 0;
	struct mote_msg *m;

	for (unsigned long i = 0; i < n; i++)
		subscribed("all");
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(mote_pubsub_broadcast(p, "all", NEWS, &i, sizeof(i)), 0);
	while (heard_by < 3 * n && (m = mote_receive_type(HEARD, PATIENCE))) {
		heard_by++;
		mote_msg_free(m);
	}
	EXPECT_EQ(heard_by, 3 * n);
	EXPECT(mailbox_is_empty());
}

/* Its end takes subscribers along; it can be started again at once. */
static void ends(void)
{
	struct mote_pubsub *p = start("news");
	unsigned long rounds = test_rounds(100);
	mote_pid a, server;
	mote_ref ref;

	mote_trap_exit(true);
	for (unsigned long i = 0; i < rounds; i++) {
		a = subscribed("a");
		ref = mote_monitor(a);
		EXPECT_EQ(mote_pubsub_subscribe(p, "a"), 0);
		server = mote_whereis("news");
		put_down(server);
		EXPECT(got_exit(server, MOTE_KILLED));
		EXPECT_EQ(mote_pubsub_broadcast(p, "a", NEWS, "x", 1), -ESRCH);
		if (!EXPECT(mote_pubsub_start_link("news", NULL) == 0))
			break;
		EXPECT(got_down(ref, a, MOTE_KILLED));
		mote_msg_free(mote_receive_type(MOTE_MSG_EXIT, PATIENCE));	/* the registry's */
		EXPECT_EQ(mote_pubsub_broadcast(p, "a", NEWS, "x", 1), 0);
		if (!EXPECT(mailbox_is_empty()))
			break;
	}
}

/* The scope that all pubsubs share ends: they end as well, and whoever starts them again has them meet again. */
static void scope_ends(void)
{
	mote_pid server, scope;

	mote_trap_exit(true);
	start("news");
	server = mote_whereis("news");
	scope = mote_whereis("mote.pubsub");
	EXPECT(mote_pid_valid(scope));
	put_down(scope);
	EXPECT(got_exit(server, MOTE_KILLED));
	start("news");
	EXPECT_EQ(mote_pg_members(mote_pg_scope("mote.pubsub"), "news", 4, NULL, 0), 1);
}

/* --- other nodes */

static void far_subscriber(const void *args, size_t size)
{
	struct subscription sub;
	mote_pid pid;

	if (!EXPECT(size == sizeof(sub)))
		return;
	memcpy(&sub, args, size);
	EXPECT_EQ(mote_pubsub_start_link(sub.name, &pid), 0);
	mote_unlink(pid);
	hear(&sub);
}

static void far_speaker(const void *args, size_t size)
{
	(void)size;
	EXPECT_EQ(mote_pubsub_broadcast(mote_pubsub_named("news"), "a", NEWS, args, strlen(args)), 0);
}

static bool groups_meet(int64_t n)
{
	struct mote_pg *pg = mote_pg_scope("mote.pubsub");
	mote_deadline until = PATIENCE;

	while (mote_pg_members(pg, "news", 4, NULL, 0) != n && mote_now().ns < until.ns)
		mote_sleep(mote_in_ms(1));
	return mote_pg_members(pg, "news", 4, NULL, 0) == n;
}

static void nodes(void)
{
	struct subscription sub = { .boss = mote_self(), .name = "news", .topic = "a" };
	struct mote_pubsub *p = start("news");
	mote_pid far;
	struct peer b;

	EXPECT_EQ(mote_pubsub_subscribe(p, "a"), 0);
	peer_start(&b, "b");
	far = peer_spawn_args(&b, "far_subscriber", &sub, sizeof(sub), 0, NULL);
	EXPECT(got_type(SUBSCRIBED));
	EXPECT(groups_meet(2));
	EXPECT_EQ(mote_pubsub_broadcast(p, "a", NEWS, "to all", 6), 0);
	EXPECT(got_news("to all"));
	EXPECT(heard(far, "to all"));
	EXPECT_EQ(mote_pubsub_local(p, "a", NEWS, "not far", 7), 0);
	EXPECT(got_news("not far"));
	EXPECT_EQ(mote_pubsub_on(p, b.node, "a", NEWS, "only far", 8), 0);
	EXPECT(heard(far, "only far"));
	EXPECT_EQ(mote_pubsub_broadcast_from(p, far, "a", NEWS, "from far", 8), 0);
	EXPECT(got_news("from far"));
	EXPECT_EQ(mote_pubsub_broadcast(p, "b", NEWS, "another", 7), 0);
	/* The other way. */
	peer_spawn_args(&b, "far_speaker", "hello", 6, 0, NULL);
	for (int i = 0; i < 2; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);

		EXPECT(m && (m->type == NEWS || m->type == HEARD) && m->size == 5 && !memcmp(m->data, "hello", 5));
		mote_msg_free(m);
	}
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
	EXPECT(groups_meet(1));
	EXPECT_EQ(mote_pubsub_broadcast(p, "a", NEWS, "alone", 5), 0);
	EXPECT(got_news("alone"));
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(far_subscriber), ENTRY(far_speaker), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("topics", topics);
	nodes_case("many subscribers", many);
	nodes_case("a pubsub ends, and is started again", ends);
	nodes_case("the groups of pubsubs end", scope_ends);
	nodes_case("across nodes", nodes);
	return nodes_done();
}
