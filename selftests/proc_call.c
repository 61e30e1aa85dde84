// SPDX-License-Identifier: MIT OR GPL-2.0
/* Calls: request, reply, and all the ways in which a reply does not come. */
#include "proc.h"

enum { ADD = 1, REPLY, SILENT, DIE_FIRST, REPLY_THEN_DIE, TWICE, BY_ANOTHER, LATE, NOTE };

struct late {
	struct mote_from from;
	int n;
};

static void replier(void *arg)
{
	struct late *l = arg;

	mote_reply(l->from, REPLY, &l->n, sizeof(l->n));
	free(l);
}

static _Atomic int gave_up;

/* Not before the asker has given up, however slow the machine is. */
static void late_replier(void *arg)
{
	while (atomic_load(&gave_up) < ((struct late *)arg)->n)
		mote_sleep(mote_in_us(100));
	replier(arg);
}

static void callee(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		struct mote_from from = mote_msg_from(m);
		int n = m->size >= sizeof(n) ? *(int *)m->data + 1 : 0;
		struct late *l;

		switch (m->type) {
		case ADD:
			EXPECT(mote_pid_equal(from.pid, m->from));
			EXPECT(from.ref.id);
			EXPECT_EQ(mote_reply(from, REPLY, &n, sizeof(n)), 0);
			break;
		case DIE_FIRST:
			mote_exit(mote_reason_error(EIO, NULL));
		case REPLY_THEN_DIE:
			mote_reply(from, REPLY, &n, sizeof(n));
			mote_exit(mote_reason_error(EIO, NULL));
		case TWICE:
			mote_reply(from, REPLY, &n, sizeof(n));
			n = -1;
			EXPECT_EQ(mote_reply(from, REPLY, &n, sizeof(n)), 0);
			break;
		case BY_ANOTHER:
		case LATE:
			l = malloc(sizeof(*l));
			*l = (struct late){ from, n };
			mote_spawn(m->type == LATE ? late_replier : replier, l);
			break;
		case PING:
			mote_send(m->from, PING, NULL, 0);
			break;
		}
		mote_msg_free(m);
	}
}

static void nothing(void *arg)
{
	(void)arg;
}

static void left_clean(void)
{
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
}

static void answered(void)
{
	mote_pid p = mote_spawn(callee, NULL);

	for (int i = 0; i < 1000; i++) {
		struct mote_msg *m = NULL;

		EXPECT_EQ(mote_call(p, ADD, &i, sizeof(i), &m, i & 1 ? MOTE_FOREVER : PATIENCE), 0);
		if (!EXPECT(m && m->type == REPLY && m->size == sizeof(int) && *(int *)m->data == i + 1))
			return;
		EXPECT(mote_pid_equal(m->from, p));
		EXPECT(mote_msg_ref(m).id);
		mote_msg_free(m);
		EXPECT_EQ(mote_call(p, ADD, &i, sizeof(i), NULL, PATIENCE), 0);
	}
	EXPECT(ping(p));
	left_clean();
	EXPECT_EQ(test_info(p).monitored_by, 0);
	put_down(p);
}

static void dead_callee(void)
{
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(nothing, NULL, &ref);
	struct mote_msg *m = NULL;

	EXPECT(got_down(ref, p, MOTE_NORMAL));
	EXPECT_EQ(mote_call(p, ADD, NULL, 0, &m, PATIENCE), -ESRCH);
	EXPECT_EQ(mote_call(p, ADD, NULL, 0, NULL, MOTE_FOREVER), -ESRCH);
	EXPECT(!m);
	left_clean();
}

static void dies_first(void)
{
	for (int i = 0; i < 100; i++) {
		mote_pid p = mote_spawn(callee, NULL);

		EXPECT_EQ(mote_call(p, DIE_FIRST, NULL, 0, NULL, PATIENCE), -EPIPE);
		left_clean();
	}
}

static void dies_after(void)
{
	for (int i = 0; i < 100; i++) {
		mote_pid p = mote_spawn(callee, NULL);
		struct mote_msg *m = NULL;

		EXPECT_EQ(mote_call(p, REPLY_THEN_DIE, &i, sizeof(i), &m, PATIENCE), 0);
		EXPECT(m && *(int *)m->data == i + 1);
		mote_msg_free(m);
		while (mote_alive(p))
			mote_yield();
		left_clean();
	}
}

