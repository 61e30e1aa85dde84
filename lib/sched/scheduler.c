// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The loop of a worker, looking for work elsewhere, and parking.
 *
 * Nobody is woken for a task that its waker will run next anyway (lifo); backlog in a queue wakes one scheduler, and
 * that one, when it has found something, the next: one waker at a time. Lost wake-ups are excluded by the order
 * publish, barrier_light, look at `parked` and `spinning` on one side, and publish those, barrier_heavy, look at all
 * queues on the other.
 */
#include "sched/switch.h"
#include "sched/activation.h"
#include "sched/barrier.h"
#include "sched/deque.h"
#include "sched/handover.h"
#include "sched/overseer.h"
#include "sched/queue.h"
#include "sched/replay.h"
#include "io/io.h"
#include "port/port.h"

#include <mote/process.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef MOTE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define SPIN_MAX_NS	20000
#define SPIN_MIN_NS	1000
#define STEAL_MAX	32
#define STARVED_NS	1000000		/* until those who could have no stack try again */
#define LIFO_STUCK_NS	5000		/* a neighbour has been in its own code for that long: its lifo may be taken */

const struct task_hooks *task_hooks;

static struct scheduler *schedulers[MAX_SCHEDULERS];
static unsigned int nr_schedulers;
static _Atomic unsigned int nr_spinning __attribute__((aligned(CACHE_LINE)));
static _Atomic unsigned int nr_parked;
static _Atomic bool stopping;
static _Atomic uint64_t foreign_id = 1;
static _Atomic(struct task *) posted_anywhere __attribute__((aligned(CACHE_LINE)));

void mote_fatal(const char *format, ...)
{
	char text[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text) - 1, format, args);
	va_end(args);
	if (n > (int)sizeof(text) - 2)
		n = sizeof(text) - 2;
	text[n++] = '\n';
	if (write(STDERR_FILENO, "mote: ", 6) < 0 || write(STDERR_FILENO, text, (size_t)n) < 0)
		abort();
	abort();
}

void runtime_misuse(const char *name)
{
	mote_fatal("%s() was called outside a mote process", name);
}

unsigned int schedulers_count(void)
{
	return nr_schedulers;
}

struct scheduler *scheduler_at(unsigned int index)
{
	return schedulers[index];
}

/* High bits: who made it; so no two schedulers ever make the same. 0 is never returned. */
uint64_t scheduler_unique_id(struct scheduler *s)
{
	if (likely(s))
		return (++s->next_id << 9) | (s->index + 1);
	return atomic_fetch_add_explicit(&foreign_id, 1, memory_order_relaxed) << 9;
}

/* Wakes s if it sleeps; of several callers one does. */
static bool scheduler_unpark(struct scheduler *s)
{
	uint32_t parked = 1;

	if (!atomic_compare_exchange_strong_explicit(&s->parked, &parked, 0, memory_order_acq_rel,
						     memory_order_relaxed))
		return false;
	atomic_fetch_sub_explicit(&nr_parked, 1, memory_order_relaxed);
	io_notify(s);
	return true;
}

void scheduler_wake_one(struct scheduler *s)
{
	barrier_light();
	if (likely(!atomic_load_explicit(&nr_parked, memory_order_relaxed) ||
		   atomic_load_explicit(&nr_spinning, memory_order_relaxed)))
		return;
	if (s->firing) {
		s->wake_due = true;
		return;
	}
	for (unsigned int i = 1; i < nr_schedulers; i++) {
		struct scheduler *other = schedulers[(s->index + i) % nr_schedulers];

		if (atomic_load_explicit(&other->parked, memory_order_relaxed) && scheduler_unpark(other)) {
			counter_add(&s->wakes, 1);
			return;
		}
	}
}

static void post_notify(struct scheduler *to)
{
	/* As in barrier.h, with a full fence: posts are rare, and a lone scheduler then parks without membarrier. */
	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&to->parked, memory_order_relaxed))
		scheduler_unpark(to);
}

void scheduler_nudge(unsigned int index)
{
	post_notify(schedulers[index]);
}

