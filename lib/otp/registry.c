// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The process that a registry is. What the process does for a living is to end: to be linked to, and
 * to take the ledger along.
 */
#include "otp/registry.h"

#include <mote/name.h>

#include <errno.h>
#include <stdlib.h>

#define MAX_PARTITIONS	1024

struct registry_config {
	struct mote_registry *registry;
	int keys;
	uint32_t partitions;
	uint32_t listeners;		/* bytes, that follow */
	uint32_t nr_meta;		/* follow then: the two sizes as uint32_t, key, value */
};

struct registry_server {
	struct ledger *ledger;
	struct registry_locks *locks;
};

struct mote_registry *mote_registry_named(const char *name)
{
	return (struct mote_registry *)handle_named(HANDLE_REGISTRY, name);
}

/* --- ledgers */

static void ledger_free(struct garbage *g)
{
	struct ledger *l = container_of(g, struct ledger, garbage);

	book_end(&l->entries);
	book_end(&l->meta);
	for (int i = 0; i < MEMBER_SHARDS; i++)
		free(l->members[i].buckets);
	free(l);
}

struct ledger *ledger_get(struct scheduler *s, struct mote_registry *r)
{
	struct ledger *l;
	uint32_t refs = 0;

	epoch_enter(s);
	l = ledger_look(r);
	if (l) {
		/* relaxed: it is kept by the section until it is counted */
		refs = atomic_load_explicit(&l->refs, memory_order_relaxed);
		while (refs && !atomic_compare_exchange_weak_explicit(&l->refs, &refs, refs + 1, memory_order_relaxed,
								      memory_order_relaxed))
			;
	}
	epoch_leave(s);
	return refs ? l : NULL;
}

void ledger_put(struct ledger *l)
{
	/* acq_rel: what all others did with it comes before the end */
	if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1)
		epoch_retire(&l->garbage, ledger_free, sizeof(*l));
}

/* The server ends, however it does. */
static void ledger_close(struct process *p, struct belonging *b)
{
	struct ledger *l = container_of(b, struct ledger, belonging);

	(void)p;
	/* Who found it before has counted it, or is in a section. */
	handle_lead(l->registry, NULL);
	ledger_put(l);
}

static struct ledger *ledger_new(struct mote_registry *r, const struct registry_config *c, const char *listeners)
{
	size_t size = sizeof(struct ledger) + c->listeners + 1;
	struct ledger *l = aligned_alloc(CACHE_LINE, (size + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));

	if (!l)
		return NULL;
	memset(l, 0, size);
	l->keys = c->keys;
	l->partitions = c->partitions;
	l->registry = r;
	l->belonging.end = ledger_close;
	memcpy(l->listeners, listeners, c->listeners);
	atomic_store_explicit(&l->refs, 1, memory_order_relaxed);
	return l;
}

/* --- the process */

static int server_init(void *state, void *arg)
{
	(void)state;
	(void)arg;
	return 0;
}

static int meta_put(struct book *meta, const char *at, const char *end, uint32_t n)
{
	uint32_t sizes[2];

	while (n--) {
		struct book_entry *e;

		if ((size_t)(end - at) < sizeof(sizes))
			return -EINVAL;
		memcpy(sizes, at, sizeof(sizes));
		at += sizeof(sizes);
		if ((uint64_t)sizes[0] + sizes[1] > (size_t)(end - at))
			return -EINVAL;
		e = book_entry(MOTE_NOBODY, at + sizes[0], sizes[1]);
		if (!e)
			return -ENOMEM;
		if (book_put(meta, at, sizes[0], e)) {
			free(e);
			return -ENOMEM;
		}
		at += sizes[0] + sizes[1];
	}
	return 0;
}

/* Inside of the runtime: nothing of it is lost when the process is killed. */
static int ledger_open(struct scheduler *s, struct registry_server *server, const struct registry_config *c,
		       const char *end, mote_pid starter)
{
	const char *rest = (const char *)(c + 1);
	struct ledger *l = ledger_new(c->registry, c, rest);
	int err = -ENOMEM;

	if (!l)
		return err;
	l->server = process_pid(process_self(s));
	l->starter = starter;
	err = meta_put(&l->meta, rest + c->listeners, end, c->nr_meta);
	if (!err)
		err = belonging_add(process_self(s), &l->belonging);
	if (err) {
		ledger_free(&l->garbage);
		return err;
	}
	server->ledger = l;
	handle_lead(c->registry, l);
	return 0;
}

static int server_configure(struct registry_server *server, const struct mote_msg *m)
{
	const struct registry_config *c = m->data;
	const char *end = (const char *)m->data + m->size;
	struct scheduler *s;
	int err;

	/* Addresses of another node mean nothing here. */
	if (server->ledger || !port_is_here(m->from.node) || m->size < sizeof(*c) ||
	    c->listeners > (size_t)(end - (const char *)(c + 1)))
		return -EINVAL;
	s = runtime_enter("mote_registry_start_link");
	err = ledger_open(s, server, c, end, m->from);
	process_leave(s);
	return err;
}

static void server_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct registry_server *server = state;
	int32_t err;

	if (m->type == REGISTRY_CONFIGURE) {
		err = server_configure(server, m);
		mote_reply(from, REGISTRY_CONFIGURE, &err, sizeof(err));
	} else if (m->type == REGISTRY_LOCK) {
		locks_ask(&server->locks, from, m);
	}
}

