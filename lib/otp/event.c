// SPDX-License-Identifier: MIT OR GPL-2.0
/* Event managers, from outside; and what the manager and its apart handlers have in common. */
#include "otp/event.h"

#include <errno.h>
#include <string.h>

/* A request with its order is put together here, unless it is larger; then in the process heap. */
#define REQUEST_ON_STACK 1024

bool event_order_take(const struct mote_msg *m, struct event_order *o, struct event_ids *ids)
{
	struct mote_msg *own = (struct mote_msg *)m;	/* lent to us, so ours to change */
	const char *at;

	if (m->size < sizeof(*o))
		return false;
	memcpy(o, (char *)m->data + m->size - sizeof(*o), sizeof(*o));
	if (o->type >= MOTE_MSG_SYSTEM || o->id_size > MOTE_EVENT_ID_MAX || o->old_size > MOTE_EVENT_ID_MAX ||
	    m->size - sizeof(*o) < (size_t)o->id_size + o->old_size)
		return false;
	own->size -= (uint32_t)sizeof(*o) + o->id_size + o->old_size;
	own->type = o->type;
	if (!ids)
		return true;
	at = (char *)m->data + m->size;
	memcpy(ids->id, at, o->id_size);
	ids->id[o->id_size] = 0;
	memcpy(ids->old, at + o->id_size, o->old_size);
	ids->old[o->old_size] = 0;
	return true;
}

static int order_check(struct event_order *o, const char *id, const char *old, const void *data, size_t size)
{
	size_t id_size = id ? strlen(id) : 0, old_size = old ? strlen(old) : 0;

	if (id_size > MOTE_EVENT_ID_MAX || old_size > MOTE_EVENT_ID_MAX || (size && !data))
		return -EINVAL;
	if (size > UINT32_MAX / 2)
		return -EMSGSIZE;
	o->id_size = (uint16_t)id_size;
	o->old_size = (uint16_t)old_size;
	return 0;
}

static size_t order_write(char *to, const struct event_order *o, const char *id, const char *old, const void *data,
			  size_t size)
{
	char *at = to;

	if (size)
		memcpy(at, data, size);
	at += size;
	if (o->id_size)
		memcpy(at, id, o->id_size);
	at += o->id_size;
	if (o->old_size)
		memcpy(at, old, o->old_size);
	at += o->old_size;
	memcpy(at, o, sizeof(*o));
	return (size_t)(at - to) + sizeof(*o);
}

int event_ask(mote_pid to, enum event_message what, struct event_order *o, const char *id, const char *old,
	      const void *data, size_t size, struct mote_msg **reply, mote_deadline deadline)
{
	char small[REQUEST_ON_STACK], *bytes = small;
	int err = order_check(o, id, old, data, size);
	size_t most = size + sizeof(struct event_ids) + sizeof(*o);

	if (err)
		return err;
	if (most > sizeof(small))
		bytes = mote_alloc(most);
	if (!bytes)
		return -ENOMEM;
	err = mote_call(to, what, bytes, order_write(bytes, o, id, old, data, size), reply, deadline);
	if (bytes != small)
		mote_free(bytes);
	return err;
}

static mote_ref no_request(int err)
{
	struct process *self = process_caller();

	if (self)
		process_fail(self, err);
	else
		foreign_fail(err);
	return (mote_ref){ 0 };
}

mote_ref event_request(mote_pid to, enum event_message what, struct event_order *o, const char *id, const void *data,
		       size_t size)
{
	int err = order_check(o, id, NULL, data, size);
	struct mote_msg *m = err ? NULL : mote_msg_new(what, size + o->id_size + sizeof(*o));

	if (!m)
		return no_request(err ? err : mote_errno());
	order_write(m->data, o, id, NULL, data, size);
	return mote_request_msg(to, m);
}

void event_answer(struct mote_from from, int err)
{
	int32_t wire = err;

	if (err)
		mote_reply(from, EVENT_ERROR, &wire, sizeof(wire));
	else
		mote_reply(from, EVENT_DONE, NULL, 0);
}

