/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The server process of a shard. It never waits: what it has to say goes to the asker, or, when something was
 * changed, with the log to the writer, who lets the reply go when its time has come.
 */
#include "shard.h"

#include <unistd.h>

#define CHUNK_SIZE	(256u << 10)
#define CHUNK_STEPS	4096		/* buckets, however empty */

int64_t shard_now(struct shard *s)
{
	if (!s->now)
		s->now = kv_time_ms();
	return s->now;
}

void shard_log(struct shard *s, const struct arg *args, unsigned int n)
{
	if (!s->loading && kv.append_only)
		out_command(&s->log, args, n);
}

void shard_save(struct out *o, struct entry *e)
{
	char when[24];
	struct arg args[] = { ARG("SET"), { e->key, e->klen }, { entry_value(e), e->vlen }, ARG("PXAT"), { when, 0 } };

	args[4].len = print_int(when, e->expires);
	out_command(o, args, e->expires ? 5 : 3);
}

/* Answers; by way of the writer when there is something to log, or something logged has not been written yet. */
static void finish(struct shard *s)
{
	struct log_tail tail = { s->client, s->reply.len, s->before.len, s->log.len, s->index, s->fsync };
	bool all_logged = s->sent == atomic_load_explicit(&kv.logged[s->index], memory_order_relaxed);

	if (s->log.len || (!all_logged && !kv.write_error)) {
		if (s->before.len)
			out_put(&s->reply, s->before.data, s->before.len);
		if (s->log.len)
			out_put(&s->reply, s->log.data, s->log.len);
		out_put(&s->reply, &tail, sizeof(tail));
		s->before.len = s->log.len = 0;
		s->sent++;
		s->client = MOTE_NOBODY;
		mote_send_msg(s->writer, out_take(&s->reply, KV_LOG));
	} else if (mote_pid_valid(tail.client)) {
		s->client = MOTE_NOBODY;
		mote_send_msg(tail.client, out_take(&s->reply, KV_REPLY + s->index));
	}
	if (s->log.room > REPLY_SLICE)
		out_drop(&s->log);
}

void shard_run(struct shard *s, const struct command *cmd, uint64_t hash, struct arg *argv, int argc)
{
	s->cmd = cmd;
	s->hash = hash;
	s->argc = argc;
	cmd->shard(s, argv);
}

static void run(struct shard *s, const struct command *cmd, const struct batch_command *c)
{
	char *text = (char *)(c->lens + c->argc);

	if (c->argc >= s->argv_room) {
		s->argv_room = c->argc * 2 + 16;
		s->argv = kv_realloc(s->argv, s->argv_room * sizeof(*s->argv));
	}
	s->argv[0] = (struct arg){ (char *)cmd->name, strlen(cmd->name) };
	for (uint32_t i = 0; i < c->argc; i++) {
		s->argv[i + 1] = (struct arg){ text, c->lens[i] };
		text += c->lens[i];
	}
	shard_run(s, cmd, c->hash, s->argv, c->argc + 1);
}

/* Random keys are not in the cache: better to wait for all of them at once than for each. */
static void prefetch(struct shard *s, const struct batch_head *head)
{
	for (int entry = 0; entry < 2 && head->count > 1; entry++) {
		const struct batch_command *c = (const void *)(head + 1);

		for (uint32_t n = 0; n < head->count && n < 64; n++, c = (const void *)((const char *)c + c->size))
			shard_prefetch(s, c->hash, entry);
	}
}

static void run_batch(struct shard *s, const struct mote_msg *m)
{
	const struct batch_head *head = m->data;
	const char *next = (const char *)(head + 1);
	uint32_t n = 0;

	s->client = m->from;
	s->count = head->count;
	s->resp = head->resp;
	s->fsync = head->fsync;
	if (head->count > s->lens_room) {
		s->lens_room = head->count * 2;
		s->lens = kv_realloc(s->lens, s->lens_room * sizeof(*s->lens));
	}
	out_need(&s->reply, 16 * head->count);
	prefetch(s, head);
	while (n < head->count && s->reply.len < REPLY_SLICE) {
		const struct batch_command *c = (const void *)next;
		const struct command *cmd = &commands[c->cmd];
		size_t start = s->reply.len;

		if (cmd->flags & CMD_WRITE && kv.write_error)
			out_format(&s->reply, "-" MISCONF "\r\n", strerror(kv.write_error));
		else
			run(s, cmd, c);
		s->lens[n++] = s->reply.len - start;
		next += c->size;
		mote_check();
	}
	out_put(&s->reply, s->lens, n * sizeof(n));
	out_put(&s->reply, &n, sizeof(n));
	finish(s);
}

