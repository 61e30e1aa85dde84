// SPDX-License-Identifier: MIT OR GPL-2.0
#include "core/process.h"
#include "otp/hook.h"
#include "otp/log.h"

#include <mote/telemetry.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NAME_MAX_	256	/* of an event of a span, with what is added */
#define FAILED_AT_ONCE	4

struct handler {
	struct hook hook;
	mote_telemetry_fn fn;
	void *config;
	void (*removed)(void *config);
	char *id;
	size_t n;
	struct {
		uint32_t hash;
		char *name;
	} events[];
};

static void handler_free(struct hook *hook);
static void handler_failed(struct hook *hook, const void *at);

static struct hook_set handlers = { .mutex = PTHREAD_MUTEX_INITIALIZER, .free = handler_free,
				    .failed = handler_failed };

int mote_telemetry_gate;

static struct handler *handler_of(const struct hook *hook)
{
	return (struct handler *)(uintptr_t)hook;
}

/* FNV-1a */
static uint32_t hash_of(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 16777619u;
	return h;
}

PROCESS_ENTRY static void call_removed(const struct handler *h)
{
	h->removed(h->config);
	PROCESS_ENTRY_END();
}

static void handler_free(struct hook *hook)
{
	struct handler *h = handler_of(hook);

	if (h->removed)
		call_removed(h);
	free(h);
}

static bool name_well_formed(const char *name)
{
	return name && *name && *name != '.' && name[strlen(name) - 1] != '.' && !strstr(name, "..");
}

static struct handler *handler_new(const char *id, const char *const *events, size_t n)
{
	size_t size = sizeof(struct handler) + n * sizeof(((struct handler *)0)->events[0]), bytes = strlen(id) + 1;
	struct handler *h;
	char *text;

	for (size_t i = 0; i < n; i++)
		bytes += strlen(events[i]) + 1;
	h = malloc(size + bytes);
	if (!h)
		return NULL;
	memset(h, 0, size);
	hook_init(&h->hook);
	text = (char *)h + size;
	h->id = text;
	text = stpcpy(text, id) + 1;
	h->n = n;
	for (size_t i = 0; i < n; i++) {
		h->events[i].hash = hash_of(events[i]);
		h->events[i].name = text;
		text = stpcpy(text, events[i]) + 1;
	}
	return h;
}

/* With the mutex held. */
static struct handler *handler_locked(const char *id)
{
	const struct hook_list *list = hooks_now(&handlers);

	for (size_t i = 0; i < list->n; i++) {
		if (!strcmp(handler_of(list->hooks[i])->id, id))
			return handler_of(list->hooks[i]);
	}
	return NULL;
}

static void forget_in_child(void)
{
	hooks_forget(&handlers, false);
}

static void register_fork(void)
{
	pthread_atfork(NULL, NULL, forget_in_child);
}

/* With the mutex held. relaxed: an event that is executed at the same time may or may not be before it. */
static void gate_set(void)
{
	__atomic_store_n(&mote_telemetry_gate, (int)hooks_now(&handlers)->n, __ATOMIC_RELAXED);
}

int mote_telemetry_attach_many(const char *id, const char *const *events, size_t nr_events, mote_telemetry_fn fn,
			       void *config, void (*removed)(void *config))
{
	static pthread_once_t fork_once = PTHREAD_ONCE_INIT;
	struct hook_list *old = NULL;
	struct handler *h;
	int err;

	if (!id || !fn || !nr_events)
		return -EINVAL;
	for (size_t i = 0; i < nr_events; i++) {
		if (!name_well_formed(events[i]))
			return -EINVAL;
	}
	h = handler_new(id, events, nr_events);
	if (!h)
		return -ENOMEM;
	h->fn = fn;
	h->config = config;
	pthread_once(&fork_once, register_fork);
	hooks_lock(&handlers);
	err = handler_locked(id) ? -EEXIST : hooks_change(&handlers, NULL, NULL, &h->hook, &old);
	if (!err) {
		h->removed = removed;
		gate_set();
	}
	hooks_unlock(&handlers);
	hooks_put(old);
	hook_put(&handlers, &h->hook);
	return err;
}

int mote_telemetry_attach(const char *id, const char *event, mote_telemetry_fn fn, void *config)
{
	return mote_telemetry_attach_many(id, &event, 1, fn, config, NULL);
}

static bool is_hook(const struct hook *hook, const void *arg)
{
	return hook == arg;
}

