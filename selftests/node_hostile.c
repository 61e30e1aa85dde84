// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A node that writes what no node of mote would. It is made of lib/port alone, in an OS process of its own, so that it can
 * put any bytes into its lane. The runtime that reads them cuts it off, or takes them for what they may be, and
 * in any case goes on, with its memory bounded.
 */
#include "port_helpers.h"

#include "core/cycle.h"
#include "core/remote.h"

#include <mote/node.h>

#define VICTIM "victim"

/* What a bounded memory may grow by; TSan keeps a shadow of several times its size. */
#ifdef __SANITIZE_THREAD__
#define BOUND	((size_t)512 << 20)
#else
#define BOUND	((size_t)32 << 20)
#endif

enum { HELLO = 1, COUNT, ANYTHING };

static uint64_t random_state;

static uint32_t random_next(void)
{
	return (uint32_t)test_random(&random_state);
}

static size_t resident(void)
{
	unsigned long size = 0, pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f) {
		EXPECT_EQ(fscanf(f, "%lu %lu", &size, &pages), 2);
		fclose(f);
	}
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* --- the hostile side: shared->id[0], number[0]: a pid of the victim's; stage: who is to go on --- */

static struct carrier *hostile_connect(unsigned int round)
{
	struct carrier *c = NULL;
	char name[32];

	snprintf(name, sizeof(name), "hostile-%d-%u", getpid(), round);
	if (EXPECT(node_start(name, 1) == 0))
		c = node_connect(VICTIM);
	shared->id[1] = port_node;
	return c;
}

static struct record *hostile_reserve(struct carrier *c, size_t size)
{
	unsigned int downs = nr_downs;
	struct record *r;

	while (!(r = carrier_reserve(c, size)) && nr_downs == downs)
		loop_once(0, 20);
	return r;
}

static void hostile_fill(struct record *r, enum record_kind kind, uint64_t to_serial, uint32_t to_slot, uint64_t from)
{
	r->kind = (uint8_t)kind;
	r->flags = 0;
	r->zero = 0;
	r->to_serial = to_serial;
	r->to_slot = to_slot;
	r->from_serial = from;
	r->from_slot = (uint32_t)from;
	r->ref = 0;
	r->ref_slot = 0;
	r->type = ANYTHING;
}

static void hostile_end(void)
{
	node_stop(1);
	nr_ups = nr_downs = nr_unreachables = 0;
}

/* Everything at random, but for what makes it worth reading. */
static void random_records(void *arg)
{
	unsigned long n = *(unsigned long *)arg, cuts = 0;
	struct carrier *c = NULL;

	random_state = 20260101;
	for (unsigned long i = 0; i < n; i++) {
		size_t size = random_next() % 8 ? random_next() % 300 : random_next() % 8000;
		struct record *r;

		if (!c || nr_downs) {
			if (c) {
				cuts++;
				hostile_end();
			}
			c = hostile_connect((unsigned int)cuts);
			if (!c)
				return;
		}
		r = hostile_reserve(c, size);
		if (!r)
			continue;
		for (size_t b = 0; b < size; b++)
			((unsigned char *)(r + 1))[b] = (unsigned char)(random_next() % 3 ? random_next() : 0);
		/* Forbidden things end the connection: seldom, so that the others are reached. */
		hostile_fill(r, (enum record_kind)(random_next() % 2000 ? 1 + random_next() % 15 : random_next() % 30),
			     shared->number[0], shared->id[0], 1 + random_next() % 100);
		r->type = random_next() % 1000 ? random_next() % 5 : random_next();
		r->ref = 1 + random_next() % 50;
		r->ref_slot = random_next() % 5;
		if (!(random_next() % 1000))
			r->to_serial = random_next();
		if (!(random_next() % 1000))
			r->to_slot = random_next();
		if (!(random_next() % 1000))
			r->flags = (uint8_t)random_next();
		if (!(random_next() % 5000))
			r->zero = (uint16_t)random_next();
		if (r->kind >= RECORD_EXIT && r->kind <= RECORD_DOWN && size >= 8) {
			struct record_reason reason = { random_next() % 500 ? MOTE_CUSTOM : random_next(), 0 };

			memcpy(r + 1, &reason, sizeof(reason));
		}
		carrier_commit(c);
		if (i % 16 == 0)
			loop_once(0, 0);
	}
	test_note("cut off %lu times", cuts);
	EXPECT(cuts > 0);
	hostile_end();
}

