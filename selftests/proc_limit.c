// SPDX-License-Identifier: MIT OR GPL-2.0
/* Mailboxes with a limit: what counts, what each policy does, and that no wake-up is lost. */
#include "proc.h"

#include <pthread.h>

enum { DATA = 1, TAKE, TAKEN, ANSWER_ALL, ASK, CLOCK, STOP };

#define OPTS(...) (&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts), __VA_ARGS__ })

/* A receiver that takes messages only when it is told to, by an alias, which passes by its limit. */
struct keeper {
	mote_pid pid, owner;
	mote_ref door, monitor;
	_Atomic bool open;
	uint64_t taken[64];		/* the first eight bytes of each DATA */
	_Atomic uint32_t n;
};

static void keeper_take(struct keeper *k, uint32_t type)
{
	struct mote_msg *m = mote_receive_type(type == ASK ? ASK : DATA, PATIENCE);

	if (!EXPECT(m))
		return;
	if (type == ASK)
		mote_reply(mote_msg_from(m), ANSWER_ALL, NULL, 0);
	else
		k->taken[atomic_load(&k->n) % 64] = m->size == 8 ? *(uint64_t *)m->data : 0;
	atomic_fetch_add(&k->n, 1);
	mote_msg_free(m);
}

static void keeper_main(void *arg)
{
	struct keeper *k = arg;

	k->door = mote_alias(0);
	atomic_store(&k->open, true);
	for (;;) {
		struct mote_msg *m = mote_receive_ref(k->door, MOTE_FOREVER);
		uint32_t type = m->type, n = m->size == 4 ? *(uint32_t *)m->data : 0;

		mote_msg_free(m);
		if (type == STOP)
			return;
		while (n--)
			keeper_take(k, type == ANSWER_ALL ? ASK : DATA);
		mote_send(k->owner, TAKEN, NULL, 0);
	}
}

static bool keeper_start_as(struct keeper *k, size_t limit, int policy, unsigned int flags, const char *name)
{
	*k = (struct keeper){ .owner = mote_self() };
	k->pid = mote_spawn_opts(OPTS(.fn = keeper_main, .arg = k, .mailbox_limit = limit, .name = name,
				      .mailbox_policy = (unsigned int)policy, .flags = flags | MOTE_MONITOR,
				      .ref = &k->monitor));
	if (!EXPECT(mote_pid_valid(k->pid)))
		return false;
	while (!atomic_load(&k->open))
		mote_yield();
	return true;
}

static bool keeper_start(struct keeper *k, size_t limit, int policy)
{
	return keeper_start_as(k, limit, policy, 0, NULL);
}

/* The keeper takes n DATA (or answers n requests), and has done so on return. */
static void keeper_do(struct keeper *k, uint32_t what, uint32_t n)
{
	struct mote_msg *m;

	EXPECT_EQ(mote_send_alias(k->door, what, &n, sizeof(n)), 0);
	m = mote_receive_type(TAKEN, PATIENCE);
	EXPECT(m != NULL);
	mote_msg_free(m);
}

static void keeper_stop(struct keeper *k)
{
	EXPECT_EQ(mote_send_alias(k->door, STOP, NULL, 0), 0);
	EXPECT(got_down(k->monitor, k->pid, MOTE_NORMAL));
}

static int put(mote_pid to, uint64_t value)
{
	return mote_send(to, DATA, &value, sizeof(value));
}

static void wait_for_waiters(mote_pid pid, uint64_t n)
{
	while (test_info(pid).mailbox_waiting != n)
		mote_yield();
}

static struct mote_runtime_info totals(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	EXPECT_EQ(mote_runtime_info(&info), 0);
	return info;
}

static void no_limit(void)
{
	mote_pid p = mote_spawn(sink, NULL);
	struct mote_process_info info;

	EXPECT_EQ(mote_send_until(p, DATA, NULL, 0, MOTE_NOW), 0);
	EXPECT_EQ(mote_send_msg_until(p, mote_msg_new(DATA, 8), MOTE_NOW), 0);
	info = test_info(p);
	EXPECT_EQ(info.mailbox_limit, 0);
	EXPECT_EQ(info.mailbox_policy, 0);
	EXPECT_EQ(info.mailbox_counted, 0);
	put_down(p);
	EXPECT_EQ(mote_send_until(p, DATA, NULL, 0, MOTE_NOW), 0);
	EXPECT_EQ(mote_send_msg_until(p, mote_msg_new(DATA, 8), MOTE_NOW), 0);
	EXPECT_EQ(mote_send_until(p, MOTE_MSG_RESERVED, NULL, 0, MOTE_NOW), -EINVAL);
}

