/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * io/fd.h: the table of descriptors. One entry per number: who owns it, who is using it, what was received ahead,
 * what is queued to be sent. An entry is closed in steps, by whoever makes the last one: nothing new may begin, those
 * who wait are told, and when nobody uses it and nothing of it is in a ring it goes.
 */
#ifndef IO_FD_H
#define IO_FD_H

#include "io/inflow.h"
#include "sched/scheduler.h"

#include <mote/base.h>

struct outflow;
struct request;

enum fd_use {
	FD_SHARED = 0,			/* any number at once */
	FD_READ	= 1 << 0,		/* one at a time */
	FD_WRITE = 1 << 1,
};

enum fd_flags {
	FD_OPEN		= 1 << 0,	/* mote closes it: it has an owner, or is on its way to one */
	FD_CLOSING	= 1 << 1,
	FD_STREAM	= 1 << 2,	/* a stream socket that mote made, not O_NONBLOCK: may be received ahead */
	FD_CHILD	= 1 << 3,	/* a pidfd whose child was not waited for */
	FD_REAPING	= 1 << 4,	/* closed but for that */
	FD_WATCHED	= 1 << 5,	/* backend->watch_fd() is under way */
	FD_LISTENER	= 1 << 6,	/* made by mote_net_listen(): O_NONBLOCK, hands TCP_NODELAY down */
};

struct fd {
	struct lock lock;		/* guards all of the entry but the owner's list */
	uint16_t flags;
	uint8_t use;			/* FD_READ | FD_WRITE that somebody has */
	uint32_t users;			/* calls under way */
	uint32_t generation;		/* counts tenants of the number */
	int32_t next, previous;		/* the owner's descriptors, number + 1; under the list's lock */
	struct task *owner;
	struct request *waiters;
	struct request *closers;
	struct inflow in;
	struct outflow *out;		/* NULL until something was queued */
	uint16_t watcher;		/* the scheduler that waits for FD_WATCHED */
	uint16_t watched;		/* the events */
	uint16_t member;		/* epoll: whose set it is in, plus 1 */
	uint16_t ready;			/* epoll: events that came while nobody waited for them */
	bool posted;			/* work is on its way: it looks at the entry as it is by then */
	struct work work;
} __attribute__((aligned(CACHE_LINE)));

int fds_start(void);
void fds_stop(void);
void fds_forget(void);			/* in a forked child: its copies of descriptors stay open until exec */

struct fd *fd_entry(int fd);		/* NULL: out of range, or no memory for the table */
int fd_number(const struct fd *f);

/*
 * Makes fd, just opened, owner's. flags: FD_STREAM, FD_CHILD. Any thread, while owner waits for it. Returns fd;
 * -EMFILE: beyond the table, -ENOMEM: no memory for its entry; and closed.
 */
int fd_open(int fd, struct task *owner, int flags);

bool fd_is(struct fd *f, int flags);	/* has one of the flags; f may be NULL */

/*
 * Begins and ends the use of a descriptor, with its lock held; fd_end_locked() drops it. 0; -EBADF, -EBUSY.
 */
int fd_begin(struct fd *f, int use);
void fd_end_locked(struct fd *f, int use);
void fd_end(struct fd *f, int use);		/* takes the lock itself */

/* Begins the closing; the last user ends it. False: somebody else began it. f->lock is held. */
bool fd_shut(struct fd *f);

/* Ends the closing if nothing is left to wait for. */
void fd_settle(struct fd *f);

/* The last step: close(2). */
void fd_finish(struct fd *f);

/* Closes f and waits until it is gone. If somebody else is at it: -EBADF, or with `join` waits for him. */
int fd_close_wait(struct fd *f, struct task *self, bool join);

/* What backend->watch_fd() waited for has come, or is not awaited any more (events 0). */
void fd_event(struct fd *f, int events);

/*
 * Has fd_event() called on this scheduler when f is ready; one watch at a time. f->lock is held, and may be dropped
 * meanwhile. 0; 1: it is ready now, or may be; -errno.
 */
int fd_watch(struct fd *f, int events);

/*
 * Handing over, for core: the giver takes fd out of its hands on its own stack (0; -EPERM, -EBADF), the receiver's
 * stack takes it in; or nobody does, then it is closed, by any thread and without waiting.
 */
int fd_detach(int fd, struct task *owner);
void fd_attach(int fd, struct task *new_owner);
void fd_drop(int fd);

#endif
