// SPDX-License-Identifier: MIT OR GPL-2.0
/* Files: what is written is read, at its place; waits on pipes end at their deadlines. */
#include "io_helpers.h"

#include <fcntl.h>
#include <sys/stat.h>

static char dir[64], many[80];

/* For one process at a time. */
static const char *in_dir(const char *name)
{
	static char path[2][128];
	static int turn;

	turn = !turn;
	snprintf(path[turn], sizeof(path[turn]), "%s/%s", dir, name);
	return path[turn];
}

static void read_and_write(void)
{
	int fd = mote_file_open(in_dir("a"), O_RDWR | O_CREAT | O_EXCL, 0600);
	char one[] = "one ", two[] = "two ", three[] = "three", buf[64] = "";
	struct iovec iov[] = { { one, 4 }, { two, 0 }, { two, 4 }, { three, 5 } };
	struct statx st;

	if (!EXPECT(fd >= 0))
		return;
	EXPECT_EQ(mote_file_writev(fd, iov, 4, 0, MOTE_FOREVER), 13);
	EXPECT_EQ(mote_file_read(fd, buf, sizeof(buf), 4, MOTE_FOREVER), 9);
	EXPECT(!memcmp(buf, "two three", 9));
	EXPECT_EQ(mote_file_read(fd, buf, sizeof(buf), 13, MOTE_FOREVER), 0);
	/* The file's own position: nothing has moved it so far. */
	EXPECT_EQ(mote_file_read(fd, buf, 4, -1, MOTE_FOREVER), 4);
	EXPECT(!memcmp(buf, "one ", 4));
	EXPECT_EQ(mote_file_write(fd, "TWO", 3, -1, MOTE_FOREVER), 3);
	EXPECT_EQ(mote_file_read(fd, buf, sizeof(buf), 0, mote_in_ms(10000)), 13);
	EXPECT(!memcmp(buf, "one TWO three", 13));
	EXPECT_EQ(mote_file_sync(fd, false), 0);
	EXPECT_EQ(mote_file_sync(fd, true), 0);
	EXPECT_EQ(mote_file_truncate(fd, 5), 0);
	EXPECT_EQ(mote_file_stat(fd, NULL, &st), 0);
	EXPECT_EQ(st.stx_size, 5);
	EXPECT_EQ(mote_file_rename(in_dir("a"), in_dir("b")), 0);
	EXPECT_EQ(mote_file_stat(-1, in_dir("a"), &st), -ENOENT);
	EXPECT_EQ(mote_file_stat(-1, in_dir("b"), &st), 0);
	EXPECT_EQ(st.stx_size, 5);
	EXPECT(S_ISREG(st.stx_mode));
	EXPECT_EQ(mote_file_mkdir(in_dir("d"), 0700), 0);
	EXPECT_EQ(mote_file_mkdir(in_dir("d"), 0700), -EEXIST);
	EXPECT_EQ(mote_file_unlink(in_dir("b")), 0);
	EXPECT_EQ(mote_file_unlink(in_dir("b")), -ENOENT);
	EXPECT_EQ(mote_file_open(in_dir("b"), O_RDONLY, 0), -ENOENT);
	EXPECT_EQ(mote_fd_close(fd), 0);
	EXPECT_EQ(mote_file_read(fd, buf, 1, 0, MOTE_FOREVER), -EBADF);
	rmdir(in_dir("d"));
}

#define BIG	(9 << 20)

static void big_file(void)
{
	int fd = mote_file_open(in_dir("big"), O_RDWR | O_CREAT | O_TRUNC, 0600);
	char *data = malloc(BIG), *back = malloc(BIG);
	size_t got = 0;

	for (size_t i = 0; i < BIG; i++)
		data[i] = (char)(i * 2654435761u >> 11);
	EXPECT_EQ(mote_file_write(fd, data, BIG, 0, MOTE_FOREVER), BIG);
	EXPECT_EQ(mote_file_sync(fd, true), 0);
	while (got < BIG) {
		ssize_t n = mote_file_read(fd, back + got, BIG - got, got, MOTE_FOREVER);

		if (!EXPECT(n > 0))
			break;
		got += n;
	}
	EXPECT(!memcmp(data, back, BIG));
	mote_file_unlink(in_dir("big"));
	free(data);
	free(back);
}

static void many_writer(void *arg)
{
	int i = (int)(intptr_t)arg, fd = mote_file_open(many, O_RDWR, 0);

	if (fd < 0) {
		EXPECT_EQ(fd, 0);
		return;
	}
	for (int k = 0; k < 20; k++) {
		int value = i * 20 + k;

		EXPECT_EQ(mote_file_write(fd, &value, sizeof(value), value * sizeof(value), MOTE_FOREVER), sizeof(value));
	}
}

