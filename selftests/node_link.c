/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Links between nodes: symmetric, one per pair, gone for good when mote_unlink() has returned, also under races. */
#include "nodes.h"

static void symmetric(void)
{
	struct peer b;
	mote_pid p, here;
	mote_ref ref;

	mote_trap_exit(true);
	peer_start(&b, "b");
	/* the far one ends first, then the near one */
	p = peer_spawn(&b, "puppet", 0, NULL);
	EXPECT_EQ(mote_link(p), 0);
	EXPECT_EQ(far_info(p).links, 1);
	EXPECT_EQ(test_info(mote_self()).links, 1);
	TELL(p, DO_DIE, .kind = MOTE_ERROR, .code = EIO);
	EXPECT(got_exit(p, MOTE_ERROR));
	EXPECT_EQ(test_info(mote_self()).links, 0);

	p = peer_spawn(&b, "puppet", 0, NULL);
	TELL(p, DO_TRAP, .kind = 1);
	here = mote_spawn_monitor(mirror, NULL, &ref);
	TELL(p, DO_LINK, .pid = here);
	EXPECT_EQ(far_info(p).links, 1);
	EXPECT_EQ(mote_exit_pid(here, mote_reason_error(EPIPE, NULL)), 0);
	EXPECT(got_down(ref, here, MOTE_ERROR));
	EXPECT(got(GOT_EXIT, here, MOTE_ERROR));
	EXPECT_EQ(far_info(p).links, 0);

	/* who does not trap goes along, and takes the next with it */
	p = peer_spawn(&b, "puppet", MOTE_LINK | MOTE_MONITOR, &ref);
	here = mote_spawn(mirror, NULL);
	TELL(p, DO_LINK, .pid = here);
	EXPECT_EQ(far_info(p).links, 2);
	mote_exit_pid(here, mote_reason_error(EBADF, NULL));
	EXPECT(got_exit(p, MOTE_ERROR));
	EXPECT(got_down(ref, p, MOTE_ERROR));
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

static void idempotent(void)
{
	struct peer b;
	mote_pid p;

	mote_trap_exit(true);
	peer_start(&b, "b");
	p = peer_spawn(&b, "puppet", 0, NULL);
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(mote_link(p), 0);
	mote_send(p, DO_LINK, NULL, 0);
	EXPECT(ping(p));
	EXPECT_EQ(test_info(mote_self()).links, 1);
	EXPECT_EQ(far_info(p).links, 1);
	TELL(p, DO_DIE, .kind = MOTE_ERROR, .code = EIO);
	EXPECT(got_exit(p, MOTE_ERROR));
	quiet(peer_spawn(&b, "puppet", 0, NULL));
	EXPECT(mailbox_is_empty());

	/* one unlink undoes many links, from either side; and it can be made anew */
	p = peer_spawn(&b, "puppet", 0, NULL);
	for (int theirs = 0; theirs < 2; theirs++) {
		mote_link(p);
		mote_link(p);
		if (theirs)
			mote_send(p, DO_UNLINK, NULL, 0);
		else
			EXPECT_EQ(mote_unlink(p), 0);
		EXPECT(ping(p));
		EXPECT_EQ(far_info(p).links, 0);
		EXPECT_EQ(test_info(mote_self()).links, 0);
	}
	for (int i = 0; i < 100; i++) {
		mote_link(p);
		mote_unlink(p);
	}
	mote_link(p);
	EXPECT_EQ(far_info(p).links, 1);
	EXPECT_EQ(test_info(mote_self()).links, 1);
	TELL(p, DO_DIE, .kind = MOTE_ERROR, .code = EIO);
	EXPECT(got_exit(p, MOTE_ERROR));
	quiet(peer_spawn(&b, "puppet", 0, NULL));
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

static void link_to(void *arg)
{
	mote_link(*(mote_pid *)arg);
	mote_sleep(PATIENCE);
}

static void noproc(void)
{
	struct peer b;
	mote_pid dead, p;
	mote_ref ref;

	peer_start(&b, "b");
	dead = peer_spawn(&b, "nothing", MOTE_MONITOR, &ref);
	mote_msg_free(mote_receive_ref(ref, PATIENCE));
	p = mote_spawn_monitor(link_to, &dead, &ref);
	EXPECT(got_down(ref, p, MOTE_NOPROC));
	mote_trap_exit(true);
	EXPECT_EQ(mote_link(dead), 0);
	EXPECT(got_exit(dead, MOTE_NOPROC));
	EXPECT_EQ(test_info(mote_self()).links, 0);
	EXPECT_EQ(mote_unlink(dead), 0);
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

static void exit_in_mailbox_stays(void)
{
	struct peer b;
	mote_pid p;
	mote_ref ref;

	mote_trap_exit(true);
	peer_start(&b, "b");
	p = peer_spawn(&b, "puppet", MOTE_LINK | MOTE_MONITOR, &ref);
	TELL(p, DO_DIE, .kind = MOTE_ERROR, .code = EIO);
	EXPECT(got_down(ref, p, MOTE_ERROR));
	EXPECT_EQ(mote_unlink(p), 0);
	EXPECT(got_exit(p, MOTE_ERROR));
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

static int by_pid(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(mote_pid));
}

/* n EXITs of that kind: of each of these processes one. */
static bool all_exit(const mote_pid *p, unsigned long n, uint32_t kind)
{
	mote_pid *who = calloc(n, sizeof(*who)), *want = calloc(n, sizeof(*want));
	bool ok = true;

	memcpy(want, p, n * sizeof(*p));
	for (unsigned long i = 0; i < n && ok; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);
		const struct mote_exit_info *e = m ? mote_msg_exit(m) : NULL;

		ok = EXPECT(e && e->reason.kind == kind);
		if (ok)
			who[i] = e->pid;
		else
			test_describe(m);
		mote_msg_free(m);
	}
	qsort(who, n, sizeof(*who), by_pid);
	qsort(want, n, sizeof(*want), by_pid);
	ok = ok && EXPECT(!memcmp(who, want, n * sizeof(*who)));
	free(who);
	free(want);
	return ok;
}

/* One process here, and as many there: each link is told of, once. */
static void ten_thousand(void)
{
	unsigned long n = test_crowd(10000), half = n / 2;
	mote_pid *p = calloc(n, sizeof(*p));
	struct peer b;

	mote_trap_exit(true);
	peer_start(&b, "b");
	for (unsigned long i = 0; i < n; i++)
		p[i] = peer_spawn(&b, "far_sink", MOTE_LINK, NULL);
	EXPECT_EQ(test_info(mote_self()).links, n);
	for (unsigned long i = 0; i < half; i++)
		mote_exit_pid(p[i], mote_reason_error(EIO, NULL));
	EXPECT(all_exit(p, half, MOTE_ERROR));
	EXPECT_EQ(test_info(mote_self()).links, n - half);
	/* the rest goes with its node */
	peer_kill(&b);
	EXPECT(all_exit(p + half, n - half, MOTE_NOCONNECTION));
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).links, 0);
	free(p);
}

