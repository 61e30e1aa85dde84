// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The loop of a server: which callback a message is for, and what the callback wants done when it is through.
 *
 * It runs as the process's own code, on the stack that the process was lent. A callback that crashes ends the process; none
 * of this runs any more then but server_terminate().
 */
#include "otp/server.h"
#include "otp/report.h"

#include <mote/timer.h>

#include <errno.h>
#include <string.h>

static const struct mote_handler_ops handler;

static struct server *server_current(void)
{
	struct process *p = process_caller();

	return p && p->task.flags & TASK_STACKLESS && p->ops == &handler && p->begun ? p->state : NULL;
}

struct server *server_self(const char *function)
{
	struct server *server = server_current();

	if (!server)
		mote_fatal("%s() is for callbacks of servers", function);
	return server;
}

struct server_extra *server_extra(struct server *server)
{
	if (!server->extra) {
		server->extra = mote_alloc(sizeof(*server->extra));
		if (server->extra)
			memset(server->extra, 0, sizeof(*server->extra));
	}
	return server->extra;
}

PROCESS_ENTRY static int enter_init(int (*fn)(void *state, void *arg), void *state, void *arg)
{
	int err = fn ? fn(state, arg) : 0;

	PROCESS_ENTRY_END();
	return err;
}

PROCESS_ENTRY static void enter_call(struct server *server, struct mote_from from, const struct mote_msg *m)
{
	server->ops->handle_call(server_state(server), from, m);
	PROCESS_ENTRY_END();
}

PROCESS_ENTRY static void enter(void (*fn)(void *state, const struct mote_msg *m), struct server *server,
				const struct mote_msg *m)
{
	fn(server_state(server), m);
	PROCESS_ENTRY_END();
}

PROCESS_ENTRY static int enter_format(struct server *server, char *buf, size_t size)
{
	int n = server->ops->format_status(server_state(server), buf, size);

	PROCESS_ENTRY_END();
	return n;
}

int server_format(struct server *server, char *buf, size_t size)
{
	int n = server->ops->format_status ? enter_format(server, buf, size) : 0;

	if (n < 0 || !n)
		buf[0] = 0;
	return n < 0 ? 0 : n;
}

PROCESS_ENTRY static void enter_terminate(struct server *server, const struct mote_reason *why)
{
	server->ops->terminate(server_state(server), why);
	PROCESS_ENTRY_END();
}

static bool abnormal(const struct mote_reason *why)
{
	return why->kind != MOTE_NORMAL && why->kind != MOTE_SHUTDOWN;
}

static void report(struct server *server, const struct mote_reason *why)
{
	const struct mote_msg *at = server->at && process_caller()->lent ? server->at : NULL;
	char text[512] = "";

	/* After a crash the state may be in any shape: whoever formats it could crash once more, and terminate be left out. */
	if (why->kind != MOTE_SIGNAL)
		server_format(server, text, sizeof(text));
	report_behaviour("server", why, at, text[0] ? text : NULL, MOTE_NOBODY);
}

static void last_words(struct server *server, const struct mote_reason *why)
{
	server->ended = true;
	if (abnormal(why))
		report(server, why);
	if (server->ops->terminate)
		enter_terminate(server, why);
}

/* Not dying yet: terminate may wait as long as it likes. */
void server_end(struct server *server, const struct mote_reason *reason)
{
	last_words(server, reason);
	mote_exit(*reason);
}

static _Noreturn void missing(const char *callback)
{
	mote_exit(mote_reason_error(ENOSYS, callback));
}

/* The library's own servers are not ended by a stranger's mistake. */
static void refuse(const struct server *server, const struct mote_msg *m, const char *callback)
{
	if (!(server->ops->flags & MOTE_SERVER_OPAQUE))
		missing(callback);
	runtime_log(MOTE_LOG_WARNING, "server " MOTE_PID_FMT " has %s: a message of type %u is dropped",
		    MOTE_PID_ARG(mote_self()), callback, m->type);
}

static inline bool watched(const struct server *server)
{
	return server->extra && (server->extra->counting || server->extra->trace);
}

