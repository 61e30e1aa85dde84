// SPDX-License-Identifier: MIT OR GPL-2.0
/* mote_check(): long computations notice exit signals, and share their scheduler. */
#include "proc.h"

enum { GO = 1, DATA };

static _Atomic unsigned long progress;

static void computes(void *arg)
{
	(void)arg;
	for (;;) {
		test_spin(100);
		atomic_fetch_add(&progress, 1);
		mote_check();
	}
}

static void kill_acts(void)
{
	static const struct mote_reason why[] = { { MOTE_KILL, 0, NULL, 0 }, { MOTE_SHUTDOWN, 0, NULL, 0 } };

	for (int i = 0; i < 200; i++) {
		mote_ref ref;
		mote_pid p = mote_spawn_monitor(computes, NULL, &ref);
		unsigned long before = atomic_load(&progress);

		if (i % 2)
			while (atomic_load(&progress) == before)
				mote_yield();
		mote_exit_pid(p, why[i % 2]);
		EXPECT(got_down(ref, p, i % 2 ? MOTE_SHUTDOWN : MOTE_KILLED));
	}
}

static void shares(void)
{
	/* one scheduler: computing neighbours do not keep this one, or each other, from running */
	mote_pid p[3];
	mote_ref refs[3];

	for (int i = 0; i < 3; i++)
		p[i] = mote_spawn_monitor(computes, NULL, &refs[i]);
	for (int i = 0; i < 20; i++)
		mote_yield();
	EXPECT_EQ(mote_sleep(mote_in_ms(1)), 0);
	for (int i = 0; i < 3; i++) {
		mote_exit_pid(p[i], MOTE_REASON_KILL);
		EXPECT(got_down(refs[i], p[i], MOTE_KILLED));
	}
}

static _Atomic unsigned long turns[2];

static void counts_turns(void *arg)
{
	_Atomic unsigned long *own = arg;

	for (;;) {
		atomic_fetch_add(own, 1);
		test_spin(50);
		mote_check();
	}
}

static void between_computers(void)
{
	mote_pid p[2];

	for (int i = 0; i < 2; i++) {
		atomic_store(&turns[i], 0);
		p[i] = mote_spawn(counts_turns, &turns[i]);
	}
	/* both go on as long as it takes: a neighbour that is never let in would stay at 0 for ever */
	while (atomic_load(&turns[0]) < 1000 || atomic_load(&turns[1]) < 1000)
		mote_sleep(mote_in_us(100));
	put_down(p[0]);
	put_down(p[1]);
}

static void traps(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;
	struct mote_msg *m;

	mote_trap_exit(true);
	mote_send(boss, GO, NULL, 0);
	/* a trapped exit signal is a message: mote_check() goes on, and leaves it in the mailbox */
	while (test_info(mote_self()).mailbox < 3)
		mote_check();
	EXPECT(got_type(DATA));
	m = mote_receive(MOTE_NOW);
	EXPECT(is_exit(m, boss, MOTE_SHUTDOWN));
	mote_msg_free(m);
	EXPECT(got_type(DATA));
}

static void trapped(void)
{
	mote_pid me = mote_self();
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(traps, &me, &ref);

	EXPECT(got_type(GO));
	mote_send(p, DATA, NULL, 0);
	mote_exit_pid(p, MOTE_REASON_SHUTDOWN);
	mote_send(p, DATA, NULL, 0);
	EXPECT(got_down(ref, p, MOTE_NORMAL));
}

static void never_waits(void)
{
	for (int i = 0; i < 100000; i++)
		mote_check();
	mote_send(mote_self(), DATA, NULL, 0);
	mote_check();
	EXPECT(got_type(DATA));
}

/* Signals other than messages act at mote_check(): no receive is needed for them. */
static void computes_linked(void *arg)
{
	mote_link(*(mote_pid *)arg);
	computes(NULL);
}

static void link_acts(void)
{
	for (int i = 0; i < 100; i++) {
		mote_ref a, b;
		mote_pid p = mote_spawn_monitor(sink, NULL, &a), q = mote_spawn_monitor(computes_linked, &p, &b);

		while (test_info(p).links != 1)
			mote_yield();
		mote_exit_pid(p, mote_reason_error(EIO, NULL));
		EXPECT(got_down(a, p, MOTE_ERROR));
		EXPECT(got_down(b, q, MOTE_ERROR));
	}
}

static void monitor_acts(void)
{
	/* one that computes is monitored and demonitored, and tells so, while it never receives */
	mote_pid p = mote_spawn(computes, NULL);
	mote_ref ref = mote_monitor(p);

	while (test_info(p).monitored_by != 1)
		mote_yield();
	EXPECT_EQ(mote_demonitor(ref, 0), 1);
	while (test_info(p).monitored_by != 0)
		mote_yield();
	put_down(p);
}

int main(void)
{
	selftest_process_opts("a loop with mote_check ends when told, two schedulers", kill_acts, SCHEDULERS(2));
	selftest_process_opts("a loop with mote_check ends when told, one scheduler", kill_acts, SCHEDULERS(1));
	selftest_process_opts("computing neighbours let others run", shares, SCHEDULERS(1));
	selftest_process_opts("computing neighbours let each other run", between_computers, SCHEDULERS(1));
	selftest_process("a trapped exit signal does not disturb it", trapped);
	selftest_process("it does not wait, nor take messages", never_waits);
	selftest_process_opts("an exit by a link acts while computing", link_acts, SCHEDULERS(2));
	selftest_process_opts("monitors act while computing", monitor_acts, SCHEDULERS(2));
	return selftest_done();
}
