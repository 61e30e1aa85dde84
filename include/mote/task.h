/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/task.h: tasks: processes that compute one thing, for somebody who waits for it. They are Elixir's Task and
 * Task.Supervisor; docs/otp.md says where they differ.
 *
 *	mote_task t = mote_task_async(count_words, text);
 *	...
 *	err = mote_task_await(t, &words, mote_in_ms(5000));
 *
 * Only the process that made a task, its owner, may wait for it: to others all functions that take one say -EPERM.
 */
#ifndef MOTE_TASK_H
#define MOTE_TASK_H

#include <mote/base.h>
#include <mote/message.h>
#include <mote/process.h>
#include <mote/supervisor.h>

MOTE_BEGIN_DECLS

/*
 * A value. pid: MOTE_NOBODY of one that was born completed; ref.id 0: it could not be had, mote_errno() has the
 * reason.
 */
typedef struct mote_task {
	mote_pid pid;
	mote_ref ref;
	mote_pid owner;
} mote_task;

/*
 * What a task does; the answer to its owner is what it returns, or the bytes that it gave to mote_task_reply(). arg
 * is the owner's: it must be there as long as the task runs, which may be a little longer than its owner does; a copy
 * (arg_size) is the task's own. Ends with mote_exit() are failures also if the reason is normal.
 */
typedef int64_t (*mote_task_fn)(void *arg);

/* Whether a supervisor runs a task again. */
enum mote_task_restart {
	MOTE_TASK_TEMPORARY,		/* never */
	MOTE_TASK_TRANSIENT,		/* if it failed */
	MOTE_TASK_PERMANENT,		/* always */
};

struct mote_task_opts {
	size_t size;
	mote_task_fn fn;
	void *arg;
	size_t arg_size;		/* 0: arg is passed through; else fn gets a copy of so many bytes */
	const char *label;		/* shown to people; must outlive the task */
	size_t stack_size;		/* as in struct mote_spawn_opts */
	int priority;
	int restart;			/* enum mote_task_restart, of mote_task_supervisor_start_child() */
	int64_t shutdown_ms;		/* under a supervisor: as in struct mote_child_spec */
};

/*
 * What a task has answered comes as a message of the task's reference. Servers, and whoever receives everything, find
 * it with mote_task_find(); who has received it that way does not await it any more.
 */
#define MOTE_MSG_TASK_VALUE	(MOTE_MSG_SYSTEM + 0x100)	/* data: int64_t, what it returned */
#define MOTE_MSG_TASK_DATA	(MOTE_MSG_SYSTEM + 0x101)	/* data: the bytes of mote_task_reply() */

/*
 * Starts a task, linked to the caller: if it fails, the caller gets its exit signal, and the other way round. When
 * the caller traps exits it gets an EXIT message at the end of each. ref.id 0 on failure: -ENOMEM, -EAGAIN
 * (max_processes), -EINVAL, -E2BIG, -EMSGSIZE. Follow Task.async/1.
 */
MOTE_API mote_task mote_task_async(mote_task_fn fn, void *arg);
MOTE_API mote_task mote_task_async_opts(const struct mote_task_opts *opts);

/*
 * The same for which nobody waits: what it returns is dropped. _link: linked to the caller. MOTE_NOBODY on failure,
 * as above. Follow Task.start/1 and start_link/1.
 */
MOTE_API mote_pid mote_task_start(mote_task_fn fn, void *arg);
MOTE_API mote_pid mote_task_start_link(mote_task_fn fn, void *arg);
MOTE_API mote_pid mote_task_start_opts(const struct mote_task_opts *opts, unsigned int flags);	/* MOTE_LINK, or 0 */

/* A task that has been done by the caller itself. Follows Task.completed/1. */
MOTE_API mote_task mote_task_completed(int64_t value);

/*
 * By a task: these bytes are its answer, once it has returned; what it returns is dropped then. The last call counts.
 * Copies. 0; -ENOMEM; -EMSGSIZE; -EPERM: the caller is no task. So that one can end with `return
 * mote_task_reply(&row, sizeof(row))`.
 */
MOTE_API int mote_task_reply(const void *data, size_t size);

