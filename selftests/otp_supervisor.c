// SPDX-License-Identifier: MIT OR GPL-2.0
/* Supervisors: what they start and stop, in which order, how they are asked, what they refuse. */
#include "otp_kids.h"

#include <mote/program.h>

static const struct mote_child_spec abc[] = { KID("a"), KID("b"), KID("c") };

static void order(void)
{
	mote_pid sup;

	kids_reset();
	sup = sup_start(SUPERVISOR(.name = "order", CHILDREN(abc)));
	EXPECT(kids_wrote("abc"));
	EXPECT(mote_pid_equal(mote_whereis("order"), sup));
	EXPECT(kid_answers(kid_pid(sup, "a"), 'a'));
	EXPECT(kid_answers(kid_pid(sup, "c"), 'c'));
	EXPECT(counts_are(sup, 3, 3, 0, 3));
	sup_stop(sup);
	EXPECT(kids_wrote("CBA"));
	EXPECT(mailbox_is_empty());
}

static void unlinked(void)
{
	mote_pid sup, other;

	kids_reset();
	EXPECT_EQ(mote_supervisor_start(SUPERVISOR(.name = "one", CHILDREN(abc)), &sup), 0);
	EXPECT_EQ(mote_supervisor_start(SUPERVISOR(.name = "one", CHILDREN(abc)), &other), -EEXIST);
	EXPECT(mote_pid_equal(sup, other));
	EXPECT(kids_wrote("abc"));
	EXPECT_EQ(mote_server_stop(sup, MOTE_REASON_NORMAL, PATIENCE), 0);
	EXPECT(kids_wrote("CBA"));
}

static void start_fails(void)
{
	mote_pid sup = { 1, 2, 3 };

	mote_trap_exit(true);
	kids_reset();
	kid_plan('c')->fail = 1;
	EXPECT_EQ(mote_supervisor_start_link(SUPERVISOR(CHILDREN(abc)), &sup), -ENOTTY);
	EXPECT(!mote_pid_valid(sup));
	EXPECT(kids_wrote("abBA"));
	/* Nothing of it is left behind, and no second try was made. */
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(kid_plan('c')->starts, 1);
}

static void start_ignores(void)
{
	static const struct mote_child_spec some[] = {
		KID("a"), KID("b", .restart = MOTE_TRANSIENT), KID("c", .restart = MOTE_TEMPORARY), KID("d"),
	};
	struct mote_child_info info;
	mote_pid sup;

	kids_reset();
	kid_plan('b')->ignore = true;
	kid_plan('c')->ignore = true;
	sup = sup_start(SUPERVISOR(CHILDREN(some)));
	EXPECT(kids_wrote("ad"));
	EXPECT(counts_are(sup, 3, 2, 0, 3));
	EXPECT_EQ(mote_supervisor_which_child(sup, "b", &info, PATIENCE), 0);
	EXPECT(!mote_pid_valid(info.pid) && !info.restarting && info.type == MOTE_WORKER);
	EXPECT_EQ(mote_supervisor_which_child(sup, "c", &info, PATIENCE), -ENOENT);
	kid_plan('b')->ignore = false;
	EXPECT_EQ(mote_supervisor_restart_child(sup, "b", NULL, PATIENCE), 0);
	EXPECT(kids_wrote("b"));
	sup_stop(sup);
	/* b keeps the place in which it was named. */
	EXPECT(kids_wrote("DBA"));
}

