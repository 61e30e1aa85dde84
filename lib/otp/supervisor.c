// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The server that all supervisors are: what it does when a child ends, and what it answers. The rules are those of OTP's
 * supervisor.
 */
#include "otp/supervisor.h"
#include "core/process.h"
#include "otp/report.h"
#include "otp/server.h"

#include <mote/info.h>
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

/* OTP's del_child */
static void forget(struct supervisor *sup, struct child *c)
{
	child_set_stopped(&sup->children, c);
	if (sup->dynamic || child_is_temporary(c))
		children_remove(&sup->children, c);
}

static void give_up(struct supervisor *sup, struct child *c)
{
	struct mote_reason why = mote_reason_error(EAGAIN, "too many restarts");

	child_report(&sup->children, c, REPORT_SHUTDOWN, &why);
	forget(sup, c);
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

	forget(sup, c);
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

/* --- what it is asked --- */

int supervisor_start_added(struct supervisor *sup, struct child *c, mote_pid *pid)
{
	struct mote_msg *why;
	int err = child_start(&sup->children, c, pid, &why);

	mote_msg_free(why);
	if (!err)
		*pid = c->key;
	else if (err < 0 || sup->dynamic || child_is_temporary(c))
		children_remove(&sup->children, c);
	return err;
}

static int start_child(struct supervisor *sup, const struct mote_msg *m, mote_pid *pid)
{
	struct spec *spec = m->data;
	struct child *c;
	int err;

	if (!port_is_here(m->from.node))
		return -EREMOTE;
	if (!spec_whole(spec, m->size))
		return -EINVAL;
	spec_settle(spec);
	err = spec_check(&spec->child, sup->auto_shutdown, sup->dynamic);
	if (err)
		return err;
	if (sup->dynamic)
		return dynamic_start_child(sup, &spec->child, pid);
	if (sup->children.partitions)
		return -EOPNOTSUPP;
	c = children_find_id(&sup->children, spec->child.id);
	if (c) {
		*pid = c->state == CHILD_RUNNING ? c->key : MOTE_NOBODY;
		return -EEXIST;
	}
	spec = spec_new(&spec->child, NULL, 0);
	c = spec ? children_add(&sup->children, spec) : NULL;
	return c ? supervisor_start_added(sup, c, pid) : -ENOMEM;
}

static int terminate_child(struct supervisor *sup, struct child *c)
{
	child_stop(&sup->children, c);
	forget(sup, c);
	return 0;
}

int supervisor_start_again(struct supervisor *sup, struct child *c, mote_pid *pid)
{
	struct mote_msg *why;
	int err;

	if (c->state != CHILD_STOPPED)
		return c->state == CHILD_RESTARTING ? -EINPROGRESS : -EBUSY;
	err = child_start(&sup->children, c, pid, &why);
	mote_msg_free(why);
	if (!err)
		*pid = c->key;
	return err;
}

static int delete_child(struct supervisor *sup, struct child *c)
{
	if (c->state != CHILD_STOPPED)
		return c->state == CHILD_RESTARTING ? -EINPROGRESS : -EBUSY;
	if (sup->children.partitions)
		return -EOPNOTSUPP;
	children_remove(&sup->children, c);
	return 0;
}

static const char *id_in(const struct mote_msg *m)
{
	const char *id = m->data;

	return m->size && !id[m->size - 1] ? id : NULL;
}

static int with_child(struct supervisor *sup, const struct mote_msg *m, mote_pid *pid)
{
	const char *id = id_in(m);
	struct child *c;

	if (sup->dynamic)
		return -EOPNOTSUPP;
	if (!id)
		return -EINVAL;
	c = children_find_id(&sup->children, id);
	if (!c)
		return -ENOENT;
	if (m->type == SUPERVISOR_TERMINATE_CHILD)
		return terminate_child(sup, c);
	if (m->type == SUPERVISOR_DELETE_CHILD)
		return delete_child(sup, c);
	/* Of a partition that was taken out of use there is nothing to be started. */
	return c->off ? -ENOENT : supervisor_start_again(sup, c, pid);
}

static size_t entry_size(const struct child *c)
{
	return sizeof(struct supervisor_entry) + (c->spec->child.id ? strlen(c->spec->child.id) + 1 : 0);
}

static char *entry_write(char *to, const struct child *c)
{
	struct supervisor_entry e = {
		.pid = c->state == CHILD_RUNNING ? c->key : MOTE_NOBODY, .type = (uint8_t)c->spec->child.type,
		.restarting = c->state == CHILD_RESTARTING, .id_size = (uint32_t)(entry_size(c) - sizeof(e)),
	};

	memcpy(to, &e, sizeof(e));
	if (e.id_size)
		memcpy(to + sizeof(e), c->spec->child.id, e.id_size);
	return to + sizeof(e) + e.id_size;
}

/* Those that are asked for: one, or all. */
static struct mote_msg *which(const struct supervisor *sup, const struct child *one)
{
	size_t size = sizeof(struct supervisor_answer);
	struct supervisor_answer *answer;
	struct mote_msg *m;
	char *to;

	for (const struct child *c = one ? one : sup->children.first; c; c = one ? NULL : c->next)
		size += entry_size(c);
	m = mote_msg_new(SUPERVISOR_ANSWER, size);
	if (!m)
		return NULL;
	answer = m->data;
	*answer = (struct supervisor_answer){ .count = one ? 1 : (uint32_t)sup->children.count };
	to = (char *)(answer + 1);
	for (const struct child *c = one ? one : sup->children.first; c; c = one ? NULL : c->next)
		to = entry_write(to, c);
	return m;
}

static struct mote_msg *answer_with(const void *data, size_t size)
{
	struct mote_msg *m = mote_msg_new(SUPERVISOR_ANSWER, sizeof(struct supervisor_answer) + size);

	if (!m)
		return NULL;
	memset(m->data, 0, sizeof(struct supervisor_answer));
	memcpy((struct supervisor_answer *)m->data + 1, data, size);
	return m;
}

static struct mote_msg *count_children(const struct supervisor *sup)
{
	const struct children *all = &sup->children;
	struct mote_child_counts counts = {
		.size = sizeof(counts), .specs = sup->template ? 1 : all->count, .active = all->running,
		.supervisors = all->supervisors, .workers = all->count - all->supervisors,
	};

	/* One that unlinked itself may have ended unnoticed. */
	for (const struct child *c = sup->dynamic ? NULL : all->first; c; c = c->next) {
		if (c->state == CHILD_RUNNING && port_is_here(c->key.node) && !mote_alive(c->key))
			counts.active--;
	}
	return answer_with(&counts, sizeof(counts));
}

static int get_childspec(const struct supervisor *sup, const struct mote_msg *m, struct mote_msg **answer)
{
	const char *id = id_in(m);
	const struct spec *spec = NULL;
	struct child *c;

	if (!port_is_here(m->from.node))
		return -EREMOTE;
	if (sup->dynamic && !sup->template)
		return -EOPNOTSUPP;
	if (!id)
		return -EINVAL;
	if (sup->template) {
		spec = sup->template->child.id && !strcmp(sup->template->child.id, id) ? sup->template : NULL;
	} else {
		c = children_find_id(&sup->children, id);
		spec = c ? c->spec : NULL;
	}
	if (!spec)
		return -ENOENT;
	*answer = answer_with(spec, spec->size);
	return *answer ? 0 : -ENOMEM;
}

static int which_child(const struct supervisor *sup, const struct mote_msg *m, struct mote_msg **answer)
{
	const char *id = id_in(m);
	const struct child *c;

	if (sup->dynamic)
		return -EOPNOTSUPP;
	if (!id)
		return -EINVAL;
	c = children_find_id(&sup->children, id);
	if (!c)
		return -ENOENT;
	*answer = which(sup, c);
	return *answer ? 0 : -ENOMEM;
}

static int handle(struct supervisor *sup, const struct mote_msg *m, mote_pid *pid, struct mote_msg **answer)
{
	mote_pid child;
	uint32_t count;

	switch (m->type) {
	case SUPERVISOR_START_CHILD:
		return start_child(sup, m, pid);
	case SUPERVISOR_START_ARG:
		return sup->template ? dynamic_start_arg(sup, m->data, m->size, pid) : -EOPNOTSUPP;
	case SUPERVISOR_TERMINATE_PID:
		if (!sup->dynamic || m->size != sizeof(child))
			return -EOPNOTSUPP;
		memcpy(&child, m->data, sizeof(child));
		return dynamic_terminate(sup, child);
	case SUPERVISOR_TERMINATE_CHILD:
	case SUPERVISOR_RESTART_CHILD:
	case SUPERVISOR_DELETE_CHILD:
		return with_child(sup, m, pid);
	case SUPERVISOR_WHICH_CHILDREN:
		*answer = which(sup, NULL);
		return *answer ? 0 : -ENOMEM;
	case SUPERVISOR_WHICH_CHILD:
		return which_child(sup, m, answer);
	case SUPERVISOR_COUNT_CHILDREN:
		*answer = count_children(sup);
		return *answer ? 0 : -ENOMEM;
	case SUPERVISOR_GET_CHILDSPEC:
		return get_childspec(sup, m, answer);
	case SUPERVISOR_RESIZE:
		if (!sup->children.partitions || m->size != sizeof(count))
			return -EOPNOTSUPP;
		memcpy(&count, m->data, sizeof(count));
		return partition_resize(sup, count);
	}
	return -EOPNOTSUPP;
}

static void supervisor_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct supervisor_answer answer = { .pid = MOTE_NOBODY };
	struct mote_msg *long_answer = NULL;

	answer.err = handle(state, m, &answer.pid, &long_answer);
	if (long_answer)
		mote_reply_msg(from, long_answer);
	else
		mote_reply(from, SUPERVISOR_ANSWER, &answer, sizeof(answer));
}

