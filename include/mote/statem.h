/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/statem.h: state machines: servers whose messages, timeouts and own events are handled by the state they are in.
 * They are Erlang's gen_statem.
 *
 * A machine is a server (mote/server.h): ask it with mote_call(), tell it with mote_cast(), stop it with
 * mote_server_stop(), look into it with mote/sys.h. A callback that asks for nothing keeps the state.
 *
 *	enum { LOCKED, OPEN };
 *
 *	static void locked(struct door *d, const struct mote_statem_event *e)
 *	{
 *		if (e->type == MOTE_STATEM_CAST && e->m->type == COIN)
 *			mote_statem_next_state(OPEN);
 *	}
 */
#ifndef MOTE_STATEM_H
#define MOTE_STATEM_H

#include <mote/base.h>
#include <mote/message.h>
#include <mote/process.h>
#include <mote/server.h>

MOTE_BEGIN_DECLS

enum mote_statem_event_type {
	MOTE_STATEM_CALL,		/* answer `from` with mote_reply(), now or later */
	MOTE_STATEM_CAST,
	MOTE_STATEM_INFO,		/* messages, EXIT, DOWN */
	MOTE_STATEM_INTERNAL,		/* from mote_statem_next_event() */
	MOTE_STATEM_TIMEOUT,		/* which one says `timeout` */
	MOTE_STATEM_ENTER,		/* a state is entered: with MOTE_STATEM_STATE_ENTER only */
};

/* Timeouts; any number from 0 on is the name of one more: Erlang's {timeout, Name}. */
enum mote_statem_timeout {
	MOTE_STATEM_EVENT_TIMEOUT = -1,	/* the next event ends it, whichever that is: {timeout, Time} */
	MOTE_STATEM_STATE_TIMEOUT = -2,	/* the next state ends it */
};

/*
 * What a callback gets. The message is borrowed; mote_msg_keep() takes it. It is never NULL: of a timeout or an
 * internal event it is what was given with it, of MOTE_STATEM_ENTER an empty one that nobody can keep.
 */
struct mote_statem_event {
	int type;			/* enum mote_statem_event_type */
	int timeout;			/* of MOTE_STATEM_TIMEOUT */
	int old_state;			/* of MOTE_STATEM_ENTER: the one that was left; the first time the same */
	struct mote_from from;		/* of MOTE_STATEM_CALL */
	const struct mote_msg *m;
};

struct mote_statem_state {
	const char *name;		/* shown to people */
	void (*event)(void *data, const struct mote_statem_event *e);	/* NULL: handle_event */
};

enum mote_statem_flags {
	MOTE_STATEM_STATE_ENTER = 1 << 0,	/* callbacks get MOTE_STATEM_ENTER: Erlang's state_enter */
};

/*
 * Callbacks. data: data_size bytes, zeroed before init, released at exit. A machine has either states, each with a
 * function (Erlang's state_functions), or one handle_event for any state (handle_event_function), or a table in which
 * some have none. An event that has neither ends the machine with MOTE_ERROR ENOSYS. All members may be NULL.
 */
struct mote_statem_ops {
	size_t size;
	size_t data_size;
	const struct mote_statem_state *states;	/* a state is an index; NULL: any number from 0 on is one */
	unsigned int nr_states;
	unsigned int flags;			/* enum mote_statem_flags */
	int initial;				/* the state after init, unless that calls mote_statem_next_state() */
	int reserved;				/* 0 */
	/*
	 * Runs before mote_statem_start() returns; as of servers: 0, MOTE_IGNORE, or -errno. May set timeouts, insert
	 * events.
	 */
	int (*init)(void *data, void *arg);
	void (*handle_event)(void *data, int state, const struct mote_statem_event *e);
	/* Last words: when those of a server are said. */
	void (*terminate)(void *data, int state, const struct mote_reason *why);
	/* The data as text, for mote_sys_get_status() and crash reports; as snprintf(). */
	int (*format_status)(const void *data, int state, char *buf, size_t size);
};

/*
 * The same with checked types, for C:
 *
 *	MOTE_STATES(turnstile_states, struct turnstile, [LOCKED] = { "locked", locked }, [OPEN] = { "open", open });
 *	MOTE_STATEM(turnstile, struct turnstile, MOTE_STATES_OF(turnstile_states), .init = turnstile_init);
 *
 * defines `turnstile`, whose callbacks must take struct turnstile *; start it as &turnstile.ops.
 */
#ifndef __cplusplus
#define MOTE_STATES_(table, ...) sizeof((struct table##_typed[]){ __VA_ARGS__ }) / sizeof(struct table##_typed)
#define MOTE_STATES(table, data_type, ...)								\
	struct table##_typed {										\
		const char *name;									\
		void (*event)(data_type *data, const struct mote_statem_event *e);			\
	};												\
	static const union {										\
		struct table##_typed typed[MOTE_STATES_(table, __VA_ARGS__)];				\
		struct mote_statem_state states[MOTE_STATES_(table, __VA_ARGS__)];			\
	} table = { .typed = { __VA_ARGS__ } }
