/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/telemetry.h: events that a program emits, for functions that others attach: measurements, without knowing who
 * measures. It is Erlang's telemetry; docs/otp.md says where it differs. Names are "db.query.stop", for [db, query,
 * stop].
 */
#ifndef MOTE_TELEMETRY_H
#define MOTE_TELEMETRY_H

#include <mote/base.h>
#include <mote/field.h>

MOTE_BEGIN_DECLS

/*
 * A handler. Runs in the process, or thread, that executes the event, several at once; borrows all. May wait, and
 * log. Less than 0, an -errno: it has failed. One that fails so, or crashes, or ends its process, is detached from
 * all its events; that is logged, and the event "telemetry.handler.failure" tells it: measurements monotonic_time and
 * system_time (ns), metadata handler_id, handler_config, event_name, kind ("error", "crash", "exit") and reason. A
 * crash ends the process that executed the event, as any.
 */
typedef int (*mote_telemetry_fn)(const char *event, const struct mote_field *measurements,
				 const struct mote_field *metadata, void *config);

/*
 * Attaches fn to an event, or to nr_events of them, under an id of its own. id and names are copied; config is passed
 * through. removed, if not NULL, is called once, when no fn runs any more, nor will: config may be freed; it must not
 * wait. 0; -EEXIST: the id is taken; -EINVAL (a name that is empty, or has an empty part), -ENOMEM. Any thread;
 * handlers stay when the runtime is stopped. Follow telemetry:attach/4, attach_many/4.
 */
MOTE_API int mote_telemetry_attach(const char *id, const char *event, mote_telemetry_fn fn, void *config);
MOTE_API int mote_telemetry_attach_many(const char *id, const char *const *events, size_t nr_events,
					mote_telemetry_fn fn, void *config, void (*removed)(void *config));

/*
 * fn may still be at work for those who have just executed an event. 0; -ENOENT. Any thread. Follows
 * telemetry:detach/1.
 */
MOTE_API int mote_telemetry_detach(const char *id);

struct mote_telemetry_handler {
	const char *id, *event;
	mote_telemetry_fn fn;
	void *config;
};

/*
 * Calls visit, until it returns false, with each handler of each event that begins with the parts of prefix: "db" is
 * one of "db.query", not of "dbx"; "": of all. visit must not attach or detach. Any thread. Follows
 * telemetry:list_handlers/1.
 */
MOTE_API void mote_telemetry_handlers(const char *prefix, bool (*visit)(const struct mote_telemetry_handler *h,
									void *arg),
				      void *arg);

/* For mote_telemetry_execute() alone: how many handlers there are. */
MOTE_API extern int mote_telemetry_gate;

/*
 * mote_telemetry_execute("db.query.stop", MOTE_FIELDS(mote_field_int("duration", ns)), NULL): calls the handlers of
 * that event, in the order in which they were attached. While nobody has attached anything it costs a load and a
 * branch, and arguments are not evaluated. Borrows; fields may be NULL. Any thread. Follows telemetry:execute/3.
 */
#define mote_telemetry_execute(event, measurements, metadata)				\
	do {										\
		/* relaxed: who attaches is heard soon */				\
		if (__atomic_load_n(&mote_telemetry_gate, __ATOMIC_RELAXED))		\
			mote_telemetry_run(event, measurements, metadata);		\
	} while (0)
MOTE_API void mote_telemetry_run(const char *event, const struct mote_field *measurements,
				 const struct mote_field *metadata);

/*
 * Executes "prefix.start" (monotonic_time, system_time), calls fn, and executes "prefix.stop" (duration,
 * monotonic_time) with what fn has put to *stop_metadata, at first metadata, which must live until this returns. When
 * the process ends in fn, however, it is "prefix.exception", with metadata, kind and reason. Times are in
 * nanoseconds. Each has a telemetry_span_context, the same for the two, unless metadata has one. Returns what fn
 * does. Any thread. Follows telemetry:span/3.
 */
MOTE_API int64_t mote_telemetry_span(const char *prefix, const struct mote_field *metadata,
				     int64_t (*fn)(void *arg, const struct mote_field **stop_metadata), void *arg);

MOTE_END_DECLS

#endif