void shard_reply_errors(struct out *o, uint32_t n, const char *error)
{
	uint32_t len = strlen(error) + 3;

	for (uint32_t i = 0; i < n; i++)
		out_format(o, "-%s\r\n", error);
	for (uint32_t i = 0; i < n; i++)
		out_put(o, &len, sizeof(len));
	out_put(o, &n, sizeof(n));
}

/* Others who wait ask the next one again. Whose commands it died of must not, or that one would die, too. */
static void shard_terminate(void *state, const struct mote_reason *why)
{
	struct shard *s = state;
	struct out o = { 0 };

	(void)why;
	if (!mote_pid_valid(s->client))
		return;
	shard_reply_errors(&o, s->count, "ERR the shard died while it ran this; nothing of it was done");
	mote_send_msg(s->client, out_take(&o, KV_REPLY + s->index));
}

static void save_entry(struct shard *s, struct entry *e, void *o)
{
	if (e->epoch == s->epoch)
		return;
	e->epoch = s->epoch;
	shard_save(o, e);
}

/*
 * One part of a snapshot. Logs and parts reach the writer in the order of this process's doings, so the new file may
 * have them mixed: an entry that is about to be changed before its turn is saved first (shard_find_to_write), one that
 * was made later is in the log as a whole.
 */
static void snapshot_part(struct shard *s, struct snapshot part)
{
	struct out o = { 0 };

	out_need(&o, CHUNK_SIZE + CHUNK_SIZE / 4);
	out_put(&o, &part, sizeof(part));
	for (int steps = 0; s->snapshot && o.len < CHUNK_SIZE && steps < CHUNK_STEPS; steps++) {
		s->cursor = shard_scan(s, s->cursor, save_entry, &o);
		s->snapshot = s->cursor != 0;
	}
	if (!s->snapshot)
		((struct snapshot *)o.data)->what = SNAPSHOT_LAST;
	mote_send_msg(s->writer, out_take(&o, KV_CHUNK));
}

static void shard_info(void *state, const struct mote_msg *m)
{
	struct shard *s = state;

	s->now = 0;
	if (m->type == KV_BATCH) {
		run_batch(s, m);
	} else if (m->type == KV_EXPIRE) {
		shard_expire_due(s);
		finish(s);
	} else if (m->type == KV_SNAPSHOT) {
		struct snapshot order = *(struct snapshot *)m->data;

		if (order.what == SNAPSHOT_BEGIN) {
			s->epoch++;
			s->cursor = 0;
		}
		s->snapshot = order.what == SNAPSHOT_BEGIN || (order.what == SNAPSHOT_NEXT && s->snapshot);
		if (order.what != SNAPSHOT_STOP)
			snapshot_part(s, order);
	}
}

/* One death is a crash, more without having served in between mean that it can't start. */
static int shard_init(void *state, void *arg)
{
	static struct seat {
		int failures;
		bool again;
	} seats[SHARDS_MAX];
	struct serves serves = { .shard = (intptr_t)arg, .os_pid = getpid(), .pid = mote_self() };
	struct seat *seat = &seats[serves.shard];
	mote_deadline begun = mote_now();
	struct shard *s = state;

	s->index = serves.shard;
	s->fsync = kv.fsync;
	s->writer = serves.writer = mote_whereis("writer");
	if (seat->failures++ >= FAILURES_MAX) {
		kv_log("shard %d could not be started again, %d times in a row: giving up", s->index, FAILURES_MAX);
		mote_server_stop(mote_whereis("store"), mote_reason_error(EPIPE, "incomplete"), MOTE_FOREVER);
	}
	if (kv.append_only)
		shard_replay(s);
	if (seat->again)
		kv_log("shard %d serves again after %.1f ms%s", s->index, (mote_now().ns - begun.ns) / 1e6,
		       kv.append_only ? "" : ", without its keys: there is no file");
	seat->again = true;
	seat->failures = 0;
	mote_send(kv.main, KV_SERVES, &serves, sizeof(serves));
	return 0;
}

