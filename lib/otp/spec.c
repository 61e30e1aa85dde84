// SPDX-License-Identifier: MIT OR GPL-2.0
#include "core/process.h"
#include "otp/spec.h"

#include <errno.h>
#include <string.h>

static size_t round_up(size_t n)
{
	return (n + 15) & ~(size_t)15;
}

const char *spec_id(const struct mote_child_spec *spec)
{
	if (spec->id || spec->name)
		return spec->id ? spec->id : spec->name;
	if (spec->supervisor)
		return spec->supervisor->name;
	if (spec->dynamic)
		return spec->dynamic->name;
	if (spec->partition)
		return spec->partition->name;
	return spec->opts ? spec->opts->name : NULL;
}

static int check_opts(const struct mote_child_spec *spec)
{
	struct mote_server_opts opts;
	const char *name = spec->name;
	int err = opts_copy(&opts, sizeof(opts), spec->opts);

	if (err)
		return err;
	if ((spec->opts || name) && !spec->server && !spec->fn)
		return -EINVAL;
	if (name && (opts.name || opts.via))
		return -EINVAL;
	if (opts.via && (opts.name || spec->fn))
		return -EINVAL;
	name = name ? name : opts.name;
	return name && !name_valid(name) ? -EINVAL : 0;
}

int spec_check(const struct mote_child_spec *spec, int auto_shutdown, bool dynamic)
{
	int ways = !!spec->start + !!spec->server + !!spec->fn + !!spec->supervisor + !!spec->dynamic +
		   !!spec->partition + !!spec->program;

	if (ways != 1 || (!dynamic && !spec_id(spec)))
		return -EINVAL;
	if (spec->restart < MOTE_PERMANENT || spec->restart > MOTE_TEMPORARY || spec->type < MOTE_WORKER ||
	    spec->type > MOTE_SUPERVISOR || spec->shutdown_ms < MOTE_SHUTDOWN_INFINITY)
		return -EINVAL;
	if (spec->significant && (spec->restart == MOTE_PERMANENT || auto_shutdown == MOTE_AUTO_NEVER))
		return -EINVAL;
	if (spec->arg_size && !spec->arg)
		return -EINVAL;
	return check_opts(spec);
}

void spec_settle(struct spec *spec)
{
	char *base = (char *)spec;

	spec->child.id = spec->id_at ? base + spec->id_at : NULL;
	spec->child.name = NULL;
	spec->opts.name = spec->name_at ? base + spec->name_at : NULL;
	if (spec->child.opts)
		spec->child.opts = &spec->opts;
	if (spec->arg_at)
		spec->child.arg = base + spec->arg_at;
}

bool spec_whole(const struct spec *spec, size_t size)
{
	return size >= sizeof(*spec) && spec->size == size;
}

static size_t place(size_t *end, size_t size)
{
	size_t at = *end;

	*end = at + size;
	return size ? at : 0;
}

struct spec *spec_new(const struct mote_child_spec *from, const void *prefix, size_t prefix_size)
{
	const char *id = spec_id(from), *name = from->name ? from->name : from->opts ? from->opts->name : NULL;
	size_t lead = from->arg_size && prefix_size ? round_up(prefix_size) : prefix_size;
	size_t end = sizeof(struct spec), id_at, name_at, arg_at;
	struct spec *spec;

	/* In a message it may not be larger; the sums cannot overflow then. */
	if (prefix_size > UINT32_MAX / 4 || from->arg_size > UINT32_MAX / 4)
		return NULL;
	id_at = place(&end, id ? strlen(id) + 1 : 0);
	name_at = place(&end, name ? strlen(name) + 1 : 0);
	end = round_up(end);
	arg_at = place(&end, lead + from->arg_size);
	/* Several lie one behind the other. */
	end = round_up(end);
	spec = mote_alloc(end);
	if (!spec)
		return NULL;
	memset(spec, 0, sizeof(*spec));
	spec->child = *from;
	spec->size = end;
	spec->id_at = id_at;
	spec->name_at = name_at;
	spec->arg_at = arg_at;
	spec->refs = 1;
	spec->opts.size = sizeof(spec->opts);
	if (from->opts)
		opts_copy(&spec->opts, sizeof(spec->opts), from->opts);
	spec->opts.size = sizeof(spec->opts);
	spec->opts.why = NULL;
	spec->child.opts = from->opts || name ? &spec->opts : NULL;
	spec->child.arg_size = lead + from->arg_size;
	if (from->supervisor || from->dynamic || from->partition)
		spec->child.type = MOTE_SUPERVISOR;
	else if (!from->start)
		spec->child.type = MOTE_WORKER;
	if (id)
		memcpy((char *)spec + id_at, id, strlen(id) + 1);
	if (name)
		memcpy((char *)spec + name_at, name, strlen(name) + 1);
	if (prefix_size) {
		memset((char *)spec + arg_at, 0, lead);
		memcpy((char *)spec + arg_at, prefix, prefix_size);
	}
	if (from->arg_size)
		memcpy((char *)spec + arg_at + lead, from->arg, from->arg_size);
	spec_settle(spec);
	return spec;
}

void spec_put(struct spec *spec)
{
	if (spec && !--spec->refs)
		mote_free(spec);
}
