// SPDX-License-Identifier: MIT OR GPL-2.0
/* Stream sockets: what is sent arrives, in order, whole, and waits end at their deadlines. */
#include "io_helpers.h"

static void serve(void *arg)
{
	int listener = (int)(intptr_t)arg, fd = mote_net_accept(listener, NULL, MOTE_FOREVER);
	char buf[5000];
	ssize_t n;

	while ((n = mote_net_recv(fd, buf, sizeof(buf), MOTE_FOREVER)) > 0)
		if (!EXPECT(mote_net_send(fd, buf, n, MOTE_FOREVER) == n))
			break;
}

static void echo_at(struct mote_addr *addr)
{
	int listener = mote_net_listen(addr, 0), fd;
	char out[9000], in[9000];
	mote_ref mon;

	if (!EXPECT(listener >= 0))
		return;
	EXPECT_EQ(mote_net_local(listener, addr), 0);
	mote_spawn_monitor(serve, (void *)(intptr_t)listener, &mon);
	fd = mote_net_connect(addr, mote_in_ms(5000));
	if (!EXPECT(fd >= 0))
		return;
	/* Small ones first, so that receiving ahead comes in; then sizes around its buffers. */
	for (int round = 0; round < 300; round++) {
		size_t size = round < 100 ? (size_t)round + 1 : (size_t)(round * 7919) % sizeof(out) + 1;

		for (size_t i = 0; i < size; i++)
			out[i] = (char)(i * 31 + round);
		EXPECT_EQ(mote_net_send(fd, out, size, MOTE_FOREVER), size);
		if (!EXPECT(io_recv_all(fd, in, size)) || !EXPECT(!memcmp(in, out, size)))
			break;
	}
	EXPECT_EQ(mote_fd_close(fd), 0);
	io_await_down(mon);
	EXPECT_EQ(mote_fd_close(listener), 0);
}

static void echo_ipv4(void)
{
	struct mote_addr addr;

	EXPECT_EQ(mote_addr_parse(&addr, "127.0.0.1:0"), 0);
	echo_at(&addr);
}

static void echo_ipv6(void)
{
	struct mote_addr addr;
	int fd;

	EXPECT_EQ(mote_addr_parse(&addr, "[::1]:0"), 0);
	fd = mote_net_listen(&addr, 0);
	if (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT) {
		selftest_skip("no IPv6 here");
		return;
	}
	mote_fd_close(fd);
	echo_at(&addr);
}

static void echo_unix(void)
{
	char text[200];
	struct mote_addr addr;
	int fd;

	snprintf(text, sizeof(text), "unix:/tmp/mote-io-tcp-%d", getpid());
	EXPECT_EQ(mote_addr_parse(&addr, text), 0);
	fd = mote_net_listen(&addr, 0);
	EXPECT(fd >= 0);
	EXPECT_EQ(mote_net_listen(&addr, 0), -EADDRINUSE);	/* somebody listens */
	mote_fd_close(fd);
	echo_at(&addr);						/* a stale path is replaced */
	unlink(text + 5);
	snprintf(text, sizeof(text), "unix:@mote-io-tcp-%d", getpid());
	EXPECT_EQ(mote_addr_parse(&addr, text), 0);
	echo_at(&addr);
}

static void addresses(void)
{
	static const char *const good[] = { "127.0.0.1:6379", "[::1]:80", "unix:/tmp/x", "unix:@abstract", "0.0.0.0:0" };
	static const char *const bad[] = { "", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80",
					   "[::1]", "[::1:80", "host:80", "unix:", "1.2.3.4:80x" };
	struct mote_addr addr;
	char text[128];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		EXPECT_EQ(mote_addr_parse(&addr, good[i]), 0);
		EXPECT_EQ(mote_addr_format(&addr, text, sizeof(text)), strlen(good[i]));
		EXPECT(!strcmp(text, good[i]));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (mote_addr_parse(&addr, bad[i]) != -EINVAL) {
			printf("# accepted: %s\n", bad[i]);
			IO_FAIL("a bad address is refused");
		}
	EXPECT_EQ(mote_addr_parse(&addr, ":6379"), 0);
	EXPECT_EQ(mote_addr_format(&addr, text, sizeof(text)), 12);
	EXPECT(!strcmp(text, "0.0.0.0:6379"));
	EXPECT_EQ(mote_addr_format(&addr, text, 4), 12);
	EXPECT(!strcmp(text, "0.0"));
}

