// SPDX-License-Identifier: MIT OR GPL-2.0
/* Monitors: one-way, each its own instance, fires at most once, and only after the dead has let go of all. */
#include "proc.h"

#include <fcntl.h>

enum { GO = 1, DIE, HELLO };

static void mortal(void *arg)
{
	(void)arg;
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		uint32_t type = m->type;

		if (type == PING)
			mote_send(m->from, PING, NULL, 0);
		mote_msg_free(m);
		if (type == DIE)
			mote_exit(mote_reason_error(EPIPE, "told to"));
	}
}

static void fires_once(void)
{
	mote_pid p = mote_spawn(mortal, NULL);
	mote_ref ref = mote_monitor(p);
	struct mote_msg *m;

	EXPECT(ref.id);
	EXPECT(ping(p));
	EXPECT_EQ(test_info(mote_self()).monitors, 1);
	EXPECT_EQ(test_info(p).monitored_by, 1);
	mote_send(p, DIE, NULL, 0);
	m = mote_receive(PATIENCE);
	if (EXPECT(is_down(m, ref, p, MOTE_ERROR))) {
		const struct mote_reason *r = &mote_msg_down(m)->reason;

		EXPECT_EQ(r->code, EPIPE);
		EXPECT(r->size >= 7 && !memcmp(r->data, "told to", 7));
		EXPECT(mote_ref_equal(mote_msg_ref(m), ref));
		EXPECT(!mote_msg_exit(m));
	}
	mote_msg_free(m);
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
	mote_sleep(mote_in_ms(1));
	EXPECT(mailbox_is_empty());
	EXPECT(!mote_receive_ref(ref, MOTE_NOW));
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT_EQ(mote_demonitor(ref, 0), 0);
}

static void instances(void)
{
	mote_pid p = mote_spawn(mortal, NULL);
	mote_ref refs[10];

	for (int i = 0; i < 10; i++) {
		refs[i] = mote_monitor(p);
		for (int j = 0; j < i; j++)
			EXPECT(!mote_ref_equal(refs[i], refs[j]));
	}
	EXPECT_EQ(mote_demonitor(refs[3], 0), 1);
	EXPECT_EQ(mote_demonitor(refs[3], 0), 0);
	mote_send(p, DIE, NULL, 0);
	for (int i = 9; i >= 0; i--)
		if (i != 3)
			EXPECT(got_down(refs[i], p, MOTE_ERROR));
	mote_sleep(mote_in_ms(1));
	EXPECT(mailbox_is_empty());
}

static void noproc(void)
{
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(mortal, NULL, &ref);

	mote_send(p, DIE, NULL, 0);
	EXPECT(got_down(ref, p, MOTE_ERROR));
	for (int i = 0; i < 10; i++) {
		ref = mote_monitor(p);
		EXPECT(ref.id);
		EXPECT(got_down(ref, p, MOTE_NOPROC));
	}
	EXPECT_EQ(mote_monitor(MOTE_NOBODY).id, 0);
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT(mailbox_is_empty());
}

static void demonitored(void)
{
	mote_pid p = mote_spawn(mortal, NULL);
	mote_ref ref = mote_monitor(p), other;

	EXPECT_EQ(mote_demonitor(ref, 0), 1);
	EXPECT_EQ(mote_demonitor(ref, MOTE_FLUSH), 0);
	EXPECT(ping(p));
	EXPECT_EQ(test_info(p).monitored_by, 0);
	other = mote_monitor(p);
	mote_send(p, DIE, NULL, 0);
	EXPECT(got_down(other, p, MOTE_ERROR));
	mote_sleep(mote_in_ms(1));
	EXPECT(mailbox_is_empty());
}

static void flush(void)
{
	for (int with = 0; with < 2; with++) {
		mote_pid p = mote_spawn(mortal, NULL);
		mote_ref ref = mote_monitor(p);
		struct mote_msg *m;

		mote_send(mote_self(), HELLO, NULL, 0);
		mote_send(p, DIE, NULL, 0);
		while (test_info(mote_self()).mailbox < 2)
			mote_yield();
		mote_send(mote_self(), HELLO, NULL, 0);
		EXPECT_EQ(mote_demonitor(ref, with ? MOTE_FLUSH : 0), 0);
		EXPECT(got_type(HELLO));
		if (!with) {
			m = mote_receive(MOTE_NOW);
			EXPECT(is_down(m, ref, p, MOTE_ERROR));
			mote_msg_free(m);
		}
		EXPECT(got_type(HELLO));
		EXPECT(mailbox_is_empty());
	}
}

