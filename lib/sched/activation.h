/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/activation.h: with the module, a worker that blocks in its task's own code loses its scheduler at that
 * moment. One spare, the sentry, sleeps in the kernel until a worker blocks, and takes the scheduler itself
 * (sched/handover.h): one wake is all. Endless loops, and what comes while there is no sentry, stay with the
 * overseer.
 */
#ifndef SCHED_ACTIVATION_H
#define SCHED_ACTIVATION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct worker;

/* What worker.want is while a worker has a scheduler: 0 or 1. */
extern _Atomic uint32_t activation_wanted __attribute__((visibility("hidden")));

/* Before the workers start, and after they have ended. */
void activation_start(void);
void activation_stop(void);
void activation_forget(void);		/* in a forked child */

bool activation_on(void);		/* there is to be a sentry */

/* On the thread of w, the worker of that index, when it begins and ends. */
void activation_enlist(struct worker *w, unsigned int index);
void activation_dismiss(void);

/*
 * By the sentry: returns when it has been offered a scheduler, or after activation_relieve(), or for no
 * reason. Without the mutex of worker.c.
 */
void activation_watch(struct worker *self);
void activation_relieve(void);

/* One was of no use: its worker did not block for long. Too many, and there are none until activation_renew(). */
void activation_in_vain(void);
void activation_renew(void);		/* by the overseer, at each look */

/* Whether that, by what passed between hand-over and return, was of no use. */
static inline bool activation_was_vain(int64_t ns)
{
	return ns < 50000;
}

struct activation_counts {
	uint64_t taken, vain;
};

struct activation_counts activation_counts(void);

#endif