#define BULK	(24 << 20)

static void bulk_sender(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char *data = malloc(BULK);
	struct iovec iov[3];

	for (size_t i = 0; i < BULK; i++)
		data[i] = (char)(i * 2654435761u >> 13);
	iov[0] = (struct iovec){ data, 1 };
	iov[1] = (struct iovec){ data + 1, 0 };
	iov[2] = (struct iovec){ data + 1, BULK - 1 };
	EXPECT_EQ(mote_net_sendv(fd, iov, 3, MOTE_FOREVER), BULK);
	EXPECT_EQ(mote_net_shutdown(fd, SHUT_WR), 0);
	free(data);
}

/* Reads slowly at first, in pieces of all sizes, so that the sender has to wait. */
static void bulk(void)
{
	size_t got = 0, next = 1;
	int ends[2];
	mote_ref mon;
	char *buf = malloc(1 << 17);
	bool right = true;

	if (!io_pair(ends))
		return;
	mote_spawn_monitor(bulk_sender, (void *)(intptr_t)ends[0], &mon);
	for (;;) {
		ssize_t n = mote_net_recv(ends[1], buf, next, mote_in_ms(10000));

		if (n <= 0) {
			EXPECT_EQ(n, 0);
			break;
		}
		for (ssize_t i = 0; i < n; i++)
			right = right && buf[i] == (char)((got + i) * 2654435761u >> 13);
		got += n;
		next = next * 3 % 100003 + 1;
		if (got < 200000)
			mote_sleep(mote_in_us(200));
	}
	EXPECT(right);
	EXPECT_EQ(got, BULK);
	EXPECT_EQ(mote_net_recv(ends[1], buf, 1, mote_in_ms(1000)), 0);		/* the end stays the end */
	io_await_down(mon);
	mote_fd_close(ends[1]);
	free(buf);
}

static void deadlines(void)
{
	struct mote_addr addr;
	int ends[2], listener = io_listen(&addr);
	mote_deadline d;
	char c = 0;

	if (!io_pair(ends))
		return;
	EXPECT_EQ(mote_net_recv(ends[0], &c, 1, MOTE_NOW), -ETIMEDOUT);
	for (int i = 0; i < 6; i++) {
		d = mote_in_ms(15);
		EXPECT_EQ(mote_net_recv(ends[0], &c, 1, d), -ETIMEDOUT);
		EXPECT(mote_now().ns >= d.ns);
		/* After a small receive the next wait may be of the other kind. */
		EXPECT_EQ(mote_net_send(ends[1], "x", 1, MOTE_FOREVER), 1);
		EXPECT_EQ(mote_net_recv(ends[0], &c, 1, mote_in_ms(5000)), 1);
	}
	EXPECT_EQ(mote_net_recv(ends[0], &c, 1, MOTE_NOW), -ETIMEDOUT);
	EXPECT_EQ(mote_net_send(ends[1], "y", 1, MOTE_FOREVER), 1);
	for (int i = 0; i < 1000 && c != 'y'; i++) {
		mote_net_recv(ends[0], &c, 1, MOTE_NOW);
		mote_sleep(mote_in_ms(1));
	}
	EXPECT_EQ(c, 'y');
	EXPECT_EQ(mote_net_accept(listener, NULL, MOTE_NOW), -ETIMEDOUT);
	EXPECT_EQ(mote_net_accept(listener, NULL, mote_in_ms(10)), -ETIMEDOUT);
	EXPECT_EQ(mote_fd_wait(ends[0], MOTE_FD_IN, mote_in_ms(10)), -ETIMEDOUT);
	EXPECT_EQ(mote_fd_wait(ends[0], MOTE_FD_IN | MOTE_FD_OUT, MOTE_NOW), MOTE_FD_OUT);
}

/* A send that can't go on ends at its deadline, and the peer still sees what went out. */
static void send_deadline(void)
{
	size_t size = 64 << 20;
	char *data = calloc(1, size);
	mote_deadline d = mote_in_ms(50);
	int ends[2];

	if (!io_pair(ends))
		return;
	EXPECT_EQ(mote_net_send(ends[0], data, size, d), -ETIMEDOUT);
	EXPECT(mote_now().ns >= d.ns);
	EXPECT_EQ(mote_net_send(ends[0], data, size, MOTE_NOW), -ETIMEDOUT);
	EXPECT_EQ(mote_net_recv(ends[1], data, 1000, mote_in_ms(1000)), 1000);
	free(data);
}

