// SPDX-License-Identifier: MIT OR GPL-2.0
#include "port/carrier.h"
#include "port/fence.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH		256			/* records of one carrier at a time */

struct slot {
	_Atomic bool taken;			/* the lock */
	_Atomic(struct news *) news;		/* newest first */
	struct news *late;			/* taken from there, in order; under the lock */
	unsigned int nr;
	struct carrier *carriers[CARRIERS_MAX];	/* under the lock. Pages of it are touched as they are needed */
} __attribute__((aligned(64)));

_Atomic uint32_t port_busy;
static struct slot *slots;
static unsigned int nr_slots;
static _Atomic unsigned int next_home;
static const struct port_hooks *hooks;
static _Atomic bool closed;

static bool slot_try(struct slot *t)
{
	/* acquire: pairs with slot_drop(). The load first: a line that is only looked at stays shared */
	return !atomic_load_explicit(&t->taken, memory_order_relaxed) &&
	       !atomic_exchange_explicit(&t->taken, true, memory_order_acquire);
}

static void slot_drop(struct slot *t)
{
	atomic_store_explicit(&t->taken, false, memory_order_release);
}

int carriers_start(unsigned int n, const struct port_hooks *h)
{
	size_t size = n * sizeof(*slots);

	slots = aligned_alloc(64, size);
	if (!slots)
		return -ENOMEM;
	for (unsigned int i = 0; i < n; i++) {
		atomic_init(&slots[i].taken, false);
		atomic_init(&slots[i].news, NULL);
		slots[i].late = NULL;
		slots[i].nr = 0;
	}
	nr_slots = n;
	hooks = h;
	atomic_store_explicit(&port_busy, 0, memory_order_relaxed);
	atomic_store_explicit(&next_home, 0, memory_order_relaxed);
	atomic_store_explicit(&closed, false, memory_order_relaxed);
	return 0;
}

void carriers_close(void)
{
	/* relaxed: who polls looks at it under the lock. Who has a lock now gives it back soon, hooks do not wait */
	atomic_store_explicit(&closed, true, memory_order_relaxed);
	for (unsigned int i = 0; i < nr_slots; i++) {
		while (!slot_try(&slots[i]))
			sched_yield();
		slot_drop(&slots[i]);
	}
}

static void requests_free(struct news *n)
{
	while (n) {
		struct news *next = n->next;

		if (n->kind == NEWS_UNREACHABLE)
			free((char *)n - offsetof(struct request, news));
		n = next;
	}
}

void carriers_stop(void)
{
	for (unsigned int i = 0; i < nr_slots; i++) {
		requests_free(slots[i].late);
		requests_free(atomic_load_explicit(&slots[i].news, memory_order_acquire));
	}
	free(slots);
	slots = NULL;
	nr_slots = 0;
	atomic_store_explicit(&port_busy, 0, memory_order_relaxed);
}

/* --- news --- */

static void news_post(unsigned int slot, struct news *n, enum news_kind kind)
{
	struct slot *t = &slots[slot];
	struct news *first = atomic_load_explicit(&t->news, memory_order_relaxed);

	n->kind = kind;
	/* relaxed: the slot that is woken below sees it, others need not */
	atomic_fetch_add_explicit(&port_busy, 1, memory_order_relaxed);
	do {
		n->next = first;
		/* release: the news is whole for who takes it */
	} while (!atomic_compare_exchange_weak_explicit(&t->news, &first, n, memory_order_release,
							 memory_order_relaxed));
	hooks->wake(slot);
}

unsigned int carrier_choose_home(void)
{
	return atomic_fetch_add_explicit(&next_home, 1, memory_order_relaxed) % nr_slots;
}

void carrier_raise(struct carrier *c)
{
	news_post(c->home, &c->up, NEWS_UP);
}

void request_fail(struct request *r, int err)
{
	r->err = err;
	news_post(0, &r->news, NEWS_UNREACHABLE);
}

void request_stands(struct request *r, const struct carrier *c)
{
	r->err = -EISCONN;
	r->node = c->node;
	news_post(c->home, &r->news, NEWS_UNREACHABLE);
}

/* Claims the end of c: false: somebody else has. */
static bool end_claim(struct carrier *c, enum port_end why, const char *complaint)
{
	unsigned int none = 0;

	/* relaxed: what is written here is for who gets the errand or the news */
	if (!atomic_compare_exchange_strong_explicit(&c->end, &none, 1 + why, memory_order_relaxed,
						     memory_order_relaxed))
		return false;
	snprintf(c->complaint, sizeof(c->complaint), "%s", complaint ? complaint : "");
	return true;
}

bool carrier_end(struct carrier *c, enum port_end why, const char *complaint)
{
	if (!end_claim(c, why, complaint))
		return false;
	news_post(c->home, &c->down, NEWS_END);
	return true;
}