static void child_calls(void)
{
	static const struct mote_child_spec a = KID("a"), again = KID("a"), t = KID("t", .restart = MOTE_TEMPORARY);
	mote_pid sup, pid, other;

	kids_reset();
	sup = sup_start(SUPERVISOR(.name = "calls"));
	EXPECT(counts_are(sup, 0, 0, 0, 0));
	EXPECT_EQ(mote_supervisor_start_child(sup, &a, &pid, PATIENCE), 0);
	EXPECT(kid_answers(pid, 'a'));
	EXPECT(mote_pid_equal(kid_pid(sup, "a"), pid));
	EXPECT_EQ(mote_supervisor_start_child(sup, &again, &other, PATIENCE), -EEXIST);	/* already_started */
	EXPECT(mote_pid_equal(pid, other));
	EXPECT_EQ(mote_supervisor_restart_child(sup, "a", &other, PATIENCE), -EBUSY);	/* running */
	EXPECT_EQ(mote_supervisor_delete_child(sup, "a", PATIENCE), -EBUSY);
	EXPECT(kids_wrote("a"));

	EXPECT_EQ(mote_supervisor_terminate_child(sup, "a", PATIENCE), 0);
	EXPECT(kids_wrote("A"));
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "a", PATIENCE), 0);
	EXPECT(counts_are(sup, 1, 0, 0, 1));
	EXPECT_EQ(mote_supervisor_start_child(sup, &again, &other, PATIENCE), -EEXIST);	/* already_present */
	EXPECT(!mote_pid_valid(other));
	EXPECT_EQ(mote_supervisor_restart_child(sup, "a", &other, PATIENCE), 0);
	EXPECT(kid_answers(other, 'a') && !mote_pid_equal(pid, other));
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "a", PATIENCE), 0);
	kid_plan('a')->fail = 1;
	EXPECT_EQ(mote_supervisor_restart_child(sup, "a", &other, PATIENCE), -ENOTTY);
	EXPECT_EQ(mote_supervisor_delete_child(sup, "a", PATIENCE), 0);
	EXPECT(counts_are(sup, 0, 0, 0, 0));

	EXPECT_EQ(mote_supervisor_start_child(sup, &t, &pid, PATIENCE), 0);
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "t", PATIENCE), 0);
	EXPECT_EQ(mote_supervisor_restart_child(sup, "t", NULL, PATIENCE), -ENOENT);
	kid_plan('a')->fail = 1;
	EXPECT_EQ(mote_supervisor_start_child(sup, &a, &pid, PATIENCE), -ENOTTY);
	EXPECT(!mote_pid_valid(pid));
	EXPECT(counts_are(sup, 0, 0, 0, 0));
	kid_plan('a')->ignore = true;
	kid_plan('t')->ignore = true;
	EXPECT_EQ(mote_supervisor_start_child(sup, &a, &pid, PATIENCE), MOTE_IGNORE);
	EXPECT_EQ(mote_supervisor_start_child(sup, &t, &pid, PATIENCE), MOTE_IGNORE);
	EXPECT(counts_are(sup, 1, 0, 0, 1));

	EXPECT_EQ(mote_supervisor_terminate_child(sup, "x", PATIENCE), -ENOENT);
	EXPECT_EQ(mote_supervisor_restart_child(sup, "x", NULL, PATIENCE), -ENOENT);
	EXPECT_EQ(mote_supervisor_delete_child(sup, "x", PATIENCE), -ENOENT);
	EXPECT_EQ(mote_dynamic_terminate_child(sup, pid, PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_dynamic_start_arg(sup, NULL, 0, NULL, PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_partition_resize(sup, 1, PATIENCE), -EOPNOTSUPP);
	sup_stop(sup);
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "a", PATIENCE), -ESRCH);
}

static void worker(void *arg)
{
	(void)arg;
	mote_sleep(MOTE_FOREVER);
}

