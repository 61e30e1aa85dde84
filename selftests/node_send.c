/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Messages to other nodes: order, sizes, many senders, floods both ways, forwarding; nothing lost, nothing twice. */
#include "nodes.h"

#include <pthread.h>

enum { NUMBER = 1, BLOB, DONE, GO };

static uint8_t blob_byte(uint64_t seed, size_t at)
{
	return (uint8_t)(seed * 31 + at * 7 + (at >> 8) + (at >> 16));
}

static void blob_fill(uint8_t *p, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++)
		p[i] = blob_byte(seed, i);
}

static bool blob_is(const uint8_t *p, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++) {
		if (p[i] != blob_byte(seed, i)) {
			test_note("byte %zu of %zu is %#x", i, size, p[i]);
			return false;
		}
	}
	return true;
}

struct count {
	mote_pid boss;
	uint64_t n, senders;
};

/* Takes n numbers of each sender: each sender's in order, none missing; then says so. */
static void counter(const void *args, size_t size)
{
	struct { mote_pid pid; uint64_t next; } from[64] = { 0 };
	struct count c;

	if (!EXPECT(size == sizeof(c)))
		return;
	memcpy(&c, args, sizeof(c));
	for (uint64_t i = 0; i < c.n * c.senders; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);
		size_t j = 0;

		if (!EXPECT(m && m->type == NUMBER && m->size == sizeof(uint64_t))) {
			test_describe(m);
			return;
		}
		while (j < c.senders && mote_pid_valid(from[j].pid) && !mote_pid_equal(from[j].pid, m->from))
			j++;
		if (!EXPECT(j < c.senders))
			return;
		from[j].pid = m->from;
		if (*(uint64_t *)m->data != from[j].next++) {
			EXPECT_EQ(*(uint64_t *)m->data, from[j].next - 1);
			return;
		}
		mote_msg_free(m);
	}
	EXPECT(mailbox_is_empty());
	mote_send(c.boss, DONE, NULL, 0);
}

struct stream {
	mote_pid to;
	uint64_t n;
};

static void streamer(const void *args, size_t size)
{
	struct stream s;

	if (!EXPECT(size == sizeof(s)))
		return;
	memcpy(&s, args, sizeof(s));
	for (uint64_t i = 0; i < s.n; i++) {
		EXPECT_EQ(mote_send(s.to, NUMBER, &i, sizeof(i)), 0);
		if (i % 257 == 0)
			mote_yield();
	}
}

static void local_streamer(void *arg)
{
	streamer(arg, sizeof(struct stream));
}

static void local_counter(void *arg)
{
	counter(arg, sizeof(struct count));
}

static void in_order(void)
{
	struct count c = { mote_self(), test_rounds(200000), 1 };
	struct stream s = { .n = c.n };
	struct peer b;

	peer_start(&b, "b");
	s.to = peer_spawn_args(&b, "counter", &c, sizeof(c), 0, NULL);
	local_streamer(&s);
	EXPECT(got_type(DONE));
	/* and the other way */
	s.to = mote_spawn(local_counter, &c);
	peer_spawn_args(&b, "streamer", &s, sizeof(s), 0, NULL);
	EXPECT(got_type(DONE));
	peer_stop(&b);
}

static void many_senders(void)
{
	struct count c = { mote_self(), test_rounds(5000), 32 };
	struct stream s = { .n = c.n };
	struct peer b;

	peer_start(&b, "b");
	s.to = peer_spawn_args(&b, "counter", &c, sizeof(c), 0, NULL);
	for (int i = 0; i < 32; i++)
		mote_spawn(local_streamer, &s);
	EXPECT(got_type(DONE));
	s.to = mote_spawn(local_counter, &c);
	for (int i = 0; i < 32; i++)
		peer_spawn_args(&b, "streamer", &s, sizeof(s), 0, NULL);
	EXPECT(got_type(DONE));
	peer_stop(&b);
}

/* Both flood each other, with several pairs each way: neither waits for the other. */
static void floods(void)
{
	struct count c = { mote_self(), test_rounds(30000), 1 };
	struct stream s = { .n = c.n }, back = { .n = c.n };
	struct count all[4];
	struct stream out[4];
	struct peer b;

	peer_start(&b, "b");
	for (int i = 0; i < 4; i++) {
		all[i] = c;
		back.to = mote_spawn(local_counter, &all[i]);
		peer_spawn_args(&b, "streamer", &back, sizeof(back), 0, NULL);
		out[i] = s;
		out[i].to = peer_spawn_args(&b, "counter", &c, sizeof(c), 0, NULL);
		mote_spawn(local_streamer, &out[i]);
	}
	for (int i = 0; i < 8; i++)
		EXPECT(got_type(DONE));
	peer_stop(&b);
}

static const size_t sizes[] = {
	0, 1, 7, 8, 15, 16, 17, 63, 64, 65, 100, 1000, 4000, 4047, 4048, 4095, 4096, 4097, 8192, 65535, 65536, 65537,
	100000, 262144, 524287, 1048500, 1048576, 1048577, 3000000, 5 << 20,
};

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* Sends back what it gets, the block itself. */
static void bouncer(const void *args, size_t size)
{
	(void)args;
	(void)size;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		mote_pid from = m->from;

		mote_send_msg(from, m);
	}
}

