// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Threads. Spares are made when a scheduler is first found stuck, so that one is ready when it has to be taken away, and
 * stay: the kernel would cancel what an ending thread has under way in a ring.
 */
#include "sched/worker.h"
#include "sched/activation.h"
#include "sched/handover.h"
#include "sched/scheduler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#ifdef MOTE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define SPARE_STACK	(256 << 10)

__thread struct worker mote_worker;

/* idle, sentry, watching, starting, leaving, and each worker's offer */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct worker *idle;
static struct worker *sentry;			/* the spare, not among the idle, that waits for activations */
static struct worker *watching;			/* who is in activation_watch(): one at a time, and the sentry at first */
static unsigned int starting;			/* spares whose threads have not begun */
static bool leaving;
static pthread_cond_t first_begun = PTHREAD_COND_INITIALIZER;
static unsigned int nr_begun;			/* of the first workers */
static int begin_err;
static struct {
	pthread_t thread;
	_Atomic(struct worker *) worker;
} *workers;
static _Atomic unsigned int nr_workers;		/* threads made */
static unsigned int max_workers;
static _Atomic unsigned int nr_left;		/* threads that are about to end */

#if !defined(__x86_64__)
__attribute__((noinline)) struct worker *worker_self(void)
{
	__asm__ volatile("" ::: "memory");
	return &mote_worker;
}
#endif

#if !defined(__x86_64__) || defined(MOTE_CHECKED)
__attribute__((noinline)) struct scheduler *scheduler_self(void)
{
	__asm__ volatile("" ::: "memory");
#ifdef MOTE_CHECKED
	/* It may be taken away at any moment there. */
	if (mote_worker.task && mote_worker.mode == SLOT_USER)
		mote_fatal("the library uses its scheduler outside of the runtime");
#endif
	return mote_worker.scheduler;
}
#endif

#ifdef MOTE_ASAN
static void note_own_stack(struct worker *w)
{
	pthread_attr_t attr;
	void *bottom;

	if (pthread_getattr_np(pthread_self(), &attr))
		return;
	pthread_attr_getstack(&attr, &bottom, &w->stack_length);
	w->stack_bottom = bottom;
	pthread_attr_destroy(&attr);
}
#endif

static void worker_init(struct worker *w)
{
	memset(w, 0, sizeof(*w));
	w->tid = gettid();
	w->ring_index = -1;
	pthread_cond_init(&w->offered, NULL);
	/* Never USER without a scheduler: nobody need look at the rest then. */
	atomic_store_explicit(&w->mode, SLOT_RUNTIME, memory_order_relaxed);
#ifdef MOTE_ASAN
	note_own_stack(w);
#endif
#ifdef MOTE_TSAN
	w->fiber = __tsan_get_current_fiber();
#endif
}

/* With the mutex. */
static void idle_put(struct worker *w)
{
	if (activation_on() && !sentry) {
		sentry = w;
		pthread_cond_signal(&w->offered);
	} else {
		w->next_idle = idle;
		idle = w;
	}
}

/* With the mutex. The sentry comes last: what the overseer takes away has waited already. */
static struct worker *idle_get(void)
{
	struct worker *w = idle;

	if (w) {
		idle = w->next_idle;
	} else {
		w = sentry;
		sentry = NULL;
	}
	return w;
}

/* With the mutex, which is given up meanwhile. */
static void watch(struct worker *w)
{
	watching = w;
	pthread_mutex_unlock(&mutex);
	activation_watch(w);
	pthread_mutex_lock(&mutex);
	watching = NULL;
	if (sentry)
		pthread_cond_signal(&sentry->offered);
}

/* What w is to run next; NULL: it has to leave. */
static struct scheduler *worker_await_offer(struct worker *w)
{
	struct scheduler *s;

