/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/deque.h: a work-stealing deque (Chase and Lev, 2005). Its owner pushes and takes at the young end; anybody steals
 * at the old one.
 */
#ifndef SCHED_DEQUE_H
#define SCHED_DEQUE_H

#include "sched/queue.h"

#include <stdint.h>

struct deque {
	_Atomic int64_t old __attribute__((aligned(CACHE_LINE)));	/* next to steal; only grows */
	_Atomic int64_t young __attribute__((aligned(CACHE_LINE)));	/* next to fill; the owner's */
	_Atomic(struct run_ring *) ring;
};

static inline int64_t deque_length(const struct deque *d)
{
	return atomic_load_explicit(&d->young, memory_order_relaxed) -
	       atomic_load_explicit(&d->old, memory_order_relaxed);
}

/* By the owner. False: out of memory. */
static inline bool deque_push(struct deque *d, struct task *t)
{
	int64_t young = atomic_load_explicit(&d->young, memory_order_relaxed);
	struct run_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed);

	/* acquire: a thief has read its slot before it moved `old`, and the slot may be filled again */
	if (unlikely(young - atomic_load_explicit(&d->old, memory_order_acquire) > (int64_t)ring->mask)) {
		if (!run_ring_grow(&d->ring, (uint64_t)young))
			return false;
		ring = atomic_load_explicit(&d->ring, memory_order_relaxed);
	}
	atomic_store_explicit(&ring->slots[(uint64_t)young & ring->mask], t, memory_order_relaxed);
	/* release: the thief sees the slot, and the task as it was spawned */
	atomic_store_explicit(&d->young, young + 1, memory_order_release);
	return true;
}

/* By anybody. NULL: empty, or somebody else was faster. */
static inline struct task *deque_steal(struct deque *d)
{
	/*
	 * seq_cst, both and in this order, against the exchange and the load in deque_take(): for the last task, either
	 * the thief sees `young` already lowered, or the owner sees `old` already raised, or they meet at the exchange.
	 */
	int64_t old = atomic_load(&d->old), young = atomic_load(&d->young);
	struct run_ring *ring;
	struct task *t;

	if (old >= young)
		return NULL;
	/* acquire, after `young`: every ring in which what lies below it was put, or a newer one; see queue.c */
	ring = atomic_load_explicit(&d->ring, memory_order_acquire);
	t = atomic_load_explicit(&ring->slots[(uint64_t)old & ring->mask], memory_order_relaxed);
	return atomic_compare_exchange_strong(&d->old, &old, old + 1) ? t : NULL;
}

/* By the owner: the youngest. alone: there are no thieves. */
static inline struct task *deque_take(struct deque *d, bool alone)
{
	int64_t young = atomic_load_explicit(&d->young, memory_order_relaxed) - 1, old;
	struct run_ring *ring = atomic_load_explicit(&d->ring, memory_order_relaxed);
	struct task *t;

	/* relaxed: only the owner adds, so empty stays empty */
	if (young < atomic_load_explicit(&d->old, memory_order_relaxed))
		return NULL;
	if (alone)
		atomic_store_explicit(&d->young, young, memory_order_relaxed);
	else
		atomic_exchange(&d->young, young);
	old = atomic_load(&d->old);
	t = atomic_load_explicit(&ring->slots[(uint64_t)young & ring->mask], memory_order_relaxed);
	if (likely(old < young))
		return t;
	/* The last one: whoever moves `old` has it. */
	if (old > young || !atomic_compare_exchange_strong(&d->old, &old, old + 1))
		t = NULL;
	atomic_store_explicit(&d->young, young + 1, memory_order_relaxed);
	return t;
}

#endif
