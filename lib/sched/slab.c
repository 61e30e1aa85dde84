// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Chunks of 2 MiB, aligned to their size so that they may become huge pages, are cut into blocks of one class. A
 * scheduler takes runs of a chunk for itself, and gives batches of free blocks to the depot when it has collected
 * many more than it uses: a producer and a consumer on two schedulers would otherwise eat all memory.
 *
 * SLAB_PLAIN: see slab.h.
 */
#include "sched/slab.h"
#include "sched/lock.h"

#include <stdlib.h>
#include <sys/mman.h>

const uint16_t slab_sizes[SLAB_CLASSES] = { 64, 128, 192, 256, 512, 1024, 1536, 2048, 4096, 32 };

uint8_t slab_class_large(size_t size)
{
	for (uint8_t cls = 4; cls < SLAB_SMALL; cls++) {
		if (size <= slab_sizes[cls])
			return cls;
	}
	return SLAB_NONE;
}

#ifndef SLAB_PLAIN

#define CHUNK_SIZE (UINT32_C(2) << 20)

static struct {
	struct lock lock;
	struct slab_block *batches;
	char *fresh, *end;
} depots[SLAB_CLASSES];

static struct lock chunks_lock;
static char **chunks;			/* all of them, for slab_destroy() */
static size_t nr_chunks, max_chunks;

static char *chunk_map(void)
{
	char *p, *aligned;

	p = mmap(NULL, 2 * CHUNK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return NULL;
	aligned = (char *)(((uintptr_t)p + CHUNK_SIZE - 1) & ~(uintptr_t)(CHUNK_SIZE - 1));
	if (aligned > p)
		munmap(p, aligned - p);
	munmap(aligned + CHUNK_SIZE, p + CHUNK_SIZE - aligned);
	return aligned;
}

static char *chunk_new(void)
{
	char *chunk = chunk_map();

	if (!chunk)
		return NULL;
	lock_take(&chunks_lock);
	if (nr_chunks == max_chunks) {
		size_t max = max_chunks ? 2 * max_chunks : 64;
		char **more = realloc(chunks, max * sizeof(*more));

		if (!more) {
			lock_drop(&chunks_lock);
			munmap(chunk, CHUNK_SIZE);
			return NULL;
		}
		chunks = more;
		max_chunks = max;
	}
	chunks[nr_chunks++] = chunk;
	/* A program that needs a second chunk will fill it: let it be a huge page. */
	if (nr_chunks > SLAB_CLASSES)
		madvise(chunk, CHUNK_SIZE, MADV_HUGEPAGE);
	lock_drop(&chunks_lock);
	return chunk;
}

/* Up to n fresh blocks in a row; *n gets how many. */
static char *depot_fresh(uint8_t cls, uint32_t *n)
{
	uint32_t size = slab_sizes[cls], left;
	char *p;

	if (depots[cls].end - depots[cls].fresh < (ptrdiff_t)size) {
		char *chunk = chunk_new();

		if (!chunk)
			return NULL;
		depots[cls].fresh = chunk;
		depots[cls].end = chunk + CHUNK_SIZE;
	}
	p = depots[cls].fresh;
	left = (uint32_t)(depots[cls].end - p) / size;
	if (*n > left)
		*n = left;
	depots[cls].fresh += (size_t)*n * size;
	return p;
}

static struct slab_block *depot_take_batch(uint8_t cls)
{
	struct slab_block *b = depots[cls].batches;

	if (b)
		depots[cls].batches = b->next_batch;
	return b;
}

void *slab_refill(struct slab_cache *cache, uint8_t cls)
{
	struct slab_block *b;
	uint32_t n = SLAB_BATCH;
	char *p;

	if (cache->classes[cls].fresh_left) {
		p = cache->classes[cls].fresh;
		cache->classes[cls].fresh += slab_sizes[cls];
		cache->classes[cls].fresh_left--;
		return p;
	}
	lock_take(&depots[cls].lock);
	b = depot_take_batch(cls);
	p = b ? NULL : depot_fresh(cls, &n);
	lock_drop(&depots[cls].lock);
	if (b) {
		cache->classes[cls].free = b->next;
		cache->classes[cls].nr = SLAB_BATCH - 1;
		return b;
	}
	if (!p)
		return NULL;
	cache->classes[cls].fresh = p + slab_sizes[cls];
	cache->classes[cls].fresh_left = n - 1;
	return p;
}

/* Gives the colder half of a full cache to the depot. */
void slab_spill(struct slab_cache *cache, uint8_t cls)
{
	struct slab_block *keep = cache->classes[cls].free, *batch;

	for (int i = 1; i < SLAB_BATCH; i++)
		keep = keep->next;
	batch = keep->next;
	keep->next = NULL;
	cache->classes[cls].nr = SLAB_BATCH;
	lock_take(&depots[cls].lock);
	batch->next_batch = depots[cls].batches;
	depots[cls].batches = batch;
	lock_drop(&depots[cls].lock);
}

/*
 * Foreign threads have no cache: blocks that they free wait in `loose` lists until a batch is full.
 */
static struct {
	struct slab_block *free;
	uint32_t nr;
} loose[SLAB_CLASSES];

void *slab_alloc_foreign(uint8_t cls)
{
	struct slab_block *b;
	uint32_t n = 1;

	lock_take(&depots[cls].lock);
	b = loose[cls].free;
	if (!b) {
		b = depot_take_batch(cls);
		loose[cls].nr = b ? SLAB_BATCH : 0;
	}
	if (b) {
		loose[cls].free = b->next;
		loose[cls].nr--;
	} else {
		b = (void *)depot_fresh(cls, &n);
	}
	lock_drop(&depots[cls].lock);
	return b;
}

void slab_free_foreign(void *p, uint8_t cls)
{
	struct slab_block *b = p;

	lock_take(&depots[cls].lock);
	b->next = loose[cls].free;
	loose[cls].free = b;
	if (++loose[cls].nr == SLAB_BATCH) {
		b->next_batch = depots[cls].batches;
		depots[cls].batches = b;
		loose[cls].free = NULL;
		loose[cls].nr = 0;
	}
	lock_drop(&depots[cls].lock);
}

void slab_forget(void)
{
	for (int cls = 0; cls < SLAB_CLASSES; cls++) {
		depots[cls].lock = (struct lock){ 0 };
		depots[cls].batches = NULL;
		depots[cls].fresh = depots[cls].end = NULL;
		loose[cls].free = NULL;
		loose[cls].nr = 0;
	}
	chunks_lock = (struct lock){ 0 };
	chunks = NULL;
	nr_chunks = max_chunks = 0;
}

void slab_destroy(void)
{
	for (size_t i = 0; i < nr_chunks; i++)
		munmap(chunks[i], CHUNK_SIZE);
	free(chunks);
	slab_forget();
}

#else /* SLAB_PLAIN */

void *slab_alloc_foreign(uint8_t cls)
{
	return aligned_alloc(slab_sizes[cls] < 64 ? slab_sizes[cls] : 64, slab_sizes[cls]);
}

void slab_free_foreign(void *p, uint8_t cls)
{
	(void)cls;
	free(p);
}

void slab_forget(void)
{
}

void slab_destroy(void)
{
}

#endif
