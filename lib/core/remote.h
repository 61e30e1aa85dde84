/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/remote.h: signals between nodes: what they look like on the way, and how they get on it and off it.
 *
 * Each record is a signal from a process of the sending node to one of the receiving node, which are known from the
 * carrier: nobody can speak for a process of a third one. They are the signals of core/signal.h, with references where
 * those have pointers, and follow the protocol of Erlang's distribution: links with unlink ids and acknowledgements,
 * monitors by reference, spawn requests that the new process itself answers. All kinds keep their order with each other.
 */
#ifndef CORE_REMOTE_H
#define CORE_REMOTE_H

#include "core/process.h"

#include <mote/node.h>

enum record_kind {
	RECORD_MESSAGE = 1,	/* type; body: the payload */
	RECORD_REQUEST,		/* likewise, to be answered to (from, ref) */
	RECORD_REPLY,		/* to the owner of the alias (ref); to_serial 0: whoever that is */
	RECORD_EXIT,		/* body: struct record_reason and its bytes; ref: of an alias, whose owner it is for, or 0 */
	RECORD_EXIT_LINK,	/* body: likewise */
	RECORD_DOWN,		/* likewise, for the monitor or request (ref) */
	RECORD_LINK,
	RECORD_UNLINK,		/* ref: id of this unlink */
	RECORD_UNLINK_ACK,	/* ref: the same */
	RECORD_MONITOR,		/* ref: the watcher's */
	RECORD_DEMONITOR,	/* ref */
	RECORD_WATCHING,	/* from: watches on behalf of a request or a name (ref) */
	RECORD_HOLD,		/* from's mailbox is full, and a message of to's waits for it: send it no more */
	RECORD_RESUME,		/* one such message has found room */
	RECORD_CALL,		/* a REQUEST whose sender waits for nothing else */
	RECORD_PROBE,		/* who waits for whom; body: see cycle.c */
	RECORD_NAMED,		/* a MESSAGE; body: the name with its NUL, then the payload */
	RECORD_MONITOR_NAMED,	/* a MONITOR; body: the name with its NUL */
	RECORD_WHEREIS,		/* a REQUEST; body: likewise. REPLY: struct record_pid, serial 0: nobody's */
	RECORD_SPAWN,		/* a REQUEST; body: struct record_spawn and what follows it */
	RECORD_LARGE,		/* ref: size of the body of the next record but parts, which is flagged */
	RECORD_PART,		/* the next piece of that body */
	RECORD_KINDS
};

#define RECORD_FLAG_LARGE	1	/* the body came in parts; size is 0 */

struct record_reason {
	uint32_t kind;
	int32_t code;
};

struct record_pid {
	uint64_t serial;
	uint32_t slot;
	uint32_t zero;
};

/* Then the entry point and the name, each with its NUL (the name may be empty), then, 16-byte aligned, the arguments. */
struct record_spawn {
	uint32_t flags;			/* MOTE_LINK, MOTE_MONITOR (by the request's own ref), MOTE_TRAP_EXIT */
	uint32_t zero;
	uint32_t entry_size, name_size;	/* with NUL */
	uint64_t args_size;
};

struct node;
struct carrier;
struct record;

/*
 * Before a message to a process of another node: waits, on behalf of the process that calls, while that process's mailbox
 * is known to be full, or too much waits for room on the way; may not return. 0; -ETIMEDOUT, -ECANCELED, or -EAGAIN
 * (a foreign thread). Afterwards scheduler_self() may be another.
 */
int remote_room(struct scheduler *s, struct node *n, mote_pid to, int64_t deadline);

/* A plain message. 0, -ENOMEM. */
int remote_message(struct scheduler *s, struct node *n, mote_pid to, uint32_t type, const void *data, size_t size);

/* A HOLD or RESUME has reached p. Takes sig. */
void hold_take(struct scheduler *s, struct process *p, struct signal *sig);

/* The same for mailboxes of nodes that are down by that number: nothing is waited for. */
void holds_cut(struct process *p, uint64_t seq);

/* Publishes what `from` has written and not committed. */
void remote_flush(struct scheduler *s, struct scheduler *from);

/* Writes what waits for n, as far as there is room; answers it if n is DOWN. */
void remote_push(struct scheduler *s, struct node *n);

/* There may be room in n's lane. */
void remote_room_found(struct scheduler *s, struct node *n);

/* A record has come in: the port's hook. */
bool remote_record(struct scheduler *s, struct carrier *c, const struct record *head, const void *body);

/* n has gone, its state says so: forgets what has half arrived, lets senders go on. */
void remote_down(struct scheduler *s, struct node *n);
/* The runtime has stopped: frees what n still has. */
void remote_drop(struct node *n);
void remote_forget(void);

/*
 * A question to a node as such, and its answer. Takes sig; 0 or -ENOMEM. The answer is held by the caller; NULL: *err, and
 * the question is withdrawn: -ETIMEDOUT, -ECANCELED, -ENETUNREACH (no such node), -EPIPE (refused). flags: REF_LINK,
 * REF_KEEP.
 */
int remote_ask(struct scheduler **s, struct signal *sig, mote_node node, unsigned int flags, mote_ref *ref);
struct mote_msg *remote_answer(struct scheduler **s, mote_ref ref, int64_t deadline, int *err);

/* spawn_on.c: a SPAWN has come in. Takes sig, a REQUEST with its body; false: it is none. */
bool spawn_take(struct scheduler *s, struct signal *sig);

#endif
