/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/book.h: keys (bytes) and what is entered under them, by whom. One or many entries per key, in the order in which
 * they were made. Reading takes no lock (otp/epoch.h); changing takes that of a shard of the keys.
 *
 * An entry is its maker's: he adds, removes and keeps track of it (the members named mine are his). The book frees it,
 * some time after it was removed.
 */
#ifndef OTP_BOOK_H
#define OTP_BOOK_H

#include "otp/epoch.h"

#include <string.h>

#define BOOK_SHARDS	16

struct book_key;

struct book_entry {
	_Atomic(struct book_entry *) next;	/* of the same key */
	struct book_entry *prev;		/* likewise; of those who hold the lock */
	struct book_key *key;
	struct book_entry *mine_next, *mine_prev;
	uint64_t mine_id;
	struct garbage garbage;
	mote_pid pid;
	uint32_t value_size;
	char value[];
};

struct book_key {
	uint64_t hash;
	_Atomic(struct book_entry *) first;
	struct book_entry *last;		/* of those who hold the lock */
	struct garbage garbage;
	uint32_t size;
	char bytes[];
};

/* Open addressing: what is read is a cell and then the key. */
struct book_table {
	uint32_t mask;
	uint32_t used;				/* cells that were ever filled; at most half */
	struct garbage garbage;
	_Atomic(struct book_key *) cells[];
};

struct book_shard {
	struct lock lock;
	uint32_t nr_keys;
	_Atomic(struct book_table *) table;	/* NULL: nothing was ever entered */
	_Atomic uint64_t nr_entries;
} __attribute__((aligned(CACHE_LINE)));

/* All zero is an empty one. */
struct book {
	struct book_shard shards[BOOK_SHARDS];
};

extern struct book_key book_gone __attribute__((visibility("hidden")));	/* in a cell whose key went */

static inline uint64_t book_hash(const void *bytes, size_t size)
{
	const unsigned char *at = bytes;
	uint64_t hash = size * 0x9e3779b97f4a7c15ull, word;

	for (; size >= 8; at += 8, size -= 8) {
		memcpy(&word, at, 8);
		hash = (hash ^ word) * 0xff51afd7ed558ccdull;
		hash ^= hash >> 32;
	}
	for (word = 0; size; size--)
		word = word << 8 | *at++;
	hash = (hash ^ word) * 0xc4ceb9fe1a85ec53ull;
	return hash ^ hash >> 29;
}

static inline struct book_shard *book_shard(struct book *b, uint64_t hash)
{
	return &b->shards[hash >> 60];
}

_Static_assert(BOOK_SHARDS == 1 << 4, "by the upper four bits of the hash");

/* Inside of a section, or with the shard's lock. NULL: nothing is entered under it. Entries may go meanwhile. */
static inline struct book_key *book_find(struct book *b, const void *key, size_t size, uint64_t hash)
{
	/* acquire: pairs with table_grow() */
	struct book_table *t = atomic_load_explicit(&book_shard(b, hash)->table, memory_order_acquire);
	struct book_key *k;

	if (!t)
		return NULL;
	for (uint64_t i = hash;; i++) {
		/* acquire: pairs with key_add(): the key is whole */
		k = atomic_load_explicit(&t->cells[i & t->mask], memory_order_acquire);
		if (!k || (k->hash == hash && k->size == size && k != &book_gone && !memcmp(k->bytes, key, size)))
			return k;
	}
}

/* Its entries, the same. Whoever reads sees each that is there all the while, once. */
static inline struct book_entry *book_first(const struct book_key *k)
{
	/* acquire: pairs with the adding: the entry is whole */
	return k ? atomic_load_explicit(&k->first, memory_order_acquire) : NULL;
}

static inline struct book_entry *book_next(const struct book_entry *e)
{
	return atomic_load_explicit(&e->next, memory_order_acquire);
}

/*
 * Outside of a section, inside of the runtime. book_entry() makes an entry of no book; NULL: -ENOMEM.
 * book_add() takes it: 0; -EEXIST, with the holder's pid (unique: there is an entry already), -ENOMEM: e is still the
 * caller's. book_replace() puts one, whose key the caller has
 * set to the other's, in its place. book_put(): one that is nobody's, in the place of what there is.
 */
struct book_entry *book_entry(mote_pid pid, const void *value, size_t size);
int book_add(struct book *b, const void *key, size_t size, bool unique, struct book_entry *e, mote_pid *holder);
void book_remove(struct book *b, struct book_entry *e);
void book_replace(struct book *b, struct book_entry *old, struct book_entry *e);
int book_put(struct book *b, const void *key, size_t size, struct book_entry *e);
bool book_delete(struct book *b, const void *key, size_t size);

uint64_t book_count(struct book *b);

/* When nobody reads it any more: frees all that is in it. */
void book_end(struct book *b);

#endif
