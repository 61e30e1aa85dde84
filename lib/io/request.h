/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * io/request.h: a call that waits. The request lives on the stack of the task that waits, so nobody leaves before it
 * is done: not for a deadline, not for an exit signal. Those cancel it and go on waiting for its completion.
 */
#ifndef IO_REQUEST_H
#define IO_REQUEST_H

#include "io/fd.h"
#include "sched/scheduler.h"

#include <poll.h>

struct io_uring_sqe;

struct request {
	struct task *task;
	struct fd *f;			/* NULL: an operation on paths */
	struct request *next, **prev;	/* f->waiters, under f->lock; prev NULL: not in it */
	int events;			/* what f has to do to complete it: POLLIN, POLLOUT, REQUEST_DRAINED; 0: nothing */
	int res;
	_Atomic bool done;		/* stored with release, after all else: the frame may vanish */
	_Atomic bool expired;		/* set by the timer */
	_Atomic bool closed;		/* f is being closed */
	bool in_ring;			/* the kernel holds its address, and completes it; the task is bound to that ring */
	struct wheel_timer timer;
};

#define REQUEST_DRAINED	0x10000		/* what was queued for sending has gone, or failed */

/* For functions that take no deadline: in a cleanup they may take what time is left, which MOTE_FOREVER may not. */
#define CALL_UNLIMITED	((mote_deadline){ INT64_MAX - 1 })

/* A public function under way: who calls, on what, until when. */
struct call {
	struct task *task;
	struct fd *f;
	int fd;
	int use;			/* enum fd_use; -1: holds no descriptor */
	int64_t deadline;
	bool die;			/* an exit signal came: call_end() does not return */
};

/* Enters the runtime for a function that waits. 0, or -errno: nothing to end but by call_end(). */
int call_begin(struct call *c, const char *name, mote_deadline deadline);

/* The same with the use of a descriptor. */
int call_begin_fd(struct call *c, const char *name, int fd, int use, mote_deadline deadline);

/* Goes on with a descriptor that the call has just opened. */
int call_use(struct call *c, int fd, int use);

/* The same, and the lock of the descriptor is held from the first to the second: for short ways. */
int call_use_locked(struct call *c, int fd, int use);
void call_unuse_locked(struct call *c);

/* Gives the descriptor back, ends the task if it has to end, and leaves the runtime; returns result. */
int64_t call_end(struct call *c, int64_t result);

/*
 * Waits until the descriptor is ready (or may be). Returns events, -ETIMEDOUT, -ECANCELED (closed), -EINTR (with
 * c->die).
 */
int call_poll(struct call *c, int events);

/* A little sleep, on the way to another try: 0, or an error as call_poll(). */
int call_pause(struct call *c, int64_t ns);

/*
 * Runs an operation in the ring, whose buffers are the caller's. Returns its result, or an error as call_poll(). -EAGAIN:
 * the descriptor is O_NONBLOCK, or the kernel has no thread for it.
 */
int call_submit(struct call *c, const struct io_uring_sqe *sqe);

/*
 * Runs fn(arg) on a thread; arg and what it points to may be on the caller's stack, so the deadline ends only the
 * wait for a thread.
 * *result is set if it returns 0; -EINTR with c->die, and fn may have run or not; -EAGAIN.
 */
int call_blocking(struct call *c, int64_t (*fn)(void *arg), void *arg, int64_t *result);

/*
 * Prepares r, and waits for its completion: 0, or the reason for which it was cancelled. A request that is linked to
 * its descriptor has to be unlinked afterwards: _linked does it.
 */
void request_init(struct request *r, struct call *c, int events);
int request_wait(struct request *r, struct call *c);
int request_wait_linked(struct request *r, struct call *c);

/* Both with f->lock held. A request of a descriptor that is being closed gets `closed`. */
void request_link(struct request *r);
void request_unlink(struct request *r);

/* Completes r, whoever sees it done first. The caller holds f->lock or is r's ring. */
void request_done(struct request *r, int res);

/* Completes those that wait for one of events; f->lock is held. Returns which events were waited for. */
int requests_done(struct fd *f, int events);

#endif
