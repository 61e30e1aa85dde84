/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * No threads: RLIMIT_NPROC, which counts the threads of a user, and does not bind root. Each case becomes a user whom
 * nobody else is, in a child.
 */
#include "limits.h"
#include "io_helpers.h"

/* Another one for each child: the kernel takes a moment to forget what the last one's rings had locked. */
static bool become_nobody_else(void)
{
	uid_t uid = 1000000 + (uid_t)getpid();

	if (!geteuid() && setresgid(uid, uid, uid) == 0 && setresuid(uid, uid, uid) == 0)
		return true;
	selftest_skip("root is needed to become a user with no other threads");
	return false;
}

static int threads(void)
{
	return (int)(status_bytes("Threads") >> 10);
}

static int64_t job(void *arg)
{
	usleep(1000);
	return (intptr_t)arg * 2;
}

static void does_jobs(void *arg)
{
	int64_t result;

	for (intptr_t i = 0; i < 5; i++) {
		EXPECT_EQ(mote_blocking(job, (void *)i, &result, PATIENCE), 0);
		EXPECT_EQ(result, i * 2);
	}
	(void)arg;
}

static void jobs(int n)
{
	mote_ref refs[100];
	mote_pid pids[100];

	for (int i = 0; i < n; i++)
		pids[i] = mote_spawn_monitor(does_jobs, NULL, &refs[i]);
	for (int i = 0; i < n; i++)
		EXPECT(got_down(refs[i], pids[i], MOTE_NORMAL));
}

/* Calls that need a thread: err, or 0; a child is a thread, too, where these are counted. */
static void each_call(int err, int child_err)
{
	static const char *const argv[] = { "true", NULL };
	struct mote_addr addrs[4];
	struct mote_child child;
	int got, status;

	EXPECT_EQ(mote_blocking(job, NULL, NULL, PATIENCE), err);
	got = mote_resolve("127.0.0.1", 80, addrs, 4, PATIENCE);
	EXPECT_EQ(got < 0 ? got : 0, err);
	got = mote_child_start(&child, argv, NULL, NULL);
	EXPECT_EQ(got, child_err);
	if (!got) {
		EXPECT_EQ(mote_child_wait(&child, &status, PATIENCE), 0);
		EXPECT_EQ(status, 0);
		mote_fd_close(child.pidfd);
	}
}

/* Files: with io_uring the kernel needs threads of its own for some. Either it is done, or it says that it is not. */
static void each_file_call(bool threads_there)
{
	char path[] = "/tmp/mote-limit-XXXXXX", other[40];
	int fd = mkstemp(path), err, done = 0;
	struct statx st;
	char buf[8];

	EXPECT(fd >= 0);
	EXPECT_EQ(mote_fd_adopt(fd), 0);
	snprintf(other, sizeof(other), "%s.other", path);
	for (int i = 0; i < 7; i++) {
		err = i == 0 ? (int)mote_file_write(fd, "12345678", 8, 0, PATIENCE) :
		      i == 1 ? mote_file_sync(fd, false) :
		      i == 2 ? (int)mote_file_read(fd, buf, 8, 0, PATIENCE) :
		      i == 3 ? mote_file_truncate(fd, 4) :
		      i == 4 ? mote_file_stat(fd, NULL, &st) :
		      i == 5 ? mote_file_rename(path, other) : mote_file_unlink(other);
		if (err >= 0)
			done++;
		else if (threads_there || err != -EAGAIN)
			test_note("file call %d: %d", i, err);
		EXPECT(err >= 0 || (!threads_there && err == -EAGAIN));
	}
	if (!threads_there)
		test_note("%d of 7 file calls were done without a thread", done);
	unlink(path);
	unlink(other);
	mote_fd_close(fd);
}

static void hog(void *arg)
{
	_Atomic bool *over = arg;
	int64_t until = mote_now().ns + 100000000;

	while (mote_now().ns < until)
		;
	atomic_store(over, true);
}

static void beside_a_hog(void)
{
	mote_pid echo = mote_spawn(mirror, NULL);
	_Atomic bool over = false;
	mote_ref ref;
	mote_pid pid;

	EXPECT(ping(echo));
	pid = mote_spawn_monitor(hog, (void *)&over, &ref);
	for (int i = 0; i < 20; i++)
		EXPECT(ping(echo));
	EXPECT(got_down(ref, pid, MOTE_NORMAL));
	put_down(echo);
}

