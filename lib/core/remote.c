// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Onto the way: signals that go to other nodes.
 *
 * Whoever sends pushes to the node's stack and then, if nobody else is at it, writes. The one who writes takes in what
 * others push meanwhile, and looks once more after he has dropped the lock: so a signal is left to who holds the lock
 * only while that one is sure to look. A sender's earlier signals were on the stack or written before its later ones,
 * also when its process has moved to another scheduler in between; so order per pair holds. selftests/model/lane.pml.
 *
 * A stream of messages is written at once and committed in batches, as outbox.c does for neighbours: before its sender
 * can be noticed doing anything else.
 */
#include "core/remote.h"
#include "core/edge.h"
#include "core/node.h"
#include "port/fence.h"

#include <mote/info.h>

#include <errno.h>
#include <string.h>

#define CROWD		(UINT64_C(4) << 20)	/* bytes that wait for room, beyond which senders wait */
#define STREAM		16			/* messages in a row to one node that make a stream */
#define BATCH		32
#define HOLDS_MAX	1024			/* full mailboxes that a process remembers */

/* What each scheduler has written for a stream, and, as node.dirty says, may not have committed. */
static struct stream {
	_Atomic(struct node *) node;		/* of the latest message; the overseer reads it */
	uint64_t generation;			/* the scheduler's then */
	unsigned int run;
} __attribute__((aligned(2 * CACHE_LINE))) streams[256];

/* What is written behind the head. */
struct body {
	struct record_reason reason;
	bool has_reason;
	const char *data;
	size_t size;
};

static const uint8_t kinds[] = {
	[SIGNAL_MESSAGE] = RECORD_MESSAGE,
	[SIGNAL_REQUEST] = RECORD_REQUEST,
	[SIGNAL_CALL] = RECORD_CALL,
	[SIGNAL_REPLY] = RECORD_REPLY,
	[SIGNAL_DOWN] = RECORD_DOWN,
	[SIGNAL_EXIT] = RECORD_EXIT,
	[SIGNAL_EXIT_LINK] = RECORD_EXIT_LINK,
	[SIGNAL_LINK] = RECORD_LINK,
	[SIGNAL_UNLINK] = RECORD_UNLINK,
	[SIGNAL_UNLINK_ACK] = RECORD_UNLINK_ACK,
	[SIGNAL_MONITOR] = RECORD_MONITOR,
	[SIGNAL_DEMONITOR_REF] = RECORD_DEMONITOR,
	[SIGNAL_WATCHING] = RECORD_WATCHING,
	[SIGNAL_HOLD] = RECORD_HOLD,
	[SIGNAL_RESUME] = RECORD_RESUME,
	[SIGNAL_PROBE] = RECORD_PROBE,
	[SIGNAL_NAMED] = RECORD_NAMED,
	[SIGNAL_MONITOR_NAMED] = RECORD_MONITOR_NAMED,
	[SIGNAL_WHEREIS] = RECORD_WHEREIS,
	[SIGNAL_SPAWN] = RECORD_SPAWN,
};

static struct body body_of(const struct signal *sig)
{
	const struct mote_reason *reason;

	switch (sig->kind) {
	case SIGNAL_DOWN:
		reason = &((const struct mote_down_info *)sig->payload)->reason;
		break;
	case SIGNAL_EXIT:
	case SIGNAL_EXIT_LINK:
		reason = &((const struct mote_exit_info *)sig->payload)->reason;
		break;
	case SIGNAL_MESSAGE:
	case SIGNAL_REQUEST:
	case SIGNAL_CALL:
	case SIGNAL_REPLY:
	case SIGNAL_PROBE:
	case SIGNAL_NAMED:
	case SIGNAL_MONITOR_NAMED:
	case SIGNAL_WHEREIS:
	case SIGNAL_SPAWN:
		return (struct body){ .data = sig->payload, .size = sig->msg.size };
	default:
		return (struct body){ .size = 0 };
	}
	return (struct body){
		.reason = { reason->kind, reason->code }, .has_reason = true,
		.data = reason->data, .size = reason->size,
	};
}

