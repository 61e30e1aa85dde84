/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Mailboxes with a limit, and senders on other nodes: who waits, who does not, and that all are let go. */
#include "nodes.h"

enum { NUMBER = 1, TAKE, TAKEN, OPEN, SENT, QUIT, LOOK, SEEN };

struct wanted {
	mote_pid boss;
	uint32_t limit, policy;
};

/* What a keeper's boss gets first. */
struct opened {
	mote_pid pid;
	mote_ref door;
};

/* A receiver that takes numbers only when it is told to, by an alias, which passes by its limit. */
static void keeper(void *arg)
{
	struct wanted w = *(struct wanted *)arg;
	struct opened o = { mote_self(), mote_alias(0) };
	struct { mote_pid pid; uint64_t next; } from[16] = { 0 };

	free(arg);
	mote_send(w.boss, OPEN, &o, sizeof(o));
	for (;;) {
		struct mote_msg *m = mote_receive_ref(o.door, MOTE_FOREVER);
		uint32_t type = m->type, n = m->size == 4 ? *(uint32_t *)m->data : 0;
		struct mote_process_info info;

		mote_msg_free(m);
		if (type == QUIT)
			return;
		if (type == LOOK) {
			info = test_info(o.pid);
			mote_send(w.boss, SEEN, &info, sizeof(info));
			continue;
		}
		while (n--) {
			size_t i = 0;

			m = mote_receive_type(NUMBER, PATIENCE);
			if (!EXPECT(m))
				return;
			while (mote_pid_valid(from[i].pid) && !mote_pid_equal(from[i].pid, m->from))
				i++;
			from[i].pid = m->from;
			EXPECT_EQ(*(uint64_t *)m->data, from[i].next);
			from[i].next++;
			mote_msg_free(m);
		}
		mote_send(w.boss, TAKEN, NULL, 0);
	}
}

/* Starts a keeper on its node. */
static void opener(const void *args, size_t size)
{
	struct wanted *w = malloc(sizeof(*w));

	if (!EXPECT(size == sizeof(*w)))
		return;
	memcpy(w, args, sizeof(*w));
	EXPECT(mote_pid_valid(mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = keeper, .arg = w, .mailbox_limit = w->limit,
		.mailbox_policy = w->policy })));
}

static struct opened keeper_on(struct peer *b, uint32_t limit, uint32_t policy)
{
	struct wanted w = { .boss = mote_self(), .limit = limit, .policy = policy };
	struct opened o = { 0 };
	struct mote_msg *m;

	peer_spawn_args(b, "opener", &w, sizeof(w), 0, NULL);
	m = mote_receive_type(OPEN, PATIENCE);
	if (EXPECT(m))
		memcpy(&o, m->data, sizeof(o));
	mote_msg_free(m);
	return o;
}

static void keeper_take(struct opened *k, uint32_t n)
{
	EXPECT_EQ(mote_send_alias(k->door, TAKE, &n, sizeof(n)), 0);
	EXPECT(mote_receive_type(TAKEN, PATIENCE) != NULL);
}

static struct mote_process_info keeper_look(struct opened *k)
{
	struct mote_process_info info = { 0 };
	struct mote_msg *m;

	mote_send_alias(k->door, LOOK, NULL, 0);
	m = mote_receive_type(SEEN, PATIENCE);
	if (EXPECT(m))
		memcpy(&info, m->data, sizeof(info));
	mote_msg_free(m);
	return info;
}

static void keeper_quit(struct opened *k)
{
	mote_ref ref = mote_monitor(k->pid);

	mote_send_alias(k->door, QUIT, NULL, 0);
	EXPECT(got_down(ref, k->pid, MOTE_NORMAL));
}

struct sender {
	mote_pid to, boss;
	uint64_t n;
	_Atomic bool enough;		/* then it stops before n */
};

static void sender(void *arg)
{
	struct sender *s = arg;
	uint64_t i;

	for (i = 0; i < s->n && !atomic_load(&s->enough); i++)
		EXPECT_EQ(mote_send(s->to, NUMBER, &i, sizeof(i)), 0);
	mote_send(s->boss, SENT, &i, sizeof(i));
}

