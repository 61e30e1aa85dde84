/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/log.h: the log. Events have a level (enum mote_log_level, mote/runtime.h), a text and metadata; handlers,
 * added while the program runs, say what becomes of them. None is there unless the program adds one: until then they
 * go to mote_opts.log, or nowhere. It is Erlang's logger; docs/otp.md says where it differs.
 *
 * Filters, formatters and the functions of handlers run in the process that logs. One that crashes, or exits, ends
 * that process, and is removed; that is logged.
 */
#ifndef MOTE_LOG_H
#define MOTE_LOG_H

#include <mote/base.h>
#include <mote/field.h>
#include <mote/runtime.h>

MOTE_BEGIN_DECLS

/* Where in the source. */
struct mote_log_site {
	const char *file;
	const char *function;
	int line;
};

/* For mote_log_enabled() alone: the level that events must have at least to go further. */
MOTE_API extern int mote_log_gate;

/* Whether an event of that level would go further than the primary level: a load and a compare. Any thread. */
static inline bool mote_log_enabled(int level)
{
	/* relaxed: a level that was just set takes effect soon */
	return level <= __atomic_load_n(&mote_log_gate, __ATOMIC_RELAXED);
}

/*
 * mote_log(MOTE_LOG_ERROR, "%s: no such table", name): logs, with file and line. Arguments are evaluated only if the
 * level is enabled. mote_log_with(level, fields, format, ...): with metadata of the event's own. Any thread; may
 * wait, up to 5 s, for a handler that can't keep up.
 */
#define mote_log(level, ...) mote_log_with(level, NULL, __VA_ARGS__)
#define mote_log_with(level, fields, ...)							\
	do {											\
		static const struct mote_log_site mote_log_site_ = { __FILE__, __func__, __LINE__ };	\
		if (mote_log_enabled(level))							\
			mote_log_write(level, &mote_log_site_, fields, __VA_ARGS__);		\
	} while (0)

/*
 * What these macros call. site and fields may be NULL; borrows all. Texts are cut at MOTE_LOG_TEXT_MAX bytes. Any
 * thread.
 */
#define MOTE_LOG_TEXT_MAX 8192
MOTE_API void mote_log_write(int level, const struct mote_log_site *site, const struct mote_field *fields,
			     const char *format, ...) __attribute__((format(printf, 4, 5)));

/* "error" and so on; "?" if there is no such level. Any thread. */
MOTE_API const char *mote_log_level_name(int level);

/*
 * The primary level: events below it cost a load and a compare. At first MOTE_LOG_NOTICE, as in Erlang. Any thread.
 * -EINVAL. Follow logger:set_primary_config(level, L).
 */
MOTE_API int mote_log_set_level(int level);
MOTE_API int mote_log_level(void);

/*
 * Metadata of the calling process: part of each event that it logs from now on. set replaces all of it, NULL: none;
 * update adds, and replaces what has the same key. What fields point to is copied. 0, -ENOMEM. get: borrowed until
 * the next set or update; NULL: none. Processes that it spawns do not inherit it. Follow
 * logger:set_process_metadata/1, update_process_metadata/1, get_process_metadata/0.
 */
MOTE_API int mote_log_metadata_set(const struct mote_field *fields);
MOTE_API int mote_log_metadata_update(const struct mote_field *fields);
MOTE_API const struct mote_field *mote_log_metadata_get(void);

/* What kind of report an event is; the fields say the rest. */
enum mote_log_report {
	MOTE_LOG_PLAIN,
	MOTE_LOG_CRASH,			/* a process ended abnormally: OTP's crash report */
	MOTE_LOG_PROGRESS,		/* of a supervisor: it has started a child */
	MOTE_LOG_SUPERVISOR,		/* of a supervisor: its supervisor report */
	MOTE_LOG_SERVER,		/* a server, task and so on ends abnormally: its last words */
	MOTE_LOG_PROGRAM,		/* a line that a program printed: mote/program.h */
};

struct mote_log_event {
	int level;
	int report;			/* enum mote_log_report */
	int64_t time_us;		/* since 1970, UTC */
	const char *text;		/* NUL-terminated */
	size_t text_size;		/* without the NUL */
	mote_pid pid;			/* who logged it, or whom a report is about; MOTE_NOBODY: a foreign thread */
	const struct mote_log_site *site;	/* NULL: none */
	const struct mote_field *fields;	/* metadata of the event, then of the process: each key once; not NULL */
};

/* What a filter says. */
enum mote_log_verdict {
	MOTE_LOG_IGNORE,		/* nothing: the next filter decides, or filter_default */
	MOTE_LOG_PASS,			/* goes on to the next filter */
	MOTE_LOG_STOP,			/* not logged (by this handler) */
};

/*
 * A filter may change the event, for what follows of the same kind: what it points it to must live until the event is
 * through, as static data and mote_alloc()'s does. It must not log.
 */
struct mote_log_filter {
	const char *id;			/* unique among the filters of one handler; copied */
	int (*fn)(struct mote_log_event *e, void *arg);		/* enum mote_log_verdict */
	void *arg;			/* passed through */
};

