// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * State machines: the order in which events come, and what a callback's wishes make of it. One callback of the server
 * handles a message and all the events that follow from it, until none is left.
 */
#include "otp/statem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct statem_boot {
	const struct mote_statem_ops *ops;
	void *arg;
};

static const struct mote_server_ops statem_server;

/* The message of state enter calls. A signal, as of all messages: mote_msg_ref() and the like look at it. */
static const struct signal nothing;

struct statem *statem_self(const char *function)
{
	struct server *server = server_self(function);

	if (server->ops != &statem_server)
		mote_fatal("%s() is for callbacks of state machines", function);
	return server_state(server);
}

void *statem_grow(void *array, unsigned int n, unsigned int *max, size_t each)
{
	unsigned int room = *max ? *max * 2 : 4;
	void *grown;

	if (n < *max)
		return array;
	grown = mote_realloc(array, room * each);
	if (grown)
		*max = room;
	return grown;
}

struct mote_msg *statem_message(uint32_t type, const void *data, size_t size, int *err)
{
	struct mote_msg *m = size && !data ? NULL : mote_msg_new(type, size);

	*err = size && !data ? -EINVAL : m ? 0 : mote_errno();
	if (m && size)
		memcpy(m->data, data, size);
	return m;
}

static bool queue_add(struct statem_queue *q, const struct statem_event *event)
{
	struct statem_event *copy = mote_alloc(sizeof(*copy));

	if (!copy)
		return false;
	*copy = *event;
	copy->next = NULL;
	if (q->last)
		q->last->next = copy;
	else
		q->first = copy;
	q->last = copy;
	return true;
}

/* All of `first` before all of q; leaves `first` empty. */
static void queue_put_before(struct statem_queue *q, struct statem_queue *first)
{
	if (!first->first)
		return;
	first->last->next = q->first;
	if (!q->last)
		q->last = first->last;
	q->first = first->first;
	*first = (struct statem_queue){ NULL, NULL };
}

static bool state_valid(const struct mote_statem_ops *ops, int state)
{
	return state >= 0 && (!ops->states || (unsigned int)state < ops->nr_states);
}

static int ops_check(const struct mote_statem_ops *ops)
{
	if (!ops || ops->size != sizeof(*ops) || ops->reserved || ops->flags & ~(unsigned int)MOTE_STATEM_STATE_ENTER ||
	    !ops->states != !ops->nr_states || !state_valid(ops, ops->initial) || ops->data_size > UINT32_MAX)
		return -EINVAL;
	return 0;
}

PROCESS_ENTRY static int enter_init(struct statem *st, void *arg)
{
	int err = st->ops->init(st->data, arg);

	PROCESS_ENTRY_END();
	return err;
}

PROCESS_ENTRY static void enter_state(void (*event)(void *data, const struct mote_statem_event *e), struct statem *st,
				      const struct mote_statem_event *e)
{
	event(st->data, e);
	PROCESS_ENTRY_END();
}

PROCESS_ENTRY static void enter_event(struct statem *st, int state, const struct mote_statem_event *e)
{
	st->ops->handle_event(st->data, state, e);
	PROCESS_ENTRY_END();
}

PROCESS_ENTRY static void enter_terminate(struct statem *st, const struct mote_reason *why)
{
	st->ops->terminate(st->data, st->state, why);
	PROCESS_ENTRY_END();
}

PROCESS_ENTRY static int enter_format(const struct statem *st, char *buf, size_t size)
{
	int n = st->ops->format_status(st->data, st->state, buf, size);

	PROCESS_ENTRY_END();
	return n;
}

static bool stopping(const struct statem *st)
{
	return unlikely(st->server->extra->stopping);
}

static void check_wishes(const struct statem *st)
{
	if (unlikely(st->wrong != NULL))
		mote_exit(mote_reason_error(EINVAL, st->wrong));
}

/* lend: whether the callback may keep the message. It has, if the process's flag is down afterwards. */
static void callback(struct statem *st, int state, const struct mote_statem_event *e, bool lend)
{
	const struct mote_statem_ops *ops = st->ops;
	void (*event)(void *data, const struct mote_statem_event *e);

	event = (unsigned int)state < ops->nr_states ? ops->states[state].event : NULL;
	if (unlikely(!event && !ops->handle_event))
		mote_exit(mote_reason_error(ENOSYS, "a state without a function"));
	st->server->at = lend ? e->m : NULL;
	st->self->lent = lend;
	if (event)
		enter_state(event, st, e);
	else
		enter_event(st, state, e);
	st->server->at = NULL;
	check_wishes(st);
}

/* False: it stops. */
static bool call_enter(struct statem *st)
{
	const struct mote_statem_event e = { .type = MOTE_STATEM_ENTER, .old_state = st->state, .m = &nothing.msg };

	if (!(st->ops->flags & MOTE_STATEM_STATE_ENTER))
		return true;
	st->entering = true;
	do {
		st->repeat = false;
		callback(st, st->next, &e, false);
	} while (st->repeat && !stopping(st));
	st->entering = false;
	return !stopping(st);
}

