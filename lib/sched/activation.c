// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What the kernel says is a hint, as is what the overseer sees: handover_take() decides. The sentry takes a
 * scheduler at once if something waits there. If nothing does, it looks again a little later, and takes it if
 * its worker has not moved: what will come, a completion or a timer, has somebody to come to then, and a short
 * wait for a lock costs nobody a scheduler.
 *
 * Programs whose threads wait for each other's locks all the time, in malloc() for instance, would be worse
 * off: after a few activations that were of no use nobody wants more of them for a while, and for longer if it
 * was so the last time, too.
 */
#include "sched/activation.h"
#include "sched/barrier.h"
#include "sched/clock.h"
#include "sched/handover.h"
#include "sched/scheduler.h"
#include "port/activate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECOND_LOOK_NS	100000
#define VAIN_MAX	4		/* between two looks of the overseer */
#define PAUSE_MAX	64		/* of its looks */

_Atomic uint32_t activation_wanted;

static _Atomic bool on;
static _Atomic uint64_t nr_taken, nr_vain;
static _Atomic unsigned int vain_lately;
static unsigned int pause_looks, paused_looks;	/* the overseer's */

/* A worker that was seen to block while nothing waited. */
struct suspect {
	struct scheduler *s;		/* NULL: none */
	uint64_t generation;
	int64_t again;			/* when to look */
};

void activation_start(void)
{
	bool here = barrier_asymmetric && activate_open();

	atomic_store(&nr_taken, 0);
	atomic_store(&nr_vain, 0);
	atomic_store(&vain_lately, 0);
	pause_looks = paused_looks = 0;
	atomic_store(&activation_wanted, here);
	atomic_store(&on, here);
}

void activation_stop(void)
{
	atomic_store(&on, false);
	atomic_store(&activation_wanted, 0);
	activate_close();
}

void activation_forget(void)
{
	atomic_store(&on, false);
	atomic_store(&activation_wanted, 0);
	activate_forget();
}

bool activation_on(void)
{
	return atomic_load_explicit(&on, memory_order_relaxed);
}

void activation_enlist(struct worker *w, unsigned int index)
{
	/* Without, it is the overseer's. */
	if (activation_on())
		activate_register(index, &w->mode, SLOT_USER, &w->want);
}

void activation_dismiss(void)
{
	if (activation_on())
		activate_unregister();
}

void activation_relieve(void)
{
	activate_wake();
}

struct activation_counts activation_counts(void)
{
	return (struct activation_counts){
		.taken = atomic_load_explicit(&nr_taken, memory_order_relaxed),
		.vain = atomic_load_explicit(&nr_vain, memory_order_relaxed),
	};
}

/* Hints, as all of `want`: an activation more or less does no harm. */
static void want_from_all(uint32_t want)
{
	atomic_store_explicit(&activation_wanted, want, memory_order_relaxed);
	for (unsigned int i = 0; i < workers_count(); i++) {
		struct worker *w = worker_at(i);

		if (w)
			atomic_store_explicit(&w->want, want && handover_holds(w), memory_order_relaxed);
	}
}

void activation_in_vain(void)
{
	atomic_fetch_add_explicit(&nr_vain, 1, memory_order_relaxed);
	if (atomic_fetch_add_explicit(&vain_lately, 1, memory_order_relaxed) + 1 == VAIN_MAX)
		want_from_all(0);
}

void activation_renew(void)
{
	if (atomic_load_explicit(&vain_lately, memory_order_relaxed) < VAIN_MAX) {
		atomic_store_explicit(&vain_lately, 0, memory_order_relaxed);
		pause_looks /= 2;
	} else if (++paused_looks > pause_looks) {
		paused_looks = 0;
		pause_looks = pause_looks < PAUSE_MAX / 2 ? 2 * pause_looks + 1 : PAUSE_MAX;
		atomic_store_explicit(&vain_lately, 0, memory_order_relaxed);
		want_from_all(1);
	}
}

/* With the lock of handover.h. False: self is not the sentry any more. */
static bool take(struct worker *self, struct scheduler *s, uint64_t generation, int64_t now)
{
	/* acquire: pairs with handover_return() */
	bool home = atomic_load_explicit(&s->owner->back, memory_order_acquire);

	if (!home && !worker_leave_watch(self))
		return false;
	if (handover_take(s, generation, home ? s->owner : self, now)) {
		counter_add(&nr_taken, 1);
		return home;
	}
	if (!home)
		worker_retire(self);
	return true;
}

/* False: self need not watch any longer. */
static bool look_at_blocked(struct worker *self, uint32_t id, struct suspect *suspect)
{
	struct worker *w = id < workers_count() ? worker_at(id) : NULL;
	struct scheduler *s = w ? handover_holds(w) : NULL;
	uint64_t generation;
	int64_t now;

	/* relaxed: a guess, which handover_take() makes sure of */
	if (!s || atomic_load_explicit(&w->mode, memory_order_relaxed) != SLOT_USER)
		return true;
	generation = atomic_load_explicit(&s->generation, memory_order_relaxed);
	now = clock_now();
	if (scheduler_waiting(s, now) || atomic_load_explicit(&s->holds_back, memory_order_relaxed))
		return take(self, s, generation, now);
	*suspect = (struct suspect){ s, generation, now + SECOND_LOOK_NS };
	return true;
}

/* It has not been woken since, or it sleeps anew. */
static bool still_blocked(struct worker *w)
{
	char text[256], *state;
	ssize_t n = -1;
	int fd;

	snprintf(text, sizeof(text), "/proc/self/task/%d/stat", w->tid);
	fd = open(text, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	if (n <= 0)
		return false;
	text[n] = 0;
	state = strrchr(text, ')');
	return state && (state[2] == 'S' || state[2] == 'D');
}

static bool look_again(struct worker *self, struct suspect *suspect)
{
	struct scheduler *s = suspect->s;
	/* acquire: pairs with worker_begun(), as in handover_take() */
	struct worker *w = atomic_load_explicit(&s->worker, memory_order_acquire);

	suspect->s = NULL;
	if (atomic_load_explicit(&w->mode, memory_order_relaxed) == SLOT_USER &&
	    atomic_load_explicit(&s->generation, memory_order_relaxed) == suspect->generation && still_blocked(w))
		return take(self, s, suspect->generation, clock_now());
	activation_in_vain();
	return true;
}

void activation_watch(struct worker *self)
{
	struct suspect suspect = { .s = NULL };
	bool watching;
	uint32_t id;
	int err;

	do {
		err = activate_wait(suspect.s ? suspect.again : INT64_MAX, &id);
		if (err && err != -ETIMEDOUT) {
			atomic_store_explicit(&on, false, memory_order_relaxed);
			return;
		}
		if (!err && id == ACTIVATE_NOBODY)
			return;
		handover_lock();
		watching = err ? look_again(self, &suspect) : look_at_blocked(self, id, &suspect);
		handover_unlock();
	} while (watching);
}
