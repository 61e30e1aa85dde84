// SPDX-License-Identifier: MIT OR GPL-2.0
/* Timers: never early; cancel tells; a cancelled one never delivers. */
#include "proc.h"

enum { TICK = 1, GO, STOP };

static void never_early(void)
{
	enum { N = 300 };
	mote_deadline due[N];
	uint64_t seed = test_seed();
	bool seen[N] = { false };

	for (int i = 0; i < N; i++) {
		due[i] = mote_in_us(test_random(&seed) % 20000);
		EXPECT(mote_send_after(due[i], mote_self(), TICK, &i, sizeof(i)).id);
	}
	for (int i = 0; i < N; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);
		int64_t now = mote_now().ns;

		if (!EXPECT(m && m->type == TICK && m->size == sizeof(int)))
			return;
		EXPECT(now >= due[*(int *)m->data].ns);
		EXPECT(!seen[*(int *)m->data]);
		EXPECT(mote_pid_equal(m->from, mote_self()));
		seen[*(int *)m->data] = true;
		mote_msg_free(m);
	}
	EXPECT(mailbox_is_empty());
}

static void in_the_past(void)
{
	EXPECT(mote_send_after(MOTE_NOW, mote_self(), TICK, NULL, 0).id);
	EXPECT(got_type(TICK));
	EXPECT(mote_send_after((mote_deadline){ mote_now().ns - 1000000000 }, mote_self(), TICK, NULL, 0).id);
	EXPECT(got_type(TICK));
	EXPECT(mote_send_after(mote_in_ms(-5), mote_self(), TICK, NULL, 0).id);
	EXPECT(got_type(TICK));
	EXPECT(mailbox_is_empty());
}

static void copies(void)
{
	char big[5000];
	struct mote_msg *m;

	memset(big, 'a', sizeof(big));
	mote_send_after(mote_in_us(100), mote_self(), TICK, big, sizeof(big));
	memset(big, 'b', sizeof(big));
	m = mote_receive(PATIENCE);
	if (EXPECT(m && m->size == sizeof(big))) {
		memset(big, 'a', sizeof(big));
		EXPECT(!memcmp(m->data, big, sizeof(big)));
	}
	mote_msg_free(m);
}

static void cancel_tells(void)
{
	for (int i = 0; i < 100; i++) {
		mote_timer t = mote_send_after(mote_in_ms(5000 + i), mote_self(), TICK, "x", 1);
		int64_t left = -1;

		EXPECT(mote_timer_left(t) > 0 && mote_timer_left(t) <= (5000 + i) * INT64_C(1000000));
		EXPECT_EQ(mote_timer_cancel(t, &left), 0);
		EXPECT(left > 0 && left <= (5000 + i) * INT64_C(1000000));
		EXPECT_EQ(mote_timer_cancel(t, &left), -ENOENT);
		EXPECT_EQ(mote_timer_left(t), -ENOENT);
		t = mote_send_after(mote_in_us(10), mote_self(), TICK, NULL, 0);
		EXPECT(got_type(TICK));
		EXPECT_EQ(mote_timer_cancel(t, NULL), -ENOENT);
		EXPECT_EQ(mote_timer_left(t), -ENOENT);
	}
	EXPECT_EQ(mote_timer_cancel((mote_timer){ 123456789, 3, 0 }, NULL), -ENOENT);
	EXPECT_EQ(mote_timer_cancel((mote_timer){ 0, 0, 0 }, NULL), -ENOENT);
	EXPECT_EQ(mote_timer_left((mote_timer){ 123456789, 0xfffffff0u, 77 }), -ENOENT);
}

