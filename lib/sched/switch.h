/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/switch.h: from one context to another, and what has to be done on the other side. For sched only.
 */
#ifndef SCHED_SWITCH_H
#define SCHED_SWITCH_H

#include "sched/scheduler.h"

#define SLICE_BUDGET	512	/* until a task yields: 256 runtime calls, see task_spend() */
#define MAX_SCHEDULERS	256
#define PASS_TICKS	64	/* switches until ring, timers and post box are looked at */

/* Runs t from the worker's own context until somebody switches back to it. False: w has lost s meanwhile. */
bool scheduler_run(struct scheduler *s, struct worker *w, struct task *t);

/* The calling task, which runs on w, goes on as soon as a scheduler runs it again: that one is returned. */
struct scheduler *task_come_back(struct worker *w);

/* The next task to run here, or NULL. Never one that somebody else could run instead. */
struct task *scheduler_pick(struct scheduler *s);

/* Queues a runnable task on the caller's own scheduler, at the back. */
void scheduler_queue(struct scheduler *s, struct task *t);

/* Backlog has appeared: gets one more scheduler to look for work, unless one is looking already. */
void scheduler_wake_one(struct scheduler *s);

/*
 * The parts of a worker's loop, for replay.c, which runs them one by one.
 */

/* Takes in what others have posted, and fires timers that are due. True: there was something. */
bool scheduler_pass(struct scheduler *s);
struct task *scheduler_steal(struct scheduler *s);

/* All schedulers sleep. False: there is something to do. */
bool schedulers_sleep_begin(void);
void schedulers_sleep_end(void);
bool schedulers_stopping(void);

/* Hands a runnable task to a scheduler's post box, or, from a foreign thread, to whichever looks first. */
void scheduler_post_task(struct scheduler *to, struct task *t);
void scheduler_post_anywhere(struct task *t);

#endif
