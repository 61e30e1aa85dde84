/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * One process per connection: it receives into one buffer, runs all commands that are whole, and sends all replies at
 * once. While the client does not read, the process waits in its send and reads nothing more.
 */
#include "kv.h"

#include <stdarg.h>
#include <stdio.h>

static void append(struct conn *c, const char *reply, size_t len)
{
	if (len)
		out_put(&c->out, reply, len);
	if (c->out.len >= REPLY_SLICE)
		conn_flush(c);
}

void conn_run(struct conn *c)
{
	batch_run(&c->batch, c->in.args, c, &c->out, append);
}

void conn_error(struct conn *c, const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	for (char *p = text; *p; p++)
		if (*p == '\r' || *p == '\n')
			*p = ' ';
	out_format(&c->out, "-%s\r\n", text);
}

/* Any of the server's processes that does not answer is dead, and with it the server. */
struct mote_msg *conn_ask(mote_pid server, struct out *o, uint32_t type)
{
	struct mote_msg *m;

	out_need(o, 1);
	m = mote_receive_ref(mote_request_msg(server, out_take(o, type)), MOTE_FOREVER);
	if (!m || m->type == MOTE_MSG_DOWN)
		mote_exit(MOTE_REASON_SHUTDOWN);
	return m;
}

struct serves conn_find(uint32_t shard, mote_pid not)
{
	struct find find = { shard, not };
	struct serves found;
	struct out o = { 0 };
	struct mote_msg *m;

	out_put(&o, &find, sizeof(find));
	m = conn_ask(kv.main, &o, KV_FIND);
	found = *(struct serves *)m->data;
	mote_msg_free(m);
	return found;
}

void conn_flush(struct conn *c)
{
	if (!c->out.len)
		return;
	if (mote_pid_valid(c->pusher))
		mote_msg_free(conn_ask(c->pusher, &c->out, KV_PUSH));
	else if (mote_net_send(c->fd, c->out.data, c->out.len, MOTE_FOREVER) < 0)
		mote_exit(MOTE_REASON_SHUTDOWN);
	c->out.len = 0;
	if (c->out.room > BUFFER_SIZE)
		out_drop(&c->out);
}

/* The names of processes serve as the list of clients, too: it is right even when one is killed. */
bool conn_name(struct conn *c, const struct arg *name)
{
	char text[64] = "";
	struct mote_addr addr;

	for (uint32_t i = 0; i < name->len; i++) {
		if (name->p[i] < '!' || name->p[i] > '~') {
			conn_error(c, "ERR Client names cannot contain spaces, newlines or special characters.");
			return false;
		}
	}
	if (!mote_net_peer(c->fd, &addr))
		mote_addr_format(&addr, text, sizeof(text));
	if (*c->listed)
		mote_unregister(c->listed);
	snprintf(c->name, sizeof(c->name), "%.*s", (int)name->len, name->p);
	snprintf(c->listed, sizeof(c->listed), "id=%d addr=%s name=%s", c->id, text, c->name);
	mote_register(c->listed, mote_self());
	return true;
}

/* However it ends. The pusher knows the descriptor by its number, which is the next connection's as soon as this one's is
 * closed. */
static void leave(void *arg)
{
	struct conn *c = arg;
	mote_ref ended;

	kv.clients--;
	if (!mote_pid_valid(c->pusher))
		return;
	ended = mote_monitor(c->pusher);
	mote_exit_pid(c->pusher, MOTE_REASON_KILL);
	mote_msg_free(mote_receive_ref(ended, mote_in_ms(5000)));
}

static void enter(struct conn *c, int fd)
{
	static _Atomic int last_id;

	*c = (struct conn){ .fd = fd, .id = ++last_id, .in.least = BUFFER_SIZE, .batch.resp = 2 };
	conn_name(c, &ARG(""));
	mote_defer(leave, c);
	c->closing = kv.clients++ >= kv.max_clients;
	if (c->closing)
		conn_error(c, "ERR max number of clients reached");
}

static void unknown_command(struct conn *c, struct arg *argv, int argc)
{
	char args[160] = "";
	int len = 0;

	for (int i = 1; i < argc && len < 128; i++)
		len += snprintf(args + len, sizeof(args) - len, "'%.*s' ",
				(int)argv[i].len < 128 - len ? (int)argv[i].len : 128 - len, argv[i].p);
	conn_error(c, "ERR unknown command '%.*s', with args beginning with: %s",
		   argv->len < 128 ? (int)argv->len : 128, argv->p, args);
}

