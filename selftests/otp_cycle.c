// SPDX-License-Identifier: MIT OR GPL-2.0
/* Servers that call each other in a circle, and an init that calls whoever waits for it. */
#include "proc.h"

enum { SET = 1, GO, START };

struct member {
	mote_pid next;
	mote_pid starter;
};

static int member_init(struct member *s, void *arg)
{
	s->starter = arg ? *(mote_pid *)arg : MOTE_NOBODY;
	return arg ? mote_call(s->starter, GO, NULL, 0, NULL, PATIENCE) : 0;
}

static _Atomic unsigned long told;

static const struct mote_server_ops *member_ops(void);

static void member_call(struct member *s, struct mote_from from, const struct mote_msg *m)
{
	mote_pid self = mote_self(), pid = MOTE_NOBODY;
	int err = 0;

	if (m->type == SET)
		s->next = *(mote_pid *)m->data;
	else if (m->type == START)
		err = mote_server_start(member_ops(), &self, NULL, &pid);
	else if (mote_pid_valid(s->next))
		err = mote_call(s->next, GO, NULL, 0, NULL, PATIENCE);
	if (err == -EDEADLK && m->type == GO)
		atomic_fetch_add(&told, 1);
	mote_reply(from, m->type, &err, sizeof(err));
}

MOTE_SERVER(member, struct member, .init = member_init, .handle_call = member_call);

static const struct mote_server_ops *member_ops(void)
{
	return &member.ops;
}

static int ask(mote_pid pid, uint32_t type, const void *data, size_t size)
{
	struct mote_msg *reply = NULL;
	int err = mote_call(pid, type, data, size, &reply, PATIENCE);

	if (!err)
		err = *(int *)reply->data;
	mote_msg_free(reply);
	return err;
}

static mote_pid member_new(void)
{
	mote_pid pid = MOTE_NOBODY;

	EXPECT_EQ(mote_server_start_link(&member.ops, NULL, NULL, &pid), 0);
	return pid;
}

/* Each time somebody is told, and answers nonetheless: so all go on. */
static void rounds(mote_pid a, mote_pid b)
{
	for (unsigned long i = 1; i <= 100; i++) {
		int err;

		atomic_store(&told, 0);
		err = ask(i & 1 ? a : b, GO, NULL, 0);
		EXPECT(err == 0 || err == -EDEADLK);
		EXPECT(atomic_load(&told) >= 1);
	}
}

static void each_other(void)
{
	mote_pid a = member_new(), b = member_new(), c = member_new();

	EXPECT_EQ(ask(a, SET, &b, sizeof(b)), 0);
	EXPECT_EQ(ask(b, SET, &a, sizeof(a)), 0);
	rounds(a, b);
	EXPECT_EQ(ask(b, SET, &c, sizeof(c)), 0);
	EXPECT_EQ(ask(c, SET, &a, sizeof(a)), 0);
	rounds(a, b);
}

/* The starter waits for init, init for the starter: one of the two is told, and the start fails either way. */
static void init_calls_its_starter(void)
{
	mote_pid a = member_new();

	for (unsigned long i = test_rounds(500); i; i--)
		EXPECT_EQ(ask(a, START, NULL, 0), -EDEADLK);
	EXPECT_EQ(ask(a, GO, NULL, 0), 0);
}

int main(void)
{
	selftest_process("servers that call each other", each_other);
	selftest_process_opts("an init that calls its starter", init_calls_its_starter, SCHEDULERS(2));
	return selftest_done();
}
