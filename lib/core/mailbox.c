// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The mailbox: what was taken out of the inbox and waits to be received. A doubly linked list, so that a message may be
 * taken from any place; a reply or DOWN is also noted in the slot of its reference, where its receiver finds it without
 * looking at the others.
 */
#include "core/limit.h"
#include "core/node.h"

#include <mote/info.h>

#include <errno.h>

/*
 * A match function is called in the middle of a walk over the mailbox. What arrives meanwhile is put behind the last
 * message, and does no harm; nothing may be taken out.
 */
static _Noreturn void receive_in_match(void)
{
	mote_fatal("a match function of mote_receive_match() receives messages itself");
}

/* task.pending is set as long as a match function runs, so that the quickest receive need not ask. */
static __attribute__((noinline)) void receive_act(struct scheduler *s, struct process *p)
{
	if (unlikely(p->matching))
		receive_in_match();
	signals_act(s, p);
}

void mailbox_remove(struct process *p, struct signal *sig)
{
	if (unlikely(p->matching))
		receive_in_match();
	if (sig->kind == SIGNAL_COUNTED || sig->kind == SIGNAL_COUNTED_REQUEST)
		limit_left(scheduler_self(), p, sig);
	else if (sig->kind == SIGNAL_REPLY || sig->kind == SIGNAL_DOWN)
		ref_consumed(p, sig);
	node_uncharge(sig);
	if (sig->prev)
		sig->prev->next = sig->next;
	else
		p->first = sig->next;
	if (sig->next)
		sig->next->prev = sig->prev;
	else
		p->last = sig->prev;
	atomic_store_explicit(&p->nr_messages, atomic_load_explicit(&p->nr_messages, memory_order_relaxed) - 1,
			      memory_order_relaxed);
}

static struct mote_msg *mailbox_receive(struct process *p, struct signal *sig)
{
	mailbox_remove(p, sig);
	held_add(p, sig);
	return &sig->msg;
}

struct signal *mailbox_receive_first(struct scheduler *s, struct process *p)
{
	struct signal *sig = mailbox_take_plain(p);

	if (!sig)
		sig = signal_take_lone(s, p);
	if (likely(sig)) {
		/* First: if p has to end now, whoever asked is told. */
		node_uncharge(sig);
		held_add(p, sig);
		if (signals_pending(p))
			signals_act(s, p);
		return sig;
	}
	signals_act(s, p);
	sig = p->first;
	if (sig)
		mailbox_receive(p, sig);
	return sig;
}

void mailbox_end(struct scheduler *s, struct process *p, const struct mote_reason *reason)
{
	struct signal *sig, *next;

	for (sig = p->first; sig; sig = next) {
		next = sig->next;
		node_uncharge(sig);
		if (sig->kind == SIGNAL_REQUEST || sig->kind == SIGNAL_COUNTED_REQUEST)
			request_end(s, sig, process_pid(p), reason);
		else
			signal_free(s, sig);
	}
	p->first = p->last = NULL;
	atomic_store_explicit(&p->nr_messages, 0, memory_order_relaxed);
}

/* What a receive looks for. */
struct pattern {
	enum { PATTERN_ANY, PATTERN_TYPE, PATTERN_MATCH } kind;
	uint32_t type;
	bool (*match)(const struct mote_msg *m, void *arg);
	void *arg;
};

static void sleeper_fire(struct scheduler *s, struct wheel_timer *t)
{
	struct sleeper *sl = container_of(t, struct sleeper, timer);

	atomic_store_explicit(&sl->fired, true, memory_order_release);
	task_wake(s, sl->task);
}

void sleeper_arm(struct scheduler *s, struct sleeper *sl, struct task *t, int64_t deadline_ns)
{
	sl->task = t;
	sl->timer.fire = sleeper_fire;
	wheel_arm(&s->wheel, &sl->timer, deadline_ns);
}

int process_wait(struct scheduler *s, struct process *p, struct sleeper *sl, int64_t deadline, int why)
{
	int err;

	if (deadline <= 0)
		return -ETIMEDOUT;
	if (deadline != INT64_MAX || p->task.dying) {
		if (!sl->task) {
			err = task_clamp(&p->task, &deadline);
			if (err)
				return err;
			if (wheel_may_be_due(&s->wheel, deadline) && clock_now() >= deadline)
				return -ETIMEDOUT;
			sleeper_arm(s, sl, &p->task, deadline);
		} else if (atomic_load_explicit(&sl->fired, memory_order_acquire)) {
			return -ETIMEDOUT;
		}
	}
	task_park(s, why);
	return 0;
}

/*
 * Asks the process's own code, as its own code: it may crash there, or loop for ever, like anywhere else. So
 * nothing outside may point into this stack, and the mailbox is whole. Afterwards it may be longer, and the
 * scheduler another.
 */
static bool pattern_asks(struct process *p, const struct pattern *pattern, const struct mote_msg *m,
			 struct sleeper *sl)
{
	bool yes;

	sleeper_disarm(sl);
	*sl = (struct sleeper){ .task = NULL };
	p->matching = true;
	atomic_store_explicit(&p->task.pending, 1, memory_order_relaxed);
	runtime_leave();
	yes = pattern->match(m, pattern->arg);
	runtime_enter("mote_receive_match");
	p->matching = false;
	return yes;
}

static struct signal *mailbox_find(struct process *p, struct signal *from, const struct pattern *pattern,
				   struct sleeper *sl)
{
	for (; from; from = from->next) {
		if (pattern->kind == PATTERN_ANY ||
		    (pattern->kind == PATTERN_TYPE && from->msg.type == pattern->type) ||
		    (pattern->kind == PATTERN_MATCH && pattern_asks(p, pattern, &from->msg, sl)))
			break;
	}
	return from;
}

