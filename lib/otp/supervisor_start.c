// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The starter's side of a start: looks at what it is to be, and puts all of it in one piece.
 */
#include "core/process.h"
#include "otp/server.h"
#include "otp/supervisor.h"

#include <errno.h>
#include <string.h>

static int check(const struct supervisor_boot *boot)
{
	const struct mote_supervisor_opts *opts = &boot->opts;
	struct mote_backoff backoff;
	int err;

	if (opts->strategy < MOTE_ONE_FOR_ONE || opts->strategy > MOTE_REST_FOR_ONE ||
	    opts->auto_shutdown < MOTE_AUTO_NEVER || opts->auto_shutdown > MOTE_AUTO_ALL_SIGNIFICANT ||
	    (opts->nr_children && !opts->children))
		return -EINVAL;
	err = backoff_init(&backoff, &opts->backoff);
	for (size_t i = 0; i < opts->nr_children && !err; i++)
		err = spec_check(&opts->children[i], opts->auto_shutdown, boot->kind != SUPERVISOR_FIXED);
	return err;
}

/* Copies of all specifications, and the sum of their sizes. False: out of memory. */
static bool copy_specs(const struct mote_supervisor_opts *opts, struct spec **specs, size_t *size)
{
	*size = 0;
	for (size_t i = 0; i < opts->nr_children; i++) {
		specs[i] = spec_new(&opts->children[i], NULL, 0);
		if (!specs[i])
			return false;
		*size += specs[i]->size;
	}
	return true;
}

/* In the caller's process heap. NULL: out of memory. */
static struct supervisor_boot *pack(const struct supervisor_boot *boot, struct spec **specs, size_t specs_size,
				    size_t *size)
{
	size_t name_size = boot->opts.name ? strlen(boot->opts.name) + 1 : 0, n = boot->opts.nr_children;
	size_t extra_at = sizeof(*boot) + name_size, specs_at = (extra_at + boot->extra_size + 15) & ~(size_t)15;
	struct supervisor_boot *packed = mote_alloc(specs_at + specs_size);
	char *at = (char *)packed;

	if (!packed)
		return NULL;
	*size = specs_at + specs_size;
	*packed = *boot;
	packed->name_at = name_size ? sizeof(*boot) : 0;
	packed->extra_at = extra_at;
	packed->specs_at = specs_at;
	if (name_size)
		memcpy(at + sizeof(*boot), boot->opts.name, name_size);
	if (boot->extra_size)
		memcpy(at + extra_at, boot->extra, boot->extra_size);
	at += specs_at;
	for (size_t i = 0; i < n; i++) {
		memcpy(at, specs[i], specs[i]->size);
		at += specs[i]->size;
	}
	return packed;
}

int supervisor_start(const struct supervisor_boot *boot, bool link, mote_pid *pid)
{
	struct mote_server_opts server = {
		.size = sizeof(server), .name = boot->opts.name, .via = boot->opts.via, .flags = MOTE_TRAP_EXIT,
		.label = "supervisor",
	};
	size_t size, specs_size, n = boot->opts.nr_children;
	struct supervisor_boot *packed = NULL;
	struct spec **specs;
	int err = check(boot);

	if (err)
		return err;
	specs = n <= SIZE_MAX / sizeof(*specs) ? mote_zalloc(n * sizeof(*specs)) : NULL;
	if (!specs)
		return -ENOMEM;
	if (copy_specs(&boot->opts, specs, &specs_size))
		packed = pack(boot, specs, specs_size, &size);
	for (size_t i = 0; i < n; i++)
		spec_put(specs[i]);
	mote_free(specs);
	if (!packed)
		return -ENOMEM;
	err = server_start(&supervisor_ops, packed, size, &server, link, NULL, pid);
	mote_free(packed);
	return err;
}

static int start(const struct mote_supervisor_opts *opts, bool link, mote_pid *pid)
{
	struct supervisor_boot boot = { .kind = SUPERVISOR_FIXED };
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
