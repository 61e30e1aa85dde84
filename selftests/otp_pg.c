// SPDX-License-Identifier: MIT OR GPL-2.0
/* Groups of processes: on one node, and across several, as those come, change, and go. */
#include "nodes.h"
#include "otp/pg.h"

#define GROUP(text) (text), strlen(text)

static struct mote_pg *start(const char *scope)
{
	mote_pid pid;

	EXPECT_EQ(mote_pg_start_link(scope, &pid), 0);
	EXPECT(mote_pid_equal(mote_whereis(scope ? scope : "pg"), pid));
	return mote_pg_scope(scope);
}

static int64_t count(struct mote_pg *pg, const char *group)
{
	return mote_pg_members(pg, GROUP(group), NULL, 0);
}

static bool is_member(struct mote_pg *pg, const char *group, mote_pid pid, int times)
{
	mote_pid pids[32];
	int64_t n = mote_pg_members(pg, GROUP(group), pids, 32);

	for (int64_t i = 0; i < n; i++)
		times -= mote_pid_equal(pids[i], pid);
	return times == 0;
}

/* What others know lags behind: true as soon as it is so. */
static bool comes_to(struct mote_pg *pg, const char *group, int64_t n)
{
	mote_deadline until = PATIENCE;

	while (count(pg, group) != n && mote_now().ns < until.ns)
		mote_sleep(mote_in_ms(1));
	if (count(pg, group) != n)
		test_note("%s has %lld members", group, (long long)count(pg, group));
	return count(pg, group) == n;
}

struct seen {
	int groups;
	size_t pids;
	char names[128];
};

static void see(const void *group, size_t size, const mote_pid *pids, size_t n, void *arg)
{
	struct seen *seen = arg;
	size_t at = strlen(seen->names);

	seen->groups++;
	seen->pids += n;
	snprintf(seen->names + at, sizeof(seen->names) - at, "%.*s,", (int)size, (const char *)group);
	for (size_t i = 0; i < n; i++)
		EXPECT(mote_pid_valid(pids[i]));
}

static bool got_change(uint32_t type, mote_ref ref, const char *group, const mote_pid *pids, uint32_t n)
{
	struct mote_msg *m = mote_receive(PATIENCE);
	const struct mote_pg_event *e = m ? m->data : NULL;
	bool ok = m && m->type == type && mote_ref_equal(mote_msg_ref(m), ref) && e->nr_pids == n &&
		  e->size == strlen(group) && !memcmp(mote_pg_event_group(e), group, e->size);

	for (uint32_t i = 0; ok && i < n; i++)
		ok = mote_pid_equal(mote_pg_event_pids(e)[i], pids[i]);
	if (!ok)
		test_describe(m);
	mote_msg_free(m);
	return ok;
}

