// SPDX-License-Identifier: MIT OR GPL-2.0
/* Deferred cleanups: last in, first out, however the process ends; nothing in them waits for ever. */
#include "proc.h"

enum { GO = 1, WORD, READY };

static char trace[64];
static _Atomic unsigned int traced;

static void trace_clear(void)
{
	memset(trace, 0, sizeof(trace));
	atomic_store(&traced, 0);
}

static void add(void *arg)
{
	trace[atomic_fetch_add(&traced, 1) % (sizeof(trace) - 1)] = *(char *)arg;
}

/* How a process with three cleanups ends; `arg` of the process. */
struct end {
	mote_pid boss;
	char how;
};

static void three(void *arg)
{
	struct end *e = arg;

	EXPECT_EQ(mote_defer(add, "1"), 0);
	EXPECT_EQ(mote_defer(add, "2"), 0);
	EXPECT_EQ(mote_defer(add, "3"), 0);
	mote_send(e->boss, READY, NULL, 0);
	switch (e->how) {
	case 'r':
		return;
	case 'x':
		mote_exit(mote_reason_error(EIO, NULL));
	case 'c':
		for (;;)
			mote_check();
	default:
		mote_msg_free(mote_receive(MOTE_FOREVER));
	}
}

static void however_it_ends(void)
{
	static const struct {
		char how;
		struct mote_reason signal;
		uint32_t kind;
	} ends[] = {
		{ 'r', { MOTE_NORMAL, 0, NULL, 0 }, MOTE_NORMAL },
		{ 'x', { MOTE_NORMAL, 0, NULL, 0 }, MOTE_ERROR },
		{ 's', { MOTE_SHUTDOWN, 0, NULL, 0 }, MOTE_SHUTDOWN },
		{ 'k', { MOTE_KILL, 0, NULL, 0 }, MOTE_KILLED },
		{ 'c', { MOTE_KILL, 0, NULL, 0 }, MOTE_KILLED },
	};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		struct end e = { mote_self(), ends[i].how };
		mote_ref ref;
		mote_pid p;

		trace_clear();
		p = mote_spawn_monitor(three, &e, &ref);
		EXPECT(got_type(READY));
		if (ends[i].signal.kind != MOTE_NORMAL)
			mote_exit_pid(p, ends[i].signal);
		EXPECT(got_down(ref, p, ends[i].kind));
		if (!EXPECT(!strcmp(trace, "321")))
			test_note("%c: \"%s\"", ends[i].how, trace);
	}
}

static void withdraws(void *arg)
{
	char *c = arg;

	mote_defer(add, &c[0]);
	mote_defer(add, &c[1]);
	mote_defer(add, &c[2]);
	mote_defer(add, &c[1]);
	EXPECT_EQ(mote_undefer(add, &c[1]), 0);		/* the latest of that fn and arg */
	EXPECT_EQ(mote_undefer(add, &c[3]), -ENOENT);
	EXPECT_EQ(mote_undefer(free, &c[0]), -ENOENT);
	EXPECT_EQ(mote_undefer(add, &c[0]), 0);
	EXPECT_EQ(mote_undefer(add, &c[0]), -ENOENT);
}

static void withdrawn(void)
{
	mote_ref ref;
	mote_pid p;

	trace_clear();
	p = mote_spawn_monitor(withdraws, "abcd", &ref);
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	EXPECT(!strcmp(trace, "cb"));
}

static void inside(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;
	struct mote_process_info info = test_info(mote_self());

	/* still somebody, with its name, and it can be heard */
	EXPECT(mote_in_process());
	EXPECT_EQ(info.state, MOTE_EXITING);
	EXPECT(mote_alive(mote_self()));
	EXPECT(mote_pid_equal(mote_whereis("cleaning"), mote_self()));
	for (int i = 0; i < 3; i++)
		mote_send(boss, WORD, &i, sizeof(i));
}

static void named_end(void *arg)
{
	mote_register("cleaning", mote_self());
	mote_defer(inside, arg);
	mote_exit(MOTE_REASON_SHUTDOWN);
}

static void before_names_go(void)
{
	mote_pid me = mote_self();
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(named_end, &me, &ref);

	for (int i = 0; i < 3; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);

		EXPECT(m && m->type == WORD && *(int *)m->data == i);
		mote_msg_free(m);
	}
	EXPECT(got_down(ref, p, MOTE_SHUTDOWN));
	EXPECT(!mote_pid_valid(mote_whereis("cleaning")));
}