static void cancelled_never_delivers(void)
{
	mote_timer t[100];

	for (int i = 0; i < 100; i++)
		t[i] = mote_send_after(mote_in_us(3000 + i * 20), mote_self(), TICK, &i, sizeof(i));
	for (int i = 0; i < 100; i += 2)
		EXPECT_EQ(mote_timer_cancel(t[i], NULL), 0);
	for (int i = 0; i < 50; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);

		if (!EXPECT(m && *(int *)m->data % 2 == 1))
			return;
		mote_msg_free(m);
	}
	EXPECT(!mote_receive(mote_in_ms(5)));
}

static void refused(void)
{
	EXPECT_EQ(mote_send_every(999, mote_self(), TICK, NULL, 0).id, 0);
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT_EQ(mote_send_every(-1, mote_self(), TICK, NULL, 0).id, 0);
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT_EQ(mote_send_every(1000000, mote_self(), MOTE_MSG_EXIT, NULL, 0).id, 0);
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT_EQ(mote_send_after(mote_in_ms(1), mote_self(), MOTE_MSG_DOWN, NULL, 0).id, 0);
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT(!mote_receive(mote_in_ms(3)));
}

static void far_away(void)
{
	static const int64_t days[] = { 1, 30, 365, 3650, 36500 };
	mote_timer t[6];
	int64_t left;

	for (int i = 0; i < 5; i++)
		t[i] = mote_send_after(mote_in_ms(days[i] * 86400000), mote_self(), TICK, NULL, 0);
	t[5] = mote_send_after(MOTE_FOREVER, mote_self(), TICK, NULL, 0);
	EXPECT(!mote_receive(mote_in_ms(3)));
	for (int i = 0; i < 5; i++) {
		EXPECT_EQ(mote_timer_cancel(t[i], &left), 0);
		EXPECT(left <= days[i] * INT64_C(86400000000000) && left > (days[i] - 1) * INT64_C(86400000000000));
	}
	EXPECT_EQ(mote_timer_cancel(t[5], NULL), 0);
	EXPECT(mote_in_ms(INT64_MAX).ns == INT64_MAX);
	EXPECT(mote_in_ms(-1).ns == 0);
}

/* Arrivals stay on the grid: the k-th not before start + k periods, and never more than have passed. */
static void interval(void)
{
	const int64_t period = 1000000;
	int64_t start = mote_now().ns;
	mote_timer t = mote_send_every(period, mote_self(), TICK, "tick", 5);
	int64_t after = mote_now().ns;

	EXPECT(t.id);
	for (int k = 1; k <= 20; k++) {
		struct mote_msg *m = mote_receive(PATIENCE);

		EXPECT(m && m->type == TICK && m->size == 5 && !memcmp(m->data, "tick", 5));
		EXPECT(mote_now().ns >= start + k * period);
		mote_msg_free(m);
	}
	EXPECT(mote_timer_left(t) >= 0 && mote_timer_left(t) <= period);
	/* missed ones are skipped: while the scheduler is busy for ten periods at most one can be due */
	while (mote_now().ns < after + 40 * period)
		;
	EXPECT(got_type(TICK));
	mote_sleep(mote_in_us(1));
	EXPECT_EQ(mote_timer_cancel(t, NULL), 0);
	EXPECT_EQ(mote_timer_cancel(t, NULL), -ENOENT);
	while (mote_receive_type(TICK, MOTE_NOW))
		;
	EXPECT(!mote_receive(mote_in_ms(5)));
}

static bool stays_until(const char *name, mote_pid pid, void *until)
{
	(void)name;
	(void)pid;
	while (mote_now().ns < *(int64_t *)until)
		;
	return false;
}

static void interval_skips(void)
{
	const int64_t period = 1000000;
	int64_t start = mote_now().ns, passed;
	mote_timer t = mote_send_every(period, mote_self(), TICK, NULL, 0);
	int n = 0;
	struct mote_msg *m;

	/* A visitor of names is inside the runtime: its scheduler is not handed over, and no timer fires there. */
	EXPECT_EQ(mote_register("proc_timer.busy", mote_self()), 0);
	mote_name_each(stays_until, &(int64_t){ start + 50 * period });
	mote_sleep(mote_in_us(2500));
	passed = mote_now().ns - start;
	EXPECT_EQ(mote_timer_cancel(t, NULL), 0);
	while ((m = mote_receive(MOTE_NOW))) {
		mote_msg_free(m);
		n++;
	}
	/* about fifty were due while the only scheduler was busy; one of them, and those since, may have come */
	EXPECT(n >= 1 && n <= passed / period - 45);
}

