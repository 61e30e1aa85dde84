// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The server that all supervisors are: what it does when a child ends. The rules are those of OTP's supervisor.
 */
#include "otp/supervisor.h"
#include "core/process.h"
#include "otp/report.h"
#include "otp/server.h"

#include <mote/timer.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- starting and stopping several --- */

static void stop_from(struct supervisor *sup, struct child *first)
{
	struct child *c = sup->children.last, *prev, *stop = first ? first->prev : NULL;

	for (; c != stop; c = prev) {
		prev = c->prev;
		child_stop(&sup->children, c);
		/* Not to be started again: gone with the others. */
		if (child_is_temporary(c))
			children_remove(&sup->children, c);
	}
}

static void report_failed(struct supervisor *sup, const struct child *c, int err, const struct mote_msg *why)
{
	struct mote_reason reason = mote_reason_error(-err, NULL);

	child_report(&sup->children, c, REPORT_START_ERROR, why ? &mote_msg_down(why)->reason : &reason);
}

/* Those from first on that do not run. Stops at one that fails: *failed. */
static int start_from(struct supervisor *sup, struct child *first, struct child **failed)
{
	struct child *c, *next;
	struct mote_msg *why;
	mote_pid holder;
	int err;

	for (c = first; c; c = next) {
		next = c->next;
		if (c->off || c->state == CHILD_RUNNING)
			continue;
		err = child_start(&sup->children, c, &holder, &why);
		if (err < 0) {
			report_failed(sup, c, err, why);
			mote_msg_free(why);
			*failed = c;
			return err;
		}
		if (err == MOTE_IGNORE && child_is_temporary(c))
			children_remove(&sup->children, c);
	}
	return 0;
}

/* --- starting one again --- */

static double chance(void)
{
	struct scheduler *s = runtime_enter("supervisor");
	double x = (double)(chance_next(&s->chance) >> 11) * 0x1p-53;

	runtime_leave();
	return x;
}

/* Later: what came meanwhile is looked at first. */
static void retry(struct supervisor *sup, struct child *c, int64_t wait_ns)
{
	int err;

	child_set_restarting(&sup->children, c);
	if (wait_ns) {
		c->waited = true;
		err = mote_send_after(mote_in_ns(wait_ns), mote_self(), SUPERVISOR_RETRY, &c->key, sizeof(c->key)).id ?
			0 : -ENOMEM;
	} else {
		err = mote_send(mote_self(), SUPERVISOR_RETRY, &c->key, sizeof(c->key));
	}
	/* It would never be started again, and nobody would know. */
	if (err)
		mote_server_exit(mote_reason_error(-err, "a restart cannot be scheduled"));
}

/* The first of those that go and come with it. */
static struct child *group_of(struct supervisor *sup, struct child *c)
{
	return sup->strategy == MOTE_ONE_FOR_ALL ? sup->children.first : c;
}

static void restart_group(struct supervisor *sup, struct child *c)
{
	struct child *before = group_of(sup, c)->prev, *failed;

	child_set_stopped(&sup->children, c);
	stop_from(sup, group_of(sup, c));
	if (start_from(sup, before ? before->next : sup->children.first, &failed))
		retry(sup, failed, 0);
}

static void restart_one(struct supervisor *sup, struct child *c)
{
	struct mote_msg *why;
	mote_pid holder;
	int err = child_start(&sup->children, c, &holder, &why);

	if (err < 0) {
		report_failed(sup, c, err, why);
		retry(sup, c, 0);
	} else if (err == MOTE_IGNORE) {
		child_set_stopped(&sup->children, c);
		if (sup->dynamic)
			children_remove(&sup->children, c);
	}
	mote_msg_free(why);
}

static void restart_now(struct supervisor *sup, struct child *c)
{
	if (sup->strategy == MOTE_ONE_FOR_ONE)
		restart_one(sup, c);
	else
		restart_group(sup, c);
}

void supervisor_forget(struct supervisor *sup, struct child *c)
{
	child_set_stopped(&sup->children, c);
	if (sup->dynamic || child_is_temporary(c))
		children_remove(&sup->children, c);
}

static void give_up(struct supervisor *sup, struct child *c)
{
	struct mote_reason why = mote_reason_error(EAGAIN, "too many restarts");

	child_report(&sup->children, c, REPORT_SHUTDOWN, &why);
	supervisor_forget(sup, c);
	mote_server_exit(MOTE_REASON_SHUTDOWN);
}

/* The others of its group do not run while it waits. */
static void restart_after(struct supervisor *sup, struct child *c, int64_t wait_ns)
{
	if (sup->strategy != MOTE_ONE_FOR_ONE) {
		child_set_stopped(&sup->children, c);
		stop_from(sup, group_of(sup, c));
	}
	retry(sup, c, wait_ns);
}

/* It ended, or could not be started: counts that, and starts it again if that may be. */
static void restart(struct supervisor *sup, struct child *c)
{
	int64_t wait = 0, now = mote_now().ns;

	if (sup->backoff.first_ms) {
		wait = backoff_add(&sup->backoff, sup->intensity.max, &c->failures, now, chance());
	} else if (!intensity_add(&sup->intensity, now)) {
		give_up(sup, c);
		return;
	}
	if (wait)
		restart_after(sup, c, wait);
	else
		restart_now(sup, c);
}

/* --- the end of a child --- */

static bool significant_left(const struct supervisor *sup)
{
	if (sup->dynamic)
		return sup->children.count != 0;
	for (const struct child *c = sup->children.first; c; c = c->next) {
		if (c->state != CHILD_STOPPED && c->spec->child.significant)
			return true;
	}
	return false;
}

