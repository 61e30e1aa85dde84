// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Supervisors: which children are started again, how often, with whom; when a supervisor gives up, or has nothing left
 * to do.
 */
#include "otp_kids.h"

#include "otp/restart.h"

#define MANY_RESTARTS 1000000

/* --- which ends are restarted */

static void after_end(int restart, struct mote_reason why, bool again, bool kept)
{
	const struct mote_child_spec spec = KID("a", .restart = restart);
	mote_pid sup = sup_start(SUPERVISOR(.max_restarts = MANY_RESTARTS, .children = &spec, .nr_children = 1));
	mote_pid old = kid_pid(sup, "a"), now;
	struct mote_child_info info;

	EXPECT(kid_end(old, why));
	now = kid_pid(sup, "a");
	EXPECT(mote_pid_valid(now) == again && !mote_pid_equal(old, now));
	EXPECT_EQ(mote_supervisor_which_child(sup, "a", &info, PATIENCE), kept ? 0 : -ENOENT);
	EXPECT(!kept || !info.restarting);
	if (kept && !again)
		EXPECT_EQ(mote_supervisor_restart_child(sup, "a", NULL, PATIENCE), 0);
	sup_stop(sup);
}

static void policies(void)
{
	const struct mote_reason detail = { .kind = MOTE_SHUTDOWN, .data = "done", .size = 4 };
	const struct { struct mote_reason why; bool ordinary; } table[] = {
		{ REASON(MOTE_NORMAL), true }, { REASON(MOTE_SHUTDOWN), true }, { detail, true }, { OOPS, false },
		{ REASON(MOTE_KILLED), false }, { REASON(MOTE_NOPROC), false }, { mote_reason_error(5, "five"), false },
	};

	kids_reset();
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		after_end(MOTE_PERMANENT, table[i].why, true, true);
		after_end(MOTE_TRANSIENT, table[i].why, !table[i].ordinary, true);
		after_end(MOTE_TEMPORARY, table[i].why, false, false);
	}
}

static void by_kill_and_crash(void)
{
	static const struct mote_child_spec spec[] = { KID("a", .restart = MOTE_TRANSIENT) };
	mote_pid sup, pid;
	mote_ref ref;

	kids_reset();
	sup = sup_start(SUPERVISOR(CHILDREN(spec)));
	put_down(kid_pid(sup, "a"));
	pid = kid_pid(sup, "a");
	EXPECT(kid_answers(pid, 'a'));
	if (!SANITIZED) {
		ref = mote_monitor(pid);
		mote_cast(pid, KID_SEGV, NULL, 0);
		EXPECT(got_down(ref, pid, MOTE_SIGNAL));
		EXPECT(kid_answers(kid_pid(sup, "a"), 'a'));
	}
	sup_stop(sup);
}

/* --- with whom */

static const struct mote_child_spec abcd[] = { KID("a"), KID("b"), KID("c"), KID("d") };

static void one_for_one(void)
{
	mote_pid sup, a, c;

	kids_reset();
	sup = sup_start(SUPERVISOR(CHILDREN(abcd)));
	a = kid_pid(sup, "a");
	c = kid_pid(sup, "c");
	EXPECT(kids_wrote("abcd"));
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	EXPECT(mote_pid_equal(kid_pid(sup, "a"), a) && mote_pid_equal(kid_pid(sup, "c"), c));
	EXPECT(kids_wrote("Bb"));
	sup_stop(sup);
	EXPECT(kids_wrote("DCBA"));
}

static void one_for_all(void)
{
	mote_pid sup, a;

	kids_reset();
	sup = sup_start(SUPERVISOR(.strategy = MOTE_ONE_FOR_ALL, CHILDREN(abcd)));
	a = kid_pid(sup, "a");
	EXPECT(kids_wrote("abcd"));
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	EXPECT(!mote_pid_equal(kid_pid(sup, "a"), a));
	EXPECT(kids_wrote("BDCAabcd"));
	/* As in OTP, one that had been stopped is started with the others. */
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "c", PATIENCE), 0);
	EXPECT(kid_end(kid_pid(sup, "d"), OOPS));
	EXPECT(kid_answers(kid_pid(sup, "c"), 'c'));
	EXPECT(kids_wrote("CDBAabcd"));
	sup_stop(sup);
}