/* Takes an answer: what it says, with a message of the user's in *reply. */
static int answer_result(struct mote_msg *m, struct mote_msg **reply)
{
	int32_t err = 0;

	if (m->type == EVENT_ERROR) {
		if (m->size == sizeof(err))
			memcpy(&err, m->data, sizeof(err));
		if (err >= 0)
			err = -EPROTO;
	}
	if (reply)
		*reply = NULL;
	if (reply && m->type != EVENT_ERROR && m->type != EVENT_DONE)
		*reply = m;
	else
		mote_msg_free(m);
	return err;
}

/* --- callbacks --- */

struct mote_event_end event_end_of(int result)
{
	if (result == MOTE_EVENT_REMOVE)
		return (struct mote_event_end){ .kind = MOTE_EVENT_REMOVED };
	return (struct mote_event_end){
		.kind = MOTE_EVENT_FAILED,
		.reason = mote_reason_error(result < 0 ? -result : EINVAL, "an event handler"),
	};
}

PROCESS_ENTRY struct mote_msg *event_enter_terminate(const struct mote_event_ops *ops, void *state,
						     const struct mote_event_end *why)
{
	struct mote_msg *m = ops->terminate ? ops->terminate(state, why) : NULL;

	PROCESS_ENTRY_END();
	return m;
}

PROCESS_ENTRY static int enter(int (*fn)(void *state, const struct mote_msg *m), void *state, const struct mote_msg *m)
{
	int result = fn(state, m);

	PROCESS_ENTRY_END();
	return result;
}

int event_enter(const struct mote_event_ops *ops, enum event_callback which, void *state, const struct mote_msg *m)
{
	int (*fn)(void *state, const struct mote_msg *m);

	fn = which == EVENT_CALLBACK_EVENT ? ops->handle_event : ops->handle_info;
	return fn ? enter(fn, state, m) : 0;
}

PROCESS_ENTRY int event_enter_call(const struct mote_event_ops *ops, void *state, struct mote_from from,
				   const struct mote_msg *m)
{
	int result = ops->handle_call(state, from, m);

	PROCESS_ENTRY_END();
	return result;
}

PROCESS_ENTRY int event_enter_init(const struct mote_event_ops *ops, void *state, void *arg, const struct mote_msg *old)
{
	int err = ops->init ? ops->init(state, arg, old) : 0;

	PROCESS_ENTRY_END();
	return err > 0 ? -EINVAL : err;
}

/* --- those who use a manager --- */

/* A manager of a parent's that ends must end in order: it traps exits whatever opts say. */
static int start(const struct mote_server_opts *opts, bool link, mote_ref *monitor, mote_pid *pid)
{
	struct mote_server_opts known;
	int err = opts_copy(&known, sizeof(known), opts);

	if (err)
		return err;
	known.size = sizeof(known);
	known.flags |= MOTE_TRAP_EXIT;
	return server_start(&event_manager, NULL, 0, &known, link, monitor, pid);
}

int mote_event_start(const struct mote_server_opts *opts, mote_pid *pid)
{
	return start(opts, false, NULL, pid);
}

int mote_event_start_link(const struct mote_server_opts *opts, mote_pid *pid)
{
	return start(opts, true, NULL, pid);
}

int mote_event_start_monitor(const struct mote_server_opts *opts, mote_pid *pid, mote_ref *ref)
{
	return ref ? start(opts, false, ref, pid) : -EINVAL;
}

int mote_event_notify(mote_pid manager, uint32_t type, const void *data, size_t size)
{
	return mote_cast(manager, type, data, size);
}

int mote_event_sync_notify(mote_pid manager, uint32_t type, const void *data, size_t size, mote_deadline deadline)
{
	struct mote_msg *m;
	int err = type < MOTE_MSG_SYSTEM ? mote_call(manager, type, data, size, &m, deadline) : -EINVAL;

	return err ? err : answer_result(m, NULL);
}

