/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/scheduler.h: M:N scheduling. A scheduler is a slot: run queues, ring, timers, slabs, caches. A worker is an
 * OS thread that holds a slot. Everything hangs off the slot, so that another worker can take it over whole.
 */
#ifndef SCHED_SCHEDULER_H
#define SCHED_SCHEDULER_H

#include "sched/deque.h"
#include "sched/lock.h"
#include "sched/slab.h"
#include "sched/stack.h"
#include "sched/task.h"
#include "sched/wheel.h"

#include <pthread.h>

struct io;

/* A piece of work for one scheduler, run by its worker between tasks, on the worker's stack. */
struct work {
	struct work *next;
	void (*run)(struct scheduler *s, struct work *w);
};

/* What core tells sched about its processes; set once, before the first scheduler starts. */
struct task_hooks {
	void (*enter)(struct task *t);			/* first or fresh start, on the task's stack; never returns */
	bool (*signals)(struct task *t);		/* take and act on what arrived; true: t has to end */
	void (*die)(struct task *t);		/* end t, on its own stack, for the signal that won; never returns */
	void (*gone)(struct scheduler *s, struct task *t);	/* AFTER_EXIT: t's stack is off, slot may go */
	void (*no_stack)(struct scheduler *s, struct task *t, int err);	/* t could not be started: end it */
	int (*clamp)(struct task *t, int64_t *deadline);	/* t is dying: see task_clamp() */
	void (*flush)(struct scheduler *s, struct scheduler *from);	/* sends what the task on `from` holds back */
};

extern const struct task_hooks *task_hooks __attribute__((visibility("hidden")));

/*
 * The word of the slot protocol: low bit RUNTIME or USER, the rest a generation that grows with every switch.
 * Written only by the slot's worker, relaxed; others read it to see whether a task has been in its own code
 * for long.
 */
#define SLOT_USER	UINT64_C(0)
#define SLOT_RUNTIME	UINT64_C(1)

struct run_queue;

struct scheduler {
	/* What others read or write, apart from what only the worker touches. */
	_Atomic uint64_t slot;			/* SLOT_* | generation << 1 */
	_Atomic uint32_t parked;		/* 1: sleeps in its ring, or is about to */
	unsigned int index;
	_Atomic(struct task *) posted;		/* tasks made runnable for this scheduler by others */
	_Atomic(struct work *) works;
	_Atomic bool holds_back;		/* there may be something for hooks->flush() */
	_Atomic(struct task *) lifo;		/* woken last, runs next */
	struct run_queue *queues[3];		/* by enum mote_priority */
	struct deque fresh;			/* spawned and not yet run */

	struct task *current __attribute__((aligned(CACHE_LINE)));
	struct task *leaving;			/* whose context was just saved */
	enum task_after after;
	int budget;				/* half runtime calls left in this slice */
	int ticks;				/* switches left before the loop looks at ring, timers, post box */
	unsigned int lifo_streak;
	uint64_t generation;			/* of the slot word, as its worker knows it */
	void *sp;				/* the worker's own context */
	struct task *bound_first, **bound_last;	/* runnable and not to be stolen */
	unsigned int fresh_turn;
	uint8_t bound_turn, low_turn;
	bool mixed;				/* there was a task of another than normal priority */
	bool alone;				/* the only scheduler: nobody steals, nobody is to be woken */
	uint32_t random;
	int64_t spin_ns;			/* how long to look for work before parking; adapts */
	int64_t watch_ns;			/* how often to look while others run; adapts */
	uint64_t next_id;			/* see scheduler_unique_id() */
	uint64_t stream_generation;		/* core's, of outbox.c: */
	uint32_t stream_slot, stream;

	struct slab_cache slabs;
	struct stack_cache stacks;
	struct io *io;				/* this scheduler's ring (or epoll) */
	void *core;				/* core's own, per scheduler */
	_Atomic uint64_t switches, steals, parks, wakes;
	struct wheel wheel;
	pthread_t thread;
#ifdef MOTE_TSAN
	void *fiber;
#endif
#ifdef MOTE_ASAN
	void *fake;
	const void *stack_bottom;
	size_t stack_length;
#endif
};

/* Counters are written by one worker and read by anybody: no read-modify-write is needed. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/*
 * What a worker thread knows of itself. A task may wake up on another thread after any switch, so the compiler must
 * not remember the address of a thread-local variable across one: on x86-64 an opaque load, elsewhere a call.
 */
struct worker {
	struct scheduler *scheduler;
};

extern __thread struct worker mote_worker __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* The calling thread's scheduler; NULL on a foreign thread. Never cached across a switch. */
#if defined(__x86_64__)
static inline struct scheduler *scheduler_self(void)
{
	struct scheduler *s;

	__asm__ volatile("movq mote_worker@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %0" : "=r"(s) : : "memory");
	return s;
}
#else
struct scheduler *scheduler_self(void);
#endif