static void rest_for_one(void)
{
	mote_pid sup, a;

	kids_reset();
	sup = sup_start(SUPERVISOR(.strategy = MOTE_REST_FOR_ONE, CHILDREN(abcd)));
	a = kid_pid(sup, "a");
	EXPECT(kids_wrote("abcd"));
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	EXPECT(mote_pid_equal(kid_pid(sup, "a"), a));
	EXPECT(kids_wrote("BDCbcd"));
	EXPECT(kid_end(kid_pid(sup, "d"), OOPS));
	EXPECT(mote_pid_equal(kid_pid(sup, "a"), a));
	EXPECT(kids_wrote("Dd"));
	sup_stop(sup);
	EXPECT(kids_wrote("DCBA"));
}

static void temporary_siblings(int strategy, const char *end, const char *expected)
{
	static const struct mote_child_spec some[] = {
		KID("a", .restart = MOTE_TEMPORARY), KID("b"), KID("c", .restart = MOTE_TEMPORARY), KID("d"),
		KID("e", .restart = MOTE_TRANSIENT),
	};
	mote_pid sup;

	kids_reset();
	sup = sup_start(SUPERVISOR(.strategy = strategy, CHILDREN(some)));
	EXPECT(kid_end(kid_pid(sup, end), OOPS));
	EXPECT(counts_are(sup, strategy == MOTE_ONE_FOR_ALL ? 3 : 4, strategy == MOTE_ONE_FOR_ALL ? 3 : 4, 0,
			  strategy == MOTE_ONE_FOR_ALL ? 3 : 4));
	EXPECT(kids_wrote(expected));
	sup_stop(sup);
}

static void temporary(void)
{
	temporary_siblings(MOTE_ONE_FOR_ALL, "d", "abcdeDECBAbde");
	temporary_siblings(MOTE_REST_FOR_ONE, "b", "abcdeBEDCbde");
	temporary_siblings(MOTE_ONE_FOR_ONE, "c", "abcdeC");
	/* The end of one that is not restarted takes nobody along. */
	temporary_siblings(MOTE_REST_FOR_ONE, "c", "abcdeC");
}

/* --- how often */

static bool ends(mote_pid sup, uint32_t kind)
{
	return got_exit(sup, kind) && !mote_alive(sup);
}

static void intensity(unsigned int max_restarts, int allowed)
{
	mote_pid sup;

	kids_reset();
	sup = sup_start(SUPERVISOR(.max_restarts = max_restarts, .max_seconds = 1000, CHILDREN(abcd)));
	for (int i = 0; i < allowed; i++) {
		EXPECT(kid_end(kid_pid(sup, i & 1 ? "a" : "b"), OOPS));
		EXPECT(kid_answers(kid_pid(sup, i & 1 ? "a" : "b"), i & 1 ? 'a' : 'b'));
	}
	kids_forget();
	EXPECT(kid_end(kid_pid(sup, "c"), OOPS));
	EXPECT(ends(sup, MOTE_SHUTDOWN));
	EXPECT(kids_wrote("CDBA"));
}

static void intensities(void)
{
	/* Elixir's default, and others. */
	intensity(0, 3);
	intensity(1, 1);
	intensity(7, 7);
	intensity(MOTE_RESTARTS_NONE, 0);
}

static void period(void)
{
	mote_pid sup;

	kids_reset();
	sup = sup_start(SUPERVISOR(.max_restarts = 1, .max_seconds = 1, CHILDREN(abcd)));
	for (int i = 0; i < 3; i++) {
		EXPECT(kid_end(kid_pid(sup, "a"), OOPS));
		EXPECT(kid_answers(kid_pid(sup, "a"), 'a'));
		mote_sleep(mote_in_ms(1010));
	}
	sup_stop(sup);
}