static bool never(const struct mote_msg *m, void *arg)
{
	(void)m;
	(void)arg;
	return false;
}

static _Atomic int waited;

static int64_t quick_job(void *arg)
{
	return *(int *)arg;
}

static void waits(void *arg)
{
	mote_pid quiet = *(mote_pid *)arg;
	mote_ref a = mote_alias(0);
	mote_deadline d;

	EXPECT(!mote_receive(MOTE_FOREVER));
	EXPECT_EQ(mote_errno(), -ECANCELED);
	EXPECT(!mote_receive_type(GO, MOTE_FOREVER));
	EXPECT_EQ(mote_errno(), -ECANCELED);
	EXPECT(!mote_receive_match(never, NULL, MOTE_FOREVER));
	EXPECT_EQ(mote_errno(), -ECANCELED);
	EXPECT(!mote_receive_ref(a, MOTE_FOREVER));
	EXPECT_EQ(mote_errno(), -ECANCELED);
	EXPECT_EQ(mote_sleep(MOTE_FOREVER), -ECANCELED);
	EXPECT_EQ(mote_call(quiet, GO, NULL, 0, NULL, MOTE_FOREVER), -ECANCELED);
	/* what has come can be had, and short waits work */
	mote_send(mote_self(), WORD, NULL, 0);
	mote_msg_free(mote_receive_type(WORD, mote_in_ms(50)));
	d = mote_in_ms(3);
	EXPECT_EQ(mote_sleep(d), 0);
	EXPECT(mote_now().ns >= d.ns);
	d = mote_in_ms(3);
	EXPECT(!mote_receive_type(GO, d));
	EXPECT_EQ(mote_errno(), -ETIMEDOUT);
	EXPECT(mote_now().ns >= d.ns);
	mote_yield();
	mote_check();
	atomic_fetch_add(&waited, 1);
}

static void waits_in_cleanup(void *arg)
{
	mote_defer(waits, arg);
	mote_msg_free(mote_receive_type(GO, PATIENCE));
	mote_exit(MOTE_REASON_NORMAL);
}

static void nothing_waits_for_ever(void)
{
	mote_pid quiet = mote_spawn(sink, NULL);

	atomic_store(&waited, 0);
	for (int killed = 0; killed < 2; killed++) {
		mote_ref ref;
		mote_pid p = mote_spawn_monitor(waits_in_cleanup, &quiet, &ref);

		mote_yield();
		if (killed) {
			mote_sleep(mote_in_ms(1));
			mote_exit_pid(p, MOTE_REASON_KILL);
		} else {
			mote_send(p, GO, NULL, 0);
		}
		EXPECT(got_down(ref, p, killed ? MOTE_KILLED : MOTE_NORMAL));
	}
	EXPECT_EQ(atomic_load(&waited), 2);
	(void)quick_job;
}

static void sleeps_an_hour(void *arg)
{
	mote_sleep(mote_in_ms(3600000));
	mote_msg_free(mote_receive(mote_in_ms(3600000)));
	add(arg);
}

static void lazy(void *arg)
{
	mote_defer(sleeps_an_hour, arg);
	mote_defer(sleeps_an_hour, arg);
}

static void all_waits_are_bounded(void)
{
	mote_ref ref;
	mote_pid p;

	trace_clear();
	p = mote_spawn_monitor(lazy, "z", &ref);
	while (test_info(p).wait != MOTE_WAIT_SLEEP)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(test_info(p).state, MOTE_EXITING);
	/* four hours of waits end within PATIENCE */
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	EXPECT(!strcmp(trace, "zz"));
}

static void sleeps_a_little(void *arg)
{
	mote_send(*(mote_pid *)arg, READY, NULL, 0);
	mote_sleep(mote_in_ms(10));
	trace_clear();
	add("e");
}

static void dies_slowly(void *arg)
{
	mote_defer(sleeps_a_little, arg);
	mote_exit(mote_reason_error(EIO, NULL));
}