/* Ends the program: name was called by a thread that runs no process. */
_Noreturn void runtime_misuse(const char *name);

/*
 * The border between a process's own code and the runtime. Every public function for processes begins with
 * runtime_enter() and ends with runtime_leave(); name is for the message that ends a misuse.
 */
static inline struct scheduler *runtime_enter(const char *name)
{
	struct scheduler *s = scheduler_self();

	if (unlikely(!s || !s->current))
		runtime_misuse(name);
	/* relaxed: only a watcher reads it; what it guards is ordered by the taker's membarrier */
	atomic_store_explicit(&s->slot, s->generation << 1 | SLOT_RUNTIME, memory_order_relaxed);
	return s;
}

/* When nothing since runtime_enter() can have switched: s is still the caller's. */
static inline void runtime_leave_on(struct scheduler *s)
{
	atomic_store_explicit(&s->slot, s->generation << 1 | SLOT_USER, memory_order_relaxed);
}

static inline void runtime_leave(void)
{
	runtime_leave_on(scheduler_self());
}

/* As runtime_enter(), but NULL on a foreign thread (or when no runtime runs). */
static inline struct scheduler *runtime_try_enter(void)
{
	struct scheduler *s = scheduler_self();

	if (likely(s && s->current))
		atomic_store_explicit(&s->slot, s->generation << 1 | SLOT_RUNTIME, memory_order_relaxed);
	return s;
}

static inline void runtime_try_leave(void)
{
	if (likely(scheduler_self()))
		runtime_leave();
}

/*
 * Parks the calling task until task_wake(), or a push to its inbox. Returns at once if the inbox is not empty, and
 * may return for no reason: callers loop over { task_signals(); look at the condition; task_park() }, in that order:
 * taking signals in empties the inbox, and what a wake left there with it. why is an enum mote_wait.
 */
void task_park(struct scheduler *s, int why);

/*
 * Makes a parked task runnable; nothing if it is not parked. Any thread, s: the caller's scheduler or NULL.
 * The condition that the task waits for is stored before (release: by the exchange on the inbox).
 */
void task_wake(struct scheduler *s, struct task *t);

/* Queues a task that the caller has made runnable (replaced its PARKED, or just spawned it). */
void task_ready(struct scheduler *s, struct task *t, bool next);

/* Queues a task that was just spawned, and has never run. s NULL: by a foreign thread. */
void task_spawned(struct scheduler *s, struct task *t);

/* Of a runnable task that could not be started: tries again in the next pass of s's loop. On s's worker. */
void scheduler_requeue(struct scheduler *s, struct task *t);

void task_yield(struct scheduler *s);

/* Parks, giving the stack back; the task starts anew at hooks->enter. Never returns. */
_Noreturn void task_rest(struct scheduler *s);

/* Leaves for good; the context is not saved. */
_Noreturn void task_exit(struct scheduler *s);

/*
 * Takes a runtime call from the slice; yields when it is used up. Receiving what is there already costs half: whoever
 * receives from many can then empty its mailbox within a slice after each sender's slice, while that is in the cache.
 */
static inline void task_spend_receive(struct scheduler *s)
{
	if (unlikely(--s->budget <= 0))
		task_yield(s);
}

static inline void task_spend(struct scheduler *s)
{
	if (unlikely((s->budget -= 2) <= 0))
		task_yield(s);
}

/* The end of most runtime calls. */
static inline void task_spend_and_leave(struct scheduler *s)
{
	if (likely((s->budget -= 2) > 0)) {
		runtime_leave_on(s);
		return;
	}
	task_yield(s);
	runtime_leave();
}

/* Acts on signals; true: the task has to end, by hooks->die, as soon as nothing of it is in the kernel. */
bool task_signals(struct task *t);
_Noreturn void task_die(struct task *t);

/*
 * Every wait begins with this. In a dying task's cleanups a wait for ever gives -ECANCELED, and deadlines are cut to
 * what is left of the time for cleanups; otherwise 0 and nothing.
 */
int task_clamp(struct task *t, int64_t *deadline);

/* Has w run by scheduler s between two tasks. Any thread; w is s's until it has run. */
void scheduler_post_work(struct scheduler *s, struct work *w);

uint64_t scheduler_unique_id(struct scheduler *s);	/* s NULL: foreign thread */

/* Starts n workers. 0 or -errno, with nothing left behind. */
int schedulers_start(unsigned int n, const struct task_hooks *hooks);

/*
 * Has the workers leave between two tasks, and joins them. False: one did not come back before the deadline, and
 * nothing may be freed.
 */
bool schedulers_stop(int64_t deadline_ns);

void schedulers_destroy(void);		/* after schedulers_stop() */
void schedulers_forget(void);		/* in a forked child */
unsigned int schedulers_count(void);
struct scheduler *scheduler_at(unsigned int index);

/* Ends the program with a message: misuse that is certain to be a bug. */
_Noreturn void mote_fatal(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