#define MOTE_STATES_OF(table)										\
	.states = (table).states, .nr_states = sizeof((table).states) / sizeof((table).states[0])
#define MOTE_STATEM(name, data_type, ...)								\
	static const union {										\
		struct {										\
			size_t size, data_size;								\
			const struct mote_statem_state *states;						\
			unsigned int nr_states, flags;							\
			int initial, reserved;								\
			int (*init)(data_type *data, void *arg);					\
			void (*handle_event)(data_type *data, int state, const struct mote_statem_event *e);	\
			void (*terminate)(data_type *data, int state, const struct mote_reason *why);	\
			int (*format_status)(const data_type *data, int state, char *buf, size_t size);	\
		} typed;										\
		struct mote_statem_ops ops;								\
	} name = { .typed = { .size = sizeof(struct mote_statem_ops), .data_size = sizeof(data_type), __VA_ARGS__ } }
#endif

/*
 * Start a machine, and wait until its init is through. ops must outlive it. All else as mote_server_start(). The first
 * MOTE_STATEM_ENTER comes after that. Follow gen_statem:start, start_link, start_monitor/4.
 */
MOTE_API int mote_statem_start(const struct mote_statem_ops *ops, void *arg, const struct mote_server_opts *opts,
			       mote_pid *pid);
MOTE_API int mote_statem_start_link(const struct mote_statem_ops *ops, void *arg, const struct mote_server_opts *opts,
				    mote_pid *pid);
MOTE_API int mote_statem_start_monitor(const struct mote_statem_ops *ops, void *arg,
				       const struct mote_server_opts *opts, mote_pid *pid, mote_ref *ref);

/*
 * What a callback asks for, in any order; it is done when the callback returns:
 *  1. The state is entered, if it is another one or repeated: MOTE_STATEM_ENTER. What that asks for is added. It must
 *     not ask for another state, postpone, insert events or change callbacks.
 *  2. A postponed event joins those postponed before. If the state is another one, they all come again, oldest first,
 *     before the events that wait.
 *  3. Inserted events come before all these, in their order.
 *  4. Every event ends the event timeout, and another state the state timeout. Then those asked for begin.
 *  5. When none of these events is left, timeouts that are due at once come, in their order; and then the next message.
 * A callback that breaks a rule, or calls mote_server_continue(), ends the machine with MOTE_ERROR EINVAL and a text.
 * Called by a process that is no machine they end the program. Those that return int: 0, or -ENOMEM, -EINVAL,
 * -EMSGSIZE, and nothing is asked for.
 */

/* The last call counts. To go to the state that it is in is to keep it. Follow next_state, keep_state, repeat_state. */
MOTE_API void mote_statem_next_state(int state);
MOTE_API void mote_statem_keep_state(void);
MOTE_API void mote_statem_repeat_state(void);

/* This event comes again in the next state; messages are not copied for it. Follows the action postpone. */
MOTE_API void mote_statem_postpone(void);

/*
 * Inserts an event, which the machine gets before any other; data is copied. mote_statem_next_event inserts one of any
 * type but MOTE_STATEM_ENTER, with a copy of e->m (NULL: an empty message). Follow the action next_event.
 */
MOTE_API int mote_statem_internal(uint32_t type, const void *data, size_t size);
MOTE_API int mote_statem_next_event(const struct mote_statem_event *e);

/*
 * Timeouts, each of the kinds of enum mote_statem_timeout, and as many as have names. One that runs already is begun
 * anew. At the deadline an event MOTE_STATEM_TIMEOUT comes, with a message of that type and a copy of data. A deadline
 * that has passed (MOTE_NOW) comes before any message that was not received yet; MOTE_FOREVER is a cancel. update
 * changes what one will bring, not when; if it does not run it comes at once. The last call for each timeout counts.
 * Follow the actions state_timeout, timeout, {timeout, Name}.
 */
MOTE_API int mote_statem_timeout(int which, mote_deadline deadline, uint32_t type, const void *data, size_t size);
MOTE_API int mote_statem_timeout_update(int which, uint32_t type, const void *data, size_t size);
MOTE_API int mote_statem_timeout_cancel(int which);

/*
 * Ends the machine: no event comes any more, terminate does, in the state it is in. reason.data is copied. Follows
 * stop; after mote_reply(), stop_and_reply.
 */
MOTE_API void mote_statem_exit(struct mote_reason reason);

/*
 * Other callbacks, from the next one on, for the same data, in the state that it is in; init is not called. push lets
 * pop come back to those that are there now. They must have the same data_size, and outlive the machine. 0, -EINVAL,
 * -ENOMEM; -ENOENT: there is nothing to come back to. Follow change_callback_module, push_, pop_callback_module.
 */
MOTE_API int mote_statem_change_callbacks(const struct mote_statem_ops *ops);
MOTE_API int mote_statem_push_callbacks(const struct mote_statem_ops *ops);
MOTE_API int mote_statem_pop_callbacks(void);

MOTE_END_DECLS

#endif
