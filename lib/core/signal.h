/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/signal.h: signals, the one thing that processes send each other. A message is a signal.
 */
#ifndef CORE_SIGNAL_H
#define CORE_SIGNAL_H

#include "sched/scheduler.h"

#include <mote/message.h>

#include <stdlib.h>

enum signal_kind {
	SIGNAL_MESSAGE,
	SIGNAL_REQUEST,		/* a message that wants an answer to (msg.from, ref); ref 0: was answered */
	SIGNAL_FOREIGN,		/* a MESSAGE of another node: charged until it leaves the mailbox, then a plain one */
	SIGNAL_FOREIGN_REQUEST,	/* a REQUEST, likewise */
	SIGNAL_REPLY,		/* a message to the alias (ref) */
	SIGNAL_ANSWER,		/* a REPLY, the last that its sender does: it also ends a link, with normal */
	SIGNAL_COUNTED,		/* a MESSAGE that counts for its receiver's limit, until it leaves the mailbox */
	SIGNAL_COUNTED_REQUEST,	/* a REQUEST, likewise */
	SIGNAL_DOWN,		/* to the owner of the monitor (ref) */
	SIGNAL_EXIT,		/* mote_exit_pid */
	SIGNAL_EXIT_LINK,
	SIGNAL_OVERFLOW,	/* ends a process whose limit was reached; cannot be trapped */
	SIGNAL_LINK,
	SIGNAL_UNLINK,		/* ref: id of this unlink */
	SIGNAL_UNLINK_ACK,
	SIGNAL_MONITOR,
	SIGNAL_DEMONITOR,	/* msg.data: the MONITOR signal that the target keeps */
	SIGNAL_DEMONITOR_REF,	/* from another node: that of msg.from and ref */
	SIGNAL_WATCHING,	/* to an asker: its request outlived its message; msg.data: the watcher that replaces it */
	SIGNAL_SWEEP,		/* a node has gone: edge.c; ref: its number */
	SIGNAL_HOLD,		/* to a sender: that mailbox (msg.from, of another node) is full, for now */
	SIGNAL_RESUME,
	SIGNAL_PROBE,		/* who waits for whom: cycle.c */
	SIGNAL_FD,		/* a descriptor changes hands: msg.type */
	/* Only ever on their way to another node; see remote.h. */
	SIGNAL_CALL,		/* a REQUEST of one that waits in mote_call() */
	SIGNAL_NAMED,
	SIGNAL_MONITOR_NAMED,
	SIGNAL_WHEREIS,
	SIGNAL_SPAWN,
};

enum signal_held { HELD = 1, HELD_PASSED /* a request that others may answer, too */ };

/*
 * One block: header and payload, so that a small message is two cache lines. `to` is for the way; in the mailbox and
 * in lists of watchers its place holds prev.
 */
struct signal {
	struct signal *next;
	union {
		uint64_t to;		/* serial of the receiver; 0: whoever owns ref */
		struct signal *prev;
	};
	uint64_t ref;
	uint32_t ref_slot;
	uint8_t kind;
	uint8_t class;			/* of the slab, or SLAB_NONE */
	uint8_t held;			/* in its receiver's list of held messages: enum signal_held */
	bool charged;			/* to msg.from's node: see node_charge() */
	struct mote_msg msg;
	char payload[] __attribute__((aligned(16)));
};

_Static_assert(sizeof(struct signal) == 64, "one cache line");

/* For sizes that no slab holds. */
struct signal *signal_new_large(size_t size);

/* kind, with room for size bytes; msg.size and msg.data are set. s NULL: a foreign thread. NULL: out of memory. */
static inline struct signal *signal_new(struct scheduler *s, enum signal_kind kind, size_t size)
{
	uint8_t class = slab_class(sizeof(struct signal) + size);
	struct signal *sig;

	sig = likely(class != SLAB_NONE) ? slab_alloc(s ? &s->slabs : NULL, class) : signal_new_large(size);
	if (unlikely(!sig))
		return NULL;
	sig->ref = 0;
	sig->kind = kind;
	sig->class = class;
	sig->held = 0;
	sig->charged = false;
	sig->msg.size = (uint32_t)size;
	sig->msg.data = sig->payload;
	return sig;
}

static inline void signal_free(struct scheduler *s, struct signal *sig)
{
	if (likely(sig->class != SLAB_NONE))
		slab_free(s ? &s->slabs : NULL, sig, sig->class);
	else
		free(sig);
}

#endif
