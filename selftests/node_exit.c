/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The table of exit signals (docs/processes.md), with the sender and the receiver on different nodes, either way. */
#include "nodes.h"

/* What becomes of the receiver: lives on and sees nothing; gets a message; ends with that reason. */
enum effect { NOTHING, MESSAGE, ENDS };

struct row {
	bool link;			/* by a link; else by mote_exit_pid() */
	uint32_t kind;
	bool traps;
	enum effect effect;
	uint32_t seen;			/* kind of the message, or of its own end */
};

static const struct row table[] = {
	{ true, MOTE_NORMAL, false, NOTHING, 0 },
	{ true, MOTE_ERROR, false, ENDS, MOTE_ERROR },
	{ true, MOTE_SHUTDOWN, false, ENDS, MOTE_SHUTDOWN },
	{ true, MOTE_CUSTOM, false, ENDS, MOTE_CUSTOM },
	{ true, MOTE_KILL, false, ENDS, MOTE_KILL },
	{ true, MOTE_NORMAL, true, MESSAGE, MOTE_NORMAL },
	{ true, MOTE_ERROR, true, MESSAGE, MOTE_ERROR },
	{ true, MOTE_KILL, true, MESSAGE, MOTE_KILL },
	{ false, MOTE_KILL, false, ENDS, MOTE_KILLED },
	{ false, MOTE_KILL, true, ENDS, MOTE_KILLED },
	{ false, MOTE_NORMAL, false, NOTHING, 0 },
	{ false, MOTE_NORMAL, true, MESSAGE, MOTE_NORMAL },
	{ false, MOTE_ERROR, false, ENDS, MOTE_ERROR },
	{ false, MOTE_SHUTDOWN, false, ENDS, MOTE_SHUTDOWN },
	{ false, MOTE_CUSTOM, true, MESSAGE, MOTE_CUSTOM },
	{ false, MOTE_SHUTDOWN, true, MESSAGE, MOTE_SHUTDOWN },
};

static void local_puppet(void *arg)
{
	puppet(arg, sizeof(mote_pid));
}

/* from does it to `to`, which tells us. */
static void try(const struct row *r, mote_pid from, mote_pid to, mote_ref down)
{
	struct order why = { .kind = r->kind, .code = r->kind == MOTE_ERROR || r->kind == MOTE_CUSTOM ? 7 : 0 };

	if (r->traps)
		TELL(to, DO_TRAP, .kind = 1);
	if (r->link)
		TELL(to, DO_LINK, .pid = from);
	EXPECT(ping(to));
	if (r->link) {
		tell(from, DO_DIE, why);
	} else {
		why.pid = to;
		tell(from, DO_EXIT_PID, why);
		EXPECT(ping(from));
	}
	if (r->effect == ENDS) {
		EXPECT(got_down(down, to, r->seen));
	} else {
		if (r->effect == MESSAGE)
			EXPECT(got(GOT_EXIT, from, r->seen));
		EXPECT(ping(to));
		mote_exit_pid(to, MOTE_REASON_KILL);
		EXPECT(got_down(down, to, MOTE_KILLED));
	}
	mote_exit_pid(from, MOTE_REASON_KILL);
	EXPECT(mailbox_is_empty());
}

static void all_rows(void)
{
	mote_pid self = mote_self();
	struct peer b;

	peer_start(&b, "b");
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		for (int way = 0; way < 2; way++) {
			int before = atomic_load(&selftest_failed);
			mote_pid here, there;
			mote_ref down;

			if (way) {
				here = mote_spawn_monitor(local_puppet, &self, &down);
				there = peer_spawn(&b, "puppet", 0, NULL);
				try(&table[i], there, here, down);
			} else {
				here = mote_spawn(local_puppet, &self);
				there = peer_spawn(&b, "puppet", MOTE_MONITOR, &down);
				try(&table[i], here, there, down);
			}
			if (atomic_load(&selftest_failed) != before)
				test_note("row %zu, %s", i, way ? "from there to here" : "from here to there");
		}
	}
	peer_stop(&b);
}

