// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The event manager: a list of handlers, newest first, and of questions to apart handlers that are under way.
 *
 * It waits for an apart handler only when that is to end: events that come meanwhile wait with it, so none is lost
 * between a handler and its successor.
 */
#include "otp/event.h"
#include "otp/report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* How long all apart handlers together have for their last words when the manager ends. */
#define FAREWELL_MS 5000

struct handler {
	struct handler *next;
	const struct mote_event_ops *ops;
	void *state;			/* unless it is apart */
	mote_pid pid;			/* of an apart one */
	mote_pid owner;			/* who added it with sup; or MOTE_NOBODY */
	char id[];
};

/* An event whose sender waits until apart handlers have had it. */
struct sync {
	struct mote_from from;
	unsigned int waiting;
	int err;			/* not all were to be reached */
};

/* A question to an apart handler. */
struct pending {
	struct pending *next;
	mote_ref ref;
	struct sync *sync;		/* NULL: a call, by */
	struct mote_from from;
};

struct manager {
	struct handler *handlers;
	struct pending *pending;
	struct handler *current;	/* whose callback runs: if the manager ends now, it is its fault */
	struct server *server;
};

static bool is_apart(const struct handler *h)
{
	return mote_pid_valid(h->pid);
}

static struct handler **handler_find(struct manager *mgr, const char *id)
{
	struct handler **at = &mgr->handlers;

	while (*at && strcmp((*at)->id, id))
		at = &(*at)->next;
	return at;
}

static struct handler *handler_of(struct manager *mgr, mote_pid pid)
{
	struct handler *h = mgr->handlers;

	while (h && !mote_pid_equal(h->pid, pid))
		h = h->next;
	return h;
}

static bool is_exit_of(const struct mote_msg *m, void *arg)
{
	const struct mote_exit_info *exit = mote_msg_exit(m);

	return exit && mote_pid_equal(exit->pid, *(mote_pid *)arg);
}

/* It says its last words; what it gives with them. NULL also if it has ended by itself: *err. */
static struct mote_msg *apart_end(mote_pid pid, const struct mote_event_end *why, mote_deadline deadline, int *err)
{
	struct event_order o = {
		.end = (uint8_t)why->kind, .reason_kind = why->reason.kind, .reason_code = why->reason.code,
	};
	const struct mote_msg *m = why->m;
	struct mote_msg *result = NULL;

	*err = event_ask(pid, EVENT_TERMINATE, &o, NULL, NULL, m ? m->data : NULL, m ? m->size : 0, &result, deadline);
	/* It was gone already, or has crashed just now, or it waits for the manager, which would wait for it. */
	if (*err) {
		mote_exit_pid(pid, MOTE_REASON_KILL);
		*err = -EPIPE;
	}
	/* Its EXIT is not to be taken for that of somebody else later. */
	mote_unlink(pid);
	mote_msg_free(mote_receive_match(is_exit_of, &pid, MOTE_NOW));
	if (!*err && result->type != EVENT_DONE)
		return result;
	mote_msg_free(result);
	return NULL;
}

static void tell_owner(const struct handler *h, const struct mote_event_end *why, const char *new_id)
{
	struct mote_event_exit e = {
		.kind = why->kind, .reason_kind = why->reason.kind, .reason_code = why->reason.code,
	};

	if (!mote_pid_valid(h->owner) || why->kind == MOTE_EVENT_ADDER_ENDED)
		return;
	strcpy(e.id, h->id);
	if (new_id)
		strcpy(e.new_id, new_id);
	mote_send(h->owner, MOTE_MSG_EVENT_EXIT, &e, sizeof(e));
}

/* One that is out of the list, and has said its last words. */
static void handler_free(struct handler *h, const struct mote_event_end *why, const char *new_id)
{
	if (why->kind == MOTE_EVENT_FAILED && !is_apart(h))
		report_behaviour("event handler", &why->reason, NULL, h->id, MOTE_NOBODY);
	tell_owner(h, why, new_id);
	mote_free(h->state);
	mote_free(h);
}