/* With the mutex held. */
static int drop_locked(const struct hook *hook, struct hook_list **old)
{
	int err = hooks_change(&handlers, is_hook, hook, NULL, old);

	gate_set();
	return err;
}

int mote_telemetry_detach(const char *id)
{
	struct hook_list *old = NULL;
	struct handler *h;
	int err = -ENOENT;

	hooks_lock(&handlers);
	h = handler_locked(id);
	if (h)
		err = drop_locked(&h->hook, &old);
	hooks_unlock(&handlers);
	hooks_put(old);
	return err;
}

/* Just that one: another may have its id by now. */
static bool handler_drop(struct handler *h)
{
	struct hook_list *old = NULL;
	bool dropped;

	hooks_lock(&handlers);
	dropped = handler_locked(h->id) == h && !drop_locked(&h->hook, &old);
	hooks_unlock(&handlers);
	hooks_put(old);
	return dropped;
}

/* ns since 1970 */
static int64_t system_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void tell_failure(const struct handler *h, const char *event, const char *kind, const char *reason)
{
	mote_log(MOTE_LOG_ERROR, "Handler %s has failed and has been detached. Event=%s Class=%s Reason=%s", h->id,
		 event, kind,
		 reason);
	mote_telemetry_execute("telemetry.handler.failure",
			       MOTE_FIELDS(mote_field_int("monotonic_time", mote_now().ns),
					   mote_field_int("system_time", system_time())),
			       MOTE_FIELDS(mote_field_text("handler_id", h->id), mote_field_pointer("handler_config", h->config),
					   mote_field_text("event_name", event), mote_field_text("kind", kind),
					   mote_field_text("reason", reason)));
}

/* What the calling process, which is in its cleanups, dies of. */
static const char *dying_reason(char *buf, size_t size)
{
	const struct mote_reason *why = process_reason(process_caller());

	mote_reason_format(why, buf, size);
	return why->kind == MOTE_SIGNAL ? "crash" : "exit";
}

static void handler_failed(struct hook *hook, const void *at)
{
	char reason[256];
	const char *kind;

	if (!handler_drop(handler_of(hook)))
		return;
	kind = dying_reason(reason, sizeof(reason));
	tell_failure(handler_of(hook), at, kind, reason);
}

PROCESS_ENTRY static int call_handler(const struct handler *h, const char *event, const struct mote_field *measurements,
				      const struct mote_field *metadata)
{
	int err = h->fn(event, measurements, metadata, h->config);

	PROCESS_ENTRY_END();
	return err;
}

static const char *handler_event(const struct handler *h, uint32_t hash, const char *event)
{
	for (size_t i = 0; i < h->n; i++) {
		if (h->events[i].hash == hash && !strcmp(h->events[i].name, event))
			return h->events[i].name;
	}
	return NULL;
}

void mote_telemetry_run(const char *event, const struct mote_field *measurements, const struct mote_field *metadata)
{
	static const struct mote_field none;
	uint32_t hash = hash_of(event);
	struct hook_walk walk;

	if (!hooks_begin(&handlers, &walk))
		return;
	for (size_t i = 0; i < walk.list->n; i++) {
		struct handler *h = handler_of(walk.list->hooks[i]);
		const char *name = handler_event(h, hash, event);
		char reason[32];
		int err;

		if (!name)
			continue;
		hooks_running(&walk, &h->hook, name);
		err = call_handler(h, event, measurements ? measurements : &none, metadata ? metadata : &none);
		hooks_running(&walk, NULL, NULL);
		if (err < 0 && handler_drop(h)) {
			snprintf(reason, sizeof(reason), "error %d", -err);
			tell_failure(h, name, "error", reason);
		}
	}
	hooks_end(&walk);
}

static bool has_prefix(const char *event, const char *prefix)
{
	size_t n = strlen(prefix);

	return !n || (!strncmp(event, prefix, n) && (!event[n] || event[n] == '.'));
}

PROCESS_ENTRY static bool call_visit(bool (*visit)(const struct mote_telemetry_handler *h, void *arg), void *arg,
				     const struct mote_telemetry_handler *h)
{
	bool more = visit(h, arg);

	PROCESS_ENTRY_END();
	return more;
}

