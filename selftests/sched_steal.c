// SPDX-License-Identifier: MIT OR GPL-2.0
/* The scheduler: work is shared, pinned ones stay, priorities hold, nobody starves. */
#include "proc.h"

enum { GO = 1, DATA, DONE };

static struct mote_runtime_info runtime(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	EXPECT_EQ(mote_runtime_info(&info), 0);
	return info;
}

static unsigned int here(void)
{
	return test_info(mote_self()).scheduler;
}

/* All are spawned on one scheduler; they end only when one of them has been seen on each. */
static _Atomic unsigned int seen;

static void until_shared(void *arg)
{
	(void)arg;
	while (atomic_load(&seen) != 3) {
		atomic_fetch_or(&seen, 1u << here());
		test_spin(1000);
		mote_yield();
	}
}

static void work_is_shared(void)
{
	uint64_t before = runtime().steals;
	mote_ref refs[50];
	mote_pid p[50];

	atomic_store(&seen, 0);
	for (int i = 0; i < 50; i++)
		p[i] = mote_spawn_monitor(until_shared, NULL, &refs[i]);
	for (int i = 0; i < 50; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
	EXPECT_EQ(atomic_load(&seen), 3);
	EXPECT(runtime().steals > before);
}

/* Two that must run at the same time, spawned by one: a second scheduler has to come and take one. */
static void rendezvous(void *arg)
{
	_Atomic unsigned int *met = arg;

	atomic_fetch_add(met, 1);
	while (atomic_load(met) < 2)
		;	/* no runtime call: its scheduler is lost to others */
}

static void idle_schedulers_come(void)
{
	unsigned long n = test_rounds(600);

	if (test_one_thread())
		return;
	for (unsigned long i = 0; i < n; i++) {
		_Atomic unsigned int met = 0;
		mote_ref refs[2];
		mote_pid p[2];

		for (int j = 0; j < 2; j++)
			p[j] = mote_spawn_monitor(rendezvous, &met, &refs[j]);
		for (int j = 0; j < 2; j++)
			EXPECT(got_down(refs[j], p[j], MOTE_NORMAL));
		if (i % 16 == 0)
			mote_sleep(mote_in_us(300));	/* so that the other parks now and then */
	}
}

/*
 * The same through messages: each of two sends the other a message and waits for the answer while the only other
 * runnable ones are hogs. Nobody who was woken may be forgotten, parked or not.
 */
static void woken_across(void *arg)
{
	mote_pid p = spawn_pinned(mirror, NULL, 1, 0, NULL);
	unsigned long n = test_rounds(30000);
	uint64_t seed = test_seed();

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		if (!EXPECT(ping(p)))
			break;
		if (i % 4 == 0)
			test_spin(test_random(&seed) % 20000);	/* about as long as a scheduler takes to park */
	}
	put_down(p);
}

static void no_lost_wake_up(void)
{
	on_first_scheduler(woken_across, NULL);
}

static void stays(void *arg)
{
	unsigned int home = *(unsigned int *)arg;
	uint64_t seed = test_seed() + home;

	for (int i = 0; i < 300; i++) {
		EXPECT_EQ(here(), home);
		switch (test_random(&seed) % 3) {
		case 0:
			mote_yield();
			break;
		case 1:
			mote_sleep(mote_in_us(test_random(&seed) % 50));
			break;
		case 2:
			mote_send(mote_self(), GO, NULL, 0);
			mote_msg_free(mote_receive(MOTE_FOREVER));
			break;
		}
	}
}

