// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Timers that send. Each lives in a pool of the scheduler whose wheel it is armed on; the pool's memory stays for the
 * life of the runtime, so a stale handle may look at it: the id, compared under the wheel's lock, tells.
 *
 * A pool's free list belongs to its scheduler's worker. Others, who cancel, put timers on a second list, which is taken
 * over as a whole when the first is empty.
 */
#include "core/process.h"

#include <mote/timer.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK	256
#define CHUNKS	65536
#define RETRY_NS INT64_C(1000000)		/* an interval that finds no memory is late, not lost */

struct message_timer {
	struct wheel_timer timer;
	_Atomic uint64_t id;			/* 0: not armed. Under the wheel's lock when it matters */
	uint32_t slot;				/* in the pool */
	uint32_t to_slot;
	uint64_t to;
	int64_t period, due;			/* 0: once; of an interval: the point of its grid that is next */
	struct signal *sig;			/* what it sends; of an interval: what it copies */
	struct message_timer *next;
};

struct pool {
	struct message_timer *free;		/* the worker's */
	_Atomic(struct message_timer *) returned;
	uint32_t nr_chunks;
	_Atomic(struct message_timer *) *chunks;
};

static struct pool pools[256];

int timers_start(void)
{
	for (unsigned int i = 0; i < schedulers_count(); i++) {
		pools[i].chunks = calloc(CHUNKS, sizeof(pools[i].chunks[0]));
		if (!pools[i].chunks) {
			timers_stop();
			return -ENOMEM;
		}
	}
	return 0;
}

static void timer_drop(struct scheduler *s, struct message_timer *t)
{
	if (t->sig)
		signal_free(s, t->sig);
	t->sig = NULL;
}

void timers_stop(void)
{
	for (int i = 0; i < 256; i++) {
		for (uint32_t c = 0; c < pools[i].nr_chunks; c++) {
			struct message_timer *chunk = atomic_load(&pools[i].chunks[c]);

			for (int k = 0; k < CHUNK; k++)
				timer_drop(NULL, &chunk[k]);
			free(chunk);
		}
		free(pools[i].chunks);
	}
	timers_forget();
}

void timers_forget(void)
{
	memset(pools, 0, sizeof(pools));
}

static bool pool_grow(struct pool *pool)
{
	struct message_timer *chunk;

	/* acquire: the returners' last writes to the timers */
	pool->free = atomic_exchange_explicit(&pool->returned, NULL, memory_order_acquire);
	if (pool->free)
		return true;
	if (pool->nr_chunks == CHUNKS)
		return false;
	chunk = calloc(CHUNK, sizeof(*chunk));
	if (!chunk)
		return false;
	for (uint32_t i = 0; i < CHUNK; i++) {
		chunk[i].slot = pool->nr_chunks * CHUNK + i;
		chunk[i].next = i + 1 < CHUNK ? &chunk[i + 1] : NULL;
	}
	/* release: a handle may travel to another thread by any road; the chunk is complete before it */
	atomic_store_explicit(&pool->chunks[pool->nr_chunks++], chunk, memory_order_release);
	pool->free = chunk;
	return true;
}

static struct message_timer *pool_take(struct scheduler *s)
{
	struct pool *pool = &pools[s->index];
	struct message_timer *t;

	if (unlikely(!pool->free && !pool_grow(pool)))
		return NULL;
	t = pool->free;
	pool->free = t->next;
	return t;
}

static void pool_return(struct scheduler *s, uint32_t wheel, struct message_timer *t)
{
	struct pool *pool = &pools[wheel];

	if (s && s->index == wheel) {
		t->next = pool->free;
		pool->free = t;
		return;
	}
	t->next = atomic_load_explicit(&pool->returned, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&pool->returned, &t->next, t, memory_order_release,
						      memory_order_relaxed))
		;
}

static void timer_send(struct scheduler *s, struct message_timer *t, struct signal *sig)
{
	mote_pid to = { t->to, t->to_slot, port_node };

	if (process_lookup(to)) {
		sig->to = t->to;
		signal_send(s, sig, t->to_slot, false);
	} else {
		signal_free(s, sig);
	}
}

/* Under the wheel's lock, on its worker. */
static void timer_fire(struct scheduler *s, struct wheel_timer *wt)
{
	struct message_timer *t = container_of(wt, struct message_timer, timer);
	struct process *p = process_lookup((mote_pid){ t->to, t->to_slot, port_node });
	struct signal *copy;
	int64_t now;

	if (!t->period) {
		copy = t->sig;
		t->sig = NULL;
		timer_send(s, t, copy);
		goto done;
	}
	if (!p || process_dead(p))
		goto done;
	copy = signal_new(s, SIGNAL_MESSAGE, t->sig->msg.size);
	if (copy) {
		copy->msg.from = t->sig->msg.from;
		copy->msg.type = t->sig->msg.type;
		memcpy(copy->payload, t->sig->payload, t->sig->msg.size);
		timer_send(s, t, copy);
	}
	now = clock_now();
	if (likely(copy)) {
		t->due += ((now - t->due) / t->period + 1) * t->period;
		wheel_rearm(wt, t->due);
	} else {
		wheel_rearm(wt, now + (t->period < RETRY_NS ? t->period : RETRY_NS));
	}
	return;
done:
	timer_drop(s, t);
	atomic_store_explicit(&t->id, 0, memory_order_relaxed);
	pool_return(s, s->index, t);
}

static struct message_timer *timer_of(mote_timer timer)
{
	struct message_timer *chunk;

