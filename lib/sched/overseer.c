// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Two looks decide: a worker that has run one task at both, without a switch in between, is stuck with it, as far as the
 * task's neighbours are concerned. A look costs a few loads for each scheduler. The first sight of a worker that runs
 * something while something waits makes the second look come soon.
 *
 * Falling asleep is the waking protocol of scheduler.c once more: publish `asleep`, barrier_heavy, look whether all are
 * parked; there, publish "not parked", barrier_light, look at `asleep`.
 */
#include "sched/overseer.h"
#include "sched/activation.h"
#include "sched/barrier.h"
#include "sched/clock.h"
#include "sched/handover.h"
#include "sched/scheduler.h"

#include <mote/info.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define LOOK_MIN_NS	INT64_C(1000000)
#define LOOK_MAX_NS	INT64_C(10000000)
#define QUIET_LOOKS	8		/* so many in a row without a switch anywhere, and it sleeps */
#define WARY_LOOKS	32		/* so many frequent ones after a hand-over: who got stuck once may again */
#define INSIST_LOOKS	256		/* so many for a task to be interrupted, which may be in a call that blocks for ever */

_Atomic bool overseer_asleep;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;	/* hurry, ending */
static pthread_cond_t changed;
static bool hurry, ending, running;
static pthread_t thread;
static _Atomic uint64_t nr_handovers, nr_denied, nr_looks;

/* What the last look saw. */
static struct sight {
	uint64_t generation;
	bool running;
	bool denied;			/* counted already */
} *sights;

struct overseer_counts overseer_counts(void)
{
	return (struct overseer_counts){
		.handovers = atomic_load_explicit(&nr_handovers, memory_order_relaxed),
		.denied = atomic_load_explicit(&nr_denied, memory_order_relaxed),
		.looks = atomic_load_explicit(&nr_looks, memory_order_relaxed),
	};
}

/* With the lock of handover.h. */
static void hand_over(struct scheduler *s, struct sight *sight)
{
	struct worker *spare;
	bool full, home;

	/* acquire: pairs with handover_return() */
	home = atomic_load_explicit(&s->owner->back, memory_order_acquire);
	spare = home ? s->owner : worker_spare(&full);
	if (!spare) {
		if (full && !sight->denied) {
			sight->denied = true;
			counter_add(&nr_denied, 1);
		}
		handover_hasten(s);
		worker_prepare_spare();
	} else if (handover_take(s, sight->generation, spare, 0)) {
		sight->running = false;
		counter_add(&nr_handovers, 1);
		/* Where one got stuck others may follow. */
		worker_prepare_spare();
	} else if (!home) {
		worker_retire(spare);
	}
}

/* True: s should be looked at again soon. */
static bool look_at(struct scheduler *s, struct sight *sight, int64_t now, bool *moved)
{
	struct worker *w = atomic_load_explicit(&s->worker, memory_order_acquire);
	uint64_t generation = atomic_load_explicit(&s->generation, memory_order_relaxed);
	bool running = atomic_load_explicit(&w->task, memory_order_relaxed);
	bool stuck = running && sight->running && sight->generation == generation;

	*moved |= generation != sight->generation;
	if (sight->generation != generation)
		sight->denied = false;
	sight->generation = generation;
	sight->running = running;
	if (!running)
		return false;
	if (!stuck) {
		if (!scheduler_waiting(s, now))
			return false;
		worker_prepare_spare();
		return true;
	}
	if (!scheduler_rescue(s) && !scheduler_waiting(s, now))
		return false;
	if (!scheduler_waiting(s, now))
		return true;
	/* Without membarrier nothing can be taken away safely. */
	if (!barrier_asymmetric) {
		handover_hasten(s);
		return true;
	}
	handover_lock();
	hand_over(s, sight);
	handover_unlock();
	return true;
}

/* Also those whose scheduler was taken away. True: a task wants to be interrupted. */
static bool look_at_workers(void)
{
	bool wanted = false;

	for (unsigned int i = 0; i < workers_count(); i++) {
		struct worker *w = worker_at(i);
		struct task *t = w ? atomic_load_explicit(&w->task, memory_order_relaxed) : NULL;

		if (!t || atomic_load_explicit(&t->interrupt, memory_order_relaxed) != TASK_INTERRUPT_WANTED)
			continue;
		wanted = true;
		if (atomic_load_explicit(&w->mode, memory_order_relaxed) == SLOT_USER)
			task_hooks->overseen(t, w->tid);
	}
	return wanted;
}