static void server_info(void *state, const struct mote_msg *m)
{
	struct registry_server *server = state;

	if (mote_msg_down(m))
		locks_down(&server->locks, mote_msg_down(m));
	else if (m->type == REGISTRY_UNLOCK)
		locks_release(&server->locks, m);
	/* The rest are EXITs of members. */
}

static const struct mote_server_ops server_ops = {
	.size = sizeof(server_ops),
	.state_size = sizeof(struct registry_server),
	.init = server_init,
	.handle_call = server_call,
	.handle_info = server_info,
	.flags = MOTE_SERVER_OPAQUE,
};

/* NULL with *err. */
static struct mote_msg *config_new(const struct mote_registry_opts *opts, struct mote_registry *r, int *err)
{
	size_t listeners = 0, size = sizeof(struct registry_config);
	struct registry_config *c;
	struct mote_msg *m;
	char *at;

	*err = -EINVAL;
	for (size_t i = 0; opts->listeners && opts->listeners[i]; i++) {
		if (!name_valid(opts->listeners[i]))
			return NULL;
		listeners += strlen(opts->listeners[i]) + 1;
	}
	size += listeners;
	for (size_t i = 0; i < opts->nr_meta; i++) {
		const struct mote_registry_meta *meta = &opts->meta[i];

		if (meta->key_size > REGISTRY_BYTES_MAX || meta->value_size > REGISTRY_BYTES_MAX)
			return NULL;
		size += 2 * sizeof(uint32_t) + meta->key_size + meta->value_size;
	}
	m = mote_msg_new(REGISTRY_CONFIGURE, size);
	if (!m) {
		*err = mote_errno();
		return NULL;
	}
	c = m->data;
	*c = (struct registry_config){ .registry = r, .keys = opts->keys, .partitions = opts->partitions,
				       .listeners = (uint32_t)listeners, .nr_meta = (uint32_t)opts->nr_meta };
	if (!c->partitions)
		c->partitions = 1;
	at = (char *)(c + 1);
	for (size_t i = 0; opts->listeners && opts->listeners[i]; i++)
		at = stpcpy(at, opts->listeners[i]) + 1;
	for (size_t i = 0; i < opts->nr_meta; i++) {
		const struct mote_registry_meta *meta = &opts->meta[i];
		uint32_t sizes[2] = { (uint32_t)meta->key_size, (uint32_t)meta->value_size };

		at = mempcpy(at, sizes, sizeof(sizes));
		at = meta->key_size ? mempcpy(at, meta->key, meta->key_size) : at;
		at = meta->value_size ? mempcpy(at, meta->value, meta->value_size) : at;
	}
	return m;
}

static bool is_exit_of(const struct mote_msg *m, void *arg)
{
	const struct mote_exit_info *exit = mote_msg_exit(m);

	return exit && mote_pid_equal(exit->pid, *(mote_pid *)arg);
}

/* One that could not be configured leaves no EXIT, and no name, behind. */
static void start_undo(mote_pid pid)
{
	mote_ref gone = mote_monitor(pid);

	mote_unlink(pid);
	mote_exit_pid(pid, MOTE_REASON_KILL);
	if (gone.id)
		mote_msg_free(mote_receive_ref(gone, MOTE_FOREVER));
	mote_msg_free(mote_receive_match(is_exit_of, &pid, MOTE_NOW));
}

int mote_registry_start_link(const struct mote_registry_opts *given, mote_pid *pid)
{
	struct mote_server_opts with = { .size = sizeof(with), .flags = MOTE_TRAP_EXIT, .label = "registry" };
	struct mote_registry_opts opts;
	int err = opts_copy(&opts, sizeof(opts), given);
	struct mote_msg *config, *reply = NULL;
	mote_pid server = MOTE_NOBODY;
	struct mote_registry *r;
	int32_t answer;
	mote_ref ref;

	if (pid)
		*pid = MOTE_NOBODY;
	if (err)
		return err;
	if (opts.keys < 0 || opts.keys > MOTE_REGISTRY_DUPLICATE_BY_KEY || opts.partitions > MAX_PARTITIONS ||
	    (opts.nr_meta && !opts.meta) || opts.nr_meta > UINT32_MAX)
		return -EINVAL;
	r = mote_registry_named(opts.name);
	if (!r)
		return mote_errno();
	config = config_new(&opts, r, &err);
	if (!config)
		return err;
	with.name = opts.name;
	err = mote_server_start_link(&server_ops, NULL, &with, &server);
	if (err) {
		mote_msg_free(config);
		if (pid && err == -EEXIST)
			*pid = server;
		return err;
	}
	ref = mote_request_msg(server, config);
	err = ref.id ? call_result(mote_receive_ref(ref, MOTE_FOREVER), &reply) : mote_errno();
	if (!err) {
		memcpy(&answer, reply->data, sizeof(answer));
		mote_msg_free(reply);
		err = answer;
	}
	if (err)
		start_undo(server);
	else if (pid)
		*pid = server;
	return err;
}

static int child_start(void *arg, mote_pid *pid)
{
	return mote_registry_start_link(arg, pid);
}

struct mote_child_spec mote_registry_child(const struct mote_registry_opts *opts)
{
	return (struct mote_child_spec){ .id = opts->name, .start = child_start, .arg = (void *)opts };
}
