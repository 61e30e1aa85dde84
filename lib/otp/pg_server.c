// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The process of a scope. Members of this node are monitored, one by one; those of other nodes come and go with their
 * scope's process there, the peer, and as it says.
 *
 * A peer is met by DISCOVER, from either side, when two nodes connect or a scope starts; whoever gets it answers with
 * all that it has, and from then on, since messages of a pair keep their order, changes suffice.
 */
#include "otp/pg.h"

#include <mote/node.h>

#include <errno.h>
#include <stdlib.h>

#define SUBSCRIBER_BUCKETS	64
#define NODES_MAX		1024

/* A member of this node, or a peer: of whom entries are. */
struct owner {
	struct owner *next;			/* in its bucket */
	struct owner *next_peer;
	mote_pid pid;
	mote_ref watch;
	struct book_entry *first, *last;
	bool peer;
};

struct subscriber {
	struct subscriber *next;
	struct mote_from from;			/* pid: whose; ref: the alias that it listens at */
	mote_ref watch;
	uint64_t hash;
	size_t size;
	char group[];
};

struct pg_server {
	struct pg_table *table;
	struct owner **owners;			/* by pid */
	struct owner *peers;
	uint32_t nr_owners, max_owners;
	struct subscriber *of_all;
	struct subscriber *of_group[SUBSCRIBER_BUCKETS];
	uint64_t round;				/* of syncs; an entry's mine_id: the last that had it */
};

/* --- the table */

static void table_free(struct garbage *g)
{
	struct pg_table *t = container_of(g, struct pg_table, garbage);

	book_end(&t->book);
	free(t);
}

static void table_close(struct process *p, struct belonging *b)
{
	struct pg_table *t = container_of(b, struct pg_table, belonging);

	(void)p;
	handle_lead(t->pg, NULL);
	epoch_retire(&t->garbage, table_free, sizeof(*t));
}

static int table_open(struct pg_server *server, struct mote_pg *pg)
{
	struct scheduler *s = runtime_enter("mote_pg_start");
	struct pg_table *t = aligned_alloc(CACHE_LINE, (sizeof(*t) + CACHE_LINE - 1) & ~(size_t)(CACHE_LINE - 1));
	int err = -ENOMEM;

	if (t) {
		memset(t, 0, sizeof(*t));
		t->pg = pg;
		t->server = process_pid(process_self(s));
		t->belonging.end = table_close;
		err = belonging_add(process_self(s), &t->belonging);
	}
	if (!err) {
		server->table = t;
		handle_lead(pg, t);
	} else {
		free(t);
	}
	process_leave(s);
	return err;
}

/* If the process is ended in between, so is the table, with all that is in it. */
static struct book_entry *entry_add(struct pg_server *server, struct owner *o, const void *group, size_t size,
				    mote_pid pid)
{
	struct scheduler *s = runtime_enter("pg");
	struct book_entry *e = book_entry(pid, &o, sizeof(o));
	mote_pid holder;

	if (e && book_add(&server->table->book, group, size, false, e, &holder)) {
		free(e);
		e = NULL;
	}
	if (e) {
		e->mine_id = server->round;
		e->mine_next = NULL;
		e->mine_prev = o->last;
		*(o->last ? &o->last->mine_next : &o->first) = e;
		o->last = e;
	}
	process_leave(s);
	return e;
}

static void entry_remove(struct pg_server *server, struct owner *o, struct book_entry *e)
{
	struct scheduler *s = runtime_enter("pg");

	*(e->mine_prev ? &e->mine_prev->mine_next : &o->first) = e->mine_next;
	*(e->mine_next ? &e->mine_next->mine_prev : &o->last) = e->mine_prev;
	book_remove(&server->table->book, e);
	process_leave(s);
}

/*
 * An entry of o's in that group that is not of `round`. The value is its owner. No section: nobody else changes the
 * book.
 */
static struct book_entry *entry_find(struct pg_server *server, struct owner *o, const void *group, size_t size,
				     mote_pid pid, uint64_t round)
{
	struct book_entry *e = book_first(book_find(&server->table->book, group, size, book_hash(group, size)));

	while (e && (!mote_pid_equal(e->pid, pid) || e->mine_id == round || memcmp(e->value, &o, sizeof(o))))
		e = book_next(e);
	return e;
}

/* --- owners */

static struct owner **owner_bucket(struct pg_server *server, mote_pid pid)
{
	return &server->owners[(pid.slot * 0x9e3779b1u + pid.node) & (server->max_owners - 1)];
}

