// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Entering and leaving. Each is done in one go inside of the runtime: a process that is killed has done it, or has not;
 * and what it has done its end takes back.
 */
#include "otp/registry.h"

#include <errno.h>
#include <stdlib.h>

/* --- members */

struct member_shard *member_shard(struct ledger *l, mote_pid pid)
{
	return &l->members[pid.slot % MEMBER_SHARDS];
}

static struct member **member_bucket(struct member_shard *shard, mote_pid pid)
{
	return &shard->buckets[pid.slot / MEMBER_SHARDS & (shard->max - 1)];
}

struct member *member_find(struct member_shard *shard, mote_pid pid)
{
	struct member *m = shard->max ? *member_bucket(shard, pid) : NULL;

	while (m && !mote_pid_equal(m->pid, pid))
		m = m->next;
	return m;
}

static void member_hang(struct member_shard *shard, struct member *m)
{
	struct member **bucket = member_bucket(shard, m->pid);

	m->prev = NULL;
	m->next = *bucket;
	if (m->next)
		m->next->prev = m;
	*bucket = m;
}

static bool members_reserve(struct member_shard *shard)
{
	uint32_t max = shard->max, new = max ? 2 * max : 4;
	struct member **old = shard->buckets, *m, *next;

	if (shard->used < max)
		return true;
	shard->buckets = calloc(new, sizeof(*old));
	if (!shard->buckets) {
		shard->buckets = old;
		return false;
	}
	shard->max = new;
	for (uint32_t i = 0; i < max; i++) {
		for (m = old[i]; m; m = next) {
			next = m->next;
			member_hang(shard, m);
		}
	}
	free(old);
	return true;
}

/* Off the ledger's index: from now on m is the process's alone. */
static void member_hide(struct member *m)
{
	struct member_shard *shard = member_shard(m->ledger, m->pid);

	lock_take(&shard->lock);
	if (m->prev)
		m->prev->next = m->next;
	else
		*member_bucket(shard, m->pid) = m->next;
	if (m->next)
		m->next->prev = m->prev;
	shard->used--;
	lock_drop(&shard->lock);
}

static void member_free(struct member *m)
{
	struct book_entry *e, *next;

	for (e = m->first; e; e = next) {
		next = e->mine_next;
		book_remove(&m->ledger->entries, e);
	}
	ledger_put(m->ledger);
	free(m);
}

/* The process ends: before anybody learns of it nobody finds it here. */
static void member_end(struct process *p, struct belonging *b)
{
	struct member *m = container_of(b, struct member, belonging);

	(void)p;
	member_hide(m);
	member_free(m);
}

static void member_drop(struct process *p, struct member *m)
{
	belonging_remove(p, &m->belonging);
	member_hide(m);
	member_free(m);
}

/* Takes the count of l. NULL: no memory. */
static struct member *member_new(struct process *p, struct ledger *l)
{
	struct member *m = calloc(1, sizeof(*m));
	struct member_shard *shard;
	bool ok;

	if (!m)
		goto fail;
	m->belonging.end = member_end;
	m->ledger = l;
	m->pid = process_pid(p);
	if (belonging_add(p, &m->belonging))
		goto fail;
	shard = member_shard(l, m->pid);
	lock_take(&shard->lock);
	ok = members_reserve(shard);
	if (ok) {
		member_hang(shard, m);
		shard->used++;
	}
	lock_drop(&shard->lock);
	if (ok)
		return m;
	belonging_remove(p, &m->belonging);
fail:
	ledger_put(l);
	free(m);
	return NULL;
}

/* p's member of the registry that l is of, or NULL. One of an earlier run goes. */
static struct member *member_of(struct process *p, struct ledger *l)
{
	struct extra *extra = atomic_load_explicit(&p->extra, memory_order_relaxed);
	struct belonging *b, *next;

	for (b = extra ? extra->belongings : NULL; b; b = next) {
		struct member *m = container_of(b, struct member, belonging);

		next = b->next;
		if (b->end != member_end)
			continue;
		if (m->ledger == l)
			return m;
		if (m->ledger->registry == l->registry)
			member_drop(p, m);
	}
	return NULL;
}

static void member_append(struct member *m, struct book_entry *e)
{
	struct member_shard *shard = member_shard(m->ledger, m->pid);

	lock_take(&shard->lock);
	e->mine_next = NULL;
	e->mine_prev = m->last;
	*(m->last ? &m->last->mine_next : &m->first) = e;
	m->last = e;
	lock_drop(&shard->lock);
}

static void member_remove(struct member *m, struct book_entry *e)
{
	struct member_shard *shard = member_shard(m->ledger, m->pid);

	lock_take(&shard->lock);
	*(e->mine_prev ? &e->mine_prev->mine_next : &m->first) = e->mine_next;
	*(e->mine_next ? &e->mine_next->mine_prev : &m->last) = e->mine_prev;
	lock_drop(&shard->lock);
	book_remove(&m->ledger->entries, e);
}

