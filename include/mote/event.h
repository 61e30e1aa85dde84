/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/event.h: event managers: processes that show what they are told to any number of handlers, which come and go
 * while they run. They are Erlang's gen_event.
 *
 *	mote_event_start_link(NULL, &manager);
 *	mote_event_add_handler(manager, &(struct mote_event_handler){ .id = "log", .ops = &log_ops }, MOTE_FOREVER);
 *	mote_event_notify(manager, STARTED, NULL, 0);
 *
 * A manager is a server (mote/server.h): stop it with mote_server_stop(). Handlers run in it, one after the other, the
 * one added last first: a handler that crashes ends the manager, and with it all handlers. One added with
 * MOTE_EVENT_APART runs in a process of its own: a crash ends only that one, and while it works the others do not wait
 * for it. A handler that would wait for itself gets -EDEADLK.
 */
#ifndef MOTE_EVENT_H
#define MOTE_EVENT_H

#include <mote/base.h>
#include <mote/message.h>
#include <mote/server.h>

MOTE_BEGIN_DECLS

#define MOTE_EVENT_ID_MAX 255	/* bytes of a handler's name */

#define MOTE_EVENT_REMOVE 1	/* what a callback returns that wants its handler to be removed */

/* Why a handler goes. */
enum mote_event_end_kind {
	MOTE_EVENT_DELETED,	/* mote_event_delete_handler() */
	MOTE_EVENT_SWAPPED,	/* mote_event_swap_handler() */
	MOTE_EVENT_REMOVED,	/* it returned MOTE_EVENT_REMOVE */
	MOTE_EVENT_FAILED,	/* it returned anything else but 0, or crashed */
	MOTE_EVENT_ADDER_ENDED,	/* who had added it with mote_event_add_sup_handler() */
	MOTE_EVENT_STOPPED,	/* the manager ends */
};

struct mote_event_end {
	int kind;			/* enum mote_event_end_kind */
	struct mote_reason reason;	/* of MOTE_EVENT_FAILED, _ADDER_ENDED, _STOPPED */
	const struct mote_msg *m;	/* of MOTE_EVENT_DELETED, _SWAPPED: what was given with it; else NULL */
};

/*
 * Callbacks of a handler. state: state_size bytes, zeroed before init, released when the handler goes. They return 0;
 * MOTE_EVENT_REMOVE; or -errno: the handler has failed, is removed, and that is reported. Messages are borrowed: all
 * handlers in the manager see the same one, and so only handle_call's, and all of an apart handler, can be kept with
 * mote_msg_keep(). All members may be NULL: what comes for them is ignored, but a call is answered with -ENOSYS.
 */
struct mote_event_ops {
	size_t size;
	size_t state_size;
	/* old: what the terminate gave of the handler that this one replaces; else NULL. -errno: it is not added. */
	int (*init)(void *state, void *arg, const struct mote_msg *old);
	/* What mote_event_notify() and mote_event_sync_notify() send. */
	int (*handle_event)(void *state, const struct mote_msg *m);
	/* A request to this handler; answer with mote_reply(), now or later. */
	int (*handle_call)(void *state, struct mote_from from, const struct mote_msg *m);
	/* Other messages to the manager; but EXIT and DOWN are not for apart handlers. */
	int (*handle_info)(void *state, const struct mote_msg *m);
	/* Gives a message for who deleted the handler, or for the init of its successor; NULL: none. */
	struct mote_msg *(*terminate)(void *state, const struct mote_event_end *why);
};

/*
 * The same with checked types, for C: MOTE_EVENT_HANDLER(log, struct log, .handle_event = log_event) defines `log`,
 * whose callbacks must take struct log *; add it with .ops = &log.ops.
 */
#ifndef __cplusplus
#define MOTE_EVENT_HANDLER(name, state_type, ...)							\
	static const union {										\
		struct {										\
			size_t size, state_size;							\
			int (*init)(state_type *state, void *arg, const struct mote_msg *old);		\
			int (*handle_event)(state_type *state, const struct mote_msg *m);		\
			int (*handle_call)(state_type *state, struct mote_from from, const struct mote_msg *m);	\
			int (*handle_info)(state_type *state, const struct mote_msg *m);		\
			struct mote_msg *(*terminate)(state_type *state, const struct mote_event_end *why);	\
		} typed;										\
		struct mote_event_ops ops;								\
	} name = { .typed = { .size = sizeof(struct mote_event_ops), .state_size = sizeof(state_type), __VA_ARGS__ } }
#endif

enum mote_event_flags {
	MOTE_EVENT_APART = 1 << 0,	/* in a process of its own */
};

struct mote_event_handler {
	const char *id;			/* 1 to MOTE_EVENT_ID_MAX bytes, unique in the manager; copied */
	const struct mote_event_ops *ops;	/* must outlive the handler */
	void *arg;			/* for init */
	unsigned int flags;		/* enum mote_event_flags */
};

