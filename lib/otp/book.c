// SPDX-License-Identifier: MIT OR GPL-2.0
#include "otp/book.h"

#include <errno.h>
#include <stdlib.h>

#define LEAST_CELLS	8

struct book_key book_gone;

static void entry_free(struct garbage *g)
{
	free(container_of(g, struct book_entry, garbage));
}

static void key_free(struct garbage *g)
{
	free(container_of(g, struct book_key, garbage));
}

static void table_free(struct garbage *g)
{
	free(container_of(g, struct book_table, garbage));
}

struct book_entry *book_entry(mote_pid pid, const void *value, size_t size)
{
	struct book_entry *e = malloc(sizeof(*e) + size);

	if (!e)
		return NULL;
	memset(e, 0, sizeof(*e));
	e->pid = pid;
	e->value_size = (uint32_t)size;
	if (size)
		memcpy(e->value, value, size);
	return e;
}

static void entry_retire(struct book_entry *e)
{
	epoch_retire(&e->garbage, entry_free, sizeof(*e) + e->value_size);
}

/* With the lock, as all below. The cell of that key, or the empty one where it would go. */
static _Atomic(struct book_key *) *cell_of(struct book_table *t, const struct book_key *key)
{
	for (uint64_t i = key->hash;; i++) {
		struct book_key *k = atomic_load_explicit(&t->cells[i & t->mask], memory_order_relaxed);

		if (!k || k == key)
			return &t->cells[i & t->mask];
	}
}

/*
 * Room for one more key: another table, where cells of keys that went are empty again. Readers of the old one miss
 * nothing that was there before. False: no memory.
 */
static bool table_reserve(struct book_shard *shard, struct book_table **old)
{
	struct book_table *t = atomic_load_explicit(&shard->table, memory_order_relaxed), *new;
	uint32_t cells = LEAST_CELLS;

	*old = NULL;
	if (t && t->used < (t->mask + 1) / 2)
		return true;
	while (cells < 4 * (shard->nr_keys + 1))
		cells *= 2;
	new = calloc(1, sizeof(*new) + cells * sizeof(new->cells[0]));
	if (!new)
		return false;
	new->mask = cells - 1;
	for (uint32_t i = 0; t && i <= t->mask; i++) {
		struct book_key *k = atomic_load_explicit(&t->cells[i], memory_order_relaxed);

		if (!k || k == &book_gone)
			continue;
		atomic_store_explicit(cell_of(new, k), k, memory_order_relaxed);
		new->used++;
	}
	/* release: pairs with book_find() */
	atomic_store_explicit(&shard->table, new, memory_order_release);
	*old = t;
	return true;
}

static struct book_key *key_new(const void *bytes, size_t size, uint64_t hash)
{
	struct book_key *k = malloc(sizeof(*k) + size);

	if (!k)
		return NULL;
	memset(k, 0, sizeof(*k));
	k->hash = hash;
	k->size = (uint32_t)size;
	if (size)
		memcpy(k->bytes, bytes, size);
	return k;
}

static void key_append(struct book_shard *shard, struct book_key *k, struct book_entry *e)
{
	e->key = k;
	e->prev = k->last;
	atomic_store_explicit(&e->next, NULL, memory_order_relaxed);
	/* release: pairs with book_first() and book_next() */
	atomic_store_explicit(k->last ? &k->last->next : &k->first, e, memory_order_release);
	k->last = e;
	counter_add(&shard->nr_entries, 1);
}

int book_add(struct book *b, const void *key, size_t size, bool unique, struct book_entry *e, mote_pid *holder)
{
	uint64_t hash = book_hash(key, size);
	struct book_shard *shard = book_shard(b, hash);
	struct book_table *old = NULL, *t;
	struct book_key *k;
	int err = -ENOMEM;

	lock_take(&shard->lock);
	k = book_find(b, key, size, hash);
	if (k) {
		err = 0;
		if (unique) {
			*holder = book_first(k)->pid;
			err = -EEXIST;
		}
	} else if (table_reserve(shard, &old) && (k = key_new(key, size, hash))) {
		err = 0;
	}
	if (!err) {
		bool first = !k->last;

		key_append(shard, k, e);
		if (first) {
			t = atomic_load_explicit(&shard->table, memory_order_relaxed);
			t->used++;
			shard->nr_keys++;
			/* release: pairs with book_find(). With its first entry in it: no reader finds it without. */
			atomic_store_explicit(cell_of(t, k), k, memory_order_release);
		}
	}
	lock_drop(&shard->lock);
	if (old)
		epoch_retire(&old->garbage, table_free, sizeof(*old) + (old->mask + 1) * sizeof(old->cells[0]));
	return err;
}

