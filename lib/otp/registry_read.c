// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Looking. The short calls copy what they return inside of a section. Those that call back copy all that they will show
 * first, and hold nothing when they do: the callback may wait, crash, and change what it was shown.
 */
#include "otp/registry.h"

#include <errno.h>
#include <stdlib.h>

mote_pid mote_registry_whereis(struct mote_registry *r, const void *key, size_t key_size)
{
	mote_pid pid = MOTE_NOBODY;

	if (mote_registry_lookup(r, key, key_size, &pid, 1) != 1)
		return MOTE_NOBODY;
	return pid;
}

int64_t mote_registry_lookup(struct mote_registry *r, const void *key, size_t key_size, mote_pid *pids, size_t max)
{
	struct scheduler *s;
	struct book_entry *e;
	struct ledger *l;
	uint64_t hash;
	size_t n = 0;

	if (unlikely(!r))
		return -EINVAL;
	hash = book_hash(key, key_size);
	s = runtime_try_enter();
	epoch_enter(s);
	l = ledger_look(r);
	if (likely(l)) {
		for (e = book_first(book_find(&l->entries, key, key_size, hash)); e; e = book_next(e), n++) {
			if (n < max)
				pids[n] = e->pid;
		}
	}
	epoch_leave(s);
	if (s)
		runtime_leave_on(s);
	return l ? (int64_t)n : -ESRCH;
}

/* In a section. */
static int value_copy(const struct book_entry *e, mote_pid *pid, void *value, size_t *size)
{
	if (!e)
		return -ENOENT;
	if (pid)
		*pid = e->pid;
	if (size && *size && e->value_size)
		memcpy(value, e->value, *size < e->value_size ? *size : e->value_size);
	if (size)
		*size = e->value_size;
	return 0;
}

static int value_of(struct mote_registry *r, bool meta, const void *key, size_t key_size, mote_pid *pid, void *value,
		    size_t *size)
{
	struct scheduler *s;
	struct book_key *k;
	struct ledger *l;
	uint64_t hash;
	int err = -ESRCH;

	if (unlikely(!r))
		return -EINVAL;
	hash = book_hash(key, key_size);
	s = runtime_try_enter();
	epoch_enter(s);
	l = ledger_look(r);
	if (l) {
		k = book_find(meta ? &l->meta : &l->entries, key, key_size, hash);
		err = value_copy(book_first(k), pid, value, size);
	}
	epoch_leave(s);
	if (s)
		runtime_leave_on(s);
	return err;
}

int mote_registry_value(struct mote_registry *r, const void *key, size_t key_size, mote_pid *pid, void *value,
			size_t *value_size)
{
	return value_of(r, false, key, key_size, pid, value, value_size);
}

int mote_registry_meta(struct mote_registry *r, const void *key, size_t key_size, void *value, size_t *value_size)
{
	return value_of(r, true, key, key_size, NULL, value, value_size);
}

int mote_registry_put_meta(struct mote_registry *r, const void *key, size_t key_size, const void *value,
			   size_t value_size)
{
	struct scheduler *s = runtime_try_enter();
	struct book_entry *e;
	struct ledger *l;
	int err = -EINVAL;

	if (key_size > REGISTRY_BYTES_MAX || value_size > REGISTRY_BYTES_MAX) {
		err = -EMSGSIZE;
	} else if (r) {
		l = ledger_get(s, r);
		err = -ESRCH;
		if (l) {
			e = book_entry(MOTE_NOBODY, value, value_size);
			err = e ? book_put(&l->meta, key, key_size, e) : -ENOMEM;
			if (err)
				free(e);
			ledger_put(l);
		}
	}
	if (s)
		process_leave(s);
	return err;
}

int mote_registry_delete_meta(struct mote_registry *r, const void *key, size_t key_size)
{
	struct scheduler *s = runtime_try_enter();
	struct ledger *l = r ? ledger_get(s, r) : NULL;
	int err = r ? -ESRCH : -EINVAL;

	if (l) {
		err = book_delete(&l->meta, key, key_size) ? 0 : -ENOENT;
		ledger_put(l);
	}
	if (s)
		process_leave(s);
	return err;
}

