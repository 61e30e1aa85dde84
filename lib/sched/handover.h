/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/handover.h: taking a scheduler away from a worker whose task computes or blocks outside the runtime for long.
 *
 * A worker in its task's own code does not touch its scheduler; so the scheduler may be taken there, and only there.
 * worker.entry is what the worker looks at when it enters the runtime:
 *   its scheduler     the usual case
 *   OVERDUE           it has kept its scheduler for long, by calls that do not count for its slice: it yields
 *   CLAIMED           somebody is about to take it: wait until it says something else
 *   TAKEN             it is gone: the task is put aside to be queued, the thread is a spare from then on
 *   DOOMED            as if TAKEN, decided beforehand by a seed (sched/replay.h)
 *   NULL              a foreign thread, a spare, or a worker that runs a callback which must not know better
 * Entering stores mode = RUNTIME, then loads entry; taking stores CLAIMED, runs a full barrier on all threads
 * (membarrier), then loads mode. One of the two sees the other's store: the worker pays for nothing but the order in
 * which the compiler puts its two instructions. selftests/model has the proof.
 */
#ifndef SCHED_HANDOVER_H
#define SCHED_HANDOVER_H

#include "sched/scheduler.h"

/*
 * Held by whoever takes a scheduler away, from the choice of the spare on: the overseer and the sentry (activation.h) do so
 * one at a time. Comes before the mutex of worker.c.
 */
void handover_lock(void);
void handover_unlock(void);
void handover_forget(void);		/* in a forked child */

/*
 * Gives s to spare if its worker still is in the own code of the task that it ran when s->generation was `generation`.
 * Under the lock. activated: when the kernel said that it blocks, 0 if that is not why. False: nothing has changed, but
 * that the task is hastened if it was in the runtime.
 */
bool handover_take(struct scheduler *s, uint64_t generation, struct worker *spare, int64_t activated);

/* The scheduler that could be taken away from w, or NULL: none, or somebody is about to. */
struct scheduler *handover_holds(struct worker *w);

/* Has the task that s runs yield when it next enters the runtime. By the overseer. */
void handover_hasten(struct scheduler *s);

/* For replay.c: w's task will find, when it next enters the runtime, that its scheduler was taken away. */
void handover_doom(struct worker *w);

/* On w's own stack: the task of the scheduler that it has lost has entered the runtime, and is saved. */
void handover_return(struct worker *w);

#endif
