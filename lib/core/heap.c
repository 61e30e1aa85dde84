// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Memory and cleanups that end with their process.
 */
#include "core/cycle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct heap_block {
	struct heap_block *next, *prev;
	size_t size;
	uint64_t class;			/* of the slab, or SLAB_NONE */
	char bytes[] __attribute__((aligned(16)));
};

struct defer {
	struct defer *next;
	mote_fn fn;
	void *arg;
};

static void count_memory(struct process *p, int64_t change)
{
	int64_t bytes = atomic_load_explicit(&p->memory, memory_order_relaxed) + change;

	atomic_store_explicit(&p->memory, bytes > UINT32_MAX ? UINT32_MAX : bytes < 0 ? 0 : (uint32_t)bytes,
			      memory_order_relaxed);
}

static void block_free(struct scheduler *s, struct heap_block *b)
{
	if (b->class != SLAB_NONE)
		slab_free(&s->slabs, b, (uint8_t)b->class);
	else
		free(b);
}

static void *heap_alloc(const char *name, size_t size)
{
	struct scheduler *s = runtime_enter(name);
	struct process *p = process_self(s);
	struct extra *extra = process_extra(p);
	struct heap_block *b = NULL;
	uint8_t class;

	if (extra && size <= PTRDIFF_MAX - sizeof(*b)) {
		class = slab_class(sizeof(*b) + size);
		b = class != SLAB_NONE ? slab_alloc(&s->slabs, class) : malloc(sizeof(*b) + size);
		if (b)
			b->class = class;
	}
	if (b) {
		b->size = size;
		b->prev = NULL;
		b->next = extra->heap;
		if (b->next)
			b->next->prev = b;
		extra->heap = b;
		count_memory(p, (int64_t)size);
	} else {
		process_fail(p, -ENOMEM);
	}
	process_leave(s);
	return b ? b->bytes : NULL;
}

void *mote_alloc(size_t size)
{
	return heap_alloc("mote_alloc", size);
}

void *mote_zalloc(size_t size)
{
	void *p = heap_alloc("mote_zalloc", size);

	return p ? memset(p, 0, size) : NULL;
}

void mote_free(void *mem)
{
	struct heap_block *b;
	struct scheduler *s;
	struct process *p;

	if (!mem)
		return;
	b = container_of(mem, struct heap_block, bytes);
	s = runtime_enter("mote_free");
	p = process_self(s);
	if (b->prev)
		b->prev->next = b->next;
	else
		process_extra(p)->heap = b->next;
	if (b->next)
		b->next->prev = b->prev;
	count_memory(p, -(int64_t)b->size);
	block_free(s, b);
	process_leave(s);
}

void *mote_realloc(void *mem, size_t size)
{
	struct heap_block *b;
	struct scheduler *s;
	void *new;

	if (!mem)
		return heap_alloc("mote_realloc", size);
	b = container_of(mem, struct heap_block, bytes);
	if (b->class != SLAB_NONE && size <= slab_sizes[b->class] - sizeof(*b)) {
		s = runtime_enter("mote_realloc");
		count_memory(process_self(s), (int64_t)size - (int64_t)b->size);
		b->size = size;
		process_leave(s);
		return mem;
	}
	new = heap_alloc("mote_realloc", size);
	if (!new)
		return NULL;
	memcpy(new, mem, b->size < size ? b->size : size);
	mote_free(mem);
	return new;
}

void heap_release(struct scheduler *s, struct process *p)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);
	struct heap_block *b, *next;

	if (!extra)
		return;
	for (b = extra->heap; b; b = next) {
		next = b->next;
		block_free(s, b);
	}
	extra->heap = NULL;
	locals_end(s, extra);
	cycle_end(s, extra);
}

int mote_defer(mote_fn fn, void *arg)
{
	struct scheduler *s = runtime_enter("mote_defer");
	struct extra *extra = process_extra(process_self(s));
	struct defer *d = extra ? slab_alloc(&s->slabs, slab_class(sizeof(*d))) : NULL;

	if (d) {
		*d = (struct defer){ extra->defers, fn, arg };
		extra->defers = d;
	}
	process_leave(s);
	return d ? 0 : -ENOMEM;
}

int mote_undefer(mote_fn fn, void *arg)
{
	struct scheduler *s = runtime_enter("mote_undefer");
	struct extra *extra = atomic_load_explicit(&process_self(s)->extra, memory_order_relaxed);
	struct defer **at = extra ? &extra->defers : NULL, *d = NULL;

	while (at && (d = *at) && (d->fn != fn || d->arg != arg))
		at = &d->next;
	if (d) {
		*at = d->next;
		slab_free(&s->slabs, d, slab_class(sizeof(*d)));
	}
	process_leave(s);
	return d ? 0 : -ENOENT;
}

PROCESS_ENTRY void defers_run(struct process *p)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);
	struct defer *d;

	while ((d = extra->defers)) {
		struct defer now = *d;

		/* Off the list first: it runs once, however it ends. */
		extra->defers = d->next;
		slab_free(&scheduler_self()->slabs, d, slab_class(sizeof(*d)));
		runtime_leave();
		now.fn(now.arg);
		runtime_enter("defer");
	}
}

int belonging_add(struct process *p, struct belonging *b)
{
	struct extra *extra = process_extra(p);

	if (!extra)
		return -ENOMEM;
	b->prev = NULL;
	b->next = extra->belongings;
	if (b->next)
		b->next->prev = b;
	extra->belongings = b;
	return 0;
}

void belonging_remove(struct process *p, struct belonging *b)
{
	if (b->prev)
		b->prev->next = b->next;
	else
		process_extra(p)->belongings = b->next;
	if (b->next)
		b->next->prev = b->prev;
}

void belongings_end(struct process *p)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);
	struct belonging *b;

	while (extra && (b = extra->belongings)) {
		extra->belongings = b->next;
		if (b->next)
			b->next->prev = NULL;
		b->end(p, b);
	}
}