static void times_out(void)
{
	mote_pid p = mote_spawn(callee, NULL);

	for (int i = 0; i < 20; i++) {
		mote_deadline d = mote_in_us(100 * i);
		struct mote_msg *m = NULL;

		EXPECT_EQ(mote_call(p, SILENT, NULL, 0, &m, d), -ETIMEDOUT);
		EXPECT(!m);
		EXPECT(mote_now().ns >= d.ns);
	}
	left_clean();
	EXPECT(ping(p));
	EXPECT_EQ(test_info(p).monitored_by, 0);
	put_down(p);
}

static void late_vanishes(void)
{
	mote_pid p = mote_spawn(callee, NULL);

	atomic_store(&gave_up, 0);
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(mote_call(p, LATE, &i, sizeof(i), NULL, mote_in_ms(1)), -ETIMEDOUT);
		atomic_fetch_add(&gave_up, 1);
	}
	EXPECT(!mote_receive(mote_in_ms(20)));
	left_clean();
	put_down(p);
}

static void twice(void)
{
	mote_pid p = mote_spawn(callee, NULL);

	for (int i = 0; i < 100; i++) {
		struct mote_msg *m = NULL;

		EXPECT_EQ(mote_call(p, TWICE, &i, sizeof(i), &m, PATIENCE), 0);
		EXPECT(m && *(int *)m->data == i + 1);
		mote_msg_free(m);
	}
	EXPECT(ping(p));
	left_clean();
	put_down(p);
}

static void by_another(void)
{
	mote_pid p = mote_spawn(callee, NULL);

	for (int i = 0; i < 100; i++) {
		struct mote_msg *m = NULL;

		EXPECT_EQ(mote_call(p, BY_ANOTHER, &i, sizeof(i), &m, PATIENCE), 0);
		if (EXPECT(m && *(int *)m->data == i + 1))
			EXPECT(!mote_pid_equal(m->from, p));
		mote_msg_free(m);
	}
	left_clean();
	put_down(p);
}