/* What follows LARGE and PART in ways that it should not; each has to end the connection. */
static void odd_parts(void *arg)
{
	(void)arg;
	for (unsigned int round = 0; round < 7; round++) {
		struct carrier *c = hostile_connect(round);
		struct record *r;

		if (!c)
			return;
		r = carrier_reserve(c, 16);
		hostile_fill(r, round == 0 ? RECORD_PART : RECORD_LARGE, UINT64_MAX, 0, 1);
		r->ref = round == 1 ? 0 : round == 2 ? UINT64_MAX : 32;
		if (round >= 3) {
			r = carrier_reserve(c, round == 3 ? 64 : 16);
			hostile_fill(r, round == 4 ? RECORD_LARGE : round == 5 ? RECORD_MESSAGE : RECORD_PART, UINT64_MAX, 0, 1);
			r->ref = 32;
			/* 5: something else in between; 6: used before it is whole. */
			if (round == 6) {
				r = carrier_reserve(c, 0);
				hostile_fill(r, RECORD_MESSAGE, shared->number[0], shared->id[0], 1);
				r->flags = RECORD_FLAG_LARGE;
			}
		}
		carrier_commit(c);
		UNTIL(nr_downs == 1);
		EXPECT_EQ(last_why, PORT_CUT);
		hostile_end();
	}
}

/* To nobody in particular: only an alias's owner may be unknown. */
static void to_nobody(void *arg)
{
	(void)arg;
	for (enum record_kind kind = RECORD_MESSAGE; kind < RECORD_NAMED; kind++) {
		struct record_reason reason = { MOTE_KILL, 0 };
		struct carrier *c;
		struct record *r;

		if (kind == RECORD_REPLY || kind == RECORD_EXIT)
			continue;
		c = hostile_connect((unsigned int)kind);
		if (!c)
			return;
		r = carrier_reserve(c, sizeof(reason));
		hostile_fill(r, kind, 0, shared->id[0], 1);
		r->ref = 1;
		memcpy(r + 1, &reason, sizeof(reason));
		carrier_commit(c);
		UNTIL(nr_downs == 1);
		hostile_end();
	}
}

static mote_pid hostile_pid(void)
{
	return (mote_pid){ 5, 5, port_node };
}

/* From hostile_pid() to the victim, with room for so many hops. */
static struct probe *hostile_probe(struct carrier *c, uint32_t hops, size_t size)
{
	struct record *r = hostile_reserve(c, size);
	struct probe *probe = (struct probe *)(r + 1);

	hostile_fill(r, RECORD_PROBE, shared->number[0], shared->id[0], hostile_pid().serial);
	memset(probe, 0, size);
	probe->nr = hops;
	for (uint32_t i = 0; probe_size(i + 1) <= size; i++)
		probe->hops[i] = (struct hop){ hostile_pid(), 77 };
	return probe;
}

/* Each has to end the connection. */
static void odd_probes(void *arg)
{
	(void)arg;
	for (unsigned int round = 0; round < 8; round++) {
		struct carrier *c = hostile_connect(round);
		struct probe *probe;

		if (!c)
			return;
		switch (round) {
		case 0:
			hostile_probe(c, 0, probe_size(0));
			break;
		case 1:
			hostile_probe(c, 0, probe_size(1));
			break;
		case 2:
			hostile_probe(c, 3, probe_size(2));
			break;
		case 3:
			hostile_probe(c, UINT32_MAX, probe_size(2));
			break;
		case 4:
			hostile_probe(c, PROBE_FAR_MAX + 1, probe_size(PROBE_FAR_MAX + 1));
			break;
		case 5:
			hostile_probe(c, 2, probe_size(2))->at = 3;
			break;
		case 6:	/* in somebody else's name */
			probe = hostile_probe(c, 2, probe_size(2));
			probe->hops[1].pid = (mote_pid){ shared->number[0], shared->id[0], 1 };
			break;
		case 7:	/* its turn was before */
			probe = hostile_probe(c, 2, probe_size(2));
			probe->at = 1;
			probe->hops[0].pid.slot++;
			break;
		}
		carrier_commit(c);
		UNTIL(nr_downs == 1);
		EXPECT_EQ(last_why, PORT_CUT);
		hostile_end();
	}
}

