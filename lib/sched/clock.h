/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/clock.h: the one place where time is read.
 *
 * In a seeded run (sched/replay.h) time is virtual: it moves when the driver says so, and a little with each reading by a
 * process, so that a loop which waits for a time comes to an end. A run that can not be replayed any more lets it go: it
 * then passes as real time does, from where it was.
 */
#ifndef SCHED_CLOCK_H
#define SCHED_CLOCK_H

#include <stdint.h>

int64_t clock_now(void);		/* ns; CLOCK_MONOTONIC, unless virtual */
int64_t clock_coarse(void);		/* the same at the last tick of the kernel's: up to 10 ms behind, and cheap */
int64_t clock_real(void);		/* CLOCK_MONOTONIC: for waits that are the system's */

/* For replay.c. All but clock_let_go() on the driver's thread. */
void clock_make_virtual(int64_t now);
void clock_set(int64_t now);		/* of virtual time; never back */
void clock_let_go(void);
void clock_make_real(void);

#endif
