// SPDX-License-Identifier: MIT OR GPL-2.0
/* Processes seen from outside: what mote_process_info says, and the walk over all. */
#include "proc.h"

#include <fcntl.h>

enum { GO = 1, DATA };

static mote_pid waiting_in(mote_fn fn, void *arg, int wait)
{
	mote_pid p = mote_spawn(fn, arg);

	while (test_info(p).wait != wait)
		mote_yield();
	return p;
}

static void sleeps(void *arg)
{
	(void)arg;
	mote_sleep(MOTE_FOREVER);
}

static void calls(void *arg)
{
	mote_call(*(mote_pid *)arg, GO, NULL, 0, NULL, MOTE_FOREVER);
}

static void by_ref(void *arg)
{
	mote_receive_ref(mote_monitor(*(mote_pid *)arg), MOTE_FOREVER);
}

static void by_type(void *arg)
{
	(void)arg;
	mote_receive_type(DATA, MOTE_FOREVER);
}

static int64_t nap(void *arg)
{
	usleep(*(unsigned int *)arg);
	return 0;
}

static void blocks(void *arg)
{
	mote_blocking(nap, arg, NULL, MOTE_FOREVER);
}

static void states(void)
{
	mote_pid quiet = mote_spawn(sink, NULL), p;
	unsigned int us = 30000;
	static const struct {
		mote_fn fn;
		int wait;
	} waits[] = {
		{ sink, MOTE_WAIT_MESSAGE }, { by_type, MOTE_WAIT_MESSAGE }, { sleeps, MOTE_WAIT_SLEEP },
		{ calls, MOTE_WAIT_REF }, { by_ref, MOTE_WAIT_REF }, { blocks, MOTE_WAIT_BLOCKING },
	};

	EXPECT_EQ(test_info(mote_self()).state, MOTE_RUNNING);
	EXPECT_EQ(test_info(mote_self()).wait, MOTE_WAIT_NONE);
	for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
		p = waiting_in(waits[i].fn, waits[i].wait == MOTE_WAIT_BLOCKING ? (void *)&us : (void *)&quiet,
			       waits[i].wait);
		EXPECT_EQ(test_info(p).state, MOTE_WAITING);
		put_down(p);
	}
}

static void runnable(void)
{
	mote_pid p;

	if (test_left_to_chance())
		return;
	/* one scheduler, which this process does not give away */
	p = mote_spawn(sink, NULL);
	EXPECT_EQ(test_info(p).state, MOTE_RUNNABLE);
	put_down(p);
}

static void linked(void *arg)
{
	mote_link(*(mote_pid *)arg);
	mote_monitor(*(mote_pid *)arg);
	mote_monitor(*(mote_pid *)arg);
	sink(NULL);
}

static void opens(void *arg)
{
	(void)arg;
	EXPECT(mote_file_open("/dev/null", O_RDONLY, 0) >= 0);
	EXPECT(mote_file_open("/dev/null", O_RDONLY, 0) >= 0);
	mote_sleep(MOTE_FOREVER);
}

static void relabelled(void *arg)
{
	EXPECT_EQ(mote_label_set(arg), 0);
	mote_sleep(MOTE_FOREVER);
}

static void labels(void)
{
	mote_pid p = waiting_in(relabelled, "later", MOTE_WAIT_SLEEP);

	EXPECT(test_info(p).label && !strcmp(test_info(p).label, "later"));
	put_down(p);
	EXPECT(test_info(mote_self()).label && !strcmp(test_info(mote_self()).label, "main"));
	EXPECT_EQ(mote_label_set("first"), 0);
	EXPECT(!strcmp(test_info(mote_self()).label, "first"));
	EXPECT_EQ(mote_label_set(NULL), 0);
	EXPECT(!test_info(mote_self()).label);
}

