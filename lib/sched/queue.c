// SPDX-License-Identifier: MIT OR GPL-2.0
#include "sched/queue.h"

#include <stdlib.h>

#define FIRST_SIZE 256

static struct run_ring *ring_new(uint64_t size)
{
	struct run_ring *ring = malloc(sizeof(*ring) + size * sizeof(ring->slots[0]));

	if (ring) {
		ring->older = NULL;
		ring->mask = size - 1;
	}
	return ring;
}

struct run_queue *run_queue_new(bool shared)
{
	struct run_queue *q = aligned_alloc(CACHE_LINE, sizeof(*q));
	struct run_ring *ring = ring_new(FIRST_SIZE);

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
	for (struct run_ring *ring = atomic_load_explicit(&q->ring, memory_order_relaxed), *older; ring; ring = older) {
		older = ring->older;
		free(ring);
	}
	free(q);
}

bool run_queue_grow(struct run_queue *q)
{
	struct run_ring *old = atomic_load_explicit(&q->ring, memory_order_relaxed), *ring;
	uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);

	ring = ring_new(2 * (old->mask + 1));
	if (!ring)
		return false;
	/* Places below head may have been taken meanwhile: copying them too does no harm. */
	for (uint64_t i = tail - old->mask - 1; i != tail; i++)
		atomic_store_explicit(&ring->slots[i & ring->mask],
				      atomic_load_explicit(&old->slots[i & old->mask], memory_order_relaxed),
				      memory_order_relaxed);
	ring->older = old;
	/* release: pairs with the acquire of a thief, which then sees the copied slots */
	atomic_store_explicit(&q->ring, ring, memory_order_release);
	return true;
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
