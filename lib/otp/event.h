/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/event.h: what is said between those who use an event manager, the manager, and its apart handlers.
 *
 * An event is a cast, or, if its sender waits, a request, of the user's type. All else is a request of a type below:
 * the user's data, the ids, and an order that says what they are. With these cut off it is the message that a callback
 * is shown.
 */
#ifndef OTP_EVENT_H
#define OTP_EVENT_H

#include "otp/server.h"

#include <mote/event.h>

enum event_message {
	EVENT_ADD = MOTE_MSG_SYSTEM + 0x400,
	EVENT_SWAP,
	EVENT_DELETE,
	EVENT_CALL,			/* also from the manager to an apart handler */
	EVENT_WHICH,
	EVENT_TERMINATE,		/* from the manager to an apart handler */
	EVENT_DONE,			/* an answer: all is well */
	EVENT_ERROR,			/* an answer: int32_t, -errno */
};

struct event_order {
	const struct mote_event_ops *ops;	/* of the handler to be added */
	void *arg;
	uint32_t flags;
	uint32_t type;			/* of the message that the callback is shown */
	uint16_t id_size, old_size;	/* without a NUL; old: the handler to be replaced */
	uint8_t sup;
	uint8_t end;			/* of TERMINATE: enum mote_event_end_kind */
	uint16_t zero;
	uint32_t reason_kind;		/* likewise */
	int32_t reason_code;
};

struct event_ids {
	char id[MOTE_EVENT_ID_MAX + 1], old[MOTE_EVENT_ID_MAX + 1];
};

/* Takes the order off the end of a message, which is then the user's. ids may be NULL. False: it has none. */
bool event_order_take(const struct mote_msg *m, struct event_order *o, struct event_ids *ids);

/* As mote_call(), with the order behind the data. -EINVAL, -EMSGSIZE also for the ids. The sizes in o are filled in. */
int event_ask(mote_pid to, enum event_message what, struct event_order *o, const char *id, const char *old,
	      const void *data, size_t size, struct mote_msg **reply, mote_deadline deadline);

/* As mote_request(), likewise. */
mote_ref event_request(mote_pid to, enum event_message what, struct event_order *o, const char *id, const void *data,
		       size_t size);

void event_answer(struct mote_from from, int err);

/* Calls terminate, if there is one. */
struct mote_msg *event_enter_terminate(const struct mote_event_ops *ops, void *state, const struct mote_event_end *why);

/* What a callback's result, not 0, means for its handler. */
struct mote_event_end event_end_of(int result);

enum event_callback { EVENT_CALLBACK_EVENT, EVENT_CALLBACK_INFO };

/* Calls handle_event or handle_info; 0 if there is none. */
int event_enter(const struct mote_event_ops *ops, enum event_callback which, void *state, const struct mote_msg *m);

/* Calls handle_call. */
int event_enter_call(const struct mote_event_ops *ops, void *state, struct mote_from from, const struct mote_msg *m);

/* Calls init; -EINVAL if it returns what is neither 0 nor an error. */
int event_enter_init(const struct mote_event_ops *ops, void *state, void *arg, const struct mote_msg *old);

/*
 * event_apart.c: starts the process of an apart handler, linked to the caller, the manager. As
 * mote_server_start_link().
 */
int event_apart_start(const struct event_order *o, const struct mote_msg *old, mote_pid *pid);

/* event_manager.c */
extern const struct mote_server_ops event_manager __attribute__((visibility("hidden")));

#endif
