// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Starts that wait: the new process is told what to be by a request, and what it answers is how the start went. It is
 * proc_lib's protocol; the monitor that each request has tells of processes that end without an answer.
 */
#include "otp/server.h"

#include <mote/name.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct answer {
	int32_t err;
	int32_t zero;
	mote_pid holder;	/* of the name, if that was taken */
};

/* mote_local_get(): the struct mote_from that waits for mote_start_ack(). */
static const char starter_key;

/* Addresses of another node mean nothing here. */
bool start_valid(const struct mote_msg *m)
{
	return m->size >= sizeof(struct start_request) && port_is_here(m->from.node);
}

int start_names(const struct start_request *start, mote_pid *holder)
{
	const char *key = (const char *)(start + 1);
	struct mote_via via = start->via;
	int err = 0;

	if (via.register_self) {
		via.key = key;
		err = via.register_self(&via, holder);
	} else if (start->named) {
		err = mote_register(key, mote_self());
		if (err == -EEXIST)
			*holder = mote_whereis(key);
	}
	return err;
}

void start_answer(struct mote_from from, int err, mote_pid holder)
{
	struct answer answer = { .err = err, .holder = holder };

	mote_reply(from, SYSTEM_ANSWER, &answer, sizeof(answer));
	if (err)
		mote_exit(MOTE_REASON_NORMAL);
}

static bool is_exit_of(const struct mote_msg *m, void *arg)
{
	const struct mote_exit_info *exit = mote_msg_exit(m);

	return exit && mote_pid_equal(exit->pid, *(mote_pid *)arg);
}

/* It is gone when this returns, and has left no EXIT. */
static void start_undo(mote_pid pid, bool link, bool kill)
{
	mote_ref gone;

	if (kill)
		link_dismiss(pid, &MOTE_REASON_KILL);
	gone = mote_monitor(pid);
	if (gone.id)
		mote_msg_free(mote_receive_ref(gone, MOTE_FOREVER));
	if (link) {
		mote_unlink(pid);
		mote_msg_free(mote_receive_match(is_exit_of, &pid, MOTE_NOW));
	}
}

static size_t arg_at(const struct start_request *start)
{
	return (sizeof(*start) + start->name_size + 15) & ~(size_t)15;
}

void *start_arg(const struct start_request *start)
{
	return start->arg_size ? (char *)start + arg_at(start) : start->arg;
}

static struct mote_msg *request_new(struct start_request *start, const struct mote_server_opts *opts)
{
	const struct mote_via *via = opts->via;
	struct start_request *copy;
	struct mote_msg *m;

	start->named = opts->name != NULL;
	start->name_size = via ? via->key_size : opts->name ? strlen(opts->name) + 1 : 0;
	if (via)
		start->via = *via;
	m = mote_msg_new(SYSTEM_START, arg_at(start) + start->arg_size);
	if (!m)
		return NULL;
	copy = m->data;
	*copy = *start;
	if (start->name_size)
		memcpy(copy + 1, via ? via->key : opts->name, start->name_size);
	if (start->arg_size)
		memcpy(start_arg(copy), start->arg, start->arg_size);
	return m;
}

static int start_result(struct mote_msg *m, mote_pid *pid, struct mote_msg **why, bool link)
{
	const struct answer *answer;
	int err = -EPIPE;

	if (mote_msg_down(m)) {
		start_undo(*pid, link, false);
		if (why)
			*why = m;
		else
			mote_msg_free(m);
		*pid = MOTE_NOBODY;
		return err;
	}
	answer = m->data;
	err = answer->err;
	if (err) {
		start_undo(*pid, link, false);
		*pid = err == -EEXIST ? answer->holder : MOTE_NOBODY;
	}
	mote_msg_free(m);
	return err;
}

