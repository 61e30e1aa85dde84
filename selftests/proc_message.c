// SPDX-License-Identifier: MIT OR GPL-2.0
/* Messages: order per pair whatever moves, contents, ownership, receivers that are not there. */
#include "proc.h"

enum { GO = 1, DATA, STOP };

/* Order: many senders on two schedulers, one receiver, which keeps a count for each. */

#define SENDERS 16

struct numbered {
	uint32_t sender, n;
};

struct sender {
	mote_pid to;
	uint32_t index, count;
};

static void send_numbers(void *arg)
{
	struct sender *s = arg;
	uint64_t seed = test_seed() + s->index;

	for (uint32_t i = 0; i < s->count; i++) {
		struct numbered d = { s->index, i };

		mote_send(s->to, DATA, &d, sizeof(d));
		if (i % 8 == 0)
			test_jitter(&seed);
	}
}

static bool in_order(uint32_t *next, const struct mote_msg *m)
{
	const struct numbered *d = m ? m->data : NULL;

	return d && m->type == DATA && m->size == sizeof(*d) && d->sender < SENDERS && d->n == next[d->sender]++;
}

static void order_of_many(void)
{
	uint32_t next[SENDERS] = { 0 }, count = (uint32_t)test_rounds(50000);
	struct sender s[SENDERS];

	for (uint32_t i = 0; i < SENDERS; i++) {
		s[i] = (struct sender){ mote_self(), i, count };
		if (i < 4)
			spawn_pinned(send_numbers, &s[i], i, 0, NULL);
		else
			mote_spawn(send_numbers, &s[i]);
	}
	for (uint32_t i = 0; i < SENDERS * count; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);

		if (!EXPECT(in_order(next, m)))
			test_bail_out();
		mote_msg_free(m);
	}
	for (uint32_t i = 0; i < SENDERS; i++)
		EXPECT_EQ(next[i], count);
	mote_sleep(mote_in_ms(1));
	EXPECT(mailbox_is_empty());
}

/*
 * The litmus test of stealing: the sender is made to move to another scheduler between each two sends, while a hog
 * keeps busy the scheduler that it has left, with whatever that one may still hold back of its sends. Receivers on
 * both schedulers.
 */
struct litmus {
	mote_pid receivers[2], hogs[2], boss;
	uint32_t count;
	uint32_t moves;
};

static void hog(void *arg)
{
	(void)arg;
	for (;;) {
		mote_msg_free(mote_receive(MOTE_FOREVER));
		test_spin(30000);
	}
}

/* Yields until it runs on the other scheduler, with a hog left behind. */
static void get_stolen(struct litmus *l)
{
	uint32_t from = test_info(mote_self()).scheduler;

	for (int tries = 0; tries < 50; tries++) {
		mote_send(l->hogs[from & 1], GO, NULL, 0);
		mote_yield();
		if (test_info(mote_self()).scheduler != from) {
			l->moves++;
			return;
		}
	}
}

static void stolen_sender(void *arg)
{
	struct litmus *l = arg;

	for (uint32_t i = 0; i < l->count; i++) {
		struct numbered d = { 0, i };

		mote_send(l->receivers[i & 1], DATA, &d, sizeof(d));
		mote_send(l->receivers[!(i & 1)], DATA, &d, sizeof(d));
		get_stolen(l);
	}
}

/* The same with runs of sends to one receiver, which may be held back for a while to go together. */
static void stolen_streamer(void *arg)
{
	struct litmus *l = arg;
	uint32_t sent[2] = { 0 };

	for (uint32_t run = 0; sent[0] < l->count || sent[1] < l->count; run++) {
		uint32_t to = run & 1;

		for (uint32_t i = 0; i <= run % 75 && sent[to] < l->count; i++) {
			struct numbered d = { 0, sent[to]++ };

			mote_send(l->receivers[to], DATA, &d, sizeof(d));
		}
		if (run % 5 == 4)
			mote_sleep(mote_in_us(10));
		else if (run % 5 == 3)
			mote_yield();
		else if (run % 5)
			get_stolen(l);
	}
}