static void intensity_counts(void)
{
	struct intensity i;
	const int64_t s = 1000000000;

	intensity_init(&i, 3, 5);
	for (int64_t t = 1; t <= 3; t++)
		EXPECT(intensity_add(&i, t * s));
	EXPECT(!intensity_add(&i, 4 * s));
	EXPECT(!intensity_add(&i, 6 * s));		/* that at 1 s counts still */
	EXPECT(intensity_add(&i, 6 * s + 1));
	EXPECT(!intensity_add(&i, 6 * s + 2));
	EXPECT(intensity_add(&i, 100 * s));
	intensity_init(&i, 1000, 1);
	for (int t = 0; t < 1000; t++)
		EXPECT(intensity_add(&i, t));
	EXPECT(!intensity_add(&i, 1000));
	for (int t = 0; t < 5000; t++)			/* the ring goes round */
		EXPECT(intensity_add(&i, 2 * s + t * s / 500));
	intensity_init(&i, MOTE_RESTARTS_NONE, 5);
	EXPECT(!intensity_add(&i, 0));
	intensity_init(&i, 0, 0);
	EXPECT(i.max == 3 && i.period_ns == 5 * s);
}

/* --- restarts that fail */

static void failing_restarts_count(void)
{
	static const struct mote_child_spec ab[] = { KID("a"), KID("b") };
	mote_pid sup;

	kids_reset();
	sup = sup_start(SUPERVISOR(.max_restarts = 5, .max_seconds = 1000, CHILDREN(ab)));
	kid_plan('b')->fail = 1000;
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	EXPECT(ends(sup, MOTE_SHUTDOWN));
	EXPECT_EQ(kid_plan('b')->starts, 1 + 5);
	EXPECT(kids_wrote("abBA"));

	kids_reset();
	sup = sup_start(SUPERVISOR(.max_restarts = 5, .max_seconds = 1000, CHILDREN(ab)));
	kid_plan('b')->fail = 4;
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	EXPECT(kid_answers(kid_wait(sup, "b", MOTE_NOBODY), 'b'));
	EXPECT_EQ(kid_plan('b')->starts, 1 + 5);
	sup_stop(sup);
}

static void failing_restarts_starve_nobody(void)
{
	static const struct mote_child_spec ab[] = { KID("a"), KID("b") };
	struct mote_child_info info;
	mote_pid sup, a;
	int starts;

	kids_reset();
	sup = sup_start(SUPERVISOR(.max_restarts = UINT32_MAX - 1, CHILDREN(ab)));
	a = kid_pid(sup, "a");
	kid_plan('b')->fail = INT32_MAX;
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	EXPECT_EQ(mote_supervisor_which_child(sup, "b", &info, PATIENCE), 0);
	EXPECT(info.restarting && !mote_pid_valid(info.pid));
	EXPECT_EQ(mote_supervisor_restart_child(sup, "b", NULL, PATIENCE), -EINPROGRESS);
	EXPECT_EQ(mote_supervisor_delete_child(sup, "b", PATIENCE), -EINPROGRESS);
	EXPECT_EQ(mote_supervisor_start_child(sup, &ab[1], NULL, PATIENCE), -EEXIST);
	EXPECT(counts_are(sup, 2, 1, 0, 2));
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "b", PATIENCE), 0);
	/* That was the end of it. */
	starts = kid_plan('b')->starts;
	EXPECT_EQ(mote_supervisor_which_child(sup, "b", &info, PATIENCE), 0);
	EXPECT(!info.restarting);
	EXPECT(mote_pid_equal(kid_pid(sup, "a"), a));
	EXPECT_EQ(kid_plan('b')->starts, starts);
	kid_plan('b')->fail = 0;
	EXPECT_EQ(mote_supervisor_restart_child(sup, "b", NULL, PATIENCE), 0);
	sup_stop(sup);
}

