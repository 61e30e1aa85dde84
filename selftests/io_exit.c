// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * An exit signal ends a process in every kind of I/O that waits. Its buffer is on its stack: DOWN comes only when the
 * kernel is through with it, and its descriptors are gone by then.
 */
#include "io_helpers.h"

#include <fcntl.h>

static struct mote_addr full_addr;
static _Atomic int reached;
static _Atomic bool returned;

struct victim {
	const char *what;
	void (*fn)(void *arg);
};

/* Each makes descriptors of its own, says that it is about to wait, and never returns from there. */
static void in_recv(void *arg)
{
	int ends[2];
	char buf[4096];

	(void)arg;
	io_pair(ends);
	atomic_fetch_add(&reached, 1);
	mote_net_recv(ends[0], buf, sizeof(buf), MOTE_FOREVER);
	atomic_store(&returned, true);
}

static void in_recv_ahead(void *arg)
{
	int ends[2];
	char buf[4096];

	(void)arg;
	io_pair(ends);
	for (int i = 0; i < 3; i++) {
		mote_net_send(ends[1], "x", 1, MOTE_FOREVER);
		mote_net_recv(ends[0], buf, sizeof(buf), MOTE_FOREVER);
	}
	atomic_fetch_add(&reached, 1);
	mote_net_recv(ends[0], buf, sizeof(buf), MOTE_FOREVER);
	atomic_store(&returned, true);
}

static void in_recv_deadline(void *arg)
{
	int ends[2];
	char buf[4096];

	(void)arg;
	io_pair(ends);
	atomic_fetch_add(&reached, 1);
	mote_net_recv(ends[0], buf, sizeof(buf), mote_in_ms(60000));
	atomic_store(&returned, true);
}

static void in_send(void *arg)
{
	static char data[32 << 20];
	int ends[2];

	(void)arg;
	io_pair(ends);
	atomic_fetch_add(&reached, 1);
	mote_net_send(ends[0], data, sizeof(data), MOTE_FOREVER);
	atomic_store(&returned, true);
}

static void in_accept(void *arg)
{
	struct mote_addr addr;
	int listener = io_listen(&addr);

	(void)arg;
	atomic_fetch_add(&reached, 1);
	mote_net_accept(listener, &addr, MOTE_FOREVER);
	atomic_store(&returned, true);
}

static void in_connect(void *arg)
{
	(void)arg;
	atomic_fetch_add(&reached, 1);
	for (;;)	/* the first ones still find room in the backlog */
		if (mote_net_connect(&full_addr, MOTE_FOREVER) < 0)
			break;
	atomic_store(&returned, true);
}

static void in_recvfrom(void *arg)
{
	struct mote_addr addr;
	char buf[2048];
	int fd;

	(void)arg;
	mote_addr_parse(&addr, "127.0.0.1:0");
	fd = mote_net_udp(AF_INET, &addr);
	atomic_fetch_add(&reached, 1);
	mote_net_recvfrom(fd, buf, sizeof(buf), &addr, MOTE_FOREVER);
	atomic_store(&returned, true);
}

static void in_pipe(void *arg)
{
	char buf[8192];
	int ends[2];

	(void)arg;
	EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
	EXPECT_EQ(mote_fd_adopt(ends[0]), 0);
	EXPECT_EQ(mote_fd_adopt(ends[1]), 0);
	atomic_fetch_add(&reached, 1);
	mote_file_read(ends[0], buf, sizeof(buf), -1, MOTE_FOREVER);
	atomic_store(&returned, true);
}

static void in_pipe_write(void *arg)
{
	static char data[1 << 20];
	int ends[2];

	(void)arg;
	EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
	EXPECT_EQ(mote_fd_adopt(ends[0]), 0);
	EXPECT_EQ(mote_fd_adopt(ends[1]), 0);
	atomic_fetch_add(&reached, 1);
	mote_file_write(ends[1], data, sizeof(data), -1, MOTE_FOREVER);
	atomic_store(&returned, true);
}

static void in_wait(void *arg)
{
	int ends[2];

	(void)arg;
	io_pair(ends);
	atomic_fetch_add(&reached, 1);
	mote_fd_wait(ends[0], MOTE_FD_IN, MOTE_FOREVER);
	atomic_store(&returned, true);
}

static void in_child_wait(void *arg)
{
	static const char *const argv[] = { "sleep", "2", NULL };
	struct mote_child child;

	(void)arg;
	EXPECT_EQ(mote_child_start(&child, argv, NULL, NULL), 0);
	atomic_fetch_add(&reached, 1);
	mote_child_wait(&child, NULL, MOTE_FOREVER);
	atomic_store(&returned, true);
}