static void dropped(void)
{
	struct keeper k;
	struct mote_msg *m;
	mote_ref ref;

	if (!keeper_start_as(&k, 3, MOTE_MAILBOX_DROP, 0, "limit.drop"))
		return;
	for (uint64_t i = 1; i <= 3; i++)
		EXPECT_EQ(put(k.pid, i), 0);
	EXPECT_EQ(put(k.pid, 99), -ENOBUFS);
	EXPECT_EQ(mote_send_name("limit.drop", DATA, NULL, 0), -ENOBUFS);
	EXPECT_EQ(mote_send_until(k.pid, DATA, NULL, 0, PATIENCE), -ENOBUFS);
	EXPECT_EQ(mote_send_msg(k.pid, mote_msg_new(DATA, 8)), -ENOBUFS);
	EXPECT_EQ(mote_call(k.pid, ASK, NULL, 0, NULL, PATIENCE), -ENOBUFS);
	ref = mote_request(k.pid, ASK, NULL, 0);
	EXPECT(!ref.id);
	EXPECT_EQ(mote_errno(), -ENOBUFS);
	ref = mote_request_msg(k.pid, mote_msg_new(ASK, 0));
	EXPECT(!ref.id);
	EXPECT_EQ(mote_errno(), -ENOBUFS);
	/* What was refused is still the sender's, whole. */
	m = mote_msg_new(DATA, 8);
	*(uint64_t *)m->data = 4;
	EXPECT_EQ(mote_send_msg_until(k.pid, m, PATIENCE), -ENOBUFS);
	EXPECT_EQ(*(uint64_t *)m->data, 4);
	EXPECT_EQ(test_info(k.pid).mailbox_counted, 3);
	EXPECT_EQ(test_info(k.pid).mailbox_refused, 8);
	EXPECT_EQ(totals().mailbox_refused, 8);
	keeper_do(&k, TAKE, 1);
	EXPECT_EQ(test_info(k.pid).mailbox_counted, 2);
	EXPECT_EQ(mote_send_msg_until(k.pid, m, PATIENCE), 0);
	EXPECT_EQ(put(k.pid, 99), -ENOBUFS);
	keeper_do(&k, TAKE, 3);
	for (uint64_t i = 0; i < 4; i++)
		EXPECT_EQ(k.taken[i], i + 1);
	EXPECT_EQ(test_info(k.pid).mailbox_counted, 0);
	EXPECT_EQ(test_info(k.pid).mailbox, 0);
	EXPECT_EQ(test_info(k.pid).mailbox_limit, 3);
	EXPECT_EQ(test_info(k.pid).mailbox_policy, MOTE_MAILBOX_DROP);
	keeper_stop(&k);
	EXPECT_EQ(put(k.pid, 1), 0);
}

static void to_itself(void *arg)
{
	int policy = *(int *)arg;
	int want = policy == MOTE_MAILBOX_DROP ? -ENOBUFS : -EDEADLK;
	mote_pid self = mote_self();
	struct mote_msg *m;

	EXPECT_EQ(put(self, 1), 0);
	EXPECT_EQ(put(self, 2), 0);
	EXPECT_EQ(put(self, 3), want);
	EXPECT_EQ(mote_send_until(self, DATA, NULL, 0, PATIENCE), want);
	m = mote_msg_new(DATA, 8);
	EXPECT_EQ(mote_send_msg_until(self, m, PATIENCE), want);
	EXPECT(!mote_request(self, DATA, NULL, 0).id);
	EXPECT_EQ(mote_errno(), want);
	EXPECT_EQ(mote_call(self, DATA, NULL, 0, NULL, PATIENCE), -EDEADLK);
	EXPECT(got_type(DATA));
	EXPECT_EQ(mote_send_msg_until(self, m, PATIENCE), 0);
	EXPECT(got_type(DATA));
	EXPECT(got_type(DATA));
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(self).mailbox_counted, 0);
}

static void oneself(void)
{
	int policies[] = { MOTE_MAILBOX_BLOCK, MOTE_MAILBOX_DROP };
	mote_ref ref;

	for (int i = 0; i < 2; i++) {
		mote_pid p = mote_spawn_opts(OPTS(.fn = to_itself, .arg = &policies[i], .mailbox_limit = 2,
						  .mailbox_policy = (unsigned int)policies[i], .flags = MOTE_MONITOR,
						  .ref = &ref));

		EXPECT(got_down(ref, p, MOTE_NORMAL));
	}
}

struct foreign {
	mote_pid to;
	int want;
	pthread_t thread;
};

static void *foreign_main(void *arg)
{
	struct foreign *f = arg;
	struct mote_msg *m = mote_msg_new(DATA, 8);

	EXPECT_EQ(put(f->to, 1), f->want);
	EXPECT_EQ(mote_send_until(f->to, DATA, NULL, 0, PATIENCE), f->want);
	EXPECT_EQ(mote_send_msg_until(f->to, m, PATIENCE), f->want);
	if (f->want)
		mote_msg_free(m);
	EXPECT_EQ(mote_send_msg(f->to, mote_msg_new(DATA, 8)), f->want);
	return NULL;
}

static int64_t foreign_join(void *arg)
{
	return pthread_join(((struct foreign *)arg)->thread, NULL);
}

static void foreign_put(mote_pid to, int want)
{
	struct foreign f = { .to = to, .want = want };

	pthread_create(&f.thread, NULL, foreign_main, &f);
	EXPECT_EQ(mote_blocking(foreign_join, &f, NULL, MOTE_FOREVER), 0);
}

static void foreigners(void)
{
	struct keeper k;

	for (int policy = MOTE_MAILBOX_BLOCK; policy <= MOTE_MAILBOX_DROP; policy++) {
		if (!keeper_start(&k, 5, policy))
			return;
		foreign_put(k.pid, 0);
		EXPECT_EQ(put(k.pid, 1), 0);
		foreign_put(k.pid, policy == MOTE_MAILBOX_BLOCK ? -EAGAIN : -ENOBUFS);
		EXPECT_EQ(test_info(k.pid).mailbox_refused, 4);
		EXPECT_EQ(test_info(k.pid).mailbox_waits, 0);
		keeper_do(&k, TAKE, 5);
		foreign_put(k.pid, 0);
		keeper_stop(&k);
	}
	if (!keeper_start(&k, 5, MOTE_MAILBOX_KILL))
		return;
	foreign_put(k.pid, 0);
	foreign_put(k.pid, 0);
	EXPECT(got_down(k.monitor, k.pid, MOTE_ERROR));
}