static void figures(void)
{
	mote_pid p = waiting_in(sleeps, NULL, MOTE_WAIT_SLEEP), q;
	struct mote_process_info info;

	info = test_info(p);
	EXPECT(mote_pid_equal(info.pid, p));
	EXPECT(mote_pid_equal(info.parent, mote_self()));
	EXPECT_EQ(info.mailbox, 0);
	EXPECT_EQ(info.links, 0);
	EXPECT_EQ(info.monitors, 0);
	EXPECT_EQ(info.monitored_by, 0);
	EXPECT_EQ(info.fds, 0);
	EXPECT(info.memory > 0 && info.memory < 4096);
	EXPECT(info.stack >= 16384);
	EXPECT(!info.label);
	EXPECT(!strcmp(info.name, ""));
	for (int i = 0; i < 10; i++)
		mote_send(p, DATA, NULL, 0);
	/* It may just be on its way from the inbox to the mailbox. */
	while (test_info(p).mailbox != 10)
		mote_yield();
	q = waiting_in(linked, &p, MOTE_WAIT_MESSAGE);
	EXPECT_EQ(test_info(q).links, 1);
	EXPECT_EQ(test_info(q).monitors, 2);
	/* p sleeps, but signals act when they reach it */
	while (test_info(p).monitored_by != 2)
		mote_yield();
	EXPECT_EQ(test_info(p).links, 1);
	EXPECT_EQ(mote_register("info.p", p), 0);
	EXPECT(!strcmp(test_info(p).name, "info.p"));
	put_down(q);
	while (mote_alive(p))
		mote_yield();
	p = waiting_in(opens, NULL, MOTE_WAIT_SLEEP);
	EXPECT_EQ(test_info(p).fds, 2);
	put_down(p);
}

