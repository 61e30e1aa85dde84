// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The way of an event: level, primary filters, and then each handler's level, filters and function, all by whoever
 * logs.
 */
#include "core/process.h"
#include "otp/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHORT_TEXT	512
#define FEW_FIELDS	16
#define FAILED_AT_ONCE	4

int mote_log_gate = MOTE_LOG_NOTICE;

static const char metadata_key;

const char *mote_log_level_name(int level)
{
	static const char *const names[] = {
		[MOTE_LOG_EMERGENCY] = "emergency", [MOTE_LOG_ALERT] = "alert", [MOTE_LOG_CRITICAL] = "critical",
		[MOTE_LOG_ERROR] = "error", [MOTE_LOG_WARNING] = "warning", [MOTE_LOG_NOTICE] = "notice",
		[MOTE_LOG_INFO] = "info", [MOTE_LOG_DEBUG] = "debug",
	};

	return level >= MOTE_LOG_EMERGENCY && level <= MOTE_LOG_DEBUG ? names[level] : "?";
}

int mote_log_set_level(int level)
{
	if (level != MOTE_LOG_NONE && (level < MOTE_LOG_EMERGENCY || level > MOTE_LOG_ALL))
		return -EINVAL;
	/* relaxed: nothing else comes with it */
	__atomic_store_n(&mote_log_gate, level, __ATOMIC_RELAXED);
	return 0;
}

int mote_log_level(void)
{
	return __atomic_load_n(&mote_log_gate, __ATOMIC_RELAXED);
}

/* Memory for one call, given back at its end or, if it does not end, at the process's. */
static void *scratch_alloc(size_t size)
{
	return mote_in_process() ? mote_alloc(size) : malloc(size);
}

static void scratch_free(void *p)
{
	if (mote_in_process())
		mote_free(p);
	else
		free(p);
}

int mote_log_metadata_set(const struct mote_field *fields)
{
	void *old = mote_local_get(&metadata_key), *new = NULL;
	int err;

	if (fields && fields->key) {
		new = mote_alloc(fields_size(fields));
		if (!new)
			return -ENOMEM;
		fields_copy(new, fields);
	}
	err = mote_local_set(&metadata_key, new);
	mote_free(err ? new : old);
	return err;
}

int mote_log_metadata_update(const struct mote_field *fields)
{
	const struct mote_field *old = mote_local_get(&metadata_key);
	struct mote_field *both = mote_alloc((fields_count(fields) + fields_count(old) + 1) * sizeof(*both));
	int err;

	if (!both)
		return -ENOMEM;
	fields_merge(both, fields, old);
	err = mote_log_metadata_set(both);
	mote_free(both);
	return err;
}

const struct mote_field *mote_log_metadata_get(void)
{
	return mote_local_get(&metadata_key);
}

int64_t log_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

PROCESS_ENTRY static int call_filter(const struct log_hook *h, struct mote_log_event *e)
{
	int verdict = h->filter(e, h->arg);

	PROCESS_ENTRY_END();
	return verdict;
}

PROCESS_ENTRY static int call_log(const struct log_hook *h, const struct mote_log_event *e)
{
	int err = h->log(e, h->arg);

	PROCESS_ENTRY_END();
	return err;
}

static struct log_hook *hook_at(const struct hook_walk *walk, size_t i)
{
	return (struct log_hook *)walk->list->hooks[i];
}

/* Whether it passes the filters of that owner. */
static bool passes(struct hook_walk *walk, uint64_t owner, struct mote_log_event *e, int otherwise)
{
	bool decided = false;
	int verdict;

	for (size_t i = 0; i < walk->list->n; i++) {
		struct log_hook *h = hook_at(walk, i);

		if (h->serial || h->owner != owner)
			continue;
		hooks_running(walk, &h->hook, NULL);
		verdict = call_filter(h, e);
		hooks_running(walk, NULL, NULL);
		if (verdict == MOTE_LOG_STOP)
			return false;
		decided |= verdict == MOTE_LOG_PASS;
	}
	return decided || otherwise != MOTE_LOG_STOP;
}

