// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * What the library says from the midst of its work, where no user's code may run: a process that is dying, a node
 * that is cut off. It goes as a message to a process that logs it: OTP's logger and logger_proxy. A handler that
 * crashes there ends that one, and the next message makes another.
 */
#include "core/process.h"
#include "core/symbol.h"
#include "otp/log.h"
#include "sched/lock.h"

#include <mote/info.h>

#include <stdio.h>
#include <string.h>

#define QUEUE_MAX	1000	/* logger_proxy's drop_mode_qlen */
#define ANCESTORS	8
#define STOP_POLL_MS	1

_Atomic int log_proxies, log_writers;

static struct lock lock;		/* of pid */
static mote_pid pid;
static _Atomic uint32_t queued, lost;

struct distant {
	struct mote_log_event e;	/* what it points to follows */
};

struct ended {
	int64_t time_us;
	mote_pid pid, parent;
	uint32_t kind;
	int32_t code;
	size_t reason_size;
	const void *fn, *spawned_at;
	uint64_t mailbox, links, monitors, monitored_by, memory, stack;
	bool trap_exit, server;
	char name[256];
	char label[64];
	char ancestors[ANCESTORS * 40];
	/* the reason's data, then fields_copy() of its metadata */
};

/* As far as they are alive; of the first that is not, its pid. */
static void ancestors_find(char *to, size_t size, mote_pid who)
{
	size_t length = 0;

	to[0] = 0;
	for (int i = 0; i < ANCESTORS && mote_pid_valid(who) && length < size - 1; i++) {
		struct mote_process_info info = { .size = sizeof(info) };
		bool alive = !mote_process_info(who, &info);
		char text[64];

		snprintf(text, sizeof(text), MOTE_PID_FMT, MOTE_PID_ARG(who));
		length += (size_t)snprintf(to + length, size - length, "%s%.39s", length ? " " : "",
					   alive && info.name[0] ? info.name : text);
		who = alive ? info.parent : MOTE_NOBODY;
	}
}

static void log_proxy(void *arg);

/* The spawn is not under the lock: of a process it may yield. Two at once make two, and one of those goes again. */
static mote_pid proxy_find(void)
{
	mote_pid found, made = MOTE_NOBODY;

	for (;;) {
		lock_take(&lock);
		if (!mote_alive(pid) && mote_pid_valid(made)) {
			pid = made;
			made = MOTE_NOBODY;
			atomic_store_explicit(&queued, 0, memory_order_relaxed);
		}
		found = mote_alive(pid) ? pid : MOTE_NOBODY;
		lock_drop(&lock);
		if (mote_pid_valid(made))
			mote_exit_pid(made, MOTE_REASON_KILL);
		if (mote_pid_valid(found))
			return found;
		made = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .fn = log_proxy, .label = "log proxy", .flags = MOTE_TRAP_EXIT });
		if (!mote_pid_valid(made))
			return MOTE_NOBODY;
	}
}

static void proxy_send(struct mote_msg *m)
{
	mote_pid to = MOTE_NOBODY;

	/* relaxed: a bound, not a count that anything depends on */
	if (m && atomic_load_explicit(&queued, memory_order_relaxed) < QUEUE_MAX)
		to = proxy_find();
	if (!mote_pid_valid(to)) {
		atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
		mote_msg_free(m);
		return;
	}
	atomic_fetch_add_explicit(&queued, 1, memory_order_relaxed);
	mote_send_msg(to, m);
}

static size_t padded(size_t size)
{
	return (size + 15) & ~(size_t)15;
}

static void event_send(int level, int report, mote_pid who, const struct mote_field *fields, const char *text,
		       size_t size)
{
	struct mote_msg *m = mote_msg_new(LOG_EVENT, sizeof(struct distant) + padded(size + 1) + fields_size(fields));
	struct distant *d;
	char *copy;

	if (m) {
		d = m->data;
		copy = (char *)(d + 1);
		memcpy(copy, text, size);
		copy[size] = 0;
		*d = (struct distant){ .e = { .level = level, .report = report, .time_us = log_time(), .text = copy,
					      .text_size = size, .pid = who,
					      .fields = fields_copy(copy + padded(size + 1), fields) } };
	}
	proxy_send(m);
}