static void post(_Atomic(struct task *) *box, struct task *t)
{
	struct task *first = atomic_load_explicit(box, memory_order_relaxed);

	do
		t->next = first;
	while (!atomic_compare_exchange_weak_explicit(box, &first, t, memory_order_release, memory_order_relaxed));
}

void scheduler_post_task(struct scheduler *to, struct task *t)
{
	post(&to->posted, t);
	post_notify(to);
}

/* Not to the task's last scheduler: that one may be busy for long, in a process's own code. */
void scheduler_post_anywhere(struct task *t)
{
	replay_foreign();
	post(&posted_anywhere, t);
	/* As post_notify(). If nobody is parked, somebody will look before he parks. */
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned int i = 0; i < nr_schedulers; i++) {
		if (atomic_load_explicit(&schedulers[i]->parked, memory_order_relaxed) &&
		    scheduler_unpark(schedulers[i]))
			return;
	}
}

/*
 * Each try costs system calls. One tries, and twice as many each time if those before have got theirs: a crowd that has
 * no stacks leaves the CPU to those who have, and is soon served when there are stacks again.
 */
static void starved_try(struct scheduler *s, struct wheel_timer *timer)
{
	struct task *t;

	for (unsigned int n = s->starved_tries; n && (t = s->starved_first); n--) {
		s->starved_first = t->next;
		scheduler_queue(s, t);
	}
	s->starved_tries *= 2;
	if (s->starved_first)
		wheel_rearm(timer, clock_now() + STARVED_NS);
	else
		s->starved_last = &s->starved_first;
}

void scheduler_requeue(struct scheduler *s, struct task *t)
{
	bool first = !s->starved_first;

	t->next = NULL;
	*s->starved_last = t;
	s->starved_last = &t->next;
	s->starved_tries = 1;
	if (!first)
		return;
	s->starved_timer.fire = starved_try;
	wheel_arm(&s->wheel, &s->starved_timer, clock_now() + STARVED_NS);
}

void scheduler_post_work(struct scheduler *to, struct work *w)
{
	struct work *first = atomic_load_explicit(&to->works, memory_order_relaxed);

	do
		w->next = first;
	while (!atomic_compare_exchange_weak_explicit(&to->works, &first, w, memory_order_release,
						      memory_order_relaxed));
	post_notify(to);
}

static bool drain_box(struct scheduler *s, _Atomic(struct task *) *box)
{
	struct task *t, *next, *in_order = NULL;

	if (!atomic_load_explicit(box, memory_order_relaxed))
		return false;
	t = atomic_exchange_explicit(box, NULL, memory_order_acquire);
	for (; t; t = next) {
		next = t->next;
		t->next = in_order;
		in_order = t;
	}
	for (t = in_order; t; t = next) {
		next = t->next;
		scheduler_queue(s, t);
	}
	return true;
}

static bool drain_works(struct scheduler *s)
{
	struct work *w, *next, *in_order = NULL;

	if (!atomic_load_explicit(&s->works, memory_order_relaxed))
		return false;
	w = atomic_exchange_explicit(&s->works, NULL, memory_order_acquire);
	for (; w; w = next) {
		next = w->next;
		w->next = in_order;
		in_order = w;
	}
	for (w = in_order; w; w = next) {
		next = w->next;
		w->run(s, w);
	}
	return true;
}

static bool anything_here(struct scheduler *s)
{
	return atomic_load_explicit(&s->posted, memory_order_relaxed) ||
	       atomic_load_explicit(&posted_anywhere, memory_order_relaxed) ||
	       atomic_load_explicit(&s->works, memory_order_relaxed) || io_pending(s) || port_pending(s->index) ||
	       s->bound_first || atomic_load_explicit(&s->lifo, memory_order_relaxed);
}

static bool anything_to_steal(void)
{
	for (unsigned int i = 0; i < nr_schedulers; i++) {
		for (int p = 0; p < 3; p++) {
			if (run_queue_length(schedulers[i]->queues[p]))
				return true;
		}
		if (deque_length(&schedulers[i]->fresh))
			return true;
	}
	return false;
}