/* With the lock. The key, if that was its last entry. */
static struct book_key *entry_unlink(struct book_shard *shard, struct book_entry *e)
{
	struct book_entry *next = atomic_load_explicit(&e->next, memory_order_relaxed);
	struct book_key *k = e->key;
	struct book_table *t;

	/* release: a reader that comes by this way finds the next one whole. e itself still leads on who is at it. */
	atomic_store_explicit(e->prev ? &e->prev->next : &k->first, next, memory_order_release);
	if (next)
		next->prev = e->prev;
	else
		k->last = e->prev;
	atomic_store_explicit(&shard->nr_entries, atomic_load_explicit(&shard->nr_entries, memory_order_relaxed) - 1,
			      memory_order_relaxed);
	if (k->last)
		return NULL;
	t = atomic_load_explicit(&shard->table, memory_order_relaxed);
	/* relaxed: there is nothing in it to be seen */
	atomic_store_explicit(cell_of(t, k), &book_gone, memory_order_relaxed);
	shard->nr_keys--;
	return k;
}

void book_remove(struct book *b, struct book_entry *e)
{
	struct book_shard *shard = book_shard(b, e->key->hash);
	struct book_key *k;

	lock_take(&shard->lock);
	k = entry_unlink(shard, e);
	lock_drop(&shard->lock);
	if (k)
		epoch_retire(&k->garbage, key_free, sizeof(*k) + k->size);
	entry_retire(e);
}

/* With the lock. e->key is old's. */
static void entry_replace(struct book_entry *old, struct book_entry *e)
{
	struct book_entry *next = atomic_load_explicit(&old->next, memory_order_relaxed);
	struct book_key *k = old->key;

	e->prev = old->prev;
	atomic_store_explicit(&e->next, next, memory_order_relaxed);
	if (next)
		next->prev = e;
	else
		k->last = e;
	/* release: as in key_append() */
	atomic_store_explicit(e->prev ? &e->prev->next : &k->first, e, memory_order_release);
}

void book_replace(struct book *b, struct book_entry *old, struct book_entry *e)
{
	struct book_shard *shard = book_shard(b, old->key->hash);

	lock_take(&shard->lock);
	entry_replace(old, e);
	lock_drop(&shard->lock);
	entry_retire(old);
}

int book_put(struct book *b, const void *key, size_t size, struct book_entry *e)
{
	uint64_t hash = book_hash(key, size);
	struct book_shard *shard = book_shard(b, hash);
	struct book_entry *old = NULL;
	struct book_key *k;
	mote_pid holder;
	int err;

	do {
		lock_take(&shard->lock);
		k = book_find(b, key, size, hash);
		if (k) {
			old = book_first(k);
			e->key = k;
			entry_replace(old, e);
		}
		lock_drop(&shard->lock);
		if (old) {
			entry_retire(old);
			return 0;
		}
		err = book_add(b, key, size, true, e, &holder);
	} while (err == -EEXIST);
	return err;
}

bool book_delete(struct book *b, const void *key, size_t size)
{
	uint64_t hash = book_hash(key, size);
	struct book_shard *shard = book_shard(b, hash);
	struct book_entry *e = NULL;
	struct book_key *k;

	lock_take(&shard->lock);
	k = book_find(b, key, size, hash);
	if (k) {
		e = book_first(k);
		entry_unlink(shard, e);
	}
	lock_drop(&shard->lock);
	if (!e)
		return false;
	epoch_retire(&k->garbage, key_free, sizeof(*k) + k->size);
	entry_retire(e);
	return true;
}

uint64_t book_count(struct book *b)
{
	uint64_t n = 0;

	for (int i = 0; i < BOOK_SHARDS; i++)
		n += atomic_load_explicit(&b->shards[i].nr_entries, memory_order_relaxed);
	return n;
}

void book_end(struct book *b)
{
	for (int i = 0; i < BOOK_SHARDS; i++) {
		struct book_table *t = atomic_load_explicit(&b->shards[i].table, memory_order_relaxed);

		for (uint32_t c = 0; t && c <= t->mask; c++) {
			struct book_key *k = atomic_load_explicit(&t->cells[c], memory_order_relaxed);
			struct book_entry *e, *next;

			if (!k || k == &book_gone)
				continue;
			for (e = book_first(k); e; e = next) {
				next = book_next(e);
				free(e);
			}
			free(k);
		}
		free(t);
	}
}
