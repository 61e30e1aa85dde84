/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/statem.h: the inside of a state machine: what the state of its server is.
 *
 * An event is a message that the process holds, so all of them go when it ends, wherever that happens. All memory here
 * is of the process heap, for the same reason.
 */
#ifndef OTP_STATEM_H
#define OTP_STATEM_H

#include "otp/server.h"

#include <mote/statem.h>

enum statem_message {
	STATEM_TIMEOUT = MOTE_MSG_SYSTEM + 0x300,	/* uint64_t: which turn */
	STATEM_BEGIN,
};

/* An event that waits. */
struct statem_event {
	struct statem_event *next;
	struct mote_statem_event e;
	struct mote_msg *m;			/* held; e.m */
};

struct statem_queue {
	struct statem_event *first, *last;
};

struct statem_timeout {
	int which;
	bool due;				/* a zero timeout: there is no timer */
	uint64_t turn;				/* a STATEM_TIMEOUT of an earlier one comes too late */
	mote_timer timer;
	struct mote_msg *m;			/* what it brings */
};

struct statem_wish {
	int which;
	bool update;
	mote_deadline deadline;
	struct mote_msg *m;			/* NULL: cancel */
};

/* In the order in which they were begun, that is, those that are due in the order in which they come. */
struct statem_timeouts {
	struct statem_timeout *running;
	struct statem_wish *wishes;		/* of the callback that runs */
	unsigned int nr_running, max_running, nr_wishes, max_wishes;
	uint64_t turn;
};

struct statem {
	const struct mote_statem_ops *ops;
	const struct mote_statem_ops **below;	/* those that pop comes back to, the latest last */
	unsigned int nr_below, max_below;
	void *data;
	struct process *self;
	struct server *server;
	int state;
	int next;				/* what the callback asks for, from here on */
	bool repeat;
	bool postpone;
	bool entering;				/* the callback is a state enter call */
	const char *wrong;			/* which rule it broke */
	struct statem_queue inserted;
	struct statem_queue queue;		/* to be handled before any message */
	struct statem_queue postponed;
	struct statem_timeouts timeouts;
};

/* Of the calling process. Ends the program if it is no machine. */
struct statem *statem_self(const char *function);

/* A copy, held by the process. NULL with *err. */
struct mote_msg *statem_message(uint32_t type, const void *data, size_t size, int *err);

/* An array of n with room for one more, moved perhaps; NULL: out of memory. */
void *statem_grow(void *array, unsigned int n, unsigned int *max, size_t each);

/* statem_timeout.c */

/* After a callback: the event timeout ends, with the state the state timeout; then what was asked for begins. */
void statem_timeouts_settle(struct statem *st, bool changed);

/* The timeout that a STATEM_TIMEOUT is of: gives what it brings; NULL: it comes too late. */
struct mote_msg *statem_timeout_fired(struct statem *st, const struct mote_msg *m, int *which);

/* The first that is due at once; NULL: none. */
struct mote_msg *statem_timeout_due(struct statem *st, int *which);

#endif
