// SPDX-License-Identifier: MIT OR GPL-2.0
/* Receive: selective, in arrival order, with deadlines; by reference whatever else is queued. */
#include "proc.h"

enum { A = 1, B, C, GO, STOP };

static void put(uint32_t type, int n)
{
	mote_send(mote_self(), type, &n, sizeof(n));
}

static int take(struct mote_msg *m)
{
	int n = m ? *(int *)m->data : -1;

	mote_msg_free(m);
	return n;
}

static void arrival_order(void)
{
	for (int i = 0; i < 100; i++)
		put(1 + (uint32_t)i % 3, i);
	for (int i = 0; i < 100; i++)
		EXPECT_EQ(take(mote_receive(MOTE_NOW)), i);
	EXPECT(mailbox_is_empty());
}

static void by_type(void)
{
	for (int i = 0; i < 99; i++)
		put(1 + (uint32_t)i % 3, i);
	for (int i = 1; i < 99; i += 3)
		EXPECT_EQ(take(mote_receive_type(B, MOTE_NOW)), i);
	EXPECT(!mote_receive_type(B, MOTE_NOW));
	EXPECT_EQ(mote_errno(), -ETIMEDOUT);
	/* the others stay, in order */
	put(B, 99);
	for (int i = 0; i < 99; i++)
		if (i % 3 != 1)
			EXPECT_EQ(take(mote_receive(MOTE_NOW)), i);
	EXPECT_EQ(take(mote_receive(MOTE_NOW)), 99);
	EXPECT(mailbox_is_empty());
}

static bool multiple_of(const struct mote_msg *m, void *arg)
{
	return m->size == sizeof(int) && *(int *)m->data % *(int *)arg == 0;
}

static bool never(const struct mote_msg *m, void *arg)
{
	(void)m;
	++*(int *)arg;
	return false;
}

static void by_match(void)
{
	int seven = 7, looked = 0;

	for (int i = 1; i <= 100; i++)
		put(A, i);
	for (int i = 7; i <= 100; i += 7)
		EXPECT_EQ(take(mote_receive_match(multiple_of, &seven, MOTE_NOW)), i);
	EXPECT(!mote_receive_match(multiple_of, &seven, MOTE_NOW));
	EXPECT_EQ(mote_errno(), -ETIMEDOUT);
	EXPECT(!mote_receive_match(never, &looked, mote_in_ms(1)));
	EXPECT(looked >= 100 - 14);
	for (int i = 1; i <= 100; i++)
		if (i % 7)
			EXPECT_EQ(take(mote_receive(MOTE_NOW)), i);
	EXPECT(mailbox_is_empty());
}

static void removed_at_both_ends(void)
{
	int n[] = { 1, 10 };

	/* taking the first, the last and the only one, and adding after each */
	for (int round = 0; round < 100; round++) {
		put(A, 1);
		put(A, 5);
		put(A, 10);
		EXPECT_EQ(take(mote_receive_match(multiple_of, &n[1], MOTE_NOW)), 10);
		put(A, 3);
		EXPECT_EQ(take(mote_receive_match(multiple_of, &n[0], MOTE_NOW)), 1);
		EXPECT_EQ(take(mote_receive(MOTE_NOW)), 5);
		put(B, 4);
		EXPECT_EQ(take(mote_receive_type(B, MOTE_NOW)), 4);
		EXPECT_EQ(take(mote_receive(MOTE_NOW)), 3);
		EXPECT(mailbox_is_empty());
	}
}

static void polls(void)
{
	int three = 3;

	EXPECT(!mote_receive(MOTE_NOW));
	EXPECT_EQ(mote_errno(), -ETIMEDOUT);
	EXPECT(!mote_receive(mote_in_ms(-100)));
	EXPECT_EQ(mote_errno(), -ETIMEDOUT);
	EXPECT(!mote_receive((mote_deadline){ 1 }));
	EXPECT_EQ(mote_errno(), -ETIMEDOUT);
	put(A, 3);
	EXPECT_EQ(take(mote_receive((mote_deadline){ 1 })), 3);
	put(A, 3);
	EXPECT_EQ(take(mote_receive(MOTE_NOW)), 3);
	put(A, 3);
	EXPECT_EQ(take(mote_receive_match(multiple_of, &three, MOTE_NOW)), 3);
}