static const struct victim victims[] = {
	{ "recv", in_recv },
	{ "recv, ahead", in_recv_ahead },
	{ "recv, with a deadline", in_recv_deadline },
	{ "send", in_send },
	{ "accept", in_accept },
	{ "connect", in_connect },
	{ "recvfrom", in_recvfrom },
	{ "read from a pipe", in_pipe },
	{ "write to a pipe", in_pipe_write },
	{ "fd_wait", in_wait },
	{ "child_wait", in_child_wait },
};

static void each_dies(void)
{
	char text[64];
	int listener, before;

	/* A listener that never accepts, with a backlog of one. */
	snprintf(text, sizeof(text), "unix:@mote-io-exit-%d", getpid());
	mote_addr_parse(&full_addr, text);
	listener = mote_net_listen(&full_addr, 1);
	EXPECT(listener >= 0);
	for (size_t i = 0; i < sizeof(victims) / sizeof(victims[0]); i++) {
		for (int round = 0; round < 20; round++) {
			mote_ref mon;
			mote_pid p;

			before = io_count_fds();
			atomic_store(&reached, 0);
			atomic_store(&returned, false);
			p = mote_spawn_monitor(victims[i].fn, NULL, &mon);
			while (!atomic_load(&reached))
				mote_sleep(mote_in_us(200));
			if (round % 2)
				mote_sleep(mote_in_us(500));	/* else it may not be waiting yet */
			mote_exit_pid(p, round % 3 ? MOTE_REASON_KILL : MOTE_REASON_SHUTDOWN);
			io_await_down(mon);
			if (atomic_load(&returned)) {
				printf("# returned: %s\n", victims[i].what);
				IO_FAIL("the call does not return");
			}
			if (victims[i].fn == in_child_wait) {
				/* The orphan's pidfd is the runtime's until it ends. */
				if (round == 2)
					break;
			} else if (io_count_fds() != before) {
				printf("# %s: %d descriptors, %d before\n", victims[i].what, io_count_fds(), before);
				IO_FAIL("all descriptors are closed when DOWN is seen");
			}
		}
	}
	mote_fd_close(listener);
}

/* The reverse: data comes at the moment of the kill. Whatever wins, nothing is written later to a dead stack. */
static void sender(void *arg)
{
	int fd = (int)(intptr_t)arg;

	for (int i = 0; i < 3; i++)
		mote_net_send(fd, "0123456789", 10, mote_in_ms(1000));
}

static void reader(void *arg)
{
	char buf[64];

	while (mote_net_recv((int)(intptr_t)arg, buf, sizeof(buf), MOTE_FOREVER) > 0)
		;
}

static void kill_against_data(void)
{
	int before = io_count_fds();

	for (int i = 0; i < 300; i++) {
		mote_ref mon, mon2;
		int ends[2];
		mote_pid p;

		if (!io_pair(ends))
			return;
		p = mote_spawn_monitor(reader, (void *)(intptr_t)ends[0], &mon);
		if (i % 2)
			mote_yield();
		mote_spawn_monitor(sender, (void *)(intptr_t)ends[1], &mon2);
		for (int k = 0; k < i % 5; k++)
			mote_yield();
		mote_exit_pid(p, MOTE_REASON_KILL);
		io_await_down(mon);
		io_await_down(mon2);
		EXPECT_EQ(mote_fd_close(ends[0]), 0);
		EXPECT_EQ(mote_fd_close(ends[1]), 0);
	}
	EXPECT_EQ(io_count_fds(), before);
}

static void owner(void *arg)
{
	int *fd = arg;
	struct mote_addr addr;

	mote_addr_parse(&addr, "127.0.0.1:0");
	mote_msg_free(mote_receive(MOTE_FOREVER));
	*fd = mote_net_accept(*fd, NULL, MOTE_FOREVER);
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

/* Who has seen DOWN sees the end of the stream without waiting. */
static void peer_sees_the_end(void)
{
	for (int i = 0; i < 200; i++) {
		struct mote_addr addr;
		int listener = io_listen(&addr), fd, theirs = listener;
		mote_ref mon;
		mote_pid p;
		char c;

		p = mote_spawn_monitor(owner, &theirs, &mon);
		mote_send(p, 1, NULL, 0);
		fd = mote_net_connect(&addr, mote_in_ms(5000));
		mote_send(p, 1, NULL, 0);
		io_await_down(mon);
		if (!EXPECT(mote_net_recv(fd, &c, 1, MOTE_NOW) == 0))
			break;
		mote_fd_close(fd);
		mote_fd_close(listener);
	}
}

int main(void)
{
	io_watchdog(100);
	selftest_process("an exit signal ends each kind of wait, and descriptors are gone with DOWN", each_dies);
	selftest_process("kill against data that comes", kill_against_data);
	selftest_process("after DOWN the peer sees the end of the stream", peer_sees_the_end);
	return selftest_done();
}
