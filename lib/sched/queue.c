// SPDX-License-Identifier: MIT OR GPL-2.0
#include "sched/queue.h"

#include <stdlib.h>

struct run_ring *run_ring_new(uint64_t size)
{
	struct run_ring *ring = malloc(sizeof(*ring) + size * sizeof(ring->slots[0]));

	if (ring) {
		ring->older = NULL;
		ring->mask = size - 1;
	}
	return ring;
}

bool run_ring_grow(_Atomic(struct run_ring *) *ring, uint64_t end)
{
	struct run_ring *old = atomic_load_explicit(ring, memory_order_relaxed), *new;

	new = run_ring_new(2 * (old->mask + 1));
	if (!new)
		return false;
	/* Some of these may have been taken meanwhile: copying them too does no harm. */
	for (uint64_t i = end - old->mask - 1; i != end; i++)
		atomic_store_explicit(&new->slots[i & new->mask],
				      atomic_load_explicit(&old->slots[i & old->mask], memory_order_relaxed),
				      memory_order_relaxed);
	new->older = old;
	/* release: pairs with the acquire of a thief, which then sees the copied slots */
	atomic_store_explicit(ring, new, memory_order_release);
	return true;
}

void run_ring_free(struct run_ring *ring)
{
	struct run_ring *older;

	for (; ring; ring = older) {
		older = ring->older;
		free(ring);
	}
}

struct run_queue *run_queue_new(bool shared)
{
	struct run_queue *q = aligned_alloc(CACHE_LINE, sizeof(*q));
	struct run_ring *ring = run_ring_new(RUN_RING_SIZE);

	if (!q || !ring) {
		free(q);
		free(ring);
		return NULL;
	}
	atomic_init(&q->head, 0);
	atomic_init(&q->tail, 0);
	atomic_init(&q->ring, ring);
	q->shared = shared;
	return q;
}

void run_queue_free(struct run_queue *q)
{
	if (!q)
		return;
	run_ring_free(atomic_load_explicit(&q->ring, memory_order_relaxed));
	free(q);
}

/*
 * Order of the loads: head, tail, ring. A tail (acquire) seen by the thief was stored after every ring in which the
 * slots below it lie; the old ring is good for any of those that it ever held. A slot is overwritten only when head
 * has passed it, and then the exchange fails.
 */
unsigned int run_queue_steal(struct run_queue *q, struct task **tasks, unsigned int max)
{
	uint64_t head = atomic_load_explicit(&q->head, memory_order_acquire);

	for (;;) {
		uint64_t tail = atomic_load_explicit(&q->tail, memory_order_acquire), n;
		struct run_ring *ring = atomic_load_explicit(&q->ring, memory_order_acquire);

		if (head >= tail)
			return 0;
		n = (tail - head + 1) / 2;
		if (n > max)
			n = max;
		for (uint64_t i = 0; i < n; i++)
			tasks[i] = atomic_load_explicit(&ring->slots[(head + i) & ring->mask], memory_order_relaxed);
		if (atomic_compare_exchange_weak_explicit(&q->head, &head, head + n, memory_order_acq_rel,
							  memory_order_acquire))
			return (unsigned int)n;
	}
}
