// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Claim, take, come back, and go home.
 *
 * Each scheduler has a first worker, whose thread alone may run pinned processes. A spare serves it while that one is
 * away, keeps what is pinned apart, and gives the scheduler back when the first worker has returned. So a
 * pinned process always has the same thread, and a scheduler is away from home only while its worker is stuck.
 */
#include "sched/handover.h"
#include "sched/activation.h"
#include "sched/barrier.h"
#include "sched/clock.h"
#include "sched/switch.h"

#include <mote/info.h>

#include <pthread.h>
#include <sched.h>

/* They run nothing: runtime_enter() then looks closer. */
static struct scheduler overdue, claimed, taken, doomed;
#define OVERDUE (&overdue)
#define CLAIMED (&claimed)
#define TAKEN (&taken)
#define DOOMED (&doomed)

static pthread_mutex_t takers = PTHREAD_MUTEX_INITIALIZER;

void handover_lock(void)
{
	pthread_mutex_lock(&takers);
}

void handover_unlock(void)
{
	pthread_mutex_unlock(&takers);
}

void handover_forget(void)
{
	pthread_mutex_init(&takers, NULL);
}

struct scheduler *handover_holds(struct worker *w)
{
	/* acquire: pairs with scheduler_adopt() */
	struct scheduler *s = atomic_load_explicit(&w->entry, memory_order_acquire);

	return s == OVERDUE || s == CLAIMED || s == TAKEN || s == DOOMED ? NULL : s;
}

bool handover_take(struct scheduler *s, uint64_t generation, struct worker *spare, int64_t activated)
{
	/* acquire: pairs with worker_begun(), come_home() and with the store below */
	struct worker *w = atomic_load_explicit(&s->worker, memory_order_acquire);
	struct scheduler *entry = s;
	struct task *t;

	/* relaxed: the barrier orders it before what follows. It fails while w is between schedulers, or veiled. */
	while (!atomic_compare_exchange_weak_explicit(&w->entry, &entry, CLAIMED, memory_order_relaxed,
						      memory_order_relaxed)) {
		if (entry != s && entry != OVERDUE)
			return false;
	}
	barrier_heavy();
	/*
	 * acquire: pairs with the release in runtime_leave(). USER, read after the barrier: w will find the claim when it
	 * enters, and what it did to s before is seen here. The generation cannot change then.
	 */
	if (atomic_load_explicit(&w->mode, memory_order_acquire) != SLOT_USER ||
	    atomic_load_explicit(&s->generation, memory_order_relaxed) != generation) {
		/* It fails if w has left s for good meanwhile. release: w waits for it with acquire. */
		entry = CLAIMED;
		atomic_compare_exchange_strong_explicit(&w->entry, &entry, OVERDUE, memory_order_release,
							memory_order_relaxed);
		return false;
	}
	t = s->current;
	s->current = NULL;
	/* relaxed: for mote_process_info() only */
	atomic_store_explicit(&t->state, MOTE_DETACHED, memory_order_relaxed);
	w->scheduler = NULL;
	w->activated = activated;
	atomic_store_explicit(&w->want, 0, memory_order_relaxed);
	/* release: the next look of ours, or of mote_runtime_info() */
	atomic_store_explicit(&s->worker, spare, memory_order_release);
	/* release: w must not find s->current, or w->scheduler, as they were */
	atomic_store_explicit(&w->entry, TAKEN, memory_order_release);
	worker_offer(spare, s);
	return true;
}

void handover_hasten(struct scheduler *s)
{
	struct scheduler *entry = s;

	/* relaxed: w alone acts on it, and has nothing to see of ours */
	atomic_compare_exchange_strong_explicit(&atomic_load_explicit(&s->worker, memory_order_acquire)->entry, &entry,
						OVERDUE, memory_order_relaxed, memory_order_relaxed);
}

void handover_doom(struct worker *w)
{
	atomic_store_explicit(&w->entry, DOOMED, memory_order_relaxed);
}

/* What handover_take() does from outside. */
static void give_up(struct worker *w)
{
	w->scheduler->current = NULL;
	w->scheduler = NULL;
}

struct scheduler *runtime_enter_slow(struct worker *w, const char *name)
{
	struct scheduler *s;

	/* acquire: pairs with the stores in handover_take() */
	while ((s = atomic_load_explicit(&w->entry, memory_order_acquire)) == CLAIMED || s == OVERDUE) {
		if (s == CLAIMED) {
			sched_yield();
		} else if (atomic_compare_exchange_weak_explicit(&w->entry, &s, w->scheduler, memory_order_acquire,
								 memory_order_relaxed)) {
			task_yield(w->scheduler);
			return scheduler_self();
		}
	}
	if (s == DOOMED)
		give_up(w);
	if (s == TAKEN || s == DOOMED)
		return task_come_back(w);
	if (!s || !s->current)
		runtime_misuse(name);
	return s;
}

struct scheduler *runtime_veil(void)
{
	struct worker *w = worker_self();
	struct scheduler *s = w->scheduler, *entry;

	if (!s)
		return NULL;
	/* A claim is withdrawn soon: w is in the runtime. Other signs are forgotten. */
	do {
		entry = atomic_load_explicit(&w->entry, memory_order_relaxed);
	} while (entry == CLAIMED ||
		 !atomic_compare_exchange_weak_explicit(&w->entry, &entry, NULL, memory_order_acquire,
							memory_order_relaxed));
	w->scheduler = NULL;
	return s;
}

void runtime_unveil(struct scheduler *s)
{
	struct worker *w = worker_self();

	if (!s)
		return;
	w->scheduler = s;
	atomic_store_explicit(&w->entry, s, memory_order_relaxed);
}

/* On the worker that serves s meanwhile, between two tasks; or on the owner, if the overseer was faster. */
static void come_home(struct scheduler *s, struct work *work)
{
	struct worker *owner = container_of(work, struct worker, come_home), *w = worker_self();

	if (w == owner)
		return;
	/* Never again USER with s: nobody claims it. */
	atomic_store_explicit(&w->entry, NULL, memory_order_relaxed);
	/* release: see handover_take() */
	atomic_store_explicit(&s->worker, owner, memory_order_release);
}

void handover_return(struct worker *w)
{
	struct task *t = atomic_load_explicit(&w->task, memory_order_relaxed);

	if (w->activated && activation_was_vain(clock_now() - w->activated))
		activation_in_vain();
	w->activated = 0;
	atomic_store_explicit(&w->task, NULL, memory_order_relaxed);
	atomic_store_explicit(&w->entry, NULL, memory_order_relaxed);
	if (w->home) {
		/* release: the overseer may offer it a scheduler from now on */
		atomic_store_explicit(&w->back, true, memory_order_release);
		w->come_home.run = come_home;
		scheduler_post_work(w->home, &w->come_home);
	} else {
		worker_retire(w);
	}
	/* Its context is saved: from here on it may run elsewhere. */
	task_ready(NULL, t, false);
}
