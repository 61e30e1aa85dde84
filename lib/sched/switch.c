// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A task that parks picks its successor itself and switches to it directly; the worker's own context is entered only
 * when there is nothing to run, or when ring, timers and post box are due.
 *
 * Whoever could wake a task might run it at once on another thread, so nothing may be published before its registers
 * are saved: the leaving task notes what is to become of it (after), and the next context, as the first thing it does,
 * carries that out (switch_finish).
 */
#include "sched/switch.h"
#include "sched/context.h"
#include "sched/deque.h"
#include "sched/queue.h"

#include <mote/info.h>
#include <mote/process.h>

#ifdef MOTE_TSAN
#include <sanitizer/tsan_interface.h>
#endif
#ifdef MOTE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#define FRESH_TURN	16
#define LIFO_STREAK	16		/* wakes in a row that may overtake the queue */

static inline void task_set_state(struct task *t, int state, int wait)
{
	/* relaxed: for mote_process_info() only */
	atomic_store_explicit(&t->state, (uint8_t)state, memory_order_relaxed);
	atomic_store_explicit(&t->wait, (uint8_t)wait, memory_order_relaxed);
}

static void bound_push(struct scheduler *s, struct task *t)
{
	t->next = NULL;
	*s->bound_last = t;
	s->bound_last = &t->next;
}

/* On its first worker's thread only: while that is away, it waits. */
static void pinned_push(struct scheduler *s, struct task *t)
{
	t->next = NULL;
	*s->pinned_last = t;
	s->pinned_last = &t->next;
}

static struct task *bound_take(struct scheduler *s)
{
	struct task *t = s->bound_first;

	s->bound_first = t->next;
	if (!s->bound_first)
		s->bound_last = &s->bound_first;
	return t;
}

void scheduler_queue(struct scheduler *s, struct task *t)
{
	if (unlikely(t->priority != MOTE_PRIORITY_NORMAL))
		s->mixed = true;
	if (unlikely(t->flags & TASK_PINNED) && atomic_load_explicit(&s->worker, memory_order_relaxed) != s->owner)
		pinned_push(s, t);
	/* The list of bound tasks needs no memory: so it also takes in what a queue could not grow for. */
	else if (unlikely((t->flags & (TASK_PINNED | TASK_BOUND)) || !run_queue_push(s->queues[t->priority], t)))
		bound_push(s, t);
	else if (!s->alone)
		scheduler_wake_one(s);
}

static inline struct task *lifo_take(struct scheduler *s)
{
	struct task *t = atomic_load_explicit(&s->lifo, memory_order_relaxed);

	if (!t)
		return NULL;
	if (s->alone)
		atomic_store_explicit(&s->lifo, NULL, memory_order_relaxed);
	else	/* a thief may be faster; acquire: pairs with task_ready() on another thread, never needed here */
		t = atomic_exchange_explicit(&s->lifo, NULL, memory_order_acq_rel);
	return t;
}

/*
 * Spawned tasks run newest first: a tree of processes then goes depth first, with a handful of stacks in use instead of
 * one for each leaf. Thieves take the oldest; the oldest also gets its turn here every FRESH_TURN picks.
 */
void task_spawned(struct scheduler *s, struct task *t)
{
	if (unlikely(!s || t->priority != MOTE_PRIORITY_NORMAL || (t->flags & TASK_PINNED))) {
		task_ready(s, t, false);
		return;
	}
	task_set_state(t, MOTE_RUNNABLE, MOTE_WAIT_NONE);
	if (unlikely(!deque_push(&s->fresh, t)))
		scheduler_queue(s, t);
	if (!s->alone)
		scheduler_wake_one(s);
}

static struct task *pick_mixed(struct scheduler *s)
{
	struct task *t = run_queue_take(s->queues[MOTE_PRIORITY_HIGH]);

	if (!t && !(++s->low_turn & 7))
		t = run_queue_take(s->queues[MOTE_PRIORITY_LOW]);
	return t;
}

struct task *scheduler_pick(struct scheduler *s)
{
	struct task *t;