static void litmus_receiver(void *arg)
{
	struct litmus *l = arg;
	uint32_t next[SENDERS] = { 0 }, wrong = 0;

	for (uint32_t i = 0; i < l->count; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);

		wrong += !in_order(next, m);
		mote_msg_free(m);
	}
	mote_send(l->boss, STOP, &wrong, sizeof(wrong));
}

static void litmus(mote_fn sender, uint32_t count)
{
	struct litmus l = { .boss = mote_self(), .count = count };
	mote_ref done;
	mote_pid s;

	for (unsigned int i = 0; i < 2; i++) {
		l.hogs[i] = spawn_pinned(hog, NULL, i, 0, NULL);
		l.receivers[i] = spawn_pinned(litmus_receiver, &l, i, 0, NULL);
	}
	s = mote_spawn_monitor(sender, &l, &done);
	for (int i = 0; i < 2; i++) {
		struct mote_msg *m = mote_receive_type(STOP, PATIENCE);

		if (EXPECT(m))
			EXPECT_EQ(*(uint32_t *)m->data, 0);
		mote_msg_free(m);
	}
	EXPECT(got_down(done, s, MOTE_NORMAL));
	test_note("the sender moved %u times in %u sends", l.moves, l.count);
	if (!l.moves)
		selftest_skip("the sender was never stolen");
}

static void order_when_stolen(void)
{
	litmus(stolen_sender, (uint32_t)test_rounds(5000));
}

static void order_of_stolen_streams(void)
{
	litmus(stolen_streamer, (uint32_t)test_rounds(50000));
}

/* The order holds among signals of all kinds of one sender to one receiver, each after a run of plain sends. */
#define RUN 100

struct mixed {
	mote_pid boss;
	mote_ref alias;
	uint32_t run;		/* length of the runs */
};

static void send_run(struct mixed *m)
{
	for (uint32_t i = 0; i < m->run; i++)
		mote_send(m->boss, RUN, &i, sizeof(i));
}

static void mixed_sender(void *arg)
{
	struct mixed m = *(struct mixed *)arg;

	send_run(&m);
	mote_send(m.boss, 1, NULL, 0);
	mote_exit_pid(m.boss, MOTE_REASON_SHUTDOWN);
	send_run(&m);
	mote_send_alias(m.alias, 2, NULL, 0);
	mote_link(m.boss);
	send_run(&m);
	mote_send_name("message.boss", 3, NULL, 0);
	send_run(&m);
	mote_exit_pid(m.boss, mote_reason_error(EIO, NULL));
	send_run(&m);
	mote_send_msg(m.boss, mote_msg_new(4, 0));
	send_run(&m);
	mote_request(m.boss, 5, NULL, 0);
	send_run(&m);
	mote_reply((struct mote_from){ m.boss, m.alias }, 6, NULL, 0);
	send_run(&m);
	mote_exit(mote_reason_error(EPIPE, NULL));
}

/* The next message but for a run, which must be complete. */
static struct mote_msg *after_run(uint32_t run)
{
	struct mote_msg *m;

	for (uint32_t i = 0; (m = mote_receive(PATIENCE)) && m->type == RUN; i++) {
		run--;
		if (!EXPECT(*(uint32_t *)m->data == i))
			break;
		mote_msg_free(m);
	}
	EXPECT_EQ(run, 0);
	return m;
}