static uint64_t weight(const struct signal *sig)
{
	return sizeof(struct record) + sig->msg.size;
}

static void head_fill(struct record *r, enum record_kind kind, const struct signal *sig, uint32_t to_slot)
{
	r->kind = (uint8_t)kind;
	r->flags = 0;
	r->zero = 0;
	r->to_serial = sig->to;
	r->to_slot = to_slot;
	r->from_serial = sig->msg.from.serial;
	r->from_slot = sig->msg.from.slot;
	r->ref = sig->ref;
	r->ref_slot = sig->ref_slot;
	r->type = sig->msg.type;
}

/* The slot of who is to get sig, while it waits: its data is at its payload. */
static uint32_t slot_of(const struct signal *sig)
{
	return (uint32_t)(uintptr_t)sig->msg.data;
}

/* A body that is larger than a record. False: no room for now; goes on where it was. */
static bool write_large(struct node *n, const struct signal *sig, const struct body *body, size_t max)
{
	struct record *r;

	if (!n->large) {
		r = carrier_reserve(n->carrier, 0);
		if (!r)
			return false;
		head_fill(r, RECORD_LARGE, sig, 0);
		r->ref = body->size;
		n->large = true;
		atomic_store_explicit(&n->dirty, true, memory_order_relaxed);
		n->written = 0;
	}
	while (n->written < body->size) {
		size_t part = body->size - n->written < max ? body->size - n->written : max;

		r = carrier_reserve(n->carrier, part);
		if (!r)
			return false;
		head_fill(r, RECORD_PART, sig, 0);
		memcpy(r + 1, body->data + n->written, part);
		n->written += part;
		atomic_store_explicit(&n->dirty, true, memory_order_relaxed);
	}
	return true;
}

/* With the lock. */
static bool write_signal(struct node *n, const struct signal *sig)
{
	size_t max = carrier_record_max(n->carrier), prefix;
	struct body body = body_of(sig);
	struct record *r;

	if (unlikely(!body.has_reason && body.size > max)) {
		if (!write_large(n, sig, &body, max))
			return false;
		body.size = 0;
	}
	prefix = body.has_reason ? sizeof(body.reason) : 0;
	r = carrier_reserve(n->carrier, prefix + body.size);
	if (!r)
		return false;
	head_fill(r, kinds[sig->kind], sig, slot_of(sig));
	if (unlikely(n->large))
		r->flags = RECORD_FLAG_LARGE;
	n->large = false;
	atomic_store_explicit(&n->dirty, true, memory_order_relaxed);
	if (prefix)
		memcpy(r + 1, &body.reason, prefix);
	if (body.size)
		memcpy((char *)(r + 1) + prefix, body.data, body.size);
	return true;
}

/* With the lock: what was pushed goes behind what waits. */
static void stack_take(struct node *n)
{
	/* acquire: pairs with node_push() */
	struct signal *sig = atomic_exchange_explicit(&n->stack, NULL, memory_order_acquire), *newest = sig, *next;
	struct signal *in_order = NULL;

	if (!sig)
		return;
	for (; sig; sig = next) {
		next = sig->next;
		sig->next = in_order;
		in_order = sig;
	}
	if (n->last)
		n->last->next = in_order;
	else
		n->first = in_order;
	n->last = newest;
}

static void lightened(struct scheduler *s, struct node *n, uint64_t bytes);

static void commit(struct node *n)
{
	if (atomic_load_explicit(&n->dirty, memory_order_relaxed))
		carrier_commit(n->carrier);
	atomic_store_explicit(&n->dirty, false, memory_order_relaxed);
}

/* With the lock. What can not be sent any more: in order, to be answered without it. */
static struct signal *node_write(struct scheduler *s, struct node *n)
{
	struct signal *sig, *dead;
	uint64_t bytes = 0;

