// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The same child several times, found by a key without asking anybody: the supervisor, the only writer, shows the pids
 * in a table. Each entry has a sequence count, which is odd while it changes; a reader that saw it change reads again.
 *
 * Tables are found by name, in a list behind a lock, and counted: by the supervisor, which takes its own off the list
 * when it ends, and by all who got it.
 */
#include "core/process.h"
#include "otp/partition.h"
#include "otp/supervisor.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	_Atomic uint32_t seq;
	_Atomic uint32_t slot;
	_Atomic uint32_t node;
	_Atomic uint64_t serial;
} __attribute__((aligned(32)));

struct mote_partitions {
	struct mote_partitions *next;
	_Atomic uint32_t refs;
	_Atomic uint32_t count;		/* in use, of max; at least 1 */
	uint32_t max;
	mote_pid supervisor;
	char *name;			/* behind the entries */
	struct entry entries[];
};

static struct lock list_lock;
static struct mote_partitions *list;

/* A child of fork() has none, and nobody who holds the lock. */
static void list_forget(void)
{
	list = NULL;
	atomic_store(&list_lock.taken, false);
}

static void list_init(void)
{
	pthread_atfork(NULL, NULL, list_forget);
}

/* --- by the supervisor --- */

static void entry_write(struct entry *e, mote_pid pid)
{
	uint32_t seq = atomic_load_explicit(&e->seq, memory_order_relaxed);

	/* The release fence orders the odd count before what follows; pairs with the acquire fence of the reader. */
	atomic_store_explicit(&e->seq, seq + 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&e->serial, pid.serial, memory_order_relaxed);
	atomic_store_explicit(&e->slot, pid.slot, memory_order_relaxed);
	atomic_store_explicit(&e->node, pid.node, memory_order_relaxed);
	/* release: whoever sees this count sees the pid */
	atomic_store_explicit(&e->seq, seq + 2, memory_order_release);
}

static mote_pid entry_read(const struct entry *e)
{
	uint32_t seq, again;
	mote_pid pid;

	do {
		/* acquire: pairs with the count that was written last */
		seq = atomic_load_explicit(&e->seq, memory_order_acquire);
		pid.serial = atomic_load_explicit(&e->serial, memory_order_relaxed);
		pid.slot = atomic_load_explicit(&e->slot, memory_order_relaxed);
		pid.node = atomic_load_explicit(&e->node, memory_order_relaxed);
		/* acquire: the pid is read before the count is looked at again */
		atomic_thread_fence(memory_order_acquire);
		again = atomic_load_explicit(&e->seq, memory_order_relaxed);
	} while (unlikely(seq & 1 || seq != again));
	return pid;
}

void partition_show(struct mote_partitions *p, unsigned int number, mote_pid pid)
{
	entry_write(&p->entries[number], pid);
}

void partition_set_count(struct mote_partitions *p, unsigned int count)
{
	/* release: the partitions up to there have been started */
	atomic_store_explicit(&p->count, count, memory_order_release);
}

static void unref(struct mote_partitions *p)
{
	/* acq_rel: who frees does so after the last use by all others */
	if (atomic_fetch_sub_explicit(&p->refs, 1, memory_order_acq_rel) == 1)
		free(p);
}

static void partition_close(void *arg)
{
	struct mote_partitions *p = arg, **at = &list;

	lock_take(&list_lock);
	while (*at && *at != p)
		at = &(*at)->next;
	if (*at)
		*at = p->next;
	lock_drop(&list_lock);
	unref(p);
}

struct mote_partitions *partition_open(const char *name, unsigned int count)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	size_t length = strlen(name) + 1, size = sizeof(struct mote_partitions) + count * sizeof(struct entry);
	struct mote_partitions *p = aligned_alloc(64, (size + length + 63) & ~(size_t)63);

	if (!p)
		return NULL;
	memset(p, 0, size);
	p->name = memcpy((char *)p + size, name, length);
	p->max = count;
	p->supervisor = mote_self();
	atomic_store_explicit(&p->refs, 1, memory_order_relaxed);
	atomic_store_explicit(&p->count, count, memory_order_relaxed);
	if (mote_defer(partition_close, p)) {
		free(p);
		return NULL;
	}
	pthread_once(&once, list_init);
	lock_take(&list_lock);
	p->next = list;
	list = p;
	lock_drop(&list_lock);
	return p;
}

static int add_partition(struct supervisor *sup, const struct mote_child_spec *child, unsigned int number)
{
	struct mote_child_spec spec = *child;
	struct spec *copy;
	struct child *c;
	char id[16];

	snprintf(id, sizeof(id), "%u", number);
	spec.id = id;
	copy = spec_new(&spec, NULL, 0);
	c = copy ? children_add(&sup->children, copy) : NULL;
	if (!c)
		return -ENOMEM;
	c->number = number;
	return 0;
}

