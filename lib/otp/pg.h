/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/pg.h: the inside of groups of processes.
 *
 * A scope's process is the only one that changes its table; the others read it. What is sent about groups, to clients
 * and to other nodes, is a row of blocks: struct mote_pg_event, its pids, the group's bytes, up to a multiple of 8.
 */
#ifndef OTP_PG_H
#define OTP_PG_H

#include "otp/book.h"
#include "otp/handle.h"

#include <mote/pg.h>

enum pg_message {
	/* asked by clients */
	PG_ASK_JOIN = MOTE_MSG_SYSTEM + 0x702,	/* a block; answered with int32_t */
	PG_ASK_LEAVE,				/* likewise */
	PG_ASK_MONITOR,				/* struct pg_monitor, the group; answered with blocks */
	PG_ASK_DEMONITOR,			/* mote_ref; answered with int32_t */
	/* between scopes */
	PG_DISCOVER,				/* here I am; who are you, and whom have you got? */
	PG_SYNC,				/* blocks: all that the sender has */
	PG_JOIN,				/* blocks: these, too */
	PG_LEAVE,				/* blocks: these no more */
};

struct pg_monitor {
	mote_ref ref;
	uint64_t all;
};

struct pg_table {
	struct book book;
	struct mote_pg *pg;
	mote_pid server;
	struct belonging belonging;	/* of the server */
	struct garbage garbage;
};

static inline size_t pg_block_size(size_t nr_pids, size_t size)
{
	return sizeof(struct mote_pg_event) + nr_pids * sizeof(mote_pid) + ((size + 7) & ~(size_t)7);
}

/* The block at *at, which moves on; NULL: there is none, or none that is whole. */
const struct mote_pg_event *pg_block_next(const char **at, const char *end);

/* Writes one; where the next one goes. */
char *pg_block_put(char *at, const void *group, size_t size, const mote_pid *pids, size_t n);

extern const struct mote_server_ops pg_server_ops __attribute__((visibility("hidden")));

#endif
