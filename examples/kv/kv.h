/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * kv: a key-value server that speaks Redis's protocol, on mote.
 *
 *   listener --spawns--> connection (conn.c): one per client; parses, asks shards, sends replies in order
 *                          | request: many commands in one message      ^ reply: all their answers in one
 *                          v                                            |
 *                        shard (shard.c): a handler; owns a part of the keys, alone, so that nothing is locked
 *                          | what it changed, with the reply that waits |
 *                          v                                            |
 *                        writer (aof.c): owns the append-only file; writes (and syncs) once for all that has come,
 *                                        then lets the replies go
 *
 * A writer, its shards and their supervisor are a store (store.c), which starts a shard that died anew; the new one
 * takes its keys from the file (replay.c). There is one store, in this OS process, or with --nodes N one in each of N
 * others (node.c), which are started anew when they die. Beside them a broker (pubsub.c). All are below one root
 * (supervisor.c), and the server ends when it loses another of them. Whoever dies, what was acknowledged is there.
 *
 * Commands on one key are atomic. Those on many keys are split among the shards: the part of each shard is atomic, the
 * whole is only if there is one shard (--shards 1). KEYS and SCAN see each shard at another moment.
 *
 * Messages between a connection and a shard or writer may go from one OS process to another: they hold no pointers.
 */
#ifndef KV_H
#define KV_H

#include "resp.h"

#include <errno.h>
#include <mote.h>
#include <stdatomic.h>

#define KV_VERSION	"7.0.0"		/* the Redis whose commands these are */
#define SHARDS_MAX	256
#define FILE_NAME_MAX	200		/* and a suffix */
#define BATCH_MAX	1024		/* commands of a client under way at once */
#define REPLY_SLICE	(1u << 20)	/* a shard stops a batch here: so much can a slow reader pile up */
#define BACKLOG_MAX	(64u << 20)	/* a subscriber that is further behind is cut off */
#define MISCONF		"MISCONF Errors writing to the AOF file: %s"

enum {					/* message types */
	KV_FD = 1, KV_STOP, KV_STORE, KV_SERVES, KV_FIND, KV_SETTLE,
	KV_BATCH, KV_SNAPSHOT, KV_EXPIRE,
	KV_LOG, KV_CHUNK, KV_SYNC, KV_TICK, KV_REWRITE, KV_CUT,
	KV_SUBSCRIBE, KV_PUBLISH, KV_PUSH, KV_CONFIRM, KV_ACK,
	KV_REPLY,			/* and the shard's number */
};

enum { FSYNC_NO, FSYNC_EVERYSEC, FSYNC_ALWAYS };

/* Set before the first connection, and constant then, but for some of the atomics. */
struct kv {
	_Atomic int port, append_only, fsync, max_clients, nodes;
	_Atomic int shards;		/* of each store */
	int stores, first;		/* first: the first shard of the store in this OS process */
	char bind[64], dir[256], file[256];
	uint64_t secret[2];		/* of the hash */
	mote_pid main, broker;
	mote_deadline started;
	_Atomic int clients;
	/*
	 * How many of each shard's logs are in the file, and the error that stops the writer. Shards only peek: while
	 * something of theirs is not in the file, answers to reads queue up behind it, so that nobody is shown
	 * what a crash can still take away.
	 */
	_Atomic uint64_t logged[SHARDS_MAX];
	_Atomic int write_error;
	struct node {			/* for people */
		_Atomic int pid, starts;
		_Atomic int failures;	/* since it last served */
	} node[SHARDS_MAX];
};

extern struct kv kv;

/* supervisor.c */
struct find {					/* KV_FIND: answered, when there is a shard in service, with struct serves */
	uint32_t shard;
	mote_pid not;				/* but not this one: it is dead */
};

struct serves {					/* KV_SERVES, from a shard */
	uint32_t shard;
	int os_pid;
	mote_pid pid, writer;
};

void supervisor_main(void *arg);

/* store.c */
#define FAILURES_MAX	5			/* in a row: it can't start */
#define RESTARTS_ANY	(MOTE_RESTARTS_NONE - 1)	/* however many, of what does start */

int store_start(void *arg, mote_pid *pid);	/* a supervisor's child: that of this OS process */

/* node.c */
#define NODE_ARGUMENT	"--shard-node"

void node_name(void);				/* makes this OS process a node: before the runtime starts */
bool node_files_fit(void);			/* no file is there of another number of nodes */
int node_start(void *arg, mote_pid *pid);	/* a supervisor's child: a store in another OS process */
int node_host(const struct mote_opts *opts);	/* that other one: what main() does there */

/* main.c */
void *kv_realloc(void *p, size_t size);		/* ends the process when there is no memory */
int64_t kv_time_ms(void);
void kv_crash(void);				/* a store to nowhere */
void kv_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *config_set(const struct arg *name, const struct arg *value, bool at_start);	/* NULL, or the error */
int config_get(struct out *o, const struct arg *pattern);	/* appends names and values; how many pairs */

/* command.c */
struct conn;
struct shard;