static void member_replace(struct member *m, struct book_entry *old, struct book_entry *e)
{
	struct member_shard *shard = member_shard(m->ledger, m->pid);

	lock_take(&shard->lock);
	e->key = old->key;
	e->mine_id = old->mine_id;
	e->mine_next = old->mine_next;
	e->mine_prev = old->mine_prev;
	*(e->mine_prev ? &e->mine_prev->mine_next : &m->first) = e;
	*(e->mine_next ? &e->mine_next->mine_prev : &m->last) = e;
	lock_drop(&shard->lock);
	book_replace(&m->ledger->entries, old, e);
}

/* --- listeners */

/* From the caller, past limits: nothing here may wait, or end the caller half way. */
static void listeners_tell(struct scheduler *s, struct ledger *l, uint32_t type, const void *key, size_t key_size,
			   const void *value, size_t value_size)
{
	for (const char *name = l->listeners; *name; name += strlen(name) + 1) {
		mote_pid pid = name_whereis(name), self = process_pid(process_self(s));
		struct mote_registry_event *event;
		struct signal *sig;

		if (!mote_pid_valid(pid))
			continue;
		sig = signal_new(s, SIGNAL_MESSAGE, sizeof(*event) + key_size + value_size);
		if (!sig)
			continue;
		event = sig->msg.data;
		*event = (struct mote_registry_event){ l->registry, self, (uint32_t)key_size, (uint32_t)value_size };
		if (key_size)
			memcpy(event + 1, key, key_size);
		if (value_size)
			memcpy((char *)(event + 1) + key_size, value, value_size);
		sig->msg.from = self;
		sig->msg.type = type;
		signal_send_pid(s, sig, pid, false);
	}
}

/* --- the calls */

static bool sizes_bad(size_t key_size, size_t value_size)
{
	return key_size > REGISTRY_BYTES_MAX || value_size > REGISTRY_BYTES_MAX;
}

/* Whom p is linked to while it is a member of l: not if it was before. */
static mote_pid member_link(struct process *p, struct ledger *l)
{
	return mote_pid_equal(process_pid(p), l->starter) ? MOTE_NOBODY : l->server;
}

static int enter(struct scheduler *s, struct ledger *l, const void *key, size_t key_size, const void *value,
		 size_t value_size, mote_pid *holder, mote_pid *link)
{
	struct process *p = process_self(s);
	struct member *m = member_of(p, l);
	struct book_entry *e;
	int err;

	if (!m) {
		*link = member_link(p, l);
		m = member_new(p, l);
	} else {
		ledger_put(l);
	}
	e = m ? book_entry(m->pid, value, value_size) : NULL;
	if (e)
		e->mine_id = ++m->last_id;
	err = e ? book_add(&l->entries, key, key_size, ledger_unique(l), e, holder) : -ENOMEM;
	if (!err) {
		member_append(m, e);
		listeners_tell(s, l, MOTE_MSG_REGISTERED, key, key_size, value, value_size);
		return 0;
	}
	free(e);
	*link = MOTE_NOBODY;
	if (m && !m->first)
		member_drop(p, m);
	return err;
}

int mote_registry_register(struct mote_registry *r, const void *key, size_t key_size, const void *value,
			   size_t value_size, mote_pid *holder)
{
	struct scheduler *s = runtime_enter("mote_registry_register");
	mote_pid other = MOTE_NOBODY, link = MOTE_NOBODY;
	struct ledger *l;
	int err = -EINVAL;

	if (r && sizes_bad(key_size, value_size)) {
		err = -EMSGSIZE;
	} else if (r) {
		l = ledger_get(s, r);
		err = l ? enter(s, l, key, key_size, value, value_size, &other, &link) : -ESRCH;
	}
	if (holder)
		*holder = other;
	process_leave(s);
	/* A registry that has ended meanwhile is a link to nobody: it takes along the entry, and its owner. */
	if (!err && mote_pid_valid(link)) {
		err = mote_link(link);
		if (err)
			mote_registry_unregister(r, key, key_size);
	}
	return err;
}

/* The caller's member of a registry that runs, not counted; NULL with *err. */
static struct member *member_here(struct scheduler *s, struct mote_registry *r, struct ledger **l, int *err)
{
	struct member *m;

	*err = -EINVAL;
	*l = r ? ledger_get(s, r) : NULL;
	if (!*l) {
		*err = r ? -ESRCH : -EINVAL;
		return NULL;
	}
	*err = 0;
	m = member_of(process_self(s), *l);
	return m;
}