static void join_and_leave(void)
{
	struct mote_pg *pg = mote_pg_scope(NULL);
	mote_pid p = mote_spawn(sink, NULL), q = mote_spawn(sink, NULL), self = mote_self(), both[] = { p, q }, pids[8];

	EXPECT(pg == mote_pg_scope("pg") && pg != mote_pg_scope("other"));
	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), &p, 1), -ESRCH);
	EXPECT_EQ(mote_pg_members(pg, GROUP("g"), pids, 8), -ESRCH);
	start(NULL);
	EXPECT_EQ(mote_pg_members(pg, GROUP("g"), pids, 8), 0);
	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), both, 2), 0);
	EXPECT_EQ(mote_pg_members(pg, GROUP("g"), pids, 8), 2);
	EXPECT(mote_pid_equal(pids[0], p) && mote_pid_equal(pids[1], q));
	EXPECT_EQ(mote_pg_local_members(pg, GROUP("g"), pids, 1), 2);
	/* As often as it joined. */
	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), &p, 1), 0);
	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), &self, 1), 0);
	EXPECT_EQ(mote_pg_join(pg, GROUP("h"), &p, 1), 0);
	EXPECT_EQ(count(pg, "g"), 4);
	EXPECT(is_member(pg, "g", p, 2) && is_member(pg, "g", q, 1) && is_member(pg, "g", self, 1));
	EXPECT_EQ(mote_pg_leave(pg, GROUP("g"), &p, 1), 0);
	EXPECT(is_member(pg, "g", p, 1));
	EXPECT_EQ(mote_pg_leave(pg, GROUP("g"), &p, 1), 0);
	EXPECT_EQ(mote_pg_leave(pg, GROUP("g"), &p, 1), -ENOENT);
	EXPECT_EQ(mote_pg_leave(pg, GROUP("none"), &p, 1), -ENOENT);
	EXPECT_EQ(mote_pg_leave(pg, GROUP("g"), both, 2), 0);	/* one of them is a member */
	EXPECT(is_member(pg, "g", self, 1) && count(pg, "g") == 1 && count(pg, "h") == 1);
	EXPECT_EQ(mote_pg_leave(pg, GROUP("g"), &self, 1), 0);
	EXPECT_EQ(mote_pg_leave(pg, GROUP("h"), NULL, 0), -ENOENT);
	EXPECT_EQ(mote_pg_join(pg, GROUP("none"), NULL, 0), 0);
	EXPECT_EQ(count(pg, "none"), 0);
	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), NULL, 1), -EINVAL);
	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), &MOTE_NOBODY, 1), -EINVAL);
	EXPECT_EQ(mote_pg_join(NULL, GROUP("g"), &p, 1), -EINVAL);
	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), &(mote_pid){ 7, 7, 77777 }, 1), -EREMOTE);
	EXPECT_EQ(mote_pg_join(pg, "g", (size_t)1 << 21, &p, 1), -EMSGSIZE);
	EXPECT_EQ(mote_pg_join(pg, GROUP(""), &p, 1), 0);
	EXPECT_EQ(count(pg, ""), 1);
	/* The dead leave by themselves, also who was dead before. */
	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), both, 2), 0);
	put_down(p);
	EXPECT(comes_to(pg, "g", 1) && comes_to(pg, "", 0) && comes_to(pg, "h", 0));
	EXPECT_EQ(mote_pg_join(pg, GROUP("h"), &p, 1), 0);
	EXPECT(comes_to(pg, "h", 0));
}

static void groups(void)
{
	struct mote_pg *pg = start("scope"), *other = start("another");
	mote_pid p = mote_spawn(sink, NULL), pair[] = { p, p };
	struct seen seen = { 0 };

	EXPECT_EQ(mote_pg_groups(pg, see, &seen), 0);
	EXPECT_EQ(mote_pg_join(pg, GROUP("a"), pair, 2), 0);
	EXPECT_EQ(mote_pg_join(pg, GROUP("b"), &p, 1), 0);
	EXPECT_EQ(mote_pg_groups(pg, see, &seen), 2);
	EXPECT(seen.groups == 2 && seen.pids == 3 && strstr(seen.names, "a,") && strstr(seen.names, "b,"));
	EXPECT_EQ(mote_pg_local_groups(pg, see, &seen), 2);
	EXPECT_EQ(mote_pg_leave(pg, GROUP("b"), &p, 1), 0);
	EXPECT_EQ(mote_pg_groups(pg, see, &seen), 1);
	/* Scopes know nothing of each other. */
	EXPECT_EQ(mote_pg_groups(other, see, &seen), 0);
	EXPECT_EQ(count(other, "a"), 0);
}

