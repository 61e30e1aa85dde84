/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * io/ring.h: one scheduler's io_uring. Only the scheduler's worker touches it.
 */
#ifndef IO_RING_H
#define IO_RING_H

#include "io/backend.h"
#include "sched/scheduler.h"

#include <liburing.h>

/* What a completion is for: the low bits of user_data. */
enum ring_tag {
	RING_REQUEST,			/* a struct request */
	RING_NOTHING,			/* cancellations */
	RING_NOTIFY,			/* the eventfd */
	RING_BELL,			/* io.bell_fd */
	RING_WATCH,			/* a descriptor's fd_event() */
	RING_INFLOW,			/* a descriptor's receive ahead */
};
#define RING_TAG_BITS	3

struct rbuf;

struct ring {
	struct io io;
	struct io_uring uring;
	struct worker *notified;	/* whose thread waits for the eventfd; NULL: none has served this ring */
	unsigned int notify_round;	/* of that wait, among those of earlier workers */
	struct io_uring_buf_ring *pool;	/* NULL: no receiving ahead */
	char *memory;
	struct rbuf *rbufs;
	_Atomic(struct rbuf *) returned;	/* by other schedulers, latest first */
};

static inline struct ring *ring_of(struct scheduler *s)
{
	return container_of(s->io, struct ring, io);
}

static inline uint64_t ring_data(enum ring_tag tag, int fd)
{
	return (uint64_t)fd << RING_TAG_BITS | tag;
}

/* An entry of the submission queue, submitting first if it is full. */
struct io_uring_sqe *ring_sqe(struct ring *r);

/* Cancels the request with that user_data; its own completion says nothing. */
void ring_cancel_data(struct ring *r, uint64_t data);

#endif