static void pinned_stay(void)
{
	static unsigned int homes[] = { 0, 1 };
	mote_ref refs[20];
	mote_pid p[20];

	for (unsigned int i = 0; i < 20; i++)
		p[i] = spawn_pinned(stays, &homes[i % 2], i + 6, MOTE_MONITOR, &refs[i]);	/* modulo two */
	for (int i = 0; i < 20; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
}

static void same_thread(void *arg)
{
	static __thread int mine;
	int *first = &mine;

	(void)arg;
	for (int i = 0; i < 200; i++) {
		if (i % 3)
			mote_yield();
		else
			mote_sleep(mote_in_us(20));
		EXPECT(*(int *volatile *)&first == &mine);
	}
}

static void pinned_thread(void)
{
	mote_ref refs[10];
	mote_pid p[10];

	for (unsigned int i = 0; i < 10; i++)
		p[i] = spawn_pinned(same_thread, NULL, i, MOTE_MONITOR, &refs[i]);
	for (int i = 0; i < 10; i++)
		EXPECT(got_down(refs[i], p[i], MOTE_NORMAL));
}

/* Priorities, on one scheduler: what runs is written down. */
#define LOG 4000

static char ran[LOG + 1];
static _Atomic unsigned int nr_ran;

static void writes(void *arg)
{
	mote_msg_free(mote_receive_type(GO, PATIENCE));
	for (;;) {
		unsigned int n = atomic_fetch_add(&nr_ran, 1);

		if (n >= LOG)
			return;
		ran[n] = *(char *)arg;
		mote_yield();
	}
}

static unsigned int count(char c)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < LOG; i++)
		n += ran[i] == c;
	return n;
}

static void write_down(const char *who, const int *priorities)
{
	mote_ref refs[8];
	mote_pid p[8];
	int n = 0;

	atomic_store(&nr_ran, 0);
	memset(ran, 0, sizeof(ran));
	for (; who[n]; n++)
		p[n] = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .fn = writes, .arg = (void *)(uintptr_t)&who[n],
			.priority = priorities[n], .flags = MOTE_MONITOR, .ref = &refs[n] });
	for (int i = 0; i < n; i++)
		while (test_info(p[i]).state != MOTE_WAITING)
			mote_yield();
	/* this process goes on until it waits; then all of them are runnable */
	for (int i = 0; i < n; i++)
		mote_send(p[i], GO, NULL, 0);
	while (n-- > 0)
		EXPECT(got_down(refs[n], p[n], MOTE_NORMAL));
}

static void high_before_all(void)
{
	static const int prio[] = { MOTE_PRIORITY_HIGH, MOTE_PRIORITY_NORMAL, MOTE_PRIORITY_LOW };

	if (test_left_to_chance())
		return;
	/* the high one runs to its end before the others get a turn; the log holds what one alone wrote */
	write_down("hnl", prio);
	EXPECT_EQ(count('h'), LOG);
}

static void low_is_one_in_eight(void)
{
	static const int prio[] = { MOTE_PRIORITY_NORMAL, MOTE_PRIORITY_LOW };
	unsigned int low;

	if (test_left_to_chance())
		return;
	write_down("nl", prio);
	low = count('l');
	test_note("low ran %u of %u turns", low, LOG);
	EXPECT(low >= LOG / 18 && low <= LOG / 5);
	EXPECT_EQ(count('n') + low, LOG);
}

static void yield_is_fair(void)
{
	static const int prio[] = { 0, 0, 0, 0 };

	write_down("abcd", prio);
	for (const char *c = "abcd"; *c; c++) {
		test_note("%c ran %u of %u turns", *c, count(*c), LOG);
		EXPECT(count(*c) >= LOG / 6 && count(*c) <= LOG / 3);
	}
}

/* A pair that keep waking each other through the LIFO slot must not keep a third from its turn. */
static void volley(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		mote_send_msg(m->from, m);
	}
}

static _Atomic int third_ran;

static void third(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100; i++) {
		atomic_fetch_add(&third_ran, 1);
		mote_yield();
	}
}

static void serve(void *arg)
{
	mote_send(*(mote_pid *)arg, DATA, "ball", 5);
	volley(NULL);
}

static void lifo_starves_nobody(void)
{
	mote_pid a = mote_spawn(volley, NULL), b = mote_spawn(serve, &a), t;
	mote_ref ref;

	atomic_store(&third_ran, 0);
	mote_yield();
	t = mote_spawn_monitor(third, NULL, &ref);
	EXPECT(got_down(ref, t, MOTE_NORMAL));
	EXPECT_EQ(atomic_load(&third_ran), 100);
	EXPECT_EQ(mote_sleep(mote_in_us(100)), 0);	/* nor timers */
	put_down(a);
	put_down(b);
}

