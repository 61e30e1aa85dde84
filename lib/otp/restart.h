/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/restart.h: how often is too often: OTP's intensity, and what may come in its place, waits that grow.
 */
#ifndef OTP_RESTART_H
#define OTP_RESTART_H

#include <mote/supervisor.h>

/* The times of the latest restarts, oldest first, in a ring that grows with them: at most max + 1. */
struct intensity {
	unsigned int max;			/* restarts within the period */
	unsigned int first, used, room;
	int64_t period_ns;
	int64_t *times;
};

void intensity_init(struct intensity *i, unsigned int max_restarts, unsigned int max_seconds);

/* One more restart. False: that is too many (or there is no memory to count them). Amortised O(1). */
bool intensity_add(struct intensity *i, int64_t now_ns);

/* Of one child. */
struct failures {
	double count;
	int64_t since_ns;			/* it runs since then; 0: it does not */
};

/* With defaults in place. 0; -EINVAL. */
int backoff_init(struct mote_backoff *b, const struct mote_backoff *from);

/* One more failure. Returns how long to wait, in nanoseconds; 0: not at all. random: 0 to below 1. */
int64_t backoff_add(const struct mote_backoff *b, unsigned int max_restarts, struct failures *f, int64_t now_ns,
		    double random);

#endif