/* Each of these sends one message that has to wait, and says what came of it. */
struct blocked {
	mote_pid to, pid;
	mote_ref monitor;
	int how, err;
	uint64_t value;
	mote_deadline deadline;
	_Atomic bool done;
};

enum { BY_PID, BY_NAME, BY_UNTIL, BY_MSG, BY_MSG_UNTIL, BY_CALL, BY_REQUEST, WAYS };

static void blocked_main(void *arg)
{
	struct blocked *b = arg;
	struct mote_msg *m = NULL;
	mote_ref ref;

	if (b->how == BY_MSG || b->how == BY_MSG_UNTIL) {
		m = mote_msg_new(DATA, sizeof(b->value));
		memcpy(m->data, &b->value, sizeof(b->value));
	}
	switch (b->how) {
	case BY_PID:
		b->err = put(b->to, b->value);
		break;
	case BY_NAME:
		b->err = mote_send_name("limit.block", DATA, &b->value, sizeof(b->value));
		break;
	case BY_UNTIL:
		b->err = mote_send_until(b->to, DATA, &b->value, sizeof(b->value), b->deadline);
		break;
	case BY_MSG:
		b->err = mote_send_msg(b->to, m);
		break;
	case BY_MSG_UNTIL:
		b->err = mote_send_msg_until(b->to, m, b->deadline);
		if (b->err) {
			EXPECT_EQ(*(uint64_t *)m->data, b->value);
			mote_msg_free(m);
		}
		break;
	case BY_CALL:
		b->err = mote_call(b->to, ASK, NULL, 0, NULL, b->deadline);
		break;
	case BY_REQUEST:
		ref = mote_request(b->to, ASK, NULL, 0);
		b->err = ref.id ? 0 : mote_errno();
		if (ref.id) {
			m = mote_receive_ref(ref, PATIENCE);
			if (m && mote_msg_down(m))
				b->err = mote_msg_down(m)->reason.kind == MOTE_NOPROC ? -ESRCH : -EPIPE;
			mote_msg_free(m);
		}
		break;
	}
	atomic_store(&b->done, true);
}

static void blocked_start(struct blocked *b, mote_pid to, int how, uint64_t value, mote_deadline deadline)
{
	*b = (struct blocked){ .to = to, .how = how, .value = value, .deadline = deadline, .err = 1 };
	b->pid = mote_spawn_monitor(blocked_main, b, &b->monitor);
}

/* Ended, of itself, with this result. */
static void blocked_join(struct blocked *b, int err)
{
	EXPECT(got_down(b->monitor, b->pid, MOTE_NORMAL));
	EXPECT(atomic_load(&b->done));
	if (b->err != err)
		test_note("sent by way %d", b->how);
	EXPECT_EQ(b->err, err);
}

static void blocks(void)
{
	struct blocked b[WAYS];
	struct keeper k;

	if (!keeper_start_as(&k, 2, MOTE_MAILBOX_BLOCK, 0, "limit.block"))
		return;
	EXPECT_EQ(put(k.pid, 1), 0);
	EXPECT_EQ(put(k.pid, 2), 0);
	/* One after the other, so that their order is known: it is the order in which they get room. */
	for (int i = 0; i < WAYS; i++) {
		blocked_start(&b[i], k.pid, i, 10 + (uint64_t)i, PATIENCE);
		wait_for_waiters(k.pid, (uint64_t)i + 1);
		while (test_info(b[i].pid).wait != MOTE_WAIT_ROOM)
			mote_yield();
		EXPECT_EQ(test_info(b[i].pid).state, MOTE_WAITING);
	}
	EXPECT_EQ(test_info(k.pid).mailbox_waits, WAYS);
	EXPECT_EQ(test_info(k.pid).mailbox_counted, 2);
	EXPECT_EQ(mote_send_until(k.pid, DATA, NULL, 0, MOTE_NOW), -ETIMEDOUT);
	EXPECT_EQ(mote_send_until(k.pid, DATA, NULL, 0, mote_in_ms(2)), -ETIMEDOUT);
	EXPECT_EQ(mote_call(k.pid, ASK, NULL, 0, NULL, mote_in_ms(2)), -ETIMEDOUT);
	keeper_do(&k, TAKE, 1);
	blocked_join(&b[BY_PID], 0);
	wait_for_waiters(k.pid, WAYS - 1);
	EXPECT_EQ(test_info(k.pid).mailbox_counted, 2);
	for (int i = BY_PID; i < BY_MSG_UNTIL; i++) {
		keeper_do(&k, TAKE, 1);
		blocked_join(&b[i + 1], 0);
	}
	keeper_do(&k, TAKE, 2);
	keeper_do(&k, ANSWER_ALL, 2);
	blocked_join(&b[BY_CALL], 0);
	blocked_join(&b[BY_REQUEST], 0);
	EXPECT_EQ(k.taken[0], 1);
	EXPECT_EQ(k.taken[1], 2);
	for (uint64_t i = BY_PID; i <= BY_MSG_UNTIL; i++)
		EXPECT_EQ(k.taken[2 + i], 10 + i);
	EXPECT_EQ(test_info(k.pid).mailbox_counted, 0);
	EXPECT_EQ(test_info(k.pid).mailbox_waiting, 0);
	EXPECT_EQ(test_info(k.pid).mailbox_refused, 3);
	EXPECT_EQ(totals().mailbox_waits, WAYS + 2);
	keeper_stop(&k);
}

