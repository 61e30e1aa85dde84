/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/process.h: the life of processes. The rules are Erlang/OTP's; docs/processes.md restates them.
 */
#ifndef MOTE_PROCESS_H
#define MOTE_PROCESS_H

#include <mote/base.h>
#include <mote/runtime.h>

MOTE_BEGIN_DECLS

struct mote_msg;

/* Whom a server owes an answer; a value: it may be kept, passed on, and answered later by anyone. */
struct mote_from {
	mote_pid pid;
	mote_ref ref;
};

/*
 * A process that is only callbacks, and holds no stack while it waits: one is lent to it for each callback, and stays
 * with it as long as that callback blocks. Idle it costs its control block and its state. What mote/server.h's servers
 * are made of; those have more, and are the ones to use unless every byte counts.
 */
struct mote_handler_ops {
	size_t size;
	size_t state_size;	/* zeroed before init; released at exit */
	/* Returns 0, or -errno: the process then ends with error. May be NULL. */
	int (*init)(void *state, void *arg);
	/* A request made by mote_call(); answer with mote_reply(). Borrows m. NULL: requests go to info. */
	void (*call)(void *state, struct mote_from from, const struct mote_msg *m);
	/* Anything else: messages, EXIT, DOWN, timers. Borrows m (mote_msg_keep() takes it). NULL: dropped. */
	void (*info)(void *state, const struct mote_msg *m);
	/* Last words, at any end but by kill, if init succeeded. Runs before deferred cleanups. May be NULL. */
	void (*terminate)(void *state, const struct mote_reason *why);
};

enum mote_spawn_flags {
	MOTE_LINK	= 1 << 0,	/* link to the caller, atomically with the spawn */
	MOTE_MONITOR	= 1 << 1,	/* monitor by the caller, likewise; *ref gets the reference */
	MOTE_PINNED	= 1 << 2,	/* always the same OS thread */
	MOTE_TRAP_EXIT	= 1 << 3,	/* born trapping exits */
	MOTE_ASYNC_KILL	= 1 << 4,	/* a kill may end it in its own code, at any instruction: mote_async_code() */
};

enum mote_priority { MOTE_PRIORITY_NORMAL, MOTE_PRIORITY_LOW, MOTE_PRIORITY_HIGH };

/* What becomes of a plain message or request for which a mailbox with a limit has no room; docs/processes.md. */
enum mote_mailbox_policy {
	MOTE_MAILBOX_BLOCK,	/* its sender waits until there is room */
	MOTE_MAILBOX_DROP,	/* it is not sent, and its sender told: -ENOBUFS */
	MOTE_MAILBOX_KILL,	/* the receiver ends, with MOTE_ERROR ENOBUFS; it cannot trap that */
};

struct mote_spawn_opts {
	size_t size;
	mote_fn fn;				/* either fn, or handler */
	const struct mote_handler_ops *handler;	/* must outlive the process */
	void *arg;				/* passed through; the library does not look at it */
	unsigned int flags;			/* enum mote_spawn_flags */
	unsigned int scheduler;			/* with MOTE_PINNED: which one (modulo their number) */
	int priority;				/* enum mote_priority; high runs before all others, low 1 : 8 */
	unsigned int mailbox_policy;		/* enum mote_mailbox_policy; needs mailbox_limit */
	size_t stack_size;			/* 0: 64 KiB; rounded up to a power of two, 16 KiB to 64 MiB */
	const char *name;			/* registered atomically with the spawn; copied */
	const char *label;			/* shown to people; must outlive the process */
	mote_ref *ref;				/* with MOTE_MONITOR */
	size_t mailbox_limit;			/* messages; 0: none */
	size_t state_size;			/* of a handler whose states differ; 0: what its ops say; below 4 GiB */
};

/*
 * Spawns a process that runs fn(arg) and ends normally when fn returns. MOTE_NOBODY on failure, with
 * mote_errno(): -ENOMEM; -EAGAIN (max_processes reached); for opts also -EINVAL, -E2BIG, -EEXIST (the name is
 * taken). That a stack could not be had shows only when the process first runs: it ends with MOTE_ERROR
 * ENOMEM and a text that names the limit. Any thread, but MOTE_LINK and MOTE_MONITOR: processes only.
 * Follows erlang:spawn_opt/4.
 */
MOTE_API mote_pid mote_spawn(mote_fn fn, void *arg);
MOTE_API mote_pid mote_spawn_link(mote_fn fn, void *arg);
MOTE_API mote_pid mote_spawn_monitor(mote_fn fn, void *arg, mote_ref *ref);
MOTE_API mote_pid mote_spawn_opts(const struct mote_spawn_opts *opts);

/* The caller's pid; MOTE_NOBODY on a foreign thread. Any thread. */
MOTE_API mote_pid mote_self(void);

/*
 * Ends the caller: cleanups run, then names, timers, descriptors and memory go, then links and monitors
 * learn the reason. Follows erlang:exit/1. reason.data is copied.
 */
MOTE_NORETURN MOTE_API void mote_exit(struct mote_reason reason);

/*
 * Sends an exit signal. MOTE_REASON_KILL ends the target with reason killed at its next runtime call, or, if it was
 * spawned with MOTE_ASYNC_KILL, in its own code; it can't be trapped. A normal reason is ignored by others, and
 * ends oneself; any other ends a target that does not trap exits and is a MOTE_MSG_EXIT message to one that
 * does. 0, also if there is no such process; -EINVAL, -EMSGSIZE, -ENOMEM. Any thread. Follows erlang:exit/2.
 */
MOTE_API int mote_exit_pid(mote_pid pid, struct mote_reason reason);

/*
 * The same to whoever owns an alias, if it is active when the signal arrives; else it vanishes. Does not end it. 0;
 * -EINVAL, -EMSGSIZE, -ENOMEM. Any thread. Follows erlang:exit_signal/2 of OTP 29.
 */
