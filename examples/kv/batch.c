/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A batch carries the commands that a client has sent at once to the shards that own their keys, in one message per
 * shard, and takes the replies in the order of the commands. A shard may answer only the beginning of its part (see
 * REPLY_SLICE); the rest is asked for when it is needed. What was parsed stays in place meanwhile.
 *
 * When a shard dies the client waits for its successor, and asks that one, but only if there is no answer: what the dead
 * one had handed to the writer is done, and answered from there. So these are messages to a monitored process, not
 * requests (mote_request): those would end with the shard, and leave open whether they were done. That stays open only
 * when the writer is dead, too: with its node. Then who has asked for changes is told that nobody knows.
 */
#include "shard.h"

#include <stddef.h>
#include <sys/random.h>

#define UNKNOWN "TRYAGAIN a node died while it ran this; it may be done or not"

struct part {
	mote_pid pid, writer;
	mote_ref monitor;
	uint32_t shard;
	bool asked;			/* no answer yet */
	struct mote_msg *reply;
	const char *next, *lens;	/* in reply */
	uint32_t count;			/* commands of this batch for the shard */
	uint32_t left;			/* answers in reply that were not taken yet */
};

void key_hash_init(void)
{
	if (getrandom(kv.secret, sizeof(kv.secret), 0) != sizeof(kv.secret))
		kv_log("no random numbers: clients can know the hash");
}

