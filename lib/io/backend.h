/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * io/backend.h: what io_uring and epoll do differently. Sockets are tried first, without waiting, in both; a backend
 * waits for readiness. On top of that io_uring runs operations on files, and receives ahead (io/inflow.h).
 */
#ifndef IO_BACKEND_H
#define IO_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

struct fd;
struct io_uring_sqe;
struct request;
struct scheduler;

/* What hangs off scheduler.io: each backend has this first. */
struct io {
	int notify_fd;			/* an eventfd in the ring or the epoll set; never read: each write is an edge */
	int bell_fd;			/* the port's (port/port.h), likewise; -1: none */
	int wait_fd;			/* the ring, or the set: can be polled for whether there is something */
};

struct backend {
	const char *name;
	int (*open)(struct scheduler *s);
	void (*close)(struct scheduler *s);
	int (*poll)(struct scheduler *s, int64_t deadline_ns);
	bool (*pending)(struct scheduler *s);
	bool (*waiting)(struct scheduler *s);
	void (*adopt)(struct scheduler *s);	/* may be NULL */

	/*
	 * Has r, which is among the waiters of its descriptor, completed when one of r->events is there, or at any
	 * time without a reason. On the calling task's own scheduler. 0; 1 (ready now) or -errno: r is not under way.
	 */
	int (*watch)(struct scheduler *s, struct request *r);

	/* Hastens the completion of r; on the scheduler that watched it. */
	void (*cancel)(struct scheduler *s, struct request *r);

	/* What fd_watch() does; f->lock is held, and may be dropped meanwhile. */
	int (*watch_fd)(struct scheduler *s, struct fd *f, int events);

	/* Ends watch_fd() early: fd_event() comes soon, or FD_WATCHED is cleared at once. By s; f->lock is held. */
	void (*unwatch_fd)(struct scheduler *s, struct fd *f);

	/* f is about to be closed, or is not ours and nobody waits any more; f->lock is held. */
	void (*forget_fd)(struct fd *f);

	/*
	 * Queues an operation whose completion sets r->res; NULL: there is no such thing, file operations go to a thread.
	 */
	void (*submit)(struct scheduler *s, const struct io_uring_sqe *sqe, struct request *r);
};

extern const struct backend ring_backend, epoll_backend;
extern const struct backend *io_backend;	/* set by io_start() */

/* 0 if the kernel lets us and has what we need, else -errno. */
int ring_probe(unsigned int schedulers);

#endif
