// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What is held back belongs to the process that runs on the scheduler, and goes out before anything else can overtake
 * it: before that process's next signal to anybody, before it is switched away from (so before it can run elsewhere,
 * and before the worker parks), at its next runtime call other than a send, and when there are BATCH of them.
 *
 * A process that streams and then computes without calling the runtime leaves a rest behind; the overseer
 * (sched/overseer.c) pushes it after some milliseconds. Therefore the lock.
 */
#include "core/outbox.h"
#include "core/remote.h"

#include <string.h>

#define STREAM	16		/* sends in a row to one receiver that make a stream */
#define BATCH	32

static struct outbox {
	struct lock lock;
	uint32_t slot;
	uint32_t n;
	struct signal *newest, *oldest;
} __attribute__((aligned(2 * CACHE_LINE))) outboxes[256];

bool outbox_hold(struct scheduler *s, struct signal *sig, uint32_t to_slot)
{
	struct outbox *o = &outboxes[s->index];
	uint32_t n;

	if (s->stream_slot != to_slot || s->stream_generation != s->generation) {
		s->stream_slot = to_slot;
		s->stream_generation = s->generation;
		s->stream = 0;
	}
	if (++s->stream < STREAM)
		return false;
	lock_take(&o->lock);
	sig->next = o->newest;
	if (!o->newest)
		o->oldest = sig;
	o->newest = sig;
	o->slot = to_slot;
	n = ++o->n;
	lock_drop(&o->lock);
	atomic_store_explicit(&s->holds_back, true, memory_order_relaxed);
	if (n >= BATCH)
		outbox_flush(s, s);
	return true;
}

void outbox_forget(void)
{
	memset(outboxes, 0, sizeof(outboxes));
}

void outbox_flush(struct scheduler *s, struct scheduler *from)
{
	struct outbox *o = &outboxes[from->index];

	/* The push is inside the lock: a later one by the other flusher must not come first. */
	lock_take(&o->lock);
	if (o->n)
		signals_push(s, o->newest, o->oldest, o->n, o->slot);
	o->newest = o->oldest = NULL;
	o->n = 0;
	lock_drop(&o->lock);
	if (unlikely(port_node))
		remote_flush(s, from);
	if (s == from)
		atomic_store_explicit(&s->holds_back, false, memory_order_relaxed);
}