/* The victim has a request of ours, and calls somebody who has nothing to do with us; we know all but the token. */
static void forged_probes(void *arg)
{
	struct carrier *c = hostile_connect(0);
	unsigned long n = *(unsigned long *)arg;
	struct record *r;

	if (!c)
		return;
	random_state = 20260102;
	r = hostile_reserve(c, 0);
	hostile_fill(r, RECORD_CALL, shared->number[0], shared->id[0], hostile_pid().serial);
	r->ref = 77;
	for (unsigned long i = 0; i < n; i++) {
		struct probe *probe = hostile_probe(c, 2, probe_size(2));

		probe->hops[0] = (struct hop){ { shared->number[0], shared->id[0], shared->id[2] }, shared->number[2] };
		/* It sets out for the second time; or says that it has come back. */
		probe->at = i % 4 ? 2 : 0;
		probe->token = i % 8 < 4 ? random_next() : 0;
		carrier_commit(c);
		if (i % 16 == 0)
			loop_once(0, 0);
	}
	EXPECT_EQ(nr_downs, 0);
	/* All of it was read. */
	r = hostile_reserve(c, 0);
	hostile_fill(r, RECORD_MESSAGE, shared->number[1], shared->id[3], hostile_pid().serial);
	carrier_commit(c);
	UNTIL(shared->stage >= 2);
	hostile_end();
}

/* More than the budget, to who does not receive. */
static void message_flood(void *arg)
{
	unsigned long n = *(unsigned long *)arg;
	struct carrier *c = hostile_connect(0);

	for (unsigned long i = 0; c && i < n; i++) {
		struct record *r = hostile_reserve(c, 1000);

		if (!r)
			return;
		hostile_fill(r, RECORD_MESSAGE, shared->number[0], shared->id[0], 1);
		r->type = COUNT;
		memcpy(r + 1, &i, sizeof(i));
		carrier_commit(c);
		/* As far as the lane holds nobody else is needed; then the victim begins to receive. */
		if (i % 1024 == 0) {
			shared->number[1] = i;
			loop_once(0, 0);
		}
	}
	UNTIL(shared->stage == 2);
	hostile_end();
}

/* HOLDs, LINKs, MONITORs of people who do not exist. */
static void edge_flood(void *arg)
{
	unsigned long n = *(unsigned long *)arg;
	struct carrier *c = hostile_connect(0);

	for (unsigned long i = 0; c && i < n; i++) {
		static const enum record_kind kinds[] = { RECORD_HOLD, RECORD_LINK, RECORD_MONITOR };
		struct record *r = hostile_reserve(c, 0);

		if (!r)
			return;
		hostile_fill(r, kinds[i % 3], shared->number[0], shared->id[0], 1 + i);
		r->ref = 1 + i;
		carrier_commit(c);
	}
	UNTIL(shared->stage == 2);
	hostile_end();
}

static enum record_kind flood_kind;

static bool refuse(struct carrier *c, const struct record *head, const void *body)
{
	(void)c;
	(void)head;
	(void)body;
	return false;
}

/* What is no message. A DOWN for each of the dead comes back, and is not read. */
static void signal_flood(void *arg)
{
	unsigned long n = *(unsigned long *)arg, i;
	bool dead = flood_kind == RECORD_MONITOR;
	struct carrier *c = hostile_connect(0);

	on_record = refuse;
	for (i = 0; c && i < n && shared->stage < 2; i++) {
		size_t size = flood_kind == RECORD_REPLY ? 1000 : 0;
		struct record *r = NULL;

		while (!nr_downs && shared->stage < 2 && !(r = carrier_reserve(c, size)))
			loop_once(0, 20);
		if (!r)
			break;
		hostile_fill(r, flood_kind, dead ? UINT64_MAX : shared->number[0], shared->id[0], 1 + i);
		r->ref = 1 + i;
		carrier_commit(c);
		if (i % 1024 == 0)
			shared->number[1] = i;
		if (i % 64 == 0)
			loop_once(0, 0);
	}
	if (dead) {
		EXPECT(i < n);
		UNTIL(nr_downs == 1);
		EXPECT_EQ(last_why, PORT_CUT);
	}
	hostile_end();
}

/* --- the side that has to stand it --- */

static void sleeper(void *arg)
{
	(void)arg;
	mote_receive_ref(mote_alias(0), MOTE_FOREVER);
}

static void echo(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive_type(HELLO, MOTE_FOREVER);

		if (mote_msg_from(m).ref.id)
			mote_reply(mote_msg_from(m), HELLO, NULL, 0);
		mote_msg_free(m);
	}
}