/* False: nothing has run, or will by itself. */
static bool look(bool insist, bool *soon)
{
	bool moved = false, wanted = look_at_workers();
	int64_t now = clock_now();

	*soon = wanted && insist;
	for (unsigned int i = 0; i < schedulers_count(); i++)
		*soon |= look_at(scheduler_at(i), &sights[i], now, &moved);
	if (activation_on()) {
		activation_renew();
		worker_next_sentry();
		worker_prepare_spare();
	}
	counter_add(&nr_looks, 1);
	return moved || wanted || *soon || !schedulers_all_parked();
}

static void until_in(struct timespec *until, int64_t ns)
{
	ns += clock_real();
	until->tv_sec = ns / 1000000000;
	until->tv_nsec = ns % 1000000000;
}

/* With the mutex held. */
static void sleep_long(void)
{
	atomic_store_explicit(&overseer_asleep, true, memory_order_relaxed);
	barrier_heavy();
	while (schedulers_all_parked() && !hurry && !ending &&
	       atomic_load_explicit(&overseer_asleep, memory_order_relaxed))
		pthread_cond_wait(&changed, &mutex);
	atomic_store_explicit(&overseer_asleep, false, memory_order_relaxed);
}

static void *overseer_main(void *unused)
{
	int64_t period = LOOK_MIN_NS;
	unsigned int quiet = 0, wary = 0, insist = 0;
	uint64_t handovers = 0;
	struct timespec until;
	bool soon;

	(void)unused;
	pthread_setname_np(pthread_self(), "mote/overseer");
	pthread_mutex_lock(&mutex);
	while (!ending) {
		if (quiet >= QUIET_LOOKS) {
			sleep_long();
			quiet = 0;
			period = LOOK_MIN_NS;
		}
		until_in(&until, period);
		while (!hurry && !ending && pthread_cond_timedwait(&changed, &mutex, &until) != ETIMEDOUT)
			;
		insist = hurry ? INSIST_LOOKS : insist - (insist > 0);
		hurry = false;
		pthread_mutex_unlock(&mutex);
		quiet = look(insist, &soon) ? 0 : quiet + 1;
		if (handovers != atomic_load_explicit(&nr_handovers, memory_order_relaxed))
			wary = WARY_LOOKS;
		handovers = atomic_load_explicit(&nr_handovers, memory_order_relaxed);
		if (soon || wary) {
			period = LOOK_MIN_NS;
			wary -= wary > 0;
		} else {
			period = 2 * period < LOOK_MAX_NS ? 2 * period : LOOK_MAX_NS;
		}
		pthread_mutex_lock(&mutex);
	}
	pthread_mutex_unlock(&mutex);
	return NULL;
}

int overseer_start(void)
{
	pthread_condattr_t attr;
	int err;

	sights = calloc(schedulers_count(), sizeof(*sights));
	if (!sights)
		return -ENOMEM;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&changed, &attr);
	pthread_condattr_destroy(&attr);
	hurry = ending = false;
	atomic_store(&nr_handovers, 0);
	atomic_store(&nr_denied, 0);
	atomic_store(&nr_looks, 0);
	err = -pthread_create(&thread, NULL, overseer_main, NULL);
	running = !err;
	if (err)
		free(sights);
	return err;
}

void overseer_stop(void)
{
	if (!running)
		return;
	pthread_mutex_lock(&mutex);
	ending = true;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&mutex);
	pthread_join(thread, NULL);
	running = false;
	free(sights);
}

void overseer_forget(void)
{
	pthread_mutex_init(&mutex, NULL);
	atomic_store(&overseer_asleep, false);
	running = false;
}

void overseer_hurry(void)
{
	pthread_mutex_lock(&mutex);
	hurry = true;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&mutex);
}

void overseer_wake(void)
{
	pthread_mutex_lock(&mutex);
	atomic_store_explicit(&overseer_asleep, false, memory_order_relaxed);
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&mutex);
}