int64_t mote_registry_count(struct mote_registry *r)
{
	struct scheduler *s = runtime_try_enter();
	struct ledger *l;
	int64_t n = -ESRCH;

	epoch_enter(s);
	l = r ? ledger_look(r) : NULL;
	if (l)
		n = (int64_t)book_count(&l->entries);
	epoch_leave(s);
	if (s)
		runtime_leave_on(s);
	return r ? n : -EINVAL;
}

static mote_pid via_whereis(const struct mote_via *via)
{
	return mote_registry_whereis(via->book, via->key, via->key_size);
}

static int via_register(const struct mote_via *via, mote_pid *holder)
{
	struct mote_registry *r = via->book;
	struct scheduler *s = runtime_enter("mote_registry_via");
	bool unique = true;
	struct ledger *l;

	epoch_enter(s);
	l = r ? ledger_look(r) : NULL;
	if (l)
		unique = ledger_unique(l);
	epoch_leave(s);
	process_leave(s);
	return unique ? mote_registry_register(r, via->key, via->key_size, NULL, 0, holder) : -EINVAL;
}

struct mote_via mote_registry_via(struct mote_registry *r, const void *key, size_t key_size)
{
	return (struct mote_via){ via_register, via_whereis, r, key, key_size };
}

/* --- copies */

/* Which entries: of a shard of all keys, under one key, of one process, or both. */
struct query {
	struct mote_registry *r;
	const void *key;
	size_t key_size;
	uint64_t hash;
	mote_pid pid;
	unsigned int shard;
	bool by_key, by_pid;
};

/* One block: the entries from its beginning, their bytes from its end: id, key, value, each aligned to 8. */
struct copy {
	struct mote_registry_entry *entries;
	size_t n, size;			/* the block's */
	size_t used, needed;
	bool unique, parts;		/* of the registry; its partitions are by pid */
	unsigned int partitions;
};

static size_t aligned(size_t size)
{
	return (size + 7) & ~(size_t)7;
}

static uint64_t entry_id(const struct mote_registry_entry *e)
{
	return ((const uint64_t *)e->key)[-1];
}

static void copy_add(struct copy *c, const struct book_entry *e)
{
	size_t bytes = sizeof(uint64_t) + aligned(e->key->size) + aligned(e->value_size);
	char *at;

	c->needed += sizeof(*c->entries) + bytes;
	if (c->needed > c->size)
		return;
	c->used += bytes;
	at = (char *)c->entries + c->size - c->used;
	memcpy(at, &e->mine_id, sizeof(e->mine_id));
	at += sizeof(e->mine_id);
	c->entries[c->n++] = (struct mote_registry_entry){
		e->pid, at, at + aligned(e->key->size), e->key->size, e->value_size };
	memcpy(at, e->key->bytes, e->key->size);
	memcpy(at + aligned(e->key->size), e->value, e->value_size);
}

static bool of_key(const struct query *q, const struct book_entry *e)
{
	return e->key->hash == q->hash && e->key->size == q->key_size && !memcmp(e->key->bytes, q->key, q->key_size);
}

static void copy_key(struct copy *c, const struct book_key *k)
{
	for (struct book_entry *e = book_first(k); e; e = book_next(e))
		copy_add(c, e);
}

static void copy_shard(struct copy *c, const struct query *q, struct ledger *l)
{
	/* acquire: as in book_find() */
	struct book_table *t = atomic_load_explicit(&l->entries.shards[q->shard].table, memory_order_acquire);

	for (uint32_t i = 0; t && i <= t->mask; i++) {
		struct book_key *k = atomic_load_explicit(&t->cells[i], memory_order_acquire);

		if (k && k != &book_gone)
			copy_key(c, k);
	}
}

