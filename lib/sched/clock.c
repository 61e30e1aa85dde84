// SPDX-License-Identifier: MIT OR GPL-2.0
#include "sched/clock.h"
#include "sched/scheduler.h"

#include <stdatomic.h>
#include <time.h>

#define READING_NS 20		/* what a reading costs in virtual time */

static _Atomic enum { REAL, VIRTUAL, LET_GO } kind;
static _Atomic int64_t virtual_now;
static _Atomic int64_t ahead;	/* LET_GO: of the real clock */

int64_t clock_real(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int64_t clock_elsewise(void)
{
	int64_t now;

	/* acquire: pairs with clock_let_go() */
	if (atomic_load_explicit(&kind, memory_order_acquire) == LET_GO)
		return clock_real() + atomic_load_explicit(&ahead, memory_order_relaxed);
	now = atomic_load_explicit(&virtual_now, memory_order_relaxed);
	/* Only the driver's readings count, also in a veiled process: others happen whenever they happen. */
	if (worker_self()->scheduler || atomic_load_explicit(&worker_self()->task, memory_order_relaxed)) {
		now += READING_NS;
		atomic_store_explicit(&virtual_now, now, memory_order_relaxed);
	}
	return now;
}

int64_t clock_now(void)
{
	/* relaxed: changes while the runtime starts and stops; otherwise see clock_elsewise() */
	if (likely(atomic_load_explicit(&kind, memory_order_relaxed) == REAL))
		return clock_real();
	return clock_elsewise();
}

int64_t clock_coarse(void)
{
	struct timespec t;

	/* relaxed: as above */
	if (unlikely(atomic_load_explicit(&kind, memory_order_relaxed) != REAL))
		return clock_elsewise();
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

void clock_make_virtual(int64_t now)
{
	atomic_store_explicit(&virtual_now, now, memory_order_relaxed);
	atomic_store_explicit(&kind, VIRTUAL, memory_order_release);
}

void clock_set(int64_t now)
{
	if (now > atomic_load_explicit(&virtual_now, memory_order_relaxed))
		atomic_store_explicit(&virtual_now, now, memory_order_relaxed);
}

void clock_let_go(void)
{
	atomic_store_explicit(&ahead, atomic_load_explicit(&virtual_now, memory_order_relaxed) - clock_real(),
			      memory_order_relaxed);
	/* release: who sees the change sees by how much */
	atomic_store_explicit(&kind, LET_GO, memory_order_release);
}

void clock_make_real(void)
{
	atomic_store_explicit(&kind, REAL, memory_order_release);
}