static void show(mote_pid pid)
{
	shared->id[0] = pid.slot;
	shared->number[0] = pid.serial;
}

static bool stands(mote_pid p)
{
	return mote_call(p, HELLO, NULL, 0, NULL, mote_in_ms(WAIT_S * 1000)) == 0;
}

struct play {
	void (*hostile)(void *arg);
	unsigned long n;
	pid_t pid;
	int status;
};

static int64_t play_wait(void *arg)
{
	struct play *p = arg;

	p->status = node_status(p->pid);
	return 0;
}

/* While the other side plays, a server among the targets answers. */
static void while_hostile(void *arg)
{
	struct play *play = arg;
	mote_pid target = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .fn = sleeper, .flags = MOTE_TRAP_EXIT });
	mote_pid server = mote_spawn(echo, NULL);
	size_t before = resident();

	show(target);
	test_stage(1);
	mote_blocking(play_wait, play, NULL, MOTE_FOREVER);
	EXPECT_EQ(play->status, 0);
	EXPECT(stands(server));
	test_note("%zu MiB more are resident", (resident() - before) >> 20);
	EXPECT(resident() < before + 2 * BOUND);
	mote_exit_pid(target, MOTE_REASON_KILL);
	mote_exit_pid(server, MOTE_REASON_KILL);
}

static void while_asked(void *arg)
{
	struct play *play = arg;

	test_stage(1);
	mote_blocking(play_wait, play, NULL, MOTE_FOREVER);
	EXPECT_EQ(play->status, 0);
}

static void play_fork(void (*fn)(void *arg), unsigned long n, void (*main_fn)(void *arg))
{
	struct mote_opts opts = { .size = sizeof(opts), .node = VICTIM, .node_budget = 4 << 20 };
	struct play play = { .hostile = fn, .n = n };
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		AWAIT(shared->stage >= 1);
		fn(&play.n);
		fflush(stdout);
		_exit(atomic_load(&selftest_failed) ? 1 : 0);
	}
	play.pid = pid;
	EXPECT_EQ(mote_run(main_fn, &play, &opts), 0);
}

static void random_case(void)
{
	play_fork(random_records, test_rounds(100000), while_hostile);
}

static void parts_case(void)
{
	play_fork(odd_parts, 0, while_hostile);
}

static void nobody_case(void)
{
	play_fork(to_nobody, 0, while_hostile);
}

/* Nothing is taken beyond the budget, nothing is lost, and `from` is of the node that wrote it. */
static void counter(void *arg)
{
	struct play *play = arg;
	size_t before = resident();
	bool right = true;

	show(mote_self());
	test_stage(1);
	while (shared->number[1] < play->n / 2) {
		struct mote_node_info info = { .size = sizeof(info) };

		mote_sleep(mote_in_ms(10));
		if (shared->id[1] && !mote_node_info((mote_node){ shared->id[1] }, &info) && info.undelivered > 3 << 20)
			break;
	}
	mote_sleep(mote_in_ms(200));
	EXPECT(resident() < before + BOUND);
	EXPECT(shared->number[1] < play->n / 2);
	for (unsigned long i = 0; i < play->n && right; i++) {
		struct mote_msg *m = mote_receive(mote_in_ms(WAIT_S * 1000));
		unsigned long got = UINT64_MAX;

		if (m)
			memcpy(&got, m->data, sizeof(got));
		right = EXPECT(m && m->type == COUNT && got == i && m->from.node == shared->id[1]);
		mote_msg_free(m);
	}
	test_stage(2);
	mote_blocking(play_wait, play, NULL, MOTE_FOREVER);
	EXPECT_EQ(play->status, 0);
}

static void flood_case(void)
{
	play_fork(message_flood, 100000, counter);
}

/*
 * In its own code it takes nothing in (but what a lone scheduler, handed over, takes in for it): what is under way to it
 * stays within the budget, too.
 */
static void busy(void *arg)
{
	struct play *play = arg;
	size_t before = resident();
	uint64_t sent;

	show(mote_self());
	test_stage(1);
	do {
		sent = shared->number[1];
		test_nap(300);
	} while ((!sent || sent != shared->number[1]) && sent < play->n / 2);
	test_note("%llu came, %zu MiB more are resident", (unsigned long long)sent, (resident() - before) >> 20);
	EXPECT(resident() < before + (128 << 20));
	test_stage(2);
	mote_blocking(play_wait, play, NULL, MOTE_FOREVER);
	EXPECT_EQ(play->status, 0);
}

