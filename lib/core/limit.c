// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Room is handed out under a lock of the mailbox's own, which is held for a few instructions: it costs one
 * read-modify-write, as a counter would, and makes exact what a counter leaves open. A sender with a stale pid
 * compares serials under it, so it never takes room from the next tenant of the slot; and room that becomes free
 * while somebody waits goes straight to the first in line, so nobody overtakes, and each message that is received
 * wakes one sender.
 *
 * Invariant, under the lock: while anybody waits, used == max.
 *
 * Messages of other nodes are here already when they find no room. They wait in a line of their own, which goes first, and
 * each tells its sender to hold the next ones back until it is in: what is on the way meanwhile is all that can be in that line.
 *
 * A waiter lies on its sender's stack. Whoever takes it out of the line, under the lock, stores its state last, and
 * does not touch it again; the wake-up that follows may come after the sender has gone on, and is then one for no
 * reason, as waits expect them.
 */
#include "core/limit.h"
#include "core/node.h"

#include <mote/info.h>

#include <errno.h>
#include <stdlib.h>

enum waiter_state { WAITER_WAITS, WAITER_HAS_ROOM, WAITER_GONE };

struct waiter {
	struct waiter *next, **link;	/* link: what points to it */
	struct task *task;
	_Atomic int state;
};

struct limit {
	struct lock lock;
	struct signal *end;		/* KILL: the exit signal, made before it is needed; NULL: it is on its way */
	uint64_t serial;		/* whose it is; 0: nobody's, the inbox is closed */
	struct waiter *first, **last;
	struct signal *arrived, **arrived_last;	/* of other nodes; msg.data: the RESUME for its sender, or NULL */
	/* Written under the lock; read by limit_describe() without. */
	_Atomic int policy;
	_Atomic uint64_t max;
	_Atomic uint64_t used;
	_Atomic uint64_t waiting, waits, refused;
} __attribute__((aligned(CACHE_LINE)));

const struct mote_reason limit_reason = {
	.kind = MOTE_ERROR, .code = ENOBUFS, .data = "mailbox limit reached", .size = sizeof("mailbox limit reached") - 1,
};

static _Atomic uint64_t total_waits, total_refused, total_kills;

static uint64_t get(_Atomic uint64_t *field)
{
	return atomic_load_explicit(field, memory_order_relaxed);
}

static void set(_Atomic uint64_t *field, uint64_t value)
{
	atomic_store_explicit(field, value, memory_order_relaxed);
}

static struct limit *limit_of(struct process *p)
{
	/* acquire: pairs with process_extra(), limit_open(); both stay with the slot, whoever has it */
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_acquire);

	return extra ? atomic_load_explicit(&extra->limit, memory_order_acquire) : NULL;
}

int limit_open(struct scheduler *s, struct process *p, uint64_t max, int policy)
{
	struct extra *extra = process_extra(p);
	struct signal *end = NULL;
	struct limit *l;

	if (!extra)
		return -ENOMEM;
	l = limit_of(p);
	if (!l) {
		l = aligned_alloc(CACHE_LINE, sizeof(*l));
		if (!l)
			return -ENOMEM;
		*l = (struct limit){ .serial = 0 };
		atomic_store_explicit(&extra->limit, l, memory_order_release);
	}
	if (policy == MOTE_MAILBOX_KILL) {
		end = signal_exit_new(s, NULL, MOTE_NOBODY, &limit_reason);
		if (!end)
			return -ENOMEM;
		end->kind = SIGNAL_OVERFLOW;
		end->to = process_serial(p);
	}
	lock_take(&l->lock);
	l->serial = process_serial(p);
	l->end = end;
	l->first = NULL;
	l->last = &l->first;
	l->arrived = NULL;
	l->arrived_last = &l->arrived;
	atomic_store_explicit(&l->policy, policy, memory_order_relaxed);
	set(&l->max, max);
	set(&l->used, 0);
	set(&l->waiting, 0);
	set(&l->waits, 0);
	set(&l->refused, 0);
	lock_drop(&l->lock);
	/* relaxed: whoever gets to know the pid does so after this */
	atomic_store_explicit(&p->task.marks, PROCESS_LIMITED, memory_order_relaxed);
	return 0;
}