static void monitors(void)
{
	struct mote_pg *pg = start(NULL);
	mote_pid p = mote_spawn(sink, NULL), q = mote_spawn(sink, NULL), both[] = { p, q };
	mote_ref one, all, wrong;
	struct seen seen = { 0 };

	EXPECT_EQ(mote_pg_join(pg, GROUP("a"), &p, 1), 0);
	EXPECT_EQ(mote_pg_join(pg, GROUP("b"), both, 2), 0);
	EXPECT_EQ(mote_pg_monitor(pg, GROUP("a"), &one, see, &seen), 1);
	EXPECT(seen.groups == 1 && seen.pids == 1 && !strcmp(seen.names, "a,"));
	EXPECT_EQ(mote_pg_monitor(pg, GROUP("none"), &wrong, NULL, NULL), 0);
	EXPECT_EQ(mote_pg_demonitor(pg, wrong), 0);
	EXPECT_EQ(mote_pg_demonitor(pg, wrong), -ENOENT);
	EXPECT_EQ(mote_pg_join(pg, GROUP("a"), both, 2), 0);
	EXPECT(got_change(MOTE_MSG_PG_JOIN, one, "a", both, 2));
	EXPECT_EQ(mote_pg_join(pg, GROUP("b"), &p, 1), 0);	/* another group */
	EXPECT_EQ(mote_pg_join(pg, GROUP("none"), &p, 1), 0);
	EXPECT_EQ(mote_pg_leave(pg, GROUP("a"), &p, 1), 0);
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, one, "a", &p, 1));
	/* Nobody leaves who is no member. */
	EXPECT_EQ(mote_pg_leave(pg, GROUP("a"), (mote_pid[]){ mote_self(), q }, 2), 0);
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, one, "a", &q, 1));
	EXPECT_EQ(mote_pg_demonitor(pg, one), 0);
	EXPECT_EQ(mote_pg_join(pg, GROUP("a"), &q, 1), 0);
	EXPECT(mailbox_is_empty());
	seen = (struct seen){ 0 };
	EXPECT_EQ(mote_pg_monitor_scope(pg, &all, see, &seen), 3);
	EXPECT(seen.groups == 3 && seen.pids == 2 + 3 + 1);
	EXPECT_EQ(mote_pg_join(pg, GROUP("new"), &q, 1), 0);
	EXPECT(got_change(MOTE_MSG_PG_JOIN, all, "new", &q, 1));
	EXPECT_EQ(mote_pg_leave(pg, GROUP("new"), &q, 1), 0);
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, all, "new", &q, 1));
	/* Who ends leaves each group, as often as it is in it; who hears of it does not find it. */
	mote_exit_pid(p, MOTE_REASON_KILL);
	for (int i = 0; i < 4; i++) {
		struct mote_msg *m = mote_receive_ref(all, PATIENCE);
		const struct mote_pg_event *e = m ? m->data : NULL;

		EXPECT(m && m->type == MOTE_MSG_PG_LEAVE && e->nr_pids == 1 &&
		       mote_pid_equal(mote_pg_event_pids(e)[0], p));
		mote_msg_free(m);
	}
	EXPECT(is_member(pg, "a", p, 0) && is_member(pg, "b", p, 0) && is_member(pg, "none", p, 0));
	EXPECT_EQ(mote_pg_demonitor(pg, all), 0);
	EXPECT(mailbox_is_empty());
}

static void watcher(void *arg)
{
	mote_ref ref;

	EXPECT_EQ(mote_pg_monitor(mote_pg_scope(NULL), GROUP("a"), &ref, NULL, NULL), 0);
	mote_send(*(mote_pid *)arg, 1, NULL, 0);
	sink(NULL);
}

static void ends(void)
{
	struct mote_pg *pg = start(NULL);
	mote_pid self = mote_self(), p = mote_spawn(sink, NULL), again, server = mote_whereis("pg");
	mote_pid w = mote_spawn(watcher, &self);
	struct seen seen;
	mote_ref ref;

	EXPECT(got_type(1));
	put_down(w);
	mote_trap_exit(true);
	EXPECT_EQ(mote_pg_join(pg, GROUP("a"), &p, 1), 0);
	EXPECT_EQ(mote_pg_start(NULL, &again), -EEXIST);
	EXPECT(mote_pid_equal(again, server));
	put_down(server);
	EXPECT(got_exit(server, MOTE_KILLED));
	EXPECT_EQ(count(pg, "a"), -ESRCH);
	EXPECT_EQ(mote_pg_groups(pg, see, &seen), -ESRCH);
	EXPECT_EQ(mote_pg_monitor(pg, GROUP("a"), &ref, NULL, NULL), -ESRCH);
	EXPECT(!ref.id);
	EXPECT(mote_alive(p));
	EXPECT_EQ(mote_pg_start(NULL, NULL), 0);
	EXPECT_EQ(count(pg, "a"), 0);
	EXPECT_EQ(mote_pg_join(pg, GROUP("a"), &p, 1), 0);
	EXPECT_EQ(count(pg, "a"), 1);
	put_down(mote_whereis("pg"));
	EXPECT(mailbox_is_empty());
}

/* Everybody joins, leaves, looks and ends, on all threads. */
static void crowd_member(void *arg)
{
	struct mote_pg *pg = mote_pg_scope(NULL);
	mote_pid self = mote_self(), pids[4];
	uint64_t seed = (uintptr_t)arg * 77 + test_seed();

	for (int i = 0; i < 6; i++) {
		const char *group = test_random(&seed) & 1 ? "a" : "b";

		EXPECT_EQ(mote_pg_join(pg, GROUP(group), &self, 1), 0);
		EXPECT(mote_pg_members(pg, GROUP(group), pids, 4) > 0);
		if (test_random(&seed) & 1)
			EXPECT_EQ(mote_pg_leave(pg, GROUP(group), &self, 1), 0);
	}
}