void conn_execute(struct conn *c, struct arg *argv, int argc)
{
	const struct command *cmd = command_find(argv);
	bool bound = c->subscriptions && c->batch.resp == 2, good = cmd && command_arity(cmd, argc);

	if (good && !bound && (!cmd->conn || (cmd->flags & CMD_ONE && argc == 2))) {
		batch_key(&c->batch, cmd, c->in.args, argv + 1 - c->in.args, argc - 1);
		if (c->batch.n == BATCH_MAX)
			conn_run(c);
		return;
	}
	conn_run(c);		/* everything else waits for what came before it */
	c->cmd = cmd;
	c->argc = argc;
	if (!cmd)
		unknown_command(c, argv, argc);
	else if (!good)
		conn_error(c, "ERR wrong number of arguments for '%s' command", cmd->name);
	else if (bound && !(cmd->flags & CMD_SUBSCRIBER))
		conn_error(c, "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
			   "are allowed in this context", cmd->name);
	else
		cmd->conn(c, argv);
	append(c, NULL, 0);
}

/* Lets the client read the last reply: unread input would make the kernel take it back. */
static void linger(struct conn *c)
{
	mote_deadline deadline = mote_in_ms(500);

	mote_net_shutdown(c->fd, SHUT_WR);
	while (mote_net_recv(c->fd, c->in.buf, c->in.room, deadline) > 0)
		;
}

static void conn_main(void *arg)
{
	struct mote_msg *m = mote_receive_type(KV_FD, MOTE_FOREVER);
	struct conn *c = kv_realloc(NULL, sizeof(*c));
	int r = PARSE_MORE;
	ssize_t n;

	(void)arg;
	enter(c, *(int *)m->data);
	mote_msg_free(m);
	while (parser_room(&c->in) && !c->closing) {
		n = mote_net_recv(c->fd, c->in.buf + c->in.len, c->in.room - c->in.len, MOTE_FOREVER);
		if (n <= 0)
			break;
		c->in.len += n;
		while (!c->closing && (r = parser_next(&c->in)) == PARSE_COMMAND)
			if (c->in.nargs > c->in.first)
				conn_execute(c, c->in.args + c->in.first, c->in.nargs - c->in.first);
		conn_run(c);
		if (r == PARSE_ERROR && !c->closing) {
			conn_error(c, "ERR %s", c->in.error);
			c->closing = true;
		}
		conn_flush(c);
	}
	conn_flush(c);
	if (c->closing)
		linger(c);
}

void listener_main(void *arg)
{
	struct mote_spawn_opts opts = { .size = sizeof(opts), .fn = conn_main, .label = "connection" };
	mote_deadline patience = mote_in_ms(5000);
	struct mote_addr addr;
	char text[128];
	int lfd;

	(void)arg;
	snprintf(text, sizeof(text), "%s:%d", kv.bind, kv.port);
	lfd = mote_addr_parse(&addr, text) ? -EINVAL : mote_net_listen(&addr, 0);
	/* The kernel takes a killed program's ring down, and with it its listening socket, a little after its end. */
	while (lfd == -EADDRINUSE && mote_now().ns < patience.ns) {
		mote_sleep(mote_in_ms(20));
		lfd = mote_net_listen(&addr, 0);
	}
	if (lfd < 0) {
		kv_log("can't listen on %s: %s", text, strerror(-lfd));
		mote_exit(mote_reason_error(-lfd, "listen"));
	}
	mote_net_local(lfd, &addr);
	mote_addr_format(&addr, text, sizeof(text));
	kv_log("ready to accept connections on %s", text);
	for (;;) {
		int fd = mote_net_accept(lfd, NULL, MOTE_FOREVER);
		mote_pid pid;

		if (fd < 0) {
			mote_sleep(mote_in_ms(100));	/* out of descriptors: some will come back */
			continue;
		}
		pid = mote_spawn_opts(&opts);
		if (!mote_pid_valid(pid) || mote_fd_give(fd, pid))
			mote_fd_close(fd);
		else
			mote_send(pid, KV_FD, &fd, sizeof(fd));
	}
}
