/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/server.h: the inside of a server: a handler whose state begins with this.
 *
 * A server is spawned first and told what to be by its first message, START, a request: the answer to it is what
 * mote_server_start() waits for. So nothing of the starter's has to outlive the starter.
 */
#ifndef OTP_SERVER_H
#define OTP_SERVER_H

#include "core/process.h"

#include <mote/server.h>
#include <mote/sys.h>

enum system_message {
	SYSTEM_START = MOTE_MSG_SYSTEM,	/* struct start_request; answered with struct start_answer */
	SYSTEM_TIMEOUT,			/* uint64_t: which */
	SYSTEM_TERMINATE,		/* struct wire_reason and its data */
	SYSTEM_GET_STATE,
	SYSTEM_REPLACE_STATE,
	SYSTEM_GET_STATUS,
	SYSTEM_SUSPEND,
	SYSTEM_RESUME,
	SYSTEM_STATISTICS,		/* uint8_t: on */
	SYSTEM_GET_STATISTICS,
	SYSTEM_TRACE,			/* struct trace_request */
	SYSTEM_CHANGE_CODE,		/* struct change_request */
	SYSTEM_ANSWER,			/* int32_t error, then what was asked for */
	SYSTEM_END = MOTE_MSG_SYSTEM + 0x100,
};

struct wire_reason {
	uint32_t kind;
	int32_t code;
};

/* Of the process heap; made when first needed. */
struct server_extra {
	void *state;				/* instead of the one that follows struct server, once the code was changed */
	struct mote_msg *next;			/* of handle_continue */
	mote_timer timer;
	uint64_t timer_turn;			/* a TIMEOUT of an earlier one comes too late */
	uint32_t timer_type;
	bool timer_armed;
	bool suspended;
	bool stopping;
	bool counting;
	struct mote_reason reason;		/* once stopping */
	struct mote_sys_statistics statistics;
	void (*trace)(const struct mote_sys_event *e, void *arg);
	void *trace_arg;
	/* What mote_sys_get_state() shows instead of all of the state; a behaviour's init sets it. */
	void *shown;
	size_t shown_size;
};

struct server {
	const struct mote_server_ops *ops;
	struct server_extra *extra;
	const struct mote_msg *at;		/* what it handles */
	bool started;
	bool ended;				/* terminate has begun */
	mote_pid parent;			/* it was linked to at its start; or MOTE_NOBODY */
};

_Static_assert(sizeof(struct server) == 48, "the state follows, aligned to 16; with 16 bytes of it that is one cache line");

static inline void *server_state(struct server *server)
{
	return unlikely(server->extra && server->extra->state) ? server->extra->state : server + 1;
}

/* Of the calling process. Ends the program if it is no server. */
struct server *server_self(const char *function);

/*
 * As the public starts. arg_size, if not 0: init gets a copy of so many bytes, 16-byte aligned, which lives while it runs:
 * nothing of the starter's is needed, who may be killed meanwhile.
 */
int server_start(const struct mote_server_ops *ops, const void *arg, size_t arg_size, const struct mote_server_opts *opts,
		 bool link, mote_ref *monitor, mote_pid *pid);

/* NULL: out of memory. */
struct server_extra *server_extra(struct server *server);

/* format_status: as snprintf(), size > 0; 0 and "" without it. */
int server_format(struct server *server, char *buf, size_t size);

/* m is the EXIT of its parent, which it follows. */
bool server_parent_ended(const struct server *server, const struct mote_msg *m);

/* Ends the server from outside of its callbacks, with terminate. The reason's data lives until the process does not. */
_Noreturn void server_end(struct server *server, const struct mote_reason *reason);

/* sys.c: answers a system message but START and TIMEOUT; may not return. */
void sys_handle(struct server *server, struct mote_from from, const struct mote_msg *m);

/* sys.c: counts, and shows it to who traces. */
void sys_event(struct server *server, enum mote_sys_event_kind kind, const struct mote_msg *m);

/* start.c: what a start request says, in the started process. Registers its names. 0, or the error to answer with. */
struct start_request;
bool start_valid(const struct mote_msg *m);
int start_names(const struct start_request *start, mote_pid *holder);
/* Answers; a process that failed to start ends normally. */
void start_answer(struct mote_from from, int err, mote_pid holder);

/* The rest of a start, by who made the process: sends it the request and waits. Results as of mote_server_start(). */
struct start_request {
	const struct mote_server_ops *ops;	/* NULL: fn */
	mote_fn fn;
	void *arg;
	size_t arg_size;			/* 0: arg is passed through; else a copy of it follows, aligned, after the name */
	struct mote_via via;			/* its key follows, if via.register_self; else the name with its NUL */
	size_t name_size;
	mote_pid parent;
	bool named;
};

void *start_arg(const struct start_request *start);

int start_run(const struct mote_spawn_opts *spawn, struct start_request *start, const struct mote_server_opts *opts,
	      bool link, mote_ref *monitor, mote_pid *pid);

#endif