static void never_early(void)
{
	for (int i = 0; i < 60; i++) {
		mote_deadline d = mote_in_us(i * 37);
		mote_ref a = mote_alias(0);
		int looked = 0;
		struct mote_msg *m = NULL;

		put(A, i);
		switch (i % 4) {
		case 0:
			m = mote_receive_type(B, d);
			break;
		case 1:
			m = mote_receive_match(never, &looked, d);
			break;
		case 2:
			m = mote_receive_ref(a, d);
			break;
		case 3:
			take(mote_receive(MOTE_NOW));
			m = mote_receive(d);
			put(A, i);
			break;
		}
		EXPECT(!m);
		if (i % 4 != 3)
			EXPECT_EQ(mote_errno(), -ETIMEDOUT);
		EXPECT(mote_now().ns >= d.ns);
		EXPECT_EQ(take(mote_receive(MOTE_NOW)), i);
		mote_unalias(a);
	}
}

static void late_sender(void *arg)
{
	int n = 77;

	mote_sleep(mote_in_ms(5));
	mote_send(*(mote_pid *)arg, B, &n, sizeof(n));
}

static void for_ever(void)
{
	mote_pid me = mote_self();
	int seven = 7;

	mote_spawn(late_sender, &me);
	EXPECT_EQ(take(mote_receive(MOTE_FOREVER)), 77);
	mote_spawn(late_sender, &me);
	put(A, 1);
	EXPECT_EQ(take(mote_receive_type(B, MOTE_FOREVER)), 77);
	mote_spawn(late_sender, &me);
	EXPECT_EQ(take(mote_receive_match(multiple_of, &seven, MOTE_FOREVER)), 77);
	EXPECT_EQ(take(mote_receive(MOTE_FOREVER)), 1);
}

/* While one of a type is waited for, a thousand others come, in small batches. */
static void noisy(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;
	int last = 1000;

	for (int i = 0; i < 1000; i++) {
		mote_send(boss, A, &i, sizeof(i));
		if (i % 10 == 0)
			mote_yield();
		if (i % 100 == 0)
			mote_sleep(mote_in_us(50));
	}
	mote_send(boss, B, &last, sizeof(last));
}

static void woken_by_others(void)
{
	mote_pid me = mote_self();

	for (int round = 0; round < 5; round++) {
		mote_spawn(noisy, &me);
		EXPECT_EQ(take(mote_receive_type(B, PATIENCE)), 1000);
		for (int i = 0; i < 1000; i++)
			EXPECT_EQ(take(mote_receive(MOTE_NOW)), i);
		EXPECT(mailbox_is_empty());
	}
}

/* Others stream in faster than they are looked at: the deadline holds all the same, and neighbours get their turn. */
struct stream {
	mote_pid to;
	_Atomic bool stop, ended;
};

static void streamer(void *arg)
{
	struct stream *st = arg;

	for (int i = 0; i < 20000000 && !atomic_load(&st->stop); i++)
		mote_send(st->to, A, NULL, 0);
	atomic_store(&st->ended, true);
}

static void neighbour(void *arg)
{
	mote_yield();
	atomic_fetch_add((_Atomic int *)arg, 1);
}

