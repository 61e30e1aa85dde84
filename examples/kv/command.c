/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * All commands, and those that a connection answers itself or with the help of all shards.
 */
#include "shard.h"

#include <ctype.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void ok(struct conn *c)
{
	out_text(&c->out, "+OK\r\n");
}

/* The head of a map of n pairs: RESP2 has them as an array. */
static void reply_map(struct conn *c, int n)
{
	out_number(&c->out, c->batch.resp == 3 ? '%' : '*', c->batch.resp == 3 ? n : 2 * n);
}

static void subcommand_error(struct conn *c, struct arg *argv)
{
	conn_error(c, "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try %s HELP.",
		   argv[1].len < 128 ? (int)argv[1].len : 128, argv[1].p, c->cmd->name);
}

/* One part of the answer to a command that was split: a number, an array, a value, OK, or an error. */
static void take_part(struct conn *c, const char *reply, size_t len)
{
	const char *line = strchr(reply, '\n') + 1;
	int64_t n = 1;

	if (*reply == '-' && !c->failed)
		c->failed = true, out_put(&c->out, reply, len);
	if (*reply == ':' || *reply == '*')
		parse_int(reply + 1, line - reply - 3, &n);
	c->sum += n;
	if (*reply == '*')
		out_put(&c->gathered, line, reply + len - line);
	else if (*reply == '$' || *reply == '_')
		out_put(&c->gathered, reply, len);
}

/* Gives each key (with the arguments that belong to it), or each shard, its part; false: an error was replied. */
static bool split(struct conn *c, struct arg *argv)
{
	uint32_t arg = argv + 1 - c->in.args;
	const struct command *cmd = c->cmd;

	c->sum = 0;
	c->failed = false;
	if (cmd->flags & CMD_ALL)
		for (uint32_t s = 0; s < shards_all(); s++)
			batch_shard(&c->batch, cmd, s, arg, c->argc - 1);
	else
		for (int i = 0; i + cmd->how < c->argc; i += cmd->how)
			batch_key(&c->batch, cmd, c->in.args, arg + i, cmd->how);
	batch_run(&c->batch, c->in.args, c, NULL, take_part);
	return !c->failed;
}

static void split_to_sum(struct conn *c, struct arg *argv)
{
	if (split(c, argv))
		out_number(&c->out, ':', c->sum);
}

static void split_to_list(struct conn *c, struct arg *argv)
{
	if (split(c, argv))
		out_number(&c->out, '*', c->sum);
	if (c->gathered.len && !c->failed)
		out_put(&c->out, c->gathered.data, c->gathered.len);
	out_drop(&c->gathered);
}

static void mset(struct conn *c, struct arg *argv)
{
	if (c->argc % 2 == 0)
		conn_error(c, "ERR wrong number of arguments for 'mset' command");
	else if (split(c, argv))
		ok(c);
}

static void flushall(struct conn *c, struct arg *argv)
{
	if (c->argc > 2 || (c->argc == 2 && !arg_is(&argv[1], "async") && !arg_is(&argv[1], "sync")))
		conn_error(c, "ERR syntax error");
	else if (split(c, argv))
		ok(c);
}

static void scan(struct conn *c, struct arg *argv)
{
	uint64_t cursor = 0;

	for (uint32_t i = 0; i < argv[1].len; i++) {
		if (!isdigit((unsigned char)argv[1].p[i]) || argv[1].len > 19) {
			conn_error(c, "ERR invalid cursor");
			return;
		}
		cursor = cursor * 10 + (argv[1].p[i] - '0');
	}
	batch_shard(&c->batch, c->cmd, cursor % shards_all(), argv + 1 - c->in.args, c->argc - 1);
	conn_run(c);
}