static void acks_case(void)
{
	flood_kind = RECORD_UNLINK_ACK;
	play_fork(signal_flood, 8000000, busy);
}

static void replies_case(void)
{
	flood_kind = RECORD_REPLY;
	play_fork(signal_flood, 1000000, busy);
}

static void answers_case(void)
{
	flood_kind = RECORD_MONITOR;
	play_fork(signal_flood, 10000000, while_asked);
}

/* All of it goes with the node that made it. */
static void edges(void *arg)
{
	struct play *play = arg;
	struct mote_process_info info = { .size = sizeof(info) };
	unsigned long own;

	mote_trap_exit(true);
	show(mote_self());
	test_stage(1);
	do {
		mote_sleep(mote_in_ms(5));
		EXPECT_EQ(mote_process_info(mote_self(), &info), 0);
		own = info.links + info.monitored_by;
	} while (own < play->n / 3 * 2);
	test_stage(2);
	mote_blocking(play_wait, play, NULL, MOTE_FOREVER);
	EXPECT_EQ(play->status, 0);
	for (unsigned long i = 0; i < play->n / 3; i++) {
		struct mote_msg *m = mote_receive(mote_in_ms(WAIT_S * 1000));

		if (!EXPECT(m && mote_msg_exit(m) && mote_msg_exit(m)->reason.kind == MOTE_NOCONNECTION))
			break;
		mote_msg_free(m);
	}
	EXPECT(!mote_receive(mote_in_ms(50)));
	EXPECT_EQ(mote_process_info(mote_self(), &info), 0);
	EXPECT_EQ(info.links, 0);
	EXPECT_EQ(info.monitored_by, 0);
}

static void edges_case(void)
{
	play_fork(edge_flood, 60000, edges);
}

static void odd_probes_case(void)
{
	play_fork(odd_probes, 0, while_hostile);
}

static _Atomic int victim_result;

static void victim_calls(void *arg)
{
	atomic_store(&victim_result, mote_call(*(mote_pid *)arg, HELLO, NULL, 0, NULL, mote_in_ms(WAIT_S * 1000)));
}

static uint64_t call_of(mote_pid pid)
{
	const struct ref_table *refs = process_table[pid.slot].refs;

	return refs && refs->call ? refs->slots[refs->call - 1].id : 0;
}

static void while_calling(void *arg)
{
	struct play *play = arg;
	mote_pid self = mote_self(), victim;
	struct mote_msg *m, *asked;
	mote_ref ref;

	victim = mote_spawn_monitor(victim_calls, &self, &ref);
	asked = mote_receive_type(HELLO, mote_in_ms(WAIT_S * 1000));
	while (test_info(victim).wait != MOTE_WAIT_REF)
		mote_sleep(mote_in_ms(1));
	show(victim);
	shared->id[2] = port_node;
	shared->number[2] = call_of(victim);
	EXPECT(shared->number[2]);
	shared->number[1] = self.serial;
	shared->id[3] = self.slot;
	test_stage(1);
	m = mote_receive_type(ANYTHING, mote_in_ms(WAIT_S * 1000));
	EXPECT(m);
	mote_msg_free(m);
	mote_reply(mote_msg_from(asked), HELLO, NULL, 0);
	mote_msg_free(asked);
	m = mote_receive_ref(ref, mote_in_ms(WAIT_S * 1000));
	EXPECT(m);
	mote_msg_free(m);
	EXPECT_EQ(atomic_load(&victim_result), 0);
	test_stage(2);
	mote_blocking(play_wait, play, NULL, MOTE_FOREVER);
	EXPECT_EQ(play->status, 0);
}

static void forged_probes_case(void)
{
	play_fork(forged_probes, test_rounds(20000), while_calling);
}

int main(void)
{
	port_tests_begin();
	port_case("random records: cut off, or taken for what they may be", random_case);
	port_case("pieces of large messages that do not fit", parts_case);
	port_case("records to nobody", nobody_case);
	port_case("a flood of messages stays within its budget", flood_case);
	port_case("signals to who computes stay within the budget", acks_case);
	port_case("replies to who computes stay within the budget", replies_case);
	port_case("who does not read the answers is cut off", answers_case);
	port_case("a flood of links and monitors goes with its node", edges_case);
	port_case("probes of calls that no node would send", odd_probes_case);
	port_case("forged probes tell nobody of a circle", forged_probes_case);
	return port_tests_done();
}
