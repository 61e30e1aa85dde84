// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Tasks: how they are made, what they run, and their ends.
 */
#include "otp/task.h"
#include "otp/report.h"

#include <mote/log.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void task_main(void *arg);

/* That of the calling task, or NULL. */
static struct signal *request_of(const struct process *p)
{
	return p && p->asked && p->fn == task_main ? p->arg : NULL;
}

static struct ask *ask_in(struct signal *request)
{
	return (struct ask *)request->payload;
}

PROCESS_ENTRY static int64_t enter(mote_task_fn fn, void *arg)
{
	int64_t value = fn(arg);

	PROCESS_ENTRY_END();
	return value;
}

/* The answer is the request itself, or what the task has made; it leaves when everything else of the task is gone. */
static void answer(struct scheduler *s, struct process *self, struct signal *request, int64_t value)
{
	struct ask *ask = ask_in(request);
	struct signal *sig = request;

	if (unlikely(ask->result)) {
		sig = container_of(ask->result, struct signal, msg);
		sig->ref = request->ref;
		sig->ref_slot = request->ref_slot;
		sig->msg.from = request->msg.from;
		held_remove(self, request);
		signal_free(s, request);
	} else {
		struct task_value v = { value, ask->tag };

		memcpy(sig->payload, &v, sizeof(v));
		sig->msg.type = MOTE_MSG_TASK_VALUE;
		sig->msg.size = sizeof(value);
		sig->msg.data = sig->payload;
	}
	if (sig->ref)
		request_answer_last(sig);
	else
		sig->kind = SIGNAL_MESSAGE;
}

static void task_main(void *arg)
{
	static const struct mote_reason normal = { .kind = MOTE_NORMAL };
	struct signal *request = arg;
	struct ask *ask = ask_in(request);
	struct scheduler *s;
	struct process *self;
	int64_t value;

	value = enter(ask->fn, ask->arg_offset ? request->payload + ask->arg_offset : ask->arg);
	s = runtime_enter("task");
	self = process_self(s);
	if (signals_pending(self))
		signals_act(s, self);
	self->arg = NULL;
	answer(s, self, request, value);
	process_exit(self, &normal);
}

/* So that the crash report has it, too: whom the owner works for, and so on. */
static void log_callers(void)
{
	mote_pid callers[MOTE_TASK_CALLERS_MAX];
	size_t n = mote_task_callers(callers, MOTE_TASK_CALLERS_MAX), at = 0;
	char text[MOTE_TASK_CALLERS_MAX * 48];

	if (n < 2)
		return;
	for (size_t i = 0; i < n; i++)
		at += (size_t)snprintf(text + at, sizeof(text) - at, "%s" MOTE_PID_FMT, i ? " " : "",
				       MOTE_PID_ARG(callers[i]));
	mote_log_metadata_update((const struct mote_field[]){ mote_field_text("callers", text), { 0 } });
}

/* As the failed task, before its cleanups. */
static void task_failed(const struct mote_reason *why)
{
	struct signal *request = request_of(process_caller());

	log_callers();
	report_behaviour("task", why, NULL, NULL, request ? request->msg.from : MOTE_NOBODY);
}

struct signal *task_ask(struct scheduler *s, const struct mote_task_opts *o)
{
	struct process *self = process_self(s);
	struct signal *mine = request_of(self), *request;
	const struct ask *parent = mine ? ask_in(mine) : NULL;
	size_t nr = parent ? parent->nr_callers + 1u : 0, size, at;
	struct ask *ask;

	if (nr > MOTE_TASK_CALLERS_MAX - 1)
		nr = MOTE_TASK_CALLERS_MAX - 1;
	at = (sizeof(*ask) + nr * sizeof(mote_pid) + 15) & ~(size_t)15;
	size = at + o->arg_size;
	/* A refused request becomes the DOWN. */
	if (size < sizeof(struct mote_down_info))
		size = sizeof(struct mote_down_info);
	request = signal_new(s, SIGNAL_REQUEST, size);
	if (unlikely(!request))
		return NULL;
	request->msg.from = process_pid(self);
	request->msg.type = 0;
	ask = ask_in(request);
	*ask = (struct ask){ .fn = o->fn, .arg = o->arg, .nr_callers = (uint8_t)nr };
	if (unlikely(nr)) {
		ask->callers[0] = mine->msg.from;
		memcpy(ask->callers + 1, parent->callers, (nr - 1) * sizeof(mote_pid));
	}
	if (o->arg_size) {
		ask->arg_offset = (uint16_t)at;
		memcpy(request->payload + at, o->arg, o->arg_size);
	}
	return request;
}

int task_spawn(struct scheduler *s, const struct mote_task_opts *o, struct signal *request, unsigned int flags,
	       bool link_owner, const void *caller, mote_pid *pid)
{
	static const struct mote_spawn_opts plain = { .fn = task_main };
	static const struct mote_spawn_opts linked = { .fn = task_main, .flags = MOTE_LINK };
	struct mote_spawn_opts opts;
	const struct mote_spawn_opts *known = &opts;

	/* relaxed: a constant; the spawn publishes it */
	if (unlikely(!atomic_load_explicit(&process_asked_failed, memory_order_relaxed)))
		atomic_store_explicit(&process_asked_failed, task_failed, memory_order_relaxed);
	if (likely(!o->label && !o->stack_size && !o->priority))
		known = flags ? &linked : &plain;
	else
		opts = (struct mote_spawn_opts){ .fn = task_main, .flags = flags, .label = o->label,
						 .stack_size = o->stack_size, .priority = o->priority };
	*pid = process_spawn_asked(s, known, request, link_owner, caller);
	if (likely(mote_pid_valid(*pid)))
		return 0;
	signal_free(s, request);
	return process_self(s)->err;
}