static struct mote_msg *handler_remove(struct handler **at, const struct mote_event_end *why, const char *new_id,
				       mote_deadline deadline, int *err)
{
	struct handler *h = *at;
	struct mote_msg *result;

	*err = 0;
	*at = h->next;
	if (is_apart(h))
		result = apart_end(h->pid, why, deadline, err);
	else
		result = event_enter_terminate(h->ops, h->state, why);
	handler_free(h, why, new_id);
	return result;
}

static int handler_add(struct manager *mgr, const struct event_order *o, const char *id, mote_pid owner,
		       const struct mote_msg *old)
{
	size_t length = strlen(id);
	struct handler *h;
	int err;

	if (!length || *handler_find(mgr, id))
		return length ? -EEXIST : -EINVAL;
	h = mote_zalloc(sizeof(*h) + length + 1);
	if (!h)
		return -ENOMEM;
	h->ops = o->ops;
	h->owner = owner;
	memcpy(h->id, id, length + 1);
	err = mote_pid_valid(owner) ? mote_link(owner) : 0;
	if (!err && o->flags & MOTE_EVENT_APART) {
		err = event_apart_start(o, old, &h->pid);
	} else if (!err) {
		h->state = mote_zalloc(o->ops->state_size ? o->ops->state_size : 1);
		err = h->state ? event_enter_init(o->ops, h->state, o->arg, old) : -ENOMEM;
	}
	if (err) {
		mote_free(h->state);
		mote_free(h);
		return err;
	}
	h->next = mgr->handlers;
	mgr->handlers = h;
	return 0;
}

/* After a callback of *at. Returns where the next handler is. */
static struct handler **handler_settle(struct manager *mgr, struct handler **at, int result)
{
	struct mote_event_end why;
	int err;

	mgr->current = NULL;
	if (likely(!result))
		return &(*at)->next;
	why = event_end_of(result);
	mote_msg_free(handler_remove(at, &why, NULL, MOTE_FOREVER, &err));
	return at;
}

/*
 * Takes p, which was made before the request: so an answer always finds it. False: there was no memory for the
 * request.
 */
static bool pending_add(struct manager *mgr, struct pending *p, mote_ref ref, struct sync *sync, struct mote_from from)
{
	if (!ref.id) {
		mote_free(p);
		return false;
	}
	*p = (struct pending){ mgr->pending, ref, sync, from };
	mgr->pending = p;
	return true;
}

static bool ask_event(struct manager *mgr, const struct handler *h, const struct mote_msg *m, struct sync *sync)
{
	struct pending *p = mote_alloc(sizeof(*p));

	return p && pending_add(mgr, p, mote_request(h->pid, m->type, m->data, m->size), sync, (struct mote_from){ 0 });
}

static bool ask_call(struct manager *mgr, const struct handler *h, const struct mote_msg *m, struct mote_from from)
{
	struct event_order o = { .type = m->type };
	struct pending *p = mote_alloc(sizeof(*p));

	return p && pending_add(mgr, p, event_request(h->pid, EVENT_CALL, &o, NULL, m->data, m->size), NULL, from);
}

/* An answer of an apart handler, or that it has ended without one. False: it is none. */
static bool pending_answered(struct manager *mgr, const struct mote_msg *m)
{
	struct pending **at = &mgr->pending, *p;
	mote_ref ref = mote_msg_ref(m);

	if (likely(!ref.id))
		return false;
	while ((p = *at) && !mote_ref_equal(p->ref, ref))
		at = &p->next;
	if (!p)
		return false;
	*at = p->next;
	if (!p->sync) {
		if (mote_msg_down(m))
			event_answer(p->from, -EPIPE);
		else
			mote_reply_msg(p->from, mote_msg_keep(m));
	} else if (!--p->sync->waiting) {
		event_answer(p->sync->from, p->sync->err);
		mote_free(p->sync);
	}
	mote_free(p);
	return true;
}