static inline uint64_t mix(uint64_t a, uint64_t b)
{
	unsigned __int128 product = (unsigned __int128)a * b;

	return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Follows wyhash. */
static inline uint64_t hash(const char *key, size_t len, const uint64_t secret[2])
{
	uint64_t h = secret[0] ^ len, word;

	for (; len >= 8; len -= 8, key += 8) {
		memcpy(&word, key, 8);
		h = mix(h ^ word, secret[1] | 1);
	}
	word = 0;
	memcpy(&word, key, len);
	return mix(mix(h ^ word, secret[1] | 1) ^ secret[0], 0x9e3779b97f4a7c15);
}

/* Under a secret of this run: clients choose the keys, and must not choose the buckets. */
uint64_t key_hash(const char *key, size_t len)
{
	return hash(key, len, kv.secret);
}

/* Each node has a file of its own, so a key belongs to the same node in every run. */
uint32_t key_shard(const char *key, size_t len, uint64_t secret_hash)
{
	static const uint64_t known[2] = { 0x243f6a8885a308d3, 0x13198a2e03707344 };
	uint32_t shard = (secret_hash >> 32) * kv.shards >> 32;

	if (kv.stores > 1)
		shard += ((hash(key, len, known) >> 32) * kv.stores >> 32) * kv.shards;
	return shard;
}

static void add(struct batch *b, struct item item)
{
	if (b->n == b->room) {
		b->room = b->room ? b->room * 2 : 32;
		b->items = kv_realloc(b->items, b->room * sizeof(*b->items));
	}
	if (!b->parts) {
		b->parts = kv_realloc(NULL, shards_all() * sizeof(*b->parts));
		memset(b->parts, 0, shards_all() * sizeof(*b->parts));
	}
	b->items[b->n++] = item;
	b->parts[item.shard].count++;
}

/* The command's arguments are args[arg..arg + argc), the first of them the key. */
void batch_key(struct batch *b, const struct command *cmd, const struct arg *args, uint32_t arg, uint32_t argc)
{
	uint64_t hash = key_hash(args[arg].p, args[arg].len);

	add(b, (struct item){ cmd, hash, arg, argc, key_shard(args[arg].p, args[arg].len, hash) });
}

void batch_shard(struct batch *b, const struct command *cmd, uint32_t shard, uint32_t arg, uint32_t argc)
{
	add(b, (struct item){ cmd, 0, arg, argc, shard });
}

static size_t command_size(const struct item *item, const struct arg *args)
{
	size_t size = offsetof(struct batch_command, lens) + item->argc * sizeof(uint32_t);

	for (uint32_t i = 0; i < item->argc; i++)
		size += args[item->arg + i].len;
	return (size + 7) & ~(size_t)7;
}

/* With a node that died while this client wanted nothing of it no change of this client's died. */
static bool has_died(struct part *part)
{
	struct mote_msg *down = kv.nodes ? mote_receive_ref(part->monitor, MOTE_NOW) : NULL;

	mote_msg_free(down);
	return down;
}

/* Waits until another than part->pid is in service. */
static void find_shard(struct part *part, uint32_t shard)
{
	struct serves found = conn_find(shard, part->pid);

	part->shard = shard;
	part->pid = found.pid;
	part->writer = found.writer;
	part->monitor = mote_monitor(part->pid);
	if (!part->monitor.id)
		mote_exit(mote_reason_error(ENOMEM, "no memory for a monitor"));
}

/* Sends the shard its commands from item i on. */
static void ask(struct batch *b, const struct arg *args, uint32_t shard, uint32_t i)
{
	struct batch_head head = { .resp = b->resp, .fsync = kv.fsync };
	struct part *part = &b->parts[shard];
	size_t size = sizeof(head);
	struct mote_msg *m;
	char *to;

	if (!mote_pid_valid(part->pid) || has_died(part))
		find_shard(part, shard);
	for (uint32_t k = i; k < b->n; k++)
		if (b->items[k].shard == shard)
			size += command_size(&b->items[k], args);
	m = mote_msg_new(KV_BATCH, size);
	if (!m)
		mote_exit(mote_reason_error(ENOMEM, "no memory for a request"));
	to = (char *)m->data + sizeof(head);
	for (; i < b->n; i++) {
		const struct item *item = &b->items[i];
		struct batch_command *c = (void *)to;
		char *text = (char *)(c->lens + item->argc);

		if (item->shard != shard)
			continue;
		c->cmd = item->cmd - commands;
		c->hash = item->hash;
		c->argc = item->argc;
		c->size = command_size(item, args);
		for (uint32_t k = 0; k < item->argc; k++) {
			const struct arg *a = &args[item->arg + k];

			c->lens[k] = a->len;
			memcpy(text, a->p, a->len);
			text += a->len;
		}
		to += c->size;
		head.count++;
	}
	memcpy(m->data, &head, sizeof(head));
	mote_send_msg(part->pid, m);
	part->asked = true;
}

static bool is_for(const struct mote_msg *m, void *arg)
{
	const struct mote_down_info *down = m->data;
	struct part *part = arg;

	return m->type == KV_REPLY + part->shard ||
	       (m->type == MOTE_MSG_DOWN && mote_ref_equal(down->ref, part->monitor));
}

/* The answer to the shard's commands from item i on when it is dead, and with it the writer. */
static struct mote_msg *unknown(const struct batch *b, uint32_t shard, uint32_t i)
{
	unsigned int flags = 0;
	struct out o = { 0 };
	uint32_t n = 0;

	for (; i < b->n; i++) {
		if (b->items[i].shard == shard) {
			flags |= b->items[i].cmd->flags;
			n++;
		}
	}
	if (!(flags & CMD_WRITE))
		return NULL;
	shard_reply_errors(&o, n, UNKNOWN);
	return out_take(&o, KV_REPLY + shard);
}

/* False: the shard died, and nothing was done; there is another to be asked. */
static bool receive(const struct batch *b, struct part *part, uint32_t i)
{
	struct mote_msg *m = mote_receive_match(is_for, part, MOTE_FOREVER);
	uint32_t n;

	if (m->type == MOTE_MSG_DOWN) {
		mote_pid writer = part->writer;

		mote_msg_free(m);
		/*
		 * When there is a successor the writer has all that the dead one had left with it, and has passed the
		 * answers on before it answers this. Without a file what was done is gone with the shard.
		 */
		find_shard(part, part->shard);
		if (mote_pid_valid(writer) && mote_call(writer, KV_SETTLE, NULL, 0, NULL, MOTE_FOREVER))
			m = unknown(b, part->shard, i);
		else
			m = mote_receive_type(KV_REPLY + part->shard, MOTE_NOW);
	}
	if (!m)
		return false;
	memcpy(&n, (char *)m->data + m->size - sizeof(n), sizeof(n));
	part->asked = false;
	part->reply = m;
	part->next = m->data;
	part->lens = (char *)m->data + m->size - (n + 1) * sizeof(n);
	part->left = n;
	return true;
}

/*
 * Asks all shards, then gives each reply to take(). If one shard has answered everything, `whole` takes its message over
 * as it is (take then hears of it with length 0).
 */
void batch_run(struct batch *b, const struct arg *args, struct conn *c, struct out *whole, batch_take take)
{
	if (!b->n)
		return;
	for (uint32_t s = 0; s < shards_all(); s++)
		if (b->parts[s].count)
			ask(b, args, s, 0);
	for (uint32_t i = 0; i < b->n; i++) {
		struct part *part = &b->parts[b->items[i].shard];
		uint32_t len;

		if (!part->left) {
			mote_msg_free(part->reply);
			part->reply = NULL;
			if (!part->asked)
				ask(b, args, b->items[i].shard, i);
			while (!receive(b, part, i))
				ask(b, args, b->items[i].shard, i);
			if (whole && !whole->len && part->count == b->n) {
				out_drop(whole);
				*whole = (struct out){ part->reply, part->reply->data,
						       part->lens - part->next, part->reply->size };
				i += part->left - 1;
				part->reply = NULL;
				part->left = 0;
				take(c, NULL, 0);
				continue;
			}
		}
		memcpy(&len, part->lens, sizeof(len));
		take(c, part->next, len);
		part->next += len;
		part->lens += sizeof(len);
		part->left--;
	}
	for (uint32_t s = 0; s < shards_all(); s++) {
		if (b->parts[s].count) {
			mote_msg_free(b->parts[s].reply);
			b->parts[s].reply = NULL;
			b->parts[s].count = 0;
		}
	}
	b->n = 0;
}