static void crowd(void)
{
	struct mote_pg *pg = start(NULL);
	unsigned long rounds = test_rounds(60);
	struct seen seen;
	mote_ref refs[16];

	for (unsigned long i = 0; i < rounds; i++) {
		for (unsigned long p = 0; p < 16; p++)
			mote_spawn_monitor(crowd_member, (void *)(i * 16 + p), &refs[p]);
		for (int p = 0; p < 16; p++) {
			seen = (struct seen){ 0 };
			EXPECT(mote_pg_groups(pg, see, &seen) >= 0);
			mote_msg_free(mote_receive_ref(refs[p], MOTE_FOREVER));
		}
		if (!comes_to(pg, "a", 0) || !comes_to(pg, "b", 0))
			break;
	}
}

/* --- other nodes */

/* Starts a scope there; joins and leaves whom it is told to: itself. */
enum { FAR_JOIN = 0x7ffd0000, FAR_LEAVE, FAR_COUNT, FAR_DONE, FAR_RESTART, FAR_CONNECT };

static void far_scope(const void *args, size_t size)
{
	mote_pid self = mote_self(), server;
	struct mote_pg *pg = mote_pg_scope(NULL);

	(void)args;
	(void)size;
	EXPECT_EQ(mote_pg_start(NULL, &server), 0);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		int64_t answer = 0;

		if (m->type == MOTE_MSG_EXIT)
			return;
		if (m->type == FAR_JOIN)
			answer = mote_pg_join(pg, m->data, m->size, &self, 1);
		else if (m->type == FAR_LEAVE)
			answer = mote_pg_leave(pg, m->data, m->size, &self, 1);
		else if (m->type == FAR_COUNT)
			answer = mote_pg_members(pg, m->data, m->size, NULL, 0);
		else if (m->type == FAR_RESTART) {
			put_down(mote_whereis("pg"));
			answer = mote_pg_start(NULL, NULL);
		} else if (m->type == FAR_CONNECT) {
			answer = !mote_node_connect("b", PATIENCE).id;
		}
		mote_send(m->from, FAR_DONE, &answer, sizeof(answer));
		mote_msg_free(m);
	}
}

static int64_t far(mote_pid pid, uint32_t what, const char *group)
{
	struct mote_msg *m;
	int64_t answer;

	mote_send(pid, what, group, strlen(group));
	m = mote_receive_type(FAR_DONE, PATIENCE);
	if (!EXPECT(m))
		return -ETIMEDOUT;
	memcpy(&answer, m->data, sizeof(answer));
	mote_msg_free(m);
	return answer;
}

static bool far_comes_to(mote_pid pid, const char *group, int64_t n)
{
	mote_deadline until = PATIENCE;

	while (far(pid, FAR_COUNT, group) != n && mote_now().ns < until.ns)
		mote_sleep(mote_in_ms(1));
	return far(pid, FAR_COUNT, group) == n;
}

static void two_nodes(void)
{
	struct mote_pg *pg = start(NULL);
	mote_pid self = mote_self(), p, pids[4];
	struct peer b;
	mote_ref ref;

	/* What each has before they meet, the other learns. */
	EXPECT_EQ(mote_pg_join(pg, GROUP("early"), &self, 1), 0);
	peer_start(&b, "b");
	p = peer_spawn(&b, "far_scope", 0, NULL);
	EXPECT(far_comes_to(p, "early", 1));
	EXPECT_EQ(mote_pg_monitor(pg, GROUP("g"), &ref, NULL, NULL), 0);
	EXPECT_EQ(far(p, FAR_JOIN, "g"), 0);
	EXPECT(got_change(MOTE_MSG_PG_JOIN, ref, "g", &p, 1));
	EXPECT_EQ(mote_pg_members(pg, GROUP("g"), pids, 4), 1);
	EXPECT(mote_pid_equal(pids[0], p));
	EXPECT_EQ(mote_pg_local_members(pg, GROUP("g"), pids, 4), 0);
	EXPECT_EQ(mote_pg_local_groups(pg, NULL, NULL), 1);
	EXPECT_EQ(mote_pg_groups(pg, NULL, NULL), 2);
	EXPECT_EQ(mote_pg_join(pg, GROUP("x"), &p, 1), -EREMOTE);
	EXPECT_EQ(far(p, FAR_JOIN, "g"), 0);
	EXPECT(got_change(MOTE_MSG_PG_JOIN, ref, "g", &p, 1));
	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), &self, 1), 0);
	EXPECT(got_change(MOTE_MSG_PG_JOIN, ref, "g", &self, 1));
	EXPECT(far_comes_to(p, "g", 3));
	EXPECT_EQ(far(p, FAR_LEAVE, "g"), 0);
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, ref, "g", &p, 1));
	EXPECT_EQ(mote_pg_leave(pg, GROUP("g"), &self, 1), 0);
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, ref, "g", &self, 1));
	EXPECT(far_comes_to(p, "g", 1));
	/* A scope that is started anew there has nobody any more. */
	EXPECT_EQ(far(p, FAR_RESTART, ""), 0);
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, ref, "g", &p, 1));
	EXPECT(far_comes_to(p, "early", 1));
	EXPECT_EQ(far(p, FAR_JOIN, "g"), 0);
	EXPECT(got_change(MOTE_MSG_PG_JOIN, ref, "g", &p, 1));
	/* A member ends there. */
	mote_exit_pid(p, MOTE_REASON_KILL);
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, ref, "g", &p, 1));
	EXPECT_EQ(count(pg, "g"), 0);
	peer_stop(&b);
}

