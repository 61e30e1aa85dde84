// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What was unlinked is collected in a batch; when that is large enough it becomes the waiting one, with a note of
 * which readers were reading then. When all of those have left it is freed, and the next may wait. A reader that
 * stays long, its thread being off its CPU, delays the freeing and nothing else.
 */
#include "otp/epoch.h"

#define BATCH		64
#define BATCH_BYTES	(64 * 1024)
#define MAX_READERS	256
#define FOREIGN		16		/* locks for foreign threads */

struct reader epoch_readers[MAX_READERS];

static struct {
	struct lock lock;
} __attribute__((aligned(2 * CACHE_LINE))) foreign[FOREIGN];

static struct lock lock;		/* all below */
static struct garbage *collected, *waiting;
static size_t nr_collected, collected_bytes;
static uint64_t turns[MAX_READERS];	/* when `waiting` began to: odd ones have to change */
static unsigned int nr_turns;

static struct lock *foreign_lock(void)
{
	uint64_t hash = (uintptr_t)worker_self() * 0x9e3779b97f4a7c15ull;

	return &foreign[hash >> 60].lock;
}

void epoch_enter_foreign(void)
{
	lock_take(foreign_lock());
}

void epoch_leave_foreign(void)
{
	lock_drop(foreign_lock());
}

/* With the lock. True: nobody who was reading when the waiting batch began to wait still is. */
static bool all_left(void)
{
	for (unsigned int i = 0; i < nr_turns; i++) {
		/* acquire: pairs with the release in epoch_leave(): what is freed now was read before */
		if (turns[i] & 1 && atomic_load_explicit(&epoch_readers[i].turn, memory_order_acquire) == turns[i])
			return false;
	}
	return true;
}

/* With the lock. */
static void begin_to_wait(void)
{
	waiting = collected;
	collected = NULL;
	nr_collected = collected_bytes = 0;
	/*
	 * Between the unlinking, which came before each epoch_retire() and so, by the lock, before this, and the look
	 * at the readers: see epoch_enter().
	 */
	barrier_heavy();
	nr_turns = schedulers_count();
	for (unsigned int i = 0; i < nr_turns; i++)
		/* acquire: as in all_left(), for those that have left already */
		turns[i] = atomic_load_explicit(&epoch_readers[i].turn, memory_order_acquire);
	/* A foreign reader that began before has left when its lock is free; a later one finds nothing of it. */
	for (int i = 0; i < FOREIGN; i++) {
		lock_take(&foreign[i].lock);
		lock_drop(&foreign[i].lock);
	}
}

/* With the lock. What can be freed. */
static struct garbage *epoch_reclaim(void)
{
	struct garbage *ripe = NULL;

	if (waiting && !all_left())
		return NULL;
	ripe = waiting;
	waiting = NULL;
	begin_to_wait();
	return ripe;
}

void epoch_retire(struct garbage *g, void (*fn)(struct garbage *g), size_t size)
{
	struct garbage *ripe = NULL;

	g->free = fn;
	lock_take(&lock);
	g->next = collected;
	collected = g;
	collected_bytes += size;
	if (++nr_collected >= BATCH || collected_bytes >= BATCH_BYTES)
		ripe = epoch_reclaim();
	lock_drop(&lock);
	while (ripe) {
		g = ripe;
		ripe = g->next;
		g->free(g);
	}
}

void epoch_forget(void)
{
	/* Somebody was changing the lists: half of one is nothing to free. */
	if (atomic_load_explicit(&lock.taken, memory_order_relaxed)) {
		collected = waiting = NULL;
		nr_collected = collected_bytes = 0;
	}
	lock = (struct lock){ 0 };
	for (int i = 0; i < FOREIGN; i++)
		foreign[i].lock = (struct lock){ 0 };
	for (int i = 0; i < MAX_READERS; i++)
		atomic_store_explicit(&epoch_readers[i].turn, 0, memory_order_relaxed);
	nr_turns = 0;
}
