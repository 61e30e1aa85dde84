// SPDX-License-Identifier: MIT OR GPL-2.0
/* Descriptors have owners: adopting, releasing, closing under somebody's hands, and running out of them. */
#include "io_helpers.h"

#include <fcntl.h>
#include <sys/resource.h>

static _Atomic int result;
static _Atomic int started;

static void read_one(void *arg)
{
	char buf[256];
	ssize_t n;

	atomic_store(&started, 1);
	n = mote_net_recv((int)(intptr_t)arg, buf, sizeof(buf), MOTE_FOREVER);
	atomic_store(&result, (int)n);
}

static void read_ahead(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char buf[3];

	for (int i = 0; i < 3; i++)
		io_recv_all(fd, buf + i, 1);
	read_one(arg);
}

static void read_pipe(void *arg)
{
	char buf[256];

	atomic_store(&started, 1);
	atomic_store(&result, (int)mote_file_read((int)(intptr_t)arg, buf, sizeof(buf), -1, MOTE_FOREVER));
}

static void await_started(void)
{
	while (!atomic_load(&started))
		mote_sleep(mote_in_us(100));
	atomic_store(&started, 0);
}

static void close_under_reader(void)
{
	for (int i = 0; i < 60; i++) {
		int ends[2];
		mote_ref mon;

		if (!io_pair(ends))
			return;
		atomic_store(&result, 1);
		mote_spawn_monitor(i % 2 ? read_ahead : read_one, (void *)(intptr_t)ends[0], &mon);
		for (int k = 0; i % 2 && k < 3; k++) {
			mote_net_send(ends[1], "x", 1, MOTE_FOREVER);
			mote_sleep(mote_in_us(300));
		}
		await_started();
		mote_sleep(mote_in_us(i * 20));
		EXPECT_EQ(mote_fd_close(ends[0]), 0);
		EXPECT_EQ(fcntl(ends[0], F_GETFD), -1);		/* really gone */
		EXPECT_EQ(mote_fd_close(ends[0]), -EBADF);
		io_await_down(mon);
		/* -EBADF: it had not got into the call yet */
		EXPECT(atomic_load(&result) == -ECANCELED || atomic_load(&result) == -EBADF);
		mote_fd_close(ends[1]);
	}
}

static void close_under_pipe_reader(void)
{
	mote_ref mon;
	int ends[2];

	EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
	EXPECT_EQ(mote_fd_adopt(ends[0]), 0);
	mote_spawn_monitor(read_pipe, (void *)(intptr_t)ends[0], &mon);
	await_started();
	mote_sleep(mote_in_ms(20));
	EXPECT_EQ(mote_fd_close(ends[0]), 0);
	io_await_down(mon);
	EXPECT_EQ(atomic_load(&result), -ECANCELED);
	EXPECT_EQ(mote_fd_close(ends[1]), 0);			/* nobody's, and closed all the same */
	EXPECT_EQ(fcntl(ends[1], F_GETFD), -1);
}

static void adopt_release(void)
{
	int ends[2];
	char c;

	EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
	EXPECT(!mote_pid_valid(mote_fd_owner(ends[0])));
	EXPECT_EQ(mote_fd_release(ends[0]), -EBADF);
	EXPECT_EQ(mote_fd_adopt(ends[0]), 0);
	EXPECT(mote_pid_equal(mote_fd_owner(ends[0]), mote_self()));
	EXPECT_EQ(mote_fd_adopt(ends[0]), -EBUSY);
	EXPECT_EQ(mote_fd_adopt(12345), -EBADF);
	EXPECT_EQ(mote_fd_adopt(-1), -EBADF);
	EXPECT_EQ(mote_fd_release(ends[0]), 0);
	EXPECT(!mote_pid_valid(mote_fd_owner(ends[0])));
	close(ends[0]);
	close(ends[1]);

	if (!io_pair(ends))
		return;
	for (int i = 0; i < 3; i++) {		/* so that the next wait receives ahead */
		mote_net_send(ends[1], "x", 1, MOTE_FOREVER);
		EXPECT_EQ(mote_net_recv(ends[0], &c, 1, MOTE_FOREVER), 1);
		EXPECT_EQ(mote_net_recv(ends[0], &c, 1, mote_in_ms(2)), -ETIMEDOUT);
	}
	EXPECT_EQ(mote_fd_release(ends[0]), 0);
	/* Now it is like any other: what comes is in the socket, for everybody. */
	mote_net_send(ends[1], "z", 1, MOTE_FOREVER);
	EXPECT_EQ(mote_fd_wait(ends[0], MOTE_FD_IN, mote_in_ms(1000)), MOTE_FD_IN);
	EXPECT_EQ(read(ends[0], &c, 1), 1);
	EXPECT_EQ(c, 'z');
	close(ends[0]);
}

