/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A shard's keys: a chained hash table that grows a little with every command, so that none pays for it all,
 * and a heap of those that expire.
 */
#include "shard.h"

#define EXPIRE_BATCH	1000

/* Where an entry of that hash belongs. Only what is behind s->moved is still in the old table. */
static struct entry **bucket_of(struct shard *s, uint64_t hash)
{
	struct table *t = &s->tables[0];

	if (s->tables[1].size && (hash & (t->size - 1)) < s->moved)
		t = &s->tables[1];
	return &t->buckets[hash & (t->size - 1)];
}

void shard_prefetch(struct shard *s, uint64_t hash, bool entry)
{
	struct entry **bucket = s->tables[0].size ? bucket_of(s, hash) : NULL;

	if (bucket)
		__builtin_prefetch(entry ? (void *)*bucket : (void *)bucket);
}

static struct table table_new(uint64_t size)
{
	struct entry **buckets = mote_zalloc(size * sizeof(*buckets));

	if (!buckets)
		mote_exit(mote_reason_error(ENOMEM, "no memory for a table"));
	return (struct table){ buckets, size };
}

static void hang(struct entry **bucket, struct entry *e)
{
	e->next = *bucket;
	*bucket = e;
}

/* Moves a bucket or two, some more if they are empty. */
static void move(struct shard *s)
{
	struct table *old = &s->tables[0], *new = &s->tables[1];

	for (int n = 0, steps = 0; n < 2 && steps < 20 && s->moved < old->size; s->moved++, steps++) {
		struct entry **bucket = &old->buckets[s->moved], *e;

		n += *bucket != NULL;
		while ((e = *bucket)) {
			*bucket = e->next;
			hang(&new->buckets[e->hash & (new->size - 1)], e);
		}
	}
	if (s->moved == old->size) {
		mote_free(old->buckets);
		*old = *new;
		*new = (struct table){ 0 };
	}
}

struct entry *shard_insert(struct shard *s, const struct arg *key, uint32_t len)
{
	struct entry *e;

	if (!s->tables[0].size) {
		s->tables[0] = table_new(16);
	} else if (!s->tables[1].size && s->keys >= s->tables[0].size) {
		s->tables[1] = table_new(s->tables[0].size * 2);
		s->moved = 0;
	}
	e = kv_realloc(NULL, sizeof(*e) + key->len + len);
	*e = (struct entry){ .hash = s->hash, .epoch = s->epoch, .klen = key->len, .vlen = len, .room = len };
	memcpy(e->key, key->p, key->len);
	hang(bucket_of(s, e->hash), e);
	s->keys++;
	return e;
}

struct entry *shard_resize(struct shard *s, struct entry *e, uint32_t len, uint32_t room)
{
	if (e->room < len || (e->room > 256 && e->room / 4 > room)) {
		e = kv_realloc(e, sizeof(*e) + e->klen + room);
		e->room = room;
		*s->link = e;
		if (e->heap)
			s->heap[e->heap].e = e;
	}
	e->vlen = len;
	return e;
}

static void heap_put(struct shard *s, uint32_t i, struct due due)
{
	for (; i > 1 && s->heap[i / 2].when > due.when; i /= 2) {
		s->heap[i] = s->heap[i / 2];
		s->heap[i].e->heap = i;
	}
	for (uint32_t k; (k = 2 * i) <= s->nheap; i = k) {
		if (k < s->nheap && s->heap[k + 1].when < s->heap[k].when)
			k++;
		if (s->heap[k].when >= due.when)
			break;
		s->heap[i] = s->heap[k];
		s->heap[i].e->heap = i;
	}
	s->heap[i] = due;
	due.e->heap = i;
}

static void arm(struct shard *s)
{
	int64_t in;

	if (!s->nheap || s->loading || (s->timer_at && s->timer_at <= s->heap[1].when + 1))
		return;
	if (s->timer_at)
		mote_timer_cancel(s->timer, NULL);
	/* Not further ahead, because somebody may set the clock. */
	in = s->heap[1].when + 1 - shard_now(s);
	in = in > 1000 ? 1000 : in < 1 ? 1 : in;
	s->timer_at = shard_now(s) + in;
	s->timer = mote_send_after(mote_in_ms(in), mote_self(), KV_EXPIRE, NULL, 0);
}

