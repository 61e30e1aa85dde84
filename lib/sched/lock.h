/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/lock.h: a lock for critical sections of a few instructions, never held across a switch or a system call.
 * It spins a little and then gives the CPU away: the holder may have been preempted.
 */
#ifndef SCHED_LOCK_H
#define SCHED_LOCK_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

struct lock {
	_Atomic bool taken;
};

static inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static inline bool lock_try(struct lock *l)
{
	/* acquire: pairs with the release in lock_drop(); the plain load first keeps the line shared */
	return !atomic_load_explicit(&l->taken, memory_order_relaxed) &&
	       !atomic_exchange_explicit(&l->taken, true, memory_order_acquire);
}

static inline void lock_take(struct lock *l)
{
	for (unsigned int spins = 0; !lock_try(l); spins++) {
		if (spins < 64)
			cpu_relax();
		else
			sched_yield();
	}
}

static inline void lock_drop(struct lock *l)
{
	atomic_store_explicit(&l->taken, false, memory_order_release);
}

#endif