static void copy_member(struct copy *c, const struct query *q, struct ledger *l)
{
	struct member_shard *shard = member_shard(l, q->pid);
	struct member *m;

	lock_take(&shard->lock);
	m = member_find(shard, q->pid);
	for (struct book_entry *e = m ? m->first : NULL; e; e = e->mine_next) {
		if (!q->by_key || of_key(q, e))
			copy_add(c, e);
	}
	lock_drop(&shard->lock);
}

static bool copy_once(struct copy *c, const struct query *q)
{
	struct scheduler *s = runtime_try_enter();
	struct ledger *l;

	c->n = c->used = c->needed = 0;
	epoch_enter(s);
	l = ledger_look(q->r);
	if (l) {
		c->unique = ledger_unique(l);
		c->parts = l->keys == MOTE_REGISTRY_DUPLICATE;
		c->partitions = l->partitions;
		if (q->by_pid)
			copy_member(c, q, l);
		else if (q->by_key)
			copy_key(c, book_find(&l->entries, q->key, q->key_size, q->hash));
		else
			copy_shard(c, q, l);
	}
	epoch_leave(s);
	if (s)
		process_leave(s);
	return l;
}

/* Of a process: its memory, so that a callback that does not return loses nothing. Of a foreign thread: malloc's. */
static void copy_free(struct copy *c)
{
	if (mote_in_process())
		mote_free(c->entries);
	else
		free(c->entries);
	c->entries = NULL;
	c->size = 0;
}

/* 0, -ESRCH, -ENOMEM: then there is nothing to be freed. c is all zero at first. */
static int copy_make(struct copy *c, const struct query *q)
{
	for (;;) {
		bool there = copy_once(c, q);
		size_t size = c->needed;

		if (there && size <= c->size)
			return 0;
		copy_free(c);
		if (!there)
			return -ESRCH;
		/* More may come before the next look. */
		size = aligned(size + size / 4);
		c->entries = mote_in_process() ? mote_alloc(size) : malloc(size);
		if (!c->entries)
			return -ENOMEM;
		c->size = size;
	}
}

/* --- calling back */

PROCESS_ENTRY static bool enter_fn(mote_registry_fn fn, const struct mote_registry_entry *e, void *arg)
{
	bool go_on = fn(e, arg);

	PROCESS_ENTRY_END();
	return go_on;
}

/* How many were shown, or for how many fn said true (count); *over: it said false, and is not to be asked again. */
static int64_t show(const struct query *q, mote_registry_fn fn, void *arg, bool count, bool *over)
{
	struct copy c = { 0 };
	int64_t n = 0;
	int err;

	if (!q->r)
		return -EINVAL;
	err = copy_make(&c, q);
	if (err)
		return err;
	for (size_t i = 0; i < c.n && !*over; i++) {
		bool yes = enter_fn(fn, &c.entries[i], arg);

		n += !count || yes;
		*over = !count && !yes;
	}
	copy_free(&c);
	return n;
}

static struct query query_key(struct mote_registry *r, const void *key, size_t key_size)
{
	return (struct query){
		.r = r, .key = key, .key_size = key_size, .hash = book_hash(key, key_size), .by_key = true };
}

static int64_t show_all(struct mote_registry *r, mote_registry_fn fn, void *arg, bool count)
{
	struct query q = { .r = r };
	bool over = false;
	int64_t n = 0, more;

	for (q.shard = 0; q.shard < BOOK_SHARDS && !over; q.shard++) {
		more = show(&q, fn, arg, count, &over);
		if (more < 0)
			return more;
		n += more;
	}
	return n;
}

int64_t mote_registry_match(struct mote_registry *r, const void *key, size_t key_size, mote_registry_fn fn, void *arg)
{
	struct query q = query_key(r, key, key_size);

	return show(&q, fn, arg, false, &(bool){ false });
}

int64_t mote_registry_select(struct mote_registry *r, mote_registry_fn fn, void *arg)
{
	return show_all(r, fn, arg, false);
}

int64_t mote_registry_keys(struct mote_registry *r, mote_pid pid, mote_registry_fn fn, void *arg)
{
	struct query q = { .r = r, .pid = pid, .by_pid = true };

	return show(&q, fn, arg, false, &(bool){ false });
}

