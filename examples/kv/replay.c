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

/* The parts of a command that are the shard's. A part has its key where it stands; the name is not looked at. */
static void run_own(struct shard *s, const struct command *cmd, struct arg *argv, int argc)
{
	int step = cmd->flags & CMD_MANY ? cmd->how : argc - 1;

	if (cmd->flags & CMD_ALL)
		shard_run(s, cmd, 0, argv, argc);
	for (int i = 1; !(cmd->flags & CMD_ALL) && i + step <= argc; i += step) {
		uint64_t hash = key_hash(argv[i].p, argv[i].len);

		if (hash_shard(hash) == s->index)
			shard_run(s, cmd, hash, argv + i - 1, step + 1);
	}
	if (s->reply.len && *s->reply.data == '-')
		kv_log("'%s': a %s in it fails", kv.file, cmd->name);
	s->reply.len = 0;
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
				run_own(r->shard, cmd, argv, argc);
		} else if (!is_idle(argv, argc)) {
			strcpy(r->in.error, "not a command that changes keys");
			return false;
		}
		r->commands++;
		mote_check();
	}
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
		if (mote_call(kv.writer, KV_CUT, &s->index, sizeof(s->index), &m, MOTE_FOREVER))
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