static void refused(void)
{
	mote_pid p = mote_spawn(callee, NULL);

	EXPECT_EQ(mote_call(mote_self(), ADD, NULL, 0, NULL, MOTE_FOREVER), -EDEADLK);
	EXPECT_EQ(mote_call(p, MOTE_MSG_DOWN, NULL, 0, NULL, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_call(p, ADD, "x", (size_t)1 << 32, NULL, PATIENCE), -EMSGSIZE);
	EXPECT_EQ(mote_request(p, MOTE_MSG_DOWN, NULL, 0).id, 0);
	EXPECT_EQ(mote_errno(), -EINVAL);
	left_clean();
	put_down(p);
}

static void no_request(void)
{
	struct mote_msg *m;

	mote_send(mote_self(), NOTE, NULL, 0);
	m = mote_receive(PATIENCE);
	EXPECT_EQ(mote_msg_from(m).ref.id, 0);
	EXPECT_EQ(mote_reply(mote_msg_from(m), REPLY, NULL, 0), 0);
	mote_msg_free(m);
	left_clean();
}

#define MANY 2000

static void many_at_once(void)
{
	mote_pid p[8];
	mote_ref *refs = calloc(MANY, sizeof(*refs));

	for (int i = 0; i < 8; i++)
		p[i] = i < 2 ? spawn_pinned(callee, NULL, (unsigned int)i, 0, NULL) : mote_spawn(callee, NULL);
	for (int i = 0; i < MANY; i++) {
		uint32_t type = i % 3 ? ADD : BY_ANOTHER;

		if (i % 2) {
			refs[i] = mote_request(p[i % 8], type, &i, sizeof(i));
		} else {
			struct mote_msg *m = mote_msg_new(type, sizeof(i));

			memcpy(m->data, &i, sizeof(i));
			refs[i] = mote_request_msg(p[i % 8], m);
		}
		EXPECT(refs[i].id);
	}
	for (int i = 0; i < MANY; i++) {
		int k = (int)((unsigned int)i * 7919u % MANY);
		struct mote_msg *m = mote_receive_ref(refs[k], PATIENCE);

		if (!EXPECT(m && m->type == REPLY && *(int *)m->data == k + 1))
			break;
		mote_msg_free(m);
		EXPECT(!mote_receive_ref(refs[k], MOTE_NOW));
		EXPECT_EQ(mote_errno(), -EINVAL);
	}
	left_clean();
	for (int i = 0; i < 8; i++)
		put_down(p[i]);
	left_clean();
	free(refs);
}

static void request_to_the_dead(void)
{
	mote_pid p = mote_spawn(callee, NULL);
	mote_ref a = mote_request(p, DIE_FIRST, NULL, 0), b;

	EXPECT(got_down(a, p, MOTE_ERROR));
	b = mote_request(p, ADD, NULL, 0);
	EXPECT(got_down(b, p, MOTE_NOPROC));
	left_clean();
}

static void given_up(void)
{
	mote_pid p = mote_spawn(callee, NULL);
	int n = 0;

	for (int i = 0; i < 100; i++) {
		mote_ref r = mote_request(p, ADD, &n, sizeof(n));

		if (i % 2) {
			while (test_info(mote_self()).mailbox == 0)
				mote_yield();
		}
		mote_demonitor(r, MOTE_FLUSH);
		EXPECT(ping(p));
		if (i % 2) {
			/* a reply that had come before stays a message, as it does in Erlang */
			mote_msg_free(mote_receive_type(REPLY, MOTE_NOW));
		}
		left_clean();
	}
	put_down(p);
}

static void killed_calls(void *arg)
{
	unsigned long n = test_rounds(30000), got[3] = { 0 };
	uint64_t seed = test_seed();

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		int k = (int)i, err;
		mote_ref end;
		mote_pid p = spawn_pinned(callee, NULL, 1, MOTE_MONITOR, &end);
		struct mote_msg *m = NULL;

		if (i % 2) {
			mote_timer t;

			t = mote_send_after(mote_in_us(test_random(&seed) % 30), p, DIE_FIRST, NULL, 0);
			err = mote_call(p, ADD, &k, sizeof(k), &m, PATIENCE);
			mote_timer_cancel(t, NULL);
		} else {
			for (uint32_t j = test_random(&seed) % 4; j; j--)
				test_jitter(&seed);
			mote_exit_pid(p, MOTE_REASON_SHUTDOWN);
			err = mote_call(p, ADD, &k, sizeof(k), &m, PATIENCE);
		}
		if (err == 0)
			got[0] += EXPECT(m && *(int *)m->data == k + 1);
		else if (err == -EPIPE)
			got[1]++;
		else if (err == -ESRCH)
			got[2]++;
		else
			EXPECT_EQ(err, 0);
		mote_msg_free(m);
		mote_exit_pid(p, MOTE_REASON_KILL);
		m = mote_receive_ref(end, PATIENCE);
		if (!EXPECT(m && mote_msg_down(m)) || !EXPECT(mailbox_is_empty()))
			return;
		mote_msg_free(m);
	}
	left_clean();
	test_note("answered %lu, died first %lu, was dead %lu", got[0], got[1], got[2]);
}

static void race_death(void)
{
	on_first_scheduler(killed_calls, NULL);
}

int main(void)
{
	selftest_process_opts("a call is answered and leaves nothing behind", answered, SCHEDULERS(2));
	selftest_process("there is no such process: -ESRCH", dead_callee);
	selftest_process("it ended before it answered: -EPIPE", dies_first);
	selftest_process("it ended after it answered: 0", dies_after);
	selftest_process("no answer: -ETIMEDOUT, never early", times_out);
	selftest_process("a late answer vanishes", late_vanishes);
	selftest_process("the second of two answers vanishes", twice);
	selftest_process("anyone may answer", by_another);
	selftest_process("oneself: -EDEADLK; reserved types, sizes", refused);
	selftest_process("nobody waits for an answer to a plain message", no_request);
	selftest_process_opts("thousands of requests at once, fetched in any order", many_at_once, SCHEDULERS(2));
	selftest_process("a request to the dying or dead is DOWN", request_to_the_dead);
	selftest_process("a request given up: no DOWN, no late answer", given_up);
	selftest_process_opts("race: call against death: one result, nothing left behind", race_death, SCHEDULERS(2));
	return selftest_done();
}
