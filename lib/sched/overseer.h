/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/overseer.h: the thread that watches the others. While anything runs it looks every 1 to 10 ms whether a worker is
 * in one task's own code for long while something waits that only its scheduler can serve; when nothing has run
 * for a while it sleeps, and costs nothing.
 */
#ifndef SCHED_OVERSEER_H
#define SCHED_OVERSEER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

int overseer_start(void);		/* 0 or -errno */
void overseer_stop(void);
void overseer_forget(void);		/* in a forked child */

/* There is something to look at: the next look comes within a millisecond. Any thread. */
void overseer_hurry(void);

extern _Atomic bool overseer_asleep __attribute__((visibility("hidden")));
void overseer_wake(void);

struct overseer_counts {
	uint64_t handovers;		/* schedulers taken away */
	uint64_t denied;		/* tasks whose scheduler should have been, had there been a spare */
	uint64_t looks;
};

struct overseer_counts overseer_counts(void);

#endif
