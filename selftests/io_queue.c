// SPDX-License-Identifier: MIT OR GPL-2.0
/* Messages sent to sockets by ownership, and descriptors handed from process to process. */
#include "io_helpers.h"

#include <fcntl.h>

enum { WORD = 1 };

static int send_words(int fd, uint32_t first, uint32_t n, mote_deadline deadline)
{
	struct mote_msg *m = mote_msg_new(WORD, n * 4);
	uint32_t *words = m->data;

	for (uint32_t i = 0; i < n; i++)
		words[i] = first + i;
	return mote_net_send_msg(fd, m, deadline);
}

static void collector(void *arg)
{
	uint32_t words[5000], next = 0;
	int fd = (int)(intptr_t)arg;
	size_t have = 0;
	ssize_t n;

	while ((n = mote_net_recv(fd, (char *)words + have, sizeof(words) - have, mote_in_ms(10000))) > 0) {
		have += n;
		for (size_t i = 0; i < have / 4; i++, next++)
			if (words[i] != next) {
				EXPECT_EQ(words[i], next);
				return;
			}
		memmove(words, words + have / 4, have % 4);
		have %= 4;
		if (next < 100000)
			mote_sleep(mote_in_us(300));	/* a slow start, so that the queue fills */
	}
	EXPECT_EQ(n, 0);
	EXPECT_EQ(next, 3000000);
}

/* Queued messages, plain sends and shut-down in turns: they arrive in that order, all of them. */
static void in_order(void)
{
	uint32_t next = 0, word;
	mote_ref mon;
	int ends[2];

	if (!io_pair(ends))
		return;
	mote_spawn_monitor(collector, (void *)(intptr_t)ends[1], &mon);
	for (int i = 0; next < 2999000; i++) {
		uint32_t n = i * 37 % 900 + 1;

		if (i % 5 == 0) {
			word = next++;
			EXPECT_EQ(mote_net_send(ends[0], &word, 4, mote_in_ms(20000)), 4);
		}
		if (!EXPECT(send_words(ends[0], next, n, mote_in_ms(20000)) == 0))
			return;
		next += n;
	}
	EXPECT_EQ(send_words(ends[0], next, 3000000 - next, mote_in_ms(20000)), 0);
	EXPECT_EQ(mote_net_shutdown(ends[0], SHUT_WR), 0);
	io_await_down(mon);
}

/* Returns at once while less than 1 MiB is under way, then waits. */
static void bounded(void)
{
	int ends[2], n = 0, err;

	if (!io_pair(ends))
		return;
	/* What the kernel buffers comes on top: some MiB at most. */
	while (!(err = send_words(ends[0], 0, 16384, mote_in_ms(100))) && n < 1000)
		n++;
	EXPECT_EQ(err, -ETIMEDOUT);
	EXPECT(n >= 16 && n < 1000);
	EXPECT_EQ(mote_net_send(ends[0], "x", 1, mote_in_ms(10)), -ETIMEDOUT);	/* it would have to overtake */
	EXPECT_EQ(mote_fd_close(ends[0]), 0);					/* drops the rest */
}

static void errors(void)
{
	int ends[2], err = 0;

	if (!io_pair(ends))
		return;
	EXPECT_EQ(mote_fd_close(ends[1]), 0);
	for (int i = 0; i < 100 && !err; i++) {
		err = send_words(ends[0], 0, 10, mote_in_ms(100));
		mote_sleep(mote_in_ms(1));
	}
	EXPECT(err == -EPIPE || err == -ECONNRESET);
	EXPECT_EQ(send_words(-1, 0, 1, MOTE_NOW), -EBADF);
}

static void queues_and_waits(void *arg)
{
	int fd = (int)(intptr_t)arg;

	while (!send_words(fd, 0, 16384, MOTE_FOREVER))
		;
}

static void sends_and_waits(void *arg)
{
	static char data[8 << 20];

	while (mote_net_send((int)(intptr_t)arg, data, sizeof(data), MOTE_FOREVER) > 0)
		;
}

struct pair {
	mote_pid main;
	int fd;
	bool queued;
};

static void owns(void *arg)
{
	struct pair *pair = arg;
	/* On another scheduler, if there is one: what waits for room in the socket is over there. */
	struct mote_spawn_opts opts = {
		.size = sizeof(opts), .flags = MOTE_LINK | MOTE_PINNED, .scheduler = 1,
		.fn = pair->queued ? queues_and_waits : sends_and_waits, .arg = (void *)(intptr_t)pair->fd,
	};
	mote_pid sender;
	char c;

	mote_msg_free(mote_receive(MOTE_FOREVER));	/* fd is ours */
	sender = mote_spawn_opts(&opts);
	mote_send(pair->main, WORD, &sender, sizeof(sender));
	mote_net_recv(pair->fd, &c, 1, MOTE_FOREVER);
}