static void timeouts(void)
{
	struct blocked b[WAYS];
	struct keeper k;

	if (!keeper_start(&k, 1, MOTE_MAILBOX_BLOCK))
		return;
	EXPECT_EQ(put(k.pid, 1), 0);
	blocked_start(&b[BY_UNTIL], k.pid, BY_UNTIL, 2, mote_in_ms(20));
	blocked_start(&b[BY_MSG_UNTIL], k.pid, BY_MSG_UNTIL, 3, mote_in_ms(10));
	blocked_start(&b[BY_CALL], k.pid, BY_CALL, 4, mote_in_ms(15));
	blocked_start(&b[BY_PID], k.pid, BY_PID, 5, MOTE_FOREVER);
	blocked_join(&b[BY_UNTIL], -ETIMEDOUT);
	blocked_join(&b[BY_MSG_UNTIL], -ETIMEDOUT);
	blocked_join(&b[BY_CALL], -ETIMEDOUT);
	wait_for_waiters(k.pid, 1);
	EXPECT(!atomic_load(&b[BY_PID].done));
	keeper_do(&k, TAKE, 2);
	blocked_join(&b[BY_PID], 0);
	EXPECT_EQ(k.taken[1], 5);
	EXPECT_EQ(test_info(k.pid).mailbox_counted, 0);
	EXPECT_EQ(test_info(k.pid).mailbox_refused, 3);
	keeper_stop(&k);
}

static void killed_while_waiting(void)
{
	struct blocked b[4];
	struct keeper k;

	for (int how = 0; how < WAYS; how++) {
		if (how == BY_NAME)
			continue;
		if (!keeper_start(&k, 1, MOTE_MAILBOX_BLOCK))
			return;
		EXPECT_EQ(put(k.pid, 1), 0);
		for (int i = 0; i < 4; i++) {
			blocked_start(&b[i], k.pid, i == 1 || i == 2 ? how : BY_PID, 10 + (uint64_t)i, PATIENCE);
			wait_for_waiters(k.pid, (uint64_t)i + 1);
		}
		for (int i = 1; i < 3; i++) {
			mote_exit_pid(b[i].pid, MOTE_REASON_KILL);
			EXPECT(got_down(b[i].monitor, b[i].pid, MOTE_KILLED));
			EXPECT(!atomic_load(&b[i].done));
		}
		EXPECT_EQ(test_info(k.pid).mailbox_waiting, 2);
		keeper_do(&k, TAKE, 3);
		blocked_join(&b[0], 0);
		blocked_join(&b[3], 0);
		EXPECT_EQ(k.taken[1], 10);
		EXPECT_EQ(k.taken[2], 13);
		EXPECT_EQ(test_info(k.pid).mailbox_counted, 0);
		EXPECT_EQ(test_info(k.pid).mailbox, 0);
		keeper_stop(&k);
	}
}

static void receiver_dies(void)
{
	struct blocked b[WAYS], asker;
	struct keeper k;

	if (!keeper_start_as(&k, 2, MOTE_MAILBOX_BLOCK, 0, "limit.block"))
		return;
	EXPECT_EQ(put(k.pid, 1), 0);
	blocked_start(&asker, k.pid, BY_CALL, 2, PATIENCE);
	while (test_info(k.pid).mailbox_counted != 2)
		mote_yield();
	for (int i = 0; i < WAYS; i++)
		blocked_start(&b[i], k.pid, i, 2, PATIENCE);
	wait_for_waiters(k.pid, WAYS);
	mote_exit_pid(k.pid, MOTE_REASON_KILL);
	EXPECT(got_down(k.monitor, k.pid, MOTE_KILLED));
	for (int i = 0; i < WAYS; i++)
		blocked_join(&b[i], i == BY_CALL || i == BY_REQUEST ? -ESRCH : 0);
	/* This one had room: its request was there, and is refused. */
	blocked_join(&asker, -EPIPE);
}

static bool is_overflow(const struct mote_reason *r)
{
	return r->kind == MOTE_ERROR && r->code == ENOBUFS && r->size == strlen("mailbox limit reached") &&
	       !memcmp(r->data, "mailbox limit reached", r->size);
}

static void kills(void)
{
	struct mote_msg *m;
	struct keeper k;

	/* Not to be trapped; the reason says what it was, also to who is linked. */
	mote_trap_exit(true);
	for (int how = 0; how < WAYS; how++) {
		struct blocked b;

		if (!keeper_start_as(&k, 2, MOTE_MAILBOX_KILL, MOTE_TRAP_EXIT | MOTE_LINK, "limit.block"))
			return;
		EXPECT_EQ(put(k.pid, 1), 0);
		EXPECT_EQ(put(k.pid, 2), 0);
		EXPECT_EQ(test_info(k.pid).mailbox_counted, 2);
		blocked_start(&b, k.pid, how, 3, PATIENCE);
		blocked_join(&b, how == BY_CALL || how == BY_REQUEST ? -EPIPE : 0);
		m = mote_receive_ref(k.monitor, PATIENCE);
		EXPECT(is_down(m, k.monitor, k.pid, MOTE_ERROR) && is_overflow(&mote_msg_down(m)->reason));
		mote_msg_free(m);
		m = mote_receive_type(MOTE_MSG_EXIT, PATIENCE);
		EXPECT(is_exit(m, k.pid, MOTE_ERROR) && is_overflow(&mote_msg_exit(m)->reason));
		mote_msg_free(m);
		EXPECT_EQ(put(k.pid, 4), 0);
	}
	mote_trap_exit(false);
	EXPECT_EQ(totals().mailbox_kills, WAYS);
}