static void tick_other(void *arg)
{
	mote_pid to = *(mote_pid *)arg;

	mote_send_after(mote_in_ms(3), to, GO, NULL, 0);
	mote_send_every(1000000, to, TICK, NULL, 0);
}

static void outlives_its_maker(void)
{
	mote_pid me = mote_self(), p;
	mote_ref ref;
	struct mote_msg *m;

	p = mote_spawn_monitor(tick_other, &me, &ref);
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	m = mote_receive_type(GO, PATIENCE);
	EXPECT(m && mote_pid_equal(m->from, p));
	mote_msg_free(m);
	for (int i = 0; i < 5; i++) {
		m = mote_receive_type(TICK, PATIENCE);
		EXPECT(m && mote_pid_equal(m->from, p));
		mote_msg_free(m);
	}
}

struct own {
	mote_timer t[1000];
	mote_pid boss;
};

static void timers_to_self(void *arg)
{
	struct own *o = arg;

	for (int i = 0; i < 1000; i++)
		o->t[i] = i % 10 ? mote_send_after(mote_in_ms(100000 + i), mote_self(), TICK, NULL, 0) :
				   mote_send_every(1000000000 + i, mote_self(), TICK, NULL, 0);
}

static void of_the_dead(void)
{
	static struct own o;

	for (int round = 0; round < 20; round++) {
		mote_ref ref;
		mote_pid p = mote_spawn_monitor(timers_to_self, &o, &ref);

		EXPECT(got_down(ref, p, MOTE_NORMAL));
		for (int i = 0; i < 1000; i++) {
			EXPECT(o.t[i].id);
			if (i & 1)
				EXPECT_EQ(mote_timer_left(o.t[i]), -ENOENT);
			else
				EXPECT_EQ(mote_timer_cancel(o.t[i], NULL), -ENOENT);
		}
	}
}

static void expects_nothing(void *arg)
{
	(void)arg;
	EXPECT(!mote_receive_type(TICK, mote_in_ms(8)));
}

static void to_the_dead(void)
{
	mote_ref ref, refs[20];
	mote_pid p[20], q;
	unsigned int reused = 0;

	for (int i = 0; i < 20; i++) {
		p[i] = mote_spawn(sink, NULL);
		mote_send_after(mote_in_ms(4), p[i], TICK, NULL, 0);
		mote_send_every(1000000, p[i], TICK, NULL, 0);
	}
	for (int i = 0; i < 20; i++)
		put_down(p[i]);
	/* successors in the same slots hear nothing */
	for (int i = 0; i < 20; i++) {
		q = mote_spawn_monitor(expects_nothing, NULL, &refs[i]);
		for (int j = 0; j < 20; j++)
			reused += q.slot == p[j].slot;
	}
	for (int i = 0; i < 20; i++) {
		struct mote_msg *m = mote_receive_ref(refs[i], PATIENCE);

		EXPECT(m && mote_msg_down(m)->reason.kind == MOTE_NORMAL);
		mote_msg_free(m);
	}
	test_note("%u successors had the slot of the dead", reused);
	EXPECT(mote_send_after(mote_in_ms(1), p[0], TICK, NULL, 0).id || mote_errno() == -EINVAL);
	ref = mote_monitor(p[0]);
	EXPECT(got_down(ref, p[0], MOTE_NOPROC));
}

static void canceller(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;

	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		int err = mote_timer_cancel(*(mote_timer *)m->data, NULL);

		mote_send(boss, STOP, &err, sizeof(err));
		mote_msg_free(m);
	}
}