	pthread_mutex_lock(&mutex);
	while (!w->offer && !leaving) {
		if (sentry == w && !watching && activation_on())
			watch(w);
		else
			pthread_cond_wait(&w->offered, &mutex);
	}
	s = w->offer;
	w->offer = NULL;
	pthread_mutex_unlock(&mutex);
	return s;
}

void worker_offer(struct worker *w, struct scheduler *s)
{
	bool watches;

	pthread_mutex_lock(&mutex);
	w->offer = s;
	watches = watching == w;
	if (!watches)
		pthread_cond_signal(&w->offered);
	pthread_mutex_unlock(&mutex);
	if (watches && w != worker_self())
		activation_relieve();
}

void worker_retire(struct worker *w)
{
	pthread_mutex_lock(&mutex);
	idle_put(w);
	pthread_mutex_unlock(&mutex);
}

void worker_next_sentry(void)
{
	if (!activation_on())
		return;
	pthread_mutex_lock(&mutex);
	if (idle && !sentry) {
		sentry = idle;
		idle = idle->next_idle;
		pthread_cond_signal(&sentry->offered);
	}
	pthread_mutex_unlock(&mutex);
}

bool worker_leave_watch(struct worker *w)
{
	bool was;

	pthread_mutex_lock(&mutex);
	was = sentry == w && !leaving;
	if (was)
		sentry = NULL;
	pthread_mutex_unlock(&mutex);
	return was;
}

static void worker_run(struct worker *w)
{
	struct scheduler *s;

	while ((s = worker_await_offer(w))) {
		switch (scheduler_serve(s, w)) {
		case SERVED_STOPPED:
			return;
		case SERVED_LOST:
			handover_return(w);
			break;
		case SERVED_HANDED_HOME:
			worker_offer(atomic_load_explicit(&s->worker, memory_order_relaxed), s);
			worker_retire(w);
			break;
		}
	}
}

static void worker_begun(struct worker *w, unsigned int index, int err)
{
	pthread_mutex_lock(&mutex);
	if (index >= schedulers_count()) {
		starting--;
		if (!err)
			idle_put(w);
	} else {
		if (!err) {
			w->home = w->offer = scheduler_at(index);
			w->home->owner = w;
			/* release: the overseer sees the worker whole */
			atomic_store_explicit(&w->home->worker, w, memory_order_release);
		} else {
			begin_err = err;
		}
		nr_begun++;
		pthread_cond_signal(&first_begun);
	}
	atomic_store_explicit(&workers[index].worker, w, memory_order_release);
	pthread_mutex_unlock(&mutex);
}

static void *worker_main(void *arg)
{
	unsigned int index = (unsigned int)(uintptr_t)arg;
	struct worker *w = worker_self();
	char name[16];
	int err;

	worker_init(w);
	snprintf(name, sizeof(name), "mote/%u", index);
	pthread_setname_np(pthread_self(), name);
	err = task_hooks->thread_begin();
	if (!err)
		activation_enlist(w, index);
	worker_begun(w, index, err);
	if (!err) {
		worker_run(w);
		activation_dismiss();
		/* A signal handler has no task of ours to look at any more. */
		task_hooks->thread_end();
	}
	atomic_store_explicit(&workers[index].worker, NULL, memory_order_release);
	w->scheduler = NULL;
	atomic_store_explicit(&w->entry, NULL, memory_order_relaxed);
	/* release: schedulers_stop() sees all that the thread did */
	atomic_fetch_add_explicit(&nr_left, 1, memory_order_release);
	return NULL;
}

static int worker_start(const pthread_attr_t *attr)
{
	unsigned int index = atomic_load_explicit(&nr_workers, memory_order_relaxed);
	int err = -pthread_create(&workers[index].thread, attr, worker_main, (void *)(uintptr_t)index);

	if (!err)
		atomic_store_explicit(&nr_workers, index + 1, memory_order_release);
	return err;
}

