// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Handlers and filters come and go.
 */
#include "core/process.h"
#include "otp/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void log_hook_free(struct hook *hook);
static void log_failed(struct hook *hook, const void *at);

struct hook_set log_hooks = { .mutex = PTHREAD_MUTEX_INITIALIZER, .free = log_hook_free, .failed = log_failed };

static struct log_hook *log_hook(const struct hook *hook)
{
	return (struct log_hook *)(uintptr_t)hook;
}

PROCESS_ENTRY static void call_removed(const struct log_hook *h)
{
	h->removed(h->arg);
	PROCESS_ENTRY_END();
}

static void log_hook_free(struct hook *hook)
{
	struct log_hook *h = log_hook(hook);

	if (h->removed)
		call_removed(h);
	free(h);
}

struct log_hook *log_hook_new(const char *id)
{
	struct log_hook *h = calloc(1, sizeof(*h) + strlen(id) + 1);

	if (!h)
		return NULL;
	hook_init(&h->hook);
	strcpy(h->id, id);
	return h;
}

/* With the mutex held. */
static struct log_hook *handler_locked(const char *id)
{
	const struct hook_list *list = hooks_now(&log_hooks);

	for (size_t i = 0; i < list->n; i++) {
		if (log_hook(list->hooks[i])->serial && !strcmp(log_hook(list->hooks[i])->id, id))
			return log_hook(list->hooks[i]);
	}
	return NULL;
}

static struct log_hook *filter_locked(uint64_t owner, const char *id)
{
	const struct hook_list *list = hooks_now(&log_hooks);

	for (size_t i = 0; i < list->n; i++) {
		struct log_hook *h = log_hook(list->hooks[i]);

		if (!h->serial && h->owner == owner && !strcmp(h->id, id))
			return h;
	}
	return NULL;
}

int log_handler_put(struct log_hook *hook)
{
	static uint64_t serial;
	struct hook_list *old = NULL;
	int err;

	log_proxy_listen();
	hooks_lock(&log_hooks);
	hook->serial = ++serial;
	err = handler_locked(hook->id) ? -EEXIST : hooks_change(&log_hooks, NULL, NULL, &hook->hook, &old);
	hooks_unlock(&log_hooks);
	hooks_put(old);
	if (err)
		hook->removed = NULL;	/* it never was there: its config stays the caller's */
	hook_put(&log_hooks, &hook->hook);
	return err;
}

static bool is_part_of(const struct hook *hook, const void *arg)
{
	const struct log_hook *h = log_hook(hook), *gone = arg;

	return h == gone || (gone->serial && !h->serial && h->owner == gone->serial);
}

static bool is_there(const struct log_hook *hook)
{
	const struct hook_list *list = hooks_now(&log_hooks);

	for (size_t i = 0; i < list->n; i++) {
		if (list->hooks[i] == &hook->hook)
			return true;
	}
	return false;
}

/* With the mutex held. */
static int drop_locked(struct log_hook *hook, struct hook_list **old)
{
	return hook && is_there(hook) ? hooks_change(&log_hooks, is_part_of, hook, NULL, old) : -ENOENT;
}

bool log_hook_drop(struct log_hook *hook)
{
	struct hook_list *old = NULL;
	int err;

	hooks_lock(&log_hooks);
	err = drop_locked(hook, &old);
	hooks_unlock(&log_hooks);
	hooks_put(old);
	return !err;
}

void log_hook_report(const struct log_hook *h)
{
	mote_log(MOTE_LOG_ERROR, "log %s %s has failed and was removed", h->serial ? "handler" : "filter", h->id);
}

static void log_failed(struct hook *hook, const void *at)
{
	(void)at;
	if (log_hook_drop(log_hook(hook)))
		log_hook_report(log_hook(hook));
}

struct log_hook *log_handler_find(const char *id)
{
	struct log_hook *h;

	hooks_lock(&log_hooks);
	h = handler_locked(id);
	/* relaxed: the list in place keeps it meanwhile */
	if (h)
		atomic_fetch_add_explicit(&h->hook.refs, 1, memory_order_relaxed);
	hooks_unlock(&log_hooks);
	return h;
}

