/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/queue.h: a run queue: first in, first out, any length. One scheduler pushes; it and thieves take.
 */
#ifndef SCHED_QUEUE_H
#define SCHED_QUEUE_H

#include "sched/attack.h"
#include "sched/task.h"

#include <stdint.h>

struct run_ring {
	struct run_ring *older;		/* outgrown rings live on: a thief may still be reading one */
	uint64_t mask;
	_Atomic(struct task *) slots[];
};

#define RUN_RING_SIZE (ATTACK ? 2 : 256)	/* to begin with */

/* Of a power of two; NULL: no memory. */
struct run_ring *run_ring_new(uint64_t size);

/* Twice as large, with what lies in the last places below `end`; published in *ring. False: no memory. */
bool run_ring_grow(_Atomic(struct run_ring *) *ring, uint64_t end);

void run_ring_free(struct run_ring *ring);	/* and all that it has outgrown */

struct run_queue {
	_Atomic uint64_t head __attribute__((aligned(CACHE_LINE)));	/* next to take; whoever moves it owns the task */
	_Atomic uint64_t tail __attribute__((aligned(CACHE_LINE)));	/* next to fill; the owner's */
	_Atomic(struct run_ring *) ring;
	bool shared;			/* thieves exist */
};

struct run_queue *run_queue_new(bool shared);
void run_queue_free(struct run_queue *q);

static inline uint64_t run_queue_length(const struct run_queue *q)
{
	uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);

	return tail > head ? tail - head : 0;	/* the two loads may straddle a take */
}

/* By the owner. False: out of memory. */
static inline bool run_queue_push(struct run_queue *q, struct task *t)
{
	uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
	struct run_ring *ring = atomic_load_explicit(&q->ring, memory_order_relaxed);

	if (unlikely(tail - atomic_load_explicit(&q->head, memory_order_relaxed) > ring->mask)) {
		if (!run_ring_grow(&q->ring, tail))
			return false;
		ring = atomic_load_explicit(&q->ring, memory_order_relaxed);
	}
	atomic_store_explicit(&ring->slots[tail & ring->mask], t, memory_order_relaxed);
	/* release: a thief that sees the new tail sees the slot, the ring, and all that made t runnable */
	atomic_store_explicit(&q->tail, tail + 1, memory_order_release);
	return true;
}

/*
 * By the owner. Prefetches further down the queue: the task six places on, and the saved context of the one three
 * places on. With many processes each switch would otherwise wait for memory two or three times.
 */
static inline struct task *run_queue_take(struct run_queue *q)
{
	struct run_ring *ring = atomic_load_explicit(&q->ring, memory_order_relaxed);
	uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
	uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
	struct task *t;

	for (;;) {
		if (head >= tail)
			return NULL;
		t = atomic_load_explicit(&ring->slots[head & ring->mask], memory_order_relaxed);
		if (!q->shared) {
			atomic_store_explicit(&q->head, head + 1, memory_order_relaxed);
			break;
		}
		/* acq_rel on success: as in run_queue_steal(); failure reloads head */
		if (atomic_compare_exchange_weak_explicit(&q->head, &head, head + 1, memory_order_acq_rel,
							  memory_order_relaxed))
			break;
	}
	if (tail - head > 6) {
		struct task *far = atomic_load_explicit(&ring->slots[(head + 6) & ring->mask], memory_order_relaxed);
		struct task *near = atomic_load_explicit(&ring->slots[(head + 3) & ring->mask], memory_order_relaxed);

		__builtin_prefetch(far, 1);
		__builtin_prefetch((char *)far + CACHE_LINE, 1);
		/*
		 * near may have been stolen and run meanwhile: sp is only a hint, and a prefetch of a wild address
		 * does nothing.
		 */
		void *sp = __atomic_load_n(&near->sp, __ATOMIC_RELAXED);

		__builtin_prefetch(sp, 1);
		__builtin_prefetch((char *)sp + CACHE_LINE, 1);
	}
	return t;
}

/* By anybody: takes half of what there is, at most max, oldest first. Returns how many. */
unsigned int run_queue_steal(struct run_queue *q, struct task **tasks, unsigned int max);

#endif
