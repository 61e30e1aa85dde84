// SPDX-License-Identifier: MIT OR GPL-2.0
/* Aliases: an address that its owner can withdraw. A late reply never arrives. */
#include "proc.h"

enum { GO = 1, DATA, REPLY, STOP, READY, GOT };

static void nothing(void *arg)
{
	(void)arg;
}

static void active(void)
{
	mote_ref a = mote_alias(0);
	struct mote_msg *m;
	int n = 5;

	EXPECT(a.id);
	EXPECT_EQ(mote_send_alias(a, DATA, &n, sizeof(n)), 0);
	EXPECT_EQ(mote_send_alias(a, DATA, NULL, 0), 0);
	m = mote_receive(PATIENCE);
	if (EXPECT(m && m->type == DATA && m->size == sizeof(n))) {
		EXPECT_EQ(*(int *)m->data, 5);
		EXPECT(mote_ref_equal(mote_msg_ref(m), a));
		EXPECT(mote_pid_equal(m->from, mote_self()));
	}
	mote_msg_free(m);
	m = mote_receive_ref(a, PATIENCE);
	EXPECT(m && m->type == DATA && m->size == 0);
	mote_msg_free(m);
	EXPECT_EQ(mote_unalias(a), 1);
	EXPECT_EQ(mote_unalias(a), 0);
	mote_send(mote_self(), DATA, NULL, 0);
	m = mote_receive(PATIENCE);
	EXPECT_EQ(mote_msg_ref(m).id, 0);
	mote_msg_free(m);
}

/* By reference the first comes first, also when others have been taken from between. */
static void in_order(void)
{
	mote_ref a = mote_alias(0);
	struct mote_msg *m;

	for (int i = 0; i < 6; i++) {
		mote_send_alias(a, DATA + (i == 2), &i, sizeof(i));
		mote_send(mote_self(), GO, NULL, 0);
	}
	mote_msg_free(mote_receive_type(DATA + 1, PATIENCE));
	for (int i = 0; i < 6; i++) {
		if (i == 2)
			continue;
		m = mote_receive_ref(a, PATIENCE);
		EXPECT(m && m->type == DATA && *(int *)m->data == i);
		mote_msg_free(m);
	}
	EXPECT(!mote_receive_ref(a, MOTE_NOW));
	EXPECT_EQ(mote_errno(), -ETIMEDOUT);
	for (int i = 0; i < 6; i++)
		EXPECT(got_type(GO));
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(mote_unalias(a), 1);
}

static void withdrawn(void)
{
	mote_ref a = mote_alias(0), b = mote_alias(0);

	EXPECT(!mote_ref_equal(a, b));
	EXPECT_EQ(mote_send_alias(a, DATA, NULL, 0), 0);
	mote_yield();
	EXPECT_EQ(mote_unalias(a), 1);
	EXPECT_EQ(mote_send_alias(a, GO, NULL, 0), 0);
	EXPECT_EQ(mote_send_alias(b, STOP, NULL, 0), 0);
	/* what was in the mailbox before stays; what came after is gone */
	EXPECT(got_type(DATA));
	EXPECT(got_type(STOP));
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(mote_unalias(b), 1);
}

static void for_one_reply(void)
{
	for (int i = 0; i < 3; i++) {
		mote_ref a = mote_alias(MOTE_ALIAS_REPLY);
		struct mote_msg *m;

		EXPECT_EQ(mote_send_alias(a, DATA, NULL, 0), 0);
		EXPECT_EQ(mote_send_alias(a, REPLY, NULL, 0), 0);
		EXPECT_EQ(mote_send_alias(a, REPLY, NULL, 0), 0);
		if (i == 2)
			m = mote_receive(PATIENCE);
		else
			m = mote_receive_ref(a, PATIENCE);
		EXPECT(m && m->type == DATA);
		mote_msg_free(m);
		EXPECT(mailbox_is_empty());
		EXPECT_EQ(mote_unalias(a), 0);
		EXPECT_EQ(mote_send_alias(a, REPLY, NULL, 0), 0);
		EXPECT(mailbox_is_empty());
	}
}

static void unwanted_reply_alias(void)
{
	mote_ref a = mote_alias(MOTE_ALIAS_REPLY);

	EXPECT_EQ(mote_unalias(a), 1);
	EXPECT_EQ(mote_send_alias(a, DATA, NULL, 0), 0);
	EXPECT(mailbox_is_empty());
}

static void meddler(void *arg)
{
	mote_ref a = *(mote_ref *)arg;

	EXPECT_EQ(mote_unalias(a), 0);
	EXPECT(!mote_receive_ref(a, MOTE_NOW));
	EXPECT_EQ(mote_errno(), -EINVAL);
	mote_send_alias(a, DATA, NULL, 0);
}

static void only_the_owners(void)
{
	mote_ref a = mote_alias(0), done;
	mote_pid p = mote_spawn_monitor(meddler, &a, &done);

	EXPECT(got_down(done, p, MOTE_NORMAL));
	EXPECT(got_type(DATA));
	EXPECT_EQ(mote_unalias(a), 1);
	EXPECT_EQ(mote_unalias((mote_ref){ 123456, 7, 7, 0, 0 }), 0);
	EXPECT_EQ(mote_unalias((mote_ref){ 0, 0, 0, 0, 0 }), 0);
}