static void waiter_add(struct limit *l, struct waiter *w)
{
	w->next = NULL;
	w->link = l->last;
	*l->last = w;
	l->last = &w->next;
	set(&l->waiting, get(&l->waiting) + 1);
}

static void waiter_remove(struct limit *l, struct waiter *w)
{
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	else
		l->last = w->link;
	set(&l->waiting, get(&l->waiting) - 1);
}

/* Takes the first in line out. The task to be woken, once the lock is dropped; NULL: nobody waits. */
static struct task *waiter_pop(struct limit *l, enum waiter_state state)
{
	struct waiter *w = l->first;
	struct task *t;

	if (!w)
		return NULL;
	waiter_remove(l, w);
	t = w->task;
	/* release: the sender may return, and its frame go, as soon as it sees this */
	atomic_store_explicit(&w->state, state, memory_order_release);
	return t;
}

static struct signal *arrived_pop(struct limit *l)
{
	struct signal *sig = l->arrived;

	if (!sig)
		return NULL;
	l->arrived = sig->next;
	if (!l->arrived)
		l->arrived_last = &l->arrived;
	set(&l->waiting, get(&l->waiting) - 1);
	return sig;
}

/* Takes sig out of the hands of the line. */
static void arrived_resume(struct scheduler *s, struct signal *sig)
{
	struct signal *resume = sig->msg.data;

	sig->msg.data = sig->payload;
	if (resume)
		signal_send_pid(s, resume, sig->msg.from, false);
}

/* Takes sig, for which there is room. */
static void arrived_enter(struct scheduler *s, struct signal *sig, uint32_t slot)
{
	node_uncharge(sig);
	sig->kind = sig->kind == SIGNAL_MESSAGE ? SIGNAL_COUNTED : SIGNAL_COUNTED_REQUEST;
	signal_send(s, sig, slot, false);
}

/* One place is free: for the first in line, or for whoever comes. */
static void place_free(struct scheduler *s, struct process *p, uint64_t serial)
{
	struct limit *l = limit_of(p);
	struct signal *sig = NULL;
	struct task *t = NULL;

	lock_take(&l->lock);
	if (l->serial == serial) {
		sig = arrived_pop(l);
		t = sig ? NULL : waiter_pop(l, WAITER_HAS_ROOM);
		if (!sig && !t)
			set(&l->used, get(&l->used) - 1);
	}
	lock_drop(&l->lock);
	if (t)
		task_wake(s, t);
	if (unlikely(sig)) {
		arrived_resume(s, sig);
		arrived_enter(s, sig, p->task.slot);
	}
}

void limit_close(struct scheduler *s, struct process *p)
{
	struct limit *l = limit_of(p);
	struct signal *end, *sig;
	struct task *t;

	do {
		lock_take(&l->lock);
		l->serial = 0;
		end = l->end;
		l->end = NULL;
		t = waiter_pop(l, WAITER_GONE);
		sig = arrived_pop(l);
		lock_drop(&l->lock);
		if (end)
			signal_free(s, end);
		if (t)
			task_wake(s, t);
		if (sig) {
			arrived_resume(s, sig);
			signal_undeliverable(s, sig, p->task.slot);
		}
	} while (t || sig);
}

static int refuse(struct limit *l, int err)
{
	set(&l->refused, get(&l->refused) + 1);
	atomic_fetch_add_explicit(&total_refused, 1, memory_order_relaxed);
	return err;
}

/* Out of the line, if w is still in it. What it was. */
static enum waiter_state waiter_withdraw(struct limit *l, struct waiter *w, int err)
{
	enum waiter_state state;