static void which(void)
{
	static const struct mote_child_spec inner[] = { KID("x") };
	static const struct mote_supervisor_opts below = {
		.size = sizeof(below), .name = "below", CHILDREN(inner),
	};
	const struct mote_child_spec some[] = {
		{ .id = "first", .fn = worker }, { .supervisor = &below }, { .name = "third", .fn = worker },
	};
	struct mote_child_info *all;
	mote_pid sup;

	kids_reset();
	sup = sup_start(SUPERVISOR(CHILDREN(some)));
	EXPECT_EQ(mote_supervisor_which_children(sup, &all, PATIENCE), 3);
	EXPECT(!strcmp(all[0].id, "first") && all[0].type == MOTE_WORKER && mote_alive(all[0].pid));
	EXPECT(!strcmp(all[1].id, "below") && all[1].type == MOTE_SUPERVISOR &&
	       mote_pid_equal(all[1].pid, mote_whereis("below")));
	EXPECT(!strcmp(all[2].id, "third") && mote_pid_equal(all[2].pid, mote_whereis("third")));
	mote_free(all);
	EXPECT(counts_are(sup, 3, 3, 1, 2));
	EXPECT(counts_are(mote_whereis("below"), 1, 1, 0, 1));
	EXPECT_EQ(mote_supervisor_which_children(mote_whereis("third"), &all, mote_in_ms(1)), -ETIMEDOUT);
	sup_stop(sup);
	EXPECT(!mote_pid_valid(mote_whereis("below")));
}

static void childspec(void)
{
	char id[8] = "copied", name[8] = "called", arg[4] = "arg";
	struct mote_server_opts opts = { .size = sizeof(opts), .name = name, .stack_size = 32768 };
	struct mote_child_spec spec = {
		.id = id, .fn = worker, .arg = arg, .arg_size = sizeof(arg), .opts = &opts, .restart = MOTE_TRANSIENT,
		.shutdown_ms = MOTE_SHUTDOWN_BRUTAL,
	}, *got;
	mote_pid sup = sup_start(SUPERVISOR(.strategy = MOTE_ONE_FOR_ALL));

	EXPECT_EQ(mote_supervisor_start_child(sup, &spec, NULL, PATIENCE), 0);
	memset(id, 'x', 4);
	memset(name, 'x', 4);
	memset(arg, 'x', 3);
	EXPECT_EQ(mote_supervisor_get_childspec(sup, "xxxxed", &got, PATIENCE), -ENOENT);
	EXPECT_EQ(mote_supervisor_get_childspec(sup, "copied", &got, PATIENCE), 0);
	EXPECT(got && !strcmp(got->id, "copied") && !strcmp(got->opts->name, "called") && !strcmp(got->arg, "arg"));
	EXPECT(got && got->restart == MOTE_TRANSIENT && got->shutdown_ms == MOTE_SHUTDOWN_BRUTAL && got->fn == worker);
	EXPECT(got && got->opts->stack_size == 32768 && got->arg_size == sizeof(arg));
	/* Good for another supervisor. */
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "copied", PATIENCE), 0);
	EXPECT_EQ(mote_supervisor_delete_child(sup, "copied", PATIENCE), 0);
	EXPECT_EQ(mote_supervisor_start_child(sup, got, NULL, PATIENCE), 0);
	EXPECT(mote_pid_equal(mote_whereis("called"), kid_pid(sup, "copied")));
	mote_free(got);
	sup_stop(sup);
}

static int no_start(void *arg, mote_pid *pid)
{
	(void)arg;
	(void)pid;
	return -ENOTTY;
}