/* Owner or sender is killed while the other waits on the same descriptor, with much under way: both go. */
static void ends_under_way(void)
{
	int before = io_count_fds();

	for (int i = 0; i < 120; i++) {
		struct pair pair = { mote_self(), -1, i % 2 };
		struct mote_msg *m;
		mote_pid owner;
		mote_ref mon;
		int ends[2];

		if (!io_pair(ends))
			return;
		pair.fd = ends[0];
		owner = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .fn = owns, .arg = &pair,
			.flags = MOTE_MONITOR | MOTE_PINNED, .ref = &mon });
		EXPECT_EQ(mote_fd_give(ends[0], owner), 0);
		mote_send(owner, WORD, NULL, 0);
		m = mote_receive_type(WORD, mote_in_ms(40000));
		if (!EXPECT(m))
			return;
		mote_sleep(mote_in_us(i * 37));
		mote_exit_pid(i % 4 < 2 ? owner : *(mote_pid *)m->data, MOTE_REASON_KILL);
		mote_msg_free(m);
		m = mote_receive_ref(mon, mote_in_ms(20000));
		if (!EXPECT(m))
			return;
		mote_msg_free(m);
		EXPECT_EQ(mote_fd_close(ends[1]), 0);
	}
	EXPECT_EQ(io_count_fds(), before);
}

static void reader_of_gift(void *arg)
{
	struct mote_msg *m = mote_receive(mote_in_ms(10000));
	int fd = *(int *)m->data;
	char buf[16] = "";

	(void)arg;
	EXPECT(mote_pid_equal(mote_fd_owner(fd), mote_self()));
	EXPECT(io_recv_all(fd, buf, 6));
	EXPECT(!memcmp(buf, "abcdef", 6));
	mote_msg_free(m);
}

/* What was received ahead and not read goes along. */
static void give(void)
{
	for (int i = 0; i < 50; i++) {
		mote_ref mon;
		mote_pid p;
		int ends[2];
		char buf[4];

		if (!io_pair(ends))
			return;
		for (int k = 0; k < 3; k++) {
			mote_net_send(ends[1], "x", 1, MOTE_FOREVER);
			EXPECT_EQ(mote_net_recv(ends[0], buf, 1, MOTE_FOREVER), 1);
			EXPECT_EQ(mote_net_recv(ends[0], buf, 1, mote_in_us(300)), -ETIMEDOUT);
		}
		mote_net_send(ends[1], "..abc", 5, MOTE_FOREVER);
		EXPECT(io_recv_all(ends[0], buf, 2));
		p = mote_spawn_monitor(reader_of_gift, NULL, &mon);
		EXPECT_EQ(mote_fd_give(ends[0], p), 0);
		EXPECT_EQ(mote_fd_give(ends[0], p), -EPERM);
		EXPECT_EQ(mote_send(p, WORD, &ends[0], sizeof(int)), 0);
		mote_net_send(ends[1], "def", 3, MOTE_FOREVER);
		io_await_down(mon);
		EXPECT_EQ(fcntl(ends[0], F_GETFD), -1);	/* closed with its new owner */
		mote_fd_close(ends[1]);
	}
}

static void quits(void *arg)
{
	(void)arg;
}

static void give_to_the_dead(void)
{
	int before = io_count_fds();

	for (int i = 0; i < 100; i++) {
		mote_ref mon;
		mote_pid p = mote_spawn_monitor(quits, NULL, &mon);
		int ends[2];

		if (!io_pair(ends))
			return;
		if (i % 2)
			io_await_down(mon);
		EXPECT_EQ(mote_fd_give(ends[0], p), 0);
		if (!(i % 2))
			io_await_down(mon);
		EXPECT_EQ(mote_net_recv(ends[1], &(char){ 0 }, 1, mote_in_ms(5000)), 0);
		mote_fd_close(ends[1]);
	}
	EXPECT_EQ(io_count_fds(), before);
	EXPECT_EQ(mote_fd_give(9999, mote_self()), -EBADF);
}

int main(void)
{
	io_watchdog(60);
	selftest_process("messages, sends and shut-down keep their order", in_order);
	selftest_process("a megabyte may be under way, not more", bounded);
	selftest_process("the error of a queued send is told by the next", errors);
	selftest_process("owner or sender end while much is queued", ends_under_way);
	selftest_process("a descriptor given away takes along what was received", give);
	selftest_process("given to the dead, it is closed", give_to_the_dead);
	return selftest_done();
}