static void settle(struct statem *st, bool changed)
{
	if (changed)
		queue_put_before(&st->queue, &st->postponed);
	statem_timeouts_settle(st, changed);
	queue_put_before(&st->queue, &st->inserted);
}

static void handle(struct statem *st, const struct statem_event *event)
{
	bool ours, changed;

	st->next = st->state;
	st->repeat = false;
	st->postpone = false;
	callback(st, st->state, &event->e, true);
	ours = st->self->lent;
	st->self->lent = false;
	if (stopping(st) || ((st->repeat || st->next != st->state) && !call_enter(st)))
		return;
	if (!st->postpone) {
		if (ours)
			mote_msg_free(event->m);
	} else if (!ours) {
		mote_exit(mote_reason_error(EINVAL, "a message that was kept is postponed"));
	} else if (!queue_add(&st->postponed, event)) {
		mote_exit(mote_reason_error(ENOMEM, "postponed events"));
	}
	changed = st->next != st->state;
	st->state = st->next;
	settle(st, changed);
}

static bool next_event(struct statem *st, struct statem_event *event)
{
	struct statem_event *first = st->queue.first;

	if (first) {
		*event = *first;
		st->queue.first = first->next;
		if (!first->next)
			st->queue.last = NULL;
		mote_free(first);
		return true;
	}
	if (likely(!st->timeouts.nr_running))
		return false;
	event->e = (struct mote_statem_event){ .type = MOTE_STATEM_TIMEOUT };
	event->e.m = event->m = statem_timeout_due(st, &event->e.timeout);
	return event->m != NULL;
}

static void handle_all(struct statem *st, struct statem_event *event)
{
	do {
		handle(st, event);
	} while (!stopping(st) && next_event(st, event));
}

static void statem_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct statem_event event = { .e = { .type = MOTE_STATEM_CALL, .from = from, .m = m }, .m = mote_msg_keep(m) };

	handle_all(state, &event);
}

static void statem_cast(void *state, const struct mote_msg *m)
{
	struct statem_event event = { .e = { .type = MOTE_STATEM_CAST, .m = m }, .m = mote_msg_keep(m) };

	handle_all(state, &event);
}

static void statem_info(void *state, const struct mote_msg *m)
{
	struct statem_event event = { .e = { .type = MOTE_STATEM_INFO, .m = m }, .m = mote_msg_keep(m) };

	if (unlikely(m->type == STATEM_TIMEOUT)) {
		event.e.type = MOTE_STATEM_TIMEOUT;
		event.e.m = event.m = statem_timeout_fired(state, m, &event.e.timeout);
		mote_msg_free((struct mote_msg *)m);
		if (!event.m)
			return;
	}
	handle_all(state, &event);
}

/* What init left to be done. */
static void statem_continue(void *state, const struct mote_msg *m)
{
	struct statem *st = state;
	struct statem_event event;
	bool lent = st->self->lent;

	/* One handle_continue is all there is, and it is taken. */
	if (m->type != STATEM_BEGIN)
		mote_exit(mote_reason_error(EINVAL, "mote_server_continue() by a state machine"));
	if (call_enter(st)) {
		settle(st, false);
		if (next_event(st, &event))
			handle_all(st, &event);
	}
	/* The message that the server itself was lent is still to be freed by it. */
	st->self->lent = lent;
}

static int statem_init(void *state, void *arg)
{
	const struct statem_boot *boot = arg;
	struct server_extra *extra;
	struct statem *st = state;
	int err;

	st->ops = boot->ops;
	st->server = server_self("mote_statem_start");
	st->self = process_caller();
	st->data = mote_zalloc(st->ops->data_size ? st->ops->data_size : 1);
	extra = server_extra(st->server);
	if (!st->data || !extra)
		return -ENOMEM;
	extra->shown = st->data;
	extra->shown_size = st->ops->data_size;
	st->state = st->next = st->ops->initial;
	err = st->ops->init ? enter_init(st, boot->arg) : 0;
	check_wishes(st);
	st->state = st->next;
	if (!err && (st->ops->flags & MOTE_STATEM_STATE_ENTER || st->inserted.first || st->timeouts.nr_wishes))
		err = mote_server_continue(STATEM_BEGIN, NULL, 0);
	return err;
}

static void statem_terminate(void *state, const struct mote_reason *why)
{
	struct statem *st = state;

	if (st->ops->terminate)
		enter_terminate(st, why);
}

static int statem_format(const void *state, char *buf, size_t size)
{
	const struct statem *st = state;
	const char *name = (unsigned int)st->state < st->ops->nr_states ? st->ops->states[st->state].name : NULL;
	int n = name ? snprintf(buf, size, "state %s", name) : snprintf(buf, size, "state %d", st->state);

	if (!st->ops->format_status || n < 0)
		return n;
	if ((size_t)n + 3 >= size)
		return n + 2 + enter_format(st, NULL, 0);
	memcpy(buf + n, ": ", 3);
	return n + 2 + enter_format(st, buf + n + 2, size - (size_t)n - 2);
}

