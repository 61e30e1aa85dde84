// SPDX-License-Identifier: MIT OR GPL-2.0
/* Groups of processes, as their users see them: questions to the scope's process, and looks at its table. */
#include "otp/pg.h"

#include <errno.h>
#include <stdlib.h>

#define GROUP_MAX	(UINT32_C(1) << 20)	/* bytes of a group */
#define JOIN_MAX	(UINT32_C(1) << 24)	/* pids at once */

struct mote_pg *mote_pg_scope(const char *name)
{
	return (struct mote_pg *)handle_named(HANDLE_PG, name ? name : "pg");
}

static int start(const char *scope, bool link, mote_pid *pid)
{
	struct mote_server_opts opts = { .size = sizeof(opts), .label = "pg" };
	struct mote_pg *pg = mote_pg_scope(scope);
	mote_pid got = MOTE_NOBODY;
	int err;

	if (pid)
		*pid = MOTE_NOBODY;
	if (!pg)
		return mote_errno();
	opts.name = ((struct handle *)pg)->name;
	err = link ? mote_server_start_link(&pg_server_ops, pg, &opts, &got) :
		     mote_server_start(&pg_server_ops, pg, &opts, &got);
	if (pid)
		*pid = got;
	return err;
}

int mote_pg_start(const char *scope, mote_pid *pid)
{
	return start(scope, false, pid);
}

int mote_pg_start_link(const char *scope, mote_pid *pid)
{
	return start(scope, true, pid);
}

static int child_start(void *arg, mote_pid *pid)
{
	return mote_pg_start_link(arg, pid);
}

struct mote_child_spec mote_pg_child(const char *scope)
{
	return (struct mote_child_spec){ .id = scope ? scope : "pg", .start = child_start, .arg = (void *)scope };
}

/* --- blocks */

const struct mote_pg_event *pg_block_next(const char **at, const char *end)
{
	const struct mote_pg_event *block = (const void *)*at;
	size_t left = (size_t)(end - *at);

	if (left < sizeof(*block) || block->nr_pids > left / sizeof(mote_pid) || block->size > left ||
	    pg_block_size(block->nr_pids, block->size) > left)
		return NULL;
	*at += pg_block_size(block->nr_pids, block->size);
	return block;
}

char *pg_block_put(char *at, const void *group, size_t size, const mote_pid *pids, size_t n)
{
	struct mote_pg_event block = { .nr_pids = (uint32_t)n, .size = (uint32_t)size };
	char *end = at + pg_block_size(n, size);

	at = mempcpy(at, &block, sizeof(block));
	at = n ? mempcpy(at, pids, n * sizeof(*pids)) : at;
	at = size ? mempcpy(at, group, size) : at;
	memset(at, 0, (size_t)(end - at));
	return end;
}

PROCESS_ENTRY static void enter_fn(mote_pg_fn fn, const struct mote_pg_event *block, void *arg)
{
	fn(mote_pg_event_group(block), block->size, mote_pg_event_pids(block), block->nr_pids, arg);
	PROCESS_ENTRY_END();
}

static int64_t blocks_show(const char *at, const char *end, mote_pg_fn fn, void *arg)
{
	const struct mote_pg_event *block;
	int64_t n = 0;

	while ((block = pg_block_next(&at, end))) {
		if (fn)
			enter_fn(fn, block, arg);
		n++;
	}
	return n;
}

/* --- looking */

static int64_t members(struct mote_pg *pg, bool local, const void *group, size_t size, mote_pid *pids, size_t max)
{
	struct scheduler *s;
	struct book_entry *e;
	struct pg_table *t;
	uint64_t hash;
	size_t n = 0;

	if (!pg)
		return -EINVAL;
	hash = book_hash(group, size);
	s = runtime_try_enter();
	epoch_enter(s);
	t = handle_look(pg);
	for (e = t ? book_first(book_find(&t->book, group, size, hash)) : NULL; e; e = book_next(e)) {
		if (local && !port_is_here(e->pid.node))
			continue;
		if (n < max)
			pids[n] = e->pid;
		n++;
	}
	epoch_leave(s);
	if (s)
		runtime_leave_on(s);
	return t ? (int64_t)n : -ESRCH;
}

