/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/sys.h: looking into servers while they run. Works on every process made with mote/server.h, and so on supervisors,
 * agents, state machines and event managers. Follows Erlang's sys.
 *
 * All wait for the server, until the deadline, and return 0; -ESRCH; -EPIPE; -ETIMEDOUT; -EREMOTE where the server must be
 * of the same node.
 */
#ifndef MOTE_SYS_H
#define MOTE_SYS_H

#include <mote/base.h>
#include <mote/server.h>

MOTE_BEGIN_DECLS

/*
 * The state, as it lies in memory: copies up to *size bytes to buf, and sets *size to what there is. -EOPNOTSUPP: its owner
 * does not show it as bytes. Follows sys:get_state/2.
 */
MOTE_API int mote_sys_get_state(mote_pid pid, void *buf, size_t *size, mote_deadline deadline);

/* Puts another in its place; size must be the state's, or -EINVAL. Follows sys:replace_state/3. */
MOTE_API int mote_sys_replace_state(mote_pid pid, const void *state, size_t size, mote_deadline deadline);

/* A text for people: what it is, its parent, whether it runs, format_status(). Given. Follows sys:get_status/2. */
MOTE_API int mote_sys_get_status(mote_pid pid, struct mote_msg **text, mote_deadline deadline);

/* A suspended server answers these calls only; all else waits. Follow sys:suspend/2, resume/2. */
MOTE_API int mote_sys_suspend(mote_pid pid, mote_deadline deadline);
MOTE_API int mote_sys_resume(mote_pid pid, mote_deadline deadline);

struct mote_sys_statistics {
	size_t size;
	int64_t since_ns, now_ns;	/* CLOCK_MONOTONIC */
	uint64_t messages_in;		/* calls, casts, infos handled since then */
	uint64_t calls, casts, infos;
};

/* Counts from now, or no more. Follows sys:statistics/3. */
MOTE_API int mote_sys_statistics(mote_pid pid, bool on, mote_deadline deadline);
/* -ENOENT: it does not count. *s, whose size the caller set, is filled. */
MOTE_API int mote_sys_get_statistics(mote_pid pid, struct mote_sys_statistics *s, mote_deadline deadline);

enum mote_sys_event_kind { MOTE_SYS_CALL, MOTE_SYS_CAST, MOTE_SYS_INFO, MOTE_SYS_CONTINUE };

struct mote_sys_event {
	mote_pid pid;
	int kind;			/* enum mote_sys_event_kind */
	const struct mote_msg *m;	/* borrowed */
};

/*
 * Has fn see each message before the server handles it, in the server's own context: it must not wait. fn NULL: no more.
 * Follows sys:install/3 and trace/2.
 */
MOTE_API int mote_sys_trace(mote_pid pid, void (*fn)(const struct mote_sys_event *e, void *arg), void *arg,
			    mote_deadline deadline);

/*
 * Gives a suspended server other callbacks: ops->code_change fills the new state. -EBUSY: it is not suspended; -EOPNOTSUPP:
 * it is no plain server, but a supervisor, agent, state machine or event manager; what code_change says. Follows sys:change_code/5.
 */
MOTE_API int mote_sys_change_code(mote_pid pid, const struct mote_server_ops *ops, void *arg, mote_deadline deadline);

MOTE_END_DECLS

#endif