/* Cancelled by its own process, or by another on the other scheduler, at about the time that it fires. */
static void cancel_races_fire(void *arg)
{
	unsigned long n = test_rounds(20000), won = 0;
	uint64_t seed = test_seed();
	mote_pid me = mote_self(), c = spawn_pinned(canceller, &me, 1, 0, NULL);

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		mote_timer t = mote_send_after(mote_in_us(test_random(&seed) % 60), me, TICK, &i, sizeof(i));
		struct mote_msg *m;
		int err;

		if (i % 2) {
			for (uint32_t j = test_random(&seed) % 8; j; j--)
				test_jitter(&seed);
			if (i % 4 == 1)
				mote_sleep(mote_in_us(test_random(&seed) % 60));
			err = mote_timer_cancel(t, NULL);
		} else {
			test_jitter(&seed);
			mote_send(c, GO, &t, sizeof(t));
			m = mote_receive_type(STOP, PATIENCE);
			err = m ? *(int *)m->data : -1;
			mote_msg_free(m);
		}
		if (err == 0) {
			won++;
			if (i % 32 == 1)
				mote_sleep(mote_in_us(100));
		} else {
			EXPECT_EQ(err, -ENOENT);
			m = mote_receive(PATIENCE);
			if (!EXPECT(m && m->type == TICK && *(unsigned long *)m->data == i))
				return;
			mote_msg_free(m);
		}
		EXPECT_EQ(mote_timer_cancel(t, NULL), -ENOENT);
		if (!EXPECT(mailbox_is_empty())) {
			test_note("round %lu: cancel gave %d", i, err);
			return;
		}
	}
	mote_sleep(mote_in_ms(1));
	EXPECT(mailbox_is_empty());
	test_note("%lu of %lu were cancelled in time", won, n);
	put_down(c);
}

static void race_cancel(void)
{
	on_first_scheduler(cancel_races_fire, NULL);
}

/* A process ends, or is killed, at about the time that its timers fire. */
static void with_timers(void *arg)
{
	uint64_t seed = *(uint64_t *)arg;

	for (int i = 0; i < 5; i++)
		mote_send_after(mote_in_us(test_random(&seed) % 60), mote_self(), TICK, NULL, 0);
	mote_send_every(20000, mote_self(), TICK, NULL, 0);
	for (uint32_t i = test_random(&seed) % 4; i; i--)
		mote_msg_free(mote_receive(MOTE_FOREVER));
}

static void fire_races_exit(void *arg)
{
	unsigned long n = test_rounds(6000);
	uint64_t seed = test_seed();

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		uint64_t own = seed + i;
		mote_ref ref;
		mote_pid p = spawn_pinned(with_timers, &own, 1, MOTE_MONITOR, &ref);
		struct mote_msg *m;

		/* timers of others to it, too */
		mote_send_after(mote_in_us(test_random(&seed) % 60), p, TICK, NULL, 0);
		if (i % 2) {
			for (uint32_t j = test_random(&seed) % 8; j; j--)
				test_jitter(&seed);
			mote_exit_pid(p, MOTE_REASON_KILL);
		}
		m = mote_receive_ref(ref, PATIENCE);
		if (!EXPECT(is_down(m, ref, p, MOTE_NORMAL) || is_down(m, ref, p, MOTE_KILLED)))
			return;
		mote_msg_free(m);
	}
	EXPECT(mailbox_is_empty());
}

static void race_exit(void)
{
	on_first_scheduler(fire_races_exit, NULL);
}