/* How many it has sent, once it is done. */
static uint64_t sent(void)
{
	struct mote_msg *m = mote_receive_type(SENT, PATIENCE);
	uint64_t n = 0;

	if (EXPECT(m))
		memcpy(&n, m->data, sizeof(n));
	mote_msg_free(m);
	return n;
}

/* Until it does; the case ends by its time limit if it never does. */
static void wait_until_held(mote_pid p)
{
	mote_deadline until = PATIENCE;
	bool held = false;

	/* One look counts: who waits may be woken to look for itself, and wait on. */
	while (!held && mote_now().ns < until.ns) {
		held = test_info(p).wait == MOTE_WAIT_ROOM;
		if (!held)
			mote_sleep(mote_in_us(200));
	}
	EXPECT(held);
}

static void a_sender_waits(void)
{
	struct sender s = { .boss = mote_self(), .n = UINT64_MAX };
	struct opened k;
	struct peer b;
	struct mote_msg *m;
	mote_pid p, other;
	uint64_t n;

	peer_start(&b, "b");
	other = peer_spawn(&b, "far_mirror", 0, NULL);
	k = keeper_on(&b, 10, MOTE_MAILBOX_BLOCK);
	s.to = k.pid;
	p = mote_spawn(sender, &s);
	wait_until_held(p);
	/* whoever else sends there is not kept waiting, nor is whoever sends to us */
	for (int i = 0; i < 100; i++)
		EXPECT(ping(other));
	wait_until_held(p);
	EXPECT_EQ(keeper_look(&k).mailbox_counted, 10);
	EXPECT(keeper_look(&k).mailbox_waiting > 0);
	/* what is taken lets it go on, step by step */
	for (n = 0; n < test_rounds(2000) * 7; n += 7)
		keeper_take(&k, 7);
	atomic_store(&s.enough, true);
	/* it ends when room has been made for its last */
	while (!(m = mote_receive_type(SENT, MOTE_NOW))) {
		keeper_take(&k, 1);
		n++;
	}
	EXPECT(*(uint64_t *)m->data >= n);
	keeper_take(&k, (uint32_t)(*(uint64_t *)m->data - n));
	mote_msg_free(m);
	EXPECT_EQ(keeper_look(&k).mailbox_counted, 0);
	EXPECT_EQ(keeper_look(&k).mailbox_waiting, 0);
	EXPECT_EQ(keeper_look(&k).mailbox_refused, 0);
	keeper_quit(&k);
	peer_stop(&b);
}

static void many_senders_wait(void)
{
	struct sender s[10];
	struct opened k;
	struct peer b;

	peer_start(&b, "b");
	k = keeper_on(&b, 3, MOTE_MAILBOX_BLOCK);
	for (int i = 0; i < 10; i++) {
		s[i] = (struct sender){ .to = k.pid, .boss = mote_self(), .n = test_rounds(500) };
		mote_spawn(sender, &s[i]);
	}
	keeper_take(&k, (uint32_t)(10 * s[0].n));
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(sent(), s[i].n);
	EXPECT_EQ(keeper_look(&k).mailbox_counted, 0);
	keeper_quit(&k);
	peer_stop(&b);
}

static void deadlines(void)
{
	struct sender s = { .boss = mote_self(), .n = 12 };
	struct opened k;
	struct peer b;
	uint64_t n = 0;
	mote_ref ref;
	mote_pid p;
	int err = 0;

	peer_start(&b, "b");
	k = keeper_on(&b, 10, MOTE_MAILBOX_BLOCK);
	/* some go through before the news that it is full is here */
	while (!err && n < 1000000) {
		err = mote_send_until(k.pid, NUMBER, &n, sizeof(n), mote_in_ms(2));
		n += !err;
	}
	EXPECT_EQ(err, -ETIMEDOUT);
	EXPECT(n >= 10);
	EXPECT_EQ(mote_send_until(k.pid, NUMBER, &n, sizeof(n), MOTE_NOW), -ETIMEDOUT);
	EXPECT_EQ(mote_call(k.pid, NUMBER, &n, sizeof(n), NULL, mote_in_ms(2)), -ETIMEDOUT);
	/* one who waits can be told to exit */
	s.to = k.pid;
	s.n = UINT64_MAX;
	p = mote_spawn_monitor(sender, &s, &ref);
	wait_until_held(p);
	mote_exit_pid(p, MOTE_REASON_KILL);
	EXPECT(got_down(ref, p, MOTE_KILLED));
	keeper_take(&k, (uint32_t)n);
	EXPECT_EQ(mote_send_until(k.pid, NUMBER, &n, sizeof(n), PATIENCE), 0);
	peer_kill(&b);
}

