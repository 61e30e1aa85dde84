/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/blocking.h: OS threads for code that blocks.
 */
#ifndef SCHED_BLOCKING_H
#define SCHED_BLOCKING_H

#include <stdint.h>

/*
 * Runs fn(arg) on a thread of the pool while the calling task waits. interruptible: an exit signal or the deadline
 * withdraws a job that no thread has begun; one that has begun is always awaited when the task has to end, and is
 * left alone at the deadline. Returns 0, -ETIMEDOUT, -EAGAIN.
 */
int blocking_run(int64_t (*fn)(void *arg), void *arg, int64_t *result, int64_t deadline_ns);

void blocking_stop(void);	/* joins the idle threads */
void blocking_forget(void);	/* in a forked child */

#endif
