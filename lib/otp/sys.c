// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * System messages: requests that every server answers, whatever it is made for. What a function asks, and what the server
 * does about it, stand together here.
 */
#include "otp/server.h"

#include <mote/node.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct trace_request {
	void (*fn)(const struct mote_sys_event *e, void *arg);
	void *arg;
};

struct change_request {
	const struct mote_server_ops *ops;
	void *arg;
};

/* --- those who ask --- */

/* Takes a message of the reply's bytes out of it: *body, *size. The reply is freed unless kept. */
static int ask(mote_pid pid, enum system_message what, const void *data, size_t size, struct mote_msg **reply,
	       mote_deadline deadline)
{
	struct mote_msg *m;
	int32_t answer;
	int err = mote_call(pid, what, data, size, &m, deadline);

	if (err)
		return err;
	if (m->type != SYSTEM_ANSWER || m->size < sizeof(answer)) {
		mote_msg_free(m);
		return -EPROTO;
	}
	memcpy(&answer, m->data, sizeof(answer));
	if (answer || !reply)
		mote_msg_free(m);
	else
		*reply = m;
	return answer > 0 ? -EPROTO : answer;
}

static bool elsewhere(mote_pid pid)
{
	return mote_pid_valid(pid) && !port_is_here(pid.node);
}

static const char *body(const struct mote_msg *m)
{
	return (const char *)m->data + sizeof(int32_t);
}

int mote_sys_get_state(mote_pid pid, void *buf, size_t *size, mote_deadline deadline)
{
	size_t room = *size, there;
	struct mote_msg *m;
	int err = ask(pid, SYSTEM_GET_STATE, NULL, 0, &m, deadline);

	if (err)
		return err;
	there = m->size - sizeof(int32_t);
	if (there < room)
		room = there;
	if (room)
		memcpy(buf, body(m), room);
	*size = there;
	mote_msg_free(m);
	return 0;
}

int mote_sys_replace_state(mote_pid pid, const void *state, size_t size, mote_deadline deadline)
{
	return ask(pid, SYSTEM_REPLACE_STATE, state, size, NULL, deadline);
}

int mote_sys_get_status(mote_pid pid, struct mote_msg **text, mote_deadline deadline)
{
	struct mote_msg *m;
	int err = ask(pid, SYSTEM_GET_STATUS, NULL, 0, &m, deadline);

	if (err)
		return err;
	m->size -= (uint32_t)sizeof(int32_t);
	memmove(m->data, body(m), m->size);
	if (!m->size || ((char *)m->data)[m->size - 1]) {
		mote_msg_free(m);
		return -EPROTO;
	}
	*text = m;
	return 0;
}

int mote_sys_suspend(mote_pid pid, mote_deadline deadline)
{
	return ask(pid, SYSTEM_SUSPEND, NULL, 0, NULL, deadline);
}

int mote_sys_resume(mote_pid pid, mote_deadline deadline)
{
	return ask(pid, SYSTEM_RESUME, NULL, 0, NULL, deadline);
}

int mote_sys_statistics(mote_pid pid, bool on, mote_deadline deadline)
{
	uint8_t flag = on;

	return ask(pid, SYSTEM_STATISTICS, &flag, sizeof(flag), NULL, deadline);
}

int mote_sys_get_statistics(mote_pid pid, struct mote_sys_statistics *s, mote_deadline deadline)
{
	struct mote_sys_statistics full;
	size_t size = s->size;
	struct mote_msg *m;
	int err;

	if (size < sizeof(size))
		return -EINVAL;
	err = ask(pid, SYSTEM_GET_STATISTICS, NULL, 0, &m, deadline);
	if (err)
		return err;
	if (m->size != sizeof(int32_t) + sizeof(full)) {
		mote_msg_free(m);
		return -EPROTO;
	}
	memcpy(&full, body(m), sizeof(full));
	mote_msg_free(m);
	full.size = size;
	opts_give(s, size, &full, sizeof(full) < size ? sizeof(full) : size);
	return 0;
}

int mote_sys_trace(mote_pid pid, void (*fn)(const struct mote_sys_event *e, void *arg), void *arg, mote_deadline deadline)
{
	struct trace_request request = { fn, arg };

	if (elsewhere(pid))
		return -EREMOTE;
	return ask(pid, SYSTEM_TRACE, &request, sizeof(request), NULL, deadline);
}

int mote_sys_change_code(mote_pid pid, const struct mote_server_ops *ops, void *arg, mote_deadline deadline)
{
	struct change_request request = { ops, arg };

	if (!ops || ops->size != sizeof(*ops) || !ops->code_change || ops->state_size > UINT32_MAX)
		return -EINVAL;
	if (elsewhere(pid))
		return -EREMOTE;
	return ask(pid, SYSTEM_CHANGE_CODE, &request, sizeof(request), NULL, deadline);
}