static void tell_alias(void *arg)
{
	mote_ref a = mote_alias(0);

	mote_send(*(mote_pid *)arg, DATA, &a, sizeof(a));
}

static void of_the_dead(void)
{
	mote_pid me = mote_self(), p;
	mote_ref done, a;
	struct mote_msg *m;

	p = mote_spawn_monitor(tell_alias, &me, &done);
	m = mote_receive_type(DATA, PATIENCE);
	a = *(mote_ref *)m->data;
	mote_msg_free(m);
	EXPECT(got_down(done, p, MOTE_NORMAL));
	for (int i = 0; i < 1000; i++) {
		/* new tenants of the slot must not get it */
		p = mote_spawn_monitor(nothing, NULL, &done);
		EXPECT_EQ(mote_send_alias(a, DATA, NULL, 0), 0);
		EXPECT(got_down(done, p, MOTE_NORMAL));
	}
	EXPECT_EQ(mote_send_alias((mote_ref){ 99999, 1, 1, 0, 0 }, DATA, NULL, 0), 0);
	EXPECT_EQ(mote_send_alias(a, MOTE_MSG_DOWN, NULL, 0), -EINVAL);
	EXPECT(mailbox_is_empty());
}

static void many(void)
{
	enum { N = 5000 };
	mote_ref *a = calloc(N, sizeof(*a));

	for (int i = 0; i < N; i++) {
		a[i] = mote_alias(i & 1 ? MOTE_ALIAS_REPLY : 0);
		EXPECT(a[i].id);
	}
	for (int i = 0; i < N; i++)
		mote_send_alias(a[i], (uint32_t)(i + 1), NULL, 0);
	for (int i = N - 1; i >= 0; i -= 2) {
		struct mote_msg *m = mote_receive_ref(a[i], PATIENCE);

		if (!EXPECT(m && m->type == (uint32_t)(i + 1)))
			break;
		mote_msg_free(m);
	}
	for (int i = 0; i < N; i += 2) {
		EXPECT(got_type((uint32_t)(i + 1)));
		EXPECT_EQ(mote_unalias(a[i]), 1);
	}
	EXPECT(mailbox_is_empty());
	free(a);
}

/* Sends to an alias as fast as it can, until told to stop; then says that it has. */
struct flood {
	mote_ref alias;
	mote_pid boss;
	_Atomic bool stop;
};

static void flooder(void *arg)
{
	struct flood *f = arg;

	for (uint32_t i = 0; !atomic_load(&f->stop); i++) {
		mote_send_alias(f->alias, DATA, &i, sizeof(i));
		mote_check();
	}
	mote_send(f->boss, STOP, NULL, 0);
}

static void unalias_races_send(void *arg)
{
	unsigned long n = test_rounds(300);
	uint64_t seed = test_seed(), got = 0;

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		struct flood f = { mote_alias(0), mote_self(), false };
		mote_ref done;
		mote_pid p = spawn_pinned(flooder, &f, 1, MOTE_MONITOR, &done);
		struct mote_msg *m;
		uint32_t next = 0;

		for (int j = 0; j < 4; j++)
			test_jitter(&seed);
		if (i % 3 == 0)
			mote_sleep(mote_in_us(20));
		EXPECT_EQ(mote_unalias(f.alias), 1);
		while ((m = mote_receive_type(DATA, MOTE_NOW))) {
			EXPECT_EQ(*(uint32_t *)m->data, next);
			next++;
			got++;
			mote_msg_free(m);
		}
		test_jitter(&seed);
		atomic_store(&f.stop, true);
		/* in order, per pair: nothing that was sent after the unalias may come before or after this */
		m = mote_receive(PATIENCE);
		if (!EXPECT(m && m->type == STOP)) {
			test_describe(m);
			mote_msg_free(m);
			break;
		}
		mote_msg_free(m);
		EXPECT(got_down(done, p, MOTE_NORMAL));
		if (!EXPECT(mailbox_is_empty()))
			break;
	}
	test_note("%llu messages came in time", (unsigned long long)got);
}

static void race_unalias(void)
{
	on_first_scheduler(unalias_races_send, NULL);
}

/* Answers each call after a random while: now before, now after the asker has given up. */
static void slow_answerer(void *arg)
{
	uint64_t seed = test_seed() + 21;

	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		if (m->type == GO) {
			for (uint32_t i = test_random(&seed) % 20; i; i--)
				test_spin(test_random(&seed) % 4000);
			mote_reply(mote_msg_from(m), REPLY, m->data, m->size);
		} else {
			mote_send(m->from, m->type, NULL, 0);
		}
		mote_msg_free(m);
	}
}