static void order_of_kinds(void)
{
	static const uint32_t types[] = { 1, MOTE_MSG_EXIT, 2, 3, MOTE_MSG_EXIT, 4, 5, 6, MOTE_MSG_EXIT };
	static const uint32_t kinds[] = { 0, MOTE_SHUTDOWN, 0, 0, MOTE_ERROR, 0, 0, 0, MOTE_ERROR };
	static const bool runs[] = { true, false, true, true, true, true, true, true, true };
	unsigned long n = test_rounds(3000);
	struct mixed mixed = { mote_self(), mote_alias(0), 0 };

	mote_trap_exit(true);
	EXPECT_EQ(mote_register("message.boss", mote_self()), 0);
	for (unsigned long i = 0; i < n; i++) {
		mote_pid p;

		mixed.run = i % 3 ? (uint32_t)(i % 71) : 0;
		p = spawn_pinned(mixed_sender, &mixed, (unsigned int)i, 0, NULL);
		for (int j = 0; j < 9; j++) {
			struct mote_msg *m = after_run(runs[j] ? mixed.run : 0);

			if (!EXPECT(m && m->type == types[j] && (!kinds[j] || is_exit(m, p, kinds[j])))) {
				test_note("step %d", j);
				test_describe(m);
				return;
			}
			mote_msg_free(m);
		}
	}
	EXPECT(mailbox_is_empty());
}

/* What a process has sent arrives, although it goes on computing and never calls the runtime again. */
struct silent {
	mote_pid boss;
	uint32_t run;
	_Atomic bool go;
};

static void falls_silent(void *arg)
{
	struct silent *s = arg;

	for (uint32_t i = 0; i < s->run; i++)
		mote_send(s->boss, RUN, &i, sizeof(i));
	while (!atomic_load(&s->go))
		;
}

static void sender_falls_silent(void *arg)
{
	(void)arg;
	for (uint32_t run = 1; run < 100; run += 7) {
		struct silent s = { mote_self(), run, false };
		mote_ref done;
		mote_pid p = spawn_pinned(falls_silent, &s, 1, MOTE_MONITOR, &done);

		for (uint32_t i = 0; i < run; i++) {
			struct mote_msg *m = mote_receive(PATIENCE);

			if (!EXPECT(m && m->type == RUN && *(uint32_t *)m->data == i))
				test_bail_out();
			mote_msg_free(m);
		}
		atomic_store(&s.go, true);
		EXPECT(got_down(done, p, MOTE_NORMAL));
	}
}

static void all_arrives(void)
{
	if (test_one_thread())
		return;
	on_first_scheduler(sender_falls_silent, NULL);
}

static void to_oneself(void)
{
	for (uint32_t i = 0; i < 10000; i++)
		EXPECT_EQ(mote_send(mote_self(), DATA, &i, sizeof(i)), 0);
	for (uint32_t i = 0; i < 10000; i++) {
		struct mote_msg *m = mote_receive(MOTE_NOW);

		if (!EXPECT(m && *(uint32_t *)m->data == i))
			return;
		EXPECT(mote_pid_equal(m->from, mote_self()));
		mote_msg_free(m);
	}
	EXPECT(mailbox_is_empty());
}

/* A flood that no receiver keeps up with. */
static void flooder(void *arg)
{
	struct sender *s = arg;

	for (uint32_t i = 0; i < s->count; i++) {
		struct numbered d = { 0, i };

		mote_send(s->to, DATA, &d, sizeof(d));
	}
}

static void flood(void)
{
	struct sender s = { mote_self(), 0, (uint32_t)test_rounds(1000000) };
	uint32_t next[SENDERS] = { 0 };

	spawn_pinned(flooder, &s, 1, 0, NULL);
	for (uint32_t i = 0; i < s.count; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);

		if (!EXPECT(in_order(next, m)))
			test_bail_out();
		mote_msg_free(m);
	}
	EXPECT(mailbox_is_empty());
}

static void fill(unsigned char *p, size_t size, unsigned int salt)
{
	for (size_t i = 0; i < size; i++)
		p[i] = (unsigned char)(i * 7 + i / 253 + salt);
}

static bool filled(const unsigned char *p, size_t size, unsigned int salt)
{
	for (size_t i = 0; i < size; i++)
		if (p[i] != (unsigned char)(i * 7 + i / 253 + salt))
			return false;
	return true;
}