int64_t mote_registry_values(struct mote_registry *r, const void *key, size_t key_size, mote_pid pid,
			     mote_registry_fn fn, void *arg)
{
	struct query q = query_key(r, key, key_size);

	q.pid = pid;
	q.by_pid = true;
	return show(&q, fn, arg, false, &(bool){ false });
}

int64_t mote_registry_count_match(struct mote_registry *r, const void *key, size_t key_size, mote_registry_fn fn,
				  void *arg)
{
	struct query q = query_key(r, key, key_size);

	return show(&q, fn, arg, true, &(bool){ false });
}

int64_t mote_registry_count_select(struct mote_registry *r, mote_registry_fn fn, void *arg)
{
	return show_all(r, fn, arg, true);
}

int64_t registry_choose(struct mote_registry *r, const void *key, size_t key_size, struct registry_choice *choice)
{
	struct query q = query_key(r, key, key_size);
	struct copy c = { 0 };
	int err;

	if (!r)
		return -EINVAL;
	q.pid = mote_self();
	q.by_pid = true;
	err = copy_make(&c, &q);
	if (!err && c.n) {
		choice->ids = mote_alloc(c.n * sizeof(*choice->ids));
		err = choice->ids ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < c.n && !err; i++) {
		if (enter_fn(choice->match, &c.entries[i], choice->arg))
			choice->ids[choice->n++] = entry_id(&c.entries[i]);
	}
	copy_free(&c);
	return err ? err : (int64_t)choice->n;
}

/* --- dispatch */

typedef mote_registry_dispatch_fn dispatch_fn;

/* To a process that does a part; the entries follow, with offsets for pointers, then their bytes. */
struct dispatch_part {
	dispatch_fn fn;
	void *arg;
	size_t n;
};

PROCESS_ENTRY static void enter_dispatch(dispatch_fn fn, const struct mote_registry_entry *entries, size_t n,
					 void *arg)
{
	fn(entries, n, arg);
	PROCESS_ENTRY_END();
}

static void dispatcher(void *arg)
{
	struct mote_registry_entry *entries;
	struct dispatch_part *part;
	struct mote_msg *m;

	(void)arg;
	do {
		m = mote_receive_type(REGISTRY_DISPATCH, MOTE_FOREVER);
	} while (!port_is_here(m->from.node));
	part = m->data;
	entries = (struct mote_registry_entry *)(part + 1);
	for (size_t i = 0; i < part->n; i++) {
		entries[i].key = (char *)m->data + (uintptr_t)entries[i].key;
		entries[i].value = (char *)m->data + (uintptr_t)entries[i].value;
	}
	enter_dispatch(part->fn, entries, part->n, part->arg);
}

static struct mote_msg *part_new(dispatch_fn fn, void *arg, const struct mote_registry_entry *entries, size_t n)
{
	size_t size = sizeof(struct dispatch_part) + n * sizeof(*entries), at = size;
	struct mote_registry_entry *copies;
	struct mote_msg *m;

	for (size_t i = 0; i < n; i++)
		size += aligned(entries[i].key_size) + aligned(entries[i].value_size);
	m = mote_msg_new(REGISTRY_DISPATCH, size);
	if (!m)
		return NULL;
	*(struct dispatch_part *)m->data = (struct dispatch_part){ fn, arg, n };
	copies = (struct mote_registry_entry *)((struct dispatch_part *)m->data + 1);
	for (size_t i = 0; i < n; i++) {
		copies[i] = entries[i];
		copies[i].key = (void *)(uintptr_t)at;
		memcpy((char *)m->data + at, entries[i].key, entries[i].key_size);
		at += aligned(entries[i].key_size);
		copies[i].value = (void *)(uintptr_t)at;
		memcpy((char *)m->data + at, entries[i].value, entries[i].value_size);
		at += aligned(entries[i].value_size);
	}
	return m;
}

static bool is_exit_of(const struct mote_msg *m, void *arg)
{
	const struct mote_exit_info *exit = mote_msg_exit(m);

	return exit && exit->reason.kind == MOTE_NORMAL && mote_pid_equal(exit->pid, *(mote_pid *)arg);
}

