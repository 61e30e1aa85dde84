// SPDX-License-Identifier: MIT OR GPL-2.0
/* mote_blocking: foreign code on threads of its own; only its caller waits. */
#include "proc.h"

enum { GO = 1, DATA };

static int64_t twice(void *arg)
{
	return *(int64_t *)arg * 2;
}

static void results(void)
{
	for (int64_t i = -50; i < 50; i++) {
		int64_t n = i * 1000000007, r = 0;

		EXPECT_EQ(mote_blocking(twice, &n, &r, i % 2 ? MOTE_FOREVER : PATIENCE), 0);
		EXPECT_EQ(r, n * 2);
		EXPECT_EQ(mote_blocking(twice, &n, NULL, PATIENCE), 0);
	}
}

static int64_t where(void *arg)
{
	mote_pid to = *(mote_pid *)arg;

	/* a foreign thread, which may send */
	EXPECT(!mote_pid_valid(mote_self()));
	EXPECT(!mote_in_process());
	EXPECT_EQ(mote_send(to, DATA, "from the job", 13), 0);
	return 1;
}

static void on_a_foreign_thread(void)
{
	mote_pid me = mote_self();
	int64_t r = 0;
	struct mote_msg *m;

	EXPECT_EQ(mote_blocking(where, &me, &r, PATIENCE), 0);
	EXPECT_EQ(r, 1);
	m = mote_receive(PATIENCE);
	EXPECT(m && m->type == DATA && !mote_pid_valid(m->from));
	mote_msg_free(m);
	EXPECT(mote_pid_equal(mote_self(), me));
}

/* A job that lasts until it is let go. */
struct gate {
	_Atomic int open, entered, left;
};

static int64_t waits_at_gate(void *arg)
{
	struct gate *g = arg;

	atomic_fetch_add(&g->entered, 1);
	while (!atomic_load(&g->open))
		usleep(200);
	return atomic_fetch_add(&g->left, 1);
}

static void at_gate(void *arg)
{
	EXPECT_EQ(mote_blocking(waits_at_gate, arg, NULL, MOTE_FOREVER), 0);
}

static void only_its_caller_waits(void)
{
	struct gate g = { 0, 0, 0 };
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(at_gate, &g, &ref), echo = mote_spawn(mirror, NULL);

	while (!atomic_load(&g.entered))
		mote_yield();
	for (int i = 0; i < 100; i++)
		EXPECT(ping(echo));
	EXPECT_EQ(test_info(p).state, MOTE_WAITING);
	EXPECT_EQ(test_info(p).wait, MOTE_WAIT_BLOCKING);
	atomic_store(&g.open, 1);
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	EXPECT_EQ(atomic_load(&g.left), 1);
}

static void at_the_deadline(void)
{
	struct gate g = { 0, 0, 0 };
	mote_deadline d = mote_in_ms(20);
	int64_t r = 77;

	EXPECT_EQ(mote_blocking(waits_at_gate, &g, &r, d), -ETIMEDOUT);
	EXPECT(mote_now().ns >= d.ns);
	EXPECT_EQ(r, 77);
	/* it had begun, unless this machine is very slow: then it goes on, and its result is dropped */
	if (atomic_load(&g.entered)) {
		EXPECT_EQ(atomic_load(&g.left), 0);
		atomic_store(&g.open, 1);
		while (!atomic_load(&g.left))
			mote_sleep(mote_in_us(100));
		EXPECT_EQ(r, 77);
		EXPECT(mailbox_is_empty());
	}
}

static _Atomic int began_late;

static int64_t begins_late(void *arg)
{
	(void)arg;
	atomic_fetch_add(&began_late, 1);
	return 0;
}

static void withdrawn(void)
{
	enum { N = 64 };
	struct gate g = { 0, 0, 0 };
	mote_ref refs[N];
	mote_pid p[N];
	int64_t r = 5;

	atomic_store(&began_late, 0);
	for (int i = 0; i < N; i++)
		p[i] = mote_spawn_monitor(at_gate, &g, &refs[i]);
	while (atomic_load(&g.entered) < N)
		mote_sleep(mote_in_us(100));
	/* all threads are taken: this one does not begin before its deadline, and so never */
	EXPECT_EQ(mote_blocking(begins_late, NULL, &r, mote_in_ms(5)), -ETIMEDOUT);
	EXPECT_EQ(r, 5);
	atomic_store(&g.open, 1);
	for (int i = 0; i < N; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
	EXPECT_EQ(mote_blocking(twice, &(int64_t){ 4 }, &r, PATIENCE), 0);
	EXPECT_EQ(r, 8);
	EXPECT_EQ(atomic_load(&began_late), 0);
}

struct crowd {
	_Atomic int now, most, all;
};

static int64_t in_a_crowd(void *arg)
{
	struct crowd *c = arg;
	int now = atomic_fetch_add(&c->now, 1) + 1, most = atomic_load(&c->most);

	while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now))
		;
	usleep(3000);
	atomic_fetch_sub(&c->now, 1);
	atomic_fetch_add(&c->all, 1);
	return 3;
}

static void one_of_the_crowd(void *arg)
{
	int64_t r = 0;

	EXPECT_EQ(mote_blocking(in_a_crowd, arg, &r, PATIENCE), 0);
	EXPECT_EQ(r, 3);
}