static void failing_restart_of_all(void)
{
	mote_pid sup;

	kids_reset();
	sup = sup_start(SUPERVISOR(.strategy = MOTE_ONE_FOR_ALL, .max_restarts = 100, CHILDREN(abcd)));
	EXPECT(kids_wrote("abcd"));
	kid_plan('c')->fail = 2;
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	kid_wait(sup, "d", MOTE_NOBODY);
	/* Each try begins anew with all of them. */
	EXPECT(kids_wrote("BDCAabBAabBAabcd"));
	sup_stop(sup);

	kids_reset();
	sup = sup_start(SUPERVISOR(.strategy = MOTE_REST_FOR_ONE, .max_restarts = 100, CHILDREN(abcd)));
	EXPECT(kids_wrote("abcd"));
	kid_plan('c')->fail = 2;
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	kid_wait(sup, "d", MOTE_NOBODY);
	/* From the one that failed. */
	EXPECT(kids_wrote("BDCbcd"));
	sup_stop(sup);
}

static void ignoring_restart(void)
{
	static const struct mote_child_spec spec[] = { KID("a") };
	struct mote_child_info info;
	mote_pid sup;

	kids_reset();
	sup = sup_start(SUPERVISOR(CHILDREN(spec)));
	kid_plan('a')->ignore = true;
	EXPECT(kid_end(kid_pid(sup, "a"), OOPS));
	EXPECT_EQ(mote_supervisor_which_child(sup, "a", &info, PATIENCE), 0);
	EXPECT(!info.restarting && !mote_pid_valid(info.pid));
	sup_stop(sup);
}

/* --- trees */

static void trees(void)
{
	static const struct mote_child_spec leaves[] = { KID("x"), KID("y") };
	static const struct mote_supervisor_opts below = {
		.size = sizeof(below), .name = "below", .max_restarts = 1, .max_seconds = 1000, CHILDREN(leaves),
	};
	static const struct mote_child_spec top[] = { KID("a"), { .id = "below", .supervisor = &below } };
	mote_pid sup, inner, x;

	kids_reset();
	sup = sup_start(SUPERVISOR(CHILDREN(top)));
	inner = kid_pid(sup, "below");
	EXPECT(kids_wrote("axy"));
	EXPECT(kid_end(kid_pid(inner, "x"), OOPS));
	EXPECT(kid_answers(kid_pid(inner, "x"), 'x'));
	EXPECT(kids_wrote("Xx"));
	x = kid_pid(inner, "x");
	/* Too much for the inner one: the outer starts a new one. */
	EXPECT(kid_end(x, OOPS));
	EXPECT(mote_pid_valid(kid_wait(sup, "below", inner)));
	EXPECT(kid_answers(kid_pid(mote_whereis("below"), "x"), 'x'));
	EXPECT(kids_wrote("XYxy"));
	sup_stop(sup);
	EXPECT(kids_wrote("YXA"));
}

/* --- significant children */

static mote_pid significant_sup(int how, int restart)
{
	const struct mote_child_spec some[] = {
		KID("a"), KID("b", .restart = restart, .significant = true),
		KID("c", .restart = restart, .significant = true), KID("d", .restart = MOTE_TEMPORARY),
	};

	kids_reset();
	return sup_start(SUPERVISOR(.auto_shutdown = how, .max_restarts = 100, CHILDREN(some)));
}

