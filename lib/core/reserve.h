/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * core/reserve.h: exit signals that need no memory, for stopping a runtime that has run out of it. Used by the one thread
 * that starts or stops the runtime.
 */
#ifndef CORE_RESERVE_H
#define CORE_RESERVE_H

#include <mote/base.h>

int reserve_start(unsigned int schedulers);	/* 0 or -ENOMEM */
void reserve_stop(void);			/* before the slabs go */
void reserve_forget(void);			/* in a forked child */

/* Sends an exit signal whose reason has no bytes. All of the reserve is for kills, and half of it for other reasons. */
void reserve_exit_pid(mote_pid pid, struct mote_reason reason);

#endif