static void meddler(void *arg)
{
	mote_ref ref = *(mote_ref *)arg;

	EXPECT_EQ(mote_demonitor(ref, 0), 0);
	EXPECT_EQ(mote_demonitor(ref, MOTE_FLUSH), 0);
	EXPECT(!mote_receive_ref(ref, MOTE_NOW));
	EXPECT_EQ(mote_errno(), -EINVAL);
}

static void not_by_others(void)
{
	mote_pid p = mote_spawn(mortal, NULL), q;
	mote_ref ref = mote_monitor(p), done;

	q = mote_spawn_monitor(meddler, &ref, &done);
	EXPECT(got_down(done, q, MOTE_NORMAL));
	mote_send(p, DIE, NULL, 0);
	EXPECT(got_down(ref, p, MOTE_ERROR));
	EXPECT_EQ(mote_demonitor((mote_ref){ 12345678, 3, 9, 0, 0 }, MOTE_FLUSH), 0);
	EXPECT_EQ(mote_demonitor((mote_ref){ 0, 0, 0, 0, 0 }, MOTE_FLUSH), 0);
}

static void watcher(void *arg)
{
	mote_monitor(*(mote_pid *)arg);
	mote_msg_free(mote_receive_type(GO, PATIENCE));
}

static void one_way(void)
{
	mote_pid p = mote_spawn(mortal, NULL), w;
	mote_ref ref;

	for (int i = 0; i < 10; i++) {
		w = mote_spawn_monitor(watcher, &p, &ref);
		while (test_info(p).monitored_by != 1)
			mote_yield();
		mote_exit_pid(w, i & 1 ? MOTE_REASON_KILL : MOTE_REASON_SHUTDOWN);
		EXPECT(got_down(ref, w, i & 1 ? MOTE_KILLED : MOTE_SHUTDOWN));
		EXPECT(ping(p));
		EXPECT_EQ(test_info(p).monitored_by, 0);
	}
	put_down(p);
}

static void by_name(void)
{
	mote_pid p = mote_spawn(mortal, NULL), q = mote_spawn(mortal, NULL);
	mote_ref ref, none;
	struct mote_msg *m;

	EXPECT_EQ(mote_register("watched", p), 0);
	ref = mote_monitor_name("watched");
	EXPECT(ref.id);
	/* resolved once: who has the name later does not matter */
	EXPECT_EQ(mote_unregister("watched"), 0);
	EXPECT_EQ(mote_register("watched", q), 0);
	put_down(q);
	EXPECT(!mote_pid_valid(mote_whereis("watched")));
	mote_sleep(mote_in_ms(1));
	EXPECT(mailbox_is_empty());
	mote_send(p, DIE, NULL, 0);
	EXPECT(got_down(ref, p, MOTE_ERROR));
	none = mote_monitor_name("watched");
	EXPECT(none.id);
	m = mote_receive_ref(none, PATIENCE);
	if (EXPECT(m && mote_msg_down(m)))
		EXPECT_EQ(mote_msg_down(m)->reason.kind, MOTE_NOPROC);
	mote_msg_free(m);
}

static void last_words(void *arg)
{
	for (int i = 0; i < 5; i++)
		mote_send(*(mote_pid *)arg, HELLO, &i, sizeof(i));
	if (mote_pid_valid(*(mote_pid *)arg))
		mote_exit(mote_reason_error(EPIPE, NULL));
}