int partition_init(struct supervisor *sup, const struct supervisor_boot *boot, const struct mote_child_spec *child)
{
	int err = 0;

	sup->children.partitions = partition_open(sup->children.name, boot->partitions);
	if (!sup->children.partitions)
		return -ENOMEM;
	sup->children.with_arg = boot->with_arg;
	for (unsigned int i = 0; i < boot->partitions && !err; i++)
		err = add_partition(sup, child, i);
	return err;
}

int partition_resize(struct supervisor *sup, uint32_t count)
{
	struct mote_partitions *p = sup->children.partitions;
	struct child *c;
	mote_pid pid;
	int err;

	if (count < 1 || count > p->max)
		return -EINVAL;
	/* Nobody is sent to those that are about to end. */
	if (count < atomic_load_explicit(&p->count, memory_order_relaxed))
		partition_set_count(p, count);
	for (c = sup->children.last; c && c->number >= count; c = c->prev) {
		c->off = true;
		child_stop(&sup->children, c);
	}
	for (c = sup->children.first; c && c->number < count; c = c->next) {
		if (!c->off)
			continue;
		err = supervisor_start_again(sup, c, &pid);
		if (err < 0)
			return err;
		c->off = false;
		partition_set_count(p, c->number + 1);
	}
	return 0;
}

/* --- by others --- */

static int partition_start(const struct mote_partition_opts *opts, bool link, mote_pid *pid)
{
	struct mote_runtime_info info = { .size = sizeof(info) };
	struct mote_partition_opts known;
	int err = opts ? opts_copy(&known, sizeof(known), opts) : -EINVAL;

	if (err)
		return err;
	if (!known.name || !name_valid(known.name) || !known.child || known.child->name ||
	    (known.child->opts && (known.child->opts->name || known.child->opts->via)))
		return -EINVAL;
	if (known.child->restart == MOTE_TEMPORARY)
		return -EINVAL;
	if (!known.partitions) {
		mote_runtime_info(&info);
		known.partitions = info.schedulers;
	}
	return supervisor_start(&(struct supervisor_boot){
		.kind = SUPERVISOR_PARTITION,
		.opts = {
			.name = known.name, .strategy = known.strategy, .max_restarts = known.max_restarts,
			.max_seconds = known.max_seconds, .backoff = known.backoff,
			.children = known.child, .nr_children = 1,
		},
		.partitions = known.partitions, .with_arg = known.with_arg,
	}, link, pid);
}

int mote_partition_start(const struct mote_partition_opts *opts, mote_pid *pid)
{
	return partition_start(opts, false, pid);
}

int mote_partition_start_link(const struct mote_partition_opts *opts, mote_pid *pid)
{
	return partition_start(opts, true, pid);
}

static void put_at_exit(void *arg)
{
	unref(arg);
}

struct mote_partitions *mote_partitions_get(const char *name)
{
	struct mote_partitions *p;

	lock_take(&list_lock);
	for (p = list; p && strcmp(p->name, name); p = p->next)
		;
	/* relaxed: whoever hands out a reference has one, here the list's */
	if (p)
		atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
	lock_drop(&list_lock);
	if (!p) {
		struct scheduler *s = runtime_try_enter();

		caller_fail(s, -ESRCH);
		runtime_try_leave();
		return NULL;
	}
	if (mote_in_process() && mote_defer(put_at_exit, p)) {
		unref(p);
		return NULL;
	}
	return p;
}

void mote_partitions_put(struct mote_partitions *p)
{
	if (!p)
		return;
	/* First: a kill may act when the cleanup is withdrawn, not before. */
	unref(p);
	if (mote_in_process())
		mote_undefer(put_at_exit, p);
}

unsigned int mote_partition_count(const struct mote_partitions *p)
{
	/* acquire: pairs with partition_set_count() */
	return atomic_load_explicit(&p->count, memory_order_acquire);
}

mote_pid mote_partition_at(const struct mote_partitions *p, uint64_t key)
{
	return entry_read(&p->entries[key % mote_partition_count(p)]);
}

mote_pid mote_partition_of(const struct mote_partitions *p, const void *key, size_t size)
{
	const unsigned char *at = key;
	uint64_t hash = 0xcbf29ce484222325ull;	/* FNV-1a */

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ at[i]) * 0x100000001b3ull;
	return mote_partition_at(p, hash ^ hash >> 32);
}

int mote_partition_resize(mote_pid supervisor, unsigned int partitions, mote_deadline deadline)
{
	uint32_t count = partitions;

	return supervisor_ask(supervisor, SUPERVISOR_RESIZE, &count, sizeof(count), NULL, NULL, deadline);
}