/*
 * Start a manager without handlers. opts may be NULL. Results as of mote_server_start(). Follow gen_event:start,
 * start_link, start_monitor.
 */
MOTE_API int mote_event_start(const struct mote_server_opts *opts, mote_pid *pid);
MOTE_API int mote_event_start_link(const struct mote_server_opts *opts, mote_pid *pid);
MOTE_API int mote_event_start_monitor(const struct mote_server_opts *opts, mote_pid *pid, mote_ref *ref);

/*
 * Tell all handlers. notify does not wait, and does as mote_cast(); sync_notify waits until all have handled it, apart
 * ones too, and returns as mote_call(). type below MOTE_MSG_SYSTEM, or -EINVAL. notify: any thread. Follow
 * gen_event:notify, sync_notify.
 */
MOTE_API int mote_event_notify(mote_pid manager, uint32_t type, const void *data, size_t size);
MOTE_API int mote_event_sync_notify(mote_pid manager, uint32_t type, const void *data, size_t size,
				    mote_deadline deadline);

/*
 * Add a handler. 0; what its init returned; -EEXIST: the id is taken; -EREMOTE: the manager is of another node; -EPIPE:
 * it, or an apart handler, ended meanwhile; else as mote_call(). After -ETIMEDOUT it may yet be added. sup links
 * manager and caller: when the caller ends the handler is removed; when the handler goes otherwise the caller gets
 * MOTE_MSG_EVENT_EXIT. The link stays until the manager stops, which unlinks first. Follow gen_event:add_handler,
 * add_sup_handler.
 */
MOTE_API int mote_event_add_handler(mote_pid manager, const struct mote_event_handler *handler, mote_deadline deadline);
MOTE_API int mote_event_add_sup_handler(mote_pid manager, const struct mote_event_handler *handler,
					mote_deadline deadline);

#define MOTE_MSG_EVENT_EXIT 0x3fff04ffu	/* data: struct mote_event_exit; from: the manager */

struct mote_event_exit {
	int32_t kind;			/* enum mote_event_end_kind */
	uint32_t reason_kind;		/* of MOTE_EVENT_FAILED, _STOPPED: enum mote_reason_kind */
	int32_t reason_code;
	uint32_t reserved;
	char id[MOTE_EVENT_ID_MAX + 1];
	char new_id[MOTE_EVENT_ID_MAX + 1];	/* of MOTE_EVENT_SWAPPED: of its successor */
};

/*
 * Removes a handler: its terminate gets the data. *result (may be NULL) is what it gave, NULL if nothing. 0; -ENOENT:
 * there is none of that id; -EPIPE: it ended by itself; else as mote_call(). Follows gen_event:delete_handler/3.
 */
MOTE_API int mote_event_delete_handler(mote_pid manager, const char *id, const void *data, size_t size,
				       struct mote_msg **result, mote_deadline deadline);

/*
 * Put a handler in the place of another, between two events: the terminate of the one gets the data, and what it gives
 * is for the init of the other. If there is none of that id, the new one is added all the same, with no old message.
 * Results as of adding: the old one is gone then, unless it is -EEXIST. The new one is supervised by who supervised the
 * old one; with sup by the caller. Follow gen_event:swap_handler, swap_sup_handler.
 */
MOTE_API int mote_event_swap_handler(mote_pid manager, const char *id, const void *data, size_t size,
				     const struct mote_event_handler *handler, mote_deadline deadline);
MOTE_API int mote_event_swap_sup_handler(mote_pid manager, const char *id, const void *data, size_t size,
					 const struct mote_event_handler *handler, mote_deadline deadline);

/*
 * Asks one handler. 0, with *reply (may be NULL) given; -ENOENT: there is none of that id; -ENOSYS: it answers nothing;
 * -EPIPE: it was removed, or ended, without an answer, or the manager did; else as mote_call(). Follows
 * gen_event:call/4.
 */
MOTE_API int mote_event_call(mote_pid manager, const char *id, uint32_t type, const void *data, size_t size,
			     struct mote_msg **reply, mote_deadline deadline);

/*
 * The first half of a call: as mote_request(). What comes by mote_receive_ref() is taken by mote_event_response(),
 * which says what mote_event_call() would (NULL: mote_errno()). Follow gen_event:send_request/3, check_response/2.
 */
MOTE_API mote_ref mote_event_send_request(mote_pid manager, const char *id, uint32_t type, const void *data,
					  size_t size);
MOTE_API int mote_event_response(struct mote_msg *m, struct mote_msg **reply);

/*
 * The ids of all handlers, newest first, each with its NUL, one behind the other. Given. Follows
 * gen_event:which_handlers/1.
 */
MOTE_API int mote_event_which_handlers(mote_pid manager, struct mote_msg **ids, mote_deadline deadline);

MOTE_END_DECLS

#endif