static void all_sizes(void)
{
	struct peer b;
	mote_pid p;

	peer_start(&b, "b");
	p = peer_spawn(&b, "bouncer", 0, NULL);
	for (size_t round = 0; round < 2; round++) {
		for (size_t i = 0; i < NR_SIZES; i++) {
			struct mote_msg *m = mote_msg_new(BLOB, sizes[i]);
			uint64_t small = i;

			if (!EXPECT(m))
				return;
			blob_fill(m->data, sizes[i], i);
			/* copied once, taken once; and small ones before and after, that must not overtake */
			EXPECT_EQ(mote_send(p, NUMBER, &small, sizeof(small)), 0);
			if (round)
				EXPECT_EQ(mote_send(p, BLOB, m->data, m->size), 0);
			EXPECT_EQ(mote_send_msg(p, m), 0);
			EXPECT_EQ(mote_send(p, NUMBER, &small, sizeof(small)), 0);
		}
		for (size_t i = 0; i < NR_SIZES; i++) {
			for (size_t j = 0; j < 3 + round; j++) {
				bool blob = j && j < 2 + round;
				struct mote_msg *m = mote_receive(PATIENCE);

				if (!EXPECT(m && m->type == (blob ? BLOB : NUMBER) && mote_pid_equal(m->from, p))) {
					test_note("size %zu, %zu.", sizes[i], j);
					test_describe(m);
					return;
				}
				EXPECT_EQ((uintptr_t)m->data % 16, 0);
				if (blob) {
					EXPECT_EQ(m->size, sizes[i]);
					EXPECT(blob_is(m->data, m->size, i));
				} else {
					EXPECT_EQ(*(uint64_t *)m->data, i);
				}
				mote_msg_free(m);
			}
		}
	}
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

/* Several send large ones at a time: pieces of different messages must not be mixed up. */
static void large_sender(const void *args, size_t size)
{
	uint64_t seed = test_seed() + mote_self().serial;
	struct stream s;

	if (!EXPECT(size == sizeof(s)))
		return;
	memcpy(&s, args, sizeof(s));
	for (uint64_t i = 0; i < s.n; i++) {
		size_t length = 8 + test_random(&seed) % (1 << (4 + test_random(&seed) % 18));
		struct mote_msg *m = mote_msg_new(BLOB, length);

		if (!EXPECT(m))
			return;
		memcpy(m->data, &i, sizeof(i));
		blob_fill((uint8_t *)m->data + 8, length - 8, i ^ mote_self().serial);
		EXPECT_EQ(mote_send_msg(s.to, m), 0);
	}
}

static void local_large_sender(void *arg)
{
	large_sender(arg, sizeof(struct stream));
}

#define LARGE_SENDERS 6

static void large_taker(const void *args, size_t size)
{
	struct { mote_pid pid; uint64_t next; } from[LARGE_SENDERS] = { 0 };
	struct count c;

	if (!EXPECT(size == sizeof(c)))
		return;
	memcpy(&c, args, sizeof(c));
	for (uint64_t i = 0; i < c.n * LARGE_SENDERS; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);
		size_t j = 0;
		uint64_t n;

		if (!EXPECT(m && m->type == BLOB && m->size >= 8))
			return;
		while (j < LARGE_SENDERS && mote_pid_valid(from[j].pid) && !mote_pid_equal(from[j].pid, m->from))
			j++;
		if (!EXPECT(j < LARGE_SENDERS))
			return;
		from[j].pid = m->from;
		memcpy(&n, m->data, sizeof(n));
		EXPECT_EQ(n, from[j].next);
		from[j].next = n + 1;
		if (!EXPECT(blob_is((uint8_t *)m->data + 8, m->size - 8, n ^ m->from.serial)))
			return;
		mote_msg_free(m);
	}
	mote_send(c.boss, DONE, NULL, 0);
}

static void local_large_taker(void *arg)
{
	large_taker(arg, sizeof(struct count));
}

static void large_floods(void)
{
	struct count c = { mote_self(), test_rounds(60), LARGE_SENDERS }, here = c;
	struct stream s = { .n = c.n }, back = s;
	struct peer b;

	peer_start(&b, "b");
	s.to = peer_spawn_args(&b, "large_taker", &c, sizeof(c), 0, NULL);
	back.to = mote_spawn(local_large_taker, &here);
	for (int i = 0; i < LARGE_SENDERS; i++) {
		mote_spawn(local_large_sender, &s);
		peer_spawn_args(&b, "large_sender", &back, sizeof(back), 0, NULL);
	}
	EXPECT(got_type(DONE));
	EXPECT(got_type(DONE));
	peer_stop(&b);
}