static bool reason_equal(const struct mote_reason *a, const struct mote_reason *b)
{
	return a->kind == b->kind && a->code == b->code && a->size == b->size &&
	       (!a->size || !memcmp(a->data, b->data, a->size));
}

int mote_server_stop(mote_pid pid, struct mote_reason reason, mote_deadline deadline)
{
	struct { struct wire_reason head; char data[MOTE_REASON_MAX]; } wire = { .head = { reason.kind, reason.code } };
	const struct mote_down_info *down;
	struct mote_msg *m;
	mote_ref ref;
	int err = 0;

	if (reason.kind > MOTE_CUSTOM || (reason.size && !reason.data))
		return -EINVAL;
	if (reason.size > MOTE_REASON_MAX)
		return -EMSGSIZE;
	if (mote_pid_equal(pid, mote_self()))
		return -EDEADLK;
	if (reason.size)
		memcpy(wire.data, reason.data, reason.size);
	ref = mote_request(pid, SYSTEM_TERMINATE, &wire, sizeof(wire.head) + reason.size);
	if (!ref.id)
		return mote_errno();
	m = mote_receive_ref(ref, deadline);
	if (!m) {
		err = mote_errno();
		mote_demonitor(ref, MOTE_FLUSH);
		return err;
	}
	/* Nobody answers: what comes is how it ended. */
	down = mote_msg_down(m);
	if (!down)
		err = -EPROTO;
	else if (down->reason.kind == MOTE_NOPROC)
		err = -ESRCH;
	else if (!reason_equal(&down->reason, &reason))
		err = down->reason.kind == MOTE_NOCONNECTION ? -ECONNRESET : -EPIPE;
	mote_msg_free(m);
	return err;
}

/* --- who is asked --- */

static void answer(struct mote_from from, int err, const void *data, size_t size)
{
	struct mote_msg *m = mote_msg_new(SYSTEM_ANSWER, sizeof(int32_t) + size);
	int32_t wire = err;

	/* Without memory the asker waits until its deadline. */
	if (!m)
		return;
	memcpy(m->data, &wire, sizeof(wire));
	if (size)
		memcpy((char *)m->data + sizeof(wire), data, size);
	mote_reply_msg(from, m);
}

/* What is shown of the state: NULL: nothing. */
static void *shown(struct server *server, size_t *size)
{
	if (server->extra && server->extra->shown) {
		*size = server->extra->shown_size;
		return server->extra->shown;
	}
	*size = server->ops->state_size;
	return server->ops->flags & MOTE_SERVER_OPAQUE ? NULL : server_state(server);
}

static void give_state(struct server *server, struct mote_from from)
{
	size_t size;
	void *state = shown(server, &size);

	if (state)
		answer(from, 0, state, size);
	else
		answer(from, -EOPNOTSUPP, NULL, 0);
}

static int replace_state(struct server *server, const struct mote_msg *m)
{
	size_t size;
	void *state = shown(server, &size);

	if (!state)
		return -EOPNOTSUPP;
	if (m->size != size)
		return -EINVAL;
	if (size)
		memcpy(state, m->data, size);
	return 0;
}

static void give_status(struct server *server, struct mote_from from)
{
	mote_pid self = mote_self();
	char text[4096];
	int n;

	n = snprintf(text, sizeof(text), "server " MOTE_PID_FMT ", parent " MOTE_PID_FMT ", %s\n", MOTE_PID_ARG(self),
		     MOTE_PID_ARG(server->parent), server->extra && server->extra->suspended ? "suspended" : "running");
	server_format(server, text + n, sizeof(text) - (size_t)n);
	answer(from, 0, text, strlen(text) + 1);
}

static bool is_for_suspended(const struct mote_msg *m, void *arg)
{
	return server_parent_ended(arg, m) ||
	       (m->type >= MOTE_MSG_SYSTEM && m->type < SYSTEM_END && m->type != SYSTEM_TIMEOUT && mote_msg_from(m).ref.id);
}

/* Until it is resumed: what else comes stays in the mailbox, in its order. */
static void suspended_loop(struct server *server, struct mote_from from)
{
	struct server_extra *extra = server_extra(server);

	if (!extra) {
		answer(from, -ENOMEM, NULL, 0);
		return;
	}
	extra->suspended = true;
	answer(from, 0, NULL, 0);
	while (extra->suspended) {
		struct mote_msg *m = mote_receive_match(is_for_suspended, server, MOTE_FOREVER);

		if (mote_msg_exit(m))
			server_end(server, &mote_msg_exit(m)->reason);
		sys_handle(server, mote_msg_from(m), m);
		mote_msg_free(m);
	}
}

