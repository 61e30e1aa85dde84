/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/stack.h: stacks, recycled last in, first out. Each lies above a guard region, so that an overflow faults.
 */
#ifndef SCHED_STACK_H
#define SCHED_STACK_H

#include "sched/task.h"

#define STACK_CLASS_MIN		14		/* 16 KiB */
#define STACK_CLASS_DEFAULT	16		/* 64 KiB */
#define STACK_CLASS_MAX		26		/* 64 MiB */
#define STACK_CLASSES		(STACK_CLASS_MAX - STACK_CLASS_MIN + 1)
#define STACK_GUARD		65536		/* below each; a frame that is larger may step over it */

struct stack {
	struct stack *next;
	char *base;			/* lowest usable byte; the guard is below */
	char *top;			/* coloured: where contexts begin */
	uint8_t class;			/* log2 of the size */
	bool opened;			/* see stack_open() */
#if defined(MOTE_TSAN) || defined(MOTE_ASAN)
	void *fiber;			/* TSan's */
	void *fake;			/* ASan's fake stack while switched out */
#endif
};

struct stack_cache {
	struct {
		struct stack *free;
		uint32_t nr;
	} classes[STACK_CLASSES];
};

/* The class for a size (0: default), or 0 if there is none. */
uint8_t stack_class(size_t size);

static inline size_t stack_size(const struct stack *st)
{
	return (size_t)1 << st->class;
}

/*
 * Where an address lies, for those who look at a fault. Async-signal-safe: a stack that a task holds stays what and where
 * it is.
 */
static inline bool stack_contains(const struct stack *st, uintptr_t address)
{
	return address - (uintptr_t)st->base < stack_size(st);
}

/* An access here is an overflow of st. */
static inline bool stack_guard_contains(const struct stack *st, uintptr_t address)
{
	return address - ((uintptr_t)st->base - STACK_GUARD) < STACK_GUARD;
}

/*
 * Makes the upper part of the guard, STACK_OPENING bytes, part of the stack, until stack_close(): for what must not stop
 * where it has overflown. By the task itself; stack_open() is async-signal-safe.
 */
#define STACK_OPENING	49152
void stack_open(struct stack *st);
void stack_close(struct stack *st);

/*
 * Bytes from the end of the stack down to the lowest that is not zero: how far it was ever used, by whoever had it
 * since it was new or its pages went back to the system. Any thread, while somebody runs on it, too.
 */
size_t stack_high(const struct stack *st);

/* NULL with *err: -ENOMEM; -ENFILE when vm.max_map_count is the limit, -EAGAIN when RLIMIT_MEMLOCK is. */
struct stack *stack_get_slow(struct stack_cache *cache, uint8_t class, int *err);
void stack_spill(struct stack_cache *cache, uint8_t class);

static inline struct stack *stack_get(struct stack_cache *cache, uint8_t class, int *err)
{
	struct stack *st = cache->classes[class - STACK_CLASS_MIN].free;

	if (unlikely(!st))
		return stack_get_slow(cache, class, err);
	cache->classes[class - STACK_CLASS_MIN].free = st->next;
	cache->classes[class - STACK_CLASS_MIN].nr--;
	return st;
}

#define STACK_CACHE_MAX 2048			/* free stacks that a scheduler keeps warm */

static inline void stack_put(struct stack_cache *cache, struct stack *st)
{
	int i = st->class - STACK_CLASS_MIN;

	st->next = cache->classes[i].free;
	cache->classes[i].free = st;
	if (unlikely(++cache->classes[i].nr > STACK_CACHE_MAX))
		stack_spill(cache, st->class);
}

const char *stack_error(int err);		/* of stack_get(), in words */
const char *stack_guards(void);			/* "madvise" or "mprotect" */
int stacks_start(void);
void stacks_destroy(void);			/* unmaps all */
void stacks_forget(void);

#endif