int64_t mote_pg_members(struct mote_pg *pg, const void *group, size_t size, mote_pid *pids, size_t max)
{
	return members(pg, false, group, size, pids, max);
}

int64_t mote_pg_local_members(struct mote_pg *pg, const void *group, size_t size, mote_pid *pids, size_t max)
{
	return members(pg, true, group, size, pids, max);
}

/* Into to, if what the group needs fits before end; where the next one goes, or would. */
static char *group_put(char *to, const char *end, struct book_key *k, bool local)
{
	struct book_entry *e, *first = book_first(k);
	struct mote_pg_event block = { .size = k->size };
	uint32_t room;
	mote_pid *pids;
	char *next;

	for (e = first; e; e = book_next(e))
		block.nr_pids += !local || port_is_here(e->pid.node);
	if (!block.nr_pids)
		return to;
	next = to + pg_block_size(block.nr_pids, block.size);
	if (next > end)
		return next;
	memcpy(to, &block, sizeof(block));
	pids = (mote_pid *)(to + sizeof(block));
	/* Some may have come meanwhile, or gone. */
	room = block.nr_pids;
	block.nr_pids = 0;
	for (e = first; e && block.nr_pids < room; e = book_next(e)) {
		if (!local || port_is_here(e->pid.node))
			pids[block.nr_pids++] = e->pid;
	}
	if (!block.nr_pids)
		return to;
	memcpy(to, &block, sizeof(block));
	memcpy(&pids[block.nr_pids], k->bytes, k->size);
	return to + pg_block_size(block.nr_pids, block.size);
}

/* How many bytes all groups need; size: how many there is room for. -ESRCH. */
static int64_t groups_copy(struct mote_pg *pg, bool local, char *to, size_t size, size_t *used)
{
	struct scheduler *s = runtime_try_enter();
	char *at = to, *end = to + size;
	struct pg_table *t;

	epoch_enter(s);
	t = handle_look(pg);
	for (int shard = 0; t && shard < BOOK_SHARDS; shard++) {
		/* acquire: as in book_find() */
		struct book_table *cells = atomic_load_explicit(&t->book.shards[shard].table, memory_order_acquire);

		for (uint32_t i = 0; cells && i <= cells->mask; i++) {
			struct book_key *k = atomic_load_explicit(&cells->cells[i], memory_order_acquire);

			if (k && k != &book_gone)
				at = group_put(at, end, k, local);
		}
	}
	epoch_leave(s);
	if (s)
		process_leave(s);
	*used = (size_t)(at - to);
	return t ? 0 : -ESRCH;
}

static int64_t groups(struct mote_pg *pg, bool local, mote_pg_fn fn, void *arg)
{
	bool in_process = mote_in_process();
	size_t size = 0, used;
	char *blocks = NULL;
	int64_t n;

	if (!pg)
		return -EINVAL;
	while (!(n = groups_copy(pg, local, blocks, size, &used)) && used > size) {
		in_process ? mote_free(blocks) : free(blocks);
		size = used + used / 4;
		blocks = in_process ? mote_alloc(size) : malloc(size);
		if (!blocks)
			return -ENOMEM;
	}
	if (!n)
		n = blocks_show(blocks, blocks + used, fn, arg);
	in_process ? mote_free(blocks) : free(blocks);
	return n;
}

int64_t mote_pg_groups(struct mote_pg *pg, mote_pg_fn fn, void *arg)
{
	return groups(pg, false, fn, arg);
}

int64_t mote_pg_local_groups(struct mote_pg *pg, mote_pg_fn fn, void *arg)
{
	return groups(pg, true, fn, arg);
}

/* --- asking */

static mote_pid server_of(struct mote_pg *pg)
{
	struct scheduler *s = runtime_enter("a function of mote/pg.h");
	mote_pid server = MOTE_NOBODY;
	struct pg_table *t;

	epoch_enter(s);
	t = handle_look(pg);
	if (t)
		server = t->server;
	epoch_leave(s);
	process_leave(s);
	return server;
}

