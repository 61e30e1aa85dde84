/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/wheel.h: timers of one scheduler, a hierarchical wheel. Arming and disarming are O(1).
 *
 * A timer is armed on the caller's own scheduler and may be disarmed by any thread: the wheel's lock decides who
 * wins. fire() runs under that lock, on the scheduler's worker: it may push to inboxes, wake and free, and must not
 * touch any wheel.
 */
#ifndef SCHED_WHEEL_H
#define SCHED_WHEEL_H

#include "sched/clock.h"
#include "sched/lock.h"

#include <stddef.h>
#include <stdint.h>

struct scheduler;

struct wheel_timer {
	struct wheel_timer *next, **prev;	/* prev NULL: not armed */
	int64_t when;				/* ns, as clock_now() */
	struct wheel *wheel;
	uint16_t bucket;
	void (*fire)(struct scheduler *s, struct wheel_timer *t);
};

#define WHEEL_BITS	6
#define WHEEL_SLOTS	(1 << WHEEL_BITS)
#define WHEEL_LEVELS	8
#define WHEEL_TICK_BITS	15		/* 32.8 us: how late a timer is by design, on average half of it */

struct wheel {
	struct lock lock;
	uint64_t tick;				/* all ticks before this one have fired */
	_Atomic int64_t earliest;		/* no timer fires before; INT64_MAX: none armed. May be too early */
	uint64_t occupied[WHEEL_LEVELS];
	struct wheel_timer *buckets[WHEEL_LEVELS * WHEEL_SLOTS];
};

void wheel_init(struct wheel *w, int64_t now);

/*
 * False: most likely it is a while to then, and the clock need not be read to know. If the wheel has not moved for long
 * it may be past all the same: a timer that is armed for it fires at the next look. On the wheel's own worker.
 */
static inline bool wheel_may_be_due(const struct wheel *w, int64_t when)
{
	return when - (int64_t)(w->tick << WHEEL_TICK_BITS) < INT64_C(1000000000);
}

/* Arms t, which is not armed, with t->fire set. when in the past fires at the next look. */
void wheel_arm(struct wheel *w, struct wheel_timer *t, int64_t when);

/* True: t will not fire. False: it has fired (fire() has returned), or was not armed. */
bool wheel_disarm(struct wheel_timer *t);

/*
 * For timers whose memory is recycled: under the wheel's lock, if *id is still the expected one. disarm also stores 0
 * there; when tells the time.
 */
bool wheel_disarm_id(struct wheel *w, struct wheel_timer *t, _Atomic uint64_t *id, uint64_t expected);
bool wheel_when(struct wheel *w, struct wheel_timer *t, _Atomic uint64_t *id, uint64_t expected, int64_t *when);

/* In fire() only: arms the timer that fires once more. */
void wheel_rearm(struct wheel_timer *t, int64_t when);

/* Fires what is due. */
void wheel_advance(struct scheduler *s, struct wheel *w, int64_t now);

/* When the next timer may be due, at the latest; INT64_MAX: none. */
int64_t wheel_next(struct wheel *w);

#endif