static void refused(void)
{
	static const struct mote_supervisor_opts below = { .size = sizeof(below) };
	static const struct mote_server_opts named = { .size = sizeof(named), .name = "n" };
	static const struct { struct mote_child_spec spec; int err; } table[] = {
		{ KID("a"), 0 },
		{ { .id = "a" }, -EINVAL },
		{ { .fn = worker }, -EINVAL },
		{ { .id = "a", .fn = worker, .start = no_start }, -EINVAL },
		{ { .id = "a", .fn = worker, .supervisor = &below }, -EINVAL },
		{ { .supervisor = &below }, -EINVAL },
		{ KID("a", .restart = 3), -EINVAL },
		{ KID("a", .restart = -1), -EINVAL },
		{ KID("a", .type = 2), -EINVAL },
		{ KID("a", .shutdown_ms = -3), -EINVAL },
		{ KID("a", .significant = true), -EINVAL },
		{ { .id = "a", .fn = worker, .name = "b", .opts = &named }, -EINVAL },
		{ { .id = "a", .fn = worker, .name = "" }, -EINVAL },
		{ { .id = "a", .start = no_start, .name = "a" }, -EINVAL },
		{ { .id = "a", .fn = worker, .arg_size = 4 }, -EINVAL },
	};
	static const struct mote_child_spec twice[] = { KID("a"), KID("b"), KID("a") };
	struct mote_child_spec significant = KID("a", .significant = true, .restart = MOTE_TRANSIENT);
	mote_pid sup = sup_start(SUPERVISOR(.name = "refuses")), pid;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		int err = mote_supervisor_check_childspecs(&table[i].spec, 1, -1);

		if (err != table[i].err)
			test_note("row %zu", i);
		EXPECT_EQ(err, table[i].err);
		if (!table[i].err)
			continue;
		EXPECT_EQ(mote_supervisor_start_child(sup, &table[i].spec, NULL, PATIENCE), err);
		EXPECT_EQ(mote_supervisor_start_link(SUPERVISOR(.children = &table[i].spec, .nr_children = 1), &pid),
			  err);
	}
	EXPECT_EQ(mote_supervisor_check_childspecs(twice, 2, -1), 0);
	EXPECT_EQ(mote_supervisor_check_childspecs(twice, 3, -1), -ENOTUNIQ);
	EXPECT_EQ(mote_supervisor_start_link(SUPERVISOR(CHILDREN(twice)), &pid), -ENOTUNIQ);
	EXPECT_EQ(mote_supervisor_check_childspecs(&significant, 1, -1), 0);
	EXPECT_EQ(mote_supervisor_check_childspecs(&significant, 1, MOTE_AUTO_ALL_SIGNIFICANT), 0);
	EXPECT_EQ(mote_supervisor_check_childspecs(&significant, 1, MOTE_AUTO_NEVER), -EINVAL);
	EXPECT_EQ(mote_supervisor_start_child(sup, &significant, NULL, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_supervisor_start_link(SUPERVISOR(.strategy = 3), &pid), -EINVAL);
	EXPECT_EQ(mote_supervisor_start_link(SUPERVISOR(.auto_shutdown = 3), &pid), -EINVAL);
	EXPECT_EQ(mote_supervisor_start_link(SUPERVISOR(.backoff = { .first_ms = -1 }), &pid), -EINVAL);
	EXPECT_EQ(mote_supervisor_start_link(&(struct mote_supervisor_opts){ 0 }, &pid), -EINVAL);
	EXPECT_EQ(mote_supervisor_start_link(NULL, &pid), -EINVAL);
	EXPECT(counts_are(sup, 0, 0, 0, 0));
	sup_stop(sup);
	EXPECT(mailbox_is_empty());
}

static int start_kid(void *arg, mote_pid *pid)
{
	return mote_server_start_link(&kid.ops, arg, &kid_opts, pid);
}

static void says_its_argument(void *arg)
{
	mote_send_name("test", 77, arg, 4);
	mote_sleep(MOTE_FOREVER);
}

static void kinds(void)
{
	static const struct mote_child_spec inner[] = { KID("s") };
	static const struct mote_supervisor_opts below = { .size = sizeof(below), CHILDREN(inner) };
	static const struct mote_dynamic_opts dynamic = { .size = sizeof(dynamic), .name = "dyn" };
	static const struct mote_child_spec part = KID("p");
	static const struct mote_partition_opts partition = {
		.size = sizeof(partition), .name = "part", .child = &part, .partitions = 2,
	};
	const struct mote_child_spec some[] = {
		{ .id = "start", .start = start_kid, .arg = "a" },
		{ .id = "fn", .fn = says_its_argument, .arg = "fn!" },
		{ .id = "copy", .fn = says_its_argument, .arg = "cp!", .arg_size = 4, .name = "fn child" },
		{ .id = "below", .supervisor = &below },
		{ .dynamic = &dynamic },
		{ .partition = &partition },
		{ .id = "server", .server = &kid.ops, .arg = "z", .arg_size = 2, .name = "server child",
		  .restart = MOTE_TEMPORARY },
	};
	struct mote_msg *m;
	mote_pid sup;

	kids_reset();
	mote_register("test", mote_self());
	sup = sup_start(SUPERVISOR(CHILDREN(some)));
	EXPECT(kids_wrote("asppz"));
	for (int i = 0; i < 2; i++) {
		m = mote_receive_type(77, PATIENCE);
		EXPECT(m && (!strcmp(m->data, "fn!") || !strcmp(m->data, "cp!")));
		mote_msg_free(m);
	}
	EXPECT(mote_pid_equal(mote_whereis("fn child"), kid_pid(sup, "copy")));
	EXPECT(kid_answers(mote_whereis("server child"), 'z'));
	EXPECT(counts_are(sup, 7, 7, 3, 4));
	EXPECT(counts_are(mote_whereis("dyn"), 0, 0, 0, 0));
	EXPECT(counts_are(mote_whereis("part"), 2, 2, 0, 2));
	sup_stop(sup);
	EXPECT(kids_wrote("PPSA"));
	EXPECT(!mote_pid_valid(mote_whereis("dyn")) && !mote_pid_valid(mote_whereis("fn child")));
	EXPECT(mailbox_is_empty());
}

