/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/timer.h: messages later. A timer never fires early; a cancelled one never delivers.
 */
#ifndef MOTE_TIMER_H
#define MOTE_TIMER_H

#include <mote/base.h>

MOTE_BEGIN_DECLS

typedef struct mote_timer {
	uint64_t id;
	uint32_t slot;
	uint32_t wheel;
} mote_timer;

/*
 * Sends a copy of the message to `to` when the deadline comes. A timer to oneself ends with the process; one to
 * somebody else goes on without its maker, and vanishes with its target. id 0 on failure: -ENOMEM, -EMSGSIZE,
 * -EINVAL (for a process of another node, too). The message comes from the maker. Follows erlang:send_after/4 with
 * {abs, true}.
 */
MOTE_API mote_timer mote_send_after(mote_deadline deadline, mote_pid to, uint32_t type, const void *data, size_t size);

/*
 * The same every period_ns (at least 1,000), first after one period, on a fixed grid: periods that were missed
 * are skipped, not caught up. Ends with its target.
 */
MOTE_API mote_timer mote_send_every(int64_t period_ns, mote_pid to, uint32_t type, const void *data, size_t size);

/*
 * Cancels. Returns 0: it had not fired (an interval: it will not again), and never will; -ENOENT: it fired, or
 * was cancelled, or never was. *left_ns (may be NULL) gets the time that was left. By any process.
 */
MOTE_API int mote_timer_cancel(mote_timer timer, int64_t *left_ns);

/* Time left until it fires, at least 0, or -ENOENT. */
MOTE_API int64_t mote_timer_left(mote_timer timer);

/* Waits; messages stay queued. 0, or -ECANCELED in a cleanup. */
MOTE_API int mote_sleep(mote_deadline deadline);

MOTE_END_DECLS

#endif
