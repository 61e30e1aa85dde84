// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Names. Two indexes over the same entries: by name, for whereis; by pid, for the end of a process. Writers take the
 * lock of the pid index first, then that of the name's shard; readers only the latter.
 */
#include "core/process.h"

#include <mote/name.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS		64
#define NAME_MAX_BYTES	255

struct name {
	struct name *next;		/* in its bucket */
	struct name *sibling;		/* in its bucket of the pid index */
	mote_pid pid;
	uint64_t hash;
	char text[];
};

struct names {
	struct lock lock;
	uint32_t used, max;		/* buckets: a power of two, or 0 */
	struct name **buckets;
} __attribute__((aligned(CACHE_LINE)));

static struct names shards[SHARDS];
static struct names by_pid;

bool name_valid(const char *name)
{
	size_t length = strnlen(name, NAME_MAX_BYTES + 1);

	return length > 0 && length <= NAME_MAX_BYTES;
}

static uint64_t name_hash(const char *name)
{
	uint64_t hash = 0xcbf29ce484222325ull;	/* FNV-1a */

	while (*name)
		hash = (hash ^ (unsigned char)*name++) * 0x100000001b3ull;
	return hash ^ hash >> 32;
}

static struct names *shard_of(uint64_t hash)
{
	return &shards[hash % SHARDS];
}

static bool names_reserve(struct names *names, bool pid_index)
{
	uint32_t max = names->max ? 2 * names->max : 16;
	struct name **buckets, *n, *next;

	if (names->used < names->max)
		return true;
	buckets = calloc(max, sizeof(*buckets));
	if (!buckets)
		return false;
	for (uint32_t i = 0; i < names->max; i++) {
		for (n = names->buckets[i]; n; n = next) {
			struct name **to = pid_index ? &buckets[n->pid.slot & (max - 1)] :
						       &buckets[n->hash / SHARDS & (max - 1)];

			next = pid_index ? n->sibling : n->next;
			*(pid_index ? &n->sibling : &n->next) = *to;
			*to = n;
		}
	}
	free(names->buckets);
	names->buckets = buckets;
	names->max = max;
	return true;
}

/* With the shard's lock held. Where the name is, or would be. */
static struct name **name_find(struct names *shard, const char *text, uint64_t hash)
{
	struct name **at;

	if (!shard->max)
		return NULL;
	at = &shard->buckets[hash / SHARDS & (shard->max - 1)];
	while (*at && ((*at)->hash != hash || strcmp((*at)->text, text)))
		at = &(*at)->next;
	return at;
}

int name_add(const char *text, mote_pid pid)
{
	size_t size = strlen(text) + 1;
	uint64_t hash = name_hash(text);
	struct names *shard = shard_of(hash);
	struct process *p = process_lookup(pid);
	struct name *n, **at;
	int err = 0;

	if (!p)
		return -ESRCH;
	n = malloc(sizeof(*n) + size);
	if (!n)
		return -ENOMEM;
	n->pid = pid;
	n->hash = hash;
	memcpy(n->text, text, size);

	lock_take(&by_pid.lock);
	lock_take(&shard->lock);
	at = name_find(shard, text, hash);
	if (at && *at) {
		err = -EEXIST;
		goto out;
	}
	/*
	 * seq_cst, against process_exit(): either this sees `exiting`, or the exit sees `named` and comes to take the
	 * name away, for which it needs the lock that is held here. The serial is looked at last: if it is still the
	 * same, what was read before was this tenant's (process_init() opens the inbox after it has set the serial).
	 */
	atomic_store(&p->named, true);
	if (atomic_load(&p->exiting) || process_dead(p) || process_serial(p) != pid.serial) {
		err = -ESRCH;
		goto out;
	}
	if (!names_reserve(shard, false) || !names_reserve(&by_pid, true)) {
		err = -ENOMEM;
		goto out;
	}
	at = &shard->buckets[hash / SHARDS & (shard->max - 1)];
	n->next = *at;
	*at = n;
	shard->used++;
	at = &by_pid.buckets[pid.slot & (by_pid.max - 1)];
	n->sibling = *at;
	*at = n;
	by_pid.used++;
out:
	lock_drop(&shard->lock);
	lock_drop(&by_pid.lock);
	if (err)
		free(n);
	return err;
}