static void programs(void)
{
	static const char *const sleeps[] = { "sleep", "1000", NULL }, *const fails[] = { "sh", "-c", "exit 3", NULL },
		*const nothing[] = { "/nowhere/at/all", NULL };
	static const struct mote_program asleep = { .size = sizeof(asleep), .argv = sleeps },
		failing = { .size = sizeof(failing), .argv = fails },
		missing = { .size = sizeof(missing), .argv = nothing };
	static const struct mote_child_spec some[] = { { .id = "asleep", .program = &asleep } },
		fail = { .id = "failing", .program = &failing, .restart = MOTE_TEMPORARY },
		miss = { .id = "missing", .program = &missing };
	mote_pid sup = sup_start(SUPERVISOR(CHILDREN(some))), pid = kid_pid(sup, "asleep"), now;
	mote_ref ref;

	EXPECT(counts_are(sup, 1, 1, 0, 1));
	put_down(pid);
	now = kid_pid(sup, "asleep");
	EXPECT(mote_alive(now) && !mote_pid_equal(pid, now));
	EXPECT_EQ(mote_supervisor_start_child(sup, &miss, NULL, PATIENCE), -ENOENT);
	EXPECT_EQ(mote_supervisor_start_child(sup, &fail, &pid, PATIENCE), 0);
	ref = mote_monitor(pid);
	mote_msg_free(mote_receive_ref(ref, PATIENCE));
	EXPECT(counts_are(sup, 1, 1, 0, 1));
	sup_stop(sup);
	EXPECT(!mote_alive(now));
}

/* A child that traps exits, and does not care. */
static _Atomic int stubborn_ends;

static void stubborn_defer(void *arg)
{
	(void)arg;
	atomic_fetch_add(&stubborn_ends, 1);
}

static void stubborn(void *arg)
{
	mote_defer(stubborn_defer, NULL);
	mote_send_name("test", 78, NULL, 0);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		/* With patience it ends. */
		if (m->type == MOTE_MSG_EXIT && arg) {
			mote_sleep(mote_in_ms(100));
			mote_exit(*(const char *)arg == 's' ? MOTE_REASON_SHUTDOWN : MOTE_REASON_NORMAL);
		}
		mote_msg_free(m);
	}
}

static void how_it_ended(int64_t shutdown_ms, void *arg, uint32_t kind)
{
	static const struct mote_server_opts traps = { .size = sizeof(traps), .flags = MOTE_TRAP_EXIT };
	const struct mote_child_spec spec = {
		.id = "stubborn", .fn = stubborn, .arg = arg, .opts = &traps, .shutdown_ms = shutdown_ms };
	mote_pid sup = sup_start(SUPERVISOR(.children = &spec, .nr_children = 1)), pid = kid_pid(sup, "stubborn");
	mote_ref ref = mote_monitor(pid);

	/* It traps and has its cleanup when it has said so. */
	EXPECT(got_type(78));
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "stubborn", PATIENCE), 0);
	EXPECT(!mote_alive(pid));
	EXPECT(got_down(ref, pid, kind));
	sup_stop(sup);
}