/* The first entry of m's under key, at or after e. */
static struct book_entry *entry_from(struct book_entry *e, const void *key, size_t size, uint64_t hash)
{
	while (e && (e->key->hash != hash || e->key->size != size || memcmp(e->key->bytes, key, size)))
		e = e->mine_next;
	return e;
}

/* A unique one is found by its key, however many the member has. */
static struct book_entry *entry_first(struct scheduler *s, struct member *m, const void *key, size_t size,
				      uint64_t hash)
{
	struct book_entry *e;

	if (!m)
		return NULL;
	if (!ledger_unique(m->ledger))
		return entry_from(m->first, key, size, hash);
	epoch_enter(s);
	e = book_first(book_find(&m->ledger->entries, key, size, hash));
	if (e && !mote_pid_equal(e->pid, m->pid))
		e = NULL;
	/* The caller's own: nobody else takes it away. */
	epoch_leave(s);
	return e;
}

/* Without any entries a process is no member. */
static mote_pid member_rest(struct process *p, struct member *m)
{
	mote_pid server;

	if (!m || m->first)
		return MOTE_NOBODY;
	server = member_link(p, m->ledger);
	member_drop(p, m);
	return server;
}

int64_t mote_registry_unregister(struct mote_registry *r, const void *key, size_t key_size)
{
	struct scheduler *s = runtime_enter("mote_registry_unregister");
	uint64_t hash = r ? book_hash(key, key_size) : 0;
	mote_pid unlink = MOTE_NOBODY;
	struct book_entry *e, *next;
	struct ledger *l;
	struct member *m;
	int64_t n = 0;
	int err;

	m = member_here(s, r, &l, &err);
	for (e = entry_first(s, m, key, key_size, hash); e; e = next, n++) {
		next = ledger_unique(l) ? NULL : entry_from(e->mine_next, key, key_size, hash);
		member_remove(m, e);
	}
	if (l) {
		listeners_tell(s, l, MOTE_MSG_UNREGISTERED, key, key_size, NULL, 0);
		unlink = member_rest(process_self(s), m);
		ledger_put(l);
	}
	process_leave(s);
	if (mote_pid_valid(unlink))
		mote_unlink(unlink);
	return err ? err : n;
}

/*
 * match sees copies, and may register and unregister itself: what it has chosen is known by id, in ascending order as
 * they are entered, and looked for again.
 */
int64_t mote_registry_unregister_match(struct mote_registry *r, const void *key, size_t key_size,
				       mote_registry_fn match, void *arg)
{
	struct registry_choice choice = { .match = match, .arg = arg };
	mote_pid unlink = MOTE_NOBODY;
	struct book_entry *e, *next;
	struct scheduler *s;
	struct ledger *l;
	struct member *m;
	uint64_t hash;
	int64_t n = 0;
	size_t i = 0;
	int err;

	n = registry_choose(r, key, key_size, &choice);
	if (n < 0)
		return n;
	s = runtime_enter("mote_registry_unregister_match");
	hash = book_hash(key, key_size);
	m = member_here(s, r, &l, &err);
	n = 0;
	for (e = entry_first(s, m, key, key_size, hash); e; e = next) {
		next = ledger_unique(l) ? NULL : entry_from(e->mine_next, key, key_size, hash);
		while (i < choice.n && choice.ids[i] < e->mine_id)
			i++;
		if (i == choice.n || choice.ids[i] != e->mine_id)
			continue;
		member_remove(m, e);
		n++;
	}
	if (l) {
		if (!entry_first(s, m, key, key_size, hash))
			listeners_tell(s, l, MOTE_MSG_UNREGISTERED, key, key_size, NULL, 0);
		unlink = member_rest(process_self(s), m);
		ledger_put(l);
	}
	process_leave(s);
	mote_free(choice.ids);
	if (mote_pid_valid(unlink))
		mote_unlink(unlink);
	return err ? err : n;
}

int mote_registry_update_value(struct mote_registry *r, const void *key, size_t key_size, const void *value,
			       size_t value_size)
{
	struct scheduler *s = runtime_enter("mote_registry_update_value");
	struct book_entry *old, *e;
	struct ledger *l = NULL;
	struct member *m;
	int err;

	m = member_here(s, r, &l, &err);
	if (l) {
		err = -ENOENT;
		old = entry_first(s, m, key, key_size, book_hash(key, key_size));
		if (!ledger_unique(l))
			err = -EINVAL;
		else if (old && sizes_bad(key_size, value_size))
			err = -EMSGSIZE;
		else if (old) {
			e = book_entry(m->pid, value, value_size);
			if (e)
				member_replace(m, old, e);
			err = e ? 0 : -ENOMEM;
		}
		ledger_put(l);
	}
	process_leave(s);
	return err;
}