/* The receiver dies, or its whole node: those who wait go on. */
static void let_go(void)
{
	for (int how = 0; how < 3; how++) {
		struct sender s = { .boss = mote_self(), .n = UINT64_MAX };
		mote_pid p[5];
		struct opened k;
		struct peer b;

		peer_start(&b, "b");
		k = keeper_on(&b, 10, MOTE_MAILBOX_BLOCK);
		s.to = k.pid;
		for (int i = 0; i < 5; i++)
			p[i] = mote_spawn(sender, &s);
		for (int i = 0; i < 5; i++)
			wait_until_held(p[i]);
		if (how == 0)
			mote_exit_pid(k.pid, MOTE_REASON_KILL);
		else if (how == 1)
			EXPECT_EQ(mote_node_disconnect(b.node), 0);
		else
			EXPECT_EQ(mote_child_kill(&b.child, SIGKILL), 0);
		for (int i = 0; i < 5; i++)
			while (test_info(p[i]).wait == MOTE_WAIT_ROOM)
				mote_sleep(mote_in_us(200));
		atomic_store(&s.enough, true);
		for (int i = 0; i < 5; i++)
			sent();
		if (how == 2)
			peer_kill(&b);
		else
			peer_stop(&b);
	}
}

static void drop(void)
{
	struct sender s = { .boss = mote_self(), .n = 100 };
	struct mote_process_info info;
	struct opened k;
	struct peer b;
	mote_ref ref;

	peer_start(&b, "b");
	k = keeper_on(&b, 10, MOTE_MAILBOX_DROP);
	s.to = k.pid;
	sender(&s);
	EXPECT(got_type(SENT));
	info = keeper_look(&k);
	EXPECT_EQ(info.mailbox_counted, 10);
	EXPECT_EQ(info.mailbox_refused, 90);
	ref = mote_request(k.pid, NUMBER, NULL, 0);
	EXPECT(got_down(ref, k.pid, MOTE_ERROR));
	keeper_take(&k, 10);
	keeper_quit(&k);
	peer_stop(&b);
}

static void kills(void)
{
	struct sender s = { .boss = mote_self(), .n = 11 };
	struct mote_msg *m;
	struct opened k;
	struct peer b;
	mote_ref ref;

	peer_start(&b, "b");
	k = keeper_on(&b, 10, MOTE_MAILBOX_KILL);
	ref = mote_monitor(k.pid);
	s.to = k.pid;
	sender(&s);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(is_down(m, ref, k.pid, MOTE_ERROR) && mote_msg_down(m)->reason.code == ENOBUFS);
	mote_msg_free(m);
	EXPECT_EQ(mote_send(k.pid, NUMBER, NULL, 0), 0);
	EXPECT_EQ(mote_call(k.pid, NUMBER, NULL, 0, NULL, PATIENCE), -ESRCH);
	peer_stop(&b);
}

/* Sends more than there is room for, and ends. */
static void sends_and_ends(const void *args, size_t size)
{
	mote_pid to;

	if (!EXPECT(size == sizeof(to)))
		return;
	memcpy(&to, args, sizeof(to));
	for (uint64_t i = 0; i < 20; i++)
		mote_send(to, NUMBER, &i, sizeof(i));
	mote_exit(mote_reason_error(EIO, NULL));
}