/* One has been stolen: takes the older half of the rest, too. */
static void steal_fresh(struct scheduler *s, struct scheduler *victim)
{
	struct task *t;

	counter_add(&s->steals, 1);
	for (int64_t n = deque_length(&victim->fresh) / 2; n > 0 && (t = deque_steal(&victim->fresh)); n--) {
		scheduler_queue(s, t);
		counter_add(&s->steals, 1);
	}
}

struct task *scheduler_steal(struct scheduler *s)
{
	static const int order[] = { MOTE_PRIORITY_HIGH, MOTE_PRIORITY_NORMAL, MOTE_PRIORITY_LOW };
	unsigned int start = chance_below(&s->chance, nr_schedulers);
	struct task *loot[STEAL_MAX];

	for (unsigned int i = 0; i < nr_schedulers; i++) {
		struct scheduler *victim = schedulers[(start + i) % nr_schedulers];

		if (victim == s)
			continue;
		for (int p = 0; p < 3; p++) {
			unsigned int n = run_queue_steal(victim->queues[order[p]], loot, STEAL_MAX);

			if (!n)
				continue;
			for (unsigned int k = 1; k < n; k++)
				scheduler_queue(s, loot[k]);
			counter_add(&s->steals, n);
			return loot[0];
		}
		loot[0] = deque_steal(&victim->fresh);
		if (loot[0]) {
			steal_fresh(s, victim);
			return loot[0];
		}
	}
	return NULL;
}

/* A task that waits in the lifo of a neighbour whose current one has not called the runtime for a while. */
struct lifo_watch {
	struct scheduler *victim;
	uint64_t generation;
	int64_t since;
};

static bool in_own_code(struct scheduler *s)
{
	/* acquire: pairs with worker_begun(); workers live as long as the runtime. The answer is no more than a guess. */
	struct worker *w = atomic_load_explicit(&s->worker, memory_order_acquire);

	return w && atomic_load_explicit(&w->mode, memory_order_relaxed) == SLOT_USER;
}

/* acquire: pairs with task_ready() */
static struct task *lifo_steal(struct scheduler *victim)
{
	return atomic_load_explicit(&victim->lifo, memory_order_relaxed) ?
	       atomic_exchange_explicit(&victim->lifo, NULL, memory_order_acq_rel) : NULL;
}

static struct task *steal_lifo(struct scheduler *s, struct lifo_watch *watch, int64_t now)
{
	struct scheduler *victim = watch->victim;
	struct task *t;

	if (victim && atomic_load_explicit(&victim->lifo, memory_order_relaxed) && in_own_code(victim) &&
	    atomic_load_explicit(&victim->generation, memory_order_relaxed) == watch->generation) {
		if (now - watch->since < LIFO_STUCK_NS)
			return NULL;
		t = lifo_steal(victim);
		if (t)
			counter_add(&s->steals, 1);
		watch->victim = NULL;
		return t;
	}
	victim = schedulers[chance_below(&s->chance, nr_schedulers)];
	watch->victim = victim != s && in_own_code(victim) ? victim : NULL;
	watch->generation = atomic_load_explicit(&victim->generation, memory_order_relaxed);
	watch->since = now;
	return NULL;
}

/* Looks around for a while, as long as that has paid lately. */
static struct task *spin(struct scheduler *s)
{
	struct lifo_watch watch = { 0 };
	int64_t start, now;
	struct task *t;

	if (io_pending(s))
		io_poll(s, 0);
	/* What has come for a neighbour that is in a task's own code. */
	if (unlikely(port_node))
		port_poll(s, s->index, true);
	atomic_fetch_add_explicit(&nr_spinning, 1, memory_order_relaxed);
	start = now = clock_now();
	do {
		t = scheduler_steal(s);
		if (!t)
			t = steal_lifo(s, &watch, now);
		if (t || anything_here(s) || now >= wheel_next(&s->wheel))
			break;
		for (int i = 0; i < 32; i++)
			cpu_relax();
		now = clock_now();
	} while (now - start < s->spin_ns);
	if (t || anything_here(s))
		s->spin_ns = s->spin_ns >= SPIN_MAX_NS / 2 ? SPIN_MAX_NS : 2 * s->spin_ns;
	else
		s->spin_ns = s->spin_ns <= 2 * SPIN_MIN_NS ? SPIN_MIN_NS : s->spin_ns / 2;
	/* seq_cst: a waker that still saw this scheduler spinning has published before the look in park(). */
	if (atomic_fetch_sub(&nr_spinning, 1) == 1 && t)
		scheduler_wake_one(s);
	return t;
}

