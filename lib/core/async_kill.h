/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/async_kill.h: ending a process in its own code (MOTE_ASYNC_KILL), by a signal to the thread that it runs on.
 */
#ifndef CORE_ASYNC_KILL_H
#define CORE_ASYNC_KILL_H

#include "sched/task.h"

#include <signal.h>
#include <sys/types.h>

struct process;

/* Has to be unblocked on the threads of workers; the program may have blocked all before it started the runtime. */
#define ASYNC_KILL_SIGNAL SIGURG

/* p, not yet known to anybody, was spawned with MOTE_ASYNC_KILL. 0 or -errno. */
int async_kill_allow(struct process *p);

/* A kill was pushed to the tenant `serial` of p's slot: if it may be interrupted, it is from now on. Any thread. */
void async_kill_want(struct process *p, uint64_t serial);

/* Hook of sched: see task_hooks.overseen. */
void async_kill_overseen(struct task *t, pid_t tid);

uint64_t async_kill_count(void);	/* processes ended so, since the program began */
void async_kill_stop(void);
void async_kill_forget(void);		/* in a forked child */

#endif