static const size_t sizes[] = { 0, 1, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 96, 127, 128, 129, 200, 255, 256, 257,
				500, 512, 1000, 1023, 1024, 1025, 2000, 2048, 4000, 4095, 4096, 4097, 8192, 10000,
				16384, 32768, 65535, 65536, 65537, 100000, 262144, 1000000, 1048576 };

#define NR_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void all_sizes(void)
{
	mote_pid p = mote_spawn(mirror, NULL);
	unsigned char *buf = malloc(sizes[NR_SIZES - 1]);

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < NR_SIZES; i++) {
			fill(buf, sizes[i], (unsigned int)i);
			EXPECT_EQ(mote_send(p, DATA, sizes[i] ? buf : NULL, sizes[i]), 0);
			/* the data was only borrowed */
			memset(buf, 0xee, sizes[i]);
			if (round == 1)
				mote_send(mote_self(), GO, NULL, 0);
		}
		for (size_t i = 0; i < NR_SIZES; i++) {
			struct mote_msg *m = mote_receive_type(DATA, PATIENCE);

			if (!EXPECT(m && m->size == sizes[i]))
				return;
			EXPECT(filled(m->data, m->size, (unsigned int)i));
			EXPECT_EQ((uintptr_t)m->data % 16, 0);
			memset(m->data, 0x55, m->size);		/* the receiver's to write */
			mote_msg_free(m);
			if (round == 1)
				EXPECT(got_type(GO));
		}
	}
	free(buf);
	put_down(p);
}

static void give_on(void *arg)
{
	struct mote_msg *m = mote_receive(MOTE_FOREVER);

	(void)arg;
	m->type = STOP;
	if (m->size > 10)
		m->size = 10;
	memset(m->data, 'z', m->size);
	EXPECT_EQ(mote_send_msg(m->from, m), 0);
}

static void ownership(void)
{
	for (size_t i = 0; i < NR_SIZES; i++) {
		struct mote_msg *m = mote_msg_new(DATA, sizes[i]);
		mote_pid p;
		void *data;

		if (!EXPECT(m))
			return;
		EXPECT_EQ(m->type, DATA);
		EXPECT_EQ(m->size, sizes[i]);
		EXPECT_EQ((uintptr_t)m->data % 16, 0);
		fill(m->data, m->size, 3);
		data = m->data;
		EXPECT_EQ(mote_send_msg(mote_self(), m), 0);
		m = mote_receive(PATIENCE);
		/* no copy */
		EXPECT(m && m->data == data && m->size == sizes[i] && filled(data, sizes[i], 3));
		p = mote_spawn(give_on, NULL);
		EXPECT_EQ(mote_send_msg(p, m), 0);
		m = mote_receive(PATIENCE);
		if (EXPECT(m && m->type == STOP)) {
			EXPECT(mote_pid_equal(m->from, p));
			EXPECT_EQ(m->size, sizes[i] < 10 ? sizes[i] : 10);
			EXPECT(!m->size || (m->data == data && *(char *)data == 'z'));
		}
		mote_msg_free(m);
	}
	mote_msg_free(NULL);
	mote_msg_free(mote_msg_new(DATA, 100));
}

static void nothing(void *arg)
{
	(void)arg;
}

