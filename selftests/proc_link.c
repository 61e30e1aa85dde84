// SPDX-License-Identifier: MIT OR GPL-2.0
/* Links: symmetric, one per pair, and gone for good when mote_unlink() has returned. */
#include "proc.h"

enum { GO = 1, LINK, UNLINK, DIE };

/* Does to `from` what messages say. */
static void puppet(void *arg)
{
	mote_trap_exit(arg != NULL);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		mote_pid from = m->from;
		uint32_t type = m->type;

		mote_msg_free(m);
		if (type == LINK)
			mote_link(from);
		if (type == UNLINK)
			mote_unlink(from);
		if (type == PING)
			mote_send(from, PING, NULL, 0);
		if (type == DIE)
			mote_exit(mote_reason_error(EPIPE, NULL));
	}
}

static void pair_of(void *arg)
{
	mote_link(*(mote_pid *)arg);
	sink(NULL);
}

static void symmetric(void)
{
	for (int first = 0; first < 2; first++) {
		mote_pid p[2];
		mote_ref refs[2];

		p[0] = mote_spawn_monitor(sink, NULL, &refs[0]);
		p[1] = mote_spawn_monitor(pair_of, &p[0], &refs[1]);
		while (test_info(p[0]).links != 1)
			mote_yield();
		EXPECT_EQ(test_info(p[1]).links, 1);
		mote_exit_pid(p[first], mote_reason_error(EIO, NULL));
		EXPECT(got_down(refs[first], p[first], MOTE_ERROR));
		EXPECT(got_down(refs[!first], p[!first], MOTE_ERROR));
	}
}

static void idempotent(void)
{
	mote_pid p = mote_spawn(puppet, NULL);

	mote_trap_exit(true);
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(mote_link(p), 0);
	EXPECT(ping(p));
	EXPECT_EQ(test_info(mote_self()).links, 1);
	EXPECT_EQ(test_info(p).links, 1);
	mote_send(p, LINK, NULL, 0);
	EXPECT(ping(p));
	EXPECT_EQ(test_info(mote_self()).links, 1);
	EXPECT_EQ(test_info(p).links, 1);
	mote_send(p, DIE, NULL, 0);
	EXPECT(got_exit(p, MOTE_ERROR));
	mote_sleep(mote_in_ms(1));
	EXPECT(mailbox_is_empty());

	/* one unlink undoes many links */
	p = mote_spawn(puppet, NULL);
	mote_link(p);
	mote_link(p);
	EXPECT_EQ(mote_unlink(p), 0);
	EXPECT(ping(p));
	EXPECT_EQ(test_info(p).links, 0);
	EXPECT_EQ(test_info(mote_self()).links, 0);
	put_down(p);
	EXPECT(mailbox_is_empty());
}

static void either_side_unlinks(void)
{
	for (int theirs = 0; theirs < 2; theirs++) {
		mote_pid p = mote_spawn(puppet, NULL);

		mote_trap_exit(true);
		mote_link(p);
		if (theirs) {
			mote_send(p, UNLINK, NULL, 0);
			EXPECT(ping(p));
		} else {
			mote_unlink(p);
		}
		EXPECT(ping(p));
		EXPECT_EQ(test_info(mote_self()).links, 0);
		EXPECT_EQ(test_info(p).links, 0);
		put_down(p);
		mote_sleep(mote_in_ms(1));
		EXPECT(mailbox_is_empty());
	}
}

static void link_again(void)
{
	mote_pid p = mote_spawn(puppet, NULL);

	mote_trap_exit(true);
	for (int i = 0; i < 100; i++) {
		mote_link(p);
		mote_unlink(p);
	}
	mote_link(p);
	EXPECT(ping(p));
	EXPECT_EQ(test_info(p).links, 1);
	EXPECT_EQ(test_info(mote_self()).links, 1);
	mote_send(p, DIE, NULL, 0);
	EXPECT(got_exit(p, MOTE_ERROR));
	EXPECT(mailbox_is_empty());
}

