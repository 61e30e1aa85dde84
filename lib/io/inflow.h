/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * io/inflow.h: receiving ahead. A multishot receive stays armed in one scheduler's ring and fills buffers of that
 * ring's pool; whoever reads the socket copies out of them and gives them back. A message then costs its reader no
 * request of its own. It is armed for sockets whose last receive was small, and for io_uring only.
 */
#ifndef IO_INFLOW_H
#define IO_INFLOW_H

#include "sched/scheduler.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fd;
struct rbuf;
struct ring;

#define INFLOW_MAX	16		/* buffers that wait in one socket before its receive is taken back */

enum inflow_state { INFLOW_OFF, INFLOW_ARMED, INFLOW_ENDING };

/* All under the descriptor's lock. */
struct inflow {
	struct rbuf *first, *last;	/* received and not read; last: if there is a first */
	uint16_t queued;
	uint16_t ring;			/* whose ring it is armed in */
	uint8_t state;
	bool small;			/* the last receive left room in a buffer of the pool */
	bool posted;			/* as fd.posted */
	int error;			/* that ended it, for the next reader; 0: none */
	struct work work;
};

/* Arms it in s's ring, the caller's. False: no buffers there. */
bool inflow_arm(struct scheduler *s, struct fd *f);

/* Takes it back; what was received stays. On any thread. */
void inflow_end(struct fd *f);

/* Copies out what was received: bytes; -EAGAIN: nothing; an error that ended it. */
ssize_t inflow_take(struct fd *f, void *buf, size_t size);

/* Gives unread buffers back. */
void inflow_drop(struct fd *f);

/* A receive that did not go through the pool had n bytes. */
void inflow_learn(struct fd *f, size_t n);

/* For ring.c: the pool, and what completions say. */
int inflow_open(struct ring *r);
void inflow_close(struct ring *r);
void inflow_complete(struct scheduler *s, struct fd *f, int res, uint32_t flags);
void inflow_refill(struct ring *r);	/* buffers that other schedulers gave back */

#endif