static int part_begin(dispatch_fn fn, void *arg, const struct mote_registry_entry *entries, size_t n,
		      mote_ref *ref)
{
	struct mote_msg *m = part_new(fn, arg, entries, n);
	mote_pid pid;

	if (!m)
		return -ENOMEM;
	pid = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = dispatcher, .flags = MOTE_LINK | MOTE_MONITOR, .ref = ref,
		.label = "registry dispatch" });
	if (!mote_pid_valid(pid)) {
		mote_msg_free(m);
		return mote_errno();
	}
	return mote_send_msg(pid, m);
}

/* It returned, and leaves no EXIT to a caller who traps them; or it did not. */
static int part_end(mote_ref ref)
{
	struct mote_msg *m = mote_receive_ref(ref, MOTE_FOREVER);
	const struct mote_down_info *down = m ? mote_msg_down(m) : NULL;
	bool well = down && down->reason.kind == MOTE_NORMAL;
	mote_pid pid = down ? down->pid : MOTE_NOBODY;

	mote_msg_free(m);
	if (well)
		mote_msg_free(mote_receive_match(is_exit_of, &pid, MOTE_NOW));
	return well ? 0 : -EPIPE;
}

/* The entries by partition: each from ends[part - 1] to ends[part]. */
static void partition(const struct copy *c, struct mote_registry_entry *sorted, size_t *ends)
{
	size_t at = 0;

	for (size_t i = 0; i < c->n; i++)
		ends[c->entries[i].pid.slot % c->partitions]++;
	for (unsigned int p = 0; p < c->partitions; p++) {
		size_t n = ends[p];

		ends[p] = at;
		at += n;
	}
	for (size_t i = 0; i < c->n; i++)
		sorted[ends[c->entries[i].pid.slot % c->partitions]++] = c->entries[i];
}

static int64_t dispatch(const struct mote_registry_entry *entries, const size_t *ends, unsigned int partitions,
			dispatch_fn fn, void *arg, mote_ref *refs)
{
	int64_t n = 0;
	int err = 0;

	for (unsigned int p = 0; p < partitions && !err; p++) {
		size_t from = p ? ends[p - 1] : 0;

		if (ends[p] == from)
			continue;
		if (refs)
			err = part_begin(fn, arg, &entries[from], ends[p] - from, &refs[n]);
		else
			enter_dispatch(fn, &entries[from], ends[p] - from, arg);
		n += !err;
	}
	for (int64_t i = 0; refs && i < n; i++) {
		int ended = part_end(refs[i]);

		if (!err)
			err = ended;
	}
	return err ? err : n;
}

int64_t mote_registry_dispatch(struct mote_registry *r, const void *key, size_t key_size, dispatch_fn fn, void *arg,
			       unsigned int flags)
{
	struct mote_registry_entry *sorted;
	struct query q = query_key(r, key, key_size);
	struct copy c = { 0 };
	size_t *ends, one;
	mote_ref *refs = NULL;
	int64_t n;
	int err;

	if (!r || flags & ~(unsigned int)MOTE_REGISTRY_PARALLEL)
		return -EINVAL;
	err = copy_make(&c, &q);
	if (err)
		return err;
	if (!c.parts || c.partitions == 1) {
		one = c.n;
		n = dispatch(c.entries, &one, 1, fn, arg, NULL);
		copy_free(&c);
		return n;
	}
	ends = mote_zalloc(c.partitions * sizeof(*ends));
	sorted = mote_alloc((c.n + 1) * sizeof(*sorted));
	if (flags & MOTE_REGISTRY_PARALLEL)
		refs = mote_alloc(c.partitions * sizeof(*refs));
	if (ends && sorted && (refs || !flags)) {
		partition(&c, sorted, ends);
		n = dispatch(sorted, ends, c.partitions, fn, arg, refs);
	} else {
		n = -ENOMEM;
	}
	mote_free(refs);
	mote_free(sorted);
	mote_free(ends);
	copy_free(&c);
	return n;
}