/* --- its beginning and end --- */

static int add_all(struct supervisor *sup, const struct mote_child_spec *specs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct spec *spec;
		int err = spec_check(&specs[i], sup->auto_shutdown, false);

		if (err)
			return err;
		spec = spec_new(&specs[i], NULL, 0);
		if (!spec)
			return -ENOMEM;
		if (children_find_id(&sup->children, spec->child.id))
			return -ENOTUNIQ;
		if (!children_add(&sup->children, spec))
			return -ENOMEM;
	}
	return 0;
}

static int take_opts(struct supervisor *sup, const struct mote_supervisor_opts *opts)
{
	size_t length = opts->name ? strlen(opts->name) + 1 : 0;
	char *name = length ? mote_alloc(length) : NULL;

	if (length && !name)
		return -ENOMEM;
	sup->children.name = length ? memcpy(name, opts->name, length) : NULL;
	sup->strategy = opts->strategy;
	sup->auto_shutdown = opts->auto_shutdown;
	intensity_init(&sup->intensity, opts->max_restarts, opts->max_seconds);
	return backoff_init(&sup->backoff, &opts->backoff);
}

static int supervisor_init(void *state, void *arg)
{
	const struct supervisor_boot *boot = arg;
	struct supervisor *sup = state;
	struct child *failed;
	int err = take_opts(sup, &boot->opts);

	if (!err && boot->dynamic.size)
		return dynamic_init(sup, &boot->dynamic);
	if (!err && boot->partition.size)
		err = partition_init(sup, &boot->partition);
	else if (!err)
		err = add_all(sup, boot->opts.children, boot->opts.nr_children);
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
		[MOTE_ONE_FOR_ONE] = "one_for_one", [MOTE_ONE_FOR_ALL] = "one_for_all", [MOTE_REST_FOR_ONE] = "rest_for_one",
	};
	const struct supervisor *sup = state;

	return snprintf(buf, size, "%s, %zu children, %zu running", sup->dynamic ? "dynamic" : strategies[sup->strategy],
			sup->children.count, sup->children.running);
}