int task_opts(struct mote_task_opts *known, const struct mote_task_opts *opts)
{
	int err = opts ? opts_copy(known, sizeof(*known), opts) : -EINVAL;

	if (err)
		return err;
	if (!known->fn || (known->arg_size && !known->arg) || known->priority < 0 ||
	    known->priority > MOTE_PRIORITY_HIGH || !stack_class(known->stack_size) || known->restart < 0 ||
	    known->restart > MOTE_TASK_PERMANENT ||
	    known->shutdown_ms < MOTE_SHUTDOWN_INFINITY)
		return -EINVAL;
	return known->arg_size > UINT32_MAX - 4096 ? -EMSGSIZE : 0;
}

static mote_task async(struct scheduler *s, const struct mote_task_opts *o, const void *caller)
{
	struct process *self = process_self(s);
	struct signal *request = task_ask(s, o);
	mote_task task = { .owner = process_pid(self) };
	struct ref_slot *slot;
	int err = -ENOMEM;

	slot = request ? ref_new(s, self, REF_MONITOR | REF_ALIAS | REF_REPLY, &task.ref) : NULL;
	if (unlikely(!slot)) {
		if (request)
			signal_free(s, request);
		goto fail;
	}
	request->ref = task.ref.id;
	request->ref_slot = task.ref.slot;
	err = task_spawn(s, o, request, MOTE_LINK, false, caller, &task.pid);
	if (unlikely(err)) {
		ref_drop(s, self, task.ref, true);
		goto fail;
	}
	slot->target = task.pid;
	process_leave(s);
	return task;
fail:
	process_fail(self, err);
	process_leave(s);
	return (mote_task){ .owner = task.owner };
}

mote_task mote_task_async(mote_task_fn fn, void *arg)
{
	struct scheduler *s = runtime_enter("mote_task_async");
	struct mote_task_opts opts = { .fn = fn, .arg = arg };

	return async(s, &opts, __builtin_return_address(0));
}

mote_task mote_task_async_opts(const struct mote_task_opts *opts)
{
	struct scheduler *s = runtime_enter("mote_task_async_opts");
	struct mote_task_opts known;
	int err = task_opts(&known, opts);

	if (!err)
		return async(s, &known, __builtin_return_address(0));
	process_fail(process_self(s), err);
	process_leave(s);
	return (mote_task){ .owner = mote_self() };
}

static mote_pid start(struct scheduler *s, const struct mote_task_opts *o, unsigned int flags, const void *caller)
{
	struct signal *request = task_ask(s, o);
	mote_pid pid = MOTE_NOBODY;
	int err = -ENOMEM;

	if (request)
		err = task_spawn(s, o, request, flags, false, caller, &pid);
	if (err)
		process_fail(process_self(s), err);
	process_leave(s);
	return pid;
}

mote_pid mote_task_start(mote_task_fn fn, void *arg)
{
	struct scheduler *s = runtime_enter("mote_task_start");

	return start(s, &(struct mote_task_opts){ .fn = fn, .arg = arg }, 0, __builtin_return_address(0));
}

mote_pid mote_task_start_link(mote_task_fn fn, void *arg)
{
	struct scheduler *s = runtime_enter("mote_task_start_link");

	return start(s, &(struct mote_task_opts){ .fn = fn, .arg = arg }, MOTE_LINK, __builtin_return_address(0));
}

mote_pid mote_task_start_opts(const struct mote_task_opts *opts, unsigned int flags)
{
	struct scheduler *s = runtime_enter("mote_task_start_opts");
	struct mote_task_opts known;
	int err = task_opts(&known, opts);

	if (!err && flags & ~(unsigned int)MOTE_LINK)
		err = -EINVAL;
	if (!err)
		return start(s, &known, flags, __builtin_return_address(0));
	process_fail(process_self(s), err);
	process_leave(s);
	return MOTE_NOBODY;
}

mote_task mote_task_completed(int64_t value)
{
	mote_task task = { .owner = mote_self(), .ref = mote_alias(MOTE_ALIAS_REPLY) };
	int err;

	if (!task.ref.id)
		return task;
	err = mote_send_alias(task.ref, MOTE_MSG_TASK_VALUE, &value, sizeof(value));
	if (err) {
		mote_unalias(task.ref);
		process_fail(process_caller(), err);
		task.ref = (mote_ref){ 0 };
	}
	return task;
}

int mote_task_reply(const void *data, size_t size)
{
	struct signal *request = request_of(process_caller());
	struct mote_msg *m;

	if (!request)
		return -EPERM;
	if (size && !data)
		return -EINVAL;
	m = mote_msg_new(MOTE_MSG_TASK_DATA, size);
	if (!m)
		return mote_errno();
	if (size)
		memcpy(m->data, data, size);
	mote_msg_free(ask_in(request)->result);
	ask_in(request)->result = m;
	return 0;
}

size_t mote_task_callers(mote_pid *callers, size_t n)
{
	struct signal *request = request_of(process_caller());
	const struct ask *ask;

	if (!request)
		return 0;
	ask = ask_in(request);
	for (size_t i = 0; i < n && i <= ask->nr_callers; i++)
		callers[i] = i ? ask->callers[i - 1] : request->msg.from;
	return ask->nr_callers + 1u;
}