MOTE_API int mote_exit_alias(mote_ref alias, struct mote_reason reason);

/*
 * Changes the caller's label: what people are shown beside its pid, and mote_process_info() has. It must outlive the
 * process; NULL: none. 0 or -ENOMEM. Follows proc_lib:set_label/1.
 */
MOTE_API int mote_label_set(const char *label);

/* Lets others run. Signals that have arrived act. */
MOTE_API void mote_yield(void);

/*
 * For long computations: one load when nothing has happened; otherwise acts on the exit signals that have
 * arrived, and yields if the process's slice is over and somebody waits.
 */
MOTE_API void mote_check(void);

/*
 * Says of code that it may be torn: that a process spawned with MOTE_ASYNC_KILL may be killed in it at any
 * instruction, as if its thread were stopped there for ever. Such a process is ended where it is when the
 * instruction, and all that it returns to, is such code, outside sections (below); a call into any other code, the
 * C library's too, is finished first. Only the deferred cleanups run then: code that takes locks, or
 * changes what outlives its process, must not be registered, or do so in sections.
 * From begin to end, or, if end is NULL, all code of the program or shared library that holds begin, which must stay
 * loaded. It has to be compiled with unwind tables or frame pointers, as is usual. What was said holds until the program
 * ends. 0; -EINVAL (no code, or not of one object); -EPERM: this library's, the C library's or the loader's, or
 * malloc or pthread_mutex_lock are in it (a program that brings an allocator of its own can register parts; one that
 * is linked with a static C library cannot register any); -ENOSPC (64 ranges).
 * Any thread, also before mote_start().
 */
MOTE_API int mote_async_code(const void *begin, const void *end);

/*
 * A section in which a process is not killed asynchronously: a few instructions each. May be nested, up to 255 deep;
 * has to be left in the same function or callback of the process that entered it. Calls of this library inside act on exit
 * signals all the same, and so does the end of the outermost section. Any thread; nothing on a foreign one.
 */
MOTE_API void mote_nokill_begin(void);
MOTE_API void mote_nokill_end(void);

/* Sets whether exit signals become MOTE_MSG_EXIT messages. Returns the previous setting. */
MOTE_API bool mote_trap_exit(bool trap);

/*
 * Links the caller and pid: symmetric, at most one per pair. If there is no such process, the caller gets the
 * exit signal noproc. 0; -EINVAL (self, or nobody: no effect); -ENOMEM. Follows erlang:link/1 of the
 * asynchronous form.
 */
MOTE_API int mote_link(mote_pid pid);

/*
 * After it returns no exit signal of that link will be delivered (an EXIT message in the mailbox stays). 0; -EINVAL
 * (nobody); -ENOMEM: the link stands.
 */
MOTE_API int mote_unlink(mote_pid pid);

/*
 * Watches pid: one MOTE_MSG_DOWN with the returned reference when it ends, at once with noproc if it is not
 * there. Each call is a monitor of its own. id 0 on failure, with mote_errno(): -ENOMEM, -EINVAL (nobody).
 * mote_monitor_name resolves the name once, now.
 */
MOTE_API mote_ref mote_monitor(mote_pid pid);
MOTE_API mote_ref mote_monitor_name(const char *name);

enum mote_demonitor_flags { MOTE_FLUSH = 1 << 0 };

/*
 * Ends a monitor. With MOTE_FLUSH a DOWN that is already in the mailbox is removed, too. Returns 1 if the
 * monitor was still armed, 0 if it had fired or the reference is not a monitor of the caller's.
 */
MOTE_API int mote_demonitor(mote_ref ref, int flags);

enum mote_alias_flags { MOTE_ALIAS_REPLY = 1 << 0 };	/* ends itself with the first message */

/*
 * An address of the caller's that it can withdraw: messages sent to it (mote_send_alias, mote_reply) arrive
 * while it is active, and vanish after mote_unalias() has returned. Follows erlang:alias/1.
 * id 0 on failure: -ENOMEM. mote_unalias: 1 if it was active, else 0.
 */
MOTE_API mote_ref mote_alias(int flags);
MOTE_API int mote_unalias(mote_ref ref);

/*
 * Calls fn(arg) when the process ends, however it ends: last in, first out. Inside, calls that would wait
 * without a deadline give -ECANCELED, and all waits together last 5 s at most; one that calls mote_exit() or crashes
 * ends there, and the next one runs. Nothing ends one that computes for ever. 0 or -ENOMEM.
 */
MOTE_API int mote_defer(mote_fn fn, void *arg);

/* Withdraws the latest defer of this fn and arg. 0, or -ENOENT. */
MOTE_API int mote_undefer(mote_fn fn, void *arg);

/*
 * Memory of the calling process, aligned to 16 bytes, released at its exit at the latest. Not to be freed by
 * another process. NULL: -ENOMEM.
 */
MOTE_API void *mote_alloc(size_t size);
MOTE_API void *mote_zalloc(size_t size);
MOTE_API void *mote_realloc(void *p, size_t size);
MOTE_API void mote_free(void *p);

/*
 * What the calling process keeps under a key: an address that identifies, say of a static variable; nothing is read
 * there. Each process has its own; gone when it ends, after its cleanups. The value is only kept: nobody frees it, so
 * memory for it is best mote_alloc()'s. value NULL removes. 0 or -ENOMEM. mote_local_get: NULL if there is none; any
 * thread, none on a foreign one. For a handful of keys: they are gone through one by one. Follows erlang:put/2 and get/1.
 */
MOTE_API int mote_local_set(const void *key, void *value);
MOTE_API void *mote_local_get(const void *key);

MOTE_END_DECLS

#endif