void mote_telemetry_handlers(const char *prefix, bool (*visit)(const struct mote_telemetry_handler *h,
							       void *arg), void *arg)
{
	struct hook_walk walk;
	bool more = true;

	if (!hooks_begin(&handlers, &walk))
		return;
	for (size_t i = 0; more && i < walk.list->n; i++) {
		const struct handler *h = handler_of(walk.list->hooks[i]);

		for (size_t k = 0; more && k < h->n; k++) {
			struct mote_telemetry_handler shown = { h->id, h->events[k].name, h->fn, h->config };

			if (has_prefix(shown.event, prefix))
				more = call_visit(visit, arg, &shown);
		}
	}
	hooks_end(&walk);
}

/* --- spans --- */

/* Of the process's heap: a crash leaves nothing of the stack. */
struct span {
	int64_t start;
	struct mote_field context;		/* key NULL: metadata has it */
	const char *prefix;
	const struct mote_field *metadata;
};

static void span_execute(const struct span *s, const char *what, const struct mote_field *measurements,
			 const struct mote_field *metadata, const struct mote_field *more)
{
	size_t n = fields_count(metadata) + fields_count(more) + 2;
	struct mote_field *all = mote_in_process() ? mote_alloc(n * sizeof(*all)) : malloc(n * sizeof(*all));
	struct mote_field own[4] = { s->context };	/* its, kind, reason, and the end */
	char event[NAME_MAX_];

	if (all) {
		size_t i = own[0].key ? 1 : 0;

		for (; more && more->key; more++)
			own[i++] = *more;
		own[i] = (struct mote_field){ 0 };
		fields_merge(all, own, metadata);
		snprintf(event, sizeof(event), "%s.%s", s->prefix, what);
		mote_telemetry_run(event, measurements, all);
	}
	if (mote_in_process())
		mote_free(all);
	else
		free(all);
}

static void span_broken(void *arg)
{
	const struct span *s = arg;
	int64_t now = mote_now().ns;
	char reason[512];
	const char *kind = dying_reason(reason, sizeof(reason));

	span_execute(s, "exception",
		     MOTE_FIELDS(mote_field_int("duration", now - s->start), mote_field_int("monotonic_time", now)), s->metadata,
		     MOTE_FIELDS(mote_field_text("kind", kind), mote_field_text("reason", reason)));
}

PROCESS_ENTRY static int64_t call_span(int64_t (*fn)(void *arg, const struct mote_field **stop_metadata), void *arg,
				       const struct mote_field **stop_metadata)
{
	int64_t result = fn(arg, stop_metadata);

	PROCESS_ENTRY_END();
	return result;
}

static struct span *span_new(const char *prefix, const struct mote_field *metadata)
{
	static _Atomic int64_t contexts;
	size_t size = fields_size(metadata);
	struct span *s = mote_in_process() ? mote_alloc(sizeof(*s) + size + strlen(prefix) + 1) :
					     malloc(sizeof(*s) + size + strlen(prefix) + 1);

	if (!s)
		return NULL;
	s->prefix = strcpy((char *)(s + 1) + size, prefix);
	s->metadata = fields_copy(s + 1, metadata);
	s->context = (struct mote_field){ 0 };
	/* relaxed: just another number */
	if (!mote_field_find(metadata, "telemetry_span_context"))
		s->context = mote_field_int("telemetry_span_context",
					    atomic_fetch_add_explicit(&contexts, 1, memory_order_relaxed) + 1);
	return s;
}

int64_t mote_telemetry_span(const char *prefix, const struct mote_field *metadata,
			    int64_t (*fn)(void *arg, const struct mote_field **stop_metadata), void *arg)
{
	const struct mote_field *stop = metadata;
	struct span *s = NULL;
	int64_t result, now;

	if (__atomic_load_n(&mote_telemetry_gate, __ATOMIC_RELAXED))
		s = span_new(prefix, metadata);
	if (!s)
		return call_span(fn, arg, &stop);
	s->start = mote_now().ns;
	span_execute(s, "start", MOTE_FIELDS(mote_field_int("monotonic_time", s->start),
					     mote_field_int("system_time", system_time())), metadata, NULL);
	if (mote_in_process())
		mote_defer(span_broken, s);
	result = call_span(fn, arg, &stop);
	if (mote_in_process())
		mote_undefer(span_broken, s);
	now = mote_now().ns;
	span_execute(s, "stop", MOTE_FIELDS(mote_field_int("duration", now - s->start), mote_field_int("monotonic_time", now)),
		     stop, NULL);
	if (mote_in_process())
		mote_free(s);
	else
		free(s);
	return result;
}