static struct owner *owner_find(struct pg_server *server, mote_pid pid)
{
	struct owner *o = server->max_owners ? *owner_bucket(server, pid) : NULL;

	while (o && !mote_pid_equal(o->pid, pid))
		o = o->next;
	return o;
}

static bool owners_reserve(struct pg_server *server)
{
	uint32_t max = server->max_owners, new = max ? 2 * max : 16;
	struct owner **old = server->owners, **owners, *o, *next;

	if (server->nr_owners < max)
		return true;
	owners = mote_zalloc(new * sizeof(*owners));
	if (!owners)
		return false;
	server->owners = owners;
	server->max_owners = new;
	for (uint32_t i = 0; i < max; i++) {
		for (o = old[i]; o; o = next) {
			struct owner **bucket = owner_bucket(server, o->pid);

			next = o->next;
			o->next = *bucket;
			*bucket = o;
		}
	}
	mote_free(old);
	return true;
}

/* Found, or made, and watched from then on. NULL: no memory. */
static struct owner *owner_get(struct pg_server *server, mote_pid pid, bool peer)
{
	struct owner *o = owner_find(server, pid), **bucket;

	if (o)
		return o;
	o = owners_reserve(server) ? mote_zalloc(sizeof(*o)) : NULL;
	if (!o)
		return NULL;
	o->pid = pid;
	o->peer = peer;
	o->watch = mote_monitor(pid);
	if (!o->watch.id) {
		mote_free(o);
		return NULL;
	}
	bucket = owner_bucket(server, pid);
	o->next = *bucket;
	*bucket = o;
	server->nr_owners++;
	if (peer) {
		o->next_peer = server->peers;
		server->peers = o;
	}
	return o;
}

static void owner_drop(struct pg_server *server, struct owner *o)
{
	struct owner **at = owner_bucket(server, o->pid);

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	server->nr_owners--;
	for (at = &server->peers; o->peer && *at; at = &(*at)->next_peer) {
		if (*at == o) {
			*at = o->next_peer;
			break;
		}
	}
	mote_demonitor(o->watch, MOTE_FLUSH);
	mote_free(o);
}

static struct owner *peer_find(struct pg_server *server, mote_pid pid)
{
	struct owner *o = owner_find(server, pid);

	return o && o->peer ? o : NULL;
}

/* --- telling */

static void tell_list(const struct subscriber *sub, bool all, uint64_t hash, uint32_t type,
		      const struct mote_pg_event *block)
{
	for (; sub; sub = sub->next) {
		if (all || (sub->hash == hash && sub->size == block->size &&
			    !memcmp(sub->group, mote_pg_event_group(block), block->size)))
			mote_send_alias(sub->from.ref, type, block, pg_block_size(block->nr_pids, block->size));
	}
}

/* Those who asked to be told. */
static void tell(struct pg_server *server, uint32_t type, const struct mote_pg_event *block)
{
	uint64_t hash = book_hash(mote_pg_event_group(block), block->size);

	if (!block->nr_pids)
		return;
	tell_list(server->of_group[hash % SUBSCRIBER_BUCKETS], false, hash, type, block);
	tell_list(server->of_all, true, hash, type, block);
}

/* First it goes, then that is told: who hears of it does not find it. */
static void entry_leave(struct pg_server *server, struct owner *o, struct book_entry *e)
{
	size_t size = pg_block_size(1, e->key->size);
	struct mote_pg_event *block = mote_alloc(size);

	if (!block)
		mote_exit(mote_reason_error(ENOMEM, "pg"));
	pg_block_put((char *)block, e->key->bytes, e->key->size, &e->pid, 1);
	entry_remove(server, o, e);
	tell(server, MOTE_MSG_PG_LEAVE, block);
	mote_free(block);
}

static void tell_peers(struct pg_server *server, uint32_t type, const void *blocks, size_t size)
{
	for (struct owner *o = server->peers; o; o = o->next_peer)
		mote_send(o->pid, type, blocks, size);
}

/* A group's entries that are of this node, or all; where the next block goes. to NULL: only counts. */
static size_t group_size(const struct book_key *k, bool local, char *to)
{
	mote_pid *pids = to ? (mote_pid *)(to + sizeof(struct mote_pg_event)) : NULL;
	uint32_t n = 0;

	for (struct book_entry *e = book_first(k); e; e = book_next(e)) {
		if (local && !port_is_here(e->pid.node))
			continue;
		if (to)
			pids[n] = e->pid;
		n++;
	}
	if (to && n) {
		struct mote_pg_event block = { .nr_pids = n, .size = k->size };

		memcpy(to, &block, sizeof(block));
		memset((char *)&pids[n], 0, pg_block_size(0, k->size) - sizeof(block));
		memcpy(&pids[n], k->bytes, k->size);
	}
	return n ? pg_block_size(n, k->size) : 0;
}

