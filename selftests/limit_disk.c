/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A full disk: writes say -ENOSPC, nothing that was written is hurt, other files and sockets go on, and writes go on when
 * there is room. A small tmpfs, in a mount namespace of its own.
 */
#include "limits.h"
#include "io_helpers.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#define BLOCK	4096
#define BLOCKS	256		/* 1 MiB */

static char disk[] = "/tmp/mote-disk-XXXXXX";

static bool disk_mount(const char *options)
{
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", disk, "tmpfs", 0, options)) {
		selftest_skip("may not mount (root needed)");
		return false;
	}
	return true;
}

/* For one process at a time, and not more than four at once. */
static const char *on_disk(const char *name)
{
	static char path[4][128];
	static int next;
	char *p = path[next++ & 3];

	snprintf(p, sizeof(path[0]), "%s/%s", disk, name);
	return p;
}

static void block_fill(unsigned char *block, int n)
{
	for (int i = 0; i < BLOCK; i++)
		block[i] = (unsigned char)(n * 7 + i);
}

static bool block_is(int fd, int n)
{
	unsigned char want[BLOCK], got[BLOCK];

	block_fill(want, n);
	return mote_file_read(fd, got, BLOCK, (int64_t)n * BLOCK, PATIENCE) == BLOCK && !memcmp(want, got, BLOCK);
}

/* Appends blocks until there is no room. How many. */
static int fill(int fd, int from)
{
	unsigned char block[BLOCK];
	ssize_t n;

	for (;; from++) {
		block_fill(block, from);
		n = mote_file_write(fd, block, BLOCK, (int64_t)from * BLOCK, PATIENCE);
		if (n != BLOCK)
			break;
	}
	EXPECT_EQ(n, -ENOSPC);
	return from;
}

static void full_and_emptied(void)
{
	int fd = mote_file_open(on_disk("log"), O_RDWR | O_CREAT, 0600), other, n, more, ends[2];
	static char large[4 * BLOCK];
	struct iovec iov[2] = { { large, sizeof(large) }, { large, sizeof(large) } };
	struct statx st;
	char c;

	EXPECT(fd >= 0);
	other = mote_file_open(on_disk("other"), O_RDWR | O_CREAT, 0600);
	EXPECT_EQ(mote_file_write(other, large, sizeof(large), 0, PATIENCE), sizeof(large));
	for (int round = 0; round < 3; round++) {
		n = fill(fd, 0);
		EXPECT(n > 0 && n < BLOCKS);
		EXPECT_EQ(mote_file_sync(fd, round & 1), 0);
		EXPECT_EQ(mote_file_writev(fd, iov, 2, (int64_t)n * BLOCK, PATIENCE), -ENOSPC);
		EXPECT_EQ(mote_file_write(fd, large, sizeof(large), (int64_t)n * BLOCK, PATIENCE), -ENOSPC);
		/* All that was said to be written is there; what is already there can be written anew, and read. */
		for (int i = 0; i < n; i++)
			EXPECT(block_is(fd, i));
		EXPECT_EQ(mote_file_write(other, "again", 5, 0, PATIENCE), 5);
		EXPECT_EQ(mote_file_rename(on_disk("other"), on_disk("renamed")), 0);
		EXPECT_EQ(mote_file_stat(-1, on_disk("renamed"), &st), 0);
		EXPECT_EQ(st.stx_size, sizeof(large));
		EXPECT_EQ(mote_file_rename(on_disk("renamed"), on_disk("other")), 0);
		/* Others notice nothing. */
		if (io_pair(ends)) {
			EXPECT_EQ(mote_net_send(ends[0], "x", 1, PATIENCE), 1);
			EXPECT(io_recv_all(ends[1], &c, 1) && c == 'x');
			mote_fd_close(ends[0]);
			mote_fd_close(ends[1]);
		}
		/* Half of it goes: as much can be written again. */
		EXPECT_EQ(mote_file_truncate(fd, (int64_t)n / 2 * BLOCK), 0);
		more = fill(fd, n / 2);
		EXPECT(more >= n - 1);
		for (int i = 0; i < n; i++)
			EXPECT(block_is(fd, i));
		EXPECT_EQ(mote_file_truncate(fd, 0), 0);
	}
	mote_fd_close(fd);
	mote_fd_close(other);
	EXPECT_EQ(mote_file_unlink(on_disk("log")), 0);
	EXPECT_EQ(mote_file_unlink(on_disk("other")), 0);
}

static void run_full(void)
{
	if (disk_mount("size=1m"))
		limits_run();
}

static void full(void)
{
	limits_main = full_and_emptied;
	limits_opts = SCHEDULERS(2);
	limits_child(run_full);
}

/* Many writers; each block that was said to be written is there in the end. */

#define WRITERS 20

struct writer {
	int index, written, refused;
	_Atomic bool *enough;
};