static void to_nobody(void)
{
	mote_ref ref;
	mote_pid dead = mote_spawn_monitor(nothing, NULL, &ref), odd[] = {
		{ 123456789, 5, 0 }, { 7, 0xfffffff0u, 0 }, { 7, 3, 99 }, dead,
	};

	EXPECT(got_down(ref, dead, MOTE_NORMAL));
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		EXPECT_EQ(mote_send(odd[i], DATA, "abc", 3), 0);
		EXPECT_EQ(mote_send_msg(odd[i], mote_msg_new(DATA, 1000)), 0);
		EXPECT_EQ(mote_exit_pid(odd[i], MOTE_REASON_SHUTDOWN), 0);
		EXPECT(!mote_alive(odd[i]));
		ref = mote_monitor(odd[i]);
		if (EXPECT(ref.id)) {
			struct mote_msg *m = mote_receive_ref(ref, PATIENCE);

			EXPECT(is_down(m, ref, odd[i], MOTE_NOPROC) || is_down(m, ref, odd[i], MOTE_NOCONNECTION));
			mote_msg_free(m);
		}
	}
	EXPECT(mailbox_is_empty());
}

static void stays_quiet(void *arg)
{
	mote_msg_free(mote_receive_type(GO, PATIENCE));
	EXPECT(mailbox_is_empty());
	(void)arg;
}

static void stale_pids(void)
{
	unsigned long reused = 0, n = test_rounds(5000);

	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref;
		mote_pid old = mote_spawn_monitor(nothing, NULL, &ref), new;

		EXPECT(got_down(ref, old, MOTE_NORMAL));
		new = mote_spawn_monitor(stays_quiet, NULL, &ref);
		reused += new.slot == old.slot;
		mote_send(old, DATA, "for the dead", 13);
		mote_exit_pid(old, MOTE_REASON_KILL);
		mote_exit_pid(old, MOTE_REASON_SHUTDOWN);
		mote_yield();
		mote_send(old, DATA, "for the dead", 13);
		mote_exit_pid(old, MOTE_REASON_KILL);
		mote_send(new, GO, NULL, 0);
		if (!EXPECT(got_down(ref, new, MOTE_NORMAL)))
			return;
	}
	test_note("%lu of %lu successors had the slot of the dead", reused, n);
	if (!reused)
		selftest_skip("no slot was reused");
}

/* The receiver dies while messages stream to it, and others take its slot at once. */
struct stream {
	_Atomic uint64_t serial;
	_Atomic uint32_t slot;
	_Atomic bool stop;
};

static void streamer(void *arg)
{
	static char large[100000];
	struct stream *s = arg;

	while (!atomic_load(&s->stop)) {
		mote_pid to = { .serial = atomic_load(&s->serial), .slot = atomic_load(&s->slot) };

		/* copying it takes longer than the receiver may live: what arrives then is for a predecessor */
		memcpy(large, &to.serial, sizeof(to.serial));
		mote_send(to, DATA, large, sizeof(large));
		mote_check();
	}
}

static void short_receiver(void *arg)
{
	uint64_t serial = mote_self().serial;

	(void)arg;
	for (int i = 0; i < 3; i++) {
		struct mote_msg *m = mote_receive(mote_in_us(15));

		/* slot and serial are read apart: only a pair that belongs together may arrive */
		if (m)
			EXPECT(*(uint64_t *)m->data == serial);
		mote_msg_free(m);
	}
}

static void send_races_exit(void *arg)
{
	unsigned long n = test_rounds(600);
	struct stream s = { 1, 0, false };
	mote_ref done, ref;
	mote_pid p = spawn_pinned(streamer, &s, 1, MOTE_MONITOR, &done), q;

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		q = mote_spawn_monitor(short_receiver, NULL, &ref);
		atomic_store(&s.slot, q.slot);
		atomic_store(&s.serial, q.serial);
		if (!EXPECT(got_down(ref, q, MOTE_NORMAL)))
			break;
	}
	atomic_store(&s.stop, true);
	EXPECT(got_down(done, p, MOTE_NORMAL));
}

static void race_send_exit(void)
{
	on_first_scheduler(send_races_exit, NULL);
}