static bool level_valid(int level)
{
	return !level || level == MOTE_LOG_NONE || (level >= MOTE_LOG_EMERGENCY && level <= MOTE_LOG_ALL);
}

int mote_log_handler_add(const struct mote_log_handler *handler)
{
	struct mote_log_handler known;
	struct log_hook *h;
	int err = opts_copy(&known, sizeof(known), handler);

	if (!err && (!known.id || !known.log || !level_valid(known.level)))
		err = -EINVAL;
	if (err)
		return err;
	h = log_hook_new(known.id);
	if (!h)
		return -ENOMEM;
	atomic_init(&h->level, known.level ? known.level : MOTE_LOG_ALL);
	h->filter_default = known.filter_default;
	h->log = known.log;
	h->removed = known.removed;
	h->arg = known.config;
	return log_handler_put(h);
}

int mote_log_handler_remove(const char *id)
{
	struct log_hook *h = log_handler_find(id);
	mote_pid writer = MOTE_NOBODY;
	bool dropped;

	if (!h)
		return -ENOENT;
	dropped = log_hook_drop(h);
	if (h->writer)
		writer = log_writer_pid(h->writer);
	/* Before anything waits. */
	hook_put(&log_hooks, &h->hook);
	if (dropped && mote_pid_valid(writer))
		log_writer_stop(writer);
	return dropped ? 0 : -ENOENT;
}

int mote_log_handler_set_level(const char *id, int level)
{
	struct log_hook *h;

	if (!level_valid(level))
		return -EINVAL;
	h = log_handler_find(id);
	if (!h)
		return -ENOENT;
	/* relaxed: nothing else comes with it */
	atomic_store_explicit(&h->level, level ? level : MOTE_LOG_ALL, memory_order_relaxed);
	hook_put(&log_hooks, &h->hook);
	return 0;
}

int mote_log_filter_add(const char *handler, const struct mote_log_filter *filter)
{
	struct hook_list *old = NULL;
	struct log_hook *h, *owner;
	int err = 0;

	if (!filter->id || !filter->fn)
		return -EINVAL;
	h = log_hook_new(filter->id);
	if (!h)
		return -ENOMEM;
	h->filter = filter->fn;
	h->arg = filter->arg;
	hooks_lock(&log_hooks);
	owner = handler ? handler_locked(handler) : NULL;
	if (handler && !owner)
		err = -ENOENT;
	else if (filter_locked(owner ? owner->serial : 0, filter->id))
		err = -EEXIST;
	h->owner = owner ? owner->serial : 0;
	if (!err)
		err = hooks_change(&log_hooks, NULL, NULL, &h->hook, &old);
	hooks_unlock(&log_hooks);
	hooks_put(old);
	hook_put(&log_hooks, &h->hook);
	return err;
}

int mote_log_filter_remove(const char *handler, const char *id)
{
	struct hook_list *old = NULL;
	struct log_hook *owner;
	int err = -ENOENT;

	hooks_lock(&log_hooks);
	owner = handler ? handler_locked(handler) : NULL;
	if (!handler || owner)
		err = drop_locked(filter_locked(owner ? owner->serial : 0, id), &old);
	hooks_unlock(&log_hooks);
	hooks_put(old);
	return err;
}

PROCESS_ENTRY static bool call_visit(bool (*visit)(const struct mote_log_info *info, void *arg), void *arg,
				     const struct mote_log_info *info)
{
	bool more = visit(info, arg);

	PROCESS_ENTRY_END();
	return more;
}

void mote_log_handlers(bool (*visit)(const struct mote_log_info *info, void *arg), void *arg)
{
	struct hook_walk walk;
	bool more = true;

	if (!hooks_begin(&log_hooks, &walk))
		return;
	for (size_t i = 0; more && i < walk.list->n; i++) {
		struct log_hook *h = log_hook(walk.list->hooks[i]);
		struct mote_log_info info = { .size = sizeof(info), .id = h->id, .writer = h->writer,
					      .level = atomic_load_explicit(&h->level, memory_order_relaxed) };

		if (!h->serial)
			continue;
		if (h->writer)
			log_writer_describe(h->writer, &info);
		more = call_visit(visit, arg, &info);
	}
	hooks_end(&walk);
}
