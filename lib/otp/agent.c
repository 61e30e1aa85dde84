// SPDX-License-Identifier: MIT OR GPL-2.0
/* Agents: a server whose requests are functions. */
#include "otp/server.h"

#include <mote/agent.h>

#include <errno.h>
#include <string.h>

enum agent_message {
	AGENT_ORDER = MOTE_MSG_SYSTEM + 0x500,	/* struct order and the argument */
	AGENT_RESULT,
};

enum kind { GET, UPDATE, GET_AND_UPDATE };

struct order {
	union {
		void (*get)(const void *state, const void *arg, void *result);
		void (*update)(void *state, const void *arg);
		void (*get_and_update)(void *state, const void *arg, void *result);
	} fn;
	uint32_t result_size;
	uint32_t kind;
};

_Static_assert(sizeof(struct order) % 16 == 0, "the argument follows, aligned");

/* An order with its argument is put together here, unless it is larger; then in the process heap. */
#define ORDER_ON_STACK 512

struct agent {
	void *state;
};

struct boot {
	int (*init)(void *state, void *arg);
	void *arg;
	size_t state_size;
	uint64_t copied;			/* the state follows */
};

PROCESS_ENTRY static int enter_init(const struct boot *boot, void *state)
{
	int err = boot->init(state, boot->arg);

	PROCESS_ENTRY_END();
	return err;
}

PROCESS_ENTRY static void enter_order(const struct order *o, void *state, void *result)
{
	const void *arg = o + 1;

	if (o->kind == GET)
		o->fn.get(state, arg, result);
	else if (o->kind == UPDATE)
		o->fn.update(state, arg);
	else
		o->fn.get_and_update(state, arg, result);
	PROCESS_ENTRY_END();
}

static int agent_init(void *state, void *arg)
{
	const struct boot *boot = arg;
	struct agent *a = state;
	struct server_extra *extra = server_extra(server_self("mote_agent_start"));

	a->state = mote_zalloc(boot->state_size ? boot->state_size : 1);
	if (!a->state || !extra)
		return -ENOMEM;
	extra->shown = a->state;
	extra->shown_size = boot->state_size;
	if (boot->copied)
		memcpy(a->state, boot + 1, boot->state_size);
	return boot->init ? enter_init(boot, a->state) : 0;
}

/* A function of another program is no function of ours. */
static const struct order *order_of(const struct mote_msg *m)
{
	if (m->type == AGENT_ORDER && m->size >= sizeof(struct order) &&
	    (port_is_here(m->from.node) || !m->from.node))
		return m->data;
	runtime_log(MOTE_LOG_WARNING, "agent " MOTE_PID_FMT ": a message of type %#x is dropped",
		    MOTE_PID_ARG(mote_self()), m->type);
	return NULL;
}

static void agent_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	const struct order *o = order_of(m);
	struct agent *a = state;
	struct mote_msg *result;

	if (!o)
		return;
	result = mote_msg_new(AGENT_RESULT, o->result_size);
	if (!result)
		mote_exit(mote_reason_error(-mote_errno(), "the result of an agent"));
	if (o->result_size)
		memset(result->data, 0, o->result_size);
	enter_order(o, a->state, result->data);
	mote_reply_msg(from, result);
}

static void agent_cast(void *state, const struct mote_msg *m)
{
	const struct order *o = order_of(m);
	struct agent *a = state;

	if (o && o->kind == UPDATE)
		enter_order(o, a->state, NULL);
}

static void agent_info(void *state, const struct mote_msg *m)
{
	(void)state;
	if (m->type != MOTE_MSG_EXIT)
		order_of(m);
}

static const struct mote_server_ops agent_server = {
	.size = sizeof(agent_server),
	.state_size = sizeof(struct agent),
	.init = agent_init,
	.handle_call = agent_call,
	.handle_cast = agent_cast,
	.handle_info = agent_info,
};

static int start(size_t state_size, int (*init)(void *state, void *arg), void *arg, const struct mote_server_opts *opts,
		 bool link, mote_pid *pid)
{
	bool copied = !init && arg && state_size;
	size_t size = sizeof(struct boot) + (copied ? state_size : 0);
	struct boot *boot;
	int err;

	if (state_size > UINT32_MAX / 2)
		return -EINVAL;
	boot = mote_alloc(size);
	if (!boot)
		return -ENOMEM;
	*boot = (struct boot){ .init = init, .arg = arg, .state_size = state_size, .copied = copied };
	if (copied)
		memcpy(boot + 1, arg, state_size);
	err = server_start(&agent_server, boot, size, opts, link, NULL, pid);
	mote_free(boot);
	return err;
}