static void down_comes_last(void)
{
	unsigned long n = test_rounds(6000);
	mote_pid me = mote_self();

	mote_trap_exit(true);
	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref;
		mote_pid p = spawn_pinned(last_words, &me, (unsigned int)i, MOTE_MONITOR | MOTE_LINK, &ref);
		int exits = 0, downs = 0;

		for (int j = 0; j < 5; j++) {
			struct mote_msg *m = mote_receive(PATIENCE);

			if (!EXPECT(m && m->type == HELLO && *(int *)m->data == j)) {
				test_describe(m);
				return;
			}
			mote_msg_free(m);
		}
		for (int j = 0; j < 2; j++) {
			struct mote_msg *m = mote_receive(PATIENCE);

			exits += is_exit(m, p, MOTE_ERROR);
			downs += is_down(m, ref, p, MOTE_ERROR);
			mote_msg_free(m);
		}
		EXPECT_EQ(exits, 1);
		EXPECT_EQ(downs, 1);
	}
	EXPECT(mailbox_is_empty());
}

/* Owns one of everything that has to be gone before anybody learns of its end. */
struct belongings {
	mote_pid boss;
	mote_timer timer;
	int fd;
	_Atomic int cleaned;
};

static void clean(void *arg)
{
	atomic_fetch_add(&((struct belongings *)arg)->cleaned, 1);
}

static void owner(void *arg)
{
	struct belongings *b = arg;

	mote_register("monitor.a", mote_self());
	mote_register("monitor.b", mote_self());
	b->timer = mote_send_after(mote_in_ms(1000000), mote_self(), GO, NULL, 0);
	b->fd = mote_file_open("/dev/null", O_RDONLY, 0);
	EXPECT(b->fd >= 0);
	memset(mote_alloc(100000), 1, 100000);
	mote_defer(clean, b);
	if (mote_pid_valid(b->boss))
		mote_send(b->boss, GO, NULL, 0);
}

static void released_before_down(void *arg)
{
	unsigned long n = test_rounds(1500);

	(void)arg;
	mote_trap_exit(true);
	for (unsigned long i = 0; i < n; i++) {
		struct belongings b = { .boss = mote_self() };
		mote_ref ref;
		mote_pid p = spawn_pinned(owner, &b, 1, MOTE_LINK | MOTE_MONITOR, &ref);
		struct mote_process_info info = { .size = sizeof(info) };
		struct mote_msg *m;

		EXPECT(got_type(GO));
		/* EXIT or DOWN, whichever is the first to come */
		m = mote_receive(PATIENCE);
		if (!EXPECT(is_exit(m, p, MOTE_NORMAL) || is_down(m, ref, p, MOTE_NORMAL)))
			return;
		EXPECT(!mote_pid_valid(mote_whereis("monitor.a")));
		EXPECT(!mote_pid_valid(mote_whereis("monitor.b")));
		EXPECT_EQ(mote_timer_left(b.timer), -ENOENT);
		EXPECT(!mote_pid_valid(mote_fd_owner(b.fd)));
		EXPECT_EQ(fcntl(b.fd, F_GETFD), -1);
		EXPECT_EQ(atomic_load(&b.cleaned), 1);
		EXPECT_EQ(mote_process_info(p, &info), -ESRCH);
		EXPECT(!mote_alive(p));
		mote_msg_free(m);
		m = mote_receive(PATIENCE);
		EXPECT(is_exit(m, p, MOTE_NORMAL) || is_down(m, ref, p, MOTE_NORMAL));
		mote_msg_free(m);
	}
}

static void release(void)
{
	on_first_scheduler(released_before_down, NULL);
}

static void short_life(void *arg)
{
	uint64_t seed = *(uint64_t *)arg;

	test_jitter(&seed);
	test_jitter(&seed);
	mote_exit(mote_reason_error(EIO, NULL));
}

