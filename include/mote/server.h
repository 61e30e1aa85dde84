/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/server.h: servers: a state, and callbacks that nobody else runs at the same time. They are Erlang's gen_server and
 * Elixir's GenServer; docs/otp.md says where they differ.
 *
 * A server holds no stack while it waits for the next message. Ask one with mote_call() or mote_request(), tell it with
 * mote_cast(), send it anything with mote_send(). Callbacks may wait (call others, read files): the server's messages wait
 * with it.
 */
#ifndef MOTE_SERVER_H
#define MOTE_SERVER_H

#include <mote/base.h>
#include <mote/message.h>
#include <mote/process.h>

MOTE_BEGIN_DECLS

/* Types of messages: yours are below this. */
#define MOTE_MSG_SYSTEM	0x3fff0000u	/* and above: of the library's own servers, asked by functions such as those of mote/sys.h */
#define MOTE_MSG_CAST	0x40000000u	/* this bit beside a type makes a message a cast */

#define MOTE_IGNORE 1	/* what init returns that does not want to be a server */

/*
 * Callbacks. state: state_size bytes, zeroed before init, released at exit. Messages are borrowed; mote_msg_keep() takes
 * one. Members may be NULL but init and what is asked for: a call to a server without handle_call, or a cast to one without
 * handle_cast, ends it with MOTE_ERROR ENOSYS; what comes for a missing handle_info is logged and dropped.
 */
struct mote_server_ops {
	size_t size;
	size_t state_size;
	/*
	 * Runs before mote_server_start() returns. 0; MOTE_IGNORE; or -errno, which mote_server_start() returns then: the server
	 * ends, terminate is not called.
	 */
	int (*init)(void *state, void *arg);
	/* A request; answer with mote_reply(), now or later; `from` is a value, and anybody may answer. */
	void (*handle_call)(void *state, struct mote_from from, const struct mote_msg *m);
	/* What mote_cast() sent; m->type without MOTE_MSG_CAST. */
	void (*handle_cast)(void *state, const struct mote_msg *m);
	/* Anything else: messages, EXIT, DOWN, timers. */
	void (*handle_info)(void *state, const struct mote_msg *m);
	/* What mote_server_continue() left behind. */
	void (*handle_continue)(void *state, const struct mote_msg *m);
	/*
	 * Last words, before deferred cleanups: when the server stops itself, exits or crashes in a callback, and, if it traps
	 * exits, when its parent ends or mote_server_stop() is called. Not when an exit signal ends it otherwise.
	 */
	void (*terminate)(void *state, const struct mote_reason *why);
	/*
	 * From mote_sys_change_code(): fills the state of these ops from that of those before, whose `version` is told. 0, or
	 * -errno: everything stays as it was.
	 */
	int (*code_change)(void *state, const void *old_state, unsigned int old_version, void *arg);
	/* The state as text, for mote_sys_get_status() and crash reports; as snprintf(). */
	int (*format_status)(const void *state, char *buf, size_t size);
	unsigned int version;
	unsigned int flags;	/* MOTE_SERVER_OPAQUE */
};

/*
 * The state is not to be had, or replaced, by mote/sys.h, nor the code changed; and messages for which there is no callback
 * are logged and dropped, whatever they are. For servers that others' mistakes must not end.
 */
#define MOTE_SERVER_OPAQUE 1

/*
 * The same with checked types, for C: MOTE_SERVER(counter, struct counter, .handle_call = counter_call) defines `counter`,
 * whose callbacks must take struct counter *; start it as &counter.ops.
 */
#ifndef __cplusplus
#define MOTE_SERVER(name, state_type, ...)								\
	static const union {										\
		struct {										\
			size_t size, state_size;							\
			int (*init)(state_type *state, void *arg);					\
			void (*handle_call)(state_type *state, struct mote_from from, const struct mote_msg *m);	\
			void (*handle_cast)(state_type *state, const struct mote_msg *m);		\
			void (*handle_info)(state_type *state, const struct mote_msg *m);		\
			void (*handle_continue)(state_type *state, const struct mote_msg *m);		\
			void (*terminate)(state_type *state, const struct mote_reason *why);		\
			int (*code_change)(state_type *state, const void *old_state, unsigned int old_version,	\
					   void *arg);							\
			int (*format_status)(const state_type *state, char *buf, size_t size);		\
			unsigned int version, flags;							\
		} typed;										\
		struct mote_server_ops ops;								\
	} name = { .typed = { .size = sizeof(struct mote_server_ops), .state_size = sizeof(state_type), __VA_ARGS__ } }
#endif

/* A name kept by somebody else than mote_register(), such as a registry (mote/registry.h). Follows {via, Module, Name}. */
struct mote_via {
	/* Gives the caller the name: 0, or -EEXIST, with *holder; or another -errno. */
	int (*register_self)(const struct mote_via *via, mote_pid *holder);
	mote_pid (*whereis)(const struct mote_via *via);
	void *book;		/* theirs */
	const void *key;
	size_t key_size;
};

/* Whoever has that name; MOTE_NOBODY: nobody. Any thread. */
static inline mote_pid mote_via_whereis(const struct mote_via *via)
{
	return via->whereis(via);
}

struct mote_server_opts {
	size_t size;
	const char *name;		/* registered before init; copied */
	const struct mote_via *via;	/* instead of a name; borrowed */
	unsigned int flags;		/* MOTE_TRAP_EXIT, MOTE_PINNED */
	unsigned int scheduler;		/* with MOTE_PINNED */
	int priority;			/* enum mote_priority */
	unsigned int mailbox_policy;
	size_t mailbox_limit;
	size_t stack_size;		/* of callbacks */
	const char *label;		/* shown to people; must outlive the server */
	int64_t timeout_ms;		/* for init; 0: none. It is killed then. */
	struct mote_msg **why;		/* gives, if not NULL and the start fails with -EPIPE: the DOWN with the reason */
};