/* With the pid index's lock held, and out of that index already. */
static void name_remove(struct name *n)
{
	struct names *shard = shard_of(n->hash);

	lock_take(&shard->lock);
	*name_find(shard, n->text, n->hash) = n->next;
	shard->used--;
	lock_drop(&shard->lock);
	free(n);
}

void names_end(struct process *p)
{
	mote_pid pid = process_pid(p);
	struct name **at, *n;

	lock_take(&by_pid.lock);
	at = by_pid.max ? &by_pid.buckets[pid.slot & (by_pid.max - 1)] : NULL;
	while (at && (n = *at)) {
		if (!mote_pid_equal(n->pid, pid)) {
			at = &n->sibling;
			continue;
		}
		*at = n->sibling;
		by_pid.used--;
		name_remove(n);
	}
	lock_drop(&by_pid.lock);
}

void names_stop(void)
{
	for (int i = 0; i < SHARDS; i++) {
		for (uint32_t b = 0; b < shards[i].max; b++) {
			struct name *n, *next;

			for (n = shards[i].buckets[b]; n; n = next) {
				next = n->next;
				free(n);
			}
		}
		free(shards[i].buckets);
	}
	free(by_pid.buckets);
	names_forget();
}

void names_forget(void)
{
	memset(shards, 0, sizeof(shards));
	memset(&by_pid, 0, sizeof(by_pid));
}

int mote_register(const char *name, mote_pid pid)
{
	struct scheduler *s = runtime_try_enter();
	int err = -EINVAL;

	if (name && name_valid(name))
		err = name_add(name, pid);
	if (s)
		process_leave(s);
	return err;
}

int mote_unregister(const char *name)
{
	struct scheduler *s = runtime_try_enter();
	uint64_t hash = name_hash(name);
	struct names *shard = shard_of(hash);
	struct name *n, **at;

	lock_take(&by_pid.lock);
	lock_take(&shard->lock);
	at = name_find(shard, name, hash);
	n = at ? *at : NULL;
	lock_drop(&shard->lock);
	if (n) {
		/* Nobody else removes it: that takes the lock of the pid index. */
		at = &by_pid.buckets[n->pid.slot & (by_pid.max - 1)];
		while (*at != n)
			at = &(*at)->sibling;
		*at = n->sibling;
		by_pid.used--;
		name_remove(n);
	}
	lock_drop(&by_pid.lock);
	if (s)
		process_leave(s);
	return n ? 0 : -ENOENT;
}

mote_pid name_whereis(const char *name)
{
	uint64_t hash = name_hash(name);
	struct names *shard = shard_of(hash);
	mote_pid pid = MOTE_NOBODY;
	struct name **at;

	lock_take(&shard->lock);
	at = name_find(shard, name, hash);
	if (at && *at)
		pid = (*at)->pid;
	lock_drop(&shard->lock);
	return pid;
}

mote_pid mote_whereis(const char *name)
{
	struct scheduler *s = runtime_try_enter();
	mote_pid pid = name_whereis(name);

	if (s)
		runtime_leave_on(s);
	return pid;
}

void mote_name_each(bool (*visit)(const char *name, mote_pid pid, void *arg), void *arg)
{
	struct scheduler *s = runtime_try_enter();

	/* A shard is locked: what visit() calls must neither switch nor leave the runtime. */
	runtime_veil();
	names_each(visit, arg);
	runtime_unveil(s);
	if (s)
		runtime_leave_on(s);
}

void names_each(bool (*visit)(const char *name, mote_pid pid, void *arg), void *arg)
{
	bool go_on = true;

	for (int i = 0; i < SHARDS && go_on; i++) {
		lock_take(&shards[i].lock);
		for (uint32_t b = 0; b < shards[i].max && go_on; b++) {
			for (struct name *n = shards[i].buckets[b]; n && go_on; n = n->next)
				go_on = visit(n->text, n->pid, arg);
		}
		lock_drop(&shards[i].lock);
	}
}
