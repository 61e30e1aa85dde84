// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * An event handler in a process of its own: a server, linked to the manager, which sends it on all events. How it ends
 * tells the manager why: MOTE_NORMAL, it wanted to be removed; anything else, it has failed.
 */
#include "otp/event.h"

#include <errno.h>
#include <string.h>

struct boot {
	const struct mote_event_ops *ops;
	void *arg;
	uint32_t old_type, old_size;	/* the old message's bytes follow */
	uint64_t has_old;
};

struct apart {
	const struct mote_event_ops *ops;
	void *state;
	struct server *server;
	bool busy;			/* in a callback: what ends it now is its own fault */
	bool done;			/* terminate was called */
	bool asked;			/* a callback wants this end: */
	int kind;
};

static int apart_init(void *state, void *arg)
{
	const struct boot *boot = arg;
	struct mote_msg *old = NULL;
	struct apart *a = state;
	int err;

	a->ops = boot->ops;
	a->server = server_self("mote_event_add_handler");
	a->state = mote_zalloc(a->ops->state_size ? a->ops->state_size : 1);
	if (boot->has_old) {
		old = mote_msg_new(boot->old_type, boot->old_size);
		if (old && boot->old_size)
			memcpy(old->data, boot + 1, boot->old_size);
	}
	if (!a->state || (boot->has_old && !old))
		return -ENOMEM;
	err = event_enter_init(a->ops, a->state, boot->arg, old);
	mote_msg_free(old);
	return err;
}

/* After each callback. */
static void settle(struct apart *a, int result)
{
	struct mote_event_end end;

	a->busy = false;
	if (likely(!result))
		return;
	end = event_end_of(result);
	a->asked = true;
	a->kind = end.kind;
	mote_server_exit(end.kind == MOTE_EVENT_REMOVED ? MOTE_REASON_NORMAL : end.reason);
}

static int notify(struct apart *a, enum event_callback which, const struct mote_msg *m)
{
	a->busy = true;
	return event_enter(a->ops, which, a->state, m);
}

static void call(struct apart *a, struct mote_from from, const struct mote_msg *m)
{
	struct event_order o;
	int result;

	if (!event_order_take(m, &o, NULL))
		return;
	if (!a->ops->handle_call) {
		event_answer(from, -ENOSYS);
		return;
	}
	a->busy = true;
	result = event_enter_call(a->ops, a->state, from, m);
	/* If it was answered, this one vanishes. */
	if (result)
		event_answer(from, -EPIPE);
	settle(a, result);
}

static void farewell(struct apart *a, struct mote_from from, const struct mote_msg *m)
{
	struct mote_event_end why = { .kind = MOTE_EVENT_STOPPED };
	struct mote_msg *result;
	struct event_order o;

	if (!event_order_take(m, &o, NULL))
		return;
	why.kind = o.end;
	why.reason = (struct mote_reason){ .kind = o.reason_kind, .code = o.reason_code };
	if (why.kind == MOTE_EVENT_DELETED || why.kind == MOTE_EVENT_SWAPPED)
		why.m = m;
	a->done = true;
	result = event_enter_terminate(a->ops, a->state, &why);
	if (result)
		mote_reply_msg(from, result);
	else
		event_answer(from, 0);
	mote_server_exit(MOTE_REASON_NORMAL);
}

static void apart_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct apart *a = state;
	int result;

	/* Who else knows the pid has nothing to say here. */
	if (!mote_pid_equal(m->from, a->server->parent))
		return;
	if (m->type == EVENT_CALL) {
		call(a, from, m);
	} else if (m->type == EVENT_TERMINATE) {
		farewell(a, from, m);
	} else {
		result = notify(a, EVENT_CALLBACK_EVENT, m);
		event_answer(from, 0);
		settle(a, result);
	}
}

static void apart_cast(void *state, const struct mote_msg *m)
{
	settle(state, notify(state, EVENT_CALLBACK_EVENT, m));
}

static void apart_info(void *state, const struct mote_msg *m)
{
	settle(state, notify(state, EVENT_CALLBACK_INFO, m));
}

static void apart_terminate(void *state, const struct mote_reason *why)
{
	struct apart *a = state;
	struct mote_event_end end = { .kind = a->busy ? MOTE_EVENT_FAILED : MOTE_EVENT_STOPPED, .reason = *why };

	if (a->done)
		return;
	a->done = true;
	if (a->asked)
		end.kind = a->kind;
	mote_msg_free(event_enter_terminate(a->ops, a->state, &end));
}

static const struct mote_server_ops apart_server = {
	.size = sizeof(apart_server),
	.state_size = sizeof(struct apart),
	.init = apart_init,
	.handle_call = apart_call,
	.handle_cast = apart_cast,
	.handle_info = apart_info,
	.terminate = apart_terminate,
	.flags = MOTE_SERVER_OPAQUE,
};

int event_apart_start(const struct event_order *o, const struct mote_msg *old, mote_pid *pid)
{
	const struct mote_server_opts opts = {
		.size = sizeof(opts), .flags = MOTE_TRAP_EXIT, .label = "event handler",
	};
	size_t size = sizeof(struct boot) + (old ? old->size : 0);
	struct boot *boot = mote_alloc(size);
	int err;

	if (!boot)
		return -ENOMEM;
	*boot = (struct boot){ .ops = o->ops, .arg = o->arg };
	if (old) {
		boot->has_old = true;
		boot->old_type = old->type;
		boot->old_size = old->size;
		if (old->size)
			memcpy(boot + 1, old->data, old->size);
	}
	err = server_start(&apart_server, boot, size, &opts, true, NULL, pid);
	mote_free(boot);
	return err;
}