static void writer(void *arg)
{
	struct writer *w = arg;
	unsigned char block[BLOCK];
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/w%d", disk, w->index);
	fd = mote_file_open(path, O_RDWR | O_CREAT, 0600);
	EXPECT(fd >= 0);
	while (w->written < 60) {
		ssize_t n;

		block_fill(block, w->written);
		n = mote_file_write(fd, block, BLOCK, (int64_t)w->written * BLOCK, PATIENCE);
		if (n == BLOCK) {
			w->written++;
			continue;
		}
		EXPECT_EQ(n, -ENOSPC);
		w->refused++;
		mote_sleep(mote_in_ms(1));
	}
	for (int i = 0; i < w->written; i++)
		EXPECT(block_is(fd, i));
	mote_fd_close(fd);
}

static void many_writers(void)
{
	struct writer writers[WRITERS] = { 0 };
	mote_ref refs[WRITERS];
	mote_pid pids[WRITERS];
	int refused = 0;
	struct statvfs st;
	mote_deadline late = mote_in_ms(20000);

	for (int i = 0; i < WRITERS; i++) {
		writers[i].index = i;
		pids[i] = mote_spawn_monitor(writer, &writers[i], &refs[i]);
	}
	do
		mote_sleep(mote_in_ms(1));
	while (statvfs(disk, &st) == 0 && st.f_bfree && mote_now().ns < late.ns);
	for (int i = 0; i < 20; i++)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(mount("none", disk, NULL, MS_REMOUNT, "size=16m"), 0);
	for (int i = 0; i < WRITERS; i++) {
		EXPECT(got_down(refs[i], pids[i], MOTE_NORMAL));
		EXPECT_EQ(writers[i].written, 60);
		refused += writers[i].refused;
	}
	test_note("%d writes were refused", refused);
	EXPECT(refused > 0);
}

static void many(void)
{
	limits_main = many_writers;
	limits_opts = SCHEDULERS(2);
	limits_child(run_full);
}

/* No room for one more file. */
static void no_inodes(void)
{
	int fds[64], n, fd;
	char name[16];

	for (n = 0; n < 64; n++) {
		snprintf(name, sizeof(name), "f%d", n);
		fds[n] = mote_file_open(on_disk(name), O_RDWR | O_CREAT | O_EXCL, 0600);
		if (fds[n] < 0)
			break;
	}
	EXPECT(n > 0 && n < 64);
	EXPECT_EQ(fds[n], -ENOSPC);
	EXPECT_EQ(mote_file_mkdir(on_disk("dir"), 0700), -ENOSPC);
	EXPECT_EQ(test_info(mote_self()).fds, n);
	EXPECT_EQ(mote_file_write(fds[0], "room", 4, 0, PATIENCE), 4);
	EXPECT_EQ(mote_file_unlink(on_disk("f0")), 0);
	EXPECT_EQ(mote_fd_close(fds[0]), 0);
	fd = mote_file_open(on_disk("new"), O_RDWR | O_CREAT | O_EXCL, 0600);
	EXPECT(fd >= 0);
}

static void run_no_inodes(void)
{
	if (disk_mount("size=1m,nr_inodes=12"))
		limits_run();
}

static void inodes(void)
{
	limits_main = no_inodes;
	limits_opts = SCHEDULERS(2);
	limits_child(run_no_inodes);
}

/* RLIMIT_FSIZE comes with a signal, which the program has to ignore. */
static void too_large(void)
{
	char path[] = "/tmp/mote-limit-XXXXXX", block[BLOCK] = "";
	int fd = mkstemp(path);

	unlink(path);
	EXPECT_EQ(mote_fd_adopt(fd), 0);
	limit_set(RLIMIT_FSIZE, 10 * BLOCK);
	for (int i = 0; i < 10; i++)
		EXPECT_EQ(mote_file_write(fd, block, BLOCK, (int64_t)i * BLOCK, PATIENCE), BLOCK);
	EXPECT_EQ(mote_file_write(fd, block, BLOCK, 10 * BLOCK, PATIENCE), -EFBIG);
	EXPECT_EQ(mote_file_truncate(fd, 11 * BLOCK), -EFBIG);
	EXPECT_EQ(mote_file_write(fd, block, BLOCK, 0, PATIENCE), BLOCK);
	limit_set(RLIMIT_FSIZE, RLIM_INFINITY);
	EXPECT_EQ(mote_file_write(fd, block, BLOCK, 10 * BLOCK, PATIENCE), BLOCK);
	mote_fd_close(fd);
}

static void run_too_large(void)
{
	signal(SIGXFSZ, SIG_IGN);
	limits_run();
}

static void file_size(void)
{
	limits_main = too_large;
	limits_opts = SCHEDULERS(2);
	limits_child(run_too_large);
}

int main(void)
{
	int status;

	if (!mkdtemp(disk))
		return 1;
	selftest_case("a full disk: a clear error, nothing is hurt, and it goes on when there is room", full);
	selftest_case("many writers on a full disk: what was said to be written is there", many);
	selftest_case("no room for one more file", inodes);
	selftest_case("RLIMIT_FSIZE", file_size);
	status = selftest_done();
	rmdir(disk);
	return status;
}