static void ping(struct conn *c, struct arg *argv)
{
	struct arg text = c->argc > 1 ? argv[1] : ARG("");

	if (c->argc > 2)
		conn_error(c, "ERR wrong number of arguments for 'ping' command");
	else if (c->subscriptions && c->batch.resp == 2)
		out_command(&c->out, (struct arg[]){ ARG("pong"), text }, 2);
	else if (c->argc == 1)
		out_text(&c->out, "+PONG\r\n");
	else
		out_bulk(&c->out, text.p, text.len);
}

static void echo(struct conn *c, struct arg *argv)
{
	out_bulk(&c->out, argv[1].p, argv[1].len);
}

static void select_db(struct conn *c, struct arg *argv)
{
	int64_t db;

	if (!parse_int(argv[1].p, argv[1].len, &db))
		conn_error(c, "ERR value is not an integer or out of range");
	else if (db)
		conn_error(c, "ERR DB index is out of range");
	else
		ok(c);
}

static void quit(struct conn *c, struct arg *argv)
{
	(void)argv;
	ok(c);
	c->closing = true;
}

static void reset(struct conn *c, struct arg *argv)
{
	if (c->subscriptions)
		conn_subscribe(c, argv);
	conn_name(c, &ARG(""));
	c->batch.resp = 2;
	out_text(&c->out, "+RESET\r\n");
}

static void hello(struct conn *c, struct arg *argv)
{
	int64_t version = c->batch.resp;

	if (c->argc > 1 && !parse_int(argv[1].p, argv[1].len, &version)) {
		conn_error(c, "ERR Protocol version is not an integer or out of range");
		return;
	}
	if (version < 2 || version > 3) {
		conn_error(c, "NOPROTO unsupported protocol version");
		return;
	}
	for (int i = 2; i < c->argc; i += 2) {
		if (!arg_is(&argv[i], "setname") || i + 1 == c->argc) {
			conn_error(c, "ERR Syntax error in HELLO option '%.*s'", (int)argv[i].len, argv[i].p);
			return;
		}
		if (!conn_name(c, &argv[i + 1]))
			return;
	}
	c->batch.resp = version;
	reply_map(c, 7);
	out_format(&c->out, "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$%zu\r\n%s\r\n$5\r\nproto\r\n:%d\r\n$2\r\nid\r\n:%d\r\n"
		   "$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
		   strlen(KV_VERSION), KV_VERSION, (int)version, c->id);
}

static void time_now(struct conn *c, struct arg *argv)
{
	struct timespec now;
	char text[24];

	(void)argv;
	clock_gettime(CLOCK_REALTIME, &now);
	out_number(&c->out, '*', 2);
	out_bulk(&c->out, text, print_int(text, now.tv_sec));
	out_bulk(&c->out, text, print_int(text, now.tv_nsec / 1000));
}

static void shutdown_server(struct conn *c, struct arg *argv)
{
	(void)argv;
	mote_send(kv.main, KV_STOP, NULL, 0);
	c->closing = true;
}

static void bgrewriteaof(struct conn *c, struct arg *argv)
{
	int64_t err = 0, answer;
	struct mote_msg *m;

	(void)argv;
	if (!kv.append_only) {
		conn_error(c, "ERR there is no append-only file (--appendonly no)");
		return;
	}
	for (int i = 0; i < kv.stores; i++) {
		answer = mote_call(conn_find(i * kv.shards, MOTE_NOBODY).writer, KV_REWRITE, NULL, 0, &m, MOTE_FOREVER);
		if (!answer) {
			answer = *(int64_t *)m->data;
			mote_msg_free(m);
		}
		err = err ? err : answer;
	}
	if (!err)
		out_text(&c->out, "+Background append only file rewriting started\r\n");
	else if (err == -EBUSY)
		conn_error(c, "ERR Background append only file rewriting already in progress");
	else
		conn_error(c, "ERR can't rewrite the append-only file: %s", strerror(-err));
}

