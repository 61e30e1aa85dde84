/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The store: a server that owns the connection. Each request is one transaction, on a thread that may block; requests
 * wait for each other here, and not in the database.
 */
#include "jobs.h"

#define OUT_ROOM (4 * COMMAND_MAX)

struct store {
	struct db db;
	struct out out;
};

struct work {
	struct store *store;
	const struct op *op;
	const void *in;
};

static int64_t do_open(void *arg)
{
	struct store *s = arg;
	int err = db_open(&s->db, settings.path, true);

	return err ? err : db_check(&s->db);
}

static int64_t do_close(void *arg)
{
	db_close(&((struct store *)arg)->db);
	return 0;
}

static int64_t do_work(void *arg)
{
	struct work *w = arg;

	return db_transaction(&w->store->db, w->op, w->in, &w->store->out);
}

/* Whatever ends the store: a transaction under way is over by then. */
static void close_all(void *arg)
{
	mote_blocking(do_close, arg, NULL, mote_in_ms(4000));
}

static int store_init(struct store *s, void *arg)
{
	int64_t err;

	(void)arg;
	s->out = (struct out){ .data = mote_alloc(OUT_ROOM), .room = OUT_ROOM };
	if (!s->out.data)
		return -ENOMEM;
	mote_defer(close_all, s);
	mote_blocking(do_open, s, &err, MOTE_FOREVER);
	if (err)
		jobs_log("%s: %s", settings.path, s->db.text);
	return err;
}

/* The type of an answer is the error. */
static void store_request(struct store *s, struct mote_from from, const struct mote_msg *m)
{
	struct work w = { s, &ops[m->type], m->data };
	int64_t err;

	s->out.size = 0;
	mote_blocking(do_work, &w, &err, MOTE_FOREVER);
	if (err && err != -ENOENT)
		jobs_log("%s: %s: %s", settings.path, w.op->name, s->db.text);
	mote_reply(from, -err, s->out.data, err ? 0 : s->out.size);
	if (err == -EBADMSG)
		mote_server_exit(mote_reason_error(EBADMSG, "the database is damaged"));
}

MOTE_SERVER(store, struct store, .init = store_init, .handle_call = store_request);
const struct mote_server_ops *const store_ops = &store.ops;

int store_call(uint32_t op, const void *in, size_t size, struct mote_msg **reply, mote_deadline deadline)
{
	struct mote_msg *answer;
	int err = mote_call(mote_whereis("store"), op, in, size, &answer, deadline);

	if (err)
		return err;
	err = -(int)answer->type;
	if (reply && !err)
		*reply = answer;
	else
		mote_msg_free(answer);
	return err;
}