	if (unlikely(s->mixed) && (t = pick_mixed(s)))
		return t;
	t = lifo_take(s);
	if (t) {
		if (likely(s->lifo_streak++ < LIFO_STREAK))
			return t;
		scheduler_queue(s, t);
	}
	s->lifo_streak = 0;
	/* Turn about with the run queue, or those who yield without end would hold up the new ones. */
	if (++s->fresh_turn & 1 && (t = deque_take(&s->fresh, s->alone)))
		return t;
	if (!(s->fresh_turn % FRESH_TURN) && (t = deque_steal(&s->fresh)))
		return t;
	if (unlikely(s->bound_first) && (s->bound_turn ^= 1))
		return bound_take(s);
	t = run_queue_take(s->queues[MOTE_PRIORITY_NORMAL]);
	if (t)
		return t;
	t = deque_take(&s->fresh, s->alone);
	if (t)
		return t;
	if (s->bound_first)
		return bound_take(s);
	return s->mixed ? run_queue_take(s->queues[MOTE_PRIORITY_LOW]) : NULL;
}

static void stack_release(struct scheduler *s, struct task *t)
{
#ifdef MOTE_TSAN
	/* Its shadow call stack still has the frames of the tenant that left. */
	__tsan_destroy_fiber(t->stack->fiber);
	t->stack->fiber = NULL;
#endif
	if (unlikely(t->stack->opened))
		stack_close(t->stack);
	stack_put(&s->stacks, t->stack);
	t->stack = NULL;
	__atomic_store_n(&t->sp, NULL, __ATOMIC_RELAXED);	/* run_queue_take() peeks at it */
}

static inline void publish_parked(struct scheduler *s, struct task *t)
{
	uint64_t empty = 0;

	/*
	 * release: whoever replaces PARKED (acquire) sees the saved context and all that the task wrote.
	 * Failure: something was pushed while the context was being saved, and its sender saw no PARKED.
	 */
	if (!atomic_compare_exchange_strong_explicit(&t->inbox, &empty, TASK_PARKED, memory_order_release,
						     memory_order_relaxed)) {
		task_set_state(t, MOTE_RUNNABLE, MOTE_WAIT_NONE);
		scheduler_queue(s, t);
	}
}

static inline void switch_finish(struct scheduler *s)
{
	struct task *t = s->leaving;

	if (!t)
		return;
	s->leaving = NULL;
	switch (s->after) {
	case AFTER_PARK:
		publish_parked(s, t);
		break;
	case AFTER_YIELD:
		scheduler_queue(s, t);
		break;
	case AFTER_REST:
		stack_release(s, t);
		publish_parked(s, t);
		break;
	case AFTER_EXIT:
		stack_release(s, t);
		task_hooks->gone(s, t);
		break;
	}
}

/* The sanitizers keep a shadow of each stack and must be told of every switch. NULL: the worker's own. */
static void sanitizer_leave(struct worker *w, struct stack *from, struct stack *to, bool for_good)
{
#ifdef MOTE_ASAN
	void **fake = for_good ? NULL : from ? &from->fake : &w->fake;

	if (to)
		__sanitizer_start_switch_fiber(fake, to->base, stack_size(to));
	else
		__sanitizer_start_switch_fiber(fake, w->stack_bottom, w->stack_length);
#endif
#ifdef MOTE_TSAN
	if (to && !to->fiber)
		to->fiber = __tsan_create_fiber(0);
	__tsan_switch_to_fiber(to ? to->fiber : w->fiber, 0);
#endif
	(void)w;
	(void)from;
	(void)to;
	(void)for_good;
}

static void sanitizer_arrive(struct worker *w, struct stack *here, bool fresh)
{
#ifdef MOTE_ASAN
	__sanitizer_finish_switch_fiber(fresh ? NULL : here ? here->fake : w->fake, NULL, NULL);
#endif
	(void)w;
	(void)here;
	(void)fresh;
}