static size_t groups_put(struct pg_server *server, bool local, char *to)
{
	size_t size = 0;

	for (int i = 0; i < BOOK_SHARDS; i++) {
		struct book_shard *shard = &server->table->book.shards[i];
		/* relaxed, as below: nobody else writes */
		struct book_table *t = atomic_load_explicit(&shard->table, memory_order_relaxed);

		for (uint32_t c = 0; t && c <= t->mask; c++) {
			struct book_key *k = atomic_load_explicit(&t->cells[c], memory_order_relaxed);

			if (k && k != &book_gone)
				size += group_size(k, local, to ? to + size : NULL);
		}
	}
	return size;
}

/* Of this node, or all there are; NULL: no memory. */
static struct mote_msg *groups_msg(struct pg_server *server, uint32_t type, bool local)
{
	struct mote_msg *m = mote_msg_new(type, groups_put(server, local, NULL));

	if (m)
		groups_put(server, local, m->data);
	return m;
}

/* --- members of this node */

/* All of o's entries go, and it, too. */
static void owner_gone(struct pg_server *server, struct owner *o)
{
	struct book_entry *e;
	size_t size = 0;
	char *blocks = NULL, *at;

	if (!o->peer && server->peers) {
		for (e = o->first; e; e = e->mine_next)
			size += pg_block_size(1, e->key->size);
		at = blocks = mote_alloc(size);
		if (!blocks)
			mote_exit(mote_reason_error(ENOMEM, "pg"));
		for (e = o->first; e; e = e->mine_next)
			at = pg_block_put(at, e->key->bytes, e->key->size, &e->pid, 1);
		tell_peers(server, PG_LEAVE, blocks, size);
		mote_free(blocks);
	}
	while ((e = o->first))
		entry_leave(server, o, e);
	owner_drop(server, o);
}

static int join(struct pg_server *server, const struct mote_pg_event *block)
{
	const mote_pid *pids = mote_pg_event_pids(block);
	const void *group = mote_pg_event_group(block);
	uint32_t i;

	for (i = 0; i < block->nr_pids; i++) {
		struct owner *o = port_is_here(pids[i].node) ? owner_get(server, pids[i], false) : NULL;

		if (!o || !entry_add(server, o, group, block->size, pids[i]))
			break;
	}
	if (i == block->nr_pids) {
		tell(server, MOTE_MSG_PG_JOIN, block);
		tell_peers(server, PG_JOIN, block, pg_block_size(block->nr_pids, block->size));
		return 0;
	}
	/* None, then. Nobody was told; an owner without entries goes when it ends. */
	while (i-- > 0) {
		struct owner *o = owner_find(server, pids[i]);

		entry_remove(server, o, o->last);
	}
	return -ENOMEM;
}

/* The same for those of this node, whom the peers then hear of, and those of a peer. How many were members. */
static uint32_t leave(struct pg_server *server, const struct mote_pg_event *block, struct owner *peer)
{
	const mote_pid *pids = mote_pg_event_pids(block);
	const void *group = mote_pg_event_group(block);
	struct mote_pg_event *left = mote_alloc(pg_block_size(block->nr_pids, block->size));
	mote_pid *gone = (mote_pid *)(left + 1);
	uint32_t n = 0;

	if (!left)
		mote_exit(mote_reason_error(ENOMEM, "pg"));
	for (uint32_t i = 0; i < block->nr_pids; i++) {
		struct owner *o = peer ? peer : owner_find(server, pids[i]);
		struct book_entry *e = o ? entry_find(server, o, group, block->size, pids[i], UINT64_MAX) : NULL;

		if (!e)
			continue;
		entry_remove(server, o, e);
		if (!peer && !o->first)
			owner_drop(server, o);
		gone[n++] = pids[i];
	}
	*left = (struct mote_pg_event){ .nr_pids = n, .size = block->size };
	memcpy(&gone[n], group, block->size);
	tell(server, MOTE_MSG_PG_LEAVE, left);
	if (n && !peer)
		tell_peers(server, PG_LEAVE, left, pg_block_size(n, block->size));
	mote_free(left);
	return n;
}