static void any_significant(void)
{
	mote_pid sup = significant_sup(MOTE_AUTO_ANY_SIGNIFICANT, MOTE_TRANSIENT);

	/* Others' ends, restarts, and what it is told are no reason. */
	EXPECT(kid_end(kid_pid(sup, "d"), REASON(MOTE_NORMAL)));
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	EXPECT(kid_answers(kid_pid(sup, "b"), 'b'));
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "b", PATIENCE), 0);
	EXPECT(kid_answers(kid_pid(sup, "c"), 'c'));
	EXPECT(kid_end(kid_pid(sup, "c"), REASON(MOTE_SHUTDOWN)));
	EXPECT(ends(sup, MOTE_SHUTDOWN));
	EXPECT(kids_wrote("abcdDBbBCA"));

	sup = significant_sup(MOTE_AUTO_ANY_SIGNIFICANT, MOTE_TEMPORARY);
	EXPECT(kid_end(kid_pid(sup, "c"), OOPS));
	EXPECT(ends(sup, MOTE_SHUTDOWN));
	EXPECT(kids_wrote("abcdCDBA"));
}

static void all_significant(void)
{
	mote_pid sup = significant_sup(MOTE_AUTO_ALL_SIGNIFICANT, MOTE_TRANSIENT);

	EXPECT(kid_end(kid_pid(sup, "b"), REASON(MOTE_NORMAL)));
	EXPECT(kid_answers(kid_pid(sup, "a"), 'a'));
	EXPECT(kid_end(kid_pid(sup, "c"), REASON(MOTE_NORMAL)));
	EXPECT(ends(sup, MOTE_SHUTDOWN));
	EXPECT(kids_wrote("abcdBCDA"));

	/* Stopped by hand is not ended by itself; but then the other is the last one. */
	sup = significant_sup(MOTE_AUTO_ALL_SIGNIFICANT, MOTE_TEMPORARY);
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "b", PATIENCE), 0);
	EXPECT(kid_answers(kid_pid(sup, "a"), 'a'));
	EXPECT(kid_end(kid_pid(sup, "c"), OOPS));
	EXPECT(ends(sup, MOTE_SHUTDOWN));
}

/* --- backoff */

static void backoff_counts(void)
{
	struct mote_backoff b;
	struct failures f = { 0 };
	const int64_t ms = 1000000;

	EXPECT_EQ(backoff_init(&b, &(struct mote_backoff){ .first_ms = 100, .max_ms = 1000, .decay_ms = 1000 }), 0);
	EXPECT(b.jitter == 0.5);
	/* Three at once, then 100, 200, 400, 800, 1000, 1000 ms; random 0.5 is the middle. */
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(backoff_add(&b, 3, &f, 1, 0.5), 0);
	for (int64_t wait = 100; wait <= 800; wait *= 2)
		EXPECT_EQ(backoff_add(&b, 3, &f, 1, 0.5), wait * ms);
	for (int i = 0; i < 100; i++)
		EXPECT_EQ(backoff_add(&b, 3, &f, 1, 0.5), 1000 * ms);
	EXPECT_EQ(backoff_add(&b, 3, &f, 1, 0), 500 * ms);
	EXPECT(backoff_add(&b, 3, &f, 1, 0.9999999) > 1499 * ms);
	/* It ran for two half-lives: of 8 failures 2 are left, and this one. */
	EXPECT(f.count == 8);
	f.since_ns = 1;
	EXPECT_EQ(backoff_add(&b, 3, &f, 1 + 2000 * ms, 0.5), 0);
	EXPECT(f.count == 3 && f.since_ns == 0);
	f.since_ns = 1;
	EXPECT_EQ(backoff_add(&b, 3, &f, INT64_MAX, 0.5), 0);
	EXPECT(f.count < 1.01);

	EXPECT_EQ(backoff_init(&b, &(struct mote_backoff){ .first_ms = 1, .jitter = -1 }), 0);
	EXPECT(b.jitter == 0 && b.max_ms == 60000 && b.decay_ms == 30000);
	EXPECT_EQ(backoff_init(&b, &(struct mote_backoff){ .first_ms = 1, .jitter = 1.1 }), -EINVAL);
	EXPECT_EQ(backoff_init(&b, &(struct mote_backoff){ .first_ms = 10, .max_ms = 9 }), -EINVAL);
}

