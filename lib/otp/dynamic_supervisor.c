// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Supervisors whose children come and go: known by their pids, each with a specification of its own, or all with a
 * template's.
 */
#include "core/process.h"
#include "otp/supervisor.h"

#include <errno.h>
#include <string.h>

/* --- in the supervisor --- */

int dynamic_init(struct supervisor *sup, const struct supervisor_boot *boot, const struct mote_child_spec *template)
{
	const char *extra = (const char *)boot + boot->extra_at;

	sup->dynamic = true;
	sup->max_children = boot->max_children;
	sup->children.anonymous = true;
	sup->children.quiet = true;
	if (template) {
		sup->template = spec_new(template, extra, boot->extra_size);
		return sup->template ? 0 : -ENOMEM;
	}
	if (!boot->extra_size)
		return 0;
	sup->prefix = mote_alloc(boot->extra_size);
	sup->prefix_size = boot->extra_size;
	if (!sup->prefix)
		return -ENOMEM;
	memcpy(sup->prefix, extra, boot->extra_size);
	return 0;
}

/* Takes the reference. */
static int start(struct supervisor *sup, struct spec *spec, mote_pid *pid)
{
	struct child *c = spec ? children_add(&sup->children, spec) : NULL;

	return c ? supervisor_start_added(sup, c, pid) : -ENOMEM;
}

static bool full(const struct supervisor *sup)
{
	return sup->max_children && sup->children.count >= sup->max_children;
}

int dynamic_start_child(struct supervisor *sup, const struct mote_child_spec *spec, mote_pid *pid)
{
	if (sup->template)
		return -EOPNOTSUPP;
	if (sup->prefix_size && spec->arg && !spec->arg_size)
		return -EINVAL;
	if (full(sup))
		return -ENOSPC;
	return start(sup, spec_new(spec, sup->prefix, sup->prefix_size), pid);
}

int dynamic_start_arg(struct supervisor *sup, const void *arg, size_t size, mote_pid *pid)
{
	struct mote_child_spec child = sup->template->child;

	if (full(sup))
		return -ENOSPC;
	if (!size)
		return start(sup, spec_get(sup->template), pid);
	if (child.arg && !child.arg_size)
		return -EINVAL;
	child.arg = (void *)arg;
	child.arg_size = size;
	return start(sup, spec_new(&child, sup->template->child.arg, sup->template->child.arg_size), pid);
}

int dynamic_terminate(struct supervisor *sup, mote_pid pid)
{
	struct child *c = children_find_key(&sup->children, pid);

	if (!c)
		return -ENOENT;
	child_stop(&sup->children, c);
	children_remove(&sup->children, c);
	return 0;
}

/* --- by others --- */

static int dynamic_start(const struct mote_dynamic_opts *opts, bool link, mote_pid *pid)
{
	struct mote_dynamic_opts known;
	int err = opts ? opts_copy(&known, sizeof(known), opts) : -EINVAL;

	if (err)
		return err;
	if ((known.extra_size && !known.extra) || (!known.child && known.auto_shutdown))
		return -EINVAL;
	if (known.extra_size && known.child && known.child->arg && !known.child->arg_size)
		return -EINVAL;
	return supervisor_start(&(struct supervisor_boot){
		.kind = SUPERVISOR_DYNAMIC,
		.opts = {
			.name = known.name, .via = known.via, .strategy = MOTE_ONE_FOR_ONE,
			.max_restarts = known.max_restarts, .max_seconds = known.max_seconds,
			.auto_shutdown = known.auto_shutdown, .backoff = known.backoff,
			.children = known.child, .nr_children = known.child ? 1 : 0,
		},
		.max_children = known.max_children, .extra = known.extra, .extra_size = known.extra_size,
	}, link, pid);
}

int mote_dynamic_start(const struct mote_dynamic_opts *opts, mote_pid *pid)
{
	return dynamic_start(opts, false, pid);
}

int mote_dynamic_start_link(const struct mote_dynamic_opts *opts, mote_pid *pid)
{
	return dynamic_start(opts, true, pid);
}

int mote_dynamic_start_child(mote_pid supervisor, const struct mote_child_spec *spec, mote_pid *pid,
			     mote_deadline deadline)
{
	return supervisor_ask_start(supervisor, spec, true, pid, deadline);
}

int mote_dynamic_start_arg(mote_pid supervisor, const void *arg, size_t size, mote_pid *pid, mote_deadline deadline)
{
	if (size && !arg)
		return -EINVAL;
	return supervisor_ask(supervisor, SUPERVISOR_START_ARG, arg, size, pid, NULL, deadline);
}

int mote_dynamic_terminate_child(mote_pid supervisor, mote_pid child, mote_deadline deadline)
{
	return supervisor_ask(supervisor, SUPERVISOR_TERMINATE_PID, &child, sizeof(child), NULL, NULL, deadline);
}