int mote_agent_start(size_t state_size, int (*init)(void *state, void *arg), void *arg,
		     const struct mote_server_opts *opts, mote_pid *pid)
{
	return start(state_size, init, arg, opts, false, pid);
}

int mote_agent_start_link(size_t state_size, int (*init)(void *state, void *arg), void *arg,
			  const struct mote_server_opts *opts, mote_pid *pid)
{
	return start(state_size, init, arg, opts, true, pid);
}

static int order_check(mote_pid agent, const struct order *o, const void *arg, size_t arg_size, const void *result,
		       size_t result_size)
{
	if (!o->fn.get || (arg_size && !arg) || (result_size && !result))
		return -EINVAL;
	if (arg_size > UINT32_MAX / 2 || result_size > UINT32_MAX / 2)
		return -EMSGSIZE;
	return mote_pid_valid(agent) && !port_is_here(agent.node) ? -EREMOTE : 0;
}

static int ask(mote_pid agent, const struct order *o, const void *arg, size_t arg_size, void *result,
	       mote_deadline deadline)
{
	char small[ORDER_ON_STACK], *bytes = small;
	struct mote_msg *m;
	int err;

	if (sizeof(*o) + arg_size > sizeof(small))
		bytes = mote_alloc(sizeof(*o) + arg_size);
	if (!bytes)
		return -ENOMEM;
	memcpy(bytes, o, sizeof(*o));
	if (arg_size)
		memcpy(bytes + sizeof(*o), arg, arg_size);
	err = mote_call(agent, AGENT_ORDER, bytes, sizeof(*o) + arg_size, &m, deadline);
	if (bytes != small)
		mote_free(bytes);
	if (err)
		return err;
	if (m->type != AGENT_RESULT || m->size != o->result_size)
		err = -EPROTO;
	else if (m->size)
		memcpy(result, m->data, m->size);
	mote_msg_free(m);
	return err;
}

int mote_agent_get(mote_pid agent, void (*fn)(const void *state, const void *arg, void *result), const void *arg,
		   size_t arg_size, void *result, size_t result_size, mote_deadline deadline)
{
	struct order o = { .fn.get = fn, .kind = GET, .result_size = (uint32_t)result_size };
	int err = order_check(agent, &o, arg, arg_size, result, result_size);

	return err ? err : ask(agent, &o, arg, arg_size, result, deadline);
}

int mote_agent_update(mote_pid agent, void (*fn)(void *state, const void *arg), const void *arg, size_t arg_size,
		      mote_deadline deadline)
{
	struct order o = { .fn.update = fn, .kind = UPDATE };
	int err = order_check(agent, &o, arg, arg_size, NULL, 0);

	return err ? err : ask(agent, &o, arg, arg_size, NULL, deadline);
}

int mote_agent_get_and_update(mote_pid agent, void (*fn)(void *state, const void *arg, void *result), const void *arg,
			      size_t arg_size, void *result, size_t result_size, mote_deadline deadline)
{
	struct order o = { .fn.get_and_update = fn, .kind = GET_AND_UPDATE, .result_size = (uint32_t)result_size };
	int err = order_check(agent, &o, arg, arg_size, result, result_size);

	return err ? err : ask(agent, &o, arg, arg_size, result, deadline);
}

int mote_agent_cast(mote_pid agent, void (*fn)(void *state, const void *arg), const void *arg, size_t arg_size)
{
	struct order o = { .fn.update = fn, .kind = UPDATE };
	int err = order_check(agent, &o, arg, arg_size, NULL, 0);
	struct mote_msg *m;

	if (err)
		return err;
	m = mote_msg_new(AGENT_ORDER | MOTE_MSG_CAST, sizeof(o) + arg_size);
	if (!m)
		return mote_errno();
	memcpy(m->data, &o, sizeof(o));
	if (arg_size)
		memcpy((char *)m->data + sizeof(o), arg, arg_size);
	return mote_send_msg(agent, m);
}
