/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Monitors of processes of other nodes: each its own, one DOWN at most, with the whole reason. */
#include "nodes.h"

static void every_reason(void)
{
	static const struct {
		struct order order;
		uint32_t kind;
	} ends[] = {
		{ { .kind = MOTE_NORMAL }, MOTE_NORMAL },
		{ { .kind = MOTE_SHUTDOWN }, MOTE_SHUTDOWN },
		{ { .kind = MOTE_SHUTDOWN, .text = "a detail" }, MOTE_SHUTDOWN },
		{ { .kind = MOTE_ERROR, .code = EPIPE, .text = "so it goes" }, MOTE_ERROR },
		{ { .kind = MOTE_TIMEOUT }, MOTE_TIMEOUT },
		{ { .kind = MOTE_CUSTOM, .code = -7, .text = "my own" }, MOTE_CUSTOM },
	};
	struct peer b;

	mote_trap_exit(true);
	peer_start(&b, "b");
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		const struct order *o = &ends[i].order;
		mote_ref ref;
		mote_pid p = peer_spawn(&b, "puppet", MOTE_MONITOR | MOTE_LINK, &ref);
		const struct mote_exit_info *e;
		const struct mote_down_info *d;
		struct mote_msg *m;

		tell(p, DO_DIE, *o);
		m = mote_receive(PATIENCE);		/* links are told first */
		e = m ? mote_msg_exit(m) : NULL;
		EXPECT(e && mote_pid_equal(e->pid, p) && e->reason.kind == ends[i].kind &&
		       e->reason.code == o->code && e->reason.size == strlen(o->text) &&
		       !memcmp(e->reason.data ? e->reason.data : "", o->text, e->reason.size));
		mote_msg_free(m);
		m = mote_receive(PATIENCE);
		d = m ? mote_msg_down(m) : NULL;
		EXPECT(d && mote_ref_equal(d->ref, ref) && mote_ref_equal(mote_msg_ref(m), ref) &&
		       mote_pid_equal(d->pid, p) && d->reason.kind == ends[i].kind && d->reason.code == o->code &&
		       d->reason.size == strlen(o->text) &&
		       !memcmp(d->reason.data ? d->reason.data : "", o->text, d->reason.size));
		if (!d)
			test_describe(m);
		mote_msg_free(m);
	}
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

static void long_reason(const void *args, size_t size)
{
	char text[MOTE_REASON_MAX];

	(void)args;
	(void)size;
	memset(text, 'x', sizeof(text));
	mote_msg_free(mote_receive(MOTE_FOREVER));
	mote_exit((mote_reason){ MOTE_CUSTOM, 5, text, sizeof(text) });
}

static void the_longest_reason(void)
{
	const struct mote_down_info *d;
	struct mote_msg *m;
	struct peer b;
	mote_ref ref;
	mote_pid p;

	peer_start(&b, "b");
	p = peer_spawn(&b, "long_reason", MOTE_MONITOR, &ref);
	mote_send(p, 1, NULL, 0);
	m = mote_receive_ref(ref, PATIENCE);
	d = m ? mote_msg_down(m) : NULL;
	if (EXPECT(d && d->reason.kind == MOTE_CUSTOM && d->reason.code == 5 && d->reason.size == MOTE_REASON_MAX)) {
		for (size_t i = 0; i < d->reason.size; i++)
			EXPECT(((const char *)d->reason.data)[i] == 'x');
	}
	mote_msg_free(m);
	peer_stop(&b);
}

static void crasher(const void *args, size_t size)
{
	(void)args;
	(void)size;
	mote_msg_free(mote_receive(MOTE_FOREVER));
	*(volatile int *)NULL = 1;
}

static void crashes(void)
{
	struct mote_msg *m;
	struct peer b;
	mote_ref ref;
	mote_pid p;

	if (SANITIZED) {
		selftest_skip("a sanitizer's handler ends the node");
		return;
	}
	peer_start(&b, "b");
	p = peer_spawn(&b, "crasher", MOTE_MONITOR, &ref);
	mote_send(p, 1, NULL, 0);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(is_down(m, ref, p, MOTE_SIGNAL) && mote_msg_down(m)->reason.code == SIGSEGV);
	mote_msg_free(m);
	p = peer_spawn(&b, "puppet", 0, NULL);
	EXPECT(ping(p));
	peer_stop(&b);
}

