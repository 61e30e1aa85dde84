// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Start and stop of a child. A supervisor waits in here; its messages wait with it.
 */
#include "otp/child.h"
#include "otp/report.h"
#include "otp/server.h"
#include "otp/supervisor.h"

#include <mote/name.h>
#include <mote/program.h>
#include <mote/timer.h>

#include <errno.h>
#include <string.h>

#define CLEANUP_MS	5000	/* what core allows */

/* To a process that runs a function, with what it gets as a copy of its own; the bytes follow. */
struct run {
	mote_fn fn;
	uint64_t zero;
};

_Static_assert(sizeof(struct run) == 16, "the argument follows, aligned as messages are");

void child_report(const struct children *all, const struct child *c, int context, const struct mote_reason *why)
{
	report_supervisor(context, all->name, c->spec->child.id, c->state == CHILD_RUNNING ? c->key : MOTE_NOBODY, why);
}

PROCESS_ENTRY static int enter_start(int (*start)(void *arg, mote_pid *pid), void *arg, mote_pid *pid)
{
	int err = start(arg, pid);

	PROCESS_ENTRY_END();
	return err;
}

PROCESS_ENTRY static void *enter_with_arg(void *(*with_arg)(void *arg, unsigned int partition), void *arg,
					  unsigned int partition)
{
	void *made = with_arg(arg, partition);

	PROCESS_ENTRY_END();
	return made;
}

PROCESS_ENTRY static void enter_run(mote_fn fn, void *arg)
{
	fn(arg);
	PROCESS_ENTRY_END();
}

/* Addresses of another node mean nothing here. */
static bool is_run(const struct mote_msg *m, void *unused)
{
	(void)unused;
	return m->type == SUPERVISOR_RUN && m->size >= sizeof(struct run) && port_is_here(m->from.node);
}

static void run_main(void *unused)
{
	/* Not freed here: the argument lies in it, and it goes when the process does. */
	struct mote_msg *m = mote_receive_match(is_run, NULL, MOTE_FOREVER);
	struct run *run = m->data;

	(void)unused;
	enter_run(run->fn, run + 1);
}

static int start_fn(const struct mote_child_spec *spec, void *arg, mote_pid *pid)
{
	static const struct mote_server_opts none;
	const struct mote_server_opts *opts = spec->opts ? spec->opts : &none;
	struct mote_spawn_opts spawn = {
		.size = sizeof(spawn), .fn = spec->fn, .arg = arg, .flags = opts->flags | MOTE_LINK,
		.scheduler = opts->scheduler, .priority = opts->priority, .mailbox_policy = opts->mailbox_policy,
		.mailbox_limit = opts->mailbox_limit, .stack_size = opts->stack_size, .name = opts->name,
		.label = opts->label,
	};
	struct mote_msg *m = NULL;
	struct run *run;

	if (spec->arg_size) {
		m = mote_msg_new(SUPERVISOR_RUN, sizeof(*run) + spec->arg_size);
		if (!m)
			return mote_errno();
		run = m->data;
		*run = (struct run){ .fn = spec->fn };
		memcpy(run + 1, arg, spec->arg_size);
		spawn.fn = run_main;
		spawn.arg = NULL;
	}
	*pid = mote_spawn_opts(&spawn);
	if (!mote_pid_valid(*pid)) {
		int err = mote_errno();

		mote_msg_free(m);
		if (err == -EEXIST)
			*pid = mote_whereis(opts->name);
		return err;
	}
	if (m)
		mote_send_msg(*pid, m);
	return 0;
}

static int start_own(const struct mote_child_spec *spec, void *arg, mote_pid *pid)
{
	int err = enter_start(spec->start, arg, pid);

	if (err)
		return err == MOTE_IGNORE || err < 0 ? err : -EINVAL;
	/* Does nothing if it is linked, as it should be. */
	return mote_link(*pid);
}

static int start_any(const struct mote_child_spec *spec, void *arg, mote_pid *pid, struct mote_msg **why)
{
	struct mote_server_opts opts = { .size = sizeof(opts) };

	if (spec->start)
		return start_own(spec, arg, pid);
	if (spec->fn)
		return start_fn(spec, arg, pid);
	if (spec->supervisor)
		return mote_supervisor_start_link(spec->supervisor, pid);
	if (spec->dynamic)
		return mote_dynamic_start_link(spec->dynamic, pid);
	if (spec->partition)
		return mote_partition_start_link(spec->partition, pid);
	if (spec->program)
		return mote_program_start_link(spec->program, pid);
	if (spec->opts)
		opts = *spec->opts;
	opts.why = why;
	return server_start(spec->server, arg, spec->arg_size, &opts, true, NULL, pid);
}

int child_start(struct children *all, struct child *c, mote_pid *holder, struct mote_msg **why)
{
	const struct mote_child_spec *spec = &c->spec->child;
	mote_pid pid = MOTE_NOBODY;
	void *arg = spec->arg;
	int err;

	*holder = MOTE_NOBODY;
	*why = NULL;
	if (all->with_arg)
		arg = enter_with_arg(all->with_arg, arg, c->number);
	err = start_any(spec, arg, &pid, why);
	if (err == -EEXIST)
		*holder = pid;
	if (err)
		return err;
	child_set_running(all, c, pid);
	c->failures.since_ns = mote_now().ns;
	if (!all->quiet)
		child_report(all, c, REPORT_PROGRESS, NULL);
	return 0;
}

static bool is_exit_of(const struct mote_msg *m, void *arg)
{
	const struct mote_exit_info *exit = mote_msg_exit(m);

	return exit && mote_pid_equal(exit->pid, *(mote_pid *)arg);
}