/* Takes m. 0, with *reply given; or why not. */
static int ask(struct mote_pg *pg, struct mote_msg *m, struct mote_msg **reply)
{
	mote_pid server = server_of(pg);
	mote_ref ref;

	if (!m)
		return mote_errno();
	if (!mote_pid_valid(server)) {
		mote_msg_free(m);
		return -ESRCH;
	}
	ref = mote_request_msg(server, m);
	return ref.id ? call_result(mote_receive_ref(ref, MOTE_FOREVER), reply) : mote_errno();
}

static int ask_short(struct mote_pg *pg, struct mote_msg *m)
{
	struct mote_msg *reply = NULL;
	int err = ask(pg, m, &reply);
	int32_t answer;

	if (err)
		return err;
	memcpy(&answer, reply->data, sizeof(answer));
	mote_msg_free(reply);
	return answer;
}

static int change(struct mote_pg *pg, uint32_t what, const void *group, size_t size, const mote_pid *pids, size_t n)
{
	struct mote_msg *m;

	if (!pg || (n && !pids))
		return -EINVAL;
	if (size > GROUP_MAX || n > JOIN_MAX)
		return -EMSGSIZE;
	for (size_t i = 0; i < n; i++) {
		if (!mote_pid_valid(pids[i]))
			return -EINVAL;
		if (!port_is_here(pids[i].node))
			return -EREMOTE;
	}
	m = mote_msg_new(what, pg_block_size(n, size));
	if (m)
		pg_block_put(m->data, group, size, pids, n);
	return ask_short(pg, m);
}

int mote_pg_join(struct mote_pg *pg, const void *group, size_t size, const mote_pid *pids, size_t n)
{
	return change(pg, PG_ASK_JOIN, group, size, pids, n);
}

int mote_pg_leave(struct mote_pg *pg, const void *group, size_t size, const mote_pid *pids, size_t n)
{
	return change(pg, PG_ASK_LEAVE, group, size, pids, n);
}

static int64_t monitor(struct mote_pg *pg, bool all, const void *group, size_t size, mote_ref *ref, mote_pg_fn fn,
		       void *arg)
{
	struct mote_msg *m, *reply = NULL;
	struct pg_monitor what = { .all = all };
	int64_t n;

	*ref = (mote_ref){ 0 };
	if (!pg)
		return -EINVAL;
	if (size > GROUP_MAX)
		return -EMSGSIZE;
	what.ref = mote_alias(0);
	if (!what.ref.id)
		return -ENOMEM;
	m = mote_msg_new(PG_ASK_MONITOR, sizeof(what) + size);
	if (m) {
		memcpy(m->data, &what, sizeof(what));
		if (size)
			memcpy((char *)m->data + sizeof(what), group, size);
	}
	n = ask(pg, m, &reply);
	if (n || reply->type != PG_ASK_MONITOR) {
		mote_msg_free(reply);
		mote_unalias(what.ref);
		return n ? n : -ENOMEM;
	}
	*ref = what.ref;
	n = blocks_show(reply->data, (const char *)reply->data + reply->size, fn, arg);
	mote_msg_free(reply);
	return n;
}

int64_t mote_pg_monitor(struct mote_pg *pg, const void *group, size_t size, mote_ref *ref, mote_pg_fn fn, void *arg)
{
	return monitor(pg, false, group, size, ref, fn, arg);
}

int64_t mote_pg_monitor_scope(struct mote_pg *pg, mote_ref *ref, mote_pg_fn fn, void *arg)
{
	return monitor(pg, true, NULL, 0, ref, fn, arg);
}

int mote_pg_demonitor(struct mote_pg *pg, mote_ref ref)
{
	struct mote_msg *m;
	int err;

	if (!pg)
		return -EINVAL;
	m = mote_msg_new(PG_ASK_DEMONITOR, sizeof(ref));
	if (m)
		memcpy(m->data, &ref, sizeof(ref));
	err = ask_short(pg, m);
	/* What comes from a scope that ended came to the mailbox before. */
	if (!err || err == -ESRCH || err == -EPIPE)
		mote_unalias(ref);
	return err;
}
