/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/limit.h: mailboxes with a limit. It counts the plain messages and requests that were let in and have not
 * left the mailbox; all other signals pass by it. A sender gets room first and sends then, so what is on its way
 * uses room, too, and the limit is never exceeded.
 */
#ifndef CORE_LIMIT_H
#define CORE_LIMIT_H

#include "core/process.h"

/* What limit_enter() says; negative: -errno, and nothing may be sent. */
enum {
	LIMIT_COUNTED,		/* there is room, the caller's: for a COUNTED signal, or limit_undo() */
	LIMIT_GONE,		/* the receiver is dead: send as to the dead */
	LIMIT_DOOMED,		/* the receiver is being ended, because its limit was reached: what is sent vanishes */
};

/* Senders look at this first: to whom has none, a limit costs them this load. */
static inline bool limited(const struct process *p)
{
	/* relaxed: set before the pid is known to anybody, and only a hint for who has a stale one */
	return unlikely(atomic_load_explicit(&p->task.marks, memory_order_relaxed) & PROCESS_LIMITED);
}

/* Of a process that nobody knows yet. 0 or -ENOMEM. */
int limit_open(struct scheduler *s, struct process *p, uint64_t max, int policy);

/* After the inbox has closed: whoever waits goes on, and finds the receiver dead. */
void limit_close(struct scheduler *s, struct process *p);

/*
 * Asks p, tenant `serial` of its slot, for room; may wait for it, on behalf of the process that calls, and may not
 * return. s: the caller's, or NULL; after the call scheduler_self() may be another.
 */
int limit_enter(struct scheduler *s, struct process *p, uint64_t serial, int64_t deadline);

/*
 * A message or request has come from another node, for whoever sig->to is of p's slot. Takes sig: it is let in, or waits in
 * line (BLOCK) and its sender is told to hold the next ones, or what else the policy says.
 */
void limit_arrive(struct scheduler *s, struct process *p, struct signal *sig);

/* Nothing was sent after all. */
void limit_undo(struct scheduler *s, struct process *p, uint64_t serial);

/* A COUNTED signal has left the caller's mailbox: from here on it is a plain message or request. */
void limit_left(struct scheduler *s, struct process *p, struct signal *sig);

/* Why a process of policy KILL ends, as the askers it leaves behind are told. */
extern const struct mote_reason limit_reason __attribute__((visibility("hidden")));

struct mote_process_info;
struct mote_runtime_info;
void limit_describe(struct process *p, struct mote_process_info *info);
void limits_describe(struct mote_runtime_info *info);
void limits_forget(void);

#endif
