// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The children of a supervisor: a list in the order of start, and two tables, by id and by pid. A table that cannot
 * grow makes the chains longer, and nothing fail.
 */
#include "otp/child.h"
#include "otp/partition.h"

#include <mote/process.h>

#include <string.h>

static uint32_t hash_key(mote_pid key)
{
	return (uint32_t)((key.serial * 0x9e3779b97f4a7c15ull + key.slot + key.node) * 0x9e3779b97f4a7c15ull >> 32);
}

static uint32_t hash_id(const char *id)
{
	uint64_t hash = 0xcbf29ce484222325ull;	/* FNV-1a */

	while (*id)
		hash = (hash ^ (unsigned char)*id++) * 0x100000001b3ull;
	return (uint32_t)(hash ^ hash >> 32);
}

static struct child **link_of(const struct table *t, const struct table *by_key, struct child *c)
{
	return t == by_key ? &c->key_next : &c->id_next;
}

static uint32_t hash_of(const struct table *t, const struct table *by_key, const struct child *c)
{
	return t == by_key ? hash_key(c->key) : hash_id(c->spec->child.id);
}

static void table_grow(struct children *all, struct table *t)
{
	uint32_t n = t->chains ? 2 * (t->mask + 1) : 16;
	struct table larger = { .mask = n - 1, .used = t->used };

	larger.chains = mote_zalloc(n * sizeof(*larger.chains));
	if (!larger.chains)
		return;
	for (uint32_t i = 0; t->chains && i <= t->mask; i++) {
		struct child *c = t->chains[i];

		while (c) {
			struct child **at = link_of(t, &all->by_key, c), *next = *at;
			struct child **to = &larger.chains[hash_of(t, &all->by_key, c) & larger.mask];

			*at = *to;
			*to = c;
			c = next;
		}
	}
	mote_free(t->chains);
	*t = larger;
}

/* False: there is not even a first table. */
static bool table_ready(struct children *all, struct table *t)
{
	if (!t->chains || t->used > t->mask)
		table_grow(all, t);
	return t->chains != NULL;
}

static void table_insert(struct children *all, struct table *t, struct child *c)
{
	struct child **to;

	table_ready(all, t);
	to = &t->chains[hash_of(t, &all->by_key, c) & t->mask];
	*link_of(t, &all->by_key, c) = *to;
	*to = c;
	t->used++;
}

static void table_remove(struct children *all, struct table *t, struct child *c)
{
	struct child **at = &t->chains[hash_of(t, &all->by_key, c) & t->mask];

	while (*at != c)
		at = link_of(t, &all->by_key, *at);
	*at = *link_of(t, &all->by_key, c);
	t->used--;
}

static bool has_id(const struct children *all, const struct child *c)
{
	return !all->anonymous && c->spec->child.id;
}

struct child *children_add(struct children *all, struct spec *spec)
{
	struct child *c = mote_zalloc(sizeof(*c));

	if (!c || !table_ready(all, &all->by_key) || !table_ready(all, &all->by_id)) {
		spec_put(spec);
		mote_free(c);
		return NULL;
	}
	c->spec = spec;
	c->prev = all->last;
	if (all->last)
		all->last->next = c;
	else
		all->first = c;
	all->last = c;
	all->count++;
	if (spec->child.type == MOTE_SUPERVISOR)
		all->supervisors++;
	if (has_id(all, c))
		table_insert(all, &all->by_id, c);
	return c;
}

void children_remove(struct children *all, struct child *c)
{
	child_set_stopped(all, c);
	if (has_id(all, c))
		table_remove(all, &all->by_id, c);
	if (c->prev)
		c->prev->next = c->next;
	else
		all->first = c->next;
	if (c->next)
		c->next->prev = c->prev;
	else
		all->last = c->prev;
	all->count--;
	if (c->spec->child.type == MOTE_SUPERVISOR)
		all->supervisors--;
	spec_put(c->spec);
	mote_free(c);
}

struct child *children_find_id(const struct children *all, const char *id)
{
	const struct table *t = &all->by_id;
	struct child *c = t->chains ? t->chains[hash_id(id) & t->mask] : NULL;

	while (c && strcmp(c->spec->child.id, id))
		c = c->id_next;
	return c;
}

struct child *children_find_key(const struct children *all, mote_pid key)
{
	const struct table *t = &all->by_key;
	struct child *c = t->chains ? t->chains[hash_key(key) & t->mask] : NULL;

	while (c && !mote_pid_equal(c->key, key))
		c = c->key_next;
	return c;
}

void child_set_stopped(struct children *all, struct child *c)
{
	if (c->state == CHILD_STOPPED)
		return;
	table_remove(all, &all->by_key, c);
	if (c->state == CHILD_RUNNING)
		all->running--;
	c->state = CHILD_STOPPED;
	c->waited = false;
}

void child_set_running(struct children *all, struct child *c, mote_pid pid)
{
	child_set_stopped(all, c);
	c->key = pid;
	c->state = CHILD_RUNNING;
	all->running++;
	table_insert(all, &all->by_key, c);
	if (all->partitions)
		partition_show(all->partitions, c->number, pid);
}

void child_set_restarting(struct children *all, struct child *c)
{
	mote_pid key = { ++all->keys, UINT32_MAX, 0 };

	/* Whoever knows a child by its pid may say that while it is down. */
	if (c->state != CHILD_STOPPED)
		key = c->key;
	child_set_stopped(all, c);
	c->key = key;
	c->state = CHILD_RESTARTING;
	table_insert(all, &all->by_key, c);
}
