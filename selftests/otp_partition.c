// SPDX-License-Identifier: MIT OR GPL-2.0
/* The same child several times, found by a key: PartitionSupervisor. */
#include "otp_kids.h"

#define PARTITIONS(...) (&(struct mote_partition_opts){ .size = sizeof(struct mote_partition_opts), __VA_ARGS__ })

static const struct mote_child_spec p = KID("p");

static mote_pid partition_start(const struct mote_partition_opts *opts)
{
	mote_pid pid = MOTE_NOBODY;

	mote_trap_exit(true);
	EXPECT_EQ(mote_partition_start_link(opts, &pid), 0);
	return pid;
}

static void by_key(void)
{
	mote_pid sup = MOTE_NOBODY, pid[4];
	struct mote_partitions *all;
	unsigned int found = 0;
	char id[8];

	kids_reset();
	sup = partition_start(PARTITIONS(.name = "parts", .child = &p, .partitions = 4));
	EXPECT(kids_wrote("pppp"));
	EXPECT(mote_pid_equal(mote_whereis("parts"), sup));
	all = mote_partitions_get("parts");
	if (!EXPECT(all != NULL))
		return;
	EXPECT_EQ(mote_partition_count(all), 4);
	for (unsigned int i = 0; i < 4; i++) {
		snprintf(id, sizeof(id), "%u", i);
		pid[i] = mote_partition_at(all, i);
		EXPECT(mote_pid_equal(pid[i], kid_pid(sup, id)) && kid_answers(pid[i], 'p'));
		for (unsigned int j = 0; j < i; j++)
			EXPECT(!mote_pid_equal(pid[i], pid[j]));
	}
	/* Integers: modulo; anything else: always the same, and all of them in the long run. */
	EXPECT(mote_pid_equal(mote_partition_at(all, 4 * 1000000007ull + 3), pid[3]));
	EXPECT(mote_pid_equal(mote_partition_at(all, UINT64_MAX), pid[3]));
	for (int i = 0; i < 1000; i++) {
		char key[16];
		size_t size = (size_t)snprintf(key, sizeof(key), "user %d", i);
		mote_pid there = mote_partition_of(all, key, size);

		EXPECT(mote_pid_equal(there, mote_partition_of(all, key, size)));
		for (unsigned int j = 0; j < 4; j++) {
			if (mote_pid_equal(there, pid[j]))
				found |= 1 << j;
		}
	}
	EXPECT_EQ(found, 15);
	EXPECT(mote_pid_valid(mote_partition_of(all, NULL, 0)));
	EXPECT(counts_are(sup, 4, 4, 0, 4));
	mote_partitions_put(all);
	sup_stop(sup);
	EXPECT(!mote_partitions_get("parts"));
	EXPECT_EQ(mote_errno(), -ESRCH);
}

static void restarted(void)
{
	mote_pid sup, old, now;
	struct mote_partitions *all;

	kids_reset();
	sup = partition_start(PARTITIONS(.name = "parts", .child = &p, .partitions = 2));
	all = mote_partitions_get("parts");
	old = mote_partition_at(all, 1);
	EXPECT(kid_end(old, OOPS));
	/* Shown when it is there, not before: the one that ended gives -ESRCH. */
	now = kid_wait(sup, "1", old);
	EXPECT(mote_pid_equal(mote_partition_at(all, 1), now));
	EXPECT(!mote_pid_equal(old, now) && kid_answers(now, 'p'));
	EXPECT_EQ(mote_call(old, KID_PING, NULL, 0, NULL, PATIENCE), -ESRCH);
	/* Good as long as it is held, if not for much. */
	sup_stop(sup);
	EXPECT(mote_pid_equal(mote_partition_at(all, 1), now));
	EXPECT_EQ(mote_partition_count(all), 2);
	mote_partitions_put(all);
	mote_partitions_put(NULL);
}

static void defaults(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };
	mote_pid sup;
	struct mote_partitions *all;

	kids_reset();
	EXPECT_EQ(mote_runtime_info(&info), 0);
	sup = partition_start(PARTITIONS(.name = "parts", .child = &p));
	all = mote_partitions_get("parts");
	EXPECT_EQ(mote_partition_count(all), info.schedulers);
	/* 3 restarts in 5 s. */
	for (int i = 0; i < 3; i++) {
		EXPECT(kid_end(mote_partition_at(all, 0), OOPS));
		EXPECT(counts_are(sup, info.schedulers, info.schedulers, 0, info.schedulers));
	}
	EXPECT(kid_end(mote_partition_at(all, 0), OOPS));
	EXPECT(got_exit(sup, MOTE_SHUTDOWN));
	/* Not put: it goes with the process. */
}