/* What passes by the limit may overtake what waits for room; nothing is lost, and the messages keep their order. */
static void limited(void *arg)
{
	struct peer *b = arg;
	uint64_t next = 0;
	int exits = 0, downs = 0;
	mote_ref ref;
	mote_pid p;

	mote_trap_exit(true);
	p = peer_spawn(b, "sends_and_ends", MOTE_LINK | MOTE_MONITOR, &ref);
	mote_sleep(mote_in_ms(2));
	while (next < 20 || !exits || !downs) {
		struct mote_msg *m = mote_receive(PATIENCE);

		if (is_exit(m, p, MOTE_ERROR)) {
			exits++;
		} else if (is_down(m, ref, p, MOTE_ERROR)) {
			EXPECT(exits);
			downs++;
		} else if (!EXPECT(m && m->type == NUMBER && *(uint64_t *)m->data == next++)) {
			test_describe(m);
			return;
		}
		mote_msg_free(m);
	}
	EXPECT_EQ(exits, 1);
	EXPECT_EQ(downs, 1);
	EXPECT(mailbox_is_empty());
}

static void order(void)
{
	struct peer b;
	mote_ref ref;
	mote_pid p;

	peer_start(&b, "b");
	p = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = limited, .arg = &b, .mailbox_limit = 3,
		.mailbox_policy = MOTE_MAILBOX_BLOCK, .flags = MOTE_MONITOR, .ref = &ref });
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	peer_stop(&b);
}

#define BUDGET (256 << 10)
#define POURED 2000

struct drop {
	uint64_t n;
	char rest[1000];
};

static void pourer(const void *args, size_t size)
{
	struct drop d = { 0 };
	mote_pid to;

	if (!EXPECT(size == sizeof(to)))
		return;
	memcpy(&to, args, sizeof(to));
	for (; d.n < POURED; d.n++)
		EXPECT_EQ(mote_send(to, NUMBER, &d, sizeof(d)), 0);
}

/* What one node has undelivered here is bounded; others notice nothing; and in the end all comes, in order. */
static void budget(void)
{
	struct mote_node_info info = { .size = sizeof(info) };
	mote_deadline until = PATIENCE;
	struct peer b, c;
	mote_pid other;

	peer_start(&b, "b");
	peer_start(&c, "c");
	other = peer_spawn(&c, "far_mirror", 0, NULL);
	peer_spawn(&b, "pourer", 0, NULL);
	while (info.undelivered < BUDGET - 4096 && mote_now().ns < until.ns) {
		EXPECT_EQ(mote_node_info(b.node, &info), 0);
		mote_sleep(mote_in_us(200));
	}
	for (int i = 0; i < 50; i++) {
		EXPECT(ping(other));
		EXPECT_EQ(mote_node_info(b.node, &info), 0);
		EXPECT(info.undelivered <= BUDGET + sizeof(struct drop));
	}
	for (uint64_t i = 0; i < POURED; i++) {
		struct mote_msg *m = mote_receive_type(NUMBER, PATIENCE);

		if (!EXPECT(m && m->size == sizeof(struct drop) && ((struct drop *)m->data)->n == i))
			return;
		mote_msg_free(m);
	}
	EXPECT_EQ(mote_node_info(b.node, &info), 0);
	EXPECT_EQ(info.undelivered, 0);
	peer_stop(&b);
	peer_stop(&c);
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(opener), ENTRY(sends_and_ends), ENTRY(pourer), { 0 } };
	struct mote_opts small = nodes_opts;

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("BLOCK: a sender waits, others don't", a_sender_waits);
	nodes_case("BLOCK: many senders, in order", many_senders_wait);
	nodes_case("BLOCK: deadlines, and an exit while waiting", deadlines);
	nodes_case("BLOCK: the receiver dies, or its node: all go on", let_go);
	nodes_case("DROP: dropped there, and counted", drop);
	nodes_case("KILL: the receiver ends", kills);
	nodes_case("BLOCK: messages in order, EXIT and DOWN once, also if they pass", order);
	small.node_budget = BUDGET;
	selftest_process_opts("the budget of a node: it waits, others don't, nothing is lost", budget, &small);
	return nodes_done();
}