static void late_reader(void *arg)
{
	char c;

	mote_net_recv((int)(intptr_t)arg, &c, 1, mote_in_ms(5000));
}

static void one_at_a_time(void)
{
	int ends[2];
	mote_ref mon;
	char c;

	if (!io_pair(ends))
		return;
	mote_spawn_monitor(late_reader, (void *)(intptr_t)ends[0], &mon);
	mote_sleep(mote_in_ms(20));
	EXPECT_EQ(mote_net_recv(ends[0], &c, 1, mote_in_ms(1000)), -EBUSY);
	EXPECT_EQ(mote_net_send(ends[0], "a", 1, MOTE_FOREVER), 1);	/* the other direction is free */
	EXPECT_EQ(mote_net_send(ends[1], "a", 1, MOTE_FOREVER), 1);
	io_await_down(mon);
}

static void errors(void)
{
	struct mote_addr addr;
	int ends[2], fd, listener = io_listen(&addr);
	char c;

	EXPECT_EQ(mote_net_recv(-1, &c, 1, MOTE_NOW), -EBADF);
	EXPECT_EQ(mote_net_recv(1 << 28, &c, 1, MOTE_NOW), -EBADF);
	EXPECT_EQ(mote_net_recv(9999, &c, 1, MOTE_NOW), -EBADF);
	mote_fd_close(listener);
	fd = mote_net_connect(&addr, mote_in_ms(1000));
	EXPECT_EQ(fd, -ECONNREFUSED);
	if (!io_pair(ends))
		return;
	EXPECT_EQ(mote_net_recv(ends[1], &c, 0, MOTE_NOW), 0);
	EXPECT_EQ(mote_net_send(ends[1], &c, 0, MOTE_NOW), 0);
	mote_fd_close(ends[0]);
	mote_sleep(mote_in_ms(5));
	mote_net_send(ends[1], "x", 1, MOTE_FOREVER);		/* answered with a reset */
	mote_sleep(mote_in_ms(5));
	EXPECT_EQ(mote_net_send(ends[1], "x", 1, MOTE_FOREVER), -EPIPE);	/* and no SIGPIPE */
}

static void resetter(void *arg)
{
	struct linger hard = { 1, 0 };
	int fd = (int)(intptr_t)arg;

	mote_sleep(mote_in_ms(5));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	mote_fd_close(fd);
}

/* Whichever way the receive waits: the first that looks is told of the reset, those after see the end. */
static void reset(void)
{
	for (int i = 0; i < 6; i++) {
		int ends[2];
		mote_ref mon;
		char c;

		if (!io_pair(ends))
			return;
		for (int k = 0; k < i; k++) {
			mote_net_send(ends[1], "x", 1, MOTE_FOREVER);
			EXPECT_EQ(mote_net_recv(ends[0], &c, 1, MOTE_FOREVER), 1);
			EXPECT_EQ(mote_net_recv(ends[0], &c, 1, mote_in_us(200)), -ETIMEDOUT);
		}
		mote_spawn_monitor(resetter, (void *)(intptr_t)ends[1], &mon);
		EXPECT_EQ(mote_net_recv(ends[0], &c, 1, MOTE_FOREVER), -ECONNRESET);
		EXPECT_EQ(mote_net_recv(ends[0], &c, 1, mote_in_ms(1000)), 0);
		io_await_down(mon);
	}
}

int main(void)
{
	io_watchdog(60);
	selftest_case("addresses are parsed and written", addresses);
	selftest_process("echo over IPv4", echo_ipv4);
	selftest_process("echo over IPv6", echo_ipv6);
	selftest_process("echo over Unix sockets, and a stale path is replaced", echo_unix);
	selftest_process("much data, a slow reader, several pieces", bulk);
	selftest_process("receives and accepts end at their deadlines, and not before", deadlines);
	selftest_process("a send ends at its deadline", send_deadline);
	selftest_process("one reader at a time, one writer at a time", one_at_a_time);
	selftest_process("errors of the kernel come back as they are", errors);
	selftest_process("a reset is told once", reset);
	return selftest_done();
}