/* A text for people: RESP3 has a type for that. Takes it. */
static void reply_text(struct conn *c, struct out *text)
{
	if (c->batch.resp == 3)
		out_format(&c->out, "=%zu\r\ntxt:%.*s\r\n", text->len + 4, (int)text->len, text->data);
	else
		out_bulk(&c->out, text->data, text->len);
	out_drop(text);
}

static void list_clients(struct conn *c)
{
	struct mote_process_info info = { .size = sizeof(info) };
	struct out list = { 0 };

	for (mote_pid p = mote_process_next(MOTE_NOBODY); mote_pid_valid(p); p = mote_process_next(p))
		if (!mote_process_info(p, &info) && !strncmp(info.name, "id=", 3))
			out_format(&list, "%s\n", info.name);
	reply_text(c, &list);
}

static void set_name(struct conn *c, const struct arg *name)
{
	if (conn_name(c, name))
		ok(c);
}

static void client(struct conn *c, struct arg *argv)
{
	if (arg_is(&argv[1], "id") && c->argc == 2)
		out_number(&c->out, ':', c->id);
	else if (arg_is(&argv[1], "list") && c->argc == 2)
		list_clients(c);
	else if (arg_is(&argv[1], "setname") && c->argc == 3)
		set_name(c, &argv[2]);
	else if (arg_is(&argv[1], "getname") && c->argc == 2 && *c->name)
		out_bulk(&c->out, c->name, strlen(c->name));
	else if (arg_is(&argv[1], "getname") && c->argc == 2)
		out_text(&c->out, c->batch.resp == 3 ? "_\r\n" : "$-1\r\n");
	else if (arg_is(&argv[1], "setinfo") && c->argc == 4)
		ok(c);
	else
		subcommand_error(c, argv);
}

static void config(struct conn *c, struct arg *argv)
{
	if (arg_is(&argv[1], "get") && c->argc == 3) {
		struct out o = { 0 };

		reply_map(c, config_get(&o, &argv[2]));
		if (o.len)
			out_put(&c->out, o.data, o.len);
		out_drop(&o);
	} else if (arg_is(&argv[1], "set") && c->argc == 4) {
		const char *error = config_set(&argv[2], &argv[3], false);

		if (error)
			conn_error(c, "ERR CONFIG SET failed (possibly related to argument '%.*s') - %s", (int)argv[2].len,
				   argv[2].p, error);
		else
			ok(c);
	} else if (arg_is(&argv[1], "resetstat") && c->argc == 2) {
		ok(c);
	} else {
		subcommand_error(c, argv);
	}
}

static void info(struct conn *c, struct arg *argv)
{
	struct mote_runtime_info runtime = { .size = sizeof(runtime) };
	long long counts[NR_COUNTS] = { 0 };
	const char *line, *end;
	struct out o = { 0 };

	if (split(c, argv)) {
		line = c->gathered.data;
		end = line + c->gathered.len;
		for (int i = 0; line < end; i++, line = (char *)memchr(line, '\n', end - line) + 1)
			counts[i % NR_COUNTS] += strtoll(line + 1, NULL, 10);
	}
	out_drop(&c->gathered);
	if (c->failed)
		return;
	mote_runtime_info(&runtime);
	out_format(&o, "# Server\r\nredis_version:" KV_VERSION "\r\nredis_mode:standalone\r\nprocess_id:%d\r\ntcp_port:%d\r\n"
		   "uptime_in_seconds:%lld\r\nio:%s\r\nschedulers:%u\r\nshards:%d\r\n\r\n", getpid(), kv.port,
		   (long long)(mote_now().ns - kv.started.ns) / 1000000000, runtime.io, runtime.schedulers,
		   shards_all());
	out_format(&o, "# Clients\r\nmaxclients:%d\r\n\r\n# Memory\r\nused_memory:%lld\r\n\r\n# Persistence\r\nloading:0\r\n"
		   "aof_enabled:%d\r\naof_last_write_status:%s\r\n\r\n", kv.max_clients, counts[COUNT_MEMORY],
		   kv.append_only, counts[COUNT_WRITE_ERRORS] ? "err" : "ok");
	if (kv.nodes)
		out_text(&o, "# Nodes\r\n");
	for (int i = 0; i < kv.nodes; i++)
		out_format(&o, "node%d:pid=%d,starts=%d,shards=%d\r\n%s", i, kv.node[i].pid, kv.node[i].starts, kv.shards,
			   i + 1 < kv.nodes ? "" : "\r\n");
	out_text(&o, "# Replication\r\nrole:master\r\n\r\n# Keyspace\r\n");
	if (counts[COUNT_KEYS])
		out_format(&o, "db0:keys=%lld,expires=%lld,avg_ttl=0\r\n", counts[COUNT_KEYS], counts[COUNT_EXPIRES]);
	reply_text(c, &o);
}