static void park(struct scheduler *s)
{
	uint32_t parked = 1;
	bool found;

	atomic_fetch_add_explicit(&nr_parked, 1, memory_order_relaxed);
	/* release: never fewer counted than flagged. The barrier orders both before the last look. */
	atomic_store_explicit(&s->parked, 1, memory_order_release);
	if (s->alone)
		atomic_thread_fence(memory_order_seq_cst);
	else
		barrier_heavy();
	found = atomic_load_explicit(&s->posted, memory_order_relaxed) ||
		atomic_load_explicit(&posted_anywhere, memory_order_relaxed) ||
		atomic_load_explicit(&s->works, memory_order_relaxed) ||
		atomic_load_explicit(&s->lifo, memory_order_relaxed) || s->bound_first ||
		(!s->alone && anything_to_steal()) || atomic_load_explicit(&stopping, memory_order_relaxed);
	/* Peers, too, ring from here on, and this looks at what they have sent. */
	if (unlikely(port_node))
		found = !port_sleep(s->index) || found;
	if (!found)
		counter_add(&s->parks, 1);
	io_poll(s, found ? 0 : wheel_next(&s->wheel));
	if (unlikely(port_node))
		port_awake(s->index);
	if (atomic_compare_exchange_strong_explicit(&s->parked, &parked, 0, memory_order_acq_rel,
						    memory_order_relaxed))
		atomic_fetch_sub_explicit(&nr_parked, 1, memory_order_relaxed);
	/* As with the schedulers' own parking: see overseer.c. */
	barrier_light();
	if (unlikely(atomic_load_explicit(&overseer_asleep, memory_order_relaxed)))
		overseer_wake();
}

bool schedulers_all_parked(void)
{
	/* Not nr_parked: who wakes one lowers it a moment after that one may be running. */
	for (unsigned int i = 0; i < nr_schedulers; i++) {
		if (!atomic_load_explicit(&schedulers[i]->parked, memory_order_relaxed))
			return false;
	}
	return true;
}

/* What waits on s for its worker. Racy by intent. */
__attribute__((no_sanitize("thread")))
bool scheduler_waiting(struct scheduler *s, int64_t now)
{
	for (int p = 0; p < 3; p++) {
		if (run_queue_length(s->queues[p]))
			return true;
	}
	return deque_length(&s->fresh) || *(struct task *volatile *)&s->bound_first || wheel_next(&s->wheel) <= now ||
	       atomic_load_explicit(&s->lifo, memory_order_relaxed) ||
	       atomic_load_explicit(&s->posted, memory_order_relaxed) ||
	       atomic_load_explicit(&s->works, memory_order_relaxed) ||
	       atomic_load_explicit(&posted_anywhere, memory_order_relaxed) || port_pending(s->index) || io_waiting(s);
}

/*
 * A woken task waits in the lifo of its waker's scheduler, on the assumption that the waker is about to park; that wakes
 * nobody, so ping-pong is cheap. If the waker computes instead, somebody has to come for the task.
 */
bool scheduler_rescue(struct scheduler *s)
{
	bool held = atomic_load_explicit(&s->holds_back, memory_order_relaxed);
	struct task *t;

	if (held)
		task_hooks->flush(NULL, s);
	/* A lone scheduler's lifo is not made for thieves. */
	t = s->alone ? NULL : lifo_steal(s);
	if (t)
		scheduler_post_anywhere(t);
	return held || t;
}

