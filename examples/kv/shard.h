/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * shard.h: a part of the keys, and the process that owns it. Nobody else touches any of this.
 */
#ifndef KV_SHARD_H
#define KV_SHARD_H

#include "kv.h"

struct entry {
	struct entry *next;
	uint64_t hash;
	int64_t expires;		/* Unix time in ms; 0: never */
	uint32_t heap;			/* its place there; 0: none */
	uint32_t epoch;			/* the snapshot that has it, or that it is newer than */
	uint32_t klen, vlen, room;	/* room: what the value may grow to where it is */
	char key[];			/* and the value behind it */
};

struct due {
	int64_t when;
	struct entry *e;
};

struct table {
	struct entry **buckets;
	uint64_t size;			/* a power of two; 0: not there */
};

struct shard {
	struct table tables[2];		/* while it grows entries move from [0] to [1] */
	uint64_t moved;			/* buckets of [0] that are empty by now */
	uint64_t keys;
	struct entry **link;		/* where the entry that was found last hangs */
	struct due *heap;		/* from 1 on; the first is the next to expire */
	uint32_t nheap, heap_room;
	mote_timer timer;
	int64_t timer_at;		/* 0: not armed */

	uint32_t index;
	mote_pid writer;		/* MOTE_NOBODY: there is no file */
	const struct command *cmd;	/* the current one */
	int argc;
	uint64_t hash;			/* of its key */
	int64_t now;			/* of the current batch; 0: not asked yet */
	int resp, fsync;
	bool loading;			/* from the file: nothing is logged, nothing expires */
	mote_pid client;		/* whose batch is being run, */
	uint32_t count;			/* of that many commands */

	struct out reply, log;
	struct out before;		/* for a rewrite: what entries were before this batch changed them */
	uint64_t sent;			/* logs, see kv.logged */
	uint32_t *lens, lens_room;
	struct arg *argv;
	uint32_t argv_room;

	bool snapshot;			/* one is being taken */
	uint32_t epoch;
	uint64_t cursor;
};

static inline char *entry_value(struct entry *e)
{
	return e->key + e->klen;
}

/* table.c. An expired entry is not found, and deleted. What was found is valid until the table changes. */
struct entry *shard_find(struct shard *s, const struct arg *key);
struct entry *shard_find_to_write(struct shard *s, const struct arg *key);
struct entry *shard_insert(struct shard *s, const struct arg *key, uint32_t len);	/* that was not found */
struct entry *shard_resize(struct shard *s, struct entry *e, uint32_t len, uint32_t room);	/* found last */
void shard_delete(struct shard *s, struct entry *e);						/* found last */
void shard_expire(struct shard *s, struct entry *e, int64_t when);
void shard_expire_due(struct shard *s);
void shard_clear(struct shard *s);
void shard_prefetch(struct shard *s, uint64_t hash, bool entry);	/* first the bucket, then what hangs there */

/* Visits a few entries; returns the cursor to go on with, 0 at the end. What lives through a whole scan is visited at
 * least once, however the table grows meanwhile. */
typedef void (*shard_visit)(struct shard *s, struct entry *e, void *arg);
uint64_t shard_scan(struct shard *s, uint64_t cursor, shard_visit visit, void *arg);

/* shard.c */
int64_t shard_now(struct shard *s);
void shard_log(struct shard *s, const struct arg *args, unsigned int n);
void shard_save(struct out *o, struct entry *e);	/* as the command that makes it anew */
void shard_run(struct shard *s, const struct command *cmd, uint64_t hash, struct arg *argv, int argc);
void shard_reply_errors(struct out *o, uint32_t n, const char *error);	/* to a batch of n commands */

#define SHARD_LOG(s, ...) \
	shard_log(s, (struct arg[]){ __VA_ARGS__ }, sizeof((struct arg[]){ __VA_ARGS__ }) / sizeof(struct arg))

/* The commands: in strings.c, and those on all keys in shard.c */
typedef void shard_command(struct shard *s, struct arg *argv);
shard_command string_get, string_set, string_getdel, string_add, string_incrbyfloat, string_overwrite, string_strlen,
	string_getrange, key_del, key_exists, key_type, key_expire, key_ttl, key_persist;
shard_command shard_count, shard_info_counts, shard_keys, shard_scan_keys, shard_flush, shard_crash;

enum { COUNT_KEYS, COUNT_EXPIRES, COUNT_MEMORY, COUNT_WRITE_ERRORS, NR_COUNTS };	/* of shard_info_counts() */

#endif