static void reserved(void)
{
	static const uint32_t types[] = { MOTE_MSG_RESERVED, MOTE_MSG_EXIT, MOTE_MSG_DOWN, MOTE_MSG_OS_SIGNAL, ~0u };
	struct mote_msg *m;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		EXPECT_EQ(mote_send(mote_self(), types[i], "x", 1), -EINVAL);
		EXPECT(!mote_msg_new(types[i], 8));
		EXPECT_EQ(mote_errno(), -EINVAL);
		m = mote_msg_new(DATA, 8);
		m->type = types[i];
		EXPECT_EQ(mote_send_msg(mote_self(), m), -EINVAL);
		EXPECT_EQ(mote_send_after(MOTE_NOW, mote_self(), types[i], NULL, 0).id, 0);
		EXPECT_EQ(mote_errno(), -EINVAL);
	}
	EXPECT_EQ(mote_send(mote_self(), MOTE_MSG_RESERVED - 1, NULL, 0), 0);
	m = mote_receive(MOTE_NOW);
	EXPECT(m && m->type == MOTE_MSG_RESERVED - 1);
	EXPECT(!mote_msg_down(m) && !mote_msg_exit(m));
	mote_msg_free(m);
	EXPECT(mailbox_is_empty());
}

static void too_large(void)
{
	EXPECT_EQ(mote_send(mote_self(), DATA, "x", (size_t)1 << 32), -EMSGSIZE);
	EXPECT(!mote_msg_new(DATA, (size_t)1 << 32));
	EXPECT_EQ(mote_errno(), -EMSGSIZE);
	EXPECT_EQ(mote_send_after(MOTE_NOW, mote_self(), DATA, "x", (size_t)1 << 32).id, 0);
	EXPECT_EQ(mote_errno(), -EMSGSIZE);
	EXPECT(mailbox_is_empty());
}

static void unread(void *arg)
{
	(void)arg;
	mote_msg_free(mote_receive_type(GO, PATIENCE));
}

static void unread_ones_are_freed(void)
{
	char block[3000] = "";

	/* for the leak checker: messages that a process leaves in its mailbox, before and after its end */
	for (int i = 0; i < 50; i++) {
		mote_ref ref;
		mote_pid p = mote_spawn_monitor(unread, NULL, &ref);

		for (int j = 0; j < 50; j++)
			mote_send(p, DATA, block, j & 1 ? sizeof(block) : 10);
		mote_send(p, GO, NULL, 0);
		for (int j = 0; j < 50; j++)
			mote_send(p, DATA, block, j & 1 ? sizeof(block) : 10);
		EXPECT(got_down(ref, p, MOTE_NORMAL));
		mote_send(p, DATA, block, sizeof(block));
	}
}

int main(void)
{
	selftest_process_opts("order per pair: many senders on two schedulers", order_of_many, SCHEDULERS(2));
	selftest_process_opts("litmus: order per pair when the sender is stolen between sends", order_when_stolen,
			      SCHEDULERS(2));
	selftest_process_opts("litmus: order per pair when a streaming sender is stolen", order_of_stolen_streams,
			      SCHEDULERS(2));
	selftest_process_opts("what was sent arrives while its sender computes", all_arrives, SCHEDULERS(2));
	selftest_process_opts("order per pair among signals of all kinds", order_of_kinds, SCHEDULERS(2));
	selftest_process("messages to oneself", to_oneself);
	selftest_process_opts("a flood, in order and complete", flood, SCHEDULERS(2));
	selftest_process_opts("sizes from 0 to 1 MiB, copied, aligned", all_sizes, SCHEDULERS(2));
	selftest_process("mote_send_msg hands over without a copy, received ones too", ownership);
	selftest_process("messages to the dead and to those who never were vanish", to_nobody);
	selftest_process("a stale pid is dead, not its successor", stale_pids);
	selftest_process_opts("race: send against exit and reuse", race_send_exit, SCHEDULERS(2));
	selftest_process("reserved types are refused: -EINVAL", reserved);
	selftest_process("over 4 GiB: -EMSGSIZE", too_large);
	selftest_process("messages never received are freed", unread_ones_are_freed);
	return selftest_done();
}
