/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/runtime.h: starting and stopping the runtime, foreign blocking code, fork.
 */
#ifndef MOTE_RUNTIME_H
#define MOTE_RUNTIME_H

#include <mote/base.h>

MOTE_BEGIN_DECLS

typedef void (*mote_fn)(void *arg);

/* The levels of mote/log.h, the gravest first: those of syslog(3), one up. As an option 0 means the default. */
enum mote_log_level {
	MOTE_LOG_NONE = -1,		/* as a limit: nothing */
	MOTE_LOG_EMERGENCY = 1,
	MOTE_LOG_ALERT,
	MOTE_LOG_CRITICAL,
	MOTE_LOG_ERROR,
	MOTE_LOG_WARNING,
	MOTE_LOG_NOTICE,
	MOTE_LOG_INFO,
	MOTE_LOG_DEBUG,
	MOTE_LOG_ALL,			/* as a limit: everything */
};

struct mote_opts {
	size_t size;
	/*
	 * Schedulers, each on an OS thread. 0: $MOTE_SCHEDULERS, or else as many CPUs as affinity and
	 * the cgroup's quota allow. At most 256.
	 */
	unsigned int schedulers;
	unsigned int max_processes;	/* 0: 16,777,216, fewer under RLIMIT_AS; at most 134,217,728 */
	/*
	 * Called, from any thread and possibly from several at once, with reports such as a process that
	 * ended abnormally; and, while no handler was added to it, with what the log (mote/log.h) gets. level: enum
	 * mote_log_level. May call mote_send(); must not wait. NULL: silence.
	 */
	void (*log)(int level, const char *text, void *arg);
	void *log_arg;
	/*
	 * How many processes, at most, may at the same time compute or block outside the library for long (10 ms and more)
	 * while others go on: each needs an OS thread for that long. 0: 256; at most 4,096. Beyond that, those
	 * that share a scheduler with one more wait for it, and mote_runtime_info() counts.
	 */
	unsigned int spares;
	unsigned int reserved;		/* 0 */
	/*
	 * The name by which other OS processes reach this one's processes: mote/node.h. NULL: $MOTE_NODE; "": it is no node.
	 * mote_run() and mote_start() fail with -EEXIST if a living node of the same user has it, and with -EINVAL in a
	 * seeded run.
	 */
	const char *node;
	/*
	 * Bytes that one other node may have in mailboxes here, not received yet; beyond that its messages wait where they are,
	 * and what it has sent after them, answers too, waits behind them. One message may be larger. 0: 256 MiB.
	 */
	uint64_t node_budget;
};

/*
 * Starts the runtime, runs fn(arg) as its first process, stops the runtime when that process ends (all
 * others get exit signals, as Go's main does) and returns: 0 when it ended with normal or shutdown, 1 with
 * any other reason, -errno when the runtime could not start: -EBUSY (it runs already), -ENOMEM, -EINVAL or
 * -E2BIG (opts), -EMFILE, -EAGAIN (no threads), what opts.node says. opts may be NULL. Processes that are not gone ten seconds after the first
 * one stay as mote_stop() leaves them, and the runtime can not be started again in that OS process.
 * Environment: MOTE_SCHEDULERS=n; MOTE_IO=epoll|io_uring (default: io_uring where the kernel allows it); MOTE_NODE=name;
 * MOTE_PORT=auto|kmod|user (how nodes are reached; default: the kernel module if it is there); MOTE_SEED=n
 * (0 to 2^64 - 1): all schedulers, two if nothing else is said, run on the calling thread, in an order that follows from n,
 * with a virtual clock.
 * Context: a foreign thread (main).
 */
MOTE_API int mote_run(mote_fn fn, void *arg, const struct mote_opts *opts);

/*
 * Starts the runtime inside a program that has a main and threads of its own. Returns 0 or what mote_run
 * would. Context: a foreign thread.
 */
MOTE_API int mote_start(const struct mote_opts *opts);

/*
 * Sends every process an exit signal (shutdown, then at half the time left kill), waits for their ends,
 * and stops the runtime. Returns 0, or the number of processes that were still alive at the deadline; each
 * of them was reported to `alive` (may be NULL) with its name or label (or NULL) before the runtime was
 * frozen under it: their memory and descriptors are not released, and the runtime can not be started again
 * in this OS process. -ESRCH: not running. Context: a foreign thread.
 */
MOTE_API int mote_stop(mote_deadline deadline, void (*alive)(mote_pid pid, const char *label, void *arg), void *arg);

/*
 * fork() without exec: the runtime does not exist in the child. Every call there behaves as before
 * mote_start(), which may be called anew; memory of the parent's runtime is left alone and its descriptors
 * are closed at exec (all are O_CLOEXEC).
 */

/* True in a mote process. Any thread. */
MOTE_API bool mote_in_process(void);

/*
 * Runs fn(arg) on an OS thread of a pool made for that, while only the calling process waits; for code that
 * blocks outside mote's own I/O. *result (may be NULL) gets what fn returned. Returns 0; -ETIMEDOUT when the
 * deadline came first: a job not begun is withdrawn, one under way goes on, its result is dropped, and
 * whatever arg points to must stay valid until it ends; -EAGAIN when no thread could be had. A process that is
 * told to exit meanwhile stays `exiting` until fn returns. At most 64 jobs at once; more wait their turn.
 * fn must not call functions for processes only.
 */
MOTE_API int mote_blocking(int64_t (*fn)(void *arg), void *arg, int64_t *result, mote_deadline deadline);

/* What the runtime is made of here and now; any thread. */
struct mote_runtime_info {
	size_t size;
	unsigned int schedulers;
	const char *io;			/* "io_uring" or "epoll" */
	const char *guards;		/* "madvise" or "mprotect": how stacks are guarded */
	const char *port;		/* how other nodes are reached: "none" (this is no node), "user", "kmod" */
	uint64_t processes;		/* alive */
	uint64_t spawned, switches, steals, parks, wakes;	/* since start, summed over schedulers */
	/* Of all mailbox limits since start: as in struct mote_process_info; processes that ended for theirs. */
	uint64_t mailbox_waits, mailbox_refused, mailbox_kills;
	unsigned int workers;		/* OS threads that run schedulers, or are spare */
	unsigned int reserved;
	uint64_t handovers;		/* schedulers taken away from processes that computed or blocked for long */
	uint64_t handovers_denied;	/* processes whose scheduler was not: there was no spare worker left */
	uint64_t crashes;		/* contained: processes that ended with MOTE_SIGNAL */
	uint64_t async_kills;		/* since the program began: processes ended in their own code (MOTE_ASYNC_KILL) */
	uint64_t looks;			/* of the overseer: some hundred in a second while anything runs, else none */
	/* Of a seeded run (MOTE_SEED); otherwise false, 0 and NULL. */
	bool seeded;
	bool replayable;		/* the same program takes the same steps with the same seed, so far */
	const char *spoiled_by;		/* what took part first that makes it not replayable, or NULL */
	uint64_t seed;
	uint64_t schedule_hash;		/* of all steps so far */
	/* With the module, which says when a process blocks in its own code: handovers then, at once; notices of no use. */
	uint64_t activations, activations_vain;
};

/* Fills *info, whose size the caller set. 0, -ESRCH (not running), -EINVAL. Any thread. */
MOTE_API int mote_runtime_info(struct mote_runtime_info *info);

MOTE_END_DECLS

#endif
