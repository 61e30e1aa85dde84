/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/slab.h: small blocks, recycled. Each scheduler keeps its own free lists; what flows from one scheduler to
 * another (messages do) goes back through a depot, in batches.
 */
#ifndef SCHED_SLAB_H
#define SCHED_SLAB_H

#include "sched/task.h"

#include <stdint.h>

/* Every block malloc's: use after its end is seen, and every allocation may fail. */
#if defined(MOTE_ASAN) || defined(MOTE_ATTACK)
#define SLAB_PLAIN
#endif

#define SLAB_CLASSES	10
#define SLAB_SMALL	9		/* 32 bytes: for what there are millions of */
#define SLAB_MAX	4096
#define SLAB_BATCH	64		/* blocks that travel together */
#define SLAB_NONE	0xff		/* class of a block that malloc made */

struct slab_block {
	struct slab_block *next;
	struct slab_block *next_batch;	/* in the depot: heads of batches */
};

struct slab_cache {
	struct {
		struct slab_block *free;
		uint32_t nr;
		uint32_t fresh_left;
		char *fresh;		/* never used yet */
	} classes[SLAB_CLASSES];
};

extern const uint16_t slab_sizes[SLAB_CLASSES];

uint8_t slab_class_large(size_t size);

/* The smallest class that holds size bytes, or SLAB_NONE. */
static inline uint8_t slab_class(size_t size)
{
	if (likely(size <= 256))
		return size ? (uint8_t)((size - 1) / 64) : 0;
	return slab_class_large(size);
}

static inline uint8_t slab_class_small(size_t size)
{
	return size <= 32 ? SLAB_SMALL : slab_class(size);
}

void *slab_refill(struct slab_cache *cache, uint8_t cls);
void slab_spill(struct slab_cache *cache, uint8_t cls);
void *slab_alloc_foreign(uint8_t cls);
void slab_free_foreign(void *p, uint8_t cls);

/* All memory of all classes goes back to the system: when the runtime stops. */
void slab_destroy(void);
void slab_forget(void);

/* cache NULL: a foreign thread. NULL: out of memory. */
static inline void *slab_alloc(struct slab_cache *cache, uint8_t cls)
{
	(void)cache;
#ifndef SLAB_PLAIN
	if (likely(cache)) {
		struct slab_block *b = cache->classes[cls].free;

		if (unlikely(!b))
			return slab_refill(cache, cls);
		cache->classes[cls].free = b->next;
		cache->classes[cls].nr--;
		return b;
	}
#endif
	return slab_alloc_foreign(cls);
}

static inline void slab_free(struct slab_cache *cache, void *p, uint8_t cls)
{
	(void)cache;
#ifndef SLAB_PLAIN
	if (likely(cache)) {
		struct slab_block *b = p;

		b->next = cache->classes[cls].free;
		cache->classes[cls].free = b;
		if (unlikely(++cache->classes[cls].nr >= 2 * SLAB_BATCH))
			slab_spill(cache, cls);
		return;
	}
#endif
	slab_free_foreign(p, cls);
}

#endif
