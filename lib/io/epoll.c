// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The epoll backend, where io_uring is forbidden: one edge-triggered set per scheduler. A descriptor joins the set of
 * the scheduler on which somebody first waits for it, with both directions, and stays until it is closed. An
 * edge that nobody waited for is kept in fd.ready, so that a try, then a wait, loses nothing.
 */
#include "io/backend.h"
#include "io/fd.h"
#include "io/request.h"
#include "port/port.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define EVENTS	256
#define NOTIFY	UINT64_MAX		/* a descriptor's data: generation << 32 | number */
#define EDGES	(EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET)

struct epoll {
	struct io io;
	int fd;
	_Atomic uint32_t members;
};

static struct epoll *epoll_of(struct scheduler *s)
{
	return container_of(s->io, struct epoll, io);
}

static int epoll_open(struct scheduler *s)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET, .data.u64 = NOTIFY };
	struct epoll *e = calloc(1, sizeof(*e));
	int err;

	if (!e)
		return -ENOMEM;
	e->io.notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->fd = epoll_create1(EPOLL_CLOEXEC);
	if (e->io.notify_fd < 0 || e->fd < 0 || epoll_ctl(e->fd, EPOLL_CTL_ADD, e->io.notify_fd, &ev)) {
		err = -errno;
		close(e->fd);
		close(e->io.notify_fd);
		free(e);
		return err;
	}
	e->io.wait_fd = e->fd;
	e->io.bell_fd = port_bell_fd(s->index);
	if (e->io.bell_fd >= 0 && epoll_ctl(e->fd, EPOLL_CTL_ADD, e->io.bell_fd, &ev)) {
		err = -errno;
		close(e->fd);
		close(e->io.notify_fd);
		free(e);
		return err;
	}
	s->io = &e->io;
	return 0;
}

static void epoll_close(struct scheduler *s)
{
	struct epoll *e = epoll_of(s);

	close(e->fd);
	close(e->io.notify_fd);
	free(e);
}

static void epoll_ready(const struct epoll_event *ev)
{
	struct fd *f = fd_entry((int)(uint32_t)ev->data.u64);
	int events = ev->events & (EPOLLIN | EPOLLOUT);
	bool watched;

	if (ev->events & (EPOLLERR | EPOLLHUP))
		events = POLLIN | POLLOUT;
	if (ev->events & EPOLLRDHUP)
		events |= POLLIN;
	lock_take(&f->lock);
	if (f->generation != ev->data.u64 >> 32 || !f->member) {
		lock_drop(&f->lock);
		return;
	}
	watched = f->flags & FD_WATCHED && f->watched & events;
	if (watched)
		f->flags &= ~FD_WATCHED;
	f->ready |= events & ~requests_done(f, events);
	lock_drop(&f->lock);
	if (watched)
		fd_event(f, events);
}

/* Before Linux 5.11, or where a filter forbids it: whole milliseconds then, rounded up, so that no timer is early. */
static int wait_for_events(int fd, struct epoll_event *events, const struct timespec *span)
{
	static _Atomic bool coarse;
	int64_t ms = span ? span->tv_sec * 1000 + (span->tv_nsec + 999999) / 1000000 : -1;
	int n;

	/* Relaxed: who does not know yet finds out by itself. */
	if (!atomic_load_explicit(&coarse, memory_order_relaxed)) {
		n = epoll_pwait2(fd, events, EVENTS, span, NULL);
		if (n >= 0 || (errno != ENOSYS && errno != EPERM))
			return n;
		atomic_store_explicit(&coarse, true, memory_order_relaxed);
	}
	return epoll_wait(fd, events, EVENTS, ms < INT_MAX ? (int)ms : INT_MAX);
}

static int epoll_poll(struct scheduler *s, int64_t deadline_ns)
{
	struct epoll_event events[EVENTS];
	struct timespec ts = { 0, 0 };
	struct epoll *e = epoll_of(s);
	int n;

	if (deadline_ns && deadline_ns != INT64_MAX) {
		int64_t left = deadline_ns - clock_now();

		if (left > 0) {
			ts.tv_sec = left / 1000000000;
			ts.tv_nsec = left % 1000000000;
		}
	}
	n = wait_for_events(e->fd, events, deadline_ns == INT64_MAX ? NULL : &ts);
	for (int i = 0; i < n; i++)
		if (events[i].data.u64 != NOTIFY)
			epoll_ready(&events[i]);
	return n > 0 ? n : 0;
}

static bool epoll_pending(struct scheduler *s)
{
	return atomic_load_explicit(&epoll_of(s)->members, memory_order_relaxed);
}

static bool epoll_waiting(struct scheduler *s)
{
	struct pollfd p = { .fd = epoll_of(s)->fd, .events = POLLIN };

	return epoll_pending(s) && poll(&p, 1, 0) > 0;
}

/* Joins s's set, if f is in none yet: the kernel then reports at once what is ready. f->lock is held. */
static int epoll_join(struct scheduler *s, struct fd *f)
{
	struct epoll_event ev = { .events = EDGES };
	struct epoll *e = epoll_of(s);
	int err = 0;

	if (f->member)
		return 0;
	ev.data.u64 = (uint64_t)f->generation << 32 | (uint32_t)fd_number(f);
	f->member = s->index + 1;
	f->ready = 0;
	atomic_fetch_add_explicit(&e->members, 1, memory_order_relaxed);
	lock_drop(&f->lock);
	if (epoll_ctl(e->fd, EPOLL_CTL_ADD, fd_number(f), &ev))
		err = -errno;
	lock_take(&f->lock);
	if (err) {
		f->member = 0;
		atomic_fetch_sub_explicit(&e->members, 1, memory_order_relaxed);
		requests_done(f, POLLIN | POLLOUT);	/* who relied on it meanwhile tries for himself */
	}
	return err == -EPERM ? 1 : err;		/* a regular file: always ready */
}

static int epoll_watch(struct scheduler *s, struct request *r)
{
	struct fd *f = r->f;
	int err;

	lock_take(&f->lock);
	err = epoll_join(s, f);
	if (!err && f->ready & r->events) {
		f->ready &= ~r->events;
		err = 1;
	}
	lock_drop(&f->lock);
	return err;
}

static void epoll_cancel(struct scheduler *s, struct request *r)
{
	(void)s;
	(void)r;
}

static int epoll_watch_fd(struct scheduler *s, struct fd *f, int events)
{
	int err = epoll_join(s, f);

	if (!err && f->ready & events) {
		f->ready &= ~events;
		return 1;
	}
	return err;
}

static void epoll_unwatch_fd(struct scheduler *s, struct fd *f)
{
	(void)s;
	f->flags &= ~FD_WATCHED;
}

static void epoll_forget_fd(struct fd *f)
{
	struct epoll *e;

	if (!f->member)
		return;
	e = epoll_of(scheduler_at(f->member - 1));
	/* Needed where a copy of the descriptor lives on, in a child or by dup(): it would report for ever. */
	epoll_ctl(e->fd, EPOLL_CTL_DEL, fd_number(f), NULL);
	atomic_fetch_sub_explicit(&e->members, 1, memory_order_relaxed);
	f->member = 0;
	f->ready = 0;
}

const struct backend epoll_backend = {
	.name = "epoll",
	.open = epoll_open,
	.close = epoll_close,
	.poll = epoll_poll,
	.pending = epoll_pending,
	.waiting = epoll_waiting,
	.watch = epoll_watch,
	.cancel = epoll_cancel,
	.watch_fd = epoll_watch_fd,
	.unwatch_fd = epoll_unwatch_fd,
	.forget_fd = epoll_forget_fd,
};
