// SPDX-License-Identifier: MIT OR GPL-2.0
/* Supervisors whose children come and go: DynamicSupervisor, and simple_one_for_one. */
#include "otp_kids.h"

#define DYNAMIC(...) (&(struct mote_dynamic_opts){ .size = sizeof(struct mote_dynamic_opts), __VA_ARGS__ })

static mote_pid dynamic_start(const struct mote_dynamic_opts *opts)
{
	mote_pid pid = MOTE_NOBODY;

	mote_trap_exit(true);
	EXPECT_EQ(mote_dynamic_start_link(opts, &pid), 0);
	return pid;
}

static mote_pid dynamic_child(mote_pid sup, const struct mote_child_spec *spec)
{
	mote_pid pid = MOTE_NOBODY;

	EXPECT_EQ(mote_dynamic_start_child(sup, spec, &pid, PATIENCE), 0);
	return pid;
}

static const struct mote_child_spec a = KID("a"), t = KID("t", .restart = MOTE_TEMPORARY),
	r = KID("r", .restart = MOTE_TRANSIENT);

/* A child that is not pid any more. */
static mote_pid other_child(mote_pid sup, mote_pid pid)
{
	struct mote_child_info *all;
	mote_pid found = MOTE_NOBODY;
	int n = mote_supervisor_which_children(sup, &all, PATIENCE);

	for (int i = 0; i < n; i++) {
		if (!mote_pid_equal(all[i].pid, pid))
			found = all[i].pid;
	}
	if (n >= 0)
		mote_free(all);
	return found;
}

