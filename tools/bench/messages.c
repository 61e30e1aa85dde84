/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* pingpong, call, ring, flood, fanin: messages of 64 bytes between processes. */
#include "bench.h"

#include <stdlib.h>

#define BATCH 1000
#define RING 1000
#define BURST 100000
#define SENDERS 1000
#define EACH 1000

enum { DATA = 16, STOP, GO };

/* --- pingpong: the plain way, a copy in each direction; and with the message itself handed to and fro */

static void pong_copy(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		uint64_t seed = ((struct bench_payload *)m->data)->word[0];
		struct bench_payload p = bench_payload(seed + 1);

		bench_check(bench_payload_is(m->data, seed), "the ping is whole");
		mote_send(m->from, DATA, &p, sizeof(p));
		mote_msg_free(m);
	}
}

static void ping_copy(mote_pid peer, uint64_t seed)
{
	struct bench_payload p = bench_payload(seed);
	struct mote_msg *m;

	mote_send(peer, DATA, &p, sizeof(p));
	m = mote_receive(MOTE_FOREVER);
	bench_check(bench_payload_is(m->data, seed + 1), "the pong is right");
	mote_msg_free(m);
}

static void pingpong(void *arg)
{
	mote_pid peer = mote_spawn(pong_copy, NULL);
	struct bench_clock clock;
	uint64_t seed = 0;

	(void)arg;
	for (int i = 0; i < 10 * BATCH; i++)
		ping_copy(peer, seed++);
	bench_begin(&clock);
	do {
		for (int i = 0; i < BATCH; i++)
			ping_copy(peer, seed++);
	} while (bench_more(&clock, BATCH));
	bench_end(&clock, "pingpong");
	bench_done();
}

static void pong_owned(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		struct bench_payload *p = m->data;
		uint64_t seed = p->word[0];

		bench_check(bench_payload_is(p, seed), "the ping is whole");
		*p = bench_payload(seed + 1);
		mote_send_msg(m->from, m);
	}
}

static struct mote_msg *ping_owned(mote_pid peer, struct mote_msg *m, uint64_t seed)
{
	*(struct bench_payload *)m->data = bench_payload(seed);
	mote_send_msg(peer, m);
	m = mote_receive(MOTE_FOREVER);
	bench_check(bench_payload_is(m->data, seed + 1), "the pong is right");
	return m;
}

static void pingpong_owned(void *arg)
{
	mote_pid peer = mote_spawn(pong_owned, NULL);
	struct mote_msg *m = mote_msg_new(DATA, sizeof(struct bench_payload));
	struct bench_clock clock;
	uint64_t seed = 0;

	(void)arg;
	for (int i = 0; i < 10 * BATCH; i++)
		m = ping_owned(peer, m, seed++);
	bench_begin(&clock);
	do {
		for (int i = 0; i < BATCH; i++)
			m = ping_owned(peer, m, seed++);
	} while (bench_more(&clock, BATCH));
	bench_end(&clock, "pingpong_owned");
	bench_done();
}

/* --- call: a server that holds no stack is asked, with a deadline that never comes */

static void call(void *arg)
{
	mote_pid server = bench_echo_start();
	struct bench_clock clock;
	uint64_t seed = 0;

	(void)arg;
	for (int i = 0; i < 10 * BATCH; i++)
		bench_call(server, seed++, mote_in_ms(5000));
	bench_begin(&clock);
	do {
		for (int i = 0; i < BATCH; i++)
			bench_call(server, seed++, mote_in_ms(5000));
	} while (bench_more(&clock, BATCH));
	bench_end(&clock, "call");
	bench_done();
}

/* --- cast: a server is told something, as often as it likes; a call at the end of each batch waits until it has seen all */

static void cast(void *arg)
{
	mote_pid server = bench_echo_start();
	struct bench_clock clock;
	uint64_t seed = 0;

	(void)arg;
	bench_begin(&clock);
	do {
		for (int i = 0; i < BATCH; i++) {
			struct bench_payload p = bench_payload(seed++);

			bench_check(mote_cast(server, 3, &p, sizeof(p)) == 0, "the cast is sent");
		}
		bench_call(server, seed, mote_in_ms(5000));
	} while (bench_more(&clock, BATCH));
	bench_end(&clock, "cast");
	bench_done();
}

/* --- ring: a token goes round, each process copies it on */

struct ring {
	mote_pid next[RING], top;
};