static void noproc(void)
{
	struct peer b;
	mote_pid p;
	mote_ref ref;

	peer_start(&b, "b");
	p = peer_spawn(&b, "nothing", MOTE_MONITOR, &ref);
	mote_msg_free(mote_receive_ref(ref, PATIENCE));
	ref = mote_monitor(p);
	EXPECT(got_down(ref, p, MOTE_NOPROC));
	EXPECT_EQ(mote_demonitor(ref, 0), 0);
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

static void each_its_own(void)
{
	struct peer b;
	mote_ref ref[5];
	mote_pid p;

	peer_start(&b, "b");
	p = peer_spawn(&b, "puppet", 0, NULL);
	for (int i = 0; i < 5; i++) {
		ref[i] = mote_monitor(p);
		EXPECT(ref[i].id);
	}
	EXPECT_EQ(far_info(p).monitored_by, 5);
	EXPECT_EQ(mote_demonitor(ref[2], 0), 1);
	EXPECT_EQ(mote_demonitor(ref[2], 0), 0);
	EXPECT(ping(p));
	EXPECT_EQ(far_info(p).monitored_by, 4);
	TELL(p, DO_DIE, .kind = MOTE_NORMAL);
	for (int i = 4; i >= 0; i--) {
		if (i != 2)
			EXPECT(got_down(ref[i], p, MOTE_NORMAL));
	}
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
	peer_stop(&b);
}

static void flush(void)
{
	struct peer b;
	mote_ref ref, other;
	mote_pid p;

	peer_start(&b, "b");
	p = peer_spawn(&b, "puppet", MOTE_MONITOR, &ref);
	other = mote_monitor(p);
	TELL(p, DO_DIE, .kind = MOTE_NORMAL);
	EXPECT(got_down(other, p, MOTE_NORMAL));	/* the older one's DOWN lies before it */
	EXPECT_EQ(mote_demonitor(ref, MOTE_FLUSH), 0);
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

static void short_life(const void *args, size_t size)
{
	uint64_t seed;

	if (!EXPECT(size == sizeof(seed)))
		return;
	memcpy(&seed, args, sizeof(seed));
	test_jitter(&seed);
	mote_exit(mote_reason_error(EIO, NULL));
}

static void race_demonitor(void)
{
	unsigned long n = test_rounds(4000), armed = 0;
	uint64_t seed = test_seed();
	struct peer b;

	peer_start(&b, "b");
	for (unsigned long i = 0; i < n; i++) {
		uint64_t life = seed + i;
		mote_ref ref, last;
		mote_pid p = peer_spawn_args(&b, "short_life", &life, sizeof(life), MOTE_MONITOR, &ref);
		struct mote_msg *m;
		int was;

		last = mote_monitor(p);
		for (uint32_t spin = test_random(&seed) % 8; spin; spin--)
			test_jitter(&seed);
		was = mote_demonitor(ref, i & 1 ? MOTE_FLUSH : 0);
		armed += was == 1;
		m = mote_receive_ref(last, PATIENCE);
		if (!EXPECT(is_down(m, last, p, MOTE_ERROR) || is_down(m, last, p, MOTE_NOPROC)))
			return;
		mote_msg_free(m);
		/* 1: never; 0 with FLUSH: taken away; 0 without: exactly one */
		m = mote_receive(MOTE_NOW);
		if (!EXPECT(!m == (was || i & 1)) || !EXPECT(!m || is_down(m, ref, p, MOTE_ERROR))) {
			test_note("round %lu: demonitor gave %d", i, was);
			test_describe(m);
			return;
		}
		mote_msg_free(m);
	}
	test_note("%lu of %lu monitors were still armed", armed, n);
	peer_stop(&b);
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = {
		ENTRY(long_reason), ENTRY(crasher), ENTRY(short_life), { 0 }
	};

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	nodes_case("DOWN and EXIT carry the reason", every_reason);
	nodes_case("the longest reason", the_longest_reason);
	nodes_case("a crash there: its signal", crashes);
	nodes_case("of the dead: noproc", noproc);
	nodes_case("each monitor is one of its own", each_its_own);
	nodes_case("MOTE_FLUSH leaves no DOWN", flush);
	nodes_case("race: demonitor against DOWN", race_demonitor);
	return nodes_done();
}