/* To see that it costs nobody else more than time. */
static void debug(struct conn *c, struct arg *argv)
{
	int64_t n = -1, until;

	if (c->argc == 3 && !parse_int(argv[2].p, argv[2].len, &n))
		n = -1;
	if (arg_is(&argv[1], "segfault-shard") && n >= 0 && n < shards_all()) {
		batch_shard(&c->batch, c->cmd, n, argv + 1 - c->in.args, c->argc - 1);
		conn_run(c);
	} else if (arg_is(&argv[1], "segfault-connection") && c->argc == 2) {
		kv_crash();
	} else if (arg_is(&argv[1], "hog") && n >= 0 && n <= 60000) {
		for (until = kv_time_ms() + n; kv_time_ms() < until;)
			;
		ok(c);
	} else {
		subcommand_error(c, argv);
	}
}

static void command(struct conn *c, struct arg *argv);

const struct command commands[] = {
	{ "get",	2, 0, string_get, NULL, 0 },
	{ "set",	-3, CMD_WRITE, string_set, NULL, 0 },
	{ "getdel",	2, CMD_WRITE, string_getdel, NULL, 0 },
	{ "incr",	2, CMD_WRITE, string_add, NULL, 1 },
	{ "decr",	2, CMD_WRITE, string_add, NULL, -1 },
	{ "incrby",	3, CMD_WRITE, string_add, NULL, 1 },
	{ "decrby",	3, CMD_WRITE, string_add, NULL, -1 },
	{ "incrbyfloat", 3, CMD_WRITE, string_incrbyfloat, NULL, 0 },
	{ "append",	3, CMD_WRITE, string_overwrite, NULL, 0 },
	{ "strlen",	2, 0, string_strlen, NULL, 0 },
	{ "getrange",	4, 0, string_getrange, NULL, 0 },
	{ "setrange",	4, CMD_WRITE, string_overwrite, NULL, 0 },
	{ "type",	2, 0, key_type, NULL, 0 },
	{ "expire",	-3, CMD_WRITE, key_expire, NULL, HOW_SECONDS },
	{ "pexpire",	-3, CMD_WRITE, key_expire, NULL, 0 },
	{ "expireat",	-3, CMD_WRITE, key_expire, NULL, HOW_SECONDS | HOW_ABSOLUTE },
	{ "pexpireat",	-3, CMD_WRITE, key_expire, NULL, HOW_ABSOLUTE },
	{ "ttl",	2, 0, key_ttl, NULL, HOW_SECONDS },
	{ "pttl",	2, 0, key_ttl, NULL, 0 },
	{ "expiretime",	2, 0, key_ttl, NULL, HOW_SECONDS | HOW_ABSOLUTE },
	{ "pexpiretime", 2, 0, key_ttl, NULL, HOW_ABSOLUTE },
	{ "persist",	2, CMD_WRITE, key_persist, NULL, 0 },

	{ "del",	-2, CMD_WRITE | CMD_MANY | CMD_ONE, key_del, split_to_sum, 1 },
	{ "unlink",	-2, CMD_WRITE | CMD_MANY | CMD_ONE, key_del, split_to_sum, 1 },
	{ "exists",	-2, CMD_MANY | CMD_ONE, key_exists, split_to_sum, 1 },
	{ "touch",	-2, CMD_MANY | CMD_ONE, key_exists, split_to_sum, 1 },
	{ "mget",	-2, CMD_MANY, string_get, split_to_list, 1 },
	{ "mset",	-3, CMD_MANY | CMD_WRITE, string_set, mset, 2 },
	{ "dbsize",	1, CMD_ALL, shard_count, split_to_sum, 0 },
	{ "keys",	2, CMD_ALL, shard_keys, split_to_list, 0 },
	{ "scan",	-2, CMD_ALL, shard_scan_keys, scan, 0 },
	{ "flushall",	-1, CMD_ALL | CMD_WRITE, shard_flush, flushall, 0 },
	{ "flushdb",	-1, CMD_ALL | CMD_WRITE, shard_flush, flushall, 0 },

	{ "ping",	-1, CMD_SUBSCRIBER, NULL, ping, 0 },
	{ "echo",	2, 0, NULL, echo, 0 },
	{ "select",	2, 0, NULL, select_db, 0 },
	{ "quit",	-1, CMD_SUBSCRIBER, NULL, quit, 0 },
	{ "reset",	1, CMD_SUBSCRIBER, NULL, reset, 0 },
	{ "hello",	-1, 0, NULL, hello, 0 },
	{ "time",	1, 0, NULL, time_now, 0 },
	{ "subscribe",	-2, CMD_SUBSCRIBER, NULL, conn_subscribe, 1 },
	{ "unsubscribe", -1, CMD_SUBSCRIBER, NULL, conn_subscribe, 0 },
	{ "publish",	3, 0, NULL, conn_publish, 0 },
	{ "client",	-2, 0, NULL, client, 0 },
	{ "config",	-2, 0, NULL, config, 0 },
	{ "info",	-1, CMD_ALL, shard_info_counts, info, 0 },
	{ "command",	-1, 0, NULL, command, 0 },
	{ "debug",	-2, 0, shard_crash, debug, 0 },
	{ "bgrewriteaof", 1, 0, NULL, bgrewriteaof, 0 },
	{ "shutdown",	-1, 0, NULL, shutdown_server, 0 },
};