int start_run(const struct mote_spawn_opts *spawn, struct start_request *start, const struct mote_server_opts *opts,
	      bool link, mote_ref *monitor, mote_pid *pid)
{
	mote_deadline deadline = opts->timeout_ms ? mote_in_ms(opts->timeout_ms) : MOTE_FOREVER;
	struct mote_spawn_opts with = *spawn;
	struct mote_msg *m;
	mote_ref ref;
	int err;

	*pid = MOTE_NOBODY;
	if (opts->why)
		*opts->why = NULL;
	if ((opts->name && opts->via) || opts->timeout_ms < 0 || (opts->name && !name_valid(opts->name)) ||
	    (opts->via && (!opts->via->register_self || !opts->via->whereis || (opts->via->key_size && !opts->via->key))) ||
	    opts->flags & ~(unsigned int)(MOTE_TRAP_EXIT | MOTE_PINNED))
		return -EINVAL;
	with.size = sizeof(with);
	with.flags = opts->flags | (link ? MOTE_LINK : 0) | (monitor ? MOTE_MONITOR : 0);
	with.ref = monitor;
	with.scheduler = opts->scheduler;
	with.priority = opts->priority;
	with.mailbox_limit = opts->mailbox_limit;
	with.mailbox_policy = opts->mailbox_policy;
	with.stack_size = opts->stack_size;
	with.label = opts->label;
	start->parent = link ? mote_self() : MOTE_NOBODY;
	m = request_new(start, opts);
	if (!m)
		return mote_errno();
	*pid = mote_spawn_opts(&with);
	if (!mote_pid_valid(*pid)) {
		err = mote_errno();
		mote_msg_free(m);
		return err;
	}
	ref = mote_request_msg(*pid, m);
	err = ref.id ? 0 : mote_errno();
	/* An init that calls who waits for it: told, and not left to deadlines. */
	m = err ? NULL : call_receive(ref, deadline);
	if (m)
		err = start_result(m, pid, opts->why, link);
	else if (!err)
		err = mote_errno();
	if (err && mote_pid_valid(*pid) && err != -EEXIST) {
		mote_demonitor(ref, MOTE_FLUSH);
		start_undo(*pid, link, true);
		*pid = MOTE_NOBODY;
	}
	if (err && monitor) {
		mote_demonitor(*monitor, MOTE_FLUSH);
		*monitor = (mote_ref){ 0 };
	}
	return err;
}

PROCESS_ENTRY static void enter_fn(mote_fn fn, void *arg)
{
	fn(arg);
	PROCESS_ENTRY_END();
}

static bool is_start(const struct mote_msg *m, void *unused)
{
	(void)unused;
	return m->type == SYSTEM_START && start_valid(m) && mote_msg_from(m).ref.id;
}

static void proc_main(void *unused)
{
	struct mote_msg *m = mote_receive_match(is_start, NULL, MOTE_FOREVER);
	const struct start_request *start = m->data;
	struct mote_from from = mote_msg_from(m);
	mote_pid holder = MOTE_NOBODY;
	mote_fn fn = start->fn;
	void *arg = start->arg;
	int err;

	(void)unused;
	err = mote_local_set(&starter_key, &from);
	if (!err)
		err = start_names(start, &holder);
	if (err)
		start_answer(from, err, holder);
	mote_msg_free(m);
	enter_fn(fn, arg);
}

int mote_proc_start(mote_fn fn, void *arg, const struct mote_server_opts *opts, mote_pid *pid)
{
	struct start_request start = { .fn = fn, .arg = arg };
	struct mote_server_opts known;
	int err = opts_copy(&known, sizeof(known), opts);

	if (err || !fn || !pid)
		return err ? err : -EINVAL;
	return start_run(&(struct mote_spawn_opts){ .fn = proc_main }, &start, &known, true, NULL, pid);
}

/* Nobody is answered twice. */
static struct mote_from starter_take(void)
{
	struct mote_from *from = mote_local_get(&starter_key);

	mote_local_set(&starter_key, NULL);
	return from ? *from : (struct mote_from){ 0 };
}

int mote_start_ack(void)
{
	struct mote_from from = starter_take();

	if (!from.ref.id)
		return -EINVAL;
	start_answer(from, 0, MOTE_NOBODY);
	return 0;
}

void mote_start_fail(int err)
{
	struct mote_from from = starter_take();

	if (from.ref.id)
		start_answer(from, err ? err : -EINVAL, MOTE_NOBODY);
	mote_exit(MOTE_REASON_NORMAL);
}