/* A message that precedes an exit signal is there before it. */
static void order(void)
{
	struct peer b;
	mote_ref ref;
	mote_pid p;

	peer_start(&b, "b");
	mote_trap_exit(true);
	for (int i = 0; i < 50; i++) {
		p = peer_spawn(&b, "puppet", MOTE_LINK | MOTE_MONITOR, &ref);
		TELL(p, DO_SEND, .kind = 3);
		TELL(p, DO_DIE, .kind = MOTE_ERROR, .code = 1);
		for (int j = 0; j < 3; j++)
			EXPECT(got_type(1));
		EXPECT(got_exit(p, MOTE_ERROR));
		EXPECT(got_down(ref, p, MOTE_ERROR));
	}
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

static void computes(const void *args, size_t size)
{
	(void)size;
	mote_send(*(const mote_pid *)args, 1, NULL, 0);
	for (;;)
		mote_check();
}

static void kill_acts(void)
{
	struct peer b;
	mote_ref ref;
	mote_pid p;

	peer_start(&b, "b");
	p = peer_spawn(&b, "computes", MOTE_MONITOR, &ref);
	EXPECT(got_type(1));
	EXPECT_EQ(mote_exit_pid(p, MOTE_REASON_KILL), 0);
	EXPECT(got_down(ref, p, MOTE_KILLED));
	EXPECT_EQ(mote_exit_pid(p, MOTE_REASON_KILL), 0);
	EXPECT_EQ(mote_exit_pid(p, (mote_reason){ 99, 0, NULL, 0 }), -EINVAL);
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

/* Whoever hears of an end finds nothing left: the name is gone. */
static void names_are_gone(void)
{
	struct peer b;

	peer_start(&b, "b");
	for (unsigned long i = 0; i < test_rounds(200); i++) {
		mote_pid self = mote_self(), p;
		mote_ref ref;

		p = mote_spawn_on(b.node, &(struct mote_spawn_on_opts){
			.size = sizeof(struct mote_spawn_on_opts), .entry = "puppet", .args = &self,
			.args_size = sizeof(self), .flags = MOTE_MONITOR, .name = "here.today", .ref = &ref }, PATIENCE);
		if (!EXPECT(mote_pid_valid(p)))
			return;
		TELL(p, DO_DIE, .kind = MOTE_NORMAL);
		EXPECT(got_down(ref, p, MOTE_NORMAL));
		EXPECT(!mote_pid_valid(mote_whereis_on(b.node, "here.today", PATIENCE)));
		EXPECT_EQ(mote_errno(), -ESRCH);
	}
	peer_stop(&b);
}

enum { ALIAS = 1, WITHDRAW, WITHDRAWN };

static void alias_owner(const void *args, size_t size)
{
	mote_ref alias = mote_alias(0);
	struct mote_msg *m;

	if (!EXPECT(size == sizeof(mote_pid)))
		return;
	mote_send(*(const mote_pid *)args, ALIAS, &alias, sizeof(alias));
	m = mote_receive_type(WITHDRAW, PATIENCE);
	EXPECT_EQ(mote_unalias(alias), 1);
	mote_send(*(const mote_pid *)args, WITHDRAWN, NULL, 0);
	mote_msg_free(m);
	mote_msg_free(mote_receive_type(WITHDRAW, PATIENCE));
}

static void to_an_alias(void)
{
	struct peer b;

	peer_start(&b, "b");
	for (int withdraw = 0; withdraw < 2; withdraw++) {
		mote_ref down, alias = { 0 };
		mote_pid p = peer_spawn(&b, "alias_owner", MOTE_MONITOR, &down);
		struct mote_msg *m = mote_receive_type(ALIAS, PATIENCE);

		if (EXPECT(m))
			alias = *(mote_ref *)m->data;
		mote_msg_free(m);
		if (withdraw) {
			mote_send(p, WITHDRAW, NULL, 0);
			EXPECT(got_type(WITHDRAWN));
		}
		EXPECT_EQ(mote_exit_alias(alias, mote_reason_error(EIO, "by alias")), 0);
		mote_send(p, WITHDRAW, NULL, 0);
		EXPECT(got_down(down, p, withdraw ? MOTE_NORMAL : MOTE_ERROR));
	}
	peer_stop(&b);
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(computes), ENTRY(alias_owner), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("the table of exit signals, both ways", all_rows);
	nodes_case("messages, then EXIT, then DOWN", order);
	nodes_case("kill ends what computes", kill_acts);
	nodes_case("to an alias, while it is active", to_an_alias);
	nodes_case("who gets DOWN finds the name gone", names_are_gone);
	return nodes_done();
}