static void nothing(void *arg)
{
	(void)arg;
}

static void link_to(void *arg)
{
	mote_link(*(mote_pid *)arg);
	mote_sleep(PATIENCE);
}

static void noproc(void)
{
	mote_ref ref;
	mote_pid dead = mote_spawn_monitor(nothing, NULL, &ref), p;

	EXPECT(got_down(ref, dead, MOTE_NORMAL));
	p = mote_spawn_monitor(link_to, &dead, &ref);
	EXPECT(got_down(ref, p, MOTE_NOPROC));
	mote_trap_exit(true);
	EXPECT_EQ(mote_link(dead), 0);
	EXPECT(got_exit(dead, MOTE_NOPROC));
	EXPECT_EQ(test_info(mote_self()).links, 0);
	EXPECT_EQ(mote_unlink(dead), 0);
	EXPECT(mailbox_is_empty());
}

static void not_to_oneself(void)
{
	mote_trap_exit(true);
	EXPECT_EQ(mote_link(mote_self()), -EINVAL);
	EXPECT_EQ(mote_link(MOTE_NOBODY), -EINVAL);
	EXPECT_EQ(test_info(mote_self()).links, 0);
	EXPECT(mailbox_is_empty());
}

static void exit_in_mailbox_stays(void)
{
	mote_pid p = mote_spawn(puppet, NULL);
	mote_ref ref = mote_monitor(p);

	mote_trap_exit(true);
	mote_link(p);
	mote_send(p, DIE, NULL, 0);
	EXPECT(got_down(ref, p, MOTE_ERROR));
	while (test_info(mote_self()).mailbox == 0)
		mote_yield();
	mote_unlink(p);
	EXPECT(got_exit(p, MOTE_ERROR));
	EXPECT(mailbox_is_empty());
}

static void many_links(void)
{
	unsigned long n = test_crowd(3000);
	mote_pid *p = calloc(n, sizeof(*p));

	mote_trap_exit(true);
	for (unsigned long i = 0; i < n; i++)
		p[i] = mote_spawn_link(sink, NULL);
	EXPECT_EQ(test_info(mote_self()).links, n);
	for (unsigned long i = 0; i < n; i += 2)
		mote_unlink(p[i]);
	for (unsigned long i = 0; i < n; i++)
		mote_exit_pid(p[i], MOTE_REASON_KILL);
	for (unsigned long i = 1; i < n; i += 2) {
		struct mote_msg *m = mote_receive(PATIENCE);
		const struct mote_exit_info *e = m ? mote_msg_exit(m) : NULL;

		if (!EXPECT(e))
			break;
		EXPECT_EQ(e->reason.kind, MOTE_KILLED);
		mote_msg_free(m);
	}
	for (unsigned long i = 0; i < n; i++) {
		while (mote_alive(p[i]))
			mote_yield();
	}
	mote_sleep(mote_in_ms(1));
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).links, 0);
	free(p);
}

struct short_life {
	uint64_t seed;
};

static void short_life(void *arg)
{
	uint64_t seed = ((struct short_life *)arg)->seed;

	test_jitter(&seed);
	mote_exit(mote_reason_error(EIO, NULL));
}

static void unlink_races_exit(void *arg)
{
	unsigned long n = test_rounds(100000), before = 0;
	uint64_t seed = test_seed();

	(void)arg;
	mote_trap_exit(true);
	for (unsigned long i = 0; i < n; i++) {
		struct short_life life = { seed + i };
		mote_ref ref;
		mote_pid p = spawn_pinned(short_life, &life, 1, MOTE_LINK | MOTE_MONITOR, &ref);
		struct mote_msg *m = NULL;

		for (uint32_t spin = test_random(&seed) % 6; spin; spin--)
			test_jitter(&seed);
		mote_unlink(p);
		/* what came before is in the mailbox now; nothing may join it */
		m = mote_receive_type(MOTE_MSG_EXIT, MOTE_NOW);
		before += m != NULL;
		if (m)
			EXPECT(is_exit(m, p, MOTE_ERROR));
		mote_msg_free(m);
		if (!EXPECT(got_down(ref, p, MOTE_ERROR)) || !EXPECT(mailbox_is_empty()))
			return;
	}
	test_note("%lu of %lu exits came before the unlink", before, n);
	EXPECT_EQ(test_info(mote_self()).links, 0);
}