static bool fire_timers(struct scheduler *s)
{
	int64_t now;

	if (wheel_next(&s->wheel) == INT64_MAX)
		return false;
	now = clock_now();
	if (now < wheel_next(&s->wheel))
		return false;
	/* Whoever cancels a timer of this wheel need not wait for a system call. */
	s->firing = true;
	wheel_advance(s, &s->wheel, now);
	s->firing = false;
	if (unlikely(s->wake_due)) {
		s->wake_due = false;
		scheduler_wake_one(s);
	}
	return true;
}

static bool take_in(struct scheduler *s)
{
	bool found = drain_box(s, &s->posted);

	found |= drain_box(s, &posted_anywhere);
	if (port_pending(s->index))
		found |= port_poll(s, s->index, false);
	return drain_works(s) || found;
}

bool scheduler_pass(struct scheduler *s)
{
	bool found = take_in(s);

	return fire_timers(s) || found;
}

bool schedulers_stopping(void)
{
	return atomic_load_explicit(&stopping, memory_order_relaxed);
}

bool schedulers_sleep_begin(void)
{
	bool found = schedulers_stopping();

	for (unsigned int i = 0; i < nr_schedulers; i++) {
		atomic_fetch_add_explicit(&nr_parked, 1, memory_order_relaxed);
		/* release: as in park() */
		atomic_store_explicit(&schedulers[i]->parked, 1, memory_order_release);
	}
	/* As in post_notify(): only those who post can have something. */
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned int i = 0; i < nr_schedulers; i++)
		found |= anything_here(schedulers[i]);
	return !found;
}

void schedulers_sleep_end(void)
{
	for (unsigned int i = 0; i < nr_schedulers; i++) {
		uint32_t parked = 1;

		if (atomic_compare_exchange_strong_explicit(&schedulers[i]->parked, &parked, 0, memory_order_acq_rel,
							    memory_order_relaxed))
			atomic_fetch_sub_explicit(&nr_parked, 1, memory_order_relaxed);
	}
}

/* Pinned ones run on the owner's thread, and wait apart while it is away. */
static void scheduler_sort_bound(struct scheduler *s)
{
	struct task *bound = s->bound_first, *pinned = s->pinned_first, *next;

	s->bound_first = s->pinned_first = NULL;
	s->bound_last = &s->bound_first;
	s->pinned_last = &s->pinned_first;
	for (; bound; bound = next) {
		next = bound->next;
		scheduler_queue(s, bound);
	}
	for (; pinned; pinned = next) {
		next = pinned->next;
		scheduler_queue(s, pinned);
	}
}

/* w takes s over, as whoever had it left it: between two tasks, or (sched/handover.h) in a task's own code. */
static void scheduler_adopt(struct scheduler *s, struct worker *w)
{
	w->scheduler = s;
	atomic_store_explicit(&w->back, false, memory_order_relaxed);
	atomic_store_explicit(&w->want, atomic_load_explicit(&activation_wanted, memory_order_relaxed),
			      memory_order_relaxed);
	counter_add(&s->generation, 1);
	/* release: whoever claims s on the strength of it (it will not yet: w is in RUNTIME) sees w whole */
	atomic_store_explicit(&w->entry, s, memory_order_release);
	io_adopt(s);
	if (atomic_load_explicit(&s->holds_back, memory_order_relaxed))
		task_hooks->flush(s, s);
	scheduler_sort_bound(s);
}

enum served scheduler_serve(struct scheduler *s, struct worker *w)
{
	struct task *t;

	scheduler_adopt(s, w);
	/*
	 * First of all somebody runs, who has waited for that. What can wait until he has had a turn: a system call for what
	 * was queued for the ring, and, if w was the sentry, to wake another one.
	 */
	for (bool first = true;; first = false) {
		s->ticks = first ? 1 : attack_shorten(&s->chance, PASS_TICKS);
		take_in(s);
		if (unlikely(atomic_load_explicit(&s->worker, memory_order_relaxed) != w)) {
			w->scheduler = NULL;
			return SERVED_HANDED_HOME;
		}
		fire_timers(s);
		t = !s->alone && attack_now(&s->chance) ? scheduler_steal(s) : NULL;
		if (!t)
			t = scheduler_pick(s);
		if (t) {
			if (!first && io_pending(s))
				io_poll(s, 0);
		} else {
			if (atomic_load_explicit(&stopping, memory_order_relaxed))
				return SERVED_STOPPED;
			t = s->alone ? NULL : scheduler_steal(s);
			if (t)
				scheduler_wake_one(s);		/* where something was, there may be more */
			else if (!s->alone)
				t = spin(s);
		}
		if (!t && !first)
			park(s);
		else if (t && !scheduler_run(s, w, t))
			return SERVED_LOST;
		if (first)
			worker_next_sentry();
	}
}

