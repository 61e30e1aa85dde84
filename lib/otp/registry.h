/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/registry.h: the inside of registries.
 *
 * A struct mote_registry is a handle (otp/handle.h), which leads to a ledger while a registry of that name runs. A
 * ledger is counted: by its process, and by each member, which is a process that has entries in it; readers are in a
 * section of otp/epoch.h. When the registry ends the handle leads nowhere; members keep the ledger, and free their
 * own entries, when they end or enter themselves anew.
 */
#ifndef OTP_REGISTRY_H
#define OTP_REGISTRY_H

#include "otp/book.h"
#include "otp/handle.h"

#include <mote/registry.h>

#define REGISTRY_BYTES_MAX	(UINT32_C(1) << 30)
#define MEMBER_SHARDS		16

enum registry_message {
	REGISTRY_CONFIGURE = MOTE_MSG_SYSTEM + 0x602,	/* struct registry_config; answered with int32_t */
	REGISTRY_LOCK,					/* the key; answer: int32_t, when it is the asker's */
	REGISTRY_UNLOCK,				/* the key: held, or waited for no more */
	REGISTRY_DISPATCH,				/* to a process of mote_registry_dispatch() */
};

struct ledger;

/* Of a process, in one registry. */
struct member {
	struct belonging belonging;
	struct ledger *ledger;			/* counted */
	struct member *next, *prev;		/* in its bucket of the ledger's members */
	mote_pid pid;
	/* In the order in which they were made. Changed by the process, under the shard's lock: others read. */
	struct book_entry *first, *last;
	uint64_t last_id;			/* its entries' mine_id grow */
};

struct member_shard {
	struct lock lock;
	uint32_t used, max;			/* buckets: a power of two, or 0 */
	struct member **buckets;
} __attribute__((aligned(CACHE_LINE)));

struct ledger {
	struct book entries, meta;
	struct member_shard members[MEMBER_SHARDS];
	_Atomic uint32_t refs;
	int keys;
	unsigned int partitions;
	struct mote_registry *registry;
	mote_pid server;
	mote_pid starter;			/* is linked to the server in any case */
	struct belonging belonging;		/* of the server */
	struct garbage garbage;
	char listeners[];			/* names, one after the other; "" at the end */
};

static inline bool ledger_unique(const struct ledger *l)
{
	return l->keys == MOTE_REGISTRY_UNIQUE;
}

/* In a section. */
static inline struct ledger *ledger_look(const struct mote_registry *r)
{
	return handle_look(r);
}

/* Outside of one, inside of the runtime. Counted; NULL: it does not run. */
struct ledger *ledger_get(struct scheduler *s, struct mote_registry *r);
void ledger_put(struct ledger *l);

/* With the shard's lock: of that process, or NULL. */
struct member_shard *member_shard(struct ledger *l, mote_pid pid);
struct member *member_find(struct member_shard *shard, mote_pid pid);

/*
 * registry_read.c: the caller's entries under key for which match says true: their ids, of the process heap. How many
 * it was shown, or an error.
 */
struct registry_choice {
	mote_registry_fn match;
	void *arg;
	uint64_t *ids;
	size_t n;
};

int64_t registry_choose(struct mote_registry *r, const void *key, size_t key_size, struct registry_choice *choice);

/* registry_lock.c: in the server. */
struct registry_locks;
void locks_ask(struct registry_locks **locks, struct mote_from from, const struct mote_msg *m);
void locks_release(struct registry_locks **locks, const struct mote_msg *m);
void locks_down(struct registry_locks **locks, const struct mote_down_info *down);

#endif
