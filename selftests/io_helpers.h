/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * io_helpers.h: what the I/O tests share.
 */
#ifndef IO_HELPERS_H
#define IO_HELPERS_H

#include "selftest.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>

#define IO_FAIL(what) selftest_complain(__FILE__, __LINE__, what)

/* A hang is a failure that says so, and not a job for the runner's timeout. */
static inline void io_watchdog(unsigned int seconds)
{
	alarm(seconds);
}

/* What our parent left open would be counted as ours. */
static inline void io_close_inherited(void)
{
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
}

/* A listener on a free TCP port of the loopback, and its address. */
static inline int io_listen(struct mote_addr *addr)
{
	int fd;

	mote_addr_parse(addr, "127.0.0.1:0");
	fd = mote_net_listen(addr, 0);
	EXPECT(fd >= 0);
	EXPECT_EQ(mote_net_local(fd, addr), 0);
	return fd;
}

/* Two ends of a TCP connection. */
static inline bool io_pair(int ends[2])
{
	struct mote_addr addr;
	int listener = io_listen(&addr);

	ends[0] = mote_net_connect(&addr, mote_in_ms(5000));
	ends[1] = mote_net_accept(listener, NULL, mote_in_ms(5000));
	mote_fd_close(listener);
	return EXPECT(ends[0] >= 0) && EXPECT(ends[1] >= 0);
}

/* Descriptors of this OS process. */
static inline int io_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static inline void io_await_down(mote_ref ref)
{
	struct mote_msg *m = mote_receive_ref(ref, mote_in_ms(40000));

	EXPECT(m != NULL);
	mote_msg_free(m);
}

/* Receives exactly size bytes. */
static inline bool io_recv_all(int fd, void *buf, size_t size)
{
	size_t got = 0;

	while (got < size) {
		ssize_t n = mote_net_recv(fd, (char *)buf + got, size - got, mote_in_ms(40000));

		if (n <= 0)
			return false;
		got += n;
	}
	return true;
}

#endif