static void deadline_in_a_stream(void *arg)
{
	struct stream st = { mote_self(), false, false };
	_Atomic int turns = 0;
	mote_ref done, near;
	mote_pid p = spawn_pinned(streamer, &st, 1, MOTE_MONITOR, &done);
	mote_pid q = spawn_pinned(neighbour, &turns, 0, MOTE_MONITOR, &near);

	(void)arg;
	for (int i = 0; (i < 5 || !atomic_load(&turns)) && !atomic_load(&st.ended); i++) {
		mote_deadline d = mote_in_ms(1);

		EXPECT(!mote_receive_type(B, d));
		EXPECT_EQ(mote_errno(), -ETIMEDOUT);
		EXPECT(mote_now().ns >= d.ns);
	}
	EXPECT(!atomic_load(&st.ended));
	EXPECT_EQ(atomic_load(&turns), 1);
	atomic_store(&st.stop, true);
	EXPECT(got_down(done, p, MOTE_NORMAL));
	EXPECT(got_down(near, q, MOTE_NORMAL));
}

static void race_stream(void)
{
	on_first_scheduler(deadline_in_a_stream, NULL);
}

static void jittered(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;
	uint64_t seed = test_seed();

	for (int i = 0;; i++) {
		mote_msg_free(mote_receive_type(GO, MOTE_FOREVER));
		for (uint32_t j = test_random(&seed) % 20; j; j--)
			test_spin(test_random(&seed) % 4000);
		mote_send(boss, A, &i, sizeof(i));
	}
}

static void timeout_races_message(void *arg)
{
	unsigned long n = test_rounds(30000), late = 0;
	mote_pid me = mote_self(), p = spawn_pinned(jittered, &me, 1, 0, NULL);

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		mote_deadline d = mote_in_us(20);
		struct mote_msg *m;

		mote_send(p, GO, NULL, 0);
		m = mote_receive(d);
		if (!m) {
			EXPECT_EQ(mote_errno(), -ETIMEDOUT);
			EXPECT(mote_now().ns >= d.ns);
			late++;
			m = mote_receive(PATIENCE);
		}
		if (!EXPECT(take(m) == (int)i))
			break;
		if (!EXPECT(mailbox_is_empty()))
			break;
	}
	test_note("%lu of %lu deadlines came first", late, n);
	put_down(p);
}

static void race_timeout(void)
{
	on_first_scheduler(timeout_races_message, NULL);
}

static void answerer(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		if (m->type == STOP)
			mote_exit(mote_reason_error(EIO, NULL));
		mote_reply(mote_msg_from(m), B, m->data, m->size);
		mote_msg_free(m);
	}
}

static void among(unsigned long before, unsigned long after)
{
	mote_pid p = mote_spawn(answerer, NULL);
	mote_ref mon = mote_monitor(p), reqs[10], alias;
	struct mote_msg *m;
	int n;

	for (unsigned long i = 0; i < before; i++)
		put(A, (int)i);
	alias = mote_alias(0);
	for (n = 0; n < 10; n++)
		reqs[n] = mote_request(p, GO, &n, sizeof(n));
	n = 99;
	mote_send_alias(alias, C, &n, sizeof(n));
	mote_send(p, STOP, NULL, 0);
	/* the answers are taken last to first; DOWN, the last to come, first of all */
	EXPECT(got_down(mon, p, MOTE_ERROR));
	for (unsigned long i = 0; i < after; i++)
		put(A, (int)(before + i));
	for (n = 9; n >= 5; n--) {
		m = mote_receive_ref(reqs[n], PATIENCE);
		EXPECT(m && m->type == B && mote_ref_equal(mote_msg_ref(m), reqs[n]));
		EXPECT_EQ(take(m), n);
	}
	EXPECT_EQ(take(mote_receive_ref(alias, MOTE_NOW)), 99);
	EXPECT_EQ(mote_unalias(alias), 1);
	/* calls work meanwhile */
	p = mote_spawn(answerer, NULL);
	for (n = 100; n < 110; n++) {
		m = NULL;
		EXPECT_EQ(mote_call(p, GO, &n, sizeof(n), &m, PATIENCE), 0);
		EXPECT_EQ(take(m), n);
	}
	/* replies that nobody fetched by reference kept their place in the mailbox, in the order they came */
	for (unsigned long i = 0; i < before; i++)
		if (!EXPECT(take(mote_receive(MOTE_NOW)) == (int)i))
			return;
	for (n = 0; n < 5; n++) {
		m = mote_receive(MOTE_NOW);
		EXPECT(m && m->type == B && mote_ref_equal(mote_msg_ref(m), reqs[n]));
		EXPECT_EQ(take(m), n);
	}
	for (unsigned long i = 0; i < after; i++)
		if (!EXPECT(take(mote_receive(MOTE_NOW)) == (int)(before + i)))
			return;
	EXPECT(mailbox_is_empty());
	put_down(p);
}