	if (!timer.id || timer.wheel >= schedulers_count() || timer.slot / CHUNK >= CHUNKS)
		return NULL;
	chunk = atomic_load_explicit(&pools[timer.wheel].chunks[timer.slot / CHUNK], memory_order_acquire);
	return chunk ? &chunk[timer.slot % CHUNK] : NULL;
}

static bool timer_live(mote_timer timer)
{
	struct message_timer *t = timer_of(timer);

	return t && atomic_load_explicit(&t->id, memory_order_relaxed) == timer.id;
}

/* Notes a timer of p's for itself, to be cancelled at its exit. */
static bool timer_note(struct process *p, mote_timer timer)
{
	struct extra *extra = process_extra(p);
	uint32_t live = 0, max;
	mote_timer *more;

	if (!extra)
		return false;
	if (extra->nr_timers == extra->max_timers) {
		for (uint32_t i = 0; i < extra->nr_timers; i++) {
			if (timer_live(extra->timers[i]))
				extra->timers[live++] = extra->timers[i];
		}
		extra->nr_timers = live;
		/* Weeding costs what the array holds: keep half of it free, so that each note pays for one look. */
		if (live >= extra->max_timers / 2) {
			max = extra->max_timers ? 2 * extra->max_timers : 8;
			more = realloc(extra->timers, max * sizeof(*more));
			if (!more)
				return false;
			extra->timers = more;
			extra->max_timers = max;
		}
	}
	extra->timers[extra->nr_timers++] = timer;
	return true;
}

static mote_timer timer_arm(struct scheduler *s, int64_t when, int64_t period, mote_pid to, uint32_t type,
			    const void *data, size_t size)
{
	struct process *self = process_self(s);
	struct message_timer *t = NULL;
	mote_timer timer = { 0 };
	struct signal *sig;
	int err = -ENOMEM;

	if (!mote_pid_valid(to) || !port_is_here(to.node) || type >= MOTE_MSG_RESERVED || (size && !data) || (period && period < 1000)) {
		err = -EINVAL;
		goto fail;
	}
	if (size > UINT32_MAX - sizeof(struct signal)) {
		err = -EMSGSIZE;
		goto fail;
	}
	sig = signal_new(s, SIGNAL_MESSAGE, size);
	if (!sig)
		goto fail;
	t = pool_take(s);
	if (!t)
		goto fail_signal;
	timer = (mote_timer){ scheduler_unique_id(s), t->slot, s->index };
	if (mote_pid_equal(to, process_pid(self)) && !timer_note(self, timer))
		goto fail_timer;
	sig->msg.from = process_pid(self);
	sig->msg.type = type;
	if (size)
		memcpy(sig->payload, data, size);
	t->sig = sig;
	t->to = to.serial;
	t->to_slot = to.slot;
	t->period = period;
	t->due = when;
	t->timer.fire = timer_fire;
	/* relaxed: the lock in wheel_arm() publishes it to whoever compares under that lock */
	atomic_store_explicit(&t->id, timer.id, memory_order_relaxed);
	wheel_arm(&s->wheel, &t->timer, when);
	return timer;
fail_timer:
	pool_return(s, s->index, t);
fail_signal:
	signal_free(s, sig);
fail:
	process_fail(self, err);
	return (mote_timer){ 0 };
}

mote_timer mote_send_after(mote_deadline deadline, mote_pid to, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s = runtime_enter("mote_send_after");
	mote_timer timer = timer_arm(s, deadline.ns, 0, to, type, data, size);

	process_leave(s);
	return timer;
}

mote_timer mote_send_every(int64_t period_ns, mote_pid to, uint32_t type, const void *data, size_t size)
{
	struct scheduler *s = runtime_enter("mote_send_every");
	mote_timer timer = timer_arm(s, mote_in_ns(period_ns).ns, period_ns ? period_ns : -1, to, type, data, size);

	process_leave(s);
	return timer;
}

static int timer_cancel(struct scheduler *s, mote_timer timer, int64_t *when)
{
	struct message_timer *t = timer_of(timer);

	if (!t || !wheel_disarm_id(&scheduler_at(timer.wheel)->wheel, &t->timer, &t->id, timer.id))
		return -ENOENT;
	*when = t->timer.when;
	timer_drop(s, t);
	pool_return(s, timer.wheel, t);
	return 0;
}

int mote_timer_cancel(mote_timer timer, int64_t *left_ns)
{
	struct scheduler *s = runtime_enter("mote_timer_cancel");
	int64_t when;
	int err = timer_cancel(s, timer, &when);

	if (!err && left_ns) {
		*left_ns = when - clock_now();
		if (*left_ns < 0)
			*left_ns = 0;
	}
	process_leave(s);
	return err;
}

int64_t mote_timer_left(mote_timer timer)
{
	struct scheduler *s = runtime_enter("mote_timer_left");
	struct message_timer *t = timer_of(timer);
	int64_t left = -ENOENT, when;

	if (t && wheel_when(&scheduler_at(timer.wheel)->wheel, &t->timer, &t->id, timer.id, &when)) {
		left = when - clock_now();
		if (left < 0)
			left = 0;
	}
	process_leave(s);
	return left;
}

void timers_end(struct scheduler *s, struct process *p)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);
	int64_t when;

	for (uint32_t i = 0; i < extra->nr_timers; i++)
		timer_cancel(s, extra->timers[i], &when);
	free(extra->timers);
	extra->timers = NULL;
	extra->nr_timers = extra->max_timers = 0;
}