/* --- peers */

/* Entries of that block of a peer's. sync: those that are there already are told of nobody. */
static void peer_join(struct pg_server *server, struct owner *peer, const struct mote_pg_event *block, bool sync)
{
	struct mote_pg_event *new = mote_alloc(pg_block_size(block->nr_pids, block->size));
	const mote_pid *pids = mote_pg_event_pids(block);
	const void *group = mote_pg_event_group(block);
	mote_pid *come = (mote_pid *)(new + 1);
	uint32_t n = 0;

	if (!new)
		mote_exit(mote_reason_error(ENOMEM, "pg"));
	for (uint32_t i = 0; i < block->nr_pids; i++) {
		struct book_entry *e = NULL;

		/* A peer has members of its own node only. */
		if (pids[i].node != peer->pid.node)
			continue;
		if (sync)
			e = entry_find(server, peer, group, block->size, pids[i], server->round);
		if (e) {
			e->mine_id = server->round;
			continue;
		}
		if (!entry_add(server, peer, group, block->size, pids[i]))
			mote_exit(mote_reason_error(ENOMEM, "pg"));
		come[n++] = pids[i];
	}
	*new = (struct mote_pg_event){ .nr_pids = n, .size = block->size };
	memcpy(&come[n], group, block->size);
	tell(server, MOTE_MSG_PG_JOIN, new);
	mote_free(new);
}

/* What it has now, in the place of what was known: nothing, the first time. */
static void peer_sync(struct pg_server *server, struct owner *peer, const char *at, const char *end)
{
	const struct mote_pg_event *block;
	struct book_entry *e, *next;

	server->round++;
	while ((block = pg_block_next(&at, end)))
		peer_join(server, peer, block, true);
	for (e = peer->first; e; e = next) {
		next = e->mine_next;
		if (e->mine_id != server->round)
			entry_leave(server, peer, e);
	}
}

static void discover(struct pg_server *server, mote_node node)
{
	mote_send_name_on(node, ((struct handle *)server->table->pg)->name, PG_DISCOVER, NULL, 0);
}

static void discovered(struct pg_server *server, mote_pid pid)
{
	struct mote_msg *m = groups_msg(server, PG_SYNC, true);
	struct owner *peer = peer_find(server, pid);

	if (m)
		mote_send_msg(pid, m);
	if (!m || (!peer && !owner_get(server, pid, true)))
		mote_exit(mote_reason_error(ENOMEM, "pg"));
	if (!peer)
		mote_send(pid, PG_DISCOVER, NULL, 0);
}

static void peer_said(struct pg_server *server, const struct mote_msg *m)
{
	const char *at = m->data, *end = at + m->size;
	struct owner *peer = peer_find(server, m->from);
	const struct mote_pg_event *block;

	if (m->type == PG_DISCOVER) {
		discovered(server, m->from);
	} else if (m->type == PG_SYNC) {
		if (!peer)
			peer = owner_get(server, m->from, true);
		if (!peer)
			mote_exit(mote_reason_error(ENOMEM, "pg"));
		peer_sync(server, peer, at, end);
	} else if (peer) {
		while ((block = pg_block_next(&at, end))) {
			if (m->type == PG_JOIN)
				peer_join(server, peer, block, false);
			else
				leave(server, block, peer);
		}
	}
}

/* --- subscribers */

static struct subscriber **subscribers(struct pg_server *server, bool all, uint64_t hash)
{
	return all ? &server->of_all : &server->of_group[hash % SUBSCRIBER_BUCKETS];
}

static void subscribe(struct pg_server *server, struct mote_from from, const struct mote_msg *m)
{
	const struct pg_monitor *what = m->data;
	const char *group = (const char *)(what + 1);
	size_t size = m->size < sizeof(*what) ? 0 : m->size - sizeof(*what);
	struct subscriber *sub = NULL, **list;
	struct mote_msg *reply = NULL;
	struct book_key *k = NULL;

	if (m->size < sizeof(*what))
		return;
	if (!what->all)
		k = book_find(&server->table->book, group, size, book_hash(group, size));
	reply = what->all ? groups_msg(server, PG_ASK_MONITOR, false) :
			    mote_msg_new(PG_ASK_MONITOR, k ? group_size(k, false, NULL) : 0);
	if (reply && k)
		group_size(k, false, reply->data);
	if (reply)
		sub = mote_alloc(sizeof(*sub) + size);
	if (sub) {
		*sub = (struct subscriber){ .from = { from.pid, what->ref }, .watch = mote_monitor(from.pid) };
		sub->size = what->all ? SIZE_MAX : size;
		sub->hash = what->all ? 0 : book_hash(group, size);
		memcpy(sub->group, group, size);
	}
	if (!sub || !sub->watch.id) {
		mote_msg_free(reply);
		mote_free(sub);
		mote_reply(from, PG_ASK_DEMONITOR, NULL, 0);
		return;
	}
	list = subscribers(server, what->all, sub->hash);
	sub->next = *list;
	*list = sub;
	mote_reply_msg(from, reply);
}