static struct mote_msg *receive(const char *name, const struct pattern *pattern, mote_deadline deadline)
{
	struct scheduler *s = runtime_enter(name);
	struct process *p = process_self(s);
	struct sleeper sl = { .task = NULL };
	struct mote_msg *m = NULL;
	struct signal *sig, *last = NULL;	/* last: the last one looked at */
	bool late = false;
	int err;

	if (unlikely(p->matching))
		receive_in_match();
	for (;;) {
		/* Also what a sender has put there while this process was parked. */
		sig = mailbox_find(p, last ? last->next : p->first, pattern, &sl);
		s = scheduler_self();
		if (sig)
			break;
		if (late) {
			process_fail(p, -ETIMEDOUT);
			break;
		}
		last = p->last;
		signals_take(s, p);
		if (unlikely(p->fatal && !p->task.dying)) {
			sleeper_disarm(&sl);
			task_die(&p->task);
		}
		if (p->last != last) {
			/* A stream of other messages must not carry the wait past its deadline, nor keep the CPU. */
			late = deadline.ns != INT64_MAX && clock_now() >= deadline.ns;
			task_spend(s);
			s = scheduler_self();
			continue;
		}
		err = process_wait(s, p, &sl, deadline.ns, MOTE_WAIT_MESSAGE);
		if (err) {
			process_fail(p, err);
			break;
		}
		s = scheduler_self();
	}
	sleeper_disarm(&sl);
	if (unlikely(atomic_load_explicit(&s->holds_back, memory_order_relaxed)))
		task_hooks->flush(s, s);
	/* First: if p has to end now, whoever asked is told. */
	if (sig)
		m = mailbox_receive(p, sig);
	if (signals_pending(p))
		signals_act(s, p);
	task_spend(s);
	runtime_leave();
	return m;
}

struct mote_msg *mote_receive(mote_deadline deadline)
{
	static const struct pattern any = { .kind = PATTERN_ANY };
	struct scheduler *s = runtime_enter("mote_receive");
	struct process *p = process_self(s);
	struct signal *sig = mailbox_take_plain(p);

	if (!sig && !p->first)
		sig = signal_take_lone(s, p);
	if (!sig && !p->first && deadline.ns == INT64_MAX && likely(!p->fatal && !p->task.dying)) {
		/* Most often: nothing is there, and the next thing that comes is what is wanted. */
		task_park(s, MOTE_WAIT_MESSAGE);
		s = scheduler_self();
		sig = mailbox_take_plain(p);
		if (!sig)
			sig = signal_take_lone(s, p);
	}
	if (unlikely(!sig))
		return receive("mote_receive", &any, deadline);
	node_uncharge(sig);
	held_add(p, sig);
	if (unlikely(atomic_load_explicit(&s->holds_back, memory_order_relaxed)))
		task_hooks->flush(s, s);
	if (signals_pending(p))
		receive_act(s, p);
	if (likely(--s->budget > 0)) {
		runtime_leave_on(s);
	} else {
		task_yield(s);
		runtime_leave();
	}
	return &sig->msg;
}

struct mote_msg *mote_receive_type(uint32_t type, mote_deadline deadline)
{
	struct pattern pattern = { .kind = PATTERN_TYPE, .type = type };

	return receive("mote_receive_type", &pattern, deadline);
}

struct mote_msg *mote_receive_match(bool (*match)(const struct mote_msg *m, void *arg), void *arg,
				    mote_deadline deadline)
{
	struct pattern pattern = { .kind = PATTERN_MATCH, .match = match, .arg = arg };

	return receive("mote_receive_match", &pattern, deadline);
}

struct mote_msg *mailbox_receive_ref(struct scheduler *s, struct process *p, mote_ref ref, int64_t deadline)
{
	struct sleeper sl = { .task = NULL };
	struct ref_slot *slot;
	struct signal *sig = NULL;
	int err = 0;

	for (;;) {
		signals_take(s, p);
		if (unlikely(p->fatal && !p->task.dying)) {
			sleeper_disarm(&sl);
			task_die(&p->task);
		}
		slot = ref_find(p, ref.id, ref.slot);
		if (!slot) {
			err = -EINVAL;
			break;
		}
		sig = slot->message;
		if (sig)
			break;
		err = process_wait(s, p, &sl, deadline, MOTE_WAIT_REF);
		if (err)
			break;
		s = scheduler_self();
	}
	sleeper_disarm(&sl);
	if (sig)
		return mailbox_receive(p, sig);
	process_fail(p, err);
	return NULL;
}

struct mote_msg *mote_receive_ref(mote_ref ref, mote_deadline deadline)
{
	struct scheduler *s = runtime_enter("mote_receive_ref");
	struct mote_msg *m = mailbox_receive_ref(s, process_self(s), ref, deadline.ns);

	task_spend(scheduler_self());
	runtime_leave();
	return m;
}

int mote_sleep(mote_deadline deadline)
{
	struct scheduler *s = runtime_enter("mote_sleep");
	struct process *p = process_self(s);
	struct sleeper sl = { .task = NULL };
	int err;

	do {
		signals_take(s, p);
		if (unlikely(p->fatal && !p->task.dying)) {
			sleeper_disarm(&sl);
			task_die(&p->task);
		}
		err = process_wait(s, p, &sl, deadline.ns, MOTE_WAIT_SLEEP);
		s = scheduler_self();
	} while (!err);
	sleeper_disarm(&sl);
	task_spend(s);
	runtime_leave();
	return err == -ETIMEDOUT ? 0 : err;
}