/* Lives for a moment of random length. */
static void short_life(const void *args, size_t size)
{
	uint64_t seed;

	if (!EXPECT(size == sizeof(seed)))
		return;
	memcpy(&seed, args, sizeof(seed));
	for (uint32_t spin = test_random(&seed) % 64; spin; spin--)
		test_jitter(&seed);
	mote_exit(mote_reason_error(EIO, NULL));
}

static void race_unlink_exit(void)
{
	unsigned long n = test_rounds(4000), before = 0;
	uint64_t seed = test_seed();
	struct peer b;

	mote_trap_exit(true);
	peer_start(&b, "b");
	for (unsigned long i = 0; i < n; i++) {
		uint64_t life = seed + i;
		struct mote_msg *m;
		mote_ref ref;
		mote_pid p = peer_spawn_args(&b, "short_life", &life, sizeof(life), MOTE_LINK | MOTE_MONITOR, &ref);

		for (uint32_t spin = test_random(&seed) % 8; spin; spin--)
			test_jitter(&seed);
		mote_unlink(p);
		m = mote_receive_type(MOTE_MSG_EXIT, MOTE_NOW);
		before += m != NULL;
		if (m)
			EXPECT(is_exit(m, p, MOTE_ERROR));
		mote_msg_free(m);
		/* EXIT would come before DOWN: one sender */
		if (!EXPECT(got_down(ref, p, MOTE_ERROR)) || !EXPECT(mailbox_is_empty()))
			return;
	}
	test_note("%lu of %lu exits came before the unlink", before, n);
	EXPECT_EQ(test_info(mote_self()).links, 0);
	peer_stop(&b);
}

/* Links and unlinks its peer at random; then answers what it is asked. */
struct crossing {
	mote_pid peer, boss;
	uint64_t seed;
	int ops;
};

enum { CROSS = 1, CROSSED, ROUND, PASS, BACK, AROUND };

static void crosser(const void *args, size_t size)
{
	struct crossing c = { 0 };

	(void)args;
	(void)size;
	mote_trap_exit(true);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		const struct mote_exit_info *e = mote_msg_exit(m);

		switch (m->type) {
		case CROSS:
			memcpy(&c, m->data, sizeof(c));
			for (int i = 0; i < c.ops; i++) {
				if (test_random(&c.seed) & 1)
					mote_link(c.peer);
				else
					mote_unlink(c.peer);
				test_jitter(&c.seed);
			}
			mote_send(c.boss, CROSSED, NULL, 0);
			break;
		case ROUND:				/* a trip to the peer and back */
			mote_send(c.peer, PASS, NULL, 0);
			break;
		case PASS:
			mote_send(m->from, BACK, NULL, 0);
			break;
		case BACK:
			mote_send(c.boss, AROUND, NULL, 0);
			break;
		default:
			if (e)
				puppet_tell(c.boss, GOT_EXIT, e->pid, &e->reason);
			else
				puppet_do(m);
		}
		mote_msg_free(m);
	}
}