static void to_the_dead(void)
{
	struct mote_msg *m;
	struct peer b;
	mote_ref ref;
	mote_pid p;

	peer_start(&b, "b");
	p = peer_spawn(&b, "nothing", MOTE_MONITOR, &ref);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(m && mote_msg_down(m));
	mote_msg_free(m);
	EXPECT_EQ(mote_send(p, NUMBER, NULL, 0), 0);
	EXPECT_EQ(mote_send_until(p, NUMBER, NULL, 0, MOTE_NOW), 0);
	EXPECT_EQ(mote_send_msg(p, mote_msg_new(NUMBER, 100)), 0);
	EXPECT_EQ(mote_send(p, MOTE_MSG_RESERVED, NULL, 0), -EINVAL);
	EXPECT_EQ(mote_call(p, NUMBER, NULL, 0, NULL, PATIENCE), -ESRCH);
	peer_kill(&b);
	EXPECT_EQ(mote_send(p, NUMBER, NULL, 0), 0);
	EXPECT_EQ(mote_send_msg(p, mote_msg_new(NUMBER, 3 << 20)), 0);
	EXPECT(mailbox_is_empty());
}

/* Received from one node, sent on to another: the same block. */
static void forwarder(const void *args, size_t size)
{
	mote_pid to;

	if (!EXPECT(size == sizeof(to)))
		return;
	memcpy(&to, args, sizeof(to));
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		mote_send_msg(to, m);
	}
}

static void a_ring_of_three(void)
{
	mote_pid self = mote_self(), next;
	struct peer b, c;

	peer_start(&b, "b");
	peer_start(&c, "c");
	next = peer_spawn_args(&c, "forwarder", &self, sizeof(self), 0, NULL);
	next = peer_spawn_args(&b, "forwarder", &next, sizeof(next), 0, NULL);
	for (uint64_t i = 0; i < 50; i++) {
		struct mote_msg *m = mote_msg_new(BLOB, i * 1000);

		blob_fill(m->data, m->size, i);
		EXPECT_EQ(mote_send_msg(next, m), 0);
	}
	for (uint64_t i = 0; i < 50; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);

		if (!EXPECT(m && m->type == BLOB && m->size == i * 1000))
			return;
		EXPECT_EQ(m->from.node, c.node.id);
		EXPECT(blob_is(m->data, m->size, i));
		mote_msg_free(m);
	}
	peer_stop(&b);
	peer_stop(&c);
}

static void *foreign_main(void *arg)
{
	for (uint64_t i = 0; i < 1000; i++)
		EXPECT_EQ(mote_send(*(mote_pid *)arg, NUMBER, &i, sizeof(i)), 0);
	return NULL;
}

static int64_t foreign_join(void *arg)
{
	return pthread_join(*(pthread_t *)arg, NULL);
}

static void from_a_foreign_thread(void)
{
	struct count c = { mote_self(), 1000, 1 };
	pthread_t thread;
	struct peer b;
	mote_pid p;

	peer_start(&b, "b");
	p = peer_spawn_args(&b, "counter", &c, sizeof(c), 0, NULL);
	EXPECT_EQ(pthread_create(&thread, NULL, foreign_main, &p), 0);
	EXPECT_EQ(mote_blocking(foreign_join, &thread, NULL, MOTE_FOREVER), 0);
	EXPECT(got_type(DONE));
	peer_stop(&b);
}

/* As in Erlang, timers are for processes of this node. */
static void timers(void)
{
	struct peer b;
	mote_pid p;

	peer_start(&b, "b");
	p = peer_spawn(&b, "far_mirror", 0, NULL);
	EXPECT_EQ(mote_send_after(mote_in_ms(2), p, NUMBER, "x", 2).id, 0);
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT_EQ(mote_send_every(1000000, p, GO, NULL, 0).id, 0);
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT(ping(p));
	peer_stop(&b);
}

/* What a sender has sent when it ends is on its way all the same. */
static void short_lived(void *arg)
{
	for (uint64_t i = 0; i < 3; i++)
		mote_send(*(mote_pid *)arg, NUMBER, &i, sizeof(i));
}

static void last_words(void)
{
	struct count c = { mote_self(), 3, 64 };
	struct peer b;
	mote_pid p;

	peer_start(&b, "b");
	for (unsigned long i = 0; i < test_rounds(400); i += 10) {
		p = peer_spawn_args(&b, "counter", &c, sizeof(c), 0, NULL);
		for (int j = 0; j < 64; j++)
			mote_spawn(short_lived, &p);
		EXPECT(got_type(DONE));
	}
	peer_stop(&b);
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = {
		ENTRY(counter), ENTRY(streamer), ENTRY(bouncer), ENTRY(large_sender), ENTRY(large_taker),
		ENTRY(forwarder), { 0 }
	};

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("one sender: in order, none lost, none twice", in_order);
	nodes_case("many senders, each in order", many_senders);
	nodes_case("floods both ways", floods);
	nodes_case("all sizes, also beyond the ring, in order with small ones", all_sizes);
	nodes_case("large ones of many senders, both ways", large_floods);
	nodes_case("to the dead, and to a dead node: 0, and it vanishes", to_the_dead);
	nodes_case("sent on from node to node", a_ring_of_three);
	nodes_case("from a foreign thread", from_a_foreign_thread);
	nodes_case("no timers for processes there: -EINVAL", timers);
	nodes_case("what was sent before an end arrives", last_words);
	return nodes_done();
}