static _Atomic bool begun, go_on;

static void computes(void *arg)
{
	(void)arg;
	atomic_store(&begun, true);
	while (!atomic_load(&go_on))
		test_spin(1000);
	mote_check();
	selftest_complain(__FILE__, __LINE__, "a process of policy KILL ends");
}

/* It does not notice, and all the same no more than its limit is queued for it. */
static void kills_who_does_not_notice(void)
{
	struct mote_msg *m;
	mote_ref ref, call;
	mote_pid p;

	if (test_one_thread())
		return;
	atomic_store(&begun, false);
	atomic_store(&go_on, false);
	p = mote_spawn_opts(OPTS(.fn = computes, .flags = MOTE_PINNED | MOTE_MONITOR, .scheduler = 1, .ref = &ref,
				 .mailbox_limit = 10, .mailbox_policy = MOTE_MAILBOX_KILL));
	while (!atomic_load(&begun))
		mote_yield();
	for (uint64_t i = 0; i < 1000; i++)
		EXPECT_EQ(put(p, i), 0);
	EXPECT_EQ(test_info(p).mailbox_counted, 10);
	EXPECT(test_info(p).mailbox <= 11);	/* and its end */
	EXPECT_EQ(mote_call(p, ASK, NULL, 0, NULL, PATIENCE), -EPIPE);
	call = mote_request(p, ASK, NULL, 0);
	m = mote_receive_ref(call, PATIENCE);
	EXPECT(is_down(m, call, p, MOTE_ERROR) && is_overflow(&mote_msg_down(m)->reason));
	mote_msg_free(m);
	EXPECT(mote_alive(p));
	atomic_store(&go_on, true);
	EXPECT(got_down(ref, p, MOTE_ERROR));
}

static void fills_itself(void *arg)
{
	(void)arg;
	for (uint64_t i = 0; i < 3; i++)
		EXPECT_EQ(put(mote_self(), i), 0);
	put(mote_self(), 3);
	selftest_complain(__FILE__, __LINE__, "a process of policy KILL ends");
}

static void kills_itself(void)
{
	struct mote_msg *m;
	mote_ref ref;
	mote_pid p = mote_spawn_opts(OPTS(.fn = fills_itself, .flags = MOTE_MONITOR | MOTE_TRAP_EXIT, .ref = &ref,
					  .mailbox_limit = 3, .mailbox_policy = MOTE_MAILBOX_KILL));

	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(is_down(m, ref, p, MOTE_ERROR) && is_overflow(&mote_msg_down(m)->reason));
	mote_msg_free(m);
}

/* Everything but plain messages and requests, into a mailbox that is full: in order, and in time. */
static void listens(void *arg)
{
	mote_pid quiet = mote_spawn(sink, NULL), helper = mote_spawn(mirror, NULL), self = mote_self();
	mote_ref alias = mote_alias(0), down = mote_monitor(quiet), once;
	uint64_t value = 7, refused;
	struct mote_msg *m;

	(void)arg;
	mote_trap_exit(true);
	EXPECT_EQ(put(self, 1), 0);
	EXPECT(put(self, 1) < 0);
	/* timers */
	mote_send_after(MOTE_NOW, self, CLOCK, &value, sizeof(value));
	EXPECT(got_type(DATA));
	EXPECT(got_type(CLOCK));
	EXPECT_EQ(put(self, 1), 0);
	mote_send_after(mote_in_ms(1), self, CLOCK, &value, sizeof(value));
	m = mote_receive_type(CLOCK, PATIENCE);
	EXPECT(m != NULL);
	mote_msg_free(m);
	/* aliases */
	EXPECT_EQ(mote_send_alias(alias, ASK, NULL, 0), 0);
	m = mote_receive_ref(alias, PATIENCE);
	EXPECT(m != NULL);
	mote_msg_free(m);
	/* EXIT, DOWN */
	mote_link(quiet);
	mote_exit_pid(quiet, MOTE_REASON_SHUTDOWN);
	EXPECT(got_down(down, quiet, MOTE_SHUTDOWN));
	EXPECT(got_exit(quiet, MOTE_SHUTDOWN));
	once = mote_monitor(quiet);
	EXPECT(got_down(once, quiet, MOTE_NOPROC));
	/* plain messages of others do not */
	refused = test_info(self).mailbox_refused;
	EXPECT_EQ(mote_send(helper, DATA, NULL, 0), 0);
	while (!test_info(self).mailbox_waiting && test_info(self).mailbox_refused == refused)
		mote_yield();
	EXPECT_EQ(test_info(self).mailbox_counted, 1);
	EXPECT(got_type(DATA));
	if (test_info(self).mailbox_policy == MOTE_MAILBOX_BLOCK)
		EXPECT(got_type(DATA));
	EXPECT(mailbox_is_empty());
	put_down(helper);
}

static void what_passes(void)
{
	mote_ref ref;

	for (int policy = MOTE_MAILBOX_BLOCK; policy <= MOTE_MAILBOX_DROP; policy++) {
		mote_pid p = mote_spawn_opts(OPTS(.fn = listens, .mailbox_limit = 1, .flags = MOTE_MONITOR, .ref = &ref,
						  .mailbox_policy = (unsigned int)policy));

		EXPECT(got_down(ref, p, MOTE_NORMAL));
	}
}