static void demonitor_races_down(void *arg)
{
	unsigned long n = test_rounds(40000), armed = 0;
	uint64_t seed = test_seed();

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		uint64_t life = seed + i;
		mote_ref end, ref;
		mote_pid p = spawn_pinned(short_life, &life, 1, MOTE_MONITOR, &end);
		int was_armed, flags = test_random(&seed) & 1 ? MOTE_FLUSH : 0;
		struct mote_msg *m;

		ref = mote_monitor(p);
		for (uint32_t spin = test_random(&seed) % 6; spin; spin--)
			test_jitter(&seed);
		was_armed = mote_demonitor(ref, flags);
		armed += was_armed;
		if (!was_armed && !flags) {
			m = mote_receive_type(MOTE_MSG_DOWN, MOTE_NOW);
			/* the other monitor's may be in front */
			if (is_down(m, end, p, MOTE_ERROR)) {
				mote_msg_free(m);
				m = mote_receive(MOTE_NOW);
			} else {
				mote_msg_free(mote_receive_ref(end, PATIENCE));
			}
			if (!EXPECT(is_down(m, ref, p, MOTE_ERROR) || is_down(m, ref, p, MOTE_NOPROC)))
				test_describe(m);
			mote_msg_free(m);
		} else if (!EXPECT(got_down(end, p, MOTE_ERROR))) {
			return;
		}
		if (!EXPECT(mailbox_is_empty())) {
			test_note("round %lu: armed %d, flags %d", i, was_armed, flags);
			return;
		}
	}
	test_note("%lu of %lu were still armed", armed, n);
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
}

static void race_demonitor(void)
{
	on_first_scheduler(demonitor_races_down, NULL);
}

static void monitor_races_exit(void *arg)
{
	unsigned long n = test_rounds(20000), noprocs = 0;
	uint64_t seed = test_seed() + 5;

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		uint64_t life = seed + i;
		mote_pid p = spawn_pinned(short_life, &life, 1, 0, NULL);
		mote_ref ref;
		struct mote_msg *m;

		for (uint32_t spin = test_random(&seed) % 6; spin; spin--)
			test_jitter(&seed);
		ref = mote_monitor(p);
		m = mote_receive(PATIENCE);
		if (!EXPECT(is_down(m, ref, p, MOTE_ERROR) || is_down(m, ref, p, MOTE_NOPROC))) {
			test_describe(m);
			return;
		}
		noprocs += mote_msg_down(m)->reason.kind == MOTE_NOPROC;
		mote_msg_free(m);
		if (noprocs == 0 || i % 64 == 0)
			EXPECT(mailbox_is_empty());
	}
	test_note("%lu of %lu monitors came too late", noprocs, n);
	EXPECT(mailbox_is_empty());
}

static void race_monitor(void)
{
	on_first_scheduler(monitor_races_exit, NULL);
}

static void crowd(void)
{
	unsigned long n = test_crowd(20000);
	mote_pid p = mote_spawn(mortal, NULL);
	mote_ref *refs = calloc(n, sizeof(*refs));

	for (unsigned long i = 0; i < n; i++)
		refs[i] = mote_monitor(p);
	EXPECT(ping(p));
	EXPECT_EQ(test_info(p).monitored_by, n);
	for (unsigned long i = 0; i < n; i += 3)
		EXPECT_EQ(mote_demonitor(refs[i], 0), 1);
	mote_send(p, DIE, NULL, 0);
	for (unsigned long i = n; i-- > 0;)
		if (i % 3 && !EXPECT(got_down(refs[i], p, MOTE_ERROR)))
			break;
	EXPECT(mailbox_is_empty());
	free(refs);
}

int main(void)
{
	selftest_process("a monitor fires once, with the reason", fires_once);
	selftest_process("each monitor is an instance of its own", instances);
	selftest_process("a monitor of the dead is DOWN noproc", noproc);
	selftest_process("a monitor that was ended does not fire", demonitored);
	selftest_process("demonitor with flush leaves no DOWN behind, without it stays", flush);
	selftest_process("others can't end or receive a monitor", not_by_others);
	selftest_process("a monitor is one-way", one_way);
	selftest_process("a monitor by name resolves once", by_name);
	selftest_process_opts("messages come before the EXIT and DOWN of their sender", down_comes_last, SCHEDULERS(2));
	selftest_process_opts("names, timers, descriptors, memory go before EXIT and DOWN", release, SCHEDULERS(2));
	selftest_process("twenty thousand monitors of one process", crowd);
	selftest_process_opts("race: demonitor against DOWN", race_demonitor, SCHEDULERS(2));
	selftest_process_opts("race: monitor against exit: exactly one DOWN", race_monitor, SCHEDULERS(2));
	return selftest_done();
}