	/* relaxed: with the lock, and before the writes; what is said later is seen by remote_push() */
	atomic_store_explicit(&n->roomy, false, memory_order_relaxed);
	stack_take(n);
	if (node_state(n) == MOTE_NODE_DOWN) {
		dead = n->first;
		for (sig = dead; sig; sig = sig->next)
			bytes += weight(sig);
		n->first = n->last = NULL;
		lightened(s, n, bytes);
		return dead;
	}
	while (n->carrier && (sig = n->first) && write_signal(n, sig)) {
		n->first = sig->next;
		if (!n->first)
			n->last = NULL;
		bytes += weight(sig);
		signal_free(s, sig);
	}
	commit(n);
	lightened(s, n, bytes);
	return NULL;
}

void remote_push(struct scheduler *s, struct node *n)
{
	struct signal *dead, *next;

	do {
		if (!lock_try(&n->lock))
			return;
		dead = node_write(s, n);
		lock_drop(&n->lock);
		for (; dead; dead = next) {
			mote_pid to = { dead->to, slot_of(dead), n->id };

			next = dead->next;
			dead->msg.data = dead->payload;
			signal_unreachable(s, dead, to);
		}
		/* seq_cst: who pushed and found the lock taken has pushed before this look */
		full_fence();
	} while (atomic_load_explicit(&n->stack, memory_order_relaxed) ||
		 atomic_load_explicit(&n->roomy, memory_order_relaxed));
}

void remote_room_found(struct scheduler *s, struct node *n)
{
	atomic_store_explicit(&n->roomy, true, memory_order_relaxed);
	/* seq_cst: as in node_push(); who has the lock, and found no room, looks again */
	full_fence();
	remote_push(s, n);
}

static void node_push(struct scheduler *s, struct node *n, struct signal *sig)
{
	struct signal *top = atomic_load_explicit(&n->stack, memory_order_relaxed);

	atomic_fetch_add_explicit(&n->queued, weight(sig), memory_order_relaxed);
	/* release: who takes it in sees it whole */
	do
		sig->next = top;
	while (!atomic_compare_exchange_weak_explicit(&n->stack, &top, sig, memory_order_release, memory_order_relaxed));
	/* seq_cst: with remote_push() of who has the lock now */
	full_fence();
	remote_push(s, n);
}

void remote_send(struct scheduler *s, struct signal *sig, mote_pid to)
{
	struct node *n = node_get(to.node);

	if (!n) {
		signal_unreachable(s, sig, to);
		return;
	}
	if (s && unlikely(atomic_load_explicit(&s->holds_back, memory_order_relaxed)))
		task_hooks->flush(s, s);
	sig->msg.data = (void *)(uintptr_t)to.slot;
	node_push(s, n, sig);
}

/* Whether what was just written, the lock still held, may wait for more of it. */
static bool stream_on(struct scheduler *s, struct node *n)
{
	uint64_t generation;
	struct stream *st;

	if (unlikely(!s || !s->current))
		return false;
	st = &streams[s->index];
	generation = atomic_load_explicit(&s->generation, memory_order_relaxed);
	if (atomic_load_explicit(&st->node, memory_order_relaxed) != n || st->generation != generation) {
		/* release: the overseer, which may be the first on its thread to look at n, sees it whole */
		atomic_store_explicit(&st->node, n, memory_order_release);
		st->generation = generation;
		st->run = 0;
	}
	if (++st->run < STREAM || st->run % BATCH == 0)
		return false;
	atomic_store_explicit(&s->holds_back, true, memory_order_relaxed);
	return true;
}

void remote_flush(struct scheduler *s, struct scheduler *from)
{
	/* acquire: pairs with stream_on() */
	struct node *n = atomic_load_explicit(&streams[from->index].node, memory_order_acquire);

	/* relaxed: what this scheduler has written is seen; for the overseer it is a hint */
	if (!n || !atomic_load_explicit(&n->dirty, memory_order_relaxed))
		return;
	/* Who holds it is not long, and may be in the middle of what has to be committed here. */
	lock_take(&n->lock);
	if (n->carrier)
		commit(n);
	lock_drop(&n->lock);
	remote_push(s, n);
}