static void backoff_goes_on(void)
{
	static const struct mote_child_spec ab[] = { KID("a"), KID("b") };
	mote_pid sup, a, b;

	kids_reset();
	sup = sup_start(SUPERVISOR(.max_restarts = 1, .backoff = { .first_ms = 1, .max_ms = 2 }, CHILDREN(ab)));
	a = kid_pid(sup, "a");
	for (int i = 0; i < 20; i++) {
		b = kid_wait(sup, "b", MOTE_NOBODY);
		if (!EXPECT(kid_answers(b, 'b')))
			break;
		EXPECT(kid_end(b, OOPS));
	}
	kid_plan('b')->fail = 20;
	EXPECT(kid_answers(kid_wait(sup, "b", b), 'b'));
	EXPECT(kid_plan('b')->starts >= 41);
	EXPECT(mote_pid_equal(a, kid_pid(sup, "a")));
	sup_stop(sup);
}

static void backoff_waits(int strategy, const char *expected)
{
	struct mote_child_info info;
	mote_pid sup;

	kids_reset();
	sup = sup_start(SUPERVISOR(.strategy = strategy, .max_restarts = MOTE_RESTARTS_NONE,
				   .backoff = { .first_ms = 50000 }, CHILDREN(abcd)));
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	EXPECT_EQ(mote_supervisor_which_child(sup, "b", &info, PATIENCE), 0);
	EXPECT(info.restarting);
	EXPECT(kids_wrote(expected));
	/* No need to wait for it. */
	EXPECT_EQ(mote_supervisor_restart_child(sup, "b", NULL, PATIENCE), -EINPROGRESS);
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "b", PATIENCE), 0);
	EXPECT_EQ(mote_supervisor_restart_child(sup, "b", NULL, PATIENCE), 0);
	EXPECT(kids_wrote("b"));
	sup_stop(sup);
}

static void backoffs(void)
{
	/* Those of its group do not run meanwhile. */
	backoff_waits(MOTE_ONE_FOR_ONE, "abcdB");
	backoff_waits(MOTE_REST_FOR_ONE, "abcdBDC");
	backoff_waits(MOTE_ONE_FOR_ALL, "abcdBDCA");
}

static void backoff_of_all(void)
{
	mote_pid sup;

	kids_reset();
	sup = sup_start(SUPERVISOR(.strategy = MOTE_ONE_FOR_ALL, .max_restarts = MOTE_RESTARTS_NONE,
				   .backoff = { .first_ms = 1 }, CHILDREN(abcd)));
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	EXPECT(mote_pid_valid(kid_wait(sup, "d", MOTE_NOBODY)));
	EXPECT(kids_wrote("abcdBDCAabcd"));
	sup_stop(sup);
}

int main(void)
{
	selftest_process("permanent, transient, temporary", policies);
	selftest_process("killed, crashed", by_kill_and_crash);
	selftest_process("one for one", one_for_one);
	selftest_process("one for all", one_for_all);
	selftest_process("rest for one", rest_for_one);
	selftest_process("temporary siblings are gone", temporary);
	selftest_process("too many restarts", intensities);
	selftest_process("within a period", period);
	selftest_process("counting restarts", intensity_counts);
	selftest_process("restarts that fail count", failing_restarts_count);
	selftest_process("restarts that fail starve nobody", failing_restarts_starve_nobody);
	selftest_process("a failing restart of several", failing_restart_of_all);
	selftest_process("a restart that ignores", ignoring_restart);
	selftest_process("supervisors of supervisors", trees);
	selftest_process("any significant child", any_significant);
	selftest_process("all significant children", all_significant);
	selftest_process("counting failures", backoff_counts);
	selftest_process("backoff: it goes on", backoff_goes_on);
	selftest_process("backoff: it waits", backoffs);
	selftest_process("backoff: all of them", backoff_of_all);
	return selftest_done();
}
