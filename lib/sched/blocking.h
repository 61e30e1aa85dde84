/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/blocking.h: OS threads for code that blocks.
 */
#ifndef SCHED_BLOCKING_H
#define SCHED_BLOCKING_H

#include <stdint.h>

/* A deadline that never comes, for calls that are short and must also work in cleanups. */
#define BLOCKING_UNLIMITED (INT64_MAX - 1)

/*
 * Runs fn(arg) on a thread of the pool while the calling task waits. 0, with *result (may be NULL).
 * -ETIMEDOUT: the deadline came, fn was not begun and never will be. -EINPROGRESS: the deadline came, fn goes on.
 * -EINTR: the task has to end (task_die()), fn was not begun or is over. -EAGAIN, -ENOMEM, -ECANCELED (task_clamp()).
 */
int blocking_run(int64_t (*fn)(void *arg), void *arg, int64_t *result, int64_t deadline_ns);

/* The same, for what lies on the caller's stack: once begun, fn is awaited, whatever the deadline. Never -EINPROGRESS. */
int blocking_await(int64_t (*fn)(void *arg), void *arg, int64_t *result, int64_t deadline_ns);

void blocking_stop(void);	/* joins the idle threads */
void blocking_forget(void);	/* in a forked child */

#endif