static enum port_end end_of(const struct carrier *c)
{
	return atomic_load_explicit(&c->end, memory_order_relaxed) - 1;
}

/* Breaks with the peer. */
static void carrier_break(struct carrier *c, enum port_end why, const char *complaint)
{
	if (!end_claim(c, why, complaint))
		return;
	c->cut.kind = ERRAND_CUT;
	port_ops->errand(&c->cut);
	/* Last: once the hook down was called, c may be released, and that errand has to come after this one. */
	news_post(c->home, &c->down, NEWS_END);
}

static void slot_forget(struct slot *t, struct carrier *c)
{
	unsigned int i = 0;

	while (t->carriers[i] != c)
		i++;
	t->carriers[i] = t->carriers[--t->nr];
	atomic_fetch_sub_explicit(&port_busy, 1, memory_order_relaxed);
}

/* The port's thread sees to it that there are no more than CARRIERS_MAX. */
static void slot_add(struct slot *t, struct carrier *c)
{
	t->carriers[t->nr++] = c;
	atomic_fetch_add_explicit(&port_busy, 1, memory_order_relaxed);
}

static void news_tell(struct slot *t, struct scheduler *s, struct news *n)
{
	struct carrier *c;
	struct request *r;

	switch (n->kind) {
	case NEWS_UP:
		c = (struct carrier *)((char *)n - offsetof(struct carrier, up));
		slot_add(t, c);
		hooks->up(s, c);
		break;
	case NEWS_END:
		c = (struct carrier *)((char *)n - offsetof(struct carrier, down));
		/* Once: what is published later is ignored. Who broke the rules is not listened to at all. */
		c->draining = true;
		if (!lane_close(&c->in) || end_of(c) == PORT_CUT)
			c->in.head = c->in.tail;
		break;
	case NEWS_UNREACHABLE:
		r = (struct request *)((char *)n - offsetof(struct request, news));
		hooks->unreachable(s, r->node, r->name, r->err);
		free(r);
		break;
	}
}

static bool slot_news(struct slot *t, struct scheduler *s)
{
	/* acquire: pairs with news_post() */
	struct news *n = atomic_load_explicit(&t->news, memory_order_relaxed) ?
			 atomic_exchange_explicit(&t->news, NULL, memory_order_acquire) : NULL;
	struct news *first = NULL;

	if (!n)
		return false;
	while (n) {
		struct news *next = n->next;

		n->next = first;
		first = n;
		n = next;
	}
	/* In the slot while hooks run: nothing of it is lost when the runtime ends in between. */
	t->late = first;
	while (t->late) {
		n = t->late;
		t->late = n->next;
		news_tell(t, s, n);
		atomic_fetch_sub_explicit(&port_busy, 1, memory_order_relaxed);
	}
	return true;
}

/* --- polling --- */

static bool carrier_pending(struct carrier *c)
{
	return (lane_pending(&c->in) && !atomic_load_explicit(&c->held, memory_order_relaxed)) ||
	       lane_room(c->out.consumer, &c->wanted) || (c->draining && c->in.tail == c->in.head);
}

static void carrier_take_in(struct carrier *c, struct scheduler *s)
{
	uint64_t taken = 0;
	struct record head;
	const void *body;

	while (taken < BATCH) {
		enum lane_found found = lane_next(&c->in, &head, &body);

		if (found == LANE_EMPTY)
			break;
		if (found == LANE_BROKEN) {
			/* Nothing of it is believed from now on, and the news of the end follows. */
			c->in.closed = true;
			c->in.head = c->in.tail;
			carrier_break(c, PORT_CUT, "a record or the index of its lane is wrong");
			break;
		}
		if (!hooks->record(s, c, &head, body)) {
			/* release: pairs with carrier_unhold() */
			atomic_store_explicit(&c->held, true, memory_order_release);
			port_ops->held();
			break;
		}
		lane_take(&c->in, &head);
		taken++;
		/* Core may just have cut it: it hears no more of it. */
		if (atomic_load_explicit(&c->end, memory_order_relaxed) == 1 + PORT_CUT) {
			c->in.closed = true;
			c->in.head = c->in.tail;
			break;
		}
		/* Large records: the writer gets room while we go on. */
		if (c->in.tail - c->in.released >= c->in.size / 8 && lane_release(&c->in))
			port_ops->ring(c);
	}
	if (lane_release(&c->in))
		port_ops->ring(c);
	atomic_store_explicit(&c->nr_in, atomic_load_explicit(&c->nr_in, memory_order_relaxed) + taken,
			      memory_order_relaxed);
}