static struct ring ring_of;

static void ring_hop(void *arg)
{
	const mote_pid *next = arg;

	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		uint64_t left = ((struct bench_payload *)m->data)->word[0];
		struct bench_payload p = bench_payload(left - 1);

		bench_check(bench_payload_is(m->data, left), "the token is whole");
		mote_send(left ? *next : ring_of.top, DATA, &p, sizeof(p));
		mote_msg_free(m);
	}
}

static void ring_turn(uint64_t hops)
{
	struct bench_payload p = bench_payload(hops - 1);
	struct mote_msg *m;

	mote_send(ring_of.next[0], DATA, &p, sizeof(p));
	m = mote_receive(MOTE_FOREVER);
	bench_check(bench_payload_is(m->data, (uint64_t)-1), "the token made all its hops");
	mote_msg_free(m);
}

static void ring(void *arg)
{
	struct bench_clock clock;

	(void)arg;
	ring_of.top = mote_self();
	for (int i = 0; i < RING; i++)
		ring_of.next[i] = mote_spawn(ring_hop, &ring_of.next[(i + 1) % RING]);
	ring_turn(10 * RING);
	bench_begin(&clock);
	do
		ring_turn(10 * RING);
	while (bench_more(&clock, 10 * RING));
	bench_end(&clock, "ring");
	bench_done();
}

/* --- flood: one sender that never waits, one receiver that says when a burst is in */

static void flood_sender(void *arg)
{
	const mote_pid *to = arg;

	for (;;) {
		mote_msg_free(mote_receive_type(GO, MOTE_FOREVER));
		for (uint64_t i = 0; i < BURST; i++) {
			struct bench_payload p = bench_payload(i);

			mote_send(*to, DATA, &p, sizeof(p));
		}
	}
}

static void flood_burst(mote_pid sender)
{
	mote_send(sender, GO, NULL, 0);
	for (uint64_t i = 0; i < BURST; i++) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		bench_check(bench_payload_is(m->data, i), "the messages come whole and in order");
		mote_msg_free(m);
	}
}

static void flood(void *arg)
{
	mote_pid self = mote_self(), sender = mote_spawn(flood_sender, &self);
	struct bench_clock clock;

	(void)arg;
	flood_burst(sender);
	bench_begin(&clock);
	do
		flood_burst(sender);
	while (bench_more(&clock, BURST));
	bench_end(&clock, "flood");
	bench_done();
}

/* --- fanin: 1,000 senders, 1,000 messages each, to one */

static void fanin_sender(void *arg)
{
	const mote_pid *to = arg;

	for (;;) {
		mote_msg_free(mote_receive(MOTE_FOREVER));
		for (uint64_t i = 0; i < EACH; i++) {
			struct bench_payload p = bench_payload(i);

			mote_send(*to, DATA, &p, sizeof(p));
		}
	}
}

static void fanin_round(const mote_pid *senders)
{
	uint64_t sum = 0;

	for (int i = 0; i < SENDERS; i++)
		mote_send(senders[i], GO, NULL, 0);
	for (int i = 0; i < SENDERS * EACH; i++) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		uint64_t seed = ((struct bench_payload *)m->data)->word[0];

		bench_check(bench_payload_is(m->data, seed), "the message is whole");
		sum += seed;
		mote_msg_free(m);
	}
	bench_check(sum == (uint64_t)SENDERS * EACH * (EACH - 1) / 2, "all messages came");
}

void bench_fanin_run(void *arg)
{
	mote_pid self = mote_self(), *senders = calloc(SENDERS, sizeof(*senders));
	struct bench_clock clock;

	(void)arg;
	for (int i = 0; i < SENDERS; i++)
		senders[i] = mote_spawn(fanin_sender, &self);
	fanin_round(senders);
	bench_begin(&clock);
	do
		fanin_round(senders);
	while (bench_more(&clock, SENDERS * EACH));
	bench_end(&clock, "fanin");
	bench_done();
}

const struct bench bench_messages[] = {
	{ .name = "pingpong", .run = pingpong },
	{ .name = "pingpong_owned", .run = pingpong_owned },
	{ .name = "call", .run = call },
	{ .name = "cast", .run = cast },
	{ .name = "ring", .run = ring },
	{ .name = "flood", .run = flood },
	{ .name = "fanin", .run = bench_fanin_run },
	{ 0 },
};