/* Scopes meet when their nodes do; not by way of a third. */
static void connect_later(void)
{
	struct peer b, c;
	mote_pid p, q;

	peer_start(&b, "b");
	peer_start(&c, "c");
	p = peer_spawn(&b, "far_scope", 0, NULL);
	q = peer_spawn(&c, "far_scope", 0, NULL);
	EXPECT_EQ(far(p, FAR_JOIN, "of b"), 0);
	EXPECT_EQ(far(q, FAR_JOIN, "of c"), 0);
	start(NULL);
	EXPECT(comes_to(mote_pg_scope(NULL), "of b", 1) && comes_to(mote_pg_scope(NULL), "of c", 1));
	EXPECT_EQ(far(q, FAR_COUNT, "of b"), 0);
	EXPECT_EQ(far(q, FAR_CONNECT, "b"), 0);
	EXPECT(far_comes_to(q, "of b", 1) && far_comes_to(p, "of c", 1));
	EXPECT_EQ(far(q, FAR_LEAVE, "of c"), 0);
	EXPECT(far_comes_to(p, "of c", 0));
	peer_stop(&b);
	EXPECT(far_comes_to(q, "of b", 0));
	peer_stop(&c);
}

static void node_ends(void)
{
	struct mote_pg *pg = start(NULL);
	struct peer b, c;
	mote_pid p, q;
	mote_ref ref;

	peer_start(&b, "b");
	peer_start(&c, "c");
	p = peer_spawn(&b, "far_scope", 0, NULL);
	q = peer_spawn(&c, "far_scope", 0, NULL);
	EXPECT_EQ(far(p, FAR_JOIN, "g"), 0);
	EXPECT_EQ(far(q, FAR_JOIN, "g"), 0);
	EXPECT_EQ(far(p, FAR_JOIN, "only b"), 0);
	EXPECT(comes_to(pg, "g", 2) && comes_to(pg, "only b", 1));
	EXPECT_EQ(mote_pg_monitor(pg, GROUP("only b"), &ref, NULL, NULL), 1);
	peer_kill(&b);
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, ref, "only b", &p, 1));
	EXPECT(comes_to(pg, "g", 1));
	EXPECT(is_member(pg, "g", q, 1));
	/* One of that name that comes anew is met anew. */
	peer_start(&b, "b");
	p = peer_spawn(&b, "far_scope", 0, NULL);
	EXPECT_EQ(far(p, FAR_JOIN, "only b"), 0);
	EXPECT(got_change(MOTE_MSG_PG_JOIN, ref, "only b", &p, 1));
	peer_stop(&b);
	peer_stop(&c);
	EXPECT(comes_to(pg, "g", 0));
}

/* A stranger's words are not taken for a peer's. */
static void hostile(void)
{
	struct mote_pg *pg = start(NULL);
	mote_pid server = mote_whereis("pg"), self = mote_self();
	struct mote_pg_event bad[3] = { { .nr_pids = 0xffffffff, .size = 0xffffffff } };

	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), &self, 1), 0);
	for (uint32_t type = MOTE_MSG_PG_JOIN; type < MOTE_MSG_PG_JOIN + 16; type++) {
		for (size_t size = 0; size <= sizeof(bad); size += 8) {
			EXPECT_EQ(mote_send(server, type, bad, size), 0);
			mote_call(server, type, bad, size, NULL, mote_in_ms(1));
		}
	}
	EXPECT_EQ(count(pg, "g"), 1);
	EXPECT_EQ(mote_pg_groups(pg, NULL, NULL), 1);
	EXPECT(mote_pid_equal(mote_whereis("pg"), server));
}

