// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Level l has 64 buckets of 64^l ticks each; a timer lies in the lowest level whose span reaches it, and moves down a
 * level when the wheel gets to its bucket. Times are rounded up to ticks, so nothing fires early.
 *
 * Bucket indexes are absolute (the tick's own bits), so the wheel may jump over stretches where nothing is due.
 */
#include "sched/wheel.h"
#include "sched/task.h"

#include <string.h>

#define MASK (WHEEL_SLOTS - 1)

void wheel_init(struct wheel *w, int64_t now)
{
	memset(w, 0, sizeof(*w));
	w->tick = (uint64_t)now >> WHEEL_TICK_BITS;
	atomic_init(&w->earliest, INT64_MAX);
}

static void bucket_add(struct wheel *w, struct wheel_timer *t)
{
	uint64_t due = ((uint64_t)t->when + (UINT64_C(1) << WHEEL_TICK_BITS) - 1) >> WHEEL_TICK_BITS;
	unsigned int level = 0, slot;
	struct wheel_timer **bucket;
	uint64_t delta;

	if (due < w->tick)
		due = w->tick;
	delta = due - w->tick;
	while (level < WHEEL_LEVELS - 1 && delta >> (WHEEL_BITS * (level + 1)))
		level++;
	slot = (due >> (WHEEL_BITS * level)) & MASK;
	bucket = &w->buckets[level * WHEEL_SLOTS + slot];
	t->bucket = (uint16_t)(level * WHEEL_SLOTS + slot);
	t->next = *bucket;
	t->prev = bucket;
	if (t->next)
		t->next->prev = &t->next;
	*bucket = t;
	w->occupied[level] |= UINT64_C(1) << slot;
}

static void bucket_remove(struct wheel *w, struct wheel_timer *t)
{
	*t->prev = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->prev = NULL;
	if (!w->buckets[t->bucket])
		w->occupied[t->bucket / WHEEL_SLOTS] &= ~(UINT64_C(1) << (t->bucket % WHEEL_SLOTS));
}

/* The first tick, from w->tick on, at which there is something to fire or to move down; UINT64_MAX: never. */
static uint64_t next_tick(const struct wheel *w)
{
	uint64_t best = UINT64_MAX;

	for (unsigned int level = 0; level < WHEEL_LEVELS; level++) {
		unsigned int shift = WHEEL_BITS * level, offset;
		uint64_t now = w->tick >> shift, bits = w->occupied[level], at;

		if (!bits)
			continue;
		bits = bits >> (now & MASK) | bits << ((-now) & MASK);
		/*
		 * Inside a bucket of a higher level, that bucket has been moved down already: what is in it now
		 * belongs to its next turn.
		 */
		if (level && (w->tick & ((UINT64_C(1) << shift) - 1)) && (bits & 1)) {
			bits &= ~UINT64_C(1);
			offset = bits ? (unsigned int)__builtin_ctzll(bits) : WHEEL_SLOTS;
		} else {
			offset = (unsigned int)__builtin_ctzll(bits);
		}
		at = (now + offset) << shift;
		if (at < best)
			best = at;
	}
	return best;
}

static void set_earliest(struct wheel *w)
{
	uint64_t tick = next_tick(w);

	/* relaxed: a hint for the wheel's own worker; others reach it through the lock */
	atomic_store_explicit(&w->earliest, tick > (uint64_t)INT64_MAX >> WHEEL_TICK_BITS ?
			      INT64_MAX : (int64_t)(tick << WHEEL_TICK_BITS), memory_order_relaxed);
}

void wheel_arm(struct wheel *w, struct wheel_timer *t, int64_t when)
{
	/* The last levels reach 270 years; beyond that the sum below would overflow. */
	t->when = when < 0 ? 0 : when > INT64_MAX - (INT64_C(1) << WHEEL_TICK_BITS) ?
		  INT64_MAX - (INT64_C(1) << WHEEL_TICK_BITS) : when;
	t->wheel = w;
	lock_take(&w->lock);
	bucket_add(w, t);
	if (t->when < atomic_load_explicit(&w->earliest, memory_order_relaxed))
		atomic_store_explicit(&w->earliest, t->when, memory_order_relaxed);
	lock_drop(&w->lock);
}

bool wheel_disarm(struct wheel_timer *t)
{
	struct wheel *w = t->wheel;
	bool armed;

	if (!w)
		return false;
	lock_take(&w->lock);
	armed = t->prev != NULL;
	if (armed)
		bucket_remove(w, t);
	lock_drop(&w->lock);
	return armed;
}

bool wheel_disarm_id(struct wheel *w, struct wheel_timer *t, _Atomic uint64_t *id, uint64_t expected)
{
	bool armed;

	lock_take(&w->lock);
	armed = atomic_load_explicit(id, memory_order_relaxed) == expected && t->prev;
	if (armed) {
		bucket_remove(w, t);
		atomic_store_explicit(id, 0, memory_order_relaxed);
	}
	lock_drop(&w->lock);
	return armed;
}

bool wheel_when(struct wheel *w, struct wheel_timer *t, _Atomic uint64_t *id, uint64_t expected, int64_t *when)
{
	bool armed;

	lock_take(&w->lock);
	armed = atomic_load_explicit(id, memory_order_relaxed) == expected && t->prev;
	if (armed)
		*when = t->when;
	lock_drop(&w->lock);
	return armed;
}

void wheel_rearm(struct wheel_timer *t, int64_t when)
{
	t->when = when;
	bucket_add(t->wheel, t);
}

static void cascade(struct wheel *w, unsigned int level, unsigned int slot)
{
	struct wheel_timer *t = w->buckets[level * WHEEL_SLOTS + slot], *next;

	w->buckets[level * WHEEL_SLOTS + slot] = NULL;
	w->occupied[level] &= ~(UINT64_C(1) << slot);
	for (; t; t = next) {
		next = t->next;
		bucket_add(w, t);
	}
}

void wheel_advance(struct scheduler *s, struct wheel *w, int64_t now)
{
	uint64_t target = (uint64_t)now >> WHEEL_TICK_BITS;
	struct wheel_timer *t;

	lock_take(&w->lock);
	while (w->tick <= target) {
		uint64_t tick = next_tick(w);

		if (tick > target) {
			w->tick = target + 1;
			break;
		}
		w->tick = tick;
		for (unsigned int level = WHEEL_LEVELS - 1; level > 0; level--) {
			if (!(tick & ((UINT64_C(1) << (WHEEL_BITS * level)) - 1)))
				cascade(w, level, (tick >> (WHEEL_BITS * level)) & MASK);
		}
		/* What fire() arms again goes to a later tick: this one is over. */
		w->tick = tick + 1;
		while ((t = w->buckets[tick & MASK])) {
			bucket_remove(w, t);
			t->fire(s, t);
		}
	}
	set_earliest(w);
	lock_drop(&w->lock);
}

int64_t wheel_next(struct wheel *w)
{
	return atomic_load_explicit(&w->earliest, memory_order_relaxed);
}