static void opener(void *arg)
{
	int *fds = arg;
	struct mote_addr addr;

	EXPECT(io_pair(fds));
	fds[2] = io_listen(&addr);
	fds[3] = mote_file_open("/dev/null", O_RDWR, 0);
}

static void exit_closes(void)
{
	int before = io_count_fds();

	for (int i = 0; i < 50; i++) {
		mote_ref mon;
		int fds[4];

		mote_spawn_monitor(opener, fds, &mon);
		io_await_down(mon);
		for (int k = 0; k < 4; k++)
			EXPECT_EQ(fcntl(fds[k], F_GETFD), -1);
	}
	EXPECT_EQ(io_count_fds(), before);
}

static void everything_is_cloexec(void)
{
	struct mote_addr addr;
	int fds[4] = { -1, -1, -1, -1 };
	struct dirent *d;
	DIR *dir;

	io_pair(fds);
	fds[2] = io_listen(&addr);
	fds[3] = mote_file_open("/dev/null", O_RDWR, 0);
	dir = opendir("/proc/self/fd");
	while ((d = readdir(dir))) {
		int fd = atoi(d->d_name);

		if (d->d_name[0] == '.' || fd <= 2)
			continue;
		if (!(fcntl(fd, F_GETFD) & FD_CLOEXEC)) {
			char path[64], what[256] = "";

			snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
			if (readlink(path, what, sizeof(what) - 1) > 0 && getppid() > 0)
				printf("# not O_CLOEXEC: %d %s\n", fd, what);
			IO_FAIL("O_CLOEXEC");
		}
	}
	closedir(dir);
}

/* Descriptors run out: the connection waits, and is there when one is free again. */
static void emfile(void)
{
	struct rlimit old, low;
	struct mote_addr addr;
	int listener = io_listen(&addr), fd, client, spare[64], n = 0;
	char c;

	client = mote_net_connect(&addr, mote_in_ms(1000));
	EXPECT_EQ(mote_net_send(client, "q", 1, MOTE_FOREVER), 1);
	getrlimit(RLIMIT_NOFILE, &old);
	low = old;
	low.rlim_cur = (rlim_t)client + 16;
	EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
	while (n < 64 && (spare[n] = dup(0)) >= 0)
		n++;
	EXPECT(n > 0 && n < 64);
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(mote_net_accept(listener, NULL, mote_in_ms(1000)), -EMFILE);
	while (n)
		close(spare[--n]);
	fd = mote_net_accept(listener, NULL, mote_in_ms(1000));
	EXPECT(fd >= 0);
	EXPECT_EQ(mote_net_recv(fd, &c, 1, mote_in_ms(1000)), 1);
	setrlimit(RLIMIT_NOFILE, &old);
}

static int shared_fd;

static void close_shared(void *arg)
{
	atomic_fetch_add(&result, mote_fd_close(shared_fd) == 0);
	(void)arg;
}

/* Several processes close one descriptor: one of them did it. */
static void close_races(void)
{
	int before = io_count_fds();

	for (int i = 0; i < 200; i++) {
		mote_ref mon[4];
		int ends[2];

		if (!io_pair(ends))
			return;
		shared_fd = ends[0];
		atomic_store(&result, 0);
		for (int k = 0; k < 4; k++)
			mote_spawn_monitor(close_shared, NULL, &mon[k]);
		for (int k = 0; k < 4; k++)
			io_await_down(mon[k]);
		EXPECT_EQ(atomic_load(&result), 1);
		EXPECT_EQ(mote_fd_close(ends[1]), 0);
	}
	EXPECT_EQ(io_count_fds(), before);
}

int main(void)
{
	io_watchdog(60);
	io_close_inherited();
	selftest_process("closing a socket that somebody reads", close_under_reader);
	selftest_process("closing a pipe that somebody reads", close_under_pipe_reader);
	selftest_process("adopt, release, owner", adopt_release);
	selftest_process("a process's end closes what it opened", exit_closes);
	selftest_process("everything is O_CLOEXEC", everything_is_cloexec);
	selftest_process("no descriptors left: -EMFILE, and the connection waits", emfile);
	selftest_process("of several that close one descriptor, one does", close_races);
	return selftest_done();
}