static void a_hundred_thousand(void)
{
	unsigned long n = SANITIZED ? 5000 : test_rounds(100000);
	int64_t *due = calloc(n, sizeof(*due));
	mote_timer *t = calloc(n, sizeof(*t));
	uint64_t seed = test_seed();
	unsigned long early = 0, twice = 0;

	for (unsigned long i = 0; i < n; i++) {
		mote_deadline d = mote_in_us(test_random(&seed) % 300000);

		due[i] = d.ns;
		if (!EXPECT(mote_send_after(d, mote_self(), TICK, &i, sizeof(i)).id))
			return;
	}
	for (unsigned long i = 0; i < n; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);
		unsigned long k;

		if (!EXPECT(m))
			return;
		k = *(unsigned long *)m->data;
		early += mote_now().ns < due[k];
		twice += due[k] == INT64_MIN;
		due[k] = INT64_MIN;
		mote_msg_free(m);
	}
	EXPECT_EQ(early, 0);
	EXPECT_EQ(twice, 0);
	EXPECT(mailbox_is_empty());

	/* set and cancelled, far and near, in another order */
	for (unsigned long i = 0; i < n; i++)
		t[i] = mote_send_after(mote_in_ms(20000 + test_random(&seed) % 1000000), mote_self(), TICK, NULL, 0);
	for (unsigned long i = 0; i < n; i++)
		if (!EXPECT(mote_timer_cancel(t[(i * 7919) % n], NULL) == 0 || n % 7919 == 0))
			break;
	EXPECT(mailbox_is_empty());
	free(due);
	free(t);
}

static void sleeping(void)
{
	uint64_t seed = test_seed();

	mote_send(mote_self(), GO, NULL, 0);
	for (int i = 0; i < 200; i++) {
		mote_deadline d = mote_in_us(test_random(&seed) % 300);

		EXPECT_EQ(mote_sleep(d), 0);
		EXPECT(mote_now().ns >= d.ns);
	}
	EXPECT_EQ(mote_sleep(MOTE_NOW), 0);
	EXPECT(got_type(GO));
}

struct sleeper {
	mote_pid boss;
	int64_t due;
};

static void sleeper(void *arg)
{
	struct sleeper *s = arg;

	mote_sleep((mote_deadline){ s->due });
	EXPECT(mote_now().ns >= s->due);
	mote_send(s->boss, GO, NULL, 0);
}

static void many_sleepers(void)
{
	unsigned long n = test_crowd(5000);
	struct sleeper *s = calloc(n, sizeof(*s));
	uint64_t seed = test_seed();

	for (unsigned long i = 0; i < n; i++) {
		s[i] = (struct sleeper){ mote_self(), mote_in_us(test_random(&seed) % 50000).ns };
		mote_spawn(sleeper, &s[i]);
	}
	for (unsigned long i = 0; i < n; i++)
		if (!EXPECT(got_type(GO)))
			break;
	free(s);
}

int main(void)
{
	selftest_process("a timer is never early, and fires once", never_early);
	selftest_process("a deadline in the past fires at once", in_the_past);
	selftest_process("a timer's message is a copy", copies);
	selftest_process("cancel tells whether it fired, and what was left", cancel_tells);
	selftest_process("a cancelled timer never delivers", cancelled_never_delivers);
	selftest_process("short periods and reserved types are refused", refused);
	selftest_process("timers far away", far_away);
	selftest_process("an interval stays on its grid", interval);
	selftest_process_opts("an interval skips what it missed", interval_skips, SCHEDULERS(1));
	selftest_process("a timer to another outlives its maker", outlives_its_maker);
	selftest_process("a process's timers to itself end with it", of_the_dead);
	selftest_process("timers to the dead vanish, successors hear nothing", to_the_dead);
	selftest_process_opts("race: cancel against fire", race_cancel, SCHEDULERS(2));
	selftest_process_opts("race: fire against exit", race_exit, SCHEDULERS(2));
	selftest_process_opts("a hundred thousand timers", a_hundred_thousand, SCHEDULERS(2));
	selftest_process("a sleep is never early, and leaves messages alone", sleeping);
	selftest_process_opts("thousands of sleepers", many_sleepers, SCHEDULERS(2));
	return selftest_done();
}
