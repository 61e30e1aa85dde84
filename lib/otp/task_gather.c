// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Waiting for many tasks at once. What is here at first is found by the tasks' references, what comes later is looked
 * at once each, as it comes, whatever else lies in the mailbox: so a wait for n tasks takes O(n).
 */
#include "otp/task.h"

#include <mote/info.h>

#include <errno.h>

struct gather {
	struct mote_task_result *results;
	uint32_t *index;		/* by slot of the reference: which of the results, + 1; 0: none */
	uint32_t slots;
	size_t left;			/* to come */
	bool all_well, failed;
};

static void take(struct gather *g, struct process *p, struct signal *sig, struct mote_task_result *r)
{
	mailbox_remove(p, sig);
	held_add(p, sig);
	if (task_settle(scheduler_self(), p, r, &sig->msg))
		g->failed = true;
	g->left--;
}

static bool done(const struct gather *g)
{
	return !g->left || (g->all_well && g->failed);
}

/* Those that are here. */
static void take_present(struct gather *g, struct process *p, size_t n)
{
	for (size_t i = 0; i < n && !done(g); i++) {
		struct mote_task_result *r = &g->results[i];
		struct ref_slot *slot = ref_find(p, r->task.ref.id, r->task.ref.slot);

		if (r->err != -EAGAIN)
			continue;
		if (!slot || (r->task.ref.slot < g->slots && g->index[r->task.ref.slot])) {
			/* It was awaited before, perhaps as another one of these. */
			r->err = -EINVAL;
			g->left--;
			g->failed = true;
		} else if (slot->message) {
			take(g, p, slot->message, r);
		} else if (r->task.ref.slot < g->slots) {
			g->index[r->task.ref.slot] = (uint32_t)i + 1;
		}
	}
}

/* Those behind `last`, which was the last one before. */
static void take_new(struct gather *g, struct process *p, struct signal *last)
{
	struct signal *sig = last ? last->next : p->first, *next;

	for (; sig && !done(g); sig = next) {
		struct mote_task_result *r;
		uint32_t i;

		next = sig->next;
		if ((sig->kind != SIGNAL_REPLY && sig->kind != SIGNAL_DOWN) || sig->ref_slot >= g->slots)
			continue;
		i = g->index[sig->ref_slot];
		r = i ? &g->results[i - 1] : NULL;
		if (r && r->err == -EAGAIN && r->task.ref.id == sig->ref)
			take(g, p, sig, r);
	}
}

static int wait_for(struct gather *g, size_t n, int64_t deadline)
{
	struct scheduler *s = runtime_enter("mote_task_await_many");
	struct process *p = process_self(s);
	struct sleeper sl = { .task = NULL };
	struct signal *last;
	int err = 0;

	signals_act(s, p);
	take_present(g, p, n);
	/* What is sent to one that is parked may be in its mailbox when it wakes: the last one is noted before. */
	last = p->last;
	while (!done(g)) {
		signals_take(scheduler_self(), p);
		if (unlikely(p->fatal && !p->task.dying)) {
			sleeper_disarm(&sl);
			task_die(&p->task);
		}
		if (p->last != last) {
			take_new(g, p, last);
			last = p->last;
			continue;
		}
		err = process_wait(scheduler_self(), p, &sl, deadline, MOTE_WAIT_REF);
		if (err)
			break;
	}
	sleeper_disarm(&sl);
	process_leave(scheduler_self());
	return err;
}

int task_gather(struct mote_task_result *results, size_t n, size_t limit, bool all_well, int64_t deadline)
{
	struct process *self = process_caller();
	struct gather g = { .results = results, .all_well = all_well };
	int err;

	for (size_t i = 0; i < n; i++) {
		mote_task task = results[i].task;

		if (!mote_pid_equal(task.owner, mote_self()))
			return -EPERM;
		if (task.ref.slot >= g.slots)
			g.slots = task.ref.slot + 1;
	}
	if (!self->refs || g.slots > self->refs->max)
		g.slots = self->refs ? self->refs->max : 0;
	for (size_t i = 0; i < n; i++)
		results[i] = (struct mote_task_result){ .task = results[i].task, .item = results[i].item,
							.err = -EAGAIN };
	g.left = limit && limit < n ? limit : n;
	if (!g.left)
		return 0;
	g.index = mote_zalloc((g.slots ? g.slots : 1) * sizeof(*g.index));
	if (!g.index)
		return -ENOMEM;
	err = wait_for(&g, n, deadline);
	mote_free(g.index);
	return err;
}

int mote_task_await_many(struct mote_task_result *results, size_t n, mote_deadline deadline)
{
	int err = task_gather(results, n, 0, true, deadline.ns);

	if (err == -EPERM || err == -ENOMEM)
		return err;
	for (size_t i = 0; i < n && !err; i++)
		err = results[i].err == -EAGAIN ? 0 : results[i].err;
	for (size_t i = 0; i < n && err; i++) {
		mote_msg_free(results[i].m);
		results[i].m = NULL;
		if (results[i].err == -EAGAIN)
			task_give_up(results[i].task);
	}
	return err;
}

int mote_task_yield_many(struct mote_task_result *results, size_t n, size_t limit, int on_timeout,
			 mote_deadline deadline)
{
	size_t told = 0;
	int err;

	if (on_timeout < MOTE_TASK_NOTHING || on_timeout > MOTE_TASK_IGNORE || n > INT32_MAX)
		return -EINVAL;
	err = task_gather(results, n, limit, false, deadline.ns);
	if (err == -EPERM || err == -ENOMEM)
		return err;
	for (size_t i = 0; i < n; i++) {
		if (err == -ETIMEDOUT && results[i].err == -EAGAIN && on_timeout == MOTE_TASK_KILL)
			mote_task_shutdown(results[i].task, &results[i], MOTE_NOW);
		else if (err == -ETIMEDOUT && results[i].err == -EAGAIN && on_timeout == MOTE_TASK_IGNORE)
			mote_task_ignore(results[i].task, &results[i]);
		told += results[i].err != -EAGAIN;
	}
	return (int)told;
}
