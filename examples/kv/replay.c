/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Reading the append-only file. The writer looks through it when the server starts. A shard that starts, with the server
 * or in the place of one that died, runs the commands on its own keys: up to a cut, the place where the writer is when
 * it asks. What is written behind the cut is not its own, because it answers nobody until it is done.
 */
#include "shard.h"

/* A real Redis's file has SELECT, and may have MULTI and EXEC. */
static bool is_idle(const struct arg *argv, int argc)
{
	return !argc || arg_is(argv, "multi") || arg_is(argv, "exec") ||
	       (arg_is(argv, "select") && argc == 2 && argv[1].len == 1 && *argv[1].p == '0');
}

/* Random keys are not in the cache: better to wait for many at once than for each. */
static void run_ahead(struct replay *r)
{
	struct shard *s = r->shard;

	for (uint32_t i = 0; i < r->n; i++)
		shard_prefetch(s, r->ahead[i].hash, true);
	for (uint32_t i = 0; i < r->n; i++) {
		const struct item *item = &r->ahead[i];

		shard_run(s, item->cmd, item->hash, r->in.args + item->arg, item->argc);
		if (s->reply.len && *s->reply.data == '-')
			kv_log("'%s': a %s in it fails", kv.file, item->cmd->name);
		s->reply.len = 0;
	}
	r->n = 0;
}

static void add(struct replay *r, struct item item)
{
	shard_prefetch(r->shard, item.hash, false);
	r->ahead[r->n++] = item;
	if (r->n == sizeof(r->ahead) / sizeof(*r->ahead))
		run_ahead(r);
}

/* The parts of a command that are the shard's. A part has its key where it stands; the name is not looked at. */
static void take_own(struct replay *r, const struct command *cmd, uint32_t first, uint32_t argc)
{
	uint32_t step = cmd->flags & CMD_MANY ? (uint32_t)cmd->how : argc - 1;

	if (cmd->flags & CMD_ALL)
		add(r, (struct item){ cmd, 0, first, argc, 0 });
	for (uint32_t i = 1; !(cmd->flags & CMD_ALL) && i + step <= argc; i += step) {
		const struct arg *key = &r->in.args[first + i];
		uint64_t hash = key_hash(key->p, key->len);

		if (key_shard(key->p, key->len, hash) == r->shard->index)
			add(r, (struct item){ cmd, hash, first + i - 1, step + 1, 0 });
	}
}

/* False: at the end, or there is something that is no command of such a file. */
static bool take_commands(struct replay *r)
{
	int got;

	while ((got = parser_next(&r->in)) == PARSE_COMMAND) {
		struct arg *argv = r->in.args + r->in.first;
		int argc = r->in.nargs - r->in.first;
		const struct command *cmd = argc ? command_find(argv) : NULL;

		if (cmd && cmd->flags & CMD_WRITE && command_arity(cmd, argc)) {
			if (r->shard)
				take_own(r, cmd, r->in.first, argc);
		} else if (!is_idle(argv, argc)) {
			strcpy(r->in.error, "not a command that changes keys");
			return false;
		}
		r->commands++;
		mote_check();
	}
	run_ahead(r);
	return got == PARSE_MORE;
}

void replay_file(struct replay *r, int fd, int64_t size)
{
	ssize_t n;

	r->in.strict = true;
	r->in.least = 1 << 20;
	do {
		if (!parser_room(&r->in))
			writer_die("too big a command in", -EFBIG);
		n = r->in.room - r->in.len;
		n = mote_file_read(fd, r->in.buf + r->in.len, n < size - r->size ? n : size - r->size, r->size,
				   MOTE_FOREVER);
		if (n < 0)
			writer_die("can't read", n);
		r->in.len += n;
		r->size += n;
	} while (take_commands(r) && n);
}

void shard_replay(struct shard *s)
{
	struct replay r = { .shard = s }, rest = { .shard = s, .in.strict = true };
	const struct cut *cut;
	struct mote_msg *m;

	for (;;) {
		/* Without the writer the server ends, and this one need not say why. */
		if (mote_call(s->writer, KV_CUT, &s->index, sizeof(s->index), &m, MOTE_FOREVER))
			mote_exit(MOTE_REASON_SHUTDOWN);
		cut = m->data;
		if (cut->fd != -EMFILE && cut->fd != -ENFILE)
			break;
		mote_msg_free(m);
		mote_sleep(mote_in_ms(100));		/* some will come back */
	}
	if (cut->fd < 0)
		writer_die("can't open", cut->fd);
	s->loading = true;
	s->resp = 2;
	replay_file(&r, cut->fd, cut->size);
	rest.in.buf = (char *)(cut + 1);
	rest.in.len = m->size - sizeof(*cut);
	if (r.in.offset + r.in.start != (uint64_t)cut->size || !take_commands(&rest)) {
		kv_log("'%s' was damaged while the server ran, before offset %lld", kv.file, (long long)r.size);
		mote_exit(mote_reason_error(EBADMSG, "the append-only file is damaged"));
	}
	s->loading = false;
	s->sent = cut->unwritten;
	mote_send(mote_self(), KV_EXPIRE, NULL, 0);
	mote_fd_close(cut->fd);
	mote_msg_free(m);
	mote_free(r.in.buf);
	mote_free(r.in.args);
	mote_free(rest.in.args);
}