static void heard_text(int level, const char *text)
{
	if (mote_log_enabled(level))
		event_send(level, MOTE_LOG_PLAIN, MOTE_NOBODY, NULL, text, strlen(text));
}

void log_report(int level, int report, const struct mote_field *fields, const char *text, size_t size)
{
	const struct mote_field *own = mote_log_metadata_get();
	struct mote_field *all;

	if (!runtime_reports_get()) {
		runtime_tell(level, text);
		return;
	}
	all = mote_alloc((fields_count(fields) + fields_count(own) + 1) * sizeof(*all));
	if (all)
		fields_merge(all, fields, own);
	event_send(level, report, mote_self(), all, text, size);
	mote_free(all);
}

static void heard_end(struct process *p, const struct mote_reason *reason)
{
	mote_pid who = process_pid(p);
	const struct mote_field *metadata;
	struct mote_process_info info = { .size = sizeof(info) };
	struct mote_msg *m;
	struct ended *e;

	if (!mote_log_enabled(MOTE_LOG_ERROR))
		return;
	mote_process_info(who, &info);
	/* One that never ran is buried by another. */
	metadata = mote_pid_equal(mote_self(), who) ? mote_log_metadata_get() : NULL;
	m = mote_msg_new(LOG_ENDED, sizeof(*e) + padded(reason->size) + fields_size(metadata));
	if (m) {
		e = m->data;
		*e = (struct ended){
			.time_us = log_time(), .pid = who, .parent = info.parent, .kind = reason->kind, .code = reason->code,
			.reason_size = reason->size, .spawned_at = info.spawned_at,
			.fn = p->task.flags & TASK_STACKLESS ? NULL : (const void *)(uintptr_t)p->fn,
			.mailbox = info.mailbox, .links = info.links, .monitors = info.monitors,
			.monitored_by = info.monitored_by, .memory = info.memory, .stack = info.stack_high,
			.trap_exit = info.trap_exit, .server = info.server };
		memcpy(e->name, info.name, sizeof(e->name));
		snprintf(e->label, sizeof(e->label), "%s", info.label ? info.label : "");
		ancestors_find(e->ancestors, sizeof(e->ancestors), info.parent);
		if (reason->size)
			memcpy(e + 1, reason->data, reason->size);
		fields_copy((char *)(e + 1) + padded(reason->size), metadata);
	}
	proxy_send(m);
}

/* Of the writers only their parent's memory is there, and in the child their pids may be others'. */
static void forget_in_child(void)
{
	runtime_reports_set(NULL);
	hooks_forget(&log_hooks, true);
	lock_drop(&lock);
	pid = MOTE_NOBODY;
	atomic_store(&log_proxies, 0);
	atomic_store(&log_writers, 0);
}

static void register_fork(void)
{
	pthread_atfork(NULL, NULL, forget_in_child);
}

void log_proxy_listen(void)
{
	static const struct runtime_reports reports = { .text = heard_text, .ended = heard_end };
	static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

	pthread_once(&fork_once, register_fork);
	runtime_reports_set(&reports);
}