/*
 * Starts a server and waits until its init is through. ops must outlive it. opts may be NULL. _link links it to the caller,
 * which is then its parent: a server that traps exits stops, by way of terminate, when its parent does. _monitor monitors
 * it. 0, with *pid; MOTE_IGNORE; what init returned; -EEXIST: the name is taken, *pid is its holder (OTP: already_started);
 * -ETIMEDOUT; -EPIPE: it ended before init was through; -EAGAIN, -ENOMEM, -EINVAL, -E2BIG. When a linked server fails to
 * start, no EXIT of it is left behind. An init that calls, by way of others perhaps, whoever waits for it gets -EDEADLK from
 * that mote_call(), at once; or the start returns that. Follow gen_server:start, start_link, start_monitor/4.
 */
MOTE_API int mote_server_start(const struct mote_server_ops *ops, void *arg, const struct mote_server_opts *opts,
			       mote_pid *pid);
MOTE_API int mote_server_start_link(const struct mote_server_ops *ops, void *arg, const struct mote_server_opts *opts,
				    mote_pid *pid);
MOTE_API int mote_server_start_monitor(const struct mote_server_ops *ops, void *arg,
				       const struct mote_server_opts *opts, mote_pid *pid, mote_ref *ref);

/*
 * Has it stop with that reason, by way of terminate, and waits for its end. Works on everything that mote/sys.h does. 0;
 * -ESRCH; -ETIMEDOUT (it may yet stop); -EPIPE: it ended with another reason. Follows gen_server:stop/3.
 */
MOTE_API int mote_server_stop(mote_pid pid, struct mote_reason reason, mote_deadline deadline);

/* Tells a server something, as mote_send does. type below MOTE_MSG_SYSTEM, or -EINVAL. Any thread. Follows gen_server:cast/2. */
MOTE_API int mote_cast(mote_pid to, uint32_t type, const void *data, size_t size);

/*
 * In callbacks; each takes effect when the callback returns. The last call of each counts. They end the program when called
 * by a process that is no server.
 */

/* Ends the server, with terminate. reason.data is copied, up to MOTE_REASON_MAX bytes. Follows {stop, Reason, State}. */
MOTE_API void mote_server_exit(struct mote_reason reason);

/*
 * Before any other message, handle_continue gets this one (data is copied). -ENOMEM: not. After init, too. Follows
 * {continue, Continue}.
 */
MOTE_API int mote_server_continue(uint32_t type, const void *data, size_t size);

/*
 * If nothing else comes until the deadline, handle_info gets an empty message of this type. Any message, but a system one,
 * ends the wait. -ENOMEM. Follows {timeout, Time, Message}.
 */
MOTE_API int mote_server_timeout(mote_deadline deadline, uint32_t type);

/* --- many requests at once: gen_server's request id collections --- */

/* Requests under way, each with a label of the caller's. Belongs to the process that made it. */
struct mote_requests;

/* Gives; NULL: -ENOMEM. Freeing one gives up what is under way: no late answers. NULL is fine. Follow reqids_new/0. */
MOTE_API struct mote_requests *mote_requests_new(void);
MOTE_API void mote_requests_free(struct mote_requests *r);

/* mote_request() into the collection. 0, or what that says. Follows send_request/4. */
MOTE_API int mote_requests_send(struct mote_requests *r, mote_pid to, uint32_t type, const void *data, size_t size,
				void *label);

/* How many are under way. Follows reqids_size/1. */
MOTE_API size_t mote_requests_count(const struct mote_requests *r);

/*
 * Waits for the next answer, in the order of arrival. 0: *reply (may be NULL) is given, *label (may be NULL) is that of the
 * request; -ESRCH, -EPIPE, -ECONNRESET: that one will not be answered, as mote_call says; all these leave the collection.
 * -ETIMEDOUT: none yet; -ENOENT: none is under way. Follows receive_response/3 of collections.
 */
MOTE_API int mote_requests_receive(struct mote_requests *r, struct mote_msg **reply, void **label, mote_deadline deadline);

struct mote_multi_result {
	mote_pid pid;
	int err;			/* 0, or as mote_call */
	struct mote_msg *reply;		/* given; NULL if err */
};

/*
 * Calls all results[i].pid at once, and fills in the rest; waits for all, or the deadline. Returns how many replied, or
 * -ENOMEM, -EINVAL. Follows gen_server:multi_call/4.
 */
MOTE_API int mote_multi_call(struct mote_multi_result *results, size_t n, uint32_t type, const void *data, size_t size,
			     mote_deadline deadline);

/* --- the same start for processes that are no servers: proc_lib --- */

/*
 * Spawns fn(arg), linked to the caller, and waits until it calls mote_start_ack() or mote_start_fail(). opts and results as
 * of mote_server_start_link(); -EPIPE: it ended without either.
 * Follows proc_lib:start_link/5.
 */
MOTE_API int mote_proc_start(mote_fn fn, void *arg, const struct mote_server_opts *opts, mote_pid *pid);

/*
 * By the started process, once: it is ready; or it is not: mote_proc_start() returns err (below 0, or MOTE_IGNORE), and the
 * process ends normally. -EINVAL: nobody waits. Follow proc_lib:init_ack/1, init_fail/2.
 */
MOTE_API int mote_start_ack(void);
MOTE_NORETURN MOTE_API void mote_start_fail(int err);

MOTE_END_DECLS

#endif