static void reached_and_lifted(void)
{
	uint64_t alive = processes_alive();

	for (int round = 0; round < 2; round++) {
		/* None more than there are; those of the pool would linger. */
		limit_set(RLIMIT_NPROC, 1);
		each_call(round ? 0 : -EAGAIN, -EAGAIN);
		each_file_call(false);
		beside_a_hog();
		limit_set(RLIMIT_NPROC, RLIM_INFINITY);
		each_call(0, 0);
		each_file_call(true);
		beside_a_hog();
		jobs(20);
	}
	EXPECT(processes_come_to(alive));
}

static void run_reached(void)
{
	if (become_nobody_else())
		limits_run();
}

static void reached(void)
{
	limits_main = reached_and_lifted;
	limits_opts = SCHEDULERS(1);
	limits_child(run_reached);
}

/* A pool that may have two threads does the work of sixty. */
static void few_threads(void)
{
	limit_set(RLIMIT_NPROC, (rlim_t)threads() + 2);
	jobs(60);
	EXPECT(threads() <= (int)(5 + 2 + 2));
	limit_set(RLIMIT_NPROC, RLIM_INFINITY);
	jobs(60);
}

static void run_few(void)
{
	if (become_nobody_else())
		limits_run();
}

static void few(void)
{
	limits_main = few_threads;
	limits_opts = SCHEDULERS(2);
	limits_child(run_few);
}

/* Started with too few. */

static int allowed;

static void works(void)
{
	mote_pid echo = mote_spawn(mirror, NULL);

	EXPECT(ping(echo));
	put_down(echo);
}

static void starts(void)
{
	int err, before = threads();

	if (!become_nobody_else())
		return;
	limit_set(RLIMIT_NPROC, (rlim_t)allowed);
	limits_main = works;
	for (int round = 0; round < 3; round++) {
		err = mote_run(selftest_main, &limits_main, SCHEDULERS(4));
		if (err)
			EXPECT_EQ(err, -EAGAIN);
		/* ThreadSanitizer has a thread of its own, from the first on. */
		if (SANITIZED && !round)
			before = threads();
		EXPECT_EQ(threads(), before);
	}
	if (err)
		selftest_skip("too few");
	limit_set(RLIMIT_NPROC, RLIM_INFINITY);
	EXPECT_EQ(mote_run(selftest_main, &limits_main, SCHEDULERS(4)), 0);
}

static void too_few_to_start(void)
{
	int least = 0;

	for (allowed = 1; allowed <= 12; allowed++) {
		limits_child(starts);
		if (!strncmp(selftest_why, "root", 4))
			return;
		if (!selftest_why[0] && !least)
			least = allowed;
		EXPECT(!selftest_why[0] || !least);
		selftest_why[0] = 0;
	}
	EXPECT(least > 1);
	test_note("four schedulers start with RLIMIT_NPROC %d", least);
}

/* The kernel counts rings as locked memory of their user. Forty of the usual size fit into the usual 8 MiB. */

static const char *io;

static void works_with_rings(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	works();
	EXPECT_EQ(mote_runtime_info(&info), 0);
	EXPECT(!strcmp(info.io, io));
	EXPECT_EQ(info.schedulers, 60);
	each_file_call(true);
}

static void run_with_rings(void)
{
	struct rlimit limit = { 8 << 20, 8 << 20 };

	if (!become_nobody_else())
		return;
	EXPECT_EQ(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
	limits_run();
}

static void sees_io(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	io = info.io;
}

static void locked_memory(void)
{
	limits_main = sees_io;
	EXPECT_EQ(mote_run(selftest_main, &limits_main, SCHEDULERS(1)), 0);
	limits_main = works_with_rings;
	limits_opts = SCHEDULERS(60);
	limits_child(run_with_rings);
}

int main(void)
{
	io_close_inherited();
	selftest_case("no threads: each call says so, the rest works, and all of it again afterwards", reached);
	selftest_case("few threads: they do the work of many", few);
	selftest_case("too few threads to start with", too_few_to_start);
	selftest_case("RLIMIT_MEMLOCK: rings for sixty schedulers of one user", locked_memory);
	return selftest_done();
}