void shard_expire(struct shard *s, struct entry *e, int64_t when)
{
	uint32_t i = e->heap;

	e->expires = when;
	if (when) {
		i = i ? i : ++s->nheap;
		if (i >= s->heap_room) {
			s->heap_room = s->heap_room * 2 + 64;
			s->heap = kv_realloc(s->heap, s->heap_room * sizeof(*s->heap));
		}
		heap_put(s, i, (struct due){ when, e });
		arm(s);
	} else if (i) {
		struct due last = s->heap[s->nheap--];

		e->heap = 0;
		if (last.e != e)
			heap_put(s, i, last);
	}
}

void shard_delete(struct shard *s, struct entry *e)
{
	*s->link = e->next;
	shard_expire(s, e, 0);
	mote_free(e);
	s->keys--;
}

struct entry *shard_find(struct shard *s, const struct arg *key)
{
	struct entry *e;

	if (!s->keys)
		return NULL;
	if (s->tables[1].size)
		move(s);
	for (s->link = bucket_of(s, s->hash); (e = *s->link); s->link = &e->next)
		if (e->hash == s->hash && e->klen == key->len && !memcmp(e->key, key->p, key->len))
			break;
	if (!e || !e->expires || s->loading || shard_now(s) <= e->expires)
		return e;
	/* Its end can't be logged while the file can't be written: hidden is enough. */
	if (!kv.write_error) {
		SHARD_LOG(s, ARG("DEL"), { e->key, e->klen });
		shard_delete(s, e);
	}
	return NULL;
}

struct entry *shard_find_to_write(struct shard *s, const struct arg *key)
{
	struct entry *e = shard_find(s, key);

	if (e && s->snapshot && e->epoch != s->epoch) {
		shard_save(&s->before, e);
		e->epoch = s->epoch;
	}
	return e;
}

void shard_expire_due(struct shard *s)
{
	s->timer_at = 0;
	for (int n = 0; s->nheap && s->heap[1].when < shard_now(s) && !kv.write_error; n++) {
		struct entry *e = s->heap[1].e;

		if (n == EXPIRE_BATCH) {
			mote_send(mote_self(), KV_EXPIRE, NULL, 0);
			return;
		}
		s->hash = e->hash;
		shard_find(s, &(struct arg){ e->key, e->klen });
	}
	arm(s);
}

void shard_clear(struct shard *s)
{
	for (int t = 0; t < 2; t++) {
		for (uint64_t i = 0; i < s->tables[t].size; i++) {
			for (struct entry *e = s->tables[t].buckets[i], *next; e; e = next) {
				next = e->next;
				mote_free(e);
			}
		}
		mote_free(s->tables[t].buckets);
		s->tables[t] = (struct table){ 0 };
	}
	s->keys = s->nheap = 0;
}

static uint64_t reverse(uint64_t v)
{
	v = (v >> 1 & 0x5555555555555555) | (v & 0x5555555555555555) << 1;
	v = (v >> 2 & 0x3333333333333333) | (v & 0x3333333333333333) << 2;
	v = (v >> 4 & 0x0f0f0f0f0f0f0f0f) | (v & 0x0f0f0f0f0f0f0f0f) << 4;
	return __builtin_bswap64(v);
}

/* Counts from the high bit down: the buckets that one bucket is split into, when the table grows, come one after the
 * other, so that a cursor means the same before and after. */
static uint64_t cursor_next(uint64_t cursor, uint64_t mask)
{
	return reverse(reverse(cursor | ~mask) + 1);
}

static void visit_bucket(struct shard *s, struct table *t, uint64_t cursor, shard_visit visit, void *arg)
{
	for (struct entry *e = t->buckets[cursor & (t->size - 1)]; e; e = e->next)
		visit(s, e, arg);
}

uint64_t shard_scan(struct shard *s, uint64_t cursor, shard_visit visit, void *arg)
{
	struct table *small = &s->tables[0], *large = &s->tables[1];

	if (!small->size)
		return 0;
	visit_bucket(s, small, cursor, visit, arg);
	if (!large->size)
		return cursor_next(cursor, small->size - 1);
	do {
		visit_bucket(s, large, cursor, visit, arg);
		cursor = cursor_next(cursor, large->size - 1);
	} while (cursor & ((small->size - 1) ^ (large->size - 1)));
	return cursor;
}