static void strategy(void)
{
	mote_pid sup, zero;
	struct mote_partitions *all;

	kids_reset();
	sup = partition_start(PARTITIONS(.name = "parts", .child = &p, .partitions = 2, .strategy = MOTE_ONE_FOR_ALL));
	all = mote_partitions_get("parts");
	zero = mote_partition_at(all, 0);
	EXPECT(kid_end(mote_partition_at(all, 1), OOPS));
	EXPECT(counts_are(sup, 2, 2, 0, 2));
	EXPECT(!mote_pid_equal(zero, mote_partition_at(all, 0)) && kid_answers(mote_partition_at(all, 0), 'p'));
	mote_partitions_put(all);
	sup_stop(sup);
}

static void *letter_of(void *arg, unsigned int partition)
{
	return (char *)arg + partition;
}

static void with_arguments(void)
{
	const struct mote_child_spec each = { .server = &kid.ops, .arg = "klmn" };
	mote_pid sup;
	struct mote_partitions *all;

	kids_reset();
	sup = partition_start(PARTITIONS(.name = "parts", .child = &each, .partitions = 4, .with_arg = letter_of));
	all = mote_partitions_get("parts");
	for (int i = 0; i < 4; i++)
		EXPECT(kid_answers(mote_partition_at(all, (uint64_t)i), (char)('k' + i)));
	EXPECT(kid_end(mote_partition_at(all, 2), OOPS));
	EXPECT(counts_are(sup, 4, 4, 0, 4));
	EXPECT(kid_answers(mote_partition_at(all, 2), 'm'));
	mote_partitions_put(all);
	sup_stop(sup);
}