int remote_message(struct scheduler *s, struct node *n, mote_pid to, uint32_t type, const void *data, size_t size)
{
	struct signal *sig;
	struct record *r;

	/* What was held back for neighbours may stay: order per pair is all that is promised. Not for another node. */
	if (s && unlikely(atomic_load_explicit(&s->holds_back, memory_order_relaxed)) &&
	    atomic_load_explicit(&streams[s->index].node, memory_order_relaxed) != n)
		task_hooks->flush(s, s);
	if (likely(!atomic_load_explicit(&n->stack, memory_order_relaxed)) && lock_try(&n->lock)) {
		/* Not before what this sender has left on the stack while somebody else had the lock. acquire: with node_push() */
		if (likely(!atomic_load_explicit(&n->stack, memory_order_acquire) && !n->first && n->carrier &&
			   size <= carrier_record_max(n->carrier) && (r = carrier_reserve(n->carrier, size)))) {
			const mote_pid from = s ? process_pid(process_self(s)) : MOTE_NOBODY;

			*r = (struct record){
				.size = (uint32_t)size, .kind = RECORD_MESSAGE,
				.to_serial = to.serial, .to_slot = to.slot,
				.from_serial = from.serial, .from_slot = from.slot, .type = type,
			};
			if (size)
				memcpy(r + 1, data, size);
			atomic_store_explicit(&n->dirty, true, memory_order_relaxed);
			if (!stream_on(s, n))
				commit(n);
			/* seq_cst: as in remote_push() */
			atomic_exchange(&n->lock.taken, false);
			if (unlikely(atomic_load_explicit(&n->stack, memory_order_relaxed) ||
				     atomic_load_explicit(&n->roomy, memory_order_relaxed)))
				remote_push(s, n);
			return 0;
		}
		lock_drop(&n->lock);
	}
	sig = signal_new(s, SIGNAL_MESSAGE, size);
	if (!sig) {
		remote_push(s, n);
		return -ENOMEM;
	}
	sig->to = to.serial;
	sig->msg.from = s ? process_pid(process_self(s)) : MOTE_NOBODY;
	sig->msg.type = type;
	sig->msg.data = (void *)(uintptr_t)to.slot;
	if (size)
		memcpy(sig->payload, data, size);
	node_push(s, n, sig);
	return 0;
}

/* --- senders that wait --- */

struct waiter {
	struct waiter *next, **link;
	struct task *task;
	_Atomic bool done;
};

static struct lock waiters_lock;
static struct waiter *waiters;			/* of all nodes: few wait, seldom */

static void waiters_wake(struct scheduler *s)
{
	struct waiter *w;
	struct task *t;

	for (;;) {
		lock_take(&waiters_lock);
		w = waiters;
		if (w) {
			waiters = w->next;
			if (w->next)
				w->next->link = &waiters;
			t = w->task;
			/* release: its frame may go as soon as it sees this */
			atomic_store_explicit(&w->done, true, memory_order_release);
		}
		lock_drop(&waiters_lock);
		if (!w)
			return;
		task_wake(s, t);
	}
}

static void lightened(struct scheduler *s, struct node *n, uint64_t bytes)
{
	uint64_t before = atomic_fetch_sub(&n->queued, bytes);

	/* seq_cst: with crowd_wait(), which sets crowded and then looks at queued */
	if (unlikely(atomic_load(&n->crowded)) && (before - bytes <= CROWD / 2 || node_state(n) == MOTE_NODE_DOWN)) {
		atomic_store(&n->crowded, false);
		waiters_wake(s);
	}
}

static bool crowded(struct node *n)
{
	return atomic_load(&n->queued) > CROWD && node_state(n) != MOTE_NODE_DOWN;
}

static bool held_by(struct process *p, mote_pid to)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);

	for (uint32_t i = 0; extra && i < extra->nr_holds; i++)
		if (mote_pid_equal(extra->holds[i].pid, to))
			return extra->holds[i].count > 0;
	return false;
}

static bool waiter_withdraw(struct waiter *w)
{
	bool done;

	lock_take(&waiters_lock);
	done = atomic_load_explicit(&w->done, memory_order_relaxed);
	if (!done) {
		*w->link = w->next;
		if (w->next)
			w->next->link = w->link;
	}
	lock_drop(&waiters_lock);
	return done;
}

