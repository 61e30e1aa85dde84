/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/barrier.h: store-load ordering whose price the rare side pays.
 *
 * Waking: publish work, barrier_light(), read "does anybody sleep?". Parking: publish "I sleep", barrier_heavy(), look
 * for work once more. membarrier() runs a full barrier on every thread of this OS process that is running, so one of
 * the two sees the other's store (the store-buffering litmus test with one side's fence made remote). Without
 * membarrier both sides use a full fence.
 */
#ifndef SCHED_BARRIER_H
#define SCHED_BARRIER_H

#include <stdatomic.h>
#include <stdbool.h>

extern bool barrier_asymmetric __attribute__((visibility("hidden")));

void barrier_start(void);
void barrier_heavy(void);

static inline void barrier_light(void)
{
	if (__builtin_expect(barrier_asymmetric, 1))
		atomic_signal_fence(memory_order_seq_cst);
	else
		atomic_thread_fence(memory_order_seq_cst);
}

#endif