static void ref_among_few(void)
{
	among(0, 0);
	among(1, 0);
	among(0, 1);
	among(100, 100);
}

static void ref_among_a_million(void)
{
	unsigned long n = SANITIZED ? 20000 : test_rounds(1000000);

	among(n, n);
}

static void not_mine(void)
{
	mote_ref a = mote_alias(0), r = mote_alias(MOTE_ALIAS_REPLY);

	EXPECT(!mote_receive_ref((mote_ref){ 0, 0, 0, 0, 0 }, PATIENCE));
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT(!mote_receive_ref((mote_ref){ 55555, 2, 3, 0, 0 }, PATIENCE));
	EXPECT_EQ(mote_errno(), -EINVAL);
	mote_unalias(a);
	EXPECT(!mote_receive_ref(a, PATIENCE));
	EXPECT_EQ(mote_errno(), -EINVAL);
	mote_send_alias(r, A, NULL, 0);
	mote_msg_free(mote_receive_ref(r, PATIENCE));
	EXPECT(!mote_receive_ref(r, PATIENCE));
	EXPECT_EQ(mote_errno(), -EINVAL);
}

static void nothing(void *arg)
{
	(void)arg;
}

/* EXIT and DOWN are messages like any other, to receive in their place. */
static void signals_in_place(void)
{
	mote_ref ref;
	mote_pid p;
	struct mote_msg *m;

	mote_trap_exit(true);
	put(A, 0);
	p = mote_spawn_monitor(nothing, NULL, &ref);
	while (test_info(mote_self()).mailbox < 2)
		mote_yield();
	put(A, 1);
	mote_exit_pid(mote_self(), MOTE_REASON_SHUTDOWN);
	put(A, 2);
	EXPECT_EQ(take(mote_receive(MOTE_NOW)), 0);
	m = mote_receive(MOTE_NOW);
	EXPECT(is_down(m, ref, p, MOTE_NORMAL));
	mote_msg_free(m);
	EXPECT_EQ(take(mote_receive(MOTE_NOW)), 1);
	m = mote_receive(MOTE_NOW);
	EXPECT(is_exit(m, mote_self(), MOTE_SHUTDOWN));
	mote_msg_free(m);
	EXPECT_EQ(take(mote_receive(MOTE_NOW)), 2);
}

int main(void)
{
	selftest_process("in arrival order", arrival_order);
	selftest_process("by type: what does not match stays, in order", by_type);
	selftest_process("by match: what does not match stays, in order", by_match);
	selftest_process("taken from the front, the middle and the end", removed_at_both_ends);
	selftest_process("deadline now, or past: polls", polls);
	selftest_process("a deadline is never early", never_early);
	selftest_process("a deadline for ever waits until something comes", for_ever);
	selftest_process_opts("waiting for one while others come", woken_by_others, SCHEDULERS(2));
	selftest_process_opts("a deadline holds while others stream in", race_stream, SCHEDULERS(2));
	selftest_process_opts("race: deadline against message: nothing lost", race_timeout, SCHEDULERS(2));
	selftest_process("by reference: replies, aliases, DOWN; the rest keeps its place", ref_among_few);
	selftest_process_opts("by reference with a million others before and after",
			      ref_among_a_million, SCHEDULERS(2));
	selftest_process("a reference that is not mine, or not any more: -EINVAL", not_mine);
	selftest_process("EXIT and DOWN are received in their place", signals_in_place);
	return selftest_done();
}