static void answering(void *state, struct mote_from from, const struct mote_msg *m)
{
	(void)state;
	mote_reply(from, m->type, m->data, m->size);
}

static const struct mote_handler_ops answerer = { .size = sizeof(answerer), .call = answering };

/* A slow client: asks a lot, and has a full mailbox. */
static void slow_client(void *arg)
{
	mote_pid server = *(mote_pid *)arg, self = mote_self();
	mote_ref refs[64];
	struct mote_msg *m;

	while (mote_send_until(self, DATA, NULL, 0, MOTE_NOW) == 0)
		;
	for (int i = 0; i < 64; i++)
		refs[i] = mote_request(server, ASK, &i, sizeof(i));
	/* The server has answered all of them as soon as it answers somebody else. */
	EXPECT_EQ(mote_call(server, ASK, NULL, 0, NULL, PATIENCE), 0);
	while (test_info(server).wait != MOTE_WAIT_MESSAGE)
		mote_yield();
	for (int i = 63; i >= 0; i--) {
		m = mote_receive_ref(refs[i], PATIENCE);
		EXPECT(m && m->type == ASK && *(int *)m->data == i);
		mote_msg_free(m);
	}
}

static void slow_clients(void)
{
	mote_pid server = mote_spawn_opts(OPTS(.handler = &answerer, .mailbox_limit = 5)), p;
	mote_ref ref;

	for (int policy = MOTE_MAILBOX_BLOCK; policy <= MOTE_MAILBOX_DROP; policy++) {
		p = mote_spawn_opts(OPTS(.fn = slow_client, .arg = &server, .mailbox_limit = 2, .ref = &ref,
					 .mailbox_policy = (unsigned int)policy, .flags = MOTE_MONITOR));
		EXPECT(got_down(ref, p, MOTE_NORMAL));
	}
	EXPECT_EQ(test_info(server).mailbox_counted, 0);
	put_down(server);
}

static mote_pid peers[2];
static _Atomic bool peers_known;
static int peer_errs[2];
static mote_deadline peer_deadlines[2];

static void peer(void *arg)
{
	int me = *(int *)arg, err;

	while (!atomic_load(&peers_known))
		mote_yield();
	/* Until the other's mailbox is full: then each waits for the other. */
	do
		err = mote_send_until(peers[1 - me], DATA, NULL, 0, peer_deadlines[me]);
	while (!err && mote_alive(peers[1 - me]));
	peer_errs[me] = err;
}

static void two_full(void)
{
	static int index[2] = { 0, 1 };
	mote_ref refs[2];

	for (int both = 0; both < 2; both++) {
		atomic_store(&peers_known, false);
		peer_deadlines[0] = mote_in_ms(20);
		peer_deadlines[1] = both ? mote_in_ms(20) : MOTE_FOREVER;
		for (int i = 0; i < 2; i++) {
			peers[i] = mote_spawn_opts(OPTS(.fn = peer, .arg = &index[i], .mailbox_limit = 4,
							.flags = MOTE_MONITOR, .ref = &refs[i]));
		}
		atomic_store(&peers_known, true);
		/* Who gives up first ends, and with that the other's wait. */
		for (int i = 0; i < 2; i++)
			EXPECT(got_down(refs[i], peers[i], MOTE_NORMAL));
		EXPECT(peer_errs[0] == -ETIMEDOUT || (both && peer_errs[1] == -ETIMEDOUT));
		EXPECT(both || peer_errs[1] == 0);
	}
}

static struct {
	struct keeper *k;
	int first, second, third;
} cleanup;

static void at_the_end(void *arg)
{
	(void)arg;
	cleanup.first = put(cleanup.k->pid, 5);
	cleanup.second = mote_send_until(cleanup.k->pid, DATA, NULL, 0, mote_in_ms(5));
	mote_send_alias(cleanup.k->door, TAKE, &(uint32_t){ 1 }, 4);
	cleanup.third = mote_send_until(cleanup.k->pid, DATA, NULL, 0, mote_in_ms(4000));
}

static void ends(void *arg)
{
	(void)arg;
	mote_defer(at_the_end, NULL);
}

static void in_cleanups(void)
{
	struct keeper k;
	mote_ref ref;
	mote_pid p;

	if (!keeper_start(&k, 1, MOTE_MAILBOX_BLOCK))
		return;
	EXPECT_EQ(put(k.pid, 1), 0);
	cleanup.k = &k;
	p = mote_spawn_monitor(ends, NULL, &ref);
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	EXPECT(got_type(TAKEN));
	EXPECT_EQ(cleanup.first, -ECANCELED);
	EXPECT_EQ(cleanup.second, -ETIMEDOUT);
	EXPECT_EQ(cleanup.third, 0);
	EXPECT_EQ(test_info(k.pid).mailbox_refused, 2);
	keeper_stop(&k);
}

