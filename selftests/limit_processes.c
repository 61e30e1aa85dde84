/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * max_processes: a spawn beyond it is refused with -EAGAIN, whoever spawns; nobody else notices; and each end makes room
 * for one more.
 */
#include "limits.h"

#include <pthread.h>

#define MAX 500

static void waits(void *arg)
{
	(void)arg;
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

static int spawn_all(mote_pid *pids, unsigned int flags)
{
	int n;

	for (n = 0; n < 2 * MAX; n++) {
		mote_ref ref;

		pids[n] = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .fn = waits, .flags = flags,
			.ref = flags & MOTE_MONITOR ? &ref : NULL });
		if (!mote_pid_valid(pids[n]))
			break;
	}
	EXPECT_EQ(mote_errno(), -EAGAIN);
	return n;
}

static void reached(void)
{
	static mote_pid pids[2 * MAX];
	struct mote_process_info before, after;
	struct mote_msg *m;

	mote_trap_exit(true);
	for (int round = 0; round < 10; round++) {
		unsigned int flags = round & 1 ? MOTE_LINK | MOTE_MONITOR : 0;
		int n = spawn_all(pids, flags);

		EXPECT_EQ(n, MAX - 1);
		EXPECT_EQ(processes_alive(), MAX);
		/* A spawn that is refused leaves nothing behind. */
		before = test_info(mote_self());
		EXPECT(!mote_pid_valid(mote_spawn_link(waits, NULL)));
		EXPECT_EQ(mote_errno(), -EAGAIN);
		after = test_info(mote_self());
		EXPECT_EQ(after.links, before.links);
		EXPECT_EQ(after.monitors, before.monitors);
		/* One goes, one may come. */
		for (int i = 0; i < 20; i++) {
			put_down(pids[i]);
			pids[i] = mote_spawn(waits, NULL);
			EXPECT(mote_pid_valid(pids[i]));
			EXPECT(!mote_pid_valid(mote_spawn(waits, NULL)));
		}
		for (int i = 0; i < n; i++)
			mote_exit_pid(pids[i], MOTE_REASON_KILL);
		EXPECT(processes_come_to(1));
		while ((m = mote_receive(MOTE_NOW)))
			mote_msg_free(m);
		EXPECT_EQ(test_info(mote_self()).links, 0);
	}
}

/* From many sides at once: never more than allowed by much, and nobody is lost. */

static _Atomic unsigned long made, refused;

static void ends(void *arg)
{
	(void)arg;
}

static void *spawns_outside(void *arg)
{
	for (unsigned long i = 0; i < test_rounds(20000); i++) {
		if (mote_pid_valid(mote_spawn(ends, NULL)))
			atomic_fetch_add(&made, 1);
		else
			atomic_fetch_add(&refused, mote_errno() == -EAGAIN);
	}
	return arg;
}

static void spawns_inside(void *arg)
{
	spawns_outside(arg);
}

static void race(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };
	unsigned long wanted = 5 * test_rounds(20000);
	uint64_t spawned, most = 0;
	pthread_t threads[2];
	mote_ref refs[3];
	mote_pid pids[3];

	mote_runtime_info(&info);
	spawned = info.spawned;
	for (int i = 0; i < 3; i++) {
		/* Those before may have filled the table already. */
		do
			pids[i] = mote_spawn_monitor(spawns_inside, NULL, &refs[i]);
		while (!mote_pid_valid(pids[i]));
	}
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(pthread_create(&threads[i], NULL, spawns_outside, NULL), 0);
	for (int i = 0; i < 100; i++) {
		uint64_t n = processes_alive();

		if (n > most)
			most = n;
		mote_sleep(mote_in_us(100));
	}
	for (int i = 0; i < 3; i++)
		EXPECT(got_down(refs[i], pids[i], MOTE_NORMAL));
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	EXPECT(processes_come_to(1));
	test_note("%lu made, %lu refused, %llu at once at most", made, refused, (unsigned long long)most);
	EXPECT_EQ(made + refused, wanted);
	mote_runtime_info(&info);
	EXPECT_EQ(info.spawned, spawned + 3 + made);
	/* Spawners that look at the same time may all find the last place. */
	EXPECT(most <= MAX + 5);
}

int main(void)
{
	static const struct mote_opts opts = { .size = sizeof(opts), .max_processes = MAX };

	selftest_process_opts("max_processes: refused, and room for one more with each end", reached, &opts);
	selftest_process_opts("max_processes: from many sides at once", race, &opts);
	return selftest_done();
}