static void task_first_entry(void *arg)
{
	struct scheduler *s = scheduler_self();
	struct task *t = arg;

	sanitizer_arrive(NULL, t->stack, true);
	switch_finish(s);
	task_hooks->enter(t);
	__builtin_unreachable();
}

static bool task_prepare_fresh(struct scheduler *s, struct task *t)
{
	int err;

	t->stack = stack_get(&s->stacks, t->stack_class, &err);
	if (unlikely(!t->stack)) {
		task_hooks->no_stack(s, t, err);
		return false;
	}
#ifdef MOTE_ASAN
	__asan_unpoison_memory_region(t->stack->base, stack_size(t->stack));
#endif
	__atomic_store_n(&t->sp, context_prepare(t->stack->top, task_first_entry, t), __ATOMIC_RELAXED);
	return true;
}

/* Makes t ready to be switched to. False: it got no stack, and core has been told. */
static inline bool task_prepare(struct scheduler *s, struct task *t)
{
	return likely(t->sp) || task_prepare_fresh(s, t);
}

static inline void task_set_running(struct scheduler *s, struct worker *w, struct task *t)
{
	s->current = t;
	s->budget = attack_shorten(&s->chance, s->slice);
	counter_add(&s->generation, 1);
	/* relaxed: for this thread's signal handlers, which look at it only in USER */
	atomic_store_explicit(&w->task, t, memory_order_relaxed);
	if (atomic_load_explicit(&t->home, memory_order_relaxed) != s->index)
		atomic_store_explicit(&t->home, (uint16_t)s->index, memory_order_relaxed);
	task_set_state(t, MOTE_RUNNING, MOTE_WAIT_NONE);
	counter_add(&s->switches, 1);
}

bool scheduler_run(struct scheduler *s, struct worker *w, struct task *t)
{
	if (!task_prepare(s, t))
		return true;
	task_set_running(s, w, t);
	sanitizer_leave(w, NULL, t->stack, false);
	mote_switch(&w->sp, t->sp);
	sanitizer_arrive(w, NULL, false);
	/* Written by whoever took s away, before runtime_enter() let the task come back. */
	if (unlikely(w->scheduler != s))
		return false;
	atomic_store_explicit(&w->task, NULL, memory_order_relaxed);
	switch_finish(s);
	return true;
}

struct scheduler *task_come_back(struct worker *w)
{
	struct task *self = atomic_load_explicit(&w->task, memory_order_relaxed);
	struct scheduler *s;

	sanitizer_leave(w, self->stack, NULL, false);
	mote_switch(&self->sp, w->sp);
	s = scheduler_self();
	sanitizer_arrive(NULL, self->stack, false);
	switch_finish(s);
	return s;
}

/* Leaves the calling task; returns when somebody has switched back to it, perhaps on another thread. */
static inline __attribute__((always_inline)) void task_leave(struct scheduler *s, struct task *self, enum task_after after)
{
	struct worker *w = atomic_load_explicit(&s->worker, memory_order_relaxed);
	struct stack *stack = self->stack;
	struct task *next = NULL;

	/* Order per pair: what self has sent is out before self can run, and send, elsewhere. */
	if (unlikely(atomic_load_explicit(&s->holds_back, memory_order_relaxed)))
		task_hooks->flush(s, s);

	/*
	 * With several priorities a yielding task has to be queued before the next is picked: that takes the loop, since
	 * it may only be queued once its context is saved.
	 */
	if (likely(--s->ticks > 0) && !(after == AFTER_YIELD && s->mixed)) {
		do
			next = scheduler_pick(s);
		while (next && !task_prepare(s, next));
		if (!next && after == AFTER_YIELD) {
			s->budget = s->slice;
			return;
		}
	}
	if (after == AFTER_YIELD)
		task_set_state(self, MOTE_RUNNABLE, MOTE_WAIT_NONE);
	s->leaving = self;
	s->after = after;
	sanitizer_leave(w, stack, next ? next->stack : NULL, after >= AFTER_REST);
	if (next) {
		task_set_running(s, w, next);
		mote_switch(&self->sp, next->sp);
	} else {
		s->current = NULL;
		mote_switch(&self->sp, w->sp);
	}
	s = scheduler_self();
	sanitizer_arrive(NULL, stack, false);
	switch_finish(s);
}