static void signals_meanwhile(void)
{
	mote_pid me = mote_self();
	mote_ref ref, late;
	mote_pid p;

	mote_trap_exit(true);
	trace_clear();
	p = mote_spawn_monitor(dies_slowly, &me, &ref);
	EXPECT(got_type(READY));
	/* it dies already: another signal, even kill, changes nothing; links and monitors still learn its reason */
	mote_exit_pid(p, MOTE_REASON_SHUTDOWN);
	mote_exit_pid(p, MOTE_REASON_KILL);
	late = mote_monitor(p);
	EXPECT(late.id);
	mote_link(p);
	EXPECT(got_down(ref, p, MOTE_ERROR));
	EXPECT(!strcmp(trace, "e"));
	mote_msg_free(mote_receive_ref(late, PATIENCE));
	mote_msg_free(mote_receive_type(MOTE_MSG_EXIT, PATIENCE));
	EXPECT(mailbox_is_empty());
}

static void exits_in_cleanup(void *arg)
{
	add(arg);
	mote_exit(mote_reason_error(EPERM, NULL));
}

static void three_with_a_bad_one(void *arg)
{
	(void)arg;
	mote_defer(add, "1");
	mote_defer(exits_in_cleanup, "2");
	mote_defer(add, "3");
	mote_exit(MOTE_REASON_SHUTDOWN);
}

static void exit_skips_to_the_next(void)
{
	mote_ref ref;
	mote_pid p;

	trace_clear();
	p = mote_spawn_monitor(three_with_a_bad_one, NULL, &ref);
	EXPECT(got_down(ref, p, MOTE_SHUTDOWN));
	EXPECT(!strcmp(trace, "321"));
}

static void crashes_in_cleanup(void *arg)
{
	int *volatile nowhere = NULL;

	add(arg);
	*nowhere = 1;
}

static volatile int deepest = INT32_MAX;

static int runs_over(int depth)
{
	volatile char frame[1000];

	frame[0] = frame[999] = (char)depth;
	return depth < deepest ? runs_over(depth + 1) + frame[0] + frame[999] : 0;
}

static void runs_over_in_cleanup(void *arg)
{
	add(arg);
	runs_over(0);
}

static void aborts_in_cleanup(void *arg)
{
	add(arg);
	abort();
}

static void cleanups_that_crash(void *arg)
{
	struct end *e = arg;
	char text[64] = "why it ended";

	mote_defer(add, "1");
	mote_defer(crashes_in_cleanup, "2");
	mote_defer(runs_over_in_cleanup, "3");
	mote_defer(aborts_in_cleanup, "4");
	mote_defer(add, "5");
	if (e->how == 'x')
		mote_exit(mote_reason_error(EIO, text));
	mote_send(e->boss, READY, NULL, 0);
	mote_sleep(MOTE_FOREVER);
}

/* Each crash gives the stack up, on which mote_exit() has left what it was given. */
static void crash_skips_to_the_next(void)
{
	if (SANITIZED) {
		selftest_skip("sanitizers report crashes themselves");
		return;
	}
	for (int i = 0; i < 2; i++) {
		struct end e = { mote_self(), i ? 'k' : 'x' };
		struct mote_msg *m;
		mote_ref ref;
		mote_pid p;

		trace_clear();
		p = mote_spawn_monitor(cleanups_that_crash, &e, &ref);
		if (i && EXPECT(got_type(READY)))
			mote_exit_pid(p, MOTE_REASON_KILL);
		m = mote_receive_ref(ref, PATIENCE);
		if (!EXPECT(is_down(m, ref, p, i ? MOTE_KILLED : MOTE_ERROR)))
			test_describe(m);
		else if (!i)
			EXPECT(mote_msg_down(m)->reason.code == EIO && mote_msg_down(m)->reason.size >= 12 &&
			       !memcmp(mote_msg_down(m)->reason.data, "why it ended", 12));
		mote_msg_free(m);
		if (!EXPECT(!strcmp(trace, "54321")))
			test_note("\"%s\"", trace);
	}
}

static void scribbles(void *arg)
{
	void *mem[64];

	(void)arg;
	for (int i = 0; i < 64; i++)
		mem[i] = memset(mote_alloc(200), 'z', 200);
	for (int i = 0; i < 64; i++)
		mote_free(mem[i]);
}

static void reason_in_own_memory(void *arg)
{
	char *text = mote_alloc(200);

	memset(text, *(char *)arg, 200);
	mote_defer(scribbles, NULL);
	mote_defer(mote_free, text);
	mote_exit((struct mote_reason){ .kind = MOTE_CUSTOM, .code = 7, .data = text, .size = 200 });
}