static const struct mote_server_ops statem_server = {
	.size = sizeof(statem_server),
	.state_size = sizeof(struct statem),
	.init = statem_init,
	.handle_call = statem_call,
	.handle_cast = statem_cast,
	.handle_info = statem_info,
	.handle_continue = statem_continue,
	.terminate = statem_terminate,
	.format_status = statem_format,
};

static int start(const struct mote_statem_ops *ops, void *arg, const struct mote_server_opts *opts, bool link,
		 mote_ref *monitor, mote_pid *pid)
{
	struct statem_boot boot = { ops, arg };
	int err = ops_check(ops);

	return err ? err : server_start(&statem_server, &boot, sizeof(boot), opts, link, monitor, pid);
}

int mote_statem_start(const struct mote_statem_ops *ops, void *arg, const struct mote_server_opts *opts, mote_pid *pid)
{
	return start(ops, arg, opts, false, NULL, pid);
}

int mote_statem_start_link(const struct mote_statem_ops *ops, void *arg, const struct mote_server_opts *opts,
			   mote_pid *pid)
{
	return start(ops, arg, opts, true, NULL, pid);
}

int mote_statem_start_monitor(const struct mote_statem_ops *ops, void *arg, const struct mote_server_opts *opts,
			      mote_pid *pid, mote_ref *ref)
{
	return ref ? start(ops, arg, opts, false, ref, pid) : -EINVAL;
}

/* The first rule that was broken is the one to be told of. */
static void wrong(struct statem *st, const char *what)
{
	if (!st->wrong)
		st->wrong = what;
}

static bool allowed(struct statem *st, const char *what)
{
	if (st->entering)
		wrong(st, what);
	return !st->entering;
}

void mote_statem_next_state(int state)
{
	struct statem *st = statem_self("mote_statem_next_state");

	if (st->entering && state != st->next)
		wrong(st, "another state in a state enter call");
	else if (!state_valid(st->ops, state))
		wrong(st, "no such state");
	st->next = state;
	st->repeat = false;
}

void mote_statem_keep_state(void)
{
	struct statem *st = statem_self("mote_statem_keep_state");

	if (!st->entering)
		st->next = st->state;
	st->repeat = false;
}

void mote_statem_repeat_state(void)
{
	struct statem *st = statem_self("mote_statem_repeat_state");

	if (!st->entering)
		st->next = st->state;
	st->repeat = true;
}

void mote_statem_postpone(void)
{
	struct statem *st = statem_self("mote_statem_postpone");

	st->postpone = allowed(st, "postponed in a state enter call");
}

int mote_statem_next_event(const struct mote_statem_event *e)
{
	struct statem *st = statem_self("mote_statem_next_event");
	struct statem_event event = { .e = *e };
	int err;

	if (!allowed(st, "an event inserted in a state enter call") || e->type < 0 || e->type >= MOTE_STATEM_ENTER ||
	    (e->type == MOTE_STATEM_CALL && !e->from.ref.id))
		return -EINVAL;
	event.m = e->m ? statem_message(e->m->type, e->m->data, e->m->size, &err) : statem_message(0, NULL, 0, &err);
	if (!event.m)
		return err;
	event.e.m = event.m;
	if (queue_add(&st->inserted, &event))
		return 0;
	mote_msg_free(event.m);
	return -ENOMEM;
}

int mote_statem_internal(uint32_t type, const void *data, size_t size)
{
	const struct mote_msg m = { .type = type, .size = (uint32_t)size, .data = (void *)data };

	return size > UINT32_MAX ? -EMSGSIZE :
	       mote_statem_next_event(&(struct mote_statem_event){ .type = MOTE_STATEM_INTERNAL, .m = &m });
}

void mote_statem_exit(struct mote_reason reason)
{
	statem_self("mote_statem_exit");
	mote_server_exit(reason);
}

static int callbacks_check(struct statem *st, const struct mote_statem_ops *ops)
{
	int err = allowed(st, "callbacks changed in a state enter call") ? ops_check(ops) : -EINVAL;

	return err ? err : ops->data_size == st->ops->data_size ? 0 : -EINVAL;
}

int mote_statem_change_callbacks(const struct mote_statem_ops *ops)
{
	struct statem *st = statem_self("mote_statem_change_callbacks");
	int err = callbacks_check(st, ops);

	if (!err)
		st->ops = ops;
	return err;
}

int mote_statem_push_callbacks(const struct mote_statem_ops *ops)
{
	struct statem *st = statem_self("mote_statem_push_callbacks");
	const struct mote_statem_ops **room;
	int err = callbacks_check(st, ops);

	if (err)
		return err;
	room = statem_grow(st->below, st->nr_below, &st->max_below, sizeof(*room));
	if (!room)
		return -ENOMEM;
	st->below = room;
	room[st->nr_below++] = st->ops;
	st->ops = ops;
	return 0;
}

int mote_statem_pop_callbacks(void)
{
	struct statem *st = statem_self("mote_statem_pop_callbacks");

	if (!allowed(st, "callbacks changed in a state enter call"))
		return -EINVAL;
	if (!st->nr_below)
		return -ENOENT;
	st->ops = st->below[--st->nr_below];
	return 0;
}
