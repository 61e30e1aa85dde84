/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * No descriptors: every call that needs one says -EMFILE, what is open goes on working, and when there are descriptors
 * again everything does. And the runtime started with too few.
 */
#include "limits.h"
#include "io_helpers.h"

#include <sys/stat.h>

static int fds_before;

/* Not one more than there are now. */
static void fds_end(void)
{
	int highest = 0;
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *d;

	while (dir && (d = readdir(dir))) {
		if (atoi(d->d_name) > highest && atoi(d->d_name) != dirfd(dir))
			highest = atoi(d->d_name);
	}
	if (dir)
		closedir(dir);
	limit_set(RLIMIT_NOFILE, highest + 1);
	/* The limit is for numbers: gaps below it are filled. */
	while (dup(0) >= 0)
		;
	EXPECT_EQ(errno, EMFILE);
}

/* What fds_end() filled the gaps with; those of the library are not copies of 0. */
static void fds_return(void)
{
	struct stat null, st;

	limit_set(RLIMIT_NOFILE, RLIM_INFINITY);
	EXPECT_EQ(fstat(0, &null), 0);
	for (int fd = 3; fd < 1000; fd++) {
		if (!fstat(fd, &st) && st.st_dev == null.st_dev && st.st_ino == null.st_ino &&
		    !mote_pid_valid(mote_fd_owner(fd)))
			close(fd);
	}
}

