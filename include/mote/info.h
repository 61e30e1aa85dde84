/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/info.h: processes seen from outside. Each figure is true at some moment during the call; together they
 * are not a snapshot. Nothing is stopped, and hung processes answer as well.
 */
#ifndef MOTE_INFO_H
#define MOTE_INFO_H

#include <mote/base.h>

MOTE_BEGIN_DECLS

enum mote_state {
	MOTE_RUNNABLE,
	MOTE_RUNNING,
	MOTE_WAITING,
	MOTE_EXITING,
	MOTE_DETACHED,		/* still in its own code, on a thread apart: it kept its scheduler for too long */
};

enum mote_wait {		/* what a waiting process waits for */
	MOTE_WAIT_NONE,
	MOTE_WAIT_MESSAGE,	/* any message, or one of a type or match */
	MOTE_WAIT_REF,		/* the answer to a call, a DOWN */
	MOTE_WAIT_SLEEP,
	MOTE_WAIT_IO,
	MOTE_WAIT_BLOCKING,	/* mote_blocking */
	MOTE_WAIT_ROOM,		/* in the mailbox of a receiver that has a limit, or on the way to another node */
	MOTE_WAIT_NODE,		/* until one is connected */
};

struct mote_process_info {
	size_t size;
	mote_pid pid;
	mote_pid parent;		/* MOTE_NOBODY: a foreign thread */
	int state;			/* enum mote_state */
	int wait;			/* enum mote_wait */
	bool trap_exit;
	bool server;
	bool pinned;
	int priority;
	unsigned int scheduler;		/* where it ran last */
	uint64_t mailbox;		/* messages queued (of those not yet looked at, up to 65,535; not those being taken in right now) */
	uint64_t links, monitors, monitored_by;
	uint64_t fds;
	uint64_t memory;		/* bytes: control block, state, heap; stack apart */
	uint64_t stack;			/* bytes reserved, 0 if none is held */
	uint64_t stack_high;		/* bytes of it ever used, by this process or one that had it before: an upper bound */
	const void *spawned_at;		/* return address of the spawn */
	const char *label;		/* or NULL */
	char name[256];			/* one of its names, or "" */
	/* Of its limit; all 0 if it has none. */
	uint64_t mailbox_limit;
	int mailbox_policy;		/* enum mote_mailbox_policy */
	uint64_t mailbox_counted;	/* what has room now: messages that count, in the mailbox or on their way */
	uint64_t mailbox_waiting;	/* senders that wait for room now */
	uint64_t mailbox_waits;		/* how often one had to wait, so far */
	uint64_t mailbox_refused;	/* messages that were not sent, and their senders told so, for lack of room */
};

/* Fills *info, whose size the caller set. 0; -ESRCH (dead), -EREMOTE (of another node), -EINVAL. Any thread. */
MOTE_API int mote_process_info(mote_pid pid, struct mote_process_info *info);

/*
 * Walks over all processes: start with MOTE_NOBODY, go on with what it returned, until MOTE_NOBODY. Processes
 * that live through the whole walk are seen exactly once. Any thread. Follows erlang:processes_next/1.
 */
MOTE_API mote_pid mote_process_next(mote_pid previous);

/* True until the process's links and monitors are told. Any thread. */
MOTE_API bool mote_alive(mote_pid pid);

MOTE_END_DECLS

#endif