/* One who sends without end, and one who receives what is always there, are both made to let others run. */
static void endless_sender(void *arg)
{
	for (;;)
		mote_send(*(mote_pid *)arg, DATA, NULL, 0);
}

static void endless_self(void *arg)
{
	(void)arg;
	mote_send(mote_self(), DATA, NULL, 0);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		mote_send_msg(mote_self(), m);
	}
}

static void slices(void)
{
	mote_pid quiet = mote_spawn(sink, NULL), a = mote_spawn(endless_sender, &quiet),
		 b = mote_spawn(endless_self, NULL), t;
	mote_ref ref;

	for (int i = 0; i < 50; i++) {
		t = mote_spawn_monitor(third, NULL, &ref);
		EXPECT(got_down(ref, t, MOTE_NORMAL));
	}
	put_down(a);
	put_down(b);
	put_down(quiet);
}

/*
 * New processes must not always go before old ones: one that was spawned early runs, although others are spawned
 * without end, by one process, or each by the one before it.
 */
#define NO_END 3000000

static _Atomic bool early_ran;
static _Atomic unsigned long spawned_after;

static void early(void *arg)
{
	(void)arg;
	atomic_store(&early_ran, true);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void spawns_without_end(void *arg)
{
	(void)arg;
	while (!atomic_load(&early_ran) && atomic_fetch_add(&spawned_after, 1) < NO_END)
		mote_spawn(nothing, NULL);
}

static void one_after_the_other(void *arg)
{
	(void)arg;
	if (!atomic_load(&early_ran) && atomic_fetch_add(&spawned_after, 1) < NO_END)
		mote_spawn(one_after_the_other, NULL);
}

static void old_ones_run(void)
{
	static const mote_fn spawners[] = { spawns_without_end, one_after_the_other };

	for (int i = 0; i < 2; i++) {
		mote_ref ref;
		mote_pid p;

		atomic_store(&early_ran, false);
		atomic_store(&spawned_after, 0);
		p = mote_spawn_monitor(early, NULL, &ref);
		mote_spawn(spawners[i], NULL);
		EXPECT(got_down(ref, p, MOTE_NORMAL));
		EXPECT(atomic_load(&spawned_after) < NO_END);
		test_note("%lu were spawned before it ran", atomic_load(&spawned_after));
		while (runtime().processes > 1)
			mote_yield();
	}
}

/* New ones get their share beside those that yield without end: counted in turns, not in time. */
static _Atomic unsigned long yields;

static void yields_without_end(void *arg)
{
	(void)arg;
	for (;;) {
		atomic_fetch_add(&yields, 1);
		mote_yield();
	}
}

static void new_ones_run(void)
{
	enum { WAVES = 20, WAVE = 100, YIELDERS = 3 };
	mote_pid p[YIELDERS];
	mote_ref refs[WAVE];

	atomic_store(&yields, 0);
	for (int i = 0; i < YIELDERS; i++)
		p[i] = mote_spawn(yields_without_end, NULL);
	for (int w = 0; w < WAVES; w++) {
		for (int i = 0; i < WAVE; i++)
			mote_spawn_monitor(nothing, NULL, &refs[i]);
		for (int i = 0; i < WAVE; i++)
			mote_msg_free(mote_receive_ref(refs[i], PATIENCE));
	}
	test_note("%lu turns of %d who yield beside %d new ones", atomic_load(&yields), YIELDERS, WAVES * WAVE);
	EXPECT(atomic_load(&yields) < 10ul * YIELDERS * WAVES * WAVE);
	for (int i = 0; i < YIELDERS; i++)
		put_down(p[i]);
}

/*
 * Steal against send: processes that wander between schedulers pass tokens around a ring; each token is always in
 * exactly one place, so every hop must arrive, and the sum must be right at the end.
 */
#define RING 64

struct station {
	mote_pid next, boss;
	uint32_t index;
};

static void station(void *arg)
{
	struct station *s = arg;
	uint64_t seed = test_seed() + s->index;

	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		uint32_t *left = m->data;

		if (*left == 0) {
			mote_send(s->boss, DONE, NULL, 0);
			mote_msg_free(m);
			continue;
		}
		--*left;
		if (test_random(&seed) % 8 == 0)
			mote_yield();
		if (test_random(&seed) % 16 == 0)
			test_spin(test_random(&seed) % 2000);
		mote_send_msg(s->next, m);
	}
}