enum command_flags {
	CMD_WRITE	= 1 << 0,	/* refused while the file can't be written */
	CMD_SUBSCRIBER	= 1 << 1,	/* allowed to a RESP2 client that has subscribed */
	CMD_MANY	= 1 << 2,	/* on any number of keys: split among the shards */
	CMD_ONE		= 1 << 3,	/* but one is the shard's own affair */
	CMD_ALL		= 1 << 4,	/* on all keys: for every shard */
};

struct command {
	const char *name;		/* lower case */
	int arity;			/* as Redis counts: with the name; negative: at least */
	unsigned int flags;
	void (*shard)(struct shard *s, struct arg *argv);	/* by the shard that owns argv[1], or */
	void (*conn)(struct conn *c, struct arg *argv);		/* by the connection */
	int how;			/* what makes it different from others with its function; CMD_MANY: keys are so
					 * many arguments apart */
};

enum { HOW_SECONDS = 1, HOW_ABSOLUTE = 2 };

extern const struct command commands[];		/* one is known by its index */

void command_init(void);
const struct command *command_find(const struct arg *name);
bool command_arity(const struct command *cmd, int argc);

/* batch.c: commands on their way to shards, and the replies in order */
struct item {
	const struct command *cmd;
	uint64_t hash;
	uint32_t arg, argc;		/* in the parser's arguments, without the name */
	uint32_t shard;
};

struct batch {
	struct item *items;
	uint32_t n, room;
	struct part *parts;
	int resp;			/* 2 or 3 */
};

typedef void (*batch_take)(struct conn *c, const char *reply, size_t len);

static inline uint32_t shards_all(void)
{
	return kv.stores * kv.shards;
}

void key_hash_init(void);
uint64_t key_hash(const char *key, size_t len);
uint32_t key_shard(const char *key, size_t len, uint64_t hash);

void batch_key(struct batch *b, const struct command *cmd, const struct arg *args, uint32_t arg, uint32_t argc);
void batch_shard(struct batch *b, const struct command *cmd, uint32_t shard, uint32_t arg, uint32_t argc);
void batch_run(struct batch *b, const struct arg *args, struct conn *c, struct out *whole, batch_take take);

/* What a batch looks like on its way: a head, then commands, each padded to 8 bytes; the lengths are followed by the
 * arguments. A reply is the answers, then a uint32_t for each, its length, then their number. */
struct batch_head {
	uint32_t count;
	uint16_t resp, fsync;
};

struct batch_command {
	uint64_t hash;
	uint32_t cmd, argc, size;
	uint32_t lens[];
};

/* conn.c */
struct conn {
	int fd;
	bool closing;
	struct parser in;
	struct out out;
	struct batch batch;
	const struct command *cmd;	/* the current one, if it is not a shard's alone */
	int argc;
	int64_t sum;			/* of the parts of a command that was split: their numbers, */
	struct out gathered;		/* values, */
	bool failed;			/* or an error */
	mote_pid pusher;		/* writes to the socket once there was a subscription */
	uint32_t subscriptions;
	int id;
	char name[64];
	char listed[192];		/* in CLIENT LIST: the connection's name as a process */
};

void listener_main(void *arg);
void conn_execute(struct conn *c, struct arg *argv, int argc);
void conn_run(struct conn *c);			/* what was batched: now */
void conn_flush(struct conn *c);
bool conn_name(struct conn *c, const struct arg *name);		/* false: an error was replied */
void conn_error(struct conn *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct mote_msg *conn_ask(mote_pid server, struct out *o, uint32_t type);	/* takes o */
struct serves conn_find(uint32_t shard, mote_pid not);		/* waits until another than this is in service */

/* shard.c */
extern const struct mote_handler_ops shard_ops;

/* aof.c */
void writer_main(void *arg);
_Noreturn void writer_die(const char *what, int err);

/* KV_LOG: a reply, what is for a rewrite only, what is for the file, this. */
struct log_tail {
	mote_pid client;		/* who waits for the reply; MOTE_NOBODY: nobody */
	uint32_t reply, before, log;	/* lengths */
	uint32_t shard, fsync;
};

/* The answer to KV_CUT: all that the asking shard's predecessor has done is in the file's first `size` bytes, and in
 * the logs behind this, which could not be written yet. */
struct cut {
	int fd;				/* the asker's; or -errno */
	uint32_t unwritten;		/* that many logs */
	int64_t size;
};

/* replay.c */
struct replay {
	struct parser in;
	struct shard *shard;		/* whose keys; NULL: the commands are only looked at */
	int64_t size;			/* of the file that was read */
	int64_t commands;
	struct item ahead[64];		/* the shard's, to be run */
	uint32_t n;
};

/* Reads the file's first `size` bytes, up to a command that is not whole, or to one that is none (in.error is set). */
void replay_file(struct replay *r, int fd, int64_t size);
void shard_replay(struct shard *s);

struct snapshot {				/* KV_SNAPSHOT, and the head of KV_CHUNK: a part of a shard's contents */
	uint32_t rewrite;			/* which: after a failed one there may be parts of it under way */
	uint32_t shard;
	enum { SNAPSHOT_BEGIN, SNAPSHOT_NEXT, SNAPSHOT_STOP, SNAPSHOT_LAST } what;
};

/* pubsub.c */
extern const struct mote_server_ops broker_ops;
void conn_subscribe(struct conn *c, struct arg *argv);
void conn_publish(struct conn *c, struct arg *argv);

#endif