/* Many processes at one file: none sees another's operation. */
static void many_at_once(void)
{
	int fd = mote_file_open(many, O_RDWR | O_CREAT | O_TRUNC, 0600), values[2000];
	mote_ref mon[100];

	for (int i = 0; i < 100; i++)
		mote_spawn_monitor(many_writer, (void *)(intptr_t)i, &mon[i]);
	for (int i = 0; i < 100; i++)
		io_await_down(mon[i]);
	EXPECT_EQ(mote_file_read(fd, values, sizeof(values), 0, MOTE_FOREVER), sizeof(values));
	for (int i = 0; i < 2000; i++)
		EXPECT_EQ(values[i], i);
	mote_file_unlink(many);
}

static void pipe_writer(void *arg)
{
	static char data[300000];

	memset(data, 'p', sizeof(data));
	EXPECT_EQ(mote_file_write((int)(intptr_t)arg, data, sizeof(data), -1, MOTE_FOREVER), sizeof(data));
}

static void pipes(int flags)
{
	size_t got = 0;
	char buf[9000];
	mote_ref mon;
	int ends[2];

	EXPECT_EQ(pipe2(ends, O_CLOEXEC | flags), 0);
	EXPECT_EQ(mote_fd_adopt(ends[0]), 0);
	EXPECT_EQ(mote_fd_adopt(ends[1]), 0);
	EXPECT_EQ(mote_file_read(ends[0], buf, sizeof(buf), -1, mote_in_ms(10)), -ETIMEDOUT);
	EXPECT_EQ(mote_file_read(ends[0], buf, sizeof(buf), -1, MOTE_NOW), -ETIMEDOUT);
	mote_spawn_monitor(pipe_writer, (void *)(intptr_t)ends[1], &mon);
	while (got < 300000) {
		ssize_t n = mote_file_read(ends[0], buf, sizeof(buf), -1, mote_in_ms(5000));

		if (!EXPECT(n > 0))
			break;
		got += n;
	}
	io_await_down(mon);
	mote_fd_close(ends[1]);
	EXPECT_EQ(mote_file_read(ends[0], buf, sizeof(buf), -1, mote_in_ms(5000)), 0);
	mote_fd_close(ends[0]);
}

static void pipes_blocking(void)
{
	pipes(0);
}

static void pipes_nonblocking(void)
{
	pipes(O_NONBLOCK);
}

static _Atomic int cleaned, deferred;

static void cleanup(void *arg)
{
	char buf[8];
	int *fd = arg, file;

	/* What takes no deadline works; what would wait for ever does not, and a deadline is as good as ever. */
	file = mote_file_open(many, O_RDWR | O_CREAT, 0600);
	EXPECT(file >= 0);
	EXPECT_EQ(mote_file_write(file, "x", 1, 0, mote_in_ms(4000)), 1);
	EXPECT_EQ(mote_file_sync(file, true), 0);
	EXPECT_EQ(mote_file_unlink(many), 0);
	EXPECT_EQ(mote_file_read(*fd, buf, sizeof(buf), -1, MOTE_FOREVER), -ECANCELED);
	EXPECT_EQ(mote_file_read(*fd, buf, sizeof(buf), -1, mote_in_ms(10)), -ETIMEDOUT);
	EXPECT_EQ(mote_fd_close(*fd), 0);
	atomic_store(&cleaned, 1);
}

static void cleans_up(void *arg)
{
	int ends[2];
	char c;

	(void)arg;
	EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
	EXPECT_EQ(mote_fd_adopt(ends[0]), 0);
	EXPECT_EQ(mote_fd_adopt(ends[1]), 0);
	EXPECT_EQ(mote_defer(cleanup, &ends[0]), 0);
	atomic_store(&deferred, 1);
	mote_file_read(ends[0], &c, 1, -1, MOTE_FOREVER);
}

static void in_cleanups(void)
{
	for (int i = 0; i < 20; i++) {
		mote_ref mon;
		mote_pid p;

		atomic_store(&cleaned, 0);
		atomic_store(&deferred, 0);
		p = mote_spawn_monitor(cleans_up, NULL, &mon);
		do
			mote_sleep(mote_in_ms(1));
		while (!atomic_load(&deferred));
		mote_exit_pid(p, MOTE_REASON_KILL);
		io_await_down(mon);
		EXPECT_EQ(atomic_load(&cleaned), 1);
	}
}

int main(void)
{
	io_watchdog(60);
	snprintf(dir, sizeof(dir), "/tmp/mote-io-file-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	snprintf(many, sizeof(many), "%s/many", dir);
	selftest_process("what is written is read, at its place", read_and_write);
	selftest_process("a file larger than one transfer may be", big_file);
	selftest_process("a hundred processes at one file", many_at_once);
	selftest_process("pipes wait, and give up at the deadline", pipes_blocking);
	selftest_process("so do pipes with O_NONBLOCK", pipes_nonblocking);
	selftest_process("files in cleanups of a process that was killed", in_cleanups);
	rmdir(dir);
	return selftest_done();
}
