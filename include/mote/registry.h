/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/registry.h: names beyond mote/name.h: any bytes are a key, under which processes enter themselves, with a
 * value. They are Elixir's Registry: of one node, unique keys or any number of entries per key; docs/otp.md says
 * where they differ.
 *
 * A registry runs as a process, below a supervisor, and is known by its name: a handle stays good while it is started
 * again. When it does not run, functions say -ESRCH. When it ends, its entries go, and the processes in it, which are
 * linked to it.
 *
 * Entries of a process that ends are gone before anybody learns of its end. Looking takes no locks, and waits for
 * nobody.
 */
#ifndef MOTE_REGISTRY_H
#define MOTE_REGISTRY_H

#include <mote/base.h>
#include <mote/server.h>
#include <mote/supervisor.h>

MOTE_BEGIN_DECLS

struct mote_registry;
struct mote_registry_entry;
typedef bool (*mote_registry_fn)(const struct mote_registry_entry *e, void *arg);

enum mote_registry_keys {
	MOTE_REGISTRY_UNIQUE,		/* one entry per key */
	MOTE_REGISTRY_DUPLICATE,	/* any number, also of one process; partitions are by pid */
	MOTE_REGISTRY_DUPLICATE_BY_KEY,	/* the same; partitions are by key */
};

struct mote_registry_meta {
	const void *key, *value;
	size_t key_size, value_size;
};

struct mote_registry_opts {
	size_t size;
	const char *name;			/* needed: its own, and that of its process */
	int keys;				/* enum mote_registry_keys */
	unsigned int partitions;		/* 0: 1; at most 1,024: how many calls a dispatch is */
	const char *const *listeners;		/* names of processes to be told; NULL at the end; NULL: none */
	const struct mote_registry_meta *meta;	/* what mote_registry_meta() has from the first */
	size_t nr_meta;
};

/*
 * Starts one, linked to the caller; what opts has is copied. 0, with *pid (may be NULL); -EEXIST: the name is taken,
 * *pid is its holder; -EINVAL, -E2BIG, -EAGAIN, -ENOMEM. Follows Registry.start_link/1.
 */
MOTE_API int mote_registry_start_link(const struct mote_registry_opts *opts, mote_pid *pid);

/* For a supervisor; opts must outlive it. Follows Registry.child_spec/1. */
MOTE_API struct mote_child_spec mote_registry_child(const struct mote_registry_opts *opts);

/*
 * The registry of that name, whether it runs or not: always the same pointer, good until the program ends. NULL with
 * mote_errno(): -EINVAL (no name, as of mote_register()), -ENOMEM. Any thread.
 */
MOTE_API struct mote_registry *mote_registry_named(const char *name);

/*
 * Enters the caller under key, with a value: copied, of at most 1 GiB each. The first time links it to the registry. 0;
 * -EEXIST: the key is taken, *holder (may be NULL) is who has it, perhaps the caller; -ESRCH, -EMSGSIZE, -ENOMEM.
 * Follows Registry.register/3.
 */
MOTE_API int mote_registry_register(struct mote_registry *r, const void *key, size_t key_size, const void *value,
				    size_t value_size, mote_pid *holder);

/*
 * Takes away all entries of the caller under key, or those for which match() is true; and the link, if none is left
 * in this registry. How many they were; -ESRCH. Follow Registry.unregister/2, unregister_match/4.
 */
MOTE_API int64_t mote_registry_unregister(struct mote_registry *r, const void *key, size_t key_size);
MOTE_API int64_t mote_registry_unregister_match(struct mote_registry *r, const void *key, size_t key_size,
						mote_registry_fn match, void *arg);

/*
 * Gives the caller's entry another value. 0; -ENOENT: the caller has no such entry; -EINVAL: keys are not unique;
 * -ESRCH,
 * -EMSGSIZE, -ENOMEM. Nobody else changes it, so who looks first, does so atomically. Follows Registry.update_value/3.
 */
MOTE_API int mote_registry_update_value(struct mote_registry *r, const void *key, size_t key_size, const void *value,
					size_t value_size);

/* Who is entered under a unique key; MOTE_NOBODY: nobody, or no such registry. Any thread. Follows whereis_name/1. */
MOTE_API mote_pid mote_registry_whereis(struct mote_registry *r, const void *key, size_t key_size);

/*
 * Who is entered under key, in the order of their entries: fills pids, up to max, and returns how many there are;
 * -ESRCH. Any thread. Follows Registry.lookup/2.
 */
MOTE_API int64_t mote_registry_lookup(struct mote_registry *r, const void *key, size_t key_size, mote_pid *pids,
				      size_t max);

/*
 * The same with the first entry's value: copies up to *value_size bytes, and sets *value_size to what there is. pid
 * may be NULL. 0; -ENOENT, -ESRCH. Any thread.
 */
MOTE_API int mote_registry_value(struct mote_registry *r, const void *key, size_t key_size, mote_pid *pid, void *value,
				 size_t *value_size);