/* Says what it is told to as if it were a scope: args are the pid to say it to. */
struct words {
	uint32_t type, groups;
	char group[2][8];
	mote_pid pid[2];
};

static void far_liar(const void *args, size_t size)
{
	mote_pid to;

	if (!EXPECT(size == sizeof(to)))
		return;
	memcpy(&to, args, size);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		const struct words *w = m->data;
		char blocks[256], *end = blocks;

		if (m->type == MOTE_MSG_EXIT)
			return;
		if (m->size != sizeof(*w)) {	/* some DISCOVER or SYNC of the scope's */
			mote_msg_free(m);
			continue;
		}
		for (uint32_t i = 0; i < w->groups; i++)
			end = pg_block_put(end, w->group[i], strlen(w->group[i]), &w->pid[i], 1);
		EXPECT_EQ(mote_send(to, w->type, blocks, (size_t)(end - blocks)), 0);
		/* The same, cut short: the last block does not count. */
		if (w->type == PG_JOIN && w->groups)
			EXPECT_EQ(mote_send(to, w->type, blocks, (size_t)(end - blocks) - 1), 0);
		mote_msg_free(m);
	}
}

#define SAY(pid, ...) mote_send(pid, 1, &(struct words){ __VA_ARGS__ }, sizeof(struct words))

static void peers(void)
{
	struct mote_pg *pg = start(NULL);
	mote_pid p, self = mote_self(), server = mote_whereis("pg");
	mote_ref ref;
	struct peer b;

	EXPECT_EQ(mote_pg_join(pg, GROUP("g"), &self, 1), 0);
	peer_start(&b, "b");
	p = peer_spawn_args(&b, "far_liar", &server, sizeof(server), 0, NULL);
	EXPECT_EQ(mote_pg_monitor_scope(pg, &ref, NULL, NULL), 1);
	/* Nobody knows it yet: only what follows its SYNC counts. */
	SAY(p, .type = PG_JOIN, .groups = 1, .group = { "early" }, .pid = { p });
	SAY(p, .type = PG_SYNC, .groups = 2, .group = { "g", "h" }, .pid = { p, p });
	EXPECT(got_change(MOTE_MSG_PG_JOIN, ref, "g", &p, 1));
	EXPECT(got_change(MOTE_MSG_PG_JOIN, ref, "h", &p, 1));
	EXPECT_EQ(count(pg, "early"), 0);
	/* A process of this node is not its to bring or to take. */
	SAY(p, .type = PG_JOIN, .groups = 2, .group = { "h", "i" }, .pid = { self, p });
	EXPECT(got_change(MOTE_MSG_PG_JOIN, ref, "i", &p, 1));
	SAY(p, .type = PG_LEAVE, .groups = 2, .group = { "g", "i" }, .pid = { self, p });
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, ref, "i", &p, 1));
	EXPECT(is_member(pg, "g", self, 1) && is_member(pg, "h", self, 0));
	/* All that it has, said again: what is new, and what is gone, is told. */
	SAY(p, .type = PG_SYNC, .groups = 2, .group = { "h", "j" }, .pid = { p, p });
	EXPECT(got_change(MOTE_MSG_PG_JOIN, ref, "j", &p, 1));
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, ref, "g", &p, 1));
	EXPECT(is_member(pg, "g", p, 0) && is_member(pg, "h", p, 1) && is_member(pg, "g", self, 1));
	SAY(p, .type = PG_SYNC, .groups = 1, .group = { "h" }, .pid = { p });
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, ref, "j", &p, 1));
	mote_exit_pid(p, MOTE_REASON_KILL);
	EXPECT(got_change(MOTE_MSG_PG_LEAVE, ref, "h", &p, 1));
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(far_scope), ENTRY(far_liar), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("joining and leaving", join_and_leave);
	nodes_case("groups, and scopes", groups);
	nodes_case("monitors of a group, and of a scope", monitors);
	nodes_case("a scope ends, and is started again", ends);
	nodes_case("a crowd", crowd);
	nodes_case("what is no block", hostile);
	nodes_case("what a peer says", peers);
	nodes_case("two nodes", two_nodes);
	nodes_case("nodes that connect later", connect_later);
	nodes_case("a node ends, and comes back", node_ends);
	return nodes_done();
}