static void ended_for_good(struct supervisor *sup, struct child *c)
{
	bool significant = c->spec->child.significant;

	supervisor_forget(sup, c);
	if (!significant || sup->auto_shutdown == MOTE_AUTO_NEVER)
		return;
	if (sup->auto_shutdown == MOTE_AUTO_ANY_SIGNIFICANT || !significant_left(sup))
		mote_server_exit(MOTE_REASON_SHUTDOWN);
}

static void child_ended(struct supervisor *sup, struct child *c, const struct mote_reason *why)
{
	bool abnormal = why->kind != MOTE_NORMAL && why->kind != MOTE_SHUTDOWN;
	int how = c->spec->child.restart;

	if (how == MOTE_PERMANENT || abnormal)
		child_report(&sup->children, c, REPORT_CHILD_TERMINATED, why);
	if (how == MOTE_PERMANENT || (how == MOTE_TRANSIENT && abnormal))
		restart(sup, c);
	else
		ended_for_good(sup, c);
}

static void retry_due(struct supervisor *sup, const struct mote_msg *m)
{
	struct child *c;
	mote_pid key;

	if (m->size != sizeof(key) || !mote_pid_equal(m->from, mote_self()))
		return;
	memcpy(&key, m->data, sizeof(key));
	c = children_find_key(&sup->children, key);
	if (!c || c->state != CHILD_RESTARTING)
		return;
	if (c->waited)
		restart_now(sup, c);
	else
		restart(sup, c);
}

static void unexpected(void *state, const struct mote_msg *m)
{
	const struct supervisor *sup = state;

	runtime_log(MOTE_LOG_ERROR, "supervisor %s received an unexpected message of type %#x from " MOTE_PID_FMT,
		    sup->children.name ? sup->children.name : "", m->type, MOTE_PID_ARG(m->from));
}

static void supervisor_info(void *state, const struct mote_msg *m)
{
	const struct mote_exit_info *exit = mote_msg_exit(m);
	struct supervisor *sup = state;
	struct child *c;

	if (m->type == SUPERVISOR_RETRY) {
		retry_due(sup, m);
	} else if (exit) {
		/* Others' are none of its business: strangers, and children that it has stopped. */
		c = children_find_key(&sup->children, exit->pid);
		if (c && c->state == CHILD_RUNNING)
			child_ended(sup, c, &exit->reason);
	} else {
		unexpected(state, m);
	}
}

/* --- its beginning and end --- */

static int take_opts(struct supervisor *sup, const struct supervisor_boot *boot)
{
	const struct mote_supervisor_opts *opts = &boot->opts;
	const char *given = boot->name_at ? (const char *)boot + boot->name_at : NULL;
	size_t length = given ? strlen(given) + 1 : 0;
	char *name = length ? mote_alloc(length) : NULL;

	if (length && !name)
		return -ENOMEM;
	sup->children.name = length ? memcpy(name, given, length) : NULL;
	sup->strategy = opts->strategy;
	sup->auto_shutdown = opts->auto_shutdown;
	intensity_init(&sup->intensity, opts->max_restarts, opts->max_seconds);
	return backoff_init(&sup->backoff, &opts->backoff);
}

static int add(struct supervisor *sup, const struct mote_child_spec *child)
{
	struct spec *spec;

	if (children_find_id(&sup->children, child->id))
		return -ENOTUNIQ;
	spec = spec_new(child, NULL, 0);
	return spec && children_add(&sup->children, spec) ? 0 : -ENOMEM;
}

static int take_children(struct supervisor *sup, struct supervisor_boot *boot)
{
	char *at = (char *)boot + boot->specs_at;
	int err = 0;

	if (boot->kind == SUPERVISOR_DYNAMIC && !boot->opts.nr_children)
		return dynamic_init(sup, boot, NULL);
	for (size_t i = 0; i < boot->opts.nr_children && !err; i++) {
		struct spec *spec = (struct spec *)at;

		spec_settle(spec);
		at += spec->size;
		if (boot->kind == SUPERVISOR_DYNAMIC)
			err = dynamic_init(sup, boot, &spec->child);
		else if (boot->kind == SUPERVISOR_PARTITION)
			err = partition_init(sup, boot, &spec->child);
		else
			err = add(sup, &spec->child);
	}
	return err;
}

static int supervisor_init(void *state, void *arg)
{
	struct supervisor *sup = state;
	struct child *failed;
	int err = take_opts(sup, arg);

	if (!err)
		err = take_children(sup, arg);
	if (!err) {
		err = start_from(sup, sup->children.first, &failed);
		if (err)
			stop_from(sup, sup->children.first);
	}
	return err;
}

static void supervisor_terminate(void *state, const struct mote_reason *why)
{
	struct supervisor *sup = state;

	(void)why;
	if (sup->dynamic)
		children_stop_together(&sup->children);
	else
		stop_from(sup, sup->children.first);
}

static int supervisor_status(const void *state, char *buf, size_t size)
{
	static const char *const strategies[] = {
		[MOTE_ONE_FOR_ONE] = "one_for_one", [MOTE_ONE_FOR_ALL] = "one_for_all",
		[MOTE_REST_FOR_ONE] = "rest_for_one",
	};
	const struct supervisor *sup = state;

	return snprintf(buf, size, "%s, %zu children, %zu running",
			sup->dynamic ? "dynamic" : strategies[sup->strategy], sup->children.count,
			sup->children.running);
}

const struct mote_server_ops supervisor_ops = {
	.size = sizeof(supervisor_ops),
	.state_size = sizeof(struct supervisor),
	.init = supervisor_init,
	.handle_call = supervisor_call,
	.handle_cast = unexpected,
	.handle_info = supervisor_info,
	.terminate = supervisor_terminate,
	.format_status = supervisor_status,
	.flags = MOTE_SERVER_OPAQUE,
};