	lock_take(&l->lock);
	state = atomic_load_explicit(&w->state, memory_order_relaxed);
	if (state == WAITER_WAITS) {
		waiter_remove(l, w);
		if (err)
			refuse(l, err);
	}
	lock_drop(&l->lock);
	return state;
}

static int wait_for_room(struct scheduler *s, struct process *p, uint64_t serial, struct waiter *w,
			 int64_t deadline)
{
	struct process *self = process_self(s);
	struct sleeper sl = { .task = NULL };
	struct limit *l = limit_of(p);
	enum waiter_state state;
	int err;

	for (;;) {
		signals_take(s, self);
		if (unlikely(self->fatal && !self->task.dying)) {
			sleeper_disarm(&sl);
			if (waiter_withdraw(l, w, 0) == WAITER_HAS_ROOM)
				place_free(s, p, serial);
			task_die(&self->task);
		}
		/* acquire: pairs with waiter_pop(); after the signals: see task_park() */
		state = atomic_load_explicit(&w->state, memory_order_acquire);
		if (state != WAITER_WAITS)
			break;
		err = process_wait(s, self, &sl, deadline, MOTE_WAIT_ROOM);
		if (err) {
			state = waiter_withdraw(l, w, err);
			break;
		}
		s = scheduler_self();
	}
	sleeper_disarm(&sl);
	return state == WAITER_HAS_ROOM ? LIMIT_COUNTED : state == WAITER_GONE ? LIMIT_GONE : err;
}

/* Under the lock. LIMIT_COUNTED: w is in the line. */
static int limit_full(struct scheduler *s, struct process *p, struct limit *l, struct waiter *w,
		      int64_t deadline)
{
	struct task *self = s ? s->current : NULL;

	switch (atomic_load_explicit(&l->policy, memory_order_relaxed)) {
	case MOTE_MAILBOX_DROP:
		return refuse(l, -ENOBUFS);
	case MOTE_MAILBOX_KILL:
		return LIMIT_DOOMED;
	}
	if (!self)
		return refuse(l, -EAGAIN);
	if (self == &p->task)
		return refuse(l, -EDEADLK);
	if (deadline <= 0)
		return refuse(l, -ETIMEDOUT);
	/* A log callback of one who is dead already: nothing could wake it. */
	if (process_dead(process_of(self)))
		return refuse(l, -ECANCELED);
	w->task = self;
	atomic_init(&w->state, WAITER_WAITS);
	waiter_add(l, w);
	set(&l->waits, get(&l->waits) + 1);
	atomic_fetch_add_explicit(&total_waits, 1, memory_order_relaxed);
	return LIMIT_COUNTED;
}

static struct signal *end_taken(struct limit *l)
{
	struct signal *end = l->end;

	l->end = NULL;
	return end;
}

static void end_send(struct scheduler *s, struct process *p, struct signal *end)
{
	/* Once, and like a kill it cannot be trapped, but it says why. */
	atomic_fetch_add_explicit(&total_kills, 1, memory_order_relaxed);
	signal_send(s, end, p->task.slot, true);
}