/*
 * Waits for the answer of a task, that of mote_task_await into *value (may be NULL). Errors: -EPIPE: it failed, and
 * if the caller lives to see that, it traps exits, or was not linked; -ETIMEDOUT: the deadline came, and the task is
 * given up: it is unlinked, told to exit (with MOTE_TIMEOUT), and a late answer vanishes; -ECONNRESET: its node is
 * gone; -EINVAL: it was awaited, shut down or ignored already; -EPERM; -ECANCELED. -EBADMSG: it gave bytes, for which
 * mote_task_await_msg() is. _msg: *m is given: the answer, or with -EPIPE and -ECONNRESET the DOWN with the reason;
 * else NULL. Elixir's default deadline is mote_in_ms(5000), and its await ends the caller instead of returning
 * errors. Follow Task.await/2.
 */
MOTE_API int mote_task_await(mote_task task, int64_t *value, mote_deadline deadline);
MOTE_API int mote_task_await_msg(mote_task task, struct mote_msg **m, mote_deadline deadline);

/* What became of a task. */
struct mote_task_result {
	mote_task task;
	void *item;		/* of a stream's task: what it was for */
	int err;		/* 0; -EAGAIN: nothing yet; or as above */
	uint32_t reserved;
	int64_t value;		/* what it returned, if err is 0 and m is NULL */
	struct mote_msg *m;	/* given: its bytes (MOTE_MSG_TASK_DATA), or DOWN with the reason; NULL: neither */
};

/*
 * Awaits all results[i].task, and fills in the rest. 0; or the error of the first that failed, or -ETIMEDOUT: all
 * that had not answered are given up, and nothing but err and item is left in results. Also -ENOMEM. Follows
 * Task.await_many/2.
 */
MOTE_API int mote_task_await_many(struct mote_task_result *results, size_t n, mote_deadline deadline);

/*
 * Waits for the answer of a task that goes on if there is none yet: -EAGAIN; then it may be asked again. Returns
 * result->err, which is otherwise as mote_task_await_msg() says. Follows Task.yield/2.
 */
MOTE_API int mote_task_yield(mote_task task, struct mote_task_result *result, mote_deadline deadline);

enum mote_task_on_timeout {
	MOTE_TASK_NOTHING,	/* of yield_many: they go on. Of a stream: it ends (Elixir: :exit) */
	MOTE_TASK_KILL,		/* they are killed. Elixir: :kill_task */
	MOTE_TASK_IGNORE,	/* of yield_many: they go on, alone. See mote_task_ignore() */
};

/*
 * Waits until `limit` of results[i].task (0: all) have answered or failed, and fills in the rest, -EAGAIN for those
 * that have not. on_timeout, an enum mote_task_on_timeout, is done to those if the deadline came first. Returns how
 * many have err other than -EAGAIN, or -ENOMEM, -EINVAL, -EPERM. Follows Task.yield_many/2.
 */
MOTE_API int mote_task_yield_many(struct mote_task_result *results, size_t n, size_t limit, int on_timeout,
				  mote_deadline deadline);

/*
 * Unlinks a task, has it exit with shutdown, and waits for its end; kills it at the deadline (MOTE_NOW: at once), and
 * waits on. Returns result->err (result may be NULL): 0: it had answered; -ESHUTDOWN: it has not; -EPIPE with DOWN:
 * it ended otherwise, also killed because the deadline came; -ESRCH: that it ended was told already; -ECONNRESET;
 * -EPERM; -EAGAIN: in a cleanup, which can't wait on: it is killed, and may not be gone yet. Elixir's default deadline
 * is mote_in_ms(5000). Follows Task.shutdown/2.
 */
MOTE_API int mote_task_shutdown(mote_task task, struct mote_task_result *result, mote_deadline deadline);

/*
 * Lets a task go on alone, unlinked; its answer will vanish. Returns result->err (result may be NULL): what it has
 * answered so far, as mote_task_yield() with MOTE_NOW. Follows Task.ignore/1.
 */
MOTE_API int mote_task_ignore(mote_task task, struct mote_task_result *result);

/*
 * Which of the tasks a message that was received is the answer of, or the DOWN; -ENOENT: none. Follows Task.find/2.
 */
MOTE_API int mote_task_find(const mote_task *tasks, size_t n, const struct mote_msg *m);

#define MOTE_TASK_CALLERS_MAX 16