static void local_crosser(void *arg)
{
	(void)arg;
	crosser(NULL, 0);
}

static void race_crossing(void)
{
	unsigned long n = test_rounds(1500), linked = 0;
	uint64_t seed = test_seed() + 13;
	struct peer b;

	peer_start(&b, "b");
	for (unsigned long i = 0; i < n; i++) {
		mote_ref down[2];
		mote_pid p[2];
		uint64_t links[2];

		p[0] = mote_spawn_monitor(local_crosser, NULL, &down[0]);
		p[1] = peer_spawn(&b, "crosser", MOTE_MONITOR, &down[1]);
		for (int j = 0; j < 2; j++) {
			struct crossing c = { p[!j], mote_self(), seed + test_random(&seed), 1 + (int)(i % 12) };

			mote_send(p[j], CROSS, &c, sizeof(c));
		}
		EXPECT(got_type(CROSSED));
		EXPECT(got_type(CROSSED));
		/* unlink, acknowledgement, and what it may set free: three trips at most */
		for (int j = 0; j < 4; j++) {
			mote_send(p[j & 1], ROUND, NULL, 0);
			if (!EXPECT(got_type(AROUND)))
				return;
		}
		for (int j = 0; j < 2; j++)
			links[j] = far_info(p[j]).links;
		if (!EXPECT(links[0] == links[1] && links[0] <= 1)) {
			test_note("round %lu: %d and %d links", i, (int)links[0], (int)links[1]);
			return;
		}
		linked += links[0];
		TELL(p[i & 1], DO_DIE, .kind = MOTE_ERROR, .code = EPIPE);
		EXPECT(got_down(down[i & 1], p[i & 1], MOTE_ERROR));
		if (links[0])
			EXPECT(got(GOT_EXIT, p[i & 1], MOTE_ERROR));
		else
			EXPECT(ping(p[!(i & 1)]));
		mote_exit_pid(p[!(i & 1)], MOTE_REASON_KILL);
		if (!EXPECT(got_down(down[!(i & 1)], p[!(i & 1)], MOTE_KILLED)) || !EXPECT(mailbox_is_empty()))
			return;
	}
	test_note("%lu of %lu pairs were linked at the end", linked, n);
	peer_stop(&b);
}

/* Waits for a sign, then ends soon. */
static void ends_on_sign(const void *args, size_t size)
{
	mote_msg_free(mote_receive(MOTE_FOREVER));
	short_life(args, size);
}

static void linker(void *arg)
{
	mote_link(*(mote_pid *)arg);
	mote_msg_free(mote_receive(MOTE_FOREVER));
}

static void race_link_exit(void)
{
	unsigned long n = test_rounds(4000), late = 0;
	uint64_t seed = test_seed() + 3;
	struct peer b;

	peer_start(&b, "b");
	for (unsigned long i = 0; i < n; i++) {
		uint64_t life = seed + i;
		mote_ref there, here;
		mote_pid p = peer_spawn_args(&b, "ends_on_sign", &life, sizeof(life), MOTE_MONITOR, &there);
		mote_pid q = mote_spawn_monitor(linker, &p, &here);
		struct mote_msg *m;

		for (uint32_t spin = test_random(&seed) % 4; spin; spin--)
			test_jitter(&seed);
		mote_send(p, PING, NULL, 0);
		EXPECT(got_down(there, p, MOTE_ERROR));
		m = mote_receive_ref(here, PATIENCE);
		if (!EXPECT(is_down(m, here, q, MOTE_ERROR) || is_down(m, here, q, MOTE_NOPROC))) {
			test_describe(m);
			return;
		}
		late += mote_msg_down(m)->reason.kind == MOTE_NOPROC;
		mote_msg_free(m);
	}
	test_note("%lu of %lu links came too late", late, n);
	peer_stop(&b);
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(short_life), ENTRY(crosser), ENTRY(ends_on_sign), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("a link is symmetric", symmetric);
	nodes_case("at most one per pair; either side unlinks; and anew", idempotent);
	nodes_case("a link to the dead is EXIT noproc", noproc);
	nodes_case("an EXIT already in the mailbox stays after mote_unlink", exit_in_mailbox_stays);
	nodes_case("ten thousand links, ended one by one and with their node", ten_thousand);
	nodes_case("race: no EXIT after mote_unlink has returned", race_unlink_exit);
	nodes_case("race: link and unlink cross, both ends agree", race_crossing);
	nodes_case("race: link against exit always ends in an EXIT", race_link_exit);
	return nodes_done();
}