/* To all; from: who waits until they have had it. */
static void notify(struct manager *mgr, enum event_callback which, const struct mote_msg *m, struct mote_from from)
{
	struct mote_msg *own = mote_msg_keep(m);	/* so that no handler can take it away from the others */
	struct handler **at = &mgr->handlers, *h;
	struct sync *sync = NULL;
	int err = 0;

	while ((h = *at)) {
		if (!is_apart(h)) {
			mgr->current = h;
			at = handler_settle(mgr, at, event_enter(h->ops, which, h->state, m));
			continue;
		}
		at = &h->next;
		if (which == EVENT_CALLBACK_INFO) {
			if (m->type < MOTE_MSG_RESERVED)
				mote_send(h->pid, m->type, m->data, m->size);
		} else if (!from.ref.id) {
			mote_cast(h->pid, m->type, m->data, m->size);
		} else {
			if (!sync)
				sync = mote_zalloc(sizeof(*sync));
			if (sync && ask_event(mgr, h, m, sync))
				sync->waiting++;
			else
				err = -ENOMEM;
		}
	}
	if (from.ref.id && (!sync || !sync->waiting)) {
		mote_free(sync);
		event_answer(from, err);
	} else if (sync) {
		sync->from = from;
		sync->err = err;
	}
	mote_msg_free(own);
}

static void call(struct manager *mgr, struct mote_from from, const char *id, const struct mote_msg *m)
{
	struct handler **at = handler_find(mgr, id), *h = *at;
	int result;

	if (!h) {
		event_answer(from, -ENOENT);
	} else if (is_apart(h)) {
		if (!ask_call(mgr, h, m, from))
			event_answer(from, -ENOMEM);
	} else if (!h->ops->handle_call) {
		event_answer(from, -ENOSYS);
	} else {
		mgr->current = h;
		result = event_enter_call(h->ops, h->state, from, m);
		/* If it was answered, this one vanishes. */
		if (result)
			event_answer(from, -EPIPE);
		handler_settle(mgr, at, result);
	}
}

static void delete_handler(struct manager *mgr, struct mote_from from, const char *id, const struct mote_msg *m)
{
	const struct mote_event_end why = { .kind = MOTE_EVENT_DELETED, .m = m };
	struct handler **at = handler_find(mgr, id);
	struct mote_msg *result = NULL;
	int err = -ENOENT;

	if (*at)
		result = handler_remove(at, &why, NULL, MOTE_FOREVER, &err);
	if (result)
		mote_reply_msg(from, result);
	else
		event_answer(from, err);
}

static int swap(struct manager *mgr, const struct event_order *o, const struct event_ids *ids, mote_pid caller,
		const struct mote_msg *m)
{
	const struct mote_event_end why = { .kind = MOTE_EVENT_SWAPPED, .m = m };
	struct handler **at = handler_find(mgr, ids->old);
	mote_pid owner = o->sup ? caller : *at ? (*at)->owner : MOTE_NOBODY;
	struct mote_msg *result = NULL;
	int err;

	if (*handler_find(mgr, ids->id) && strcmp(ids->id, ids->old))
		return -EEXIST;
	if (*at)
		result = handler_remove(at, &why, ids->id, MOTE_FOREVER, &err);
	err = handler_add(mgr, o, ids->id, owner, result);
	mote_msg_free(result);
	return err;
}

static void which(struct manager *mgr, struct mote_from from)
{
	struct mote_msg *m;
	size_t size = 0;

	for (struct handler *h = mgr->handlers; h; h = h->next)
		size += strlen(h->id) + 1;
	m = mote_msg_new(EVENT_WHICH, size);
	if (!m)
		return;
	size = 0;
	for (struct handler *h = mgr->handlers; h; h = h->next) {
		strcpy((char *)m->data + size, h->id);
		size += strlen(h->id) + 1;
	}
	mote_reply_msg(from, m);
}

static int manager_init(void *state, void *arg)
{
	(void)arg;
	((struct manager *)state)->server = server_self("mote_event_start");
	return 0;
}