static void two_hundred(void)
{
	enum { N = 200 };
	struct crowd c = { 0, 0, 0 };
	mote_ref refs[N];
	mote_pid p[N];

	for (int i = 0; i < N; i++)
		p[i] = mote_spawn_monitor(one_of_the_crowd, &c, &refs[i]);
	for (int i = 0; i < N; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
	EXPECT_EQ(atomic_load(&c.all), N);
	EXPECT(atomic_load(&c.most) <= 64);
	test_note("at most %d at once", atomic_load(&c.most));
}

static void killed_meanwhile(void)
{
	for (int kill = 0; kill < 2; kill++) {
		struct gate g = { 0, 0, 0 };
		mote_ref ref;
		mote_pid p = mote_spawn_monitor(at_gate, &g, &ref);

		while (!atomic_load(&g.entered))
			mote_yield();
		mote_exit_pid(p, kill ? MOTE_REASON_KILL : MOTE_REASON_SHUTDOWN);
		while (test_info(p).state != MOTE_EXITING)
			mote_yield();
		EXPECT(!mote_receive_ref(ref, mote_in_ms(10)));
		EXPECT(mote_alive(p));
		EXPECT_EQ(test_info(p).state, MOTE_EXITING);
		atomic_store(&g.open, 1);
		EXPECT(got_down(ref, p, kill ? MOTE_KILLED : MOTE_SHUTDOWN));
		EXPECT_EQ(atomic_load(&g.left), 1);
	}
}

static void waits_its_turn(void *arg)
{
	mote_blocking(begins_late, arg, NULL, MOTE_FOREVER);
	atomic_fetch_add(&began_late, 100);
}

static void killed_before_its_turn(void)
{
	enum { N = 64 };
	struct gate g = { 0, 0, 0 };
	mote_ref refs[N], ref;
	mote_pid p[N], q;

	atomic_store(&began_late, 0);
	for (int i = 0; i < N; i++)
		p[i] = mote_spawn_monitor(at_gate, &g, &refs[i]);
	while (atomic_load(&g.entered) < N)
		mote_sleep(mote_in_us(100));
	q = mote_spawn_monitor(waits_its_turn, NULL, &ref);
	while (test_info(q).wait != MOTE_WAIT_BLOCKING)
		mote_yield();
	mote_exit_pid(q, MOTE_REASON_KILL);
	/* its job has not begun: it need not wait for those at the gate */
	EXPECT(got_down(ref, q, MOTE_KILLED));
	atomic_store(&g.open, 1);
	for (int i = 0; i < N; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
	EXPECT_EQ(atomic_load(&began_late), 0);
}

/* Jobs that end at about their deadline, or when their caller is killed. */
struct brief {
	unsigned int spins;
};

static int64_t brief(void *arg)
{
	test_spin(((struct brief *)arg)->spins);
	return 9;
}

static struct brief lengths[64];

static void deadline_races_end(void)
{
	unsigned long n = test_rounds(20000), late = 0;
	uint64_t seed = test_seed();

	for (int i = 0; i < 64; i++)
		lengths[i].spins = (unsigned int)i * 1000;
	for (unsigned long i = 0; i < n; i++) {
		int64_t r = 0;
		int err = mote_blocking(brief, &lengths[test_random(&seed) % 64], &r, mote_in_us(30));

		EXPECT(err ? err == -ETIMEDOUT && r == 0 : r == 9);
		late += err != 0;
	}
	EXPECT(mailbox_is_empty());
	test_note("%lu of %lu were late", late, n);
}

static void calls_brief(void *arg)
{
	for (;;) {
		int64_t r = 0;

		EXPECT_EQ(mote_blocking(brief, arg, &r, MOTE_FOREVER), 0);
		EXPECT_EQ(r, 9);
	}
}

static void kill_races_end(void)
{
	unsigned long n = test_rounds(5000);
	uint64_t seed = test_seed();

	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref;
		mote_pid p = mote_spawn_monitor(calls_brief, &lengths[test_random(&seed) % 64], &ref);

		if (i % 4)
			mote_sleep(mote_in_us(test_random(&seed) % 60));
		for (uint32_t j = test_random(&seed) % 4; j; j--)
			test_jitter(&seed);
		mote_exit_pid(p, i % 2 ? MOTE_REASON_KILL : MOTE_REASON_SHUTDOWN);
		if (!EXPECT(got_down(ref, p, i % 2 ? MOTE_KILLED : MOTE_SHUTDOWN)))
			return;
	}
	EXPECT(mailbox_is_empty());
}

int main(void)
{
	selftest_process("the result of fn comes back", results);
	selftest_process("fn runs on a foreign thread, which may send", on_a_foreign_thread);
	selftest_process_opts("only its caller waits", only_its_caller_waits, SCHEDULERS(1));
	selftest_process("at the deadline: -ETIMEDOUT; what is under way goes on", at_the_deadline);
	selftest_process("at the deadline: what has not begun never does", withdrawn);
	selftest_process_opts("two hundred at once: all run, at most 64 at a time", two_hundred, SCHEDULERS(2));
	selftest_process_opts("told to exit meanwhile: exiting until fn returns", killed_meanwhile, SCHEDULERS(2));
	selftest_process("told to exit before fn began: at once", killed_before_its_turn);
	selftest_process_opts("race: deadline against the end of fn", deadline_races_end, SCHEDULERS(2));
	selftest_process_opts("race: kill against the end of fn", kill_races_end, SCHEDULERS(2));
	return selftest_done();
}