#define NR_COMMANDS (sizeof(commands) / sizeof(*commands))

static const struct command *names[256];

static unsigned int name_hash(const struct arg *name)
{
	unsigned int h = name->len;

	for (uint32_t i = 0; i < name->len && i < 16; i++)
		h = h * 33 + (name->p[i] | 32);		/* any case */
	return (h ^ h >> 8) & 255;
}

void command_init(void)
{
	for (unsigned int i = 0; i < NR_COMMANDS; i++) {
		unsigned int h = name_hash(&(struct arg){ (char *)commands[i].name, strlen(commands[i].name) });

		while (names[h])
			h = (h + 1) & 255;
		names[h] = &commands[i];
	}
}

const struct command *command_find(const struct arg *name)
{
	for (unsigned int h = name_hash(name); names[h]; h = (h + 1) & 255)
		if (arg_is(name, names[h]->name))
			return names[h];
	return NULL;
}

bool command_arity(const struct command *cmd, int argc)
{
	return cmd->arity > 0 ? argc == cmd->arity : argc >= -cmd->arity;
}

/* redis-cli asks for DOCS to complete what is typed; it gets along without. */
static void command(struct conn *c, struct arg *argv)
{
	if (c->argc > 1 && arg_is(&argv[1], "count"))
		out_number(&c->out, ':', NR_COMMANDS);
	else if (c->argc > 1 && arg_is(&argv[1], "docs"))
		reply_map(c, 0);
	else if (c->argc > 1)
		subcommand_error(c, argv);
	else
		out_number(&c->out, '*', 0);
}