static void race_unlink(void)
{
	on_first_scheduler(unlink_races_exit, NULL);
}

/* A child that lives for several rounds is unlinked while a kill by somebody else hits it. */
static void killer(void *arg)
{
	(void)arg;
	for (uint64_t seed = test_seed();;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		test_jitter(&seed);
		mote_exit_pid(*(mote_pid *)m->data, MOTE_REASON_KILL);
		mote_msg_free(m);
	}
}

static void unlink_races_kill(void *arg)
{
	unsigned long n = test_rounds(20000);
	uint64_t seed = test_seed() + 7;
	mote_pid k = spawn_pinned(killer, NULL, 1, 0, NULL);

	(void)arg;
	mote_trap_exit(true);
	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref;
		mote_pid p = spawn_pinned(sink, NULL, i & 1, MOTE_LINK | MOTE_MONITOR, &ref);

		mote_send(k, GO, &p, sizeof(p));
		for (uint32_t spin = test_random(&seed) % 6; spin; spin--)
			test_jitter(&seed);
		mote_unlink(p);
		mote_msg_free(mote_receive_type(MOTE_MSG_EXIT, MOTE_NOW));
		if (!EXPECT(got_down(ref, p, MOTE_KILLED)) || !EXPECT(mailbox_is_empty()))
			return;
	}
	mote_exit_pid(k, MOTE_REASON_KILL);
}

static void race_unlink_kill(void)
{
	on_first_scheduler(unlink_races_kill, NULL);
}

/*
 * Two processes on two schedulers link and unlink each other at random. When all signals have arrived both must
 * agree whether there is a link; and then the end of one must be an EXIT to the other exactly if there is.
 */
struct crossing {
	mote_pid peer, boss;
	uint64_t seed;
	int ops;
};

static void crosser(void *arg)
{
	struct crossing c;
	struct mote_msg *m;

	(void)arg;
	mote_trap_exit(true);
	m = mote_receive_type(GO, PATIENCE);
	c = *(struct crossing *)m->data;
	mote_msg_free(m);
	for (int i = 0; i < c.ops; i++) {
		if (test_random(&c.seed) & 1)
			mote_link(c.peer);
		else
			mote_unlink(c.peer);
		test_jitter(&c.seed);
	}
	mote_send(c.boss, GO, NULL, 0);
	for (;;) {
		m = mote_receive(MOTE_FOREVER);
		if (m->type == LINK) {		/* a round trip to the peer */
			mote_send(c.peer, PING, NULL, 0);
			mote_msg_free(m);
			m = mote_receive_type(UNLINK, PATIENCE);
			mote_send(c.boss, LINK, NULL, 0);
		} else if (m->type == PING) {
			mote_send(m->from, UNLINK, NULL, 0);
		} else if (m->type == DIE) {
			mote_exit(mote_reason_error(EPIPE, NULL));
		} else if (m->type == MOTE_MSG_EXIT) {
			mote_send(c.boss, MOTE_MSG_RESERVED - 1, NULL, 0);
		}
		mote_msg_free(m);
	}
}