static void waits(void *arg)
{
	(void)arg;
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

/* Each way to a descriptor: err, or (0) a descriptor, which is closed again. */
static void says(const char *what, int fd, int err)
{
	if (err ? fd != err : fd < 0) {
		selftest_complain(__FILE__, __LINE__, what);
		test_note("%d, not %d", fd, err);
	}
	if (fd >= 0)
		EXPECT_EQ(mote_fd_close(fd), 0);
}

static void each_call(const struct mote_addr *there, int err)
{
	static const char *const argv[] = { "true", NULL };
	struct mote_addr any, un;
	struct mote_child child;
	int status;

	mote_addr_parse(&any, "127.0.0.1:0");
	mote_addr_parse(&un, "unix:/tmp/mote-limit-no-such-socket");
	says("open", mote_file_open("/dev/null", O_RDWR, 0), err);
	says("listen", mote_net_listen(&any, 0), err);
	says("udp", mote_net_udp(0, &any), err);
	says("connect", mote_net_connect(there, mote_in_ms(10000)), err);
	if (err)
		says("connect (unix)", mote_net_connect(&un, mote_in_ms(10000)), err);
	status = mote_child_start(&child, argv, NULL, NULL);
	if (err) {
		EXPECT_EQ(status, err);
	} else {
		EXPECT_EQ(status, 0);
		EXPECT_EQ(mote_child_wait(&child, &status, PATIENCE), 0);
		EXPECT_EQ(status, 0);
		mote_fd_close(child.pidfd);
	}
	/* The pipe for it is made at the first. */
	EXPECT_EQ(mote_os_signal(SIGUSR2, true), err);
	if (!err)
		EXPECT_EQ(mote_os_signal(SIGUSR2, false), 0);
}

static void drain_accepts(int listener)
{
	int fd;

	while ((fd = mote_net_accept(listener, NULL, MOTE_NOW)) >= 0)
		mote_fd_close(fd);
	EXPECT_EQ(fd, -ETIMEDOUT);
}

static int64_t nothing(void *arg)
{
	(void)arg;
	return 0;
}

static void reached_and_lifted(void)
{
	struct mote_addr addr;
	int listener = io_listen(&addr), ends[2], fd;
	uint64_t alive = processes_alive(), owned;
	char buf[16];

	if (!io_pair(ends))
		return;
	/* What the first use of a thing leaves open is not a leak. */
	EXPECT_EQ(mote_blocking(nothing, NULL, NULL, PATIENCE), 0);
	owned = test_info(mote_self()).fds;
	for (int round = 0; round < 3; round++) {
		int waiting = mote_net_connect(&addr, mote_in_ms(10000));

		EXPECT(waiting >= 0);
		EXPECT_EQ(mote_net_send(waiting, "patience", 8, PATIENCE), 8);
		fds_end();
		each_call(&addr, -EMFILE);
		/* A connection that can't be accepted waits. */
		EXPECT_EQ(mote_net_accept(listener, NULL, mote_in_ms(10000)), -EMFILE);
		EXPECT_EQ(mote_net_accept(listener, NULL, MOTE_NOW), -EMFILE);
		/* What is open works, processes come and go, files can be renamed and removed. */
		EXPECT_EQ(mote_net_send(ends[0], "ping", 4, PATIENCE), 4);
		EXPECT(io_recv_all(ends[1], buf, 4) && !memcmp(buf, "ping", 4));
		for (int i = 0; i < 200; i++)
			put_down(mote_spawn(waits, NULL));
		EXPECT_EQ(mote_file_unlink("/tmp/mote-limit-no-such-file"), -ENOENT);
		EXPECT_EQ(mote_sleep(mote_in_ms(1)), 0);
		fds_return();

		fd = mote_net_accept(listener, NULL, PATIENCE);
		EXPECT(fd >= 0);
		EXPECT(io_recv_all(fd, buf, 8) && !memcmp(buf, "patience", 8));
		mote_fd_close(fd);
		mote_fd_close(waiting);
		if (round == 2)
			each_call(&addr, 0);
		drain_accepts(listener);
		EXPECT_EQ(test_info(mote_self()).fds, owned);
	}
	EXPECT(processes_come_to(alive + 1));	/* mote.signals */
	mote_fd_close(ends[0]);
	mote_fd_close(ends[1]);
	mote_fd_close(listener);
}

static void run_reached(void)
{
	limits_main = reached_and_lifted;
	limits_opts = SCHEDULERS(2);
	limits_run();
}

static void reached(void)
{
	limits_child(run_reached);
}

/* The acceptor that does what one does: it waits a little and tries again. */

#define CLIENTS 200
#define AT_ONCE 10

static void client(void *arg)
{
	int fd = mote_net_connect(arg, PATIENCE);
	char answer;

	while (fd == -EMFILE) {
		mote_sleep(mote_in_ms(5));
		fd = mote_net_connect(arg, PATIENCE);
	}
	EXPECT(fd >= 0);
	EXPECT_EQ(mote_net_send(fd, "?", 1, PATIENCE), 1);
	EXPECT(io_recv_all(fd, &answer, 1) && answer == '!');
	mote_fd_close(fd);
}

static void serve(void *arg)
{
	struct mote_msg *m = mote_receive(MOTE_FOREVER);
	int fd = *(int *)m->data;
	char c;

	(void)arg;
	mote_msg_free(m);
	EXPECT(io_recv_all(fd, &c, 1));
	EXPECT_EQ(mote_net_send(fd, "!", 1, PATIENCE), 1);
	mote_net_recv(fd, &c, 1, PATIENCE);
	mote_fd_close(fd);
}

static void a_busy_server(void)
{
	struct mote_addr addr;
	int listener = io_listen(&addr), served = 0, refused = 0, begun = AT_ONCE;
	mote_ref refs[CLIENTS];
	mote_pid pids[CLIENTS];

	/* Room for the clients that are there at once, and half of the other ends. */
	limit_set(RLIMIT_NOFILE, (rlim_t)io_count_fds() + AT_ONCE + AT_ONCE / 2);
	for (int i = 0; i < AT_ONCE; i++)
		pids[i] = mote_spawn_monitor(client, &addr, &refs[i]);
	while (served < CLIENTS) {
		int fd = mote_net_accept(listener, NULL, MOTE_NOW);
		mote_pid pid;

		if (fd == -ETIMEDOUT) {
			if (begun < CLIENTS && !mote_alive(pids[begun - AT_ONCE])) {
				pids[begun] = mote_spawn_monitor(client, &addr, &refs[begun]);
				begun++;
			}
			mote_sleep(mote_in_us(100));
			continue;
		}

		if (fd == -EMFILE) {
			refused++;
			mote_sleep(mote_in_ms(1));
			continue;
		}
		if (!EXPECT(fd >= 0))
			return;
		pid = mote_spawn(serve, NULL);
		EXPECT_EQ(mote_fd_give(fd, pid), 0);
		EXPECT_EQ(mote_send(pid, 1, &fd, sizeof(fd)), 0);
		served++;
	}
	for (int i = 0; i < CLIENTS; i++)
		EXPECT(got_down(refs[i], pids[i], MOTE_NORMAL));
	test_note("%d served, accept refused %d times", served, refused);
	mote_fd_close(listener);
	EXPECT(processes_come_to(1));
}

static void run_busy(void)
{
	limits_main = a_busy_server;
	limits_opts = SCHEDULERS(2);
	limits_run();
}

static void busy(void)
{
	limits_child(run_busy);
}

/* Started with too few. */

static const char *usual_io;
static int few;

static void says_which_io(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	EXPECT_EQ(mote_runtime_info(&info), 0);
	/* Too few descriptors are no reason to do without io_uring silently. */
	if (usual_io)
		EXPECT(!strcmp(info.io, usual_io));
	usual_io = info.io;
}

static int open_below(int end)
{
	int n = 0;

	for (int fd = 0; fd < end; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void starts_with_few(void)
{
	struct rlimit limit = { 0, 0 };
	int err, before = open_below(few);

	limit.rlim_cur = limit.rlim_max = (rlim_t)few;
	EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
	limits_main = says_which_io;
	err = mote_run(selftest_main, &limits_main, SCHEDULERS(2));
	if (err) {
		EXPECT_EQ(err, -EMFILE);
		selftest_skip("too few");
	}
	EXPECT_EQ(open_below(few), before);
}

static void too_few_to_start(void)
{
	int least = 0;

	limits_main = says_which_io;
	limits_opts = SCHEDULERS(2);
	EXPECT_EQ(mote_run(selftest_main, &limits_main, SCHEDULERS(2)), 0);
	fds_before = io_count_fds();
	for (few = 3; few <= 40; few++) {
		limits_child(starts_with_few);
		if (!selftest_why[0] && !least)
			least = few;
		EXPECT(!selftest_why[0] || !least);
		selftest_why[0] = 0;
	}
	EXPECT(least > 3);
	test_note("two schedulers start with RLIMIT_NOFILE %d", least);
	EXPECT_EQ(io_count_fds(), fds_before);
}

int main(void)
{
	io_close_inherited();
	selftest_case("no descriptors: each call says so, what is open works, and all of it again afterwards", reached);
	selftest_case("a server at its limit serves everybody in the end", busy);
	selftest_case("too few descriptors to start with", too_few_to_start);
	return selftest_done();
}