static void shutdowns(void)
{
	mote_register("test", mote_self());
	atomic_store(&stubborn_ends, 0);
	how_it_ended(MOTE_SHUTDOWN_BRUTAL, "s", MOTE_KILLED);
	how_it_ended(20, NULL, MOTE_KILLED);
	how_it_ended(60000, "s", MOTE_SHUTDOWN);
	how_it_ended(MOTE_SHUTDOWN_INFINITY, "s", MOTE_SHUTDOWN);
	how_it_ended(MOTE_SHUTDOWN_INFINITY, "n", MOTE_NORMAL);
	how_it_ended(MOTE_SHUTDOWN_DEFAULT, "s", MOTE_SHUTDOWN);
	EXPECT_EQ(atomic_load(&stubborn_ends), 6);
}

static void sys(void)
{
	mote_pid sup = sup_start(SUPERVISOR(.strategy = MOTE_REST_FOR_ONE, CHILDREN(abc)));
	struct mote_msg *text;
	size_t size = 0;

	kids_reset();
	EXPECT_EQ(mote_sys_get_status(sup, &text, PATIENCE), 0);
	EXPECT(text && strstr(text->data, "rest_for_one, 3 children, 3 running"));
	mote_msg_free(text);
	EXPECT_EQ(mote_sys_get_state(sup, NULL, &size, PATIENCE), -EOPNOTSUPP);
	/* A suspended one does not restart anything yet. */
	EXPECT_EQ(mote_sys_suspend(sup, PATIENCE), 0);
	EXPECT_EQ(mote_sys_resume(sup, PATIENCE), 0);
	EXPECT(kid_end(kid_pid(sup, "c"), OOPS));
	EXPECT(kid_answers(kid_pid(sup, "c"), 'c'));
	sup_stop(sup);
}

#define MANY 10000

static void many(void)
{
	unsigned long n = test_crowd(MANY);
	struct mote_child_spec *specs = calloc(n, sizeof(*specs));
	char (*ids)[32] = calloc(n, sizeof(*ids));
	struct mote_child_info *all;
	mote_pid sup;

	for (unsigned long i = 0; i < n; i++) {
		snprintf(ids[i], sizeof(ids[i]), "kid %lu", i);
		specs[i] = (struct mote_child_spec)KID("m");
		specs[i].id = ids[i];
	}
	kids_reset();
	sup = sup_start(SUPERVISOR(.children = specs, .nr_children = n));
	free(specs);
	EXPECT(counts_are(sup, n, n, 0, n));
	EXPECT_EQ(mote_supervisor_which_children(sup, &all, PATIENCE), (int)n);
	EXPECT(!strcmp(all[n - 1].id, ids[n - 1]) && kid_answers(all[n - 1].pid, 'm'));
	EXPECT(mote_pid_equal(kid_pid(sup, ids[n / 2]), all[n / 2].pid));
	mote_free(all);
	EXPECT(kid_end(kid_pid(sup, ids[n / 2]), OOPS));
	EXPECT(kid_answers(kid_pid(sup, ids[n / 2]), 'm'));
	sup_stop(sup);
	EXPECT_EQ(kid_trace_length, 2 * n + 2);
	free(ids);
}

int main(void)
{
	selftest_process("started in order, stopped in reverse", order);
	selftest_process("not linked; a taken name", unlinked);
	selftest_process("a start that fails undoes those before", start_fails);
	selftest_process("children that ignore", start_ignores);
	selftest_process("start, terminate, restart, delete", child_calls);
	selftest_process("which and count", which);
	selftest_process("specifications are copies", childspec);
	selftest_process("what is refused", refused);
	selftest_process("all kinds of children", kinds);
	selftest_process("programs", programs);
	selftest_process("shutdown: brutal, a time, infinity", shutdowns);
	selftest_process("sys", sys);
	selftest_process("thousands", many);
	return selftest_done();
}