static void steal_races_send(void)
{
	static struct station s[RING];
	uint32_t hops = (uint32_t)test_rounds(20000);
	mote_pid p[RING];
	uint64_t before = runtime().steals;

	for (int i = RING - 1; i >= 0; i--) {
		s[i].boss = mote_self();
		s[i].index = (uint32_t)i;
		p[i] = mote_spawn(station, &s[i]);
		if (i < RING - 1)
			s[i].next = p[i + 1];
		if (i == 0)
			s[RING - 1].next = p[0];
	}
	for (int i = 0; i < 16; i++)
		mote_send(p[i * 4], DATA, &hops, sizeof(hops));
	for (int i = 0; i < 16; i++)
		EXPECT(got_type(DONE));
	test_note("%llu steals", (unsigned long long)(runtime().steals - before));
	for (int i = 0; i < RING; i++)
		put_down(p[i]);
	EXPECT(mailbox_is_empty());
}

static void spawns_two(void *arg)
{
	uintptr_t depth = (uintptr_t)arg;

	if (depth == 0) {
		atomic_fetch_add(&third_ran, 1);
		return;
	}
	mote_spawn(spawns_two, (void *)(depth - 1));
	mote_spawn(spawns_two, (void *)(depth - 1));
}

static void a_tree(void)
{
	uintptr_t depth = SANITIZED ? 9 : 14;

	for (int round = 0; round < 5; round++) {
		atomic_store(&third_ran, 0);
		mote_spawn(spawns_two, (void *)depth);
		while (atomic_load(&third_ran) < 1 << depth)
			mote_sleep(mote_in_us(100));
	}
	while (runtime().processes > 1)
		mote_yield();
}

int main(void)
{
	selftest_process_opts("work is shared between schedulers", work_is_shared, SCHEDULERS(2));
	selftest_process_opts("an idle scheduler comes for work", idle_schedulers_come, SCHEDULERS(2));
	selftest_process_opts("no wake-up is lost across schedulers", no_lost_wake_up, SCHEDULERS(2));
	selftest_process_opts("pinned processes stay on their scheduler", pinned_stay, SCHEDULERS(2));
	selftest_process_opts("pinned processes stay on their OS thread", pinned_thread, SCHEDULERS(2));
	selftest_process_opts("high priority runs before all others", high_before_all, SCHEDULERS(1));
	selftest_process_opts("low priority runs about one turn in nine", low_is_one_in_eight, SCHEDULERS(1));
	selftest_process_opts("mote_yield is fair", yield_is_fair, SCHEDULERS(1));
	selftest_process_opts("two who wake each other starve nobody", lifo_starves_nobody, SCHEDULERS(1));
	selftest_process_opts("endless senders and receivers let others run", slices, SCHEDULERS(1));
	selftest_process_opts("spawns without end do not hold up those spawned before", old_ones_run, SCHEDULERS(1));
	selftest_process_opts("those who yield without end do not hold up new ones", new_ones_run, SCHEDULERS(1));
	selftest_process_opts("race: steal against send", steal_races_send, SCHEDULERS(2));
	selftest_process_opts("race: a tree of spawns and exits on two schedulers", a_tree, SCHEDULERS(2));
	selftest_process_opts("race: steal against send, four schedulers", steal_races_send, SCHEDULERS(4));
	return selftest_done();
}