static const struct mote_server_ops supervisor_ops = {
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

int supervisor_start(const struct supervisor_boot *boot, bool link, mote_pid *pid)
{
	const struct mote_supervisor_opts *opts = &boot->opts;
	struct mote_server_opts server = {
		.size = sizeof(server), .name = opts->name, .via = opts->via, .flags = MOTE_TRAP_EXIT, .label = "supervisor",
	};

	if (opts->strategy < MOTE_ONE_FOR_ONE || opts->strategy > MOTE_REST_FOR_ONE ||
	    opts->auto_shutdown < MOTE_AUTO_NEVER || opts->auto_shutdown > MOTE_AUTO_ALL_SIGNIFICANT ||
	    (opts->nr_children && !opts->children))
		return -EINVAL;
	return server_start(&supervisor_ops, boot, sizeof(*boot), &server, link, NULL, pid);
}

static int start(const struct mote_supervisor_opts *opts, bool link, mote_pid *pid)
{
	struct supervisor_boot boot = { 0 };
	int err = opts ? opts_copy(&boot.opts, sizeof(boot.opts), opts) : -EINVAL;

	return err ? err : supervisor_start(&boot, link, pid);
}

int mote_supervisor_start(const struct mote_supervisor_opts *opts, mote_pid *pid)
{
	return start(opts, false, pid);
}

int mote_supervisor_start_link(const struct mote_supervisor_opts *opts, mote_pid *pid)
{
	return start(opts, true, pid);
}