static bool unsubscribe_from(struct subscriber **at, const mote_ref *watch, const struct mote_from *who)
{
	for (; *at; at = &(*at)->next) {
		struct subscriber *sub = *at;

		if (watch ? !mote_ref_equal(sub->watch, *watch) :
			    !mote_ref_equal(sub->from.ref, who->ref) || !mote_pid_equal(sub->from.pid, who->pid))
			continue;
		*at = sub->next;
		mote_demonitor(sub->watch, MOTE_FLUSH);
		mote_free(sub);
		return true;
	}
	return false;
}

static bool unsubscribe(struct pg_server *server, const mote_ref *watch, const struct mote_from *who)
{
	bool found = unsubscribe_from(&server->of_all, watch, who);

	for (int i = 0; i < SUBSCRIBER_BUCKETS && !found; i++)
		found = unsubscribe_from(&server->of_group[i], watch, who);
	return found;
}

/* --- callbacks */

struct nodes {
	mote_node node[NODES_MAX];
	int n;
};

static bool note_node(mote_node node, const char *name, int state, void *arg)
{
	struct nodes *nodes = arg;

	(void)name;
	if (state == MOTE_NODE_UP)
		nodes->node[nodes->n++] = node;
	return nodes->n < NODES_MAX;
}

static int pg_init(void *state, void *arg)
{
	struct pg_server *server = state;
	struct nodes nodes = { .n = 0 };
	int err = table_open(server, arg);

	if (err)
		return err;
	/* First the watch: a node that connects in between is met twice, which harms nothing. */
	err = mote_node_watch(true);
	if (err)
		return err == -ENETDOWN ? 0 : err;
	mote_node_each(note_node, &nodes);
	for (int i = 0; i < nodes.n; i++)
		discover(server, nodes.node[i]);
	return 0;
}

static void pg_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	const char *at = m->data, *end = at + m->size;
	const struct mote_pg_event *block;
	struct mote_from who = { from.pid, { 0 } };
	struct pg_server *server = state;
	int32_t answer = -EINVAL;

	if (m->type == PG_ASK_MONITOR) {
		subscribe(server, from, m);
		return;
	}
	if (m->type == PG_ASK_DEMONITOR && m->size == sizeof(who.ref)) {
		memcpy(&who.ref, m->data, sizeof(who.ref));
		answer = unsubscribe(server, NULL, &who) ? 0 : -ENOENT;
	} else if (m->type == PG_ASK_JOIN || m->type == PG_ASK_LEAVE) {
		block = pg_block_next(&at, end);
		if (block && m->type == PG_ASK_JOIN)
			answer = join(server, block);
		else if (block)
			answer = leave(server, block, NULL) ? 0 : -ENOENT;
	}
	mote_reply(from, m->type, &answer, sizeof(answer));
}

static void pg_info(void *state, const struct mote_msg *m)
{
	const struct mote_down_info *down = mote_msg_down(m);
	const struct mote_node_event *event = m->data;
	struct pg_server *server = state;
	struct owner *o;

	if (down) {
		o = owner_find(server, down->pid);
		if (o && mote_ref_equal(o->watch, down->ref))
			owner_gone(server, o);
		else
			unsubscribe(server, &down->ref, NULL);
	} else if (m->type == MOTE_MSG_NODE_UP) {
		discover(server, event->node);
	} else if (m->type >= PG_DISCOVER && m->type <= PG_LEAVE && !port_is_here(m->from.node) &&
		   mote_pid_valid(m->from)) {
		peer_said(server, m);
	}
}

const struct mote_server_ops pg_server_ops = {
	.size = sizeof(pg_server_ops),
	.state_size = sizeof(struct pg_server),
	.init = pg_init,
	.handle_call = pg_call,
	.handle_info = pg_info,
	.flags = MOTE_SERVER_OPAQUE,
};