/* The pid of a dead process, whose slot somebody with a full mailbox has now. */
static void slot_used_again(void)
{
	struct keeper k, full;
	unsigned long tries = 0;

	if (!keeper_start(&k, 1, MOTE_MAILBOX_BLOCK))
		return;
	keeper_stop(&k);
	do {
		if (!keeper_start(&full, 1, MOTE_MAILBOX_BLOCK))
			return;
		if (full.pid.slot != k.pid.slot)
			keeper_stop(&full);
	} while (full.pid.slot != k.pid.slot && ++tries < 10000);
	if (full.pid.slot != k.pid.slot) {
		selftest_skip("the slot was not used again");
		return;
	}
	EXPECT_EQ(put(full.pid, 1), 0);
	for (int i = 0; i < 100; i++) {
		EXPECT_EQ(put(k.pid, 2), 0);
		EXPECT_EQ(mote_send_msg(k.pid, mote_msg_new(DATA, 8)), 0);
		EXPECT_EQ(mote_call(k.pid, ASK, NULL, 0, NULL, PATIENCE), -ESRCH);
	}
	EXPECT_EQ(test_info(full.pid).mailbox_waits, 0);
	EXPECT_EQ(test_info(full.pid).mailbox_refused, 0);
	EXPECT_EQ(test_info(full.pid).mailbox_counted, 1);
	keeper_do(&full, TAKE, 1);
	EXPECT_EQ(test_info(full.pid).mailbox_counted, 0);
	keeper_stop(&full);
}

#define SENDERS 8

struct numbered {
	uint32_t sender, n;
};

static struct {
	mote_pid to;
	uint32_t count, max;
	bool jitter;
	_Atomic uint32_t failed;
} flow;

static void flows(void *arg)
{
	struct numbered d = { *(uint32_t *)arg, 0 };
	uint64_t seed = test_seed() + d.sender;
	int err;

	for (; d.n < flow.count; d.n++) {
		switch (flow.jitter ? test_random(&seed) % 5 : 0) {
		case 1: {
			struct mote_msg *m = mote_msg_new(DATA, sizeof(d));

			memcpy(m->data, &d, sizeof(d));
			err = mote_send_msg(flow.to, m);
			break;
		}
		case 2:
			do
				err = mote_send_until(flow.to, DATA, &d, sizeof(d), mote_in_us(test_random(&seed) % 50));
			while (err == -ETIMEDOUT);
			break;
		case 3:
			test_jitter(&seed);
			/* fall through */
		default:
			err = mote_send(flow.to, DATA, &d, sizeof(d));
			break;
		}
		if (err)
			atomic_fetch_add(&flow.failed, 1);
	}
}

static void takes_all(void *arg)
{
	uint32_t next[SENDERS] = { 0 }, senders = *(uint32_t *)arg, wrong = 0, over = 0;
	uint64_t seed = test_seed();

	for (uint32_t i = 0; i < senders * flow.count; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);
		struct numbered *d = m ? m->data : NULL;

		if (!EXPECT(d)) {
			struct mote_process_info info = test_info(mote_self());

			test_note("counted %llu, waiting %llu", (unsigned long long)info.mailbox_counted,
				  (unsigned long long)info.mailbox_waiting);
			return;
		}
		if (d->sender >= SENDERS || d->n != next[d->sender]++)
			wrong++;
		mote_msg_free(m);
		if (!(i % 64) && test_info(mote_self()).mailbox_counted > flow.max)
			over++;
		if (flow.jitter && !(i % 16))
			test_jitter(&seed);
	}
	EXPECT_EQ(wrong, 0);
	EXPECT_EQ(over, 0);
	EXPECT_EQ(test_info(mote_self()).mailbox_counted, 0);
	EXPECT_EQ(test_info(mote_self()).mailbox_waiting, 0);
}

static void flow_through(uint32_t limit, uint32_t senders, uint32_t count, bool jitter)
{
	static uint32_t index[SENDERS] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	mote_ref ref, refs[SENDERS];
	mote_pid pids[SENDERS];

	flow.count = count;
	flow.max = limit;
	flow.jitter = jitter;
	atomic_store(&flow.failed, 0);
	flow.to = mote_spawn_opts(OPTS(.fn = takes_all, .arg = &senders, .mailbox_limit = limit, .flags = MOTE_MONITOR,
				       .ref = &ref));
	for (uint32_t i = 0; i < senders; i++)
		pids[i] = mote_spawn_monitor(flows, &index[i], &refs[i]);
	for (uint32_t i = 0; i < senders; i++)
		EXPECT(got_down(refs[i], pids[i], MOTE_NORMAL));
	EXPECT(got_down(ref, flow.to, MOTE_NORMAL));
	EXPECT_EQ(atomic_load(&flow.failed), 0);
}

static void a_million(void)
{
	static const uint32_t limits[] = { 1, 10, 1000 };

	for (int i = 0; i < 3; i++)
		flow_through(limits[i], 1, (uint32_t)test_rounds(1000000), false);
}

static void order(void)
{
	for (uint32_t limit = 1; limit <= 64; limit *= 4)
		flow_through(limit, SENDERS, (uint32_t)test_rounds(8000), true);
}

/*
 * Receivers of all policies come and go, slots are used again, senders are killed in between: whoever is not killed
 * gets through all it has to send.
 */
static struct {
	_Atomic uint64_t serial[4];	/* a pid is two words, each read by itself: some are of nobody */
	_Atomic uint32_t slot[4];
	_Atomic bool over;
} churn;

static void short_lived(void *arg)
{
	uint64_t seed = test_seed() ^ (uint64_t)(uintptr_t)arg ^ mote_self().serial << 7;
	uint32_t n = test_random(&seed) % 64;

	while (n--) {
		struct mote_msg *m = mote_receive(mote_in_us(200));
		struct mote_from from = m ? mote_msg_from(m) : (struct mote_from){ 0 };

		if (from.ref.id && n % 2)
			mote_reply(from, DATA, NULL, 0);
		mote_msg_free(m);
	}
}

