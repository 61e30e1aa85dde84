/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * sched/scheduler.h: M:N scheduling. A scheduler is a slot: run queues, ring, timers, slabs, caches. A worker is an
 * OS thread that holds a slot. Everything hangs off the slot, so that another worker can take it over whole.
 */
#ifndef SCHED_SCHEDULER_H
#define SCHED_SCHEDULER_H

#include "sched/chance.h"
#include "sched/deque.h"
#include "sched/lock.h"
#include "sched/slab.h"
#include "sched/stack.h"
#include "sched/task.h"
#include "sched/wheel.h"
#include "sched/worker.h"

struct io;

/* What core tells sched about its processes; set once, before the first scheduler starts. */
struct task_hooks {
	void (*enter)(struct task *t);			/* first or fresh start, on the task's stack; never returns */
	bool (*signals)(struct task *t);		/* take and act on what arrived; true: t has to end */
	void (*die)(struct task *t);		/* end t, on its own stack, for the signal that won; never returns */
	void (*gone)(struct scheduler *s, struct task *t);	/* AFTER_EXIT: t's stack is off, slot may go */
	void (*no_stack)(struct scheduler *s, struct task *t, int err);	/* t could not be started: end it */
	int (*clamp)(struct task *t, int64_t *deadline);	/* t is dying: see task_clamp() */
	void (*flush)(struct scheduler *s, struct scheduler *from);	/* sends what the task on `from` holds back */
	int (*thread_begin)(void);			/* on each worker's thread: 0 or -errno */
	void (*thread_end)(void);
	/* By the overseer: t, which wants to be interrupted, was found in its own code on that thread. */
	void (*overseen)(struct task *t, pid_t tid);
};

extern const struct task_hooks *task_hooks __attribute__((visibility("hidden")));

struct run_queue;

struct scheduler {
	/* What others read or write, apart from what only the worker touches. */
	_Atomic(struct worker *) worker;	/* who runs it, or is about to */
	_Atomic uint64_t generation;		/* grows with every switch; written by its worker */
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
	struct task *bound_first, **bound_last;	/* runnable and not to be stolen */
	struct task *pinned_first, **pinned_last;	/* runnable on its first worker's thread only, which is away */
	struct worker *owner;			/* that worker */
	unsigned int fresh_turn;
	uint8_t bound_turn, low_turn;
	bool mixed;				/* there was a task of another than normal priority */
	bool firing, wake_due;			/* timers fire, their wheel locked: wakes others when that is over */
	bool alone;				/* the only scheduler: nobody steals, nobody is to be woken */
	int slice;				/* what budget begins with */
	struct chance chance;
	int64_t spin_ns;			/* how long to look for work before parking; adapts */
	uint64_t next_id;			/* see scheduler_unique_id() */
	uint64_t stream_generation;		/* core's, of outbox.c: */
	uint32_t stream_slot, stream;

	struct slab_cache slabs;
	struct stack_cache stacks;
	struct io *io;				/* this scheduler's ring (or epoll) */
	void *core;				/* core's own, per scheduler */
	_Atomic uint64_t switches, steals, parks, wakes;
	struct wheel wheel;
	struct task *starved_first, **starved_last;	/* runnable, and no stack could be had */
	unsigned int starved_tries;		/* how many of them try next time */
	struct wheel_timer starved_timer;
};

/* Counters are written by one worker and read by anybody: no read-modify-write is needed. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

/* Ends the program: name was called by a thread that runs no process. */
_Noreturn void runtime_misuse(const char *name);

/*
 * The border between a process's own code and the runtime. Every public function for processes begins with
 * runtime_enter() and ends with runtime_leave(); name is for the message that ends a misuse. In between, nothing of the
 * program's may be called: it would leave the runtime at its own calls' ends.
 */
static inline struct scheduler *runtime_enter_at(struct worker *w)
{
	/* relaxed, and the compiler keeps the order: who takes schedulers away does the rest (sched/handover.h) */
	atomic_store_explicit(&w->mode, SLOT_RUNTIME, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
	return atomic_load_explicit(&w->entry, memory_order_relaxed);
}

/* The entry was a sign, or NULL: waits, changes threads, or ends a misuse. */
struct scheduler *runtime_enter_slow(struct worker *w, const char *name);

static inline struct scheduler *runtime_enter(const char *name)
{
	struct worker *w = worker_self();
	struct scheduler *s = runtime_enter_at(w);

	/* The signs are schedulers that run nothing. */
	return likely(s && s->current) ? s : runtime_enter_slow(w, name);
}

/* As runtime_enter(), but NULL on a foreign thread (or when no runtime runs). */
static inline struct scheduler *runtime_try_enter(void)
{
	struct worker *w = worker_self();
	struct scheduler *s = runtime_enter_at(w);

	return likely(!s || s->current) ? s : runtime_enter_slow(w, "a function of mote");
}

/* When nothing since runtime_enter() can have switched: s is still the caller's. */
static inline void runtime_leave_on(struct scheduler *s)
{
	struct worker *w = atomic_load_explicit(&s->worker, memory_order_relaxed);

	/* release: who takes s away sees it whole */
	atomic_store_explicit(&w->mode, SLOT_USER, memory_order_release);
}

static inline void runtime_leave(void)
{
	atomic_store_explicit(&worker_self()->mode, SLOT_USER, memory_order_release);
}

static inline void runtime_try_leave(void)
{
	if (likely(scheduler_self()))
		runtime_leave();
}

/*
 * Around a callback of the program's that is made from inside the runtime: there the thread looks like a foreign one, so
 * that what the callback calls neither leaves the runtime nor switches. Returns what runtime_unveil() wants back.
 */
struct scheduler *runtime_veil(void);
void runtime_unveil(struct scheduler *s);

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

/* Of a runnable task that could not be started: tries again after a while, with the others of that kind. On s's worker. */
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

/* Has the worker of that scheduler look at its carriers (port/port.h), out of its sleep if need be. Any thread. */
void scheduler_nudge(unsigned int index);

/* Why a worker has left a scheduler's loop. */
enum served { SERVED_STOPPED, SERVED_LOST, SERVED_HANDED_HOME };

/* Runs s on the calling thread, w, until one of these. */
enum served scheduler_serve(struct scheduler *s, struct worker *w);

/* Something waits on s that its worker should be looking at. By the overseer: a racy look. */
bool scheduler_waiting(struct scheduler *s, int64_t now);

/* What nobody else can find while s's worker is in a task's own code, and yet may be taken. True: there was something. */
bool scheduler_rescue(struct scheduler *s);

bool schedulers_all_parked(void);

/* Starts n schedulers and their workers. 0 or -errno, with nothing left behind. */
int schedulers_start(unsigned int n, unsigned int max_spares, const struct task_hooks *hooks);

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