static void resize(void)
{
	mote_pid sup, two, zero;
	struct mote_partitions *all;

	kids_reset();
	sup = partition_start(PARTITIONS(.name = "parts", .child = &p, .partitions = 4, .strategy = MOTE_ONE_FOR_ALL));
	all = mote_partitions_get("parts");
	zero = mote_partition_at(all, 0);
	two = mote_partition_at(all, 2);
	EXPECT_EQ(mote_partition_resize(sup, 5, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_partition_resize(sup, 0, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_partition_resize(sup, 2, PATIENCE), 0);
	EXPECT_EQ(mote_partition_count(all), 2);
	EXPECT(!mote_alive(two) && mote_alive(zero));
	EXPECT(mote_pid_equal(mote_partition_at(all, 2), zero));
	EXPECT(counts_are(sup, 4, 2, 0, 4));
	/* A restart of all is one of those in use. */
	EXPECT(kid_end(zero, OOPS));
	EXPECT(counts_are(sup, 4, 2, 0, 4));
	EXPECT_EQ(mote_supervisor_restart_child(sup, "3", NULL, PATIENCE), -ENOENT);
	kid_plan('p')->fail = 1;
	EXPECT_EQ(mote_partition_resize(sup, 4, PATIENCE), -ENOTTY);
	EXPECT_EQ(mote_partition_count(all), 2);
	EXPECT_EQ(mote_partition_resize(sup, 3, PATIENCE), 0);
	EXPECT_EQ(mote_partition_resize(sup, 4, PATIENCE), 0);
	EXPECT_EQ(mote_partition_count(all), 4);
	EXPECT(kid_answers(mote_partition_at(all, 3), 'p') && kid_answers(mote_partition_at(all, 2), 'p'));
	EXPECT(counts_are(sup, 4, 4, 0, 4));
	mote_partitions_put(all);
	sup_stop(sup);
}

static void refused(void)
{
	static const struct mote_child_spec named = KID("p", .name = "n"), gone = KID("p", .restart = MOTE_TEMPORARY);
	mote_pid sup, pid;

	kids_reset();
	mote_trap_exit(true);
	EXPECT_EQ(mote_partition_start_link(NULL, &pid), -EINVAL);
	EXPECT_EQ(mote_partition_start_link(PARTITIONS(.child = &p), &pid), -EINVAL);
	EXPECT_EQ(mote_partition_start_link(PARTITIONS(.name = "parts"), &pid), -EINVAL);
	EXPECT_EQ(mote_partition_start_link(PARTITIONS(.name = "parts", .child = &gone), &pid), -EINVAL);
	EXPECT_EQ(mote_partition_start_link(PARTITIONS(.name = "parts", .child = &p, .strategy = 9), &pid), -EINVAL);
	EXPECT_EQ(mote_partition_start_link(PARTITIONS(.name = "parts", .child = &named), &pid), -EINVAL);
	kid_plan('p')->fail = 1;
	EXPECT_EQ(mote_partition_start_link(PARTITIONS(.name = "parts", .child = &p), &pid), -ENOTTY);
	EXPECT(!mote_partitions_get("parts"));
	EXPECT_EQ(mote_partition_start(PARTITIONS(.name = "parts", .child = &p), &sup), 0);
	EXPECT_EQ(mote_partition_start(PARTITIONS(.name = "parts", .child = &p), &pid), -EEXIST);
	EXPECT(mote_pid_equal(sup, pid));
	EXPECT_EQ(mote_supervisor_start_child(sup, &p, NULL, PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_supervisor_delete_child(sup, "0", PATIENCE), -EBUSY);
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "0", PATIENCE), 0);
	EXPECT_EQ(mote_supervisor_delete_child(sup, "0", PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_server_stop(sup, MOTE_REASON_NORMAL, PATIENCE), 0);
	EXPECT(mailbox_is_empty());
}

/* Readers while children come and go: what they find was there at some time, whole. */
static _Atomic bool done;
static _Atomic unsigned long looks, answers;

static void reader(void *arg)
{
	struct mote_partitions *all = arg;

	while (!atomic_load(&done)) {
		mote_pid pid = mote_partition_at(all, atomic_fetch_add(&looks, 1));
		int err = mote_call(pid, KID_PING, NULL, 0, NULL, PATIENCE);

		EXPECT(!err || err == -ESRCH || err == -EPIPE);
		/* A mixture of two pids would be nobody's, for good. */
		if (!err)
			atomic_fetch_add(&answers, 1);
	}
}

static void readers(void)
{
	unsigned long n = test_rounds(200);
	struct mote_partitions *all;
	mote_pid sup, pid[2];
	mote_ref ref[2];

	kids_reset();
	atomic_store(&done, false);
	sup = partition_start(PARTITIONS(.name = "parts", .child = &p, .partitions = 2,
					 .max_restarts = UINT32_MAX - 1));
	all = mote_partitions_get("parts");
	for (int i = 0; i < 2; i++)
		pid[i] = mote_spawn_monitor(reader, all, &ref[i]);
	for (unsigned long i = 0; i < n; i++) {
		EXPECT(kid_end(mote_partition_at(all, i), OOPS));
		EXPECT(counts_are(sup, 2, 2, 0, 2));
	}
	atomic_store(&done, true);
	for (int i = 0; i < 2; i++)
		EXPECT(got_down(ref[i], pid[i], MOTE_NORMAL));
	EXPECT(answers > 0);
	mote_partitions_put(all);
	sup_stop(sup);
}

/* Its holder is killed: nothing of the table is lost (ASan looks). */
static void holds(void *arg)
{
	EXPECT(mote_partitions_get("parts") != NULL);
	EXPECT(mote_partitions_get("parts") != NULL);
	mote_send(*(mote_pid *)arg, 1, NULL, 0);
	mote_sleep(MOTE_FOREVER);
}

static void holder_is_killed(void)
{
	mote_pid self = mote_self(), pid, sup;

	kids_reset();
	sup = partition_start(PARTITIONS(.name = "parts", .child = &p));
	pid = mote_spawn(holds, &self);
	EXPECT(got_type(1));
	put_down(sup);
	EXPECT(got_exit(sup, MOTE_KILLED));
	EXPECT(!mote_partitions_get("parts"));
	put_down(pid);
}

int main(void)
{
	selftest_process("by key", by_key);
	selftest_process("restarted", restarted);
	selftest_process("defaults", defaults);
	selftest_process("strategy", strategy);
	selftest_process("arguments by partition", with_arguments);
	selftest_process("resize", resize);
	selftest_process("what is refused", refused);
	selftest_process("readers", readers);
	selftest_process("a holder is killed", holder_is_killed);
	return selftest_done();
}