/* An entry, as it was a moment ago; lives as long as the call that gets it. */
struct mote_registry_entry {
	mote_pid pid;
	const void *key, *value;		/* aligned to 8 */
	size_t key_size, value_size;
};

/*
 * Call fn with each entry under key; with each of all; with each of pid's; with each of pid's under key, until it
 * returns false. It sees a copy, without locks, and may do whatever the caller may. Return how many entries it was
 * called with, or
 * -ESRCH, -ENOMEM. Any thread. Follow Registry.match/4, select/2, keys/2, values/3.
 */
MOTE_API int64_t mote_registry_match(struct mote_registry *r, const void *key, size_t key_size, mote_registry_fn fn,
				     void *arg);
MOTE_API int64_t mote_registry_select(struct mote_registry *r, mote_registry_fn fn, void *arg);
MOTE_API int64_t mote_registry_keys(struct mote_registry *r, mote_pid pid, mote_registry_fn fn, void *arg);
MOTE_API int64_t mote_registry_values(struct mote_registry *r, const void *key, size_t key_size, mote_pid pid,
				      mote_registry_fn fn, void *arg);

/*
 * How many entries there are; under key, how many for which fn says true; of all, how many. -ESRCH, -ENOMEM. Any
 * thread. Follow Registry.count/1, count_match/4, count_select/2.
 */
MOTE_API int64_t mote_registry_count(struct mote_registry *r);
MOTE_API int64_t mote_registry_count_match(struct mote_registry *r, const void *key, size_t key_size,
					   mote_registry_fn fn, void *arg);
MOTE_API int64_t mote_registry_count_select(struct mote_registry *r, mote_registry_fn fn, void *arg);

enum mote_registry_dispatch_flags {
	MOTE_REGISTRY_PARALLEL = 1 << 0,	/* each partition by a process of its own, linked to the caller */
};

/*
 * Calls fn with all entries under key, once for each partition that has any. Parallel: -EPIPE if one of those processes
 * ended in another way than by returning, which a caller that does not trap exits does not live to see. How many
 * calls that were; -ESRCH, -ENOMEM, -EAGAIN, -EINVAL. Follows Registry.dispatch/4.
 */
typedef void (*mote_registry_dispatch_fn)(const struct mote_registry_entry *entries, size_t n, void *arg);
MOTE_API int64_t mote_registry_dispatch(struct mote_registry *r, const void *key, size_t key_size,
					mote_registry_dispatch_fn fn, void *arg, unsigned int flags);

/*
 * What belongs to the registry itself. put replaces. get: copies as mote_registry_value() does. 0; -ENOENT (get,
 * delete),
 * -ESRCH, -EMSGSIZE, -ENOMEM. Any thread. Follow Registry.meta/2, put_meta/3, delete_meta/2.
 */
MOTE_API int mote_registry_meta(struct mote_registry *r, const void *key, size_t key_size, void *value,
				size_t *value_size);
MOTE_API int mote_registry_put_meta(struct mote_registry *r, const void *key, size_t key_size, const void *value,
				    size_t value_size);
MOTE_API int mote_registry_delete_meta(struct mote_registry *r, const void *key, size_t key_size);

/*
 * Waits until nobody else holds the lock of that key, first come, first served, and calls fn with it held. Locks and
 * entries know nothing of each other. A process that ends loses its locks. What fn returned; -ETIMEDOUT, -EDEADLK
 * (the caller has it already), -ESRCH, -EPIPE (the registry ended meanwhile), -ENOMEM. Follows Registry.lock/3.
 */
MOTE_API int mote_registry_lock(struct mote_registry *r, const void *key, size_t key_size, int (*fn)(void *arg),
				void *arg, mote_deadline deadline);

/*
 * A name for mote/server.h: the key of a unique registry; borrowed as long as the via is used. Any thread. Follows
 * {:via, Registry, {registry, key}}.
 */
MOTE_API struct mote_via mote_registry_via(struct mote_registry *r, const void *key, size_t key_size);

/*
 * To listeners, by who registered or unregistered, before that call returns; nothing is sent when a process ends:
 * monitor it. UNREGISTERED also comes when there was nothing to take away, and has no value. Messages of these types
 * are not counted by the listener's limit; one for which there is no memory is not sent.
 */
#define MOTE_MSG_REGISTERED	(MOTE_MSG_SYSTEM + 0x600)
#define MOTE_MSG_UNREGISTERED	(MOTE_MSG_SYSTEM + 0x601)

struct mote_registry_event {
	struct mote_registry *registry;
	mote_pid pid;
	uint32_t key_size, value_size;
	/* the key, then the value */
};

static inline const void *mote_registry_event_key(const struct mote_registry_event *e)
{
	return e + 1;
}

static inline const void *mote_registry_event_value(const struct mote_registry_event *e)
{
	return (const char *)(e + 1) + e->key_size;
}

MOTE_END_DECLS

#endif