void limit_arrive(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct signal *hold = NULL, *resume = NULL, *end = NULL;
	enum { IN, WAITS, REFUSED, DOOMED, GONE } fate = IN;
	struct limit *l = limit_of(p);
	mote_pid from = MOTE_NOBODY;

	/* Without memory, or of no process, it waits all the same. */
	if (sig->msg.from.serial) {
		hold = signal_new(s, SIGNAL_HOLD, 0);
		resume = hold ? signal_new(s, SIGNAL_RESUME, 0) : NULL;
	}
	lock_take(&l->lock);
	if (l->serial != sig->to) {
		fate = GONE;
	} else if (atomic_load_explicit(&l->policy, memory_order_relaxed) == MOTE_MAILBOX_KILL && !l->end) {
		fate = DOOMED;
	} else if (get(&l->used) < get(&l->max)) {
		set(&l->used, get(&l->used) + 1);
	} else if (atomic_load_explicit(&l->policy, memory_order_relaxed) == MOTE_MAILBOX_BLOCK) {
		fate = WAITS;
		if (resume)
			resume->msg.from = hold->msg.from = process_pid(p);
		sig->msg.data = resume;
		sig->next = NULL;
		*l->arrived_last = sig;
		l->arrived_last = &sig->next;
		set(&l->waiting, get(&l->waiting) + 1);
		set(&l->waits, get(&l->waits) + 1);
		atomic_fetch_add_explicit(&total_waits, 1, memory_order_relaxed);
		from = sig->msg.from;
	} else {
		end = end_taken(l);
		fate = end ? DOOMED : REFUSED;
		refuse(l, 0);
	}
	lock_drop(&l->lock);
	/* sig may be gone by now, and its RESUME sent: they may come in any order. */
	if (fate == WAITS && resume) {
		signal_send_pid(s, hold, from, true);
		hold = resume = NULL;
	}
	if (hold)
		signal_free(s, hold);
	if (resume)
		signal_free(s, resume);
	if (unlikely(end))
		end_send(s, p, end);
	if (likely(fate == IN)) {
		arrived_enter(s, sig, p->task.slot);
	} else if (fate == GONE) {
		signal_undeliverable(s, sig, p->task.slot);
	} else if (fate != WAITS) {
		node_uncharge(sig);
		if (sig->kind == SIGNAL_REQUEST)
			request_end(s, sig, process_pid(p), &limit_reason);
		else
			signal_free(s, sig);
	}
}

int limit_enter(struct scheduler *s, struct process *p, uint64_t serial, int64_t deadline)
{
	struct limit *l = limit_of(p);
	struct signal *end = NULL;
	bool waits = false;
	struct waiter w;
	int answer;

	if (!l)
		return LIMIT_GONE;
	lock_take(&l->lock);
	if (l->serial != serial) {
		answer = LIMIT_GONE;
	} else if (atomic_load_explicit(&l->policy, memory_order_relaxed) == MOTE_MAILBOX_KILL && !l->end) {
		answer = LIMIT_DOOMED;
	} else if (get(&l->used) < get(&l->max)) {
		set(&l->used, get(&l->used) + 1);
		answer = LIMIT_COUNTED;
	} else {
		answer = limit_full(s, p, l, &w, deadline);
		waits = answer == LIMIT_COUNTED;
		end = end_taken(l);
	}
	lock_drop(&l->lock);
	if (unlikely(end))
		end_send(s, p, end);
	return waits ? wait_for_room(s, p, serial, &w, deadline) : answer;
}

void limit_undo(struct scheduler *s, struct process *p, uint64_t serial)
{
	place_free(s, p, serial);
}

void limit_left(struct scheduler *s, struct process *p, struct signal *sig)
{
	sig->kind = sig->kind == SIGNAL_COUNTED ? SIGNAL_MESSAGE : SIGNAL_REQUEST;
	place_free(s, p, process_serial(p));
}

void limit_describe(struct process *p, struct mote_process_info *info)
{
	struct limit *l = limited(p) ? limit_of(p) : NULL;

	if (!l)
		return;
	info->mailbox_limit = get(&l->max);
	info->mailbox_policy = atomic_load_explicit(&l->policy, memory_order_relaxed);
	info->mailbox_counted = get(&l->used);
	info->mailbox_waiting = get(&l->waiting);
	info->mailbox_waits = get(&l->waits);
	info->mailbox_refused = get(&l->refused);
}

void limits_describe(struct mote_runtime_info *info)
{
	info->mailbox_waits = get(&total_waits);
	info->mailbox_refused = get(&total_refused);
	info->mailbox_kills = get(&total_kills);
}

void limits_forget(void)
{
	set(&total_waits, 0);
	set(&total_refused, 0);
	set(&total_kills, 0);
}
