/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/task.h: what a scheduler runs. core's process embeds a task as its first member.
 *
 * A task's inbox is one word that senders and the task share:
 *   TASK_PARKED             the task waits; whoever replaces this value has to make it runnable
 *   TASK_DEAD               nobody takes anything out any more
 *   TASK_NUDGED             as good as empty, but the task must not park: see task_wake()
 *   count << 48 | pointer   a list, latest first, of what was pushed and not yet taken; 0: nothing
 * sched knows the sentinels and leaves the list to core. The memory of a task is never unmapped while the
 * runtime lives, so that a sender with a stale pid may look at the word: the serial in what it pushes tells the
 * next tenant that it was not meant.
 */
#ifndef SCHED_TASK_H
#define SCHED_TASK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scheduler;
struct stack;

#define TASK_PARKED	UINT64_C(1)
#define TASK_DEAD	UINT64_C(2)
#define TASK_NUDGED	UINT64_C(4)
#define TASK_POINTER	((UINT64_C(1) << 48) - 1)

enum task_flags {
	TASK_PINNED	= 1 << 0,	/* never leaves its home scheduler */
	TASK_BOUND	= 1 << 1,	/* has a request in its home's ring: runs there until it is done */
	TASK_STACKLESS	= 1 << 2,	/* gives its stack back whenever it parks through task_rest() */
};

enum task_interrupt {			/* may a signal end it in its own code? */
	TASK_INTERRUPT_NEVER,
	TASK_INTERRUPT_ALLOWED,
	TASK_INTERRUPT_WANTED,		/* and it should: see task_hooks.overseen */
};

enum task_after {			/* what becomes of a task once its context is saved */
	AFTER_PARK,			/* publish PARKED, unless something came */
	AFTER_YIELD,			/* back of the run queue */
	AFTER_REST,			/* as PARK, but the stack goes back and the task will start anew */
	AFTER_EXIT,			/* stack goes back; hooks->gone() */
};

struct task {
	/* The line that senders write. */
	_Atomic uint64_t inbox;
	_Atomic uint64_t serial;	/* which tenant of this slot; written by the spawner only */
	_Atomic uint8_t pending;	/* set after something was pushed that must act at the next runtime call */
	_Atomic uint8_t marks;		/* core's: enum process_marks */
	_Atomic uint8_t interrupt;	/* enum task_interrupt */
	uint8_t nokill;			/* core's: depth of sections in which it must not be interrupted */
	uint32_t slot;
	struct task *next;		/* in a scheduler's post box or bound queue: one at a time */
	void *sp;			/* saved context; NULL: none, starts at hooks->enter */
	struct stack *stack;		/* NULL: none is held */
	_Atomic uint16_t home;		/* index of the scheduler that ran it last */
	_Atomic uint8_t state;		/* enum mote_state */
	_Atomic uint8_t wait;		/* enum mote_wait */
	uint8_t flags;			/* enum task_flags; written by the task itself (or its spawner) */
	uint8_t priority;
	uint8_t stack_class;
	uint8_t dying;			/* an exit signal has won; cleanups are running or due */
	int32_t fds;			/* io's: first descriptor it owns + 1; 0: none */
	_Atomic uint32_t nr_fds;
};

_Static_assert(sizeof(struct task) == 64, "a task is one cache line");

#ifdef __SANITIZE_THREAD__
#define MOTE_TSAN 1
#endif
#ifdef __SANITIZE_ADDRESS__
#define MOTE_ASAN 1
#endif
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define MOTE_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define MOTE_ASAN 1
#endif
#endif

/* Builds for tests look whether the border of the runtime is kept. */
#if defined(MOTE_ASAN) || defined(MOTE_TSAN) || defined(MOTE_ATTACK)
#define MOTE_CHECKED 1
#endif

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define CACHE_LINE 64

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#endif