static void churns(void *arg)
{
	uint64_t seed = test_seed() * 3 + (uint64_t)(uintptr_t)arg;
	unsigned int i = (unsigned int)(uintptr_t)arg;

	while (!atomic_load(&churn.over)) {
		mote_ref ref;
		mote_pid p = mote_spawn_opts(OPTS(.fn = short_lived, .arg = arg, .mailbox_limit = 1 + test_random(&seed) % 4,
						  .mailbox_policy = test_random(&seed) % 4 ? MOTE_MAILBOX_BLOCK :
								    1 + test_random(&seed) % 2,
						  .flags = MOTE_MONITOR, .ref = &ref));

		atomic_store(&churn.slot[i], p.slot);
		atomic_store(&churn.serial[i], p.serial);
		test_jitter(&seed);
		if (test_random(&seed) % 4 == 0)
			mote_exit_pid(p, MOTE_REASON_KILL);
		mote_msg_free(mote_receive_ref(ref, PATIENCE));
	}
}

static void sends_to_all(void *arg)
{
	uint64_t seed = test_seed() * 5 + *(uint32_t *)arg;
	unsigned long rounds = test_rounds(20000);

	for (unsigned long r = 0; r < rounds; r++) {
		unsigned int i = test_random(&seed) % 4;
		mote_pid to = { atomic_load(&churn.serial[i]), atomic_load(&churn.slot[i]), 0 };
		struct mote_msg *m;

		switch (test_random(&seed) % 6) {
		case 0:
			mote_call(to, ASK, &r, sizeof(r), NULL, mote_in_ms(1));
			break;
		case 1:
			mote_send_until(to, DATA, &r, sizeof(r), mote_in_us(100));
			break;
		case 2:
			m = mote_msg_new(DATA, 100);
			if (mote_send_msg_until(to, m, mote_in_us(100)))
				mote_msg_free(m);
			break;
		default:
			mote_send(to, DATA, &r, sizeof(r));
			break;
		}
	}
}

static void races(void)
{
	static uint32_t index[SENDERS] = { 0, 1, 2, 3, 4, 5, 6, 7 };
	mote_pid pids[SENDERS], makers[4];
	mote_ref refs[SENDERS];
	uint64_t seed = test_seed();
	bool killed[SENDERS] = { false };

	memset(&churn, 0, sizeof(churn));
	for (uintptr_t i = 0; i < 4; i++)
		makers[i] = mote_spawn(churns, (void *)i);
	for (int i = 0; i < SENDERS; i++)
		pids[i] = mote_spawn_monitor(sends_to_all, &index[i], &refs[i]);
	for (int i = 0; i < SENDERS; i += 2) {
		mote_sleep(mote_in_us(test_random(&seed) % 5000));
		mote_exit_pid(pids[i], MOTE_REASON_KILL);
		killed[i] = true;
	}
	for (int i = 0; i < SENDERS; i++) {
		struct mote_msg *m = mote_receive_ref(refs[i], PATIENCE);

		EXPECT(is_down(m, refs[i], pids[i], MOTE_NORMAL) ||
		       (killed[i] && is_down(m, refs[i], pids[i], MOTE_KILLED)));
		mote_msg_free(m);
	}
	atomic_store(&churn.over, true);
	for (int i = 0; i < 4; i++) {
		mote_ref ref = mote_monitor(makers[i]);

		mote_msg_free(mote_receive_ref(ref, PATIENCE));
	}
}

int main(void)
{
	selftest_process("without a limit nothing changes", no_limit);
	selftest_process("DROP: the sender is told, keeps its message, and nothing is lost or counted wrong", dropped);
	selftest_process("BLOCK: by pid, name, message, call and request; first come, first served", blocks);
	selftest_process("BLOCK: deadlines", timeouts);
	selftest_process("BLOCK: a sender that is killed while it waits sends nothing, and takes no room", killed_while_waiting);
	selftest_process("BLOCK: the receiver's death ends all waits", receiver_dies);
	selftest_process("KILL: the receiver ends, cannot trap it, and the reason says why", kills);
	selftest_process_opts("KILL: who does not notice is not flooded either", kills_who_does_not_notice, SCHEDULERS(2));
	selftest_process("KILL: oneself", kills_itself);
	selftest_process("a message to oneself never waits", oneself);
	selftest_process("foreign threads never wait", foreigners);
	selftest_process("replies, aliases, timers, EXIT and DOWN pass", what_passes);
	selftest_process("a server does not wait for slow clients", slow_clients);
	selftest_process("two full mailboxes that wait for each other: a deadline ends it", two_full);
	selftest_process("in cleanups", in_cleanups);
	selftest_process("a stale pid never meets the limit of the slot's next tenant", slot_used_again);
	selftest_process("a million messages through limits of 1, 10 and 1,000", a_million);
	selftest_process_opts("the same on one scheduler", a_million, SCHEDULERS(1));
	selftest_process_opts("the same on two schedulers", a_million, SCHEDULERS(2));
	selftest_process("order per sender holds", order);
	selftest_process_opts("order per sender holds on two schedulers", order, SCHEDULERS(2));
	selftest_process("send against receive against kill", races);
	selftest_process_opts("send against receive against kill on two schedulers", races, SCHEDULERS(2));
	return selftest_done();
}