/* What the callback asked for. */
static void settle(struct server *server)
{
	struct server_extra *extra;
	struct mote_msg *m;

	while (unlikely((extra = server->extra) != NULL)) {
		if (extra->stopping)
			server_end(server, &extra->reason);
		m = extra->next;
		if (!m)
			return;
		extra->next = NULL;
		if (!server->ops->handle_continue)
			missing("no handle_continue");
		server->at = m;
		if (unlikely(watched(server)))
			sys_event(server, MOTE_SYS_CONTINUE, m);
		enter(server->ops->handle_continue, server, m);
		server->at = NULL;
		mote_msg_free(m);
	}
}

static void begin(struct server *server, struct mote_from from, const struct mote_msg *m)
{
	const struct start_request *start = m->data;
	mote_pid holder = MOTE_NOBODY;
	int err;

	server->ops = start->ops;
	server->parent = start->parent;
	err = start_names(start, &holder);
	if (!err)
		err = enter_init(server->ops->init, server + 1, start_arg(start));
	if (!err && server->extra && server->extra->stopping)
		mote_exit(server->extra->reason);
	server->started = !err;
	start_answer(from, err, holder);
	settle(server);
}

/* An ordinary message has come: nothing waits for its absence any more. */
static inline void timeout_end(struct server *server)
{
	struct server_extra *extra = server->extra;

	if (likely(!extra || !extra->timer_armed))
		return;
	extra->timer_armed = false;
	extra->timer_turn++;
	mote_timer_cancel(extra->timer, NULL);
}

static void server_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct server *server = state;

	if (unlikely(m->type >= MOTE_MSG_SYSTEM && m->type < SYSTEM_END)) {
		if (m->type != SYSTEM_START && server->started)
			sys_handle(server, from, m);
		else if (m->type == SYSTEM_START && !server->ops && start_valid(m))
			begin(server, from, m);
		return;
	}
	if (unlikely(!server->started))
		return;
	timeout_end(server);
	if (unlikely(!server->ops->handle_call)) {
		refuse(server, m, "no handle_call");
		return;
	}
	if (unlikely(watched(server)))
		sys_event(server, MOTE_SYS_CALL, m);
	server->at = m;
	enter_call(server, from, m);
	server->at = NULL;
	settle(server);
}

/* False: it is not (any more) for anybody. */
static bool timeout_due(struct server *server, const struct mote_msg *m)
{
	struct server_extra *extra = server->extra;
	struct mote_msg *own = (struct mote_msg *)m;	/* lent to us, so ours to change */
	uint64_t turn;

	if (m->size != sizeof(turn) || !extra || !extra->timer_armed)
		return false;
	memcpy(&turn, m->data, sizeof(turn));
	if (turn != extra->timer_turn || !mote_pid_equal(m->from, mote_self()))
		return false;
	extra->timer_armed = false;
	own->type = extra->timer_type;
	own->size = 0;
	return true;
}

bool server_parent_ended(const struct server *server, const struct mote_msg *m)
{
	const struct mote_exit_info *exit = mote_msg_exit(m);

	/* Foreign threads are nobody, too; but so is mote_stop(), whom a server without a parent has to follow. */
	return exit && mote_pid_equal(exit->pid, server->parent) &&
	       (mote_pid_valid(server->parent) || runtime_stopping());
}

static void server_info(void *state, const struct mote_msg *m)
{
	void (*fn)(void *state, const struct mote_msg *m);
	struct server *server = state;
	bool cast = m->type & MOTE_MSG_CAST && m->type < MOTE_MSG_RESERVED;

	if (unlikely(!server->started))
		return;
	if (unlikely(m->type == SYSTEM_TIMEOUT)) {
		if (!timeout_due(server, m))
			return;
	} else if (unlikely(m->type == MOTE_MSG_EXIT && server_parent_ended(server, m))) {
		server_end(server, &mote_msg_exit(m)->reason);
	} else {
		timeout_end(server);
	}
	if (cast) {
		((struct mote_msg *)m)->type &= ~MOTE_MSG_CAST;
		fn = server->ops->handle_cast;
		if (unlikely(!fn)) {
			refuse(server, m, "no handle_cast");
			return;
		}
	} else {
		fn = server->ops->handle_info;
	}
	if (unlikely(watched(server)))
		sys_event(server, cast ? MOTE_SYS_CAST : MOTE_SYS_INFO, m);
	if (unlikely(!fn)) {
		runtime_log(MOTE_LOG_WARNING, "server " MOTE_PID_FMT " has no handle_info: a message of type %u is dropped",
			    MOTE_PID_ARG(mote_self()), m->type);
		return;
	}
	server->at = m;
	enter(fn, server, m);
	server->at = NULL;
	settle(server);
}