/* True: it is not in the list any more. */
static bool carrier_poll(struct slot *t, struct carrier *c, struct scheduler *s)
{
	/* acquire: pairs with carrier_unhold() */
	if (lane_pending(&c->in) && !atomic_load_explicit(&c->held, memory_order_acquire))
		carrier_take_in(c, s);
	if (c->draining) {
		if (c->in.tail != c->in.head)
			return false;
		slot_forget(t, c);
		hooks->down(s, c, end_of(c));
		return true;
	}
	if (lane_room(c->out.consumer, &c->wanted) && lane_room_noted(c->out.consumer, &c->wanted))
		hooks->room(s, c);
	return false;
}

static bool slot_poll(struct slot *t, struct scheduler *s)
{
	bool something;

	if (!slot_try(t))
		return false;
	if (atomic_load_explicit(&closed, memory_order_relaxed)) {
		slot_drop(t);
		return false;
	}
	something = slot_news(t, s);
	for (unsigned int i = 0; i < t->nr; ) {
		struct carrier *c = t->carriers[i];

		if (!carrier_pending(c)) {
			i++;
			continue;
		}
		something = true;
		if (!carrier_poll(t, c, s))
			i++;
	}
	slot_drop(t);
	return something;
}

bool port_pending_slow(unsigned int slot)
{
	struct slot *t = &slots[slot];
	bool something = false;

	if (atomic_load_explicit(&closed, memory_order_relaxed))
		return false;
	if (atomic_load_explicit(&t->news, memory_order_relaxed))
		return true;
	/* Somebody is just polling: what comes after it has looked, only we can see. */
	if (!slot_try(t))
		return true;
	for (unsigned int i = 0; i < t->nr && !something; i++)
		something = carrier_pending(t->carriers[i]);
	slot_drop(t);
	return something;
}

bool port_poll(struct scheduler *s, unsigned int slot, bool all)
{
	bool something;

	if (!port_ops)
		return false;
	something = slot_poll(&slots[slot], s);
	for (unsigned int i = 0; all && i < nr_slots; i++) {
		if (i != slot && port_pending(i))
			something |= slot_poll(&slots[i], s);
	}
	return something;
}

bool port_sleep(unsigned int slot)
{
	if (!port_ops)
		return true;
	port_ops->park(slot);
	return !port_pending(slot);
}

void port_awake(unsigned int slot)
{
	if (port_ops)
		port_ops->awake(slot);
}

/* --- for core --- */

uint32_t carrier_node(const struct carrier *c)
{
	return c->node;
}

const char *carrier_name(const struct carrier *c)
{
	return c->name;
}

size_t carrier_record_max(const struct carrier *c)
{
	return lane_record_max(c->out.size);
}

void carrier_set_core(struct carrier *c, void *core)
{
	c->core = core;
}

void *carrier_core(const struct carrier *c)
{
	return c->core;
}

struct record *carrier_reserve(struct carrier *c, size_t size)
{
	struct record *r;

	if (size > lane_record_max(c->out.size))
		return NULL;
	r = lane_reserve(&c->out, (uint32_t)size);
	if (__builtin_expect(!r, 0)) {
		r = lane_reserve_or_want(&c->out, (uint32_t)size);
		if (!r) {
			atomic_store_explicit(&c->full, atomic_load_explicit(&c->full, memory_order_relaxed) + 1,
					      memory_order_relaxed);
			if (c->out.broken)
				carrier_break(c, PORT_CUT, "it took what was never published");
			return NULL;
		}
	}
	atomic_store_explicit(&c->nr_out, atomic_load_explicit(&c->nr_out, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	return r;
}

void carrier_commit(struct carrier *c)
{
	if (!lane_publish(&c->out))
		return;
	/* head, then the bell: port_sleep() does the reverse */
	full_fence();
	port_ops->ring(c);
}

void carrier_cut(struct carrier *c, enum port_end why, const char *what)
{
	carrier_break(c, why, what);
}

void carrier_release(struct carrier *c)
{
	c->release.kind = ERRAND_RELEASE;
	port_ops->errand(&c->release);
}

const char *carrier_complaint(const struct carrier *c)
{
	return c->complaint;
}

void carrier_unhold(struct carrier *c)
{
	if (!atomic_load_explicit(&c->held, memory_order_relaxed))
		return;
	/* release: pairs with carrier_poll(); the next poll comes after the refused one */
	atomic_store_explicit(&c->held, false, memory_order_release);
	hooks->wake(c->home);
}

void carrier_count(const struct carrier *c, struct carrier_counts *counts)
{
	*counts = (struct carrier_counts){
		.records_in = atomic_load_explicit(&c->nr_in, memory_order_relaxed),
		.records_out = atomic_load_explicit(&c->nr_out, memory_order_relaxed),
		/* both of them in pages of our own */
		.bytes_in = atomic_load_explicit(&c->in.consumer->tail, memory_order_relaxed),
		.bytes_out = atomic_load_explicit(&c->out.producer->head, memory_order_relaxed),
		.rings = atomic_load_explicit(&c->rings, memory_order_relaxed),
		.full = atomic_load_explicit(&c->full, memory_order_relaxed),
	};
}