const struct mote_handler_ops shard_ops = {
	.size = sizeof(struct mote_handler_ops),
	.state_size = sizeof(struct shard),
	.init = shard_init,
	.info = shard_info,
	.terminate = shard_terminate,
};

void shard_count(struct shard *s, struct arg *argv)
{
	(void)argv;
	out_number(&s->reply, ':', s->keys);
}

void shard_info_counts(struct shard *s, struct arg *argv)
{
	struct mote_process_info info = { .size = sizeof(info) };
	int64_t counts[NR_COUNTS] = { s->keys, s->nheap };

	(void)argv;
	mote_process_info(mote_self(), &info);
	counts[COUNT_MEMORY] = info.memory;
	counts[COUNT_WRITE_ERRORS] = kv.write_error;
	out_number(&s->reply, '*', NR_COUNTS);
	for (int i = 0; i < NR_COUNTS; i++)
		out_number(&s->reply, ':', counts[i]);
}

void shard_crash(struct shard *s, struct arg *argv)
{
	(void)s, (void)argv;
	kv_crash();
}

/* All keys are deleted by name when there are other shards: the file is one, and FLUSHALL would be for all of them. */
static void log_delete(struct shard *s, struct entry *e, void *arg)
{
	(void)arg;
	SHARD_LOG(s, ARG("DEL"), { e->key, e->klen });
}

void shard_flush(struct shard *s, struct arg *argv)
{
	uint64_t cursor = 0;

	(void)argv;
	if (shards_all() == 1)
		SHARD_LOG(s, ARG("FLUSHALL"));
	else if (s->keys)
		while ((cursor = shard_scan(s, cursor, log_delete, NULL)))
			;
	shard_clear(s);
	s->snapshot = false;
	out_text(&s->reply, "+OK\r\n");
}

struct match {
	const struct arg *pattern;
	struct out out;
	uint32_t found;
};

static void match_entry(struct shard *s, struct entry *e, void *arg)
{
	struct match *match = arg;

	if ((e->expires && shard_now(s) > e->expires) ||
	    (match->pattern && !glob_match(match->pattern->p, match->pattern->len, e->key, e->klen)))
		return;
	out_bulk(&match->out, e->key, e->klen);
	match->found++;
}

void shard_keys(struct shard *s, struct arg *argv)
{
	struct match match = { .pattern = &argv[1] };
	uint64_t cursor = 0;

	do
		cursor = shard_scan(s, cursor, match_entry, &match);
	while (cursor);
	out_number(&s->reply, '*', match.found);
	if (match.found)
		out_put(&s->reply, match.out.data, match.out.len);
	out_drop(&match.out);
}

/* The cursor that clients see is the shard's times the number of shards, plus the shard. */
void shard_scan_keys(struct shard *s, struct arg *argv)
{
	struct match match = { 0 };
	int64_t seen = 0, count = 10;
	uint64_t cursor = 0;
	bool none = false;
	char text[24];

	for (uint32_t i = 0; i < argv[1].len; i++)
		cursor = cursor * 10 + (argv[1].p[i] - '0');
	for (int i = 2; i < s->argc; i += 2) {
		bool value = i + 1 < s->argc;

		if (value && arg_is(&argv[i], "count")) {
			if (!parse_int(argv[i + 1].p, argv[i + 1].len, &count)) {
				out_text(&s->reply, "-ERR value is not an integer or out of range\r\n");
				return;
			}
		} else if (value && arg_is(&argv[i], "match")) {
			match.pattern = &argv[i + 1];
		} else if (value && arg_is(&argv[i], "type")) {
			none = !arg_is(&argv[i + 1], "string");
		} else {
			count = 0;
		}
		if (count < 1) {
			out_text(&s->reply, "-ERR syntax error\r\n");
			return;
		}
	}
	cursor /= shards_all();
	do
		cursor = shard_scan(s, cursor, match_entry, &match);
	while (cursor && match.found < count && ++seen < 10 * count);
	cursor = cursor ? cursor * shards_all() + s->index : s->index + 1 < shards_all() ? s->index + 1 : 0;
	out_number(&s->reply, '*', 2);
	out_bulk(&s->reply, text, print_int(text, cursor));
	out_number(&s->reply, '*', none ? 0 : match.found);
	if (match.out.len && !none)
		out_put(&s->reply, match.out.data, match.out.len);
	out_drop(&match.out);
}