/* Returns how many failed. */
static size_t handle(struct hook_walk *walk, const struct mote_log_event *e, struct log_hook **failed)
{
	size_t n = 0;

	for (size_t i = 0; i < walk->list->n; i++) {
		struct log_hook *h = hook_at(walk, i);
		struct mote_log_event own = *e;
		int err;

		/* relaxed: a level that was just set takes effect soon */
		if (!h->serial || e->level > atomic_load_explicit(&h->level, memory_order_relaxed) ||
		    !passes(walk, h->serial, &own, h->filter_default))
			continue;
		hooks_running(walk, &h->hook, NULL);
		err = call_log(h, &own);
		hooks_running(walk, NULL, NULL);
		if (err < 0 && n < FAILED_AT_ONCE)
			failed[n++] = h;
	}
	return n;
}

static bool has_handler(const struct hook_walk *walk)
{
	for (size_t i = 0; i < walk->list->n; i++) {
		if (hook_at(walk, i)->serial)
			return true;
	}
	return false;
}

void log_dispatch(struct mote_log_event *e)
{
	struct log_hook *failed[FAILED_AT_ONCE];
	struct hook_walk walk;
	size_t n = 0;

	/* What logs in a handler would do so for ever. */
	if (hooks_inside(&log_hooks))
		return;
	if (!hooks_begin(&log_hooks, &walk)) {
		runtime_tell(e->level, e->text);
		return;
	}
	if (passes(&walk, 0, e, MOTE_LOG_PASS)) {
		if (has_handler(&walk))
			n = handle(&walk, e, failed);
		else
			runtime_tell(e->level, e->text);
	}
	/* The list keeps them, whoever else removes them. */
	for (size_t i = 0; i < n; i++) {
		if (!log_hook_drop(failed[i]))
			failed[i] = NULL;
		else
			atomic_fetch_add_explicit(&failed[i]->hook.refs, 1, memory_order_relaxed);
	}
	hooks_end(&walk);
	for (size_t i = 0; i < n; i++) {
		if (!failed[i])
			continue;
		log_hook_report(failed[i]);
		hook_put(&log_hooks, &failed[i]->hook);
	}
}

/* text ends with NUL here. */
static void event(int level, int report, const struct mote_log_site *site, const struct mote_field *fields,
		  const char *text, size_t size)
{
	struct mote_log_event e = { .level = level, .report = report, .time_us = log_time(), .text = text, .text_size = size,
				    .pid = mote_self(), .site = site };
	const struct mote_field *own = mote_log_metadata_get();
	size_t n = fields_count(fields) + fields_count(own) + 1;
	struct mote_field few[FEW_FIELDS], *all = n <= FEW_FIELDS ? few : scratch_alloc(n * sizeof(*all));

	if (!all) {
		all = few;
		few[0] = (struct mote_field){ 0 };
	} else {
		fields_merge(all, fields, own);
	}
	e.fields = all;
	log_dispatch(&e);
	if (all != few)
		scratch_free(all);
}

/* Nobody would hear. */
static bool in_vain(void)
{
	return !runtime_logs() && !runtime_reports_get();
}

void log_event(int level, int report, const struct mote_log_site *site, const struct mote_field *fields,
	       const char *text, size_t size)
{
	char few[SHORT_TEXT], *copy = few;

	if (!mote_log_enabled(level) || in_vain())
		return;
	if (size > MOTE_LOG_TEXT_MAX)
		size = MOTE_LOG_TEXT_MAX;
	if (size >= sizeof(few)) {
		copy = scratch_alloc(size + 1);
		if (!copy) {
			copy = few;
			size = sizeof(few) - 1;
		}
	}
	memcpy(copy, text, size);
	copy[size] = 0;
	event(level, report, site, fields, copy, size);
	if (copy != few)
		scratch_free(copy);
}

void mote_log_write(int level, const struct mote_log_site *site, const struct mote_field *fields,
		    const char *format, ...)
{
	char few[SHORT_TEXT], *text = few;
	va_list args;
	int n;

	if (level < MOTE_LOG_EMERGENCY || level > MOTE_LOG_DEBUG || in_vain())
		return;
	va_start(args, format);
	n = vsnprintf(few, sizeof(few), format, args);
	va_end(args);
	if (n < 0)
		return;
	n = n > MOTE_LOG_TEXT_MAX ? MOTE_LOG_TEXT_MAX : n;
	if ((size_t)n >= sizeof(few)) {
		text = scratch_alloc((size_t)n + 1);
		if (text) {
			va_start(args, format);
			vsnprintf(text, (size_t)n + 1, format, args);
			va_end(args);
		} else {
			text = few;
			n = sizeof(few) - 1;
		}
	}
	event(level, MOTE_LOG_PLAIN, site, fields, text, (size_t)n);
	if (text != few)
		scratch_free(text);
}