static int ask(mote_pid manager, enum event_message what, struct event_order *o, const char *id, const char *old,
	       const void *data, size_t size, struct mote_msg **result, mote_deadline deadline)
{
	struct mote_msg *m;
	int err = event_ask(manager, what, o, id, old, data, size, &m, deadline);

	return err ? err : answer_result(m, result);
}

static bool id_valid(const char *id)
{
	return id && *id;
}

static int add(mote_pid manager, enum event_message what, const char *old, const void *data, size_t size,
	       const struct mote_event_handler *h, bool sup, mote_deadline deadline)
{
	struct event_order o = { .sup = sup };

	if (!h || !id_valid(h->id) || !h->ops || h->ops->size != sizeof(*h->ops) || h->ops->state_size > UINT32_MAX ||
	    h->flags & ~(unsigned int)MOTE_EVENT_APART)
		return -EINVAL;
	if (mote_pid_valid(manager) && !port_is_here(manager.node))
		return -EREMOTE;
	o.ops = h->ops;
	o.arg = h->arg;
	o.flags = h->flags;
	return ask(manager, what, &o, h->id, old, data, size, NULL, deadline);
}

int mote_event_add_handler(mote_pid manager, const struct mote_event_handler *handler, mote_deadline deadline)
{
	return add(manager, EVENT_ADD, NULL, NULL, 0, handler, false, deadline);
}

int mote_event_add_sup_handler(mote_pid manager, const struct mote_event_handler *handler, mote_deadline deadline)
{
	return add(manager, EVENT_ADD, NULL, NULL, 0, handler, true, deadline);
}

int mote_event_swap_handler(mote_pid manager, const char *id, const void *data, size_t size,
			    const struct mote_event_handler *handler, mote_deadline deadline)
{
	return id_valid(id) ? add(manager, EVENT_SWAP, id, data, size, handler, false, deadline) : -EINVAL;
}

int mote_event_swap_sup_handler(mote_pid manager, const char *id, const void *data, size_t size,
				const struct mote_event_handler *handler, mote_deadline deadline)
{
	return id_valid(id) ? add(manager, EVENT_SWAP, id, data, size, handler, true, deadline) : -EINVAL;
}

int mote_event_delete_handler(mote_pid manager, const char *id, const void *data, size_t size, struct mote_msg **result,
			      mote_deadline deadline)
{
	struct event_order o = { 0 };

	return id_valid(id) ? ask(manager, EVENT_DELETE, &o, id, NULL, data, size, result, deadline) : -EINVAL;
}

int mote_event_call(mote_pid manager, const char *id, uint32_t type, const void *data, size_t size,
		    struct mote_msg **reply, mote_deadline deadline)
{
	struct event_order o = { .type = type };

	if (!id_valid(id) || type >= MOTE_MSG_SYSTEM)
		return -EINVAL;
	return ask(manager, EVENT_CALL, &o, id, NULL, data, size, reply, deadline);
}

mote_ref mote_event_send_request(mote_pid manager, const char *id, uint32_t type, const void *data, size_t size)
{
	struct event_order o = { .type = type };

	if (!id_valid(id) || type >= MOTE_MSG_SYSTEM)
		return no_request(-EINVAL);
	return event_request(manager, EVENT_CALL, &o, id, data, size);
}

int mote_event_response(struct mote_msg *m, struct mote_msg **reply)
{
	int err = m ? call_result(m, &m) : mote_errno();

	return err ? err : answer_result(m, reply);
}

int mote_event_which_handlers(mote_pid manager, struct mote_msg **ids, mote_deadline deadline)
{
	struct event_order o = { 0 };
	int err = event_ask(manager, EVENT_WHICH, &o, NULL, NULL, NULL, 0, ids, deadline);

	if (!err && (*ids)->type != EVENT_WHICH) {
		mote_msg_free(*ids);
		err = -EPROTO;
	}
	return err;
}