static void manager_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct manager *mgr = state;
	uint32_t what = m->type;
	mote_pid caller = m->from;
	struct handler *asker = handler_of(mgr, caller);
	struct event_order o;
	struct event_ids ids;

	if (what < MOTE_MSG_SYSTEM) {
		/* An apart handler would wait for itself, here and where it asks for its own answer or end. */
		if (asker)
			event_answer(from, -EDEADLK);
		else
			notify(mgr, EVENT_CALLBACK_EVENT, m, from);
		return;
	}
	/* A function of another program is no function of ours. */
	if (!event_order_take(m, &o, &ids) ||
	    ((what == EVENT_ADD || what == EVENT_SWAP) && !port_is_here(caller.node))) {
		event_answer(from, -EINVAL);
		return;
	}
	if (asker && !strcmp(asker->id, what == EVENT_SWAP ? ids.old : ids.id)) {
		event_answer(from, -EDEADLK);
		return;
	}
	switch (what) {
	case EVENT_ADD:
		event_answer(from, handler_add(mgr, &o, ids.id, o.sup ? caller : MOTE_NOBODY, NULL));
		break;
	case EVENT_SWAP:
		event_answer(from, swap(mgr, &o, &ids, caller, m));
		break;
	case EVENT_DELETE:
		delete_handler(mgr, from, ids.id, m);
		break;
	case EVENT_CALL:
		call(mgr, from, ids.id, m);
		break;
	case EVENT_WHICH:
		which(mgr, from);
		break;
	default:
		event_answer(from, -EINVAL);
	}
}

static void manager_cast(void *state, const struct mote_msg *m)
{
	notify(state, EVENT_CALLBACK_EVENT, m, (struct mote_from){ 0 });
}

/* True: it was that of an apart handler. */
static bool apart_ended(struct manager *mgr, const struct mote_exit_info *exit)
{
	struct mote_event_end why = { .kind = MOTE_EVENT_FAILED, .reason = exit->reason };
	struct handler *h = handler_of(mgr, exit->pid);

	if (!h)
		return false;
	if (exit->reason.kind == MOTE_NORMAL)
		why.kind = MOTE_EVENT_REMOVED;
	*handler_find(mgr, h->id) = h->next;
	handler_free(h, &why, NULL);
	return true;
}

static void owner_ended(struct manager *mgr, const struct mote_exit_info *exit)
{
	const struct mote_event_end why = { .kind = MOTE_EVENT_ADDER_ENDED, .reason = exit->reason };
	struct handler **at = &mgr->handlers;
	int err;

	while (*at) {
		if (mote_pid_valid((*at)->owner) && mote_pid_equal((*at)->owner, exit->pid))
			mote_msg_free(handler_remove(at, &why, NULL, MOTE_FOREVER, &err));
		else
			at = &(*at)->next;
	}
}

static void manager_info(void *state, const struct mote_msg *m)
{
	const struct mote_exit_info *exit = mote_msg_exit(m);
	struct manager *mgr = state;

	if (pending_answered(mgr, m) || (exit && apart_ended(mgr, exit)))
		return;
	if (exit)
		owner_ended(mgr, exit);
	notify(mgr, EVENT_CALLBACK_INFO, m, (struct mote_from){ 0 });
}

/* Who supervises handlers is not to end with the manager. */
static void manager_terminate(void *state, const struct mote_reason *why)
{
	struct mote_event_end end = { .reason = *why };
	mote_deadline deadline = mote_in_ms(FAREWELL_MS);
	struct manager *mgr = state;
	struct handler *h;
	int err;

	while ((h = mgr->handlers)) {
		mote_pid owner = h->owner;

		end.kind = h == mgr->current ? MOTE_EVENT_FAILED : MOTE_EVENT_STOPPED;
		mote_msg_free(handler_remove(&mgr->handlers, &end, NULL, deadline, &err));
		if (mote_pid_valid(owner) && !mote_pid_equal(owner, mgr->server->parent))
			mote_unlink(owner);
	}
}

static int manager_format(const void *state, char *buf, size_t size)
{
	const struct manager *mgr = state;
	int n = snprintf(buf, size, "handlers:");

	for (struct handler *h = mgr->handlers; h && n >= 0; h = h->next) {
		size_t left = (size_t)n < size ? size - (size_t)n : 0;

		n += snprintf(left ? buf + n : NULL, left, " %s%s", h->id, is_apart(h) ? " (apart)" : "");
	}
	return n;
}

const struct mote_server_ops event_manager = {
	.size = sizeof(event_manager),
	.state_size = sizeof(struct manager),
	.init = manager_init,
	.handle_call = manager_call,
	.handle_cast = manager_cast,
	.handle_info = manager_info,
	.terminate = manager_terminate,
	.format_status = manager_format,
	.flags = MOTE_SERVER_OPAQUE,
};
