// SPDX-License-Identifier: MIT OR GPL-2.0
#include "io/io.h"
#include "io/backend.h"
#include "io/child.h"
#include "io/fd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct backend *io_backend;

int io_start(unsigned int schedulers)
{
	const char *wish = getenv("MOTE_IO");
	int err;

	if (wish && !strcmp(wish, "epoll")) {
		io_backend = &epoll_backend;
	} else {
		err = ring_probe(schedulers);
		if (err && wish && !strcmp(wish, "io_uring"))
			return err;
		io_backend = err ? &epoll_backend : &ring_backend;
	}
	return fds_start();
}

void io_stop(void)
{
	children_stop();
	fds_stop();
}

void io_forget(void)
{
	fds_forget();
	children_forget();
}

const char *io_name(void)
{
	return io_backend->name;
}

int io_open(struct scheduler *s)
{
	return io_backend->open(s);
}

void io_close(struct scheduler *s)
{
	if (!s->io)
		return;
	io_backend->close(s);
	s->io = NULL;
}

int io_poll(struct scheduler *s, int64_t deadline_ns)
{
	return io_backend->poll(s, deadline_ns);
}

bool io_pending(struct scheduler *s)
{
	return io_backend->pending(s);
}

void io_adopt(struct scheduler *s)
{
	if (io_backend->adopt)
		io_backend->adopt(s);
}

bool io_waiting(struct scheduler *s)
{
	return io_backend->waiting(s);
}

int io_wait_fd(struct scheduler *s)
{
	return s->io->wait_fd;
}

void io_notify(struct scheduler *s)
{
	uint64_t one = 1;

	/* Never read, so it never overflows in the life of a machine; each write is a new edge for the waiter. */
	while (write(s->io->notify_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}