/* It is dying: it called mote_exit(), or has crashed, in a callback; or was told to. */
static void server_terminate(void *state, const struct mote_reason *why)
{
	struct server *server = state;

	if (server->started && !server->ended && !process_caller()->told)
		last_words(server, why);
}

static const struct mote_handler_ops handler = {
	.size = sizeof(handler),
	.call = server_call,
	.info = server_info,
	.terminate = server_terminate,
};

int server_start(const struct mote_server_ops *ops, const void *arg, size_t arg_size, const struct mote_server_opts *opts,
		 bool link, mote_ref *monitor, mote_pid *pid)
{
	struct start_request start = { .ops = ops, .arg = (void *)arg, .arg_size = arg_size };
	struct mote_server_opts known;
	int err = opts_copy(&known, sizeof(known), opts);

	if (err)
		return err;
	if (!ops || ops->size != sizeof(*ops) || ops->flags & ~(unsigned int)MOTE_SERVER_OPAQUE || !pid ||
	    ops->state_size > UINT32_MAX - sizeof(struct server))
		return -EINVAL;
	return start_run(&(struct mote_spawn_opts){ .handler = &handler,
						    .state_size = sizeof(struct server) + ops->state_size },
			 &start, &known, link, monitor, pid);
}

int mote_server_start(const struct mote_server_ops *ops, void *arg, const struct mote_server_opts *opts, mote_pid *pid)
{
	return server_start(ops, arg, 0, opts, false, NULL, pid);
}

int mote_server_start_link(const struct mote_server_ops *ops, void *arg, const struct mote_server_opts *opts, mote_pid *pid)
{
	return server_start(ops, arg, 0, opts, true, NULL, pid);
}

int mote_server_start_monitor(const struct mote_server_ops *ops, void *arg, const struct mote_server_opts *opts,
			      mote_pid *pid, mote_ref *ref)
{
	return ref ? server_start(ops, arg, 0, opts, false, ref, pid) : -EINVAL;
}

int mote_cast(mote_pid to, uint32_t type, const void *data, size_t size)
{
	return type < MOTE_MSG_SYSTEM ? mote_send(to, type | MOTE_MSG_CAST, data, size) : -EINVAL;
}

void mote_server_exit(struct mote_reason reason)
{
	struct server_extra *extra = server_extra(server_self("mote_server_exit"));
	void *data = NULL;

	if (reason.size > MOTE_REASON_MAX)
		reason.size = MOTE_REASON_MAX;
	if (reason.size && extra) {
		data = mote_alloc(reason.size);
		if (data)
			memcpy(data, reason.data, reason.size);
		else
			reason.size = 0;
	}
	/* Without memory for anything it ends at once: the same end, with the rest of the callback left out. */
	if (!extra)
		mote_exit(reason);
	reason.data = data;
	extra->reason = reason;
	extra->stopping = true;
}

int mote_server_continue(uint32_t type, const void *data, size_t size)
{
	struct server_extra *extra = server_extra(server_self("mote_server_continue"));
	struct mote_msg *m;

	if (size && !data)
		return -EINVAL;
	m = extra ? mote_msg_new(type, size) : NULL;
	if (!m)
		return extra ? mote_errno() : -ENOMEM;
	if (size)
		memcpy(m->data, data, size);
	mote_msg_free(extra->next);
	extra->next = m;
	return 0;
}

int mote_server_timeout(mote_deadline deadline, uint32_t type)
{
	struct server *server = server_self("mote_server_timeout");
	struct server_extra *extra = server_extra(server);
	uint64_t turn;

	if (!extra)
		return -ENOMEM;
	timeout_end(server);
	if (deadline.ns == INT64_MAX)
		return 0;
	turn = ++extra->timer_turn;
	extra->timer = mote_send_after(deadline, mote_self(), SYSTEM_TIMEOUT, &turn, sizeof(turn));
	if (!extra->timer.id)
		return mote_errno();
	extra->timer_type = type;
	extra->timer_armed = true;
	return 0;
}
