/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/log.h: the inside of the log. Its handlers and filters are hooks of one set, in the order in which they were
 * added; a filter names the handler that it belongs to.
 */
#ifndef OTP_LOG_H
#define OTP_LOG_H

#include "otp/hook.h"

#include <mote/log.h>
#include <mote/message.h>

enum log_message {
	LOG_LINE = 0x3fff0900,	/* to a writer: what to write; as a request: in sync mode */
	LOG_SYNC,		/* request: answered with an int32_t when all before is written */
	LOG_STOP,		/* request: likewise, and it ends */
	LOG_SETUP,		/* request, its first message */
	LOG_EVENT,		/* to the proxy: an event with all that it points to */
	LOG_ENDED,		/* to the proxy: struct ended */
};

struct log_writer;

struct log_hook {
	struct hook hook;
	_Atomic int level;
	int filter_default;
	uint64_t serial;			/* of a handler; 0: this is a filter */
	uint64_t owner;				/* of a filter: the serial of its handler; 0: primary */
	int (*filter)(struct mote_log_event *e, void *arg);
	int (*log)(const struct mote_log_event *e, void *arg);
	void (*removed)(void *arg);
	void *arg;
	struct log_writer *writer;		/* arg, of a writer; or NULL */
	char id[];
};

extern struct hook_set log_hooks;

/* log_handler.c. Gives; NULL: no memory. */
struct log_hook *log_hook_new(const char *id);
/* Takes hook, which is a handler's. 0, -EEXIST, -ENOMEM. */
int log_handler_put(struct log_hook *hook);
/* Removes just that one, with its filters. false: it was not there any more. */
bool log_hook_drop(struct log_hook *hook);
/* With a reference, or NULL. */
struct log_hook *log_handler_find(const char *id);
/* That it has failed, and is gone. */
void log_hook_report(const struct log_hook *hook);

/* log.c: for all filters and handlers, on behalf of the caller; text and fields as they are. */
void log_dispatch(struct mote_log_event *e);
/* With time, pid, the metadata of the calling process. text need not end with NUL. */
void log_event(int level, int report, const struct mote_log_site *site, const struct mote_field *fields,
	       const char *text, size_t size);
int64_t log_time(void);

/* field.c. A copy with all that fields point to, in one piece: its size, and into that many bytes, aligned to 8. */
size_t fields_size(const struct mote_field *fields);
const struct mote_field *fields_copy(void *to, const struct mote_field *fields);
size_t fields_count(const struct mote_field *fields);
/* Both, each key once, those of `first` as they are; to has room for both and the end. */
void fields_merge(struct mote_field *to, const struct mote_field *first, const struct mote_field *then);

/*
 * log_proxy.c: what the library says where no handler may run is logged by a process made for that. Any handler's being
 * added starts it listening.
 */
void log_proxy_listen(void);

/*
 * By processes of the library, which a handler that fails shall not take along: logged by the proxy, too; without
 * handlers, at once. The level is enabled; text ends with NUL, after size bytes.
 */
void log_report(int level, int report, const struct mote_field *fields, const char *text, size_t size);

/*
 * Processes of the log go last, when the runtime stops: told so, they wait until nobody else is left. How many of
 * them there are; writers wait for the proxy, too.
 */
extern _Atomic int log_proxies, log_writers;

/* log_writer.c: in whatever state it is, for mote_log_handlers(). */
void log_writer_describe(const struct log_writer *w, struct mote_log_info *info);
mote_pid log_writer_pid(const struct log_writer *w);
/*
 * A process that becomes a writer by its first message, a request, which it answers with an int32_t: 0, or why not. opts
 * have no defaults left, and are copied. delay_ms: how long it waits before; it says then that it is there again.
 */
mote_pid log_writer_spawn(void);
struct mote_msg *log_writer_setup(const struct mote_log_writer *opts, int64_t delay_ms);
/* log_writer_add.c */
/* Has it write what is queued, and end; waits for that. */
void log_writer_stop(mote_pid pid);

#endif