/* Until n is less crowded, and to's mailbox has room as far as is known. */
static int remote_wait(struct scheduler *s, struct node *n, mote_pid to, int64_t deadline)
{
	struct process *self = process_self(s);
	struct sleeper sl = { .task = NULL };
	struct waiter w;
	int err = 0;

	while (!err) {
		w = (struct waiter){ .task = &self->task };
		lock_take(&waiters_lock);
		w.next = waiters;
		w.link = &waiters;
		if (waiters)
			waiters->link = &w.next;
		waiters = &w;
		lock_drop(&waiters_lock);
		atomic_store(&n->crowded, true);
		for (;;) {
			signals_take(s, self);
			if (unlikely(self->fatal && !self->task.dying)) {
				sleeper_disarm(&sl);
				waiter_withdraw(&w);
				task_die(&self->task);
			}
			if (atomic_load_explicit(&w.done, memory_order_acquire) ||
			    (!crowded(n) && !held_by(self, to)))
				break;
			err = process_wait(s, self, &sl, deadline, MOTE_WAIT_ROOM);
			if (err)
				break;
			s = scheduler_self();
		}
		waiter_withdraw(&w);
		if (!crowded(n) && !held_by(self, to))
			break;
	}
	sleeper_disarm(&sl);
	return err;
}

int remote_room(struct scheduler *s, struct node *n, mote_pid to, int64_t deadline)
{
	bool wait = unlikely(atomic_load_explicit(&n->queued, memory_order_relaxed) > CROWD) && crowded(n);
	struct extra *extra;

	if (likely(!wait) && s && s->current) {
		extra = atomic_load_explicit(&process_self(s)->extra, memory_order_relaxed);
		wait = unlikely(extra && extra->nr_holds) && held_by(process_self(s), to) &&
		       node_state(n) != MOTE_NODE_DOWN;
	}
	if (likely(!wait))
		return 0;
	if (!s || !s->current)
		return -EAGAIN;
	return remote_wait(s, n, to, deadline);
}

void hold_take(struct scheduler *s, struct process *p, struct signal *sig)
{
	struct extra *extra = process_extra(p);
	struct hold *holds = extra ? extra->holds : NULL, *more;
	int32_t step = sig->kind == SIGNAL_HOLD ? 1 : -1;
	uint32_t i;

	for (i = 0; holds && i < extra->nr_holds && !mote_pid_equal(holds[i].pid, sig->msg.from); i++)
		;
	if (extra && i < extra->nr_holds) {
		holds[i].count += step;
		if (!holds[i].count)
			holds[i] = holds[--extra->nr_holds];
	} else if (extra && i < HOLDS_MAX && !edge_note(p)) {
		/* Without memory p goes on sending, and what it sends waits there. */
		more = realloc(holds, (i + 1) * sizeof(*more));
		if (more) {
			more[i] = (struct hold){ sig->msg.from, step };
			extra->holds = more;
			extra->nr_holds = i + 1;
		}
	}
	signal_free(s, sig);
}

void holds_cut(struct process *p, uint64_t seq)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);

	for (uint32_t i = 0; extra && i < extra->nr_holds; )
		if (node_down_by(extra->holds[i].pid.node, seq))
			extra->holds[i] = extra->holds[--extra->nr_holds];
		else
			i++;
}

void remote_down(struct scheduler *s, struct node *n)
{
	if (n->partial)
		signal_free(s, n->partial);
	n->partial = NULL;
	remote_push(s, n);
	atomic_store(&n->crowded, false);
	waiters_wake(s);
}

void remote_drop(struct node *n)
{
	struct signal *sig, *next;

	stack_take(n);
	for (sig = n->first; sig; sig = next) {
		next = sig->next;
		signal_free(NULL, sig);
	}
	if (n->partial)
		signal_free(NULL, n->partial);
}

void remote_forget(void)
{
	memset(streams, 0, sizeof(streams));
	waiters = NULL;
	waiters_lock = (struct lock){ 0 };
}