static void reply_races_timeout(void *arg)
{
	unsigned long n = test_rounds(30000), late = 0;
	mote_pid p = spawn_pinned(slow_answerer, NULL, 1, 0, NULL);

	(void)arg;
	for (uint32_t i = 0; i < n; i++) {
		struct mote_msg *reply = NULL;
		int err = mote_call(p, GO, &i, sizeof(i), &reply, mote_in_us(20));

		if (err == 0) {
			if (!EXPECT(reply && reply->type == REPLY && *(uint32_t *)reply->data == i))
				break;
			mote_msg_free(reply);
		} else {
			EXPECT_EQ(err, -ETIMEDOUT);
			late++;
		}
		if (i % 4 == 0 && !EXPECT(ping(p)))
			break;
		if (!EXPECT(mailbox_is_empty()))
			break;
	}
	EXPECT(ping(p));
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
	test_note("%lu of %lu calls timed out", late, n);
	put_down(p);
}

static void race_late_reply(void)
{
	on_first_scheduler(reply_races_timeout, NULL);
}

/* Tells its boss an alias, withdraws it when told so, and passes EXIT messages on. */
static void owner(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;
	mote_ref alias = mote_alias(0);

	mote_send(boss, READY, &alias, sizeof(alias));
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		const struct mote_exit_info *e = mote_msg_exit(m);

		if (e)
			mote_send(boss, GOT, &e->reason.kind, sizeof(e->reason.kind));
		else if (m->type == PING)
			mote_send(boss, PING, NULL, 0);
		else if (m->type == GO)
			EXPECT_EQ(mote_unalias(alias), 1);
		mote_msg_free(m);
	}
}

static mote_pid owner_new(unsigned int flags, mote_ref *down, mote_ref *alias)
{
	static mote_pid self;
	struct mote_msg *m;
	mote_pid p;

	self = mote_self();
	p = mote_spawn_opts(&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts), .fn = owner, .arg = &self,
		.flags = flags | MOTE_MONITOR, .ref = down });
	m = mote_receive_type(READY, PATIENCE);
	if (EXPECT(m))
		*alias = *(mote_ref *)m->data;
	mote_msg_free(m);
	return p;
}

static void exit_signals(void)
{
	struct mote_msg *m;
	mote_ref down, alias;
	mote_pid p;

	/* As to its pid: normal does nothing, others end it, kill cannot be trapped. */
	p = owner_new(0, &down, &alias);
	EXPECT_EQ(mote_exit_alias(alias, MOTE_REASON_NORMAL), 0);
	EXPECT(ping(p));
	EXPECT_EQ(mote_exit_alias(alias, mote_reason_error(EIO, "x")), 0);
	EXPECT(got_down(down, p, MOTE_ERROR));
	EXPECT_EQ(mote_exit_alias(alias, MOTE_REASON_KILL), 0);

	p = owner_new(MOTE_TRAP_EXIT, &down, &alias);
	EXPECT_EQ(mote_exit_alias(alias, MOTE_REASON_SHUTDOWN), 0);
	m = mote_receive_type(GOT, PATIENCE);
	EXPECT(m && *(uint32_t *)m->data == MOTE_SHUTDOWN);
	mote_msg_free(m);
	EXPECT_EQ(mote_exit_alias(alias, MOTE_REASON_KILL), 0);
	EXPECT(got_down(down, p, MOTE_KILLED));

	/* Withdrawn, it reaches nobody; nor does it one that is none. */
	p = owner_new(0, &down, &alias);
	mote_send(p, GO, NULL, 0);
	EXPECT(ping(p));
	EXPECT_EQ(mote_exit_alias(alias, MOTE_REASON_KILL), 0);
	alias.id++;
	EXPECT_EQ(mote_exit_alias(alias, MOTE_REASON_KILL), 0);
	alias.owner = UINT32_MAX;
	EXPECT_EQ(mote_exit_alias(alias, MOTE_REASON_KILL), 0);
	/* A monitor is no alias. */
	EXPECT_EQ(mote_exit_alias(down, MOTE_REASON_KILL), 0);
	EXPECT_EQ(mote_exit_alias((mote_ref){ 0 }, MOTE_REASON_KILL), -EINVAL);
	EXPECT_EQ(mote_exit_alias(alias, (struct mote_reason){ .kind = 99 }), -EINVAL);
	EXPECT(ping(p));
	put_down(p);
	EXPECT(got_down(down, p, MOTE_KILLED));
	EXPECT(mailbox_is_empty());
}

int main(void)
{
	selftest_process("messages to an active alias arrive and carry it", active);
	selftest_process("messages to an alias are received by reference in order", in_order);
	selftest_process("after mote_unalias nothing arrives; what is in the mailbox stays", withdrawn);
	selftest_process("a reply alias ends itself with the first message", for_one_reply);
	selftest_process("a reply alias can be withdrawn", unwanted_reply_alias);
	selftest_process("nobody else can withdraw or receive an alias", only_the_owners);
	selftest_process("messages to the alias of the dead vanish", of_the_dead);
	selftest_process("an exit signal to an alias, while it is active", exit_signals);
	selftest_process("thousands of aliases at once", many);
	selftest_process_opts("race: unalias against send: nothing afterwards", race_unalias, SCHEDULERS(2));
	selftest_process_opts("race: reply against timeout: a late reply never arrives",
			      race_late_reply, SCHEDULERS(2));
	return selftest_done();
}