static void where_spawned(void)
{
	mote_pid p[4];

	for (int i = 0; i < 3; i++)
		p[i] = mote_spawn(sink, NULL);
	p[3] = mote_spawn(sink, NULL);
	EXPECT(test_info(p[0]).spawned_at != NULL);
	/* one spawn site, unless the compiler unrolled the loop: then three */
	EXPECT(test_info(p[3]).spawned_at != test_info(p[0]).spawned_at);
	EXPECT((const char *)test_info(p[3]).spawned_at > (const char *)(uintptr_t)where_spawned);
	EXPECT((const char *)test_info(p[3]).spawned_at < (const char *)(uintptr_t)where_spawned + 4000);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void bad_arguments(void)
{
	mote_ref ref;
	mote_pid dead = mote_spawn_monitor(nothing, NULL, &ref);
	struct mote_process_info info = { .size = 0 };
	struct mote_runtime_info ri = { .size = 0 };
	struct { struct mote_process_info info; char more[64]; } wide;

	EXPECT(got_down(ref, dead, MOTE_NORMAL));
	EXPECT_EQ(mote_process_info(mote_self(), &info), -EINVAL);
	EXPECT_EQ(mote_runtime_info(&ri), -EINVAL);
	info.size = sizeof(info);
	EXPECT_EQ(mote_process_info(dead, &info), -ESRCH);
	EXPECT_EQ(mote_process_info(MOTE_NOBODY, &info), -ESRCH);
	EXPECT(!mote_alive(dead));
	EXPECT(!mote_alive(MOTE_NOBODY));
	EXPECT(mote_alive(mote_self()));
	/* an older caller: nothing is written behind its struct; a newer one: the rest is zero or untouched */
	memset(&info, 0x5a, sizeof(info));
	info.size = offsetof(struct mote_process_info, mailbox);
	EXPECT_EQ(mote_process_info(mote_self(), &info), 0);
	EXPECT(mote_pid_equal(info.pid, mote_self()));
	EXPECT_EQ(info.mailbox, 0x5a5a5a5a5a5a5a5all);
	memset(&wide, 0, sizeof(wide));
	wide.info.size = sizeof(wide);
	EXPECT_EQ(mote_process_info(mote_self(), &wide.info), 0);
	EXPECT(mote_pid_equal(wide.info.pid, mote_self()));
}

static void of_the_runtime(void)
{
	struct mote_runtime_info a = { .size = sizeof(a) }, b = { .size = sizeof(b) };

	EXPECT_EQ(mote_runtime_info(&a), 0);
	EXPECT_EQ(a.schedulers, 2);
	EXPECT_EQ(a.processes, 1);
	EXPECT(!strcmp(a.io, "io_uring") || !strcmp(a.io, "epoll"));
	EXPECT(!strcmp(a.guards, "madvise") || !strcmp(a.guards, "mprotect"));
	EXPECT(!strcmp(a.port, "none"));
	for (int i = 0; i < 100; i++)
		mote_spawn(sink, NULL);
	mote_sleep(mote_in_ms(1));
	EXPECT_EQ(mote_runtime_info(&b), 0);
	EXPECT_EQ(b.processes, 101);
	EXPECT_EQ(b.spawned, a.spawned + 100);
	EXPECT(b.switches > a.switches);
}

/* The walk: all who live through it exactly once, while others come and go. */
struct churn {
	_Atomic bool stop;
	_Atomic unsigned long spawned;
};

static void ephemeral(void *arg)
{
	(void)arg;
	mote_yield();
}

static void churner(void *arg)
{
	struct churn *c = arg;

	while (!atomic_load(&c->stop)) {
		mote_ref refs[20];

		for (int i = 0; i < 20; i++)
			mote_spawn_monitor(ephemeral, NULL, &refs[i]);
		for (int i = 0; i < 20; i++)
			mote_msg_free(mote_receive_ref(refs[i], PATIENCE));
		atomic_fetch_add(&c->spawned, 20);
	}
}

static int by_slot(const void *a, const void *b)
{
	const mote_pid *x = a, *y = b;

	return x->slot < y->slot ? -1 : x->slot > y->slot;
}

static void walk_with_churn(void *arg)
{
	unsigned long n = test_crowd(5000), walks = test_rounds(100), others = 0;
	mote_pid *p = calloc(n, sizeof(*p));
	unsigned char *seen = calloc(n, 1);
	struct churn c = { false, 0 };
	mote_ref done[2];
	mote_pid churners[2];

	(void)arg;
	for (unsigned int i = 0; i < 2; i++)
		churners[i] = spawn_pinned(churner, &c, 1, MOTE_MONITOR, &done[i]);
	for (unsigned long i = 0; i < n; i++) {
		p[i] = mote_spawn(sink, NULL);
		if (i % 16 == 0)
			mote_yield();
	}
	qsort(p, n, sizeof(*p), by_slot);
	for (unsigned long w = 0; w < walks; w++) {
		unsigned long found = 0;

		memset(seen, 0, n);
		for (mote_pid q = mote_process_next(MOTE_NOBODY); mote_pid_valid(q); q = mote_process_next(q)) {
			mote_pid *hit = bsearch(&q, p, n, sizeof(*p), by_slot);

			if (hit && mote_pid_equal(*hit, q)) {
				found += !seen[hit - p];
				EXPECT_EQ(seen[hit - p]++, 0);
			} else {
				others++;
			}
		}
		if (!EXPECT(found == n)) {
			test_note("walk %lu: %lu of %lu", w, found, n);
			break;
		}
		mote_yield();
	}
	atomic_store(&c.stop, true);
	for (int i = 0; i < 2; i++)
		EXPECT(got_down(done[i], churners[i], MOTE_NORMAL));
	test_note("%lu others were met, %lu came and went", others, atomic_load(&c.spawned));
	free(p);
	free(seen);
}

static void walk(void)
{
	on_first_scheduler(walk_with_churn, NULL);
}

/* Asking about processes that run, change and end meanwhile never fails in another way than -ESRCH. */
static void restless(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;

	for (int i = 0; i < 50; i++) {
		mote_link(boss);
		mote_unlink(boss);
		mote_free(mote_alloc(100));
		mote_msg_free(mote_receive(MOTE_NOW));
		mote_yield();
	}
}

static void info_races_life(void *arg)
{
	unsigned long n = test_rounds(1000), answers = 0;
	mote_pid me = mote_self();

	(void)arg;
	mote_trap_exit(true);
	for (unsigned long i = 0; i < n; i++) {
		mote_pid p = spawn_pinned(restless, &me, 1, 0, NULL);
		struct mote_process_info info = { .size = sizeof(info) };
		int err;

		while (!(err = mote_process_info(p, &info))) {
			EXPECT(mote_pid_equal(info.pid, p));
			EXPECT(mote_pid_equal(info.parent, me));
			EXPECT(info.pinned && info.links <= 1);
			answers++;
			mote_check();
		}
		EXPECT_EQ(err, -ESRCH);
		EXPECT(!mote_alive(p));
		EXPECT(!mote_receive_type(MOTE_MSG_EXIT, MOTE_NOW));	/* it had unlinked */
	}
	test_note("%lu answers about %lu processes", answers, n);
}

static void race_info(void)
{
	on_first_scheduler(info_races_life, NULL);
}

int main(void)
{
	selftest_process("states, and what is waited for", states);
	selftest_process_opts("runnable before it has run", runnable, SCHEDULERS(1));
	selftest_process("mailbox, links, monitors, names, memory, stack, descriptors", figures);
	selftest_process("labels", labels);
	selftest_process("where it was spawned", where_spawned);
	selftest_process("sizes, the dead, nobody", bad_arguments);
	selftest_process_opts("mote_runtime_info", of_the_runtime, SCHEDULERS(2));
	selftest_process_opts("a walk sees all who stay exactly once while others come and go", walk, SCHEDULERS(2));
	selftest_process_opts("race: info against life and death", race_info, SCHEDULERS(2));
	return selftest_done();
}