static void reason_outlives_memory(void)
{
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(reason_in_own_memory, "r", &ref);
	struct mote_msg *m = mote_receive_ref(ref, PATIENCE);
	const char *data = is_down(m, ref, p, MOTE_CUSTOM) ? mote_msg_down(m)->reason.data : NULL;

	if (!EXPECT(data && mote_msg_down(m)->reason.code == 7 && mote_msg_down(m)->reason.size == 200 &&
		    data[0] == 'r' && !memcmp(data, data + 1, 199)))
		test_describe(m);
	mote_msg_free(m);
}

static _Atomic bool may_end;
static _Atomic unsigned long laps;

static void loops(void *arg)
{
	while (!atomic_load(&may_end))
		atomic_fetch_add(&laps, 1);
	add(arg);
}

static void ends_in_a_loop(void *arg)
{
	mote_defer(add, "1");
	mote_defer(loops, arg);
	mote_register("loops", mote_self());
}

/* Nothing ends it; it is seen, and loses its scheduler to the others. */
static void endless_cleanup(void)
{
	mote_ref ref;
	mote_pid p;

	if (test_one_thread())
		return;
	trace_clear();
	atomic_store(&may_end, false);
	atomic_store(&laps, 0);
	p = mote_spawn_monitor(ends_in_a_loop, "2", &ref);
	while (!atomic_load(&laps))
		mote_sleep(mote_in_us(100));
	for (int i = 0; i < 3; i++) {
		mote_exit_pid(p, MOTE_REASON_KILL);
		mote_sleep(mote_in_ms(2));
		EXPECT_EQ(test_info(p).state, MOTE_EXITING);
		EXPECT(mote_pid_equal(mote_whereis("loops"), p));
	}
	EXPECT(ping(mote_spawn(mirror, NULL)));
	atomic_store(&may_end, true);
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	EXPECT(!strcmp(trace, "21"));
}

static _Atomic unsigned long counted;

static void count(void *arg)
{
	(void)arg;
	atomic_fetch_add(&counted, 1);
}

static void a_thousand(void *arg)
{
	(void)arg;
	for (int i = 0; i < 1000; i++)
		mote_defer(count, NULL);
	mote_sleep(MOTE_FOREVER);
}

static void kill_races_defer(void *arg)
{
	unsigned long n = test_rounds(3000);
	uint64_t seed = test_seed();

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref;
		mote_pid p;
		bool all = i % 8 == 0;

		atomic_store(&counted, 0);
		p = spawn_pinned(a_thousand, NULL, 1, MOTE_MONITOR, &ref);
		if (all) {
			while (test_info(p).wait != MOTE_WAIT_SLEEP)
				mote_yield();
		}
		for (uint32_t j = test_random(&seed) % 5; j; j--)
			test_jitter(&seed);
		mote_exit_pid(p, MOTE_REASON_KILL);
		if (!EXPECT(got_down(ref, p, MOTE_KILLED)))
			return;
		if (all)
			EXPECT_EQ(atomic_load(&counted), 1000);
	}
}

static void race_kill(void)
{
	on_first_scheduler(kill_races_defer, NULL);
}

int main(void)
{
	selftest_process("last in, first out: on return, exit, exit signal, kill", however_it_ends);
	selftest_process("mote_undefer withdraws the latest", withdrawn);
	selftest_process("cleanups run before names go, and are heard before DOWN", before_names_go);
	selftest_process("in cleanups waits without a deadline give -ECANCELED", nothing_waits_for_ever);
	selftest_process("in cleanups all waits together are bounded", all_waits_are_bounded);
	selftest_process("exit signals during cleanups change nothing", signals_meanwhile);
	selftest_process("mote_exit in a cleanup goes on with the next", exit_skips_to_the_next);
	selftest_process("a crash in a cleanup goes on with the next", crash_skips_to_the_next);
	selftest_process("the reason outlives the memory that it was in", reason_outlives_memory);
	selftest_process("a cleanup that never ends is seen, and holds nobody up", endless_cleanup);
	selftest_process_opts("race: kill against defer", race_kill, SCHEDULERS(2));
	return selftest_done();
}