/* Primary filters, when handler is NULL: they see events first. 0, -EEXIST, -ENOENT, -EINVAL, -ENOMEM. Any thread.
 * Follow logger:add_primary_filter/2, add_handler_filter/3 and remove_... */
MOTE_API int mote_log_filter_add(const char *handler, const struct mote_log_filter *filter);
MOTE_API int mote_log_filter_remove(const char *handler, const char *id);

/*
 * Formatters write an event to buf, as snprintf() does: at most size bytes with the NUL; returns how many it would
 * have been, without. mote_log_format_line, the default: "2026-11-22T22:22:11.123456+00:00 error: text key=value\n",
 * one line whatever the text holds. mote_log_format_json: one JSON object, and "\n". Any thread.
 */
typedef int (*mote_log_format_fn)(const struct mote_log_event *e, char *buf, size_t size, void *arg);
MOTE_API int mote_log_format_line(const struct mote_log_event *e, char *buf, size_t size, void *arg);
MOTE_API int mote_log_format_json(const struct mote_log_event *e, char *buf, size_t size, void *arg);

/* A handler of one's own. */
struct mote_log_handler {
	size_t size;
	const char *id;				/* copied */
	int level;				/* what is below does not reach it; 0: MOTE_LOG_ALL */
	int filter_default;			/* when no filter decides: 0 or MOTE_LOG_PASS, or MOTE_LOG_STOP */
	/* Called by whoever logs, several at once; it must not log. Less than 0: it has failed, and is removed. */
	int (*log)(const struct mote_log_event *e, void *config);
	/* Called once, when nobody is in log any more, nor will be: config may be freed. May be NULL; must not wait. */
	void (*removed)(void *config);
	void *config;
};

/*
 * 0, -EEXIST, -EINVAL, -E2BIG, -ENOMEM. Any thread; it stays when the runtime is stopped. Follows
 * logger:add_handler/3.
 */
MOTE_API int mote_log_handler_add(const struct mote_log_handler *handler);

/*
 * Writes events to a file or descriptor, from a process of its own, in OTP's way: while its queue is short, those who
 * log do not wait; from sync_qlen on each waits until its event is written; from drop_qlen on events are dropped; at
 * flush_qlen the queue is thrown away. In bursts at most burst_max events in burst_ms are written. What it does so is
 * written, too.
 */
struct mote_log_writer {
	size_t size;
	const char *id;
	const char *path;			/* appended to, created with 0666 less umask; NULL: fd */
	int fd;					/* stays the caller's, and open */
	int level;				/* as above */
	int filter_default;
	mote_log_format_fn format;		/* NULL: mote_log_format_line */
	void *format_arg;
	int sync_qlen;				/* 0: 10; below 0: always wait */
	int drop_qlen;				/* 0: 200; more than 1, at least sync_qlen */
	int flush_qlen;				/* 0: 1000; at least drop_qlen */
	int burst_max;				/* 0: 500; below 0: no limit */
	int burst_ms;				/* 0: 1000 */
	bool overload_kill;			/* with more queued than the next two say it ends, without writing */
	int kill_qlen;				/* 0: 20,000 */
	int64_t kill_memory;			/* bytes queued; 0: 3,000,000 */
	int64_t restart_ms;			/* it is there again so long after that; 0: 5000; below 0: never */
};

/*
 * Returns when it is ready. 0; what opening says; -EEXIST, -EINVAL, -E2BIG, -ENOMEM, -EAGAIN. It lives until it is
 * removed, or the runtime stops: then it goes last, when all is written. Follows logger_std_h.
 */
MOTE_API int mote_log_writer_add(const struct mote_log_writer *writer);

/*
 * Removes a handler with its filters. A writer has written what was logged before when this returns. 0; -ENOENT. A
 * writer: processes only. Follows logger:remove_handler/1.
 */
MOTE_API int mote_log_handler_remove(const char *id);

/* 0; -ENOENT, -EINVAL. Any thread. Follows logger:set_handler_config(Id, level, L). */
MOTE_API int mote_log_handler_set_level(const char *id, int level);

/*
 * Waits until a writer has written all that was logged before, and, to a file, fdatasync(2). 0; -ENOENT, -EINVAL (no
 * writer), -ETIMEDOUT, -EPIPE; what writing said last. Follows logger_std_h:filesync/1.
 */
MOTE_API int mote_log_writer_sync(const char *id, mote_deadline deadline);

enum mote_log_mode { MOTE_LOG_ASYNC, MOTE_LOG_SYNC, MOTE_LOG_DROP };

struct mote_log_info {
	size_t size;
	const char *id;			/* while visit runs */
	int level;
	bool writer;
	/* Of writers only. Events: */
	int mode;			/* enum mote_log_mode */
	uint64_t queued;		/* now */
	uint64_t written;
	uint64_t failed;		/* could not be written */
	uint64_t dropped;		/* in drop mode */
	uint64_t flushed;
	uint64_t burst_dropped;
	mote_pid pid;
};

/* Calls visit with each handler, until it returns false. visit must not change handlers. Any thread. Follows
 * logger:get_handler_config/0 and logger_olp:info/1. */
MOTE_API void mote_log_handlers(bool (*visit)(const struct mote_log_info *info, void *arg), void *arg);

MOTE_END_DECLS

#endif