int workers_start(unsigned int n, unsigned int max_spares)
{
	int err = 0;

	max_workers = n + max_spares;
	workers = calloc(max_workers, sizeof(*workers));
	if (!workers)
		return -ENOMEM;
	for (unsigned int i = 0; i < n && !err; i++)
		err = worker_start(NULL);
	pthread_mutex_lock(&mutex);
	while (nr_begun < atomic_load_explicit(&nr_workers, memory_order_relaxed))
		pthread_cond_wait(&first_begun, &mutex);
	if (!err)
		err = begin_err;
	pthread_mutex_unlock(&mutex);
	if (!err && activation_on())
		worker_prepare_spare();
	return err;
}

int worker_enlist(void)
{
	struct worker *w = worker_self();

	worker_init(w);
	for (unsigned int i = 0; i < schedulers_count(); i++) {
		struct scheduler *s = scheduler_at(i);

		s->owner = w;
		atomic_store_explicit(&s->worker, w, memory_order_release);
	}
	return task_hooks->thread_begin();
}

void worker_discharge(void)
{
	struct worker *w = worker_self();

	task_hooks->thread_end();
	w->scheduler = NULL;
	atomic_store_explicit(&w->entry, NULL, memory_order_relaxed);
}

struct worker *worker_spare(bool *full)
{
	struct worker *w;

	pthread_mutex_lock(&mutex);
	w = idle_get();
	*full = !w && !starting && atomic_load_explicit(&nr_workers, memory_order_relaxed) == max_workers;
	pthread_mutex_unlock(&mutex);
	return w;
}

void worker_prepare_spare(void)
{
	pthread_attr_t attr;
	bool wanted;

	pthread_mutex_lock(&mutex);
	wanted = !idle && !sentry && !starting && !leaving &&
		 atomic_load_explicit(&nr_workers, memory_order_relaxed) < max_workers;
	if (wanted)
		starting++;
	pthread_mutex_unlock(&mutex);
	if (!wanted)
		return;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, SPARE_STACK);
	if (worker_start(&attr)) {
		pthread_mutex_lock(&mutex);
		starting--;
		pthread_mutex_unlock(&mutex);
	}
	pthread_attr_destroy(&attr);
}

bool workers_stop(int64_t deadline_ns)
{
	unsigned int n = atomic_load_explicit(&nr_workers, memory_order_acquire);
	struct timespec pause = { .tv_nsec = 200000 };
	bool watches;

	pthread_mutex_lock(&mutex);
	leaving = true;
	for (unsigned int i = 0; i < n; i++) {
		struct worker *w = worker_at(i);

		if (w)
			pthread_cond_signal(&w->offered);
	}
	watches = watching;
	pthread_mutex_unlock(&mutex);
	if (watches)
		activation_relieve();
	/* acquire: what the workers did is seen before anything of theirs is freed */
	while (atomic_load_explicit(&nr_left, memory_order_acquire) < n) {
		if (clock_now() >= deadline_ns) {
			/* They stay as they are, for good: nobody will join them. */
			for (unsigned int i = 0; i < n; i++)
				pthread_detach(workers[i].thread);
			return false;
		}
		nanosleep(&pause, NULL);
	}
	for (unsigned int i = 0; i < n; i++)
		pthread_join(workers[i].thread, NULL);
	free(workers);
	workers_forget();
	return true;
}

void workers_forget(void)
{
	pthread_mutex_init(&mutex, NULL);
	idle = sentry = watching = NULL;
	starting = nr_begun = 0;
	begin_err = 0;
	leaving = false;
	workers = NULL;
	max_workers = 0;
	atomic_store(&nr_workers, 0);
	atomic_store(&nr_left, 0);
	memset(&mote_worker, 0, sizeof(mote_worker));
}

unsigned int workers_count(void)
{
	return atomic_load_explicit(&nr_workers, memory_order_acquire);
}

struct worker *worker_at(unsigned int index)
{
	return atomic_load_explicit(&workers[index].worker, memory_order_acquire);
}