void task_park(struct scheduler *s, int why)
{
	struct task *self = s->current;
	uint64_t inbox = atomic_load_explicit(&self->inbox, memory_order_relaxed);

	/* acquire: pairs with the nudge of task_wake(). A push in between makes the exchange fail, and is as good. */
	if (unlikely(inbox == TASK_NUDGED))
		atomic_compare_exchange_strong_explicit(&self->inbox, &inbox, 0, memory_order_acquire,
							memory_order_relaxed);
	if (inbox)
		return;
	task_set_state(self, MOTE_WAITING, why);
	task_leave(s, self, AFTER_PARK);
}

void task_yield(struct scheduler *s)
{
	task_leave(s, s->current, AFTER_YIELD);
}

void task_rest(struct scheduler *s)
{
	task_set_state(s->current, MOTE_WAITING, MOTE_WAIT_MESSAGE);
	task_leave(s, s->current, AFTER_REST);
	__builtin_unreachable();
}

void task_exit(struct scheduler *s)
{
	task_leave(s, s->current, AFTER_EXIT);
	__builtin_unreachable();
}

void task_ready(struct scheduler *s, struct task *t, bool next)
{
	unsigned int home = atomic_load_explicit(&t->home, memory_order_relaxed);
	struct task *evicted;

	task_set_state(t, MOTE_RUNNABLE, MOTE_WAIT_NONE);
	if (unlikely((t->flags & (TASK_PINNED | TASK_BOUND)) && !(s && home == s->index))) {
		scheduler_post_task(scheduler_at(home), t);
		return;
	}
	if (unlikely(!s)) {
		scheduler_post_anywhere(t);
		return;
	}
	if (attack_now(&s->chance)) {
		if (t->flags & (TASK_PINNED | TASK_BOUND))
			scheduler_post_task(s, t);
		else
			scheduler_post_anywhere(t);
		return;
	}
	/* Its stack is needed soon: fetched while the waker goes on. */
	__builtin_prefetch(t->sp, 1);
	__builtin_prefetch((char *)t->sp + CACHE_LINE, 1);
	if (!next || t->priority != MOTE_PRIORITY_NORMAL || (t->flags & (TASK_PINNED | TASK_BOUND))) {
		scheduler_queue(s, t);
		return;
	}
	if (s->alone) {
		evicted = atomic_load_explicit(&s->lifo, memory_order_relaxed);
		atomic_store_explicit(&s->lifo, t, memory_order_relaxed);
	} else {
		/* release: a thief that takes t (acquire) sees all that made it runnable; acquire: for evicted */
		evicted = atomic_exchange_explicit(&s->lifo, t, memory_order_acq_rel);
	}
	if (evicted)
		scheduler_queue(s, evicted);
}

/*
 * A task that has looked at its condition, and is about to park, must not sleep over a wake: if it is not PARKED yet
 * its inbox is made non-empty, so that publish_parked() fails.
 */
void task_wake(struct scheduler *s, struct task *t)
{
	uint64_t inbox = atomic_load_explicit(&t->inbox, memory_order_relaxed), new;

	do {
		if (inbox != TASK_PARKED && inbox != 0)
			return;
		new = inbox == TASK_PARKED ? 0 : TASK_NUDGED;
		/* release: the task sees what the waker did before; acquire: pairs with publish_parked() */
	} while (!atomic_compare_exchange_weak_explicit(&t->inbox, &inbox, new, memory_order_acq_rel,
							memory_order_relaxed));
	if (inbox == TASK_PARKED)
		task_ready(s, t, true);
}

bool task_signals(struct task *t)
{
	return task_hooks->signals(t);
}

void task_die(struct task *t)
{
	task_hooks->die(t);
	__builtin_unreachable();
}

int task_clamp(struct task *t, int64_t *deadline)
{
	return unlikely(t->dying) ? task_hooks->clamp(t, deadline) : 0;
}