static int count(struct server *server, const struct mote_msg *m)
{
	struct server_extra *extra = server_extra(server);
	int64_t now = mote_now().ns;

	if (!extra)
		return -ENOMEM;
	if (m->size != 1)
		return -EINVAL;
	extra->counting = *(const uint8_t *)m->data;
	extra->statistics = (struct mote_sys_statistics){ .size = sizeof(extra->statistics), .since_ns = now };
	return 0;
}

static void give_statistics(struct server *server, struct mote_from from)
{
	struct server_extra *extra = server->extra;

	if (!extra || !extra->counting) {
		answer(from, -ENOENT, NULL, 0);
		return;
	}
	extra->statistics.now_ns = mote_now().ns;
	answer(from, 0, &extra->statistics, sizeof(extra->statistics));
}

static int trace(struct server *server, const struct mote_msg *m)
{
	struct server_extra *extra = server_extra(server);
	struct trace_request request;

	if (!extra)
		return -ENOMEM;
	if (m->size != sizeof(request) || !port_is_here(m->from.node))
		return -EINVAL;
	memcpy(&request, m->data, sizeof(request));
	extra->trace = request.fn;
	extra->trace_arg = request.arg;
	return 0;
}

PROCESS_ENTRY static int enter_change(const struct change_request *request, void *state, struct server *server)
{
	int err = request->ops->code_change(state, server_state(server), server->ops->version, request->arg);

	PROCESS_ENTRY_END();
	return err;
}

static int change_code(struct server *server, const struct mote_msg *m)
{
	struct change_request request;
	void *state, *old;
	int err;

	if (m->size != sizeof(request) || !port_is_here(m->from.node))
		return -EINVAL;
	memcpy(&request, m->data, sizeof(request));
	/* A behaviour's engine state is not for the callbacks of its users. */
	if (server->ops->flags & MOTE_SERVER_OPAQUE || (server->extra && server->extra->shown))
		return -EOPNOTSUPP;
	if (!server->extra || !server->extra->suspended)
		return -EBUSY;
	state = mote_alloc(request.ops->state_size ? request.ops->state_size : 1);
	if (!state)
		return -ENOMEM;
	memset(state, 0, request.ops->state_size);
	err = enter_change(&request, state, server);
	if (err) {
		mote_free(state);
		return err;
	}
	old = server->extra->state;
	server->extra->state = state;
	server->ops = request.ops;
	mote_free(old);
	return 0;
}

/* The reason's bytes are the message's, which lives until the process does not. */
static _Noreturn void terminate(struct server *server, const struct mote_msg *m)
{
	struct wire_reason head = { .kind = MOTE_ERROR, .code = EPROTO };

	if (m->size >= sizeof(head))
		memcpy(&head, m->data, sizeof(head));
	server_end(server, &(struct mote_reason){ .kind = head.kind, .code = head.code,
						  .data = (const char *)m->data + sizeof(head),
						  .size = m->size > sizeof(head) ? m->size - sizeof(head) : 0 });
}

void sys_handle(struct server *server, struct mote_from from, const struct mote_msg *m)
{
	switch (m->type) {
	case SYSTEM_TERMINATE:
		terminate(server, m);
	case SYSTEM_GET_STATE:
		give_state(server, from);
		break;
	case SYSTEM_REPLACE_STATE:
		answer(from, replace_state(server, m), NULL, 0);
		break;
	case SYSTEM_GET_STATUS:
		give_status(server, from);
		break;
	case SYSTEM_SUSPEND:
		if (server->extra && server->extra->suspended)
			answer(from, 0, NULL, 0);
		else
			suspended_loop(server, from);
		break;
	case SYSTEM_RESUME:
		if (server->extra)
			server->extra->suspended = false;
		answer(from, 0, NULL, 0);
		break;
	case SYSTEM_STATISTICS:
		answer(from, count(server, m), NULL, 0);
		break;
	case SYSTEM_GET_STATISTICS:
		give_statistics(server, from);
		break;
	case SYSTEM_TRACE:
		answer(from, trace(server, m), NULL, 0);
		break;
	case SYSTEM_CHANGE_CODE:
		answer(from, change_code(server, m), NULL, 0);
		break;
	default:
		answer(from, -ENOSYS, NULL, 0);
	}
}

PROCESS_ENTRY static void enter_trace(struct server_extra *extra, const struct mote_sys_event *e)
{
	extra->trace(e, extra->trace_arg);
	PROCESS_ENTRY_END();
}

void sys_event(struct server *server, enum mote_sys_event_kind kind, const struct mote_msg *m)
{
	struct server_extra *extra = server->extra;

	if (extra->counting) {
		extra->statistics.messages_in++;
		extra->statistics.calls += kind == MOTE_SYS_CALL;
		extra->statistics.casts += kind == MOTE_SYS_CAST;
		extra->statistics.infos += kind == MOTE_SYS_INFO;
	}
	if (extra->trace)
		enter_trace(extra, &(struct mote_sys_event){ .pid = mote_self(), .kind = (int)kind, .m = m });
}