static void children(void)
{
	static const struct mote_supervisor_opts nothing = { .size = sizeof(nothing) };
	static const struct mote_child_spec below = { .supervisor = &nothing };
	struct mote_child_info *all;
	mote_pid sup, first, second, third;

	kids_reset();
	sup = dynamic_start(DYNAMIC(.name = "dyn"));
	EXPECT(mote_pid_equal(mote_whereis("dyn"), sup));
	EXPECT_EQ(mote_supervisor_which_children(sup, &all, PATIENCE), 0);
	mote_free(all);
	/* Twice the same id. */
	first = dynamic_child(sup, &a);
	second = dynamic_child(sup, &a);
	third = dynamic_child(sup, &below);
	EXPECT(kid_answers(first, 'a') && kid_answers(second, 'a') && !mote_pid_equal(first, second));
	EXPECT(counts_are(sup, 3, 3, 1, 2));
	EXPECT_EQ(mote_supervisor_which_children(sup, &all, PATIENCE), 3);
	mote_free(all);
	EXPECT_EQ(mote_dynamic_terminate_child(sup, first, PATIENCE), 0);
	EXPECT(!mote_alive(first));
	EXPECT_EQ(mote_dynamic_terminate_child(sup, first, PATIENCE), -ENOENT);
	EXPECT_EQ(mote_dynamic_terminate_child(sup, mote_self(), PATIENCE), -ENOENT);
	EXPECT_EQ(mote_dynamic_terminate_child(sup, MOTE_NOBODY, PATIENCE), -ENOENT);
	EXPECT_EQ(mote_dynamic_terminate_child(sup, third, PATIENCE), 0);
	EXPECT(counts_are(sup, 1, 1, 0, 1));

	EXPECT_EQ(mote_supervisor_terminate_child(sup, "a", PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_supervisor_restart_child(sup, "a", NULL, PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_supervisor_delete_child(sup, "a", PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_dynamic_start_arg(sup, NULL, 0, NULL, PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_dynamic_start_child(sup, &(struct mote_child_spec){ .id = "x" }, NULL, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_dynamic_start_child(sup, NULL, NULL, PATIENCE), -EINVAL);
	sup_stop(sup);
	EXPECT(!mote_alive(second));
	EXPECT(mailbox_is_empty());
}

static void restarts(void)
{
	mote_pid sup, pid;

	kids_reset();
	sup = dynamic_start(DYNAMIC(.max_restarts = 100));
	pid = dynamic_child(sup, &a);
	EXPECT(kid_end(pid, REASON(MOTE_NORMAL)));
	pid = other_child(sup, pid);
	EXPECT(kid_answers(pid, 'a'));
	EXPECT_EQ(mote_dynamic_terminate_child(sup, pid, PATIENCE), 0);
	/* Those that are not started again are gone. */
	EXPECT(kid_end(dynamic_child(sup, &t), OOPS));
	EXPECT(kid_end(dynamic_child(sup, &r), REASON(MOTE_SHUTDOWN)));
	EXPECT(counts_are(sup, 0, 0, 0, 0));
	pid = dynamic_child(sup, &r);
	EXPECT(kid_end(pid, OOPS));
	EXPECT(kid_answers(other_child(sup, pid), 'r'));
	EXPECT(counts_are(sup, 1, 1, 0, 1));
	pid = other_child(sup, pid);
	kid_plan('r')->ignore = true;
	EXPECT(kid_end(pid, OOPS));
	EXPECT(counts_are(sup, 0, 0, 0, 0));
	sup_stop(sup);
}

static void failing_restarts(void)
{
	mote_pid sup, pid;

	kids_reset();
	sup = dynamic_start(DYNAMIC(.max_restarts = UINT32_MAX - 1));
	pid = dynamic_child(sup, &a);
	kid_plan('a')->fail = INT32_MAX;
	EXPECT(kid_end(pid, OOPS));
	EXPECT(counts_are(sup, 1, 0, 0, 1));
	/* Known by the pid that it had. */
	EXPECT_EQ(mote_dynamic_terminate_child(sup, pid, PATIENCE), 0);
	EXPECT(counts_are(sup, 0, 0, 0, 0));
	kid_plan('a')->fail = 0;
	sup_stop(sup);

	sup = dynamic_start(DYNAMIC(.backoff = { .first_ms = 50000 }, .max_restarts = MOTE_RESTARTS_NONE));
	pid = dynamic_child(sup, &a);
	EXPECT(kid_end(pid, OOPS));
	EXPECT(counts_are(sup, 1, 0, 0, 1));
	EXPECT_EQ(mote_dynamic_terminate_child(sup, pid, PATIENCE), 0);
	pid = dynamic_child(sup, &a);
	EXPECT(kid_end(pid, OOPS));
	EXPECT(counts_are(sup, 1, 0, 0, 1));
	sup_stop(sup);
}

static void too_many_restarts(void)
{
	mote_pid sup, pid, others[2];

	kids_reset();
	sup = dynamic_start(DYNAMIC(.max_seconds = 1000));
	others[0] = dynamic_child(sup, &t);
	others[1] = dynamic_child(sup, &a);
	pid = others[1];
	for (int i = 0; i < 3; i++) {
		EXPECT(kid_end(pid, OOPS));
		pid = other_child(sup, others[0]);
		EXPECT(kid_answers(pid, 'a'));
	}
	EXPECT(kid_end(pid, OOPS));
	EXPECT(got_exit(sup, MOTE_SHUTDOWN));
	EXPECT(!mote_alive(others[0]));
}

static void starts_that_fail(void)
{
	mote_pid sup, pid = { 1, 1, 1 };

	kids_reset();
	sup = dynamic_start(DYNAMIC());
	kid_plan('a')->fail = 1;
	EXPECT_EQ(mote_dynamic_start_child(sup, &a, &pid, PATIENCE), -ENOTTY);
	EXPECT(!mote_pid_valid(pid));
	kid_plan('a')->ignore = true;
	EXPECT_EQ(mote_dynamic_start_child(sup, &a, &pid, PATIENCE), MOTE_IGNORE);
	EXPECT(!mote_pid_valid(pid));
	EXPECT(counts_are(sup, 0, 0, 0, 0));
	sup_stop(sup);
}

static void max_children(void)
{
	mote_pid sup, pid;

	kids_reset();
	sup = dynamic_start(DYNAMIC(.max_children = 2));
	pid = dynamic_child(sup, &t);
	dynamic_child(sup, &a);
	EXPECT_EQ(mote_dynamic_start_child(sup, &a, NULL, PATIENCE), -ENOSPC);
	EXPECT(kid_end(pid, OOPS));
	pid = dynamic_child(sup, &a);
	EXPECT_EQ(mote_dynamic_start_child(sup, &a, NULL, PATIENCE), -ENOSPC);
	EXPECT_EQ(mote_dynamic_terminate_child(sup, pid, PATIENCE), 0);
	dynamic_child(sup, &a);
	sup_stop(sup);
}

/* --- arguments */

static void tells(void *arg)
{
	mote_send_name("test", 9, arg, arg ? 48 : 0);
	mote_sleep(MOTE_FOREVER);
}

static int tells_init(int *unused, void *arg)
{
	(void)unused;
	mote_send_name("test", 9, arg, arg ? 48 : 0);
	return 0;
}

MOTE_SERVER(telling, int, .init = tells_init);

static bool told(const char *first, const char *second, const char *third)
{
	struct mote_msg *m = mote_receive_type(9, PATIENCE);
	const char *at = m ? m->data : NULL;
	bool ok = m && m->size == 48 && !strcmp(at, first) && (!second || !strcmp(at + 16, second)) &&
		  (!third || !strcmp(at + 32, third));

	if (!ok && m && m->size)
		test_note("told %.16s %.16s %.16s", at, at + 16, at + 32);
	mote_msg_free(m);
	return ok;
}

static void extra_arguments(void)
{
	char own[48] = "own", extra[16] = "extra";
	struct mote_child_spec spec = { .fn = tells, .arg = own, .arg_size = sizeof(own) };
	mote_pid sup;

	mote_register("test", mote_self());
	sup = dynamic_start(DYNAMIC(.extra = extra, .extra_size = 6));
	memset(extra, 'x', sizeof(extra));
	dynamic_child(sup, &spec);
	EXPECT(told("extra", "own", NULL));
	spec.fn = NULL;
	spec.server = &telling.ops;
	dynamic_child(sup, &spec);
	EXPECT(told("extra", "own", NULL));
	spec.arg_size = 0;
	EXPECT_EQ(mote_dynamic_start_child(sup, &spec, NULL, PATIENCE), -EINVAL);
	sup_stop(sup);
}

static void template_args(void)
{
	static const char fixed[16] = "template";
	struct mote_child_spec spec = {
		.id = "told", .server = &telling.ops, .arg = (void *)fixed, .arg_size = 16 }, *got;
	char own[32] = "own";
	mote_pid sup, pid;
	struct mote_child_info *all;

	mote_register("test", mote_self());
	sup = dynamic_start(DYNAMIC(.extra = "extra", .extra_size = 6, .child = &spec, .max_restarts = 10));
	spec.id = "other";
	EXPECT_EQ(mote_dynamic_start_arg(sup, own, sizeof(own), &pid, PATIENCE), 0);
	EXPECT(told("extra", "template", "own"));
	/* The same again when it is restarted. */
	put_down(pid);
	EXPECT(told("extra", "template", "own"));
	EXPECT_EQ(mote_dynamic_start_child(sup, &a, NULL, PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_supervisor_start_child(sup, &a, NULL, PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_supervisor_get_childspec(sup, "told", &got, PATIENCE), 0);
	EXPECT(got->server == &telling.ops);
	mote_free(got);
	EXPECT_EQ(mote_supervisor_get_childspec(sup, "other", &got, PATIENCE), -ENOENT);
	EXPECT_EQ(mote_dynamic_start_arg(sup, own, sizeof(own), &pid, PATIENCE), 0);
	EXPECT(told("extra", "template", "own"));
	EXPECT(counts_are(sup, 1, 2, 0, 2));
	EXPECT_EQ(mote_supervisor_which_children(sup, &all, PATIENCE), 2);
	mote_free(all);
	sup_stop(sup);
}

static void template_pointer(void)
{
	static const char text[] = "0123456789abcdef0123456789abcdef0123456789abcde";
	const struct mote_child_spec pointer = KID("a"), none = { .fn = tells };
	mote_pid sup, pid;

	kids_reset();
	mote_register("test", mote_self());
	sup = dynamic_start(DYNAMIC(.child = &pointer));
	EXPECT_EQ(mote_dynamic_start_arg(sup, NULL, 0, &pid, PATIENCE), 0);
	EXPECT(kid_answers(pid, 'a'));
	EXPECT_EQ(mote_dynamic_start_arg(sup, "b", 2, &pid, PATIENCE), -EINVAL);
	sup_stop(sup);
	EXPECT_EQ(mote_dynamic_start_link(DYNAMIC(.child = &pointer, .extra = "x", .extra_size = 1), &pid), -EINVAL);
	EXPECT_EQ(mote_dynamic_start_link(DYNAMIC(.extra_size = 1), &pid), -EINVAL);
	EXPECT_EQ(mote_dynamic_start_link(DYNAMIC(.auto_shutdown = MOTE_AUTO_ANY_SIGNIFICANT), &pid), -EINVAL);
	sup = dynamic_start(DYNAMIC(.child = &none));
	EXPECT_EQ(mote_dynamic_start_arg(sup, text, sizeof(text), &pid, PATIENCE), 0);
	EXPECT(told(text, NULL, NULL));
	EXPECT_EQ(mote_dynamic_start_arg(sup, NULL, 0, &pid, PATIENCE), 0);
	EXPECT(got_type(9));
	sup_stop(sup);
}

static void significant(void)
{
	const struct mote_child_spec s = KID("s", .restart = MOTE_TRANSIENT, .significant = true);
	mote_pid sup, pid[3];

	kids_reset();
	sup = dynamic_start(DYNAMIC(.child = &s, .auto_shutdown = MOTE_AUTO_ALL_SIGNIFICANT));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(mote_dynamic_start_arg(sup, NULL, 0, &pid[i], PATIENCE), 0);
	EXPECT(kid_end(pid[0], REASON(MOTE_NORMAL)));
	EXPECT_EQ(mote_dynamic_terminate_child(sup, pid[1], PATIENCE), 0);
	EXPECT(counts_are(sup, 1, 1, 0, 1));
	EXPECT(kid_end(pid[2], REASON(MOTE_NORMAL)));
	EXPECT(got_exit(sup, MOTE_SHUTDOWN));

	sup = dynamic_start(DYNAMIC(.child = &s, .auto_shutdown = MOTE_AUTO_ANY_SIGNIFICANT));
	for (int i = 0; i < 3; i++)
		EXPECT_EQ(mote_dynamic_start_arg(sup, NULL, 0, &pid[i], PATIENCE), 0);
	EXPECT(kid_end(pid[1], REASON(MOTE_SHUTDOWN)));
	EXPECT(got_exit(sup, MOTE_SHUTDOWN));
	EXPECT(!mote_alive(pid[0]) && !mote_alive(pid[2]));
}

/* --- the end of many */

static _Atomic int gathered, gather;

/* Waits with its end until all have been told. */
static void gathers(void *arg)
{
	struct mote_msg *m;

	(void)arg;
	m = mote_receive_type(MOTE_MSG_EXIT, MOTE_FOREVER);
	mote_msg_free(m);
	atomic_fetch_add(&gathered, 1);
	while (atomic_load(&gathered) < atomic_load(&gather))
		mote_sleep(mote_in_ms(1));
	mote_exit(MOTE_REASON_SHUTDOWN);
}

static void deaf(void *arg)
{
	(void)arg;
	for (;;)
		mote_msg_free(mote_receive(MOTE_FOREVER));
}

static void at_once(void)
{
	static const struct mote_server_opts traps = { .size = sizeof(traps), .flags = MOTE_TRAP_EXIT };
	struct mote_child_spec spec = { .fn = gathers, .opts = &traps, .shutdown_ms = MOTE_SHUTDOWN_INFINITY };
	mote_pid sup;

	atomic_store(&gathered, 0);
	atomic_store(&gather, 10);
	sup = dynamic_start(DYNAMIC());
	for (int i = 0; i < 10; i++)
		dynamic_child(sup, &spec);
	/* Those that do not listen are killed, each in its time; the rest have all the time that they want. */
	spec.fn = deaf;
	spec.shutdown_ms = 10;
	dynamic_child(sup, &spec);
	spec.shutdown_ms = 20;
	dynamic_child(sup, &spec);
	spec.shutdown_ms = MOTE_SHUTDOWN_BRUTAL;
	dynamic_child(sup, &spec);
	sup_stop(sup);
	EXPECT_EQ(gathered, 10);
}

static void unlinks(void)
{
	mote_pid sup, pid;

	kids_reset();
	sup = dynamic_start(DYNAMIC());
	pid = dynamic_child(sup, &a);
	mote_cast(pid, KID_UNLINK, &sup, sizeof(sup));
	EXPECT(kid_answers(pid, 'a'));
	sup_stop(sup);
	EXPECT(!mote_alive(pid));
}

#define MANY 10000

static void many(void)
{
	unsigned long n = test_crowd(MANY);
	mote_pid *pids = calloc(n, sizeof(*pids)), sup;

	kids_reset();
	sup = dynamic_start(DYNAMIC());
	for (unsigned long i = 0; i < n; i++)
		pids[i] = dynamic_child(sup, &a);
	EXPECT(counts_are(sup, n, n, 0, n));
	for (unsigned long i = 0; i < n; i += 2)
		EXPECT_EQ(mote_dynamic_terminate_child(sup, pids[i], PATIENCE), 0);
	EXPECT(counts_are(sup, n / 2, n / 2, 0, n / 2));
	/* All others at once, and each by itself: too many. */
	for (unsigned long i = 1; i < n; i += 2)
		mote_exit_pid(pids[i], MOTE_REASON_KILL);
	EXPECT(got_exit(sup, MOTE_SHUTDOWN));
	free(pids);
	sup = dynamic_start(DYNAMIC(.child = &a));
	for (unsigned long i = 0; i < n; i++)
		EXPECT_EQ(mote_dynamic_start_arg(sup, NULL, 0, NULL, PATIENCE), 0);
	EXPECT(counts_are(sup, 1, n, 0, n));
	sup_stop(sup);
}

int main(void)
{
	selftest_process("children", children);
	selftest_process("restarts", restarts);
	selftest_process("restarts that fail, and wait", failing_restarts);
	selftest_process("too many restarts", too_many_restarts);
	selftest_process("starts that fail", starts_that_fail);
	selftest_process("max_children", max_children);
	selftest_process("extra arguments", extra_arguments);
	selftest_process("a template's arguments", template_args);
	selftest_process("a template's pointer", template_pointer);
	selftest_process("significant children of a template", significant);
	selftest_process("children are stopped at once", at_once);
	selftest_process("a child that unlinks itself", unlinks);
	selftest_process("thousands", many);
	return selftest_done();
}