/* The fields are proc_lib's, but for those that only an Erlang process has. */
static void log_ended(const struct mote_msg *m)
{
	const struct ended *ended = m->data;
	const struct mote_field *metadata =
		(const void *)((const char *)(ended + 1) + padded(ended->reason_size));
	struct mote_reason reason = { ended->kind, ended->code, ended->reason_size ? ended + 1 : NULL, ended->reason_size };
	struct mote_field *all = mote_alloc((fields_count(metadata) + 20) * sizeof(*all));
	char *why = mote_alloc(1024), *text = mote_alloc(1500), call[128], at[128];
	struct mote_log_event e = { .level = MOTE_LOG_ERROR, .report = MOTE_LOG_CRASH, .time_us = ended->time_us,
				    .pid = ended->pid, .text = text, .fields = all };
	struct mote_field own[20];
	size_t n = 0;

	if (all && why && text) {
		mote_reason_format(&reason, why, 1024);
		snprintf(text, 1500, "process " MOTE_PID_FMT " %s%sended: %s", MOTE_PID_ARG(ended->pid),
			 ended->name[0] ? ended->name : ended->label, ended->name[0] || ended->label[0] ? " " : "", why);
		if (ended->fn) {
			symbol_format((uintptr_t)ended->fn, call, sizeof(call));
			if (strlen(call) > 4 && !strcmp(call + strlen(call) - 4, "+0x0"))
				call[strlen(call) - 4] = 0;
			own[n++] = mote_field_text("initial_call", call);
		}
		symbol_format((uintptr_t)ended->spawned_at - 1, at, sizeof(at));
		own[n++] = mote_field_text("spawned_at", at);
		if (ended->name[0])
			own[n++] = mote_field_text("registered_name", ended->name);
		if (ended->label[0])
			own[n++] = mote_field_text("label", ended->label);
		own[n++] = mote_field_text("reason", why);
		own[n++] = mote_field_pid("parent", ended->parent);
		own[n++] = mote_field_text("ancestors", ended->ancestors);
		own[n++] = mote_field_int("message_queue_len", (int64_t)ended->mailbox);
		own[n++] = mote_field_int("links", (int64_t)ended->links);
		own[n++] = mote_field_int("monitors", (int64_t)ended->monitors);
		own[n++] = mote_field_int("monitored_by", (int64_t)ended->monitored_by);
		own[n++] = mote_field_bool("trap_exit", ended->trap_exit);
		own[n++] = mote_field_int("memory", (int64_t)ended->memory);
		own[n++] = mote_field_int("stack", (int64_t)ended->stack);
		own[n] = (struct mote_field){ 0 };
		fields_merge(all, own, metadata);
		e.text_size = strlen(text);
		log_dispatch(&e);
	}
	mote_free(text);
	mote_free(why);
	mote_free(all);
}

static void proxy_gone(void *arg)
{
	(void)arg;
	/* Pids of a runtime that has been stopped may be others' in the next one. */
	lock_take(&lock);
	if (mote_pid_equal(pid, mote_self())) {
		pid = MOTE_NOBODY;
		atomic_store_explicit(&queued, 0, memory_order_relaxed);
	}
	lock_drop(&lock);
	atomic_fetch_sub(&log_proxies, 1);
}

/* Everybody but the log has ended, and so has sent what there was. */
static bool alone(void)
{
	return process_count() <= atomic_load(&log_proxies) + atomic_load(&log_writers);
}

/* Addresses of another node mean nothing here. A foreign thread of ours is of no node. */
static bool is_ours(const struct mote_msg *m)
{
	return (port_is_here(m->from.node) || !m->from.node) &&
	       m->size >= (m->type == LOG_EVENT ? sizeof(struct distant) : sizeof(struct ended));
}

static void log_proxy(void *arg)
{
	bool stopping = false;
	uint32_t n;

	(void)arg;
	/* seq_cst, with process_count(): it is counted here before it can be alone */
	atomic_fetch_add(&log_proxies, 1);
	if (mote_defer(proxy_gone, NULL)) {
		proxy_gone(NULL);
		return;
	}
	for (;;) {
		struct mote_msg *m = mote_receive(stopping ? mote_in_ms(STOP_POLL_MS) : MOTE_FOREVER);

		if (!m && alone())
			return;
		if (!m)
			continue;
		if ((m->type == LOG_EVENT || m->type == LOG_ENDED) && !is_ours(m)) {
			mote_msg_free(m);
			continue;
		}
		if (m->type == LOG_EVENT || m->type == LOG_ENDED)
			atomic_fetch_sub_explicit(&queued, 1, memory_order_relaxed);
		if (m->type == LOG_EVENT)
			log_dispatch(&((struct distant *)m->data)->e);
		else if (m->type == LOG_ENDED)
			log_ended(m);
		else if (mote_msg_exit(m))
			stopping |= runtime_stopping();
		mote_msg_free(m);
		n = atomic_exchange_explicit(&lost, 0, memory_order_relaxed);
		if (n)
			mote_log(MOTE_LOG_WARNING, "the log's proxy dropped %u reports", n);
	}
}