static void scheduler_free(struct scheduler *s)
{
	if (s->io)
		io_close(s);
	for (int p = 0; p < 3; p++)
		run_queue_free(s->queues[p]);
	run_ring_free(atomic_load_explicit(&s->fresh.ring, memory_order_relaxed));
	free(s);
}

static int scheduler_new(unsigned int index, bool alone)
{
	struct scheduler *s = aligned_alloc(CACHE_LINE, (sizeof(*s) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	int err = -ENOMEM;

	if (!s)
		return -ENOMEM;
	memset(s, 0, sizeof(*s));
	s->index = index;
	s->alone = alone;
	s->bound_last = &s->bound_first;
	s->starved_last = &s->starved_first;
	s->pinned_last = &s->pinned_first;
	s->slice = SLICE_BUDGET;
	chance_init(&s->chance, index);
	s->spin_ns = SPIN_MAX_NS;
	wheel_init(&s->wheel, clock_now());
	for (int p = 0; p < 3; p++) {
		s->queues[p] = run_queue_new(!alone);
		if (!s->queues[p])
			goto fail;
	}
	atomic_init(&s->fresh.ring, run_ring_new(RUN_RING_SIZE));
	if (!atomic_load_explicit(&s->fresh.ring, memory_order_relaxed))
		goto fail;
	err = io_open(s);
	if (err)
		goto fail;
	schedulers[index] = s;
	return 0;
fail:
	scheduler_free(s);
	return err;
}

int schedulers_start(unsigned int n, unsigned int max_spares, const struct task_hooks *hooks)
{
	unsigned int i;
	int err;

	if (n > MAX_SCHEDULERS)
		return -EINVAL;
	task_hooks = hooks;
	atomic_store(&stopping, false);
	atomic_store(&nr_parked, 0);
	atomic_store(&nr_spinning, 0);
	barrier_start();
	err = stacks_start();
	if (err)
		return err;
	for (i = 0; i < n; i++) {
		err = scheduler_new(i, n == 1);
		if (err)
			goto fail;
	}
	/* The workers look at all of them from the first moment. */
	nr_schedulers = n;
	if (!replay_on)
		activation_start();
	err = replay_on ? 0 : workers_start(n, max_spares);
	if (!err && !replay_on)
		err = overseer_start();
	if (!err)
		return 0;
	schedulers_stop(INT64_MAX);
fail:
	while (i-- > 0) {
		scheduler_free(schedulers[i]);
		schedulers[i] = NULL;
	}
	nr_schedulers = 0;
	stacks_destroy();
	return err;
}

bool schedulers_stop(int64_t deadline_ns)
{
	overseer_stop();
	atomic_store(&stopping, true);
	for (unsigned int i = 0; i < nr_schedulers; i++)
		post_notify(schedulers[i]);
	if (replay_on)
		return replay_end(deadline_ns);
	if (!workers_stop(deadline_ns))
		return false;
	activation_stop();
	return true;
}

void schedulers_destroy(void)
{
	for (unsigned int i = 0; i < nr_schedulers; i++) {
		scheduler_free(schedulers[i]);
		schedulers[i] = NULL;
	}
	nr_schedulers = 0;
	stacks_destroy();
	slab_destroy();
}

void schedulers_forget(void)
{
	workers_forget();
	activation_forget();
	handover_forget();
	overseer_forget();
	memset(schedulers, 0, sizeof(schedulers));
	nr_schedulers = 0;
	atomic_store(&posted_anywhere, NULL);
	stacks_forget();
	slab_forget();
}