/*
 * For whom the calling task works: its owner, then, if that was a task, for whom that did, and so on. Fills in up to
 * n, and returns how many there are; the chain ends after MOTE_TASK_CALLERS_MAX. 0: the caller is no task, or is
 * ending. Any thread. Follows $callers of Elixir.
 */
MOTE_API size_t mote_task_callers(mote_pid *callers, size_t n);

/* --- streams */

/* A lot of tasks, some at a time. Belongs to the process that made it. */
struct mote_task_stream;

struct mote_task_stream_opts {
	size_t size;
	mote_task_fn fn;		/* a task for each item, fn(item) */
	/*
	 * Gives the next item, or false at the end. Called by mote_task_stream_next(), as the caller's own code, when
	 * there is room for one more task.
	 */
	bool (*next)(void *it, void **item);
	void *it;
	size_t item_size;		/* 0: items are passed through; else each task gets a copy of so many bytes */
	unsigned int max_concurrency;	/* tasks at a time; 0: as many as schedulers */
	bool unordered;			/* answers as they come; else in the order of the items */
	bool nolink;			/* a failure is a result; else it ends the caller, unless that traps exits */
	int on_timeout;			/* MOTE_TASK_NOTHING, or MOTE_TASK_KILL */
	int64_t timeout_ms;		/* of each task, from its start; 0: 5,000; below 0: none */
	mote_pid supervisor;		/* the tasks are its children; MOTE_NOBODY: nobody's */
	int64_t shutdown_ms;		/* then: as in struct mote_child_spec */
	size_t stack_size;
};

/* Starts nothing yet. NULL: -ENOMEM, -EINVAL, -E2BIG. Follows Task.async_stream/3, and Task.Supervisor's. */
MOTE_API struct mote_task_stream *mote_task_stream(const struct mote_task_stream_opts *opts);

/*
 * The next result: first one that is there already; else starts tasks as long as there is room and there are items,
 * and waits. 0, with *result, whose err says how that task went: 0; -EPIPE or -ECONNRESET, with DOWN; -ETIMEDOUT: it
 * was killed for its timeout, and is gone. -ENOENT: that was all; -EAGAIN: none until the deadline, which is not the
 * tasks'; -ETIMEDOUT: a task has taken too long, result->item says which, and all are killed: that was all. What
 * starting a task says: this item has no task, the stream goes on. -EPERM. Does not return if a linked task has
 * failed and the caller does not trap exits: exits with the same reason.
 */
MOTE_API int mote_task_stream_next(struct mote_task_stream *stream, struct mote_task_result *result,
				   mote_deadline deadline);

/*
 * Frees a stream (NULL is fine), kills its tasks and waits until they are gone, or until the deadline: -ETIMEDOUT. 0;
 * -EPERM. When a process ends, the tasks of its streams get exit signals with its reason.
 */
MOTE_API int mote_task_stream_stop(struct mote_task_stream *stream, mote_deadline deadline);

/* --- tasks under a supervisor: any of mote_dynamic_start_link() will do, at least of one's own node, or -EREMOTE */

/*
 * As mote_task_async_opts(); the task is a child of the supervisor, temporary, and also linked to the caller, or
 * (_nolink) not. Waits for the supervisor. ref.id 0 on failure, as there, and -ESRCH, -EPIPE, -ETIMEDOUT, -ENOSPC
 * (max_children), -EREMOTE. Follow Task.Supervisor.async/2, async_nolink/2.
 */
MOTE_API mote_task mote_task_supervisor_async(mote_pid supervisor, const struct mote_task_opts *opts,
					      mote_deadline deadline);
MOTE_API mote_task mote_task_supervisor_async_nolink(mote_pid supervisor, const struct mote_task_opts *opts,
						     mote_deadline deadline);

/*
 * A child for which nobody waits; opts->restart says whether it is run again. 0, with *pid (may be NULL); errors as
 * above. Task.Supervisor's children/1 is mote_supervisor_which_children(), its terminate_child/2
 * mote_dynamic_terminate_child(). Follows Task.Supervisor.start_child/2.
 */
MOTE_API int mote_task_supervisor_start_child(mote_pid supervisor, const struct mote_task_opts *opts, mote_pid *pid,
					      mote_deadline deadline);

MOTE_END_DECLS

#endif