/* Whether a child that was told to end may have ended for that. */
static bool as_told(const struct mote_child_spec *spec, const struct mote_reason *why)
{
	bool plain = why->kind == MOTE_SHUTDOWN && !why->code && !why->size;

	if (spec->shutdown_ms == MOTE_SHUTDOWN_BRUTAL ? why->kind == MOTE_KILLED : plain)
		return true;
	return spec->restart != MOTE_PERMANENT && (why->kind == MOTE_SHUTDOWN || why->kind == MOTE_NORMAL);
}

/* When it has to be killed. */
static mote_deadline patience(const struct mote_child_spec *spec)
{
	if (spec->shutdown_ms == MOTE_SHUTDOWN_INFINITY ||
	    (spec->shutdown_ms == MOTE_SHUTDOWN_DEFAULT && spec->type == MOTE_SUPERVISOR))
		return MOTE_FOREVER;
	return mote_in_ms(spec->shutdown_ms == MOTE_SHUTDOWN_DEFAULT ? 5000 : spec->shutdown_ms);
}

/* A supervisor that crashed waits in a cleanup: not without end, and no more than CLEANUP_MS for all. */
static struct mote_msg *receive_end(mote_ref ref, mote_deadline deadline)
{
	struct mote_msg *m = ref.id ? mote_receive_ref(ref, deadline) : NULL;

	return m || !ref.id || mote_errno() != -ECANCELED ? m : mote_receive_ref(ref, mote_in_ms(CLEANUP_MS));
}

static void tell(const struct mote_child_spec *spec, mote_pid pid)
{
	mote_exit_pid(pid, spec->shutdown_ms == MOTE_SHUTDOWN_BRUTAL ? MOTE_REASON_KILL : MOTE_REASON_SHUTDOWN);
}

/*
 * Its end is waited for by a monitor: a child may have unlinked itself. If it was dead already, only the EXIT knows
 * why, which is here when mote_unlink() has returned, or never comes; any other EXIT of it is one of a stranger later,
 * and ignored.
 */
void child_stop(struct children *all, struct child *c)
{
	const struct mote_child_spec *spec = &c->spec->child;
	struct mote_msg *down, *exit = NULL;
	const struct mote_reason *why;
	mote_pid pid = c->key;
	mote_ref ref;

	if (c->state != CHILD_RUNNING) {
		child_set_stopped(all, c);
		return;
	}
	ref = mote_monitor(pid);
	tell(spec, pid);
	down = receive_end(ref, patience(spec));
	if (!down) {
		mote_exit_pid(pid, MOTE_REASON_KILL);
		down = receive_end(ref, MOTE_FOREVER);
	}
	why = down ? &mote_msg_down(down)->reason : NULL;
	if (why && why->kind == MOTE_NOPROC) {
		mote_unlink(pid);
		exit = mote_receive_match(is_exit_of, &pid, MOTE_NOW);
		why = exit ? &mote_msg_exit(exit)->reason : why;
	}
	if (why && !as_told(spec, why))
		child_report(all, c, REPORT_SHUTDOWN_ERROR, why);
	mote_msg_free(exit);
	mote_msg_free(down);
	child_set_stopped(all, c);
}

/* Kills whose time has come. Returns when the next one's does. */
static mote_deadline kill_late(struct children *all, int64_t start_ns)
{
	int64_t now = mote_now().ns, next = INT64_MAX;

	for (struct child *c = all->first; c; c = c->next) {
		int64_t ms = c->spec->child.shutdown_ms, at;

		if (c->state != CHILD_RUNNING || ms == MOTE_SHUTDOWN_BRUTAL ||
		    patience(&c->spec->child).ns == INT64_MAX)
			continue;
		at = start_ns + (ms ? ms : 5000) * INT64_C(1000000);
		if (at <= now)
			mote_exit_pid(c->key, MOTE_REASON_KILL);
		else if (at < next)
			next = at;
	}
	return (mote_deadline){ next };
}

/* The EXIT says why it ended, the DOWN that comes behind it that it is gone. */
static void take_end(struct children *all, const struct mote_msg *m)
{
	const struct mote_exit_info *exit = mote_msg_exit(m);
	const struct mote_down_info *down = mote_msg_down(m);
	const struct mote_reason *why = exit ? &exit->reason : down ? &down->reason : NULL;
	struct child *c = why ? children_find_key(all, exit ? exit->pid : down->pid) : NULL;

	if (!c || c->state != CHILD_RUNNING)
		return;
	if (!c->judged && !as_told(&c->spec->child, why))
		child_report(all, c, REPORT_SHUTDOWN_ERROR, why);
	c->judged = true;
	if (down)
		children_remove(all, c);
}

void children_stop_together(struct children *all)
{
	int64_t start = mote_now().ns;
	struct child *c, *next;
	mote_deadline late;
	bool crashed = false;

	for (c = all->first; c; c = next) {
		next = c->next;
		if (c->state != CHILD_RUNNING) {
			children_remove(all, c);
			continue;
		}
		tell(&c->spec->child, c->key);
		if (!mote_monitor(c->key).id) {
			mote_exit_pid(c->key, MOTE_REASON_KILL);
			children_remove(all, c);
		}
	}
	late = kill_late(all, start);
	while (all->running) {
		struct mote_msg *m = mote_receive(late);

		if (!m && mote_errno() == -ECANCELED) {
			crashed = true;
			late = mote_in_ms(CLEANUP_MS);
		} else if (!m && crashed) {
			return;		/* their links do the rest */
		} else if (!m) {
			late = kill_late(all, start);
		} else {
			take_end(all, m);
			mote_msg_free(m);
		}
	}
}