static void link_crosses_unlink(void *arg)
{
	unsigned long n = test_rounds(4000), linked = 0;
	uint64_t seed = test_seed() + 13;

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		mote_pid p[2];
		mote_ref down[2];
		struct mote_msg *m;
		uint64_t a, b;

		for (int j = 0; j < 2; j++)
			p[j] = spawn_pinned(crosser, NULL, j, MOTE_MONITOR, &down[j]);
		for (int j = 0; j < 2; j++) {
			struct crossing c = { p[!j], mote_self(), seed + test_random(&seed), 1 + (int)(i % 12) };

			mote_send(p[j], GO, &c, sizeof(c));
		}
		EXPECT(got_type(GO));
		EXPECT(got_type(GO));
		for (int j = 0; j < 4; j++) {
			mote_send(p[j & 1], LINK, NULL, 0);
			if (!EXPECT(got_type(LINK)))
				return;
		}
		a = test_info(p[0]).links;
		b = test_info(p[1]).links;
		if (!EXPECT(a == b) || !EXPECT(a <= 1)) {
			test_note("round %lu: %llu and %llu links", i, (unsigned long long)a, (unsigned long long)b);
			return;
		}
		linked += a;
		mote_send(p[i & 1], DIE, NULL, 0);
		EXPECT(got_down(down[i & 1], p[i & 1], MOTE_ERROR));
		if (a) {
			EXPECT(got_type(MOTE_MSG_RESERVED - 1));
		} else if (i % 16 == 0) {
			mote_sleep(mote_in_us(200));
		}
		mote_exit_pid(p[!(i & 1)], MOTE_REASON_KILL);
		m = mote_receive_ref(down[!(i & 1)], PATIENCE);
		EXPECT(m);
		mote_msg_free(m);
		if (!EXPECT(mailbox_is_empty()))
			return;
	}
	test_note("%lu of %lu pairs were linked at the end", linked, n);
}

static void race_crossing(void)
{
	on_first_scheduler(link_crosses_unlink, NULL);
}

/* Both link to each other while one of them ends: the other always learns of it. */
static void linker(void *arg)
{
	mote_pid peer = *(mote_pid *)arg;

	mote_link(peer);
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

static void link_races_exit(void *arg)
{
	unsigned long n = test_rounds(30000), noprocs = 0;
	uint64_t seed = test_seed() + 3;

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		struct short_life life = { seed + i };
		mote_ref a, b;
		mote_pid p = spawn_pinned(short_life, &life, 1, MOTE_MONITOR, &a);
		mote_pid q = spawn_pinned(linker, &p, 0, MOTE_MONITOR, &b);
		struct mote_msg *m;

		EXPECT(got_down(a, p, MOTE_ERROR));
		m = mote_receive_ref(b, PATIENCE);
		if (!EXPECT(is_down(m, b, q, MOTE_ERROR) || is_down(m, b, q, MOTE_NOPROC))) {
			test_describe(m);
			return;
		}
		noprocs += mote_msg_down(m)->reason.kind == MOTE_NOPROC;
		mote_msg_free(m);
	}
	test_note("%lu of %lu links came too late", noprocs, n);
}

static void race_link_exit(void)
{
	on_first_scheduler(link_races_exit, NULL);
}

int main(void)
{
	selftest_process("a link is symmetric", symmetric);
	selftest_process("at most one link per pair: idempotent, from both sides", idempotent);
	selftest_process("either side can unlink", either_side_unlinks);
	selftest_process("a pair can be linked anew", link_again);
	selftest_process("a link to the dead is EXIT noproc", noproc);
	selftest_process("no link to oneself or nobody: -EINVAL", not_to_oneself);
	selftest_process("an EXIT already in the mailbox stays after mote_unlink", exit_in_mailbox_stays);
	selftest_process_opts("thousands of links of one process", many_links, SCHEDULERS(2));
	selftest_process_opts("race: no EXIT after mote_unlink has returned", race_unlink, SCHEDULERS(2));
	selftest_process_opts("race: unlink against a kill by somebody else", race_unlink_kill, SCHEDULERS(2));
	selftest_process_opts("race: link and unlink cross, both ends agree", race_crossing, SCHEDULERS(2));
	selftest_process_opts("race: link against exit always ends in an EXIT", race_link_exit, SCHEDULERS(2));
	return selftest_done();
}
