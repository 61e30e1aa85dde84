// SPDX-License-Identifier: MIT OR GPL-2.0
/* Supervisors among children, parents and strangers that do not behave. */
#include "otp_kids.h"

#include <mote/log.h>
#include <pthread.h>

/* --- children */

static int start_unlinked(void *arg, mote_pid *pid)
{
	return mote_server_start(&kid.ops, arg, NULL, pid);
}

static int start_dead(void *arg, mote_pid *pid)
{
	int err = mote_server_start(&kid.ops, arg, &kid_opts, pid);

	put_down(*pid);
	return err;
}

static int start_nobody(void *arg, mote_pid *pid)
{
	(void)arg;
	(void)pid;
	return 0;
}

static int start_self(void *arg, mote_pid *pid)
{
	(void)arg;
	*pid = mote_self();
	return 0;
}

static int start_nonsense(void *arg, mote_pid *pid)
{
	(void)arg;
	(void)pid;
	return 17;
}

static void not_linked(void)
{
	static const struct mote_child_spec a = { .id = "a", .start = start_unlinked, .arg = "a" };
	mote_pid sup, pid;
	mote_ref ref;

	kids_reset();
	sup = sup_start(SUPERVISOR(.children = &a, .nr_children = 1));
	pid = kid_pid(sup, "a");
	/* Its end is noticed all the same, and it ends with the supervisor. */
	EXPECT(kid_end(pid, OOPS));
	EXPECT(kid_answers(kid_pid(sup, "a"), 'a'));
	pid = kid_pid(sup, "a");
	ref = mote_monitor(pid);
	mote_exit_pid(sup, MOTE_REASON_KILL);
	EXPECT(got_exit(sup, MOTE_KILLED));
	EXPECT(got_down(ref, pid, MOTE_KILLED));
}

static void no_child_at_all(void)
{
	static const struct mote_child_spec nobody = { .id = "n", .start = start_nobody },
		self = { .id = "s", .start = start_self }, nonsense = { .id = "x", .start = start_nonsense },
		dead = { .id = "d", .start = start_dead, .arg = "d", .restart = MOTE_TEMPORARY };
	mote_pid sup, pid;

	kids_reset();
	sup = sup_start(SUPERVISOR(.max_restarts = 1));
	EXPECT_EQ(mote_supervisor_start_child(sup, &nobody, &pid, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_supervisor_start_child(sup, &self, &pid, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_supervisor_start_child(sup, &nonsense, &pid, PATIENCE), -EINVAL);
	EXPECT(counts_are(sup, 0, 0, 0, 0));
	/* Started, and ended: noproc. */
	EXPECT_EQ(mote_supervisor_start_child(sup, &dead, &pid, PATIENCE), 0);
	EXPECT(!mote_alive(pid));
	for (int i = 0; i < 1000 && !counts_are(sup, 0, 0, 0, 0); i++)
		mote_sleep(mote_in_ms(1));
	sup_stop(sup);
}

static void unlinks_itself(void)
{
	static const struct mote_child_spec ab[] = { KID("a"), KID("b") };
	mote_pid sup, a, b;

	kids_reset();
	sup = sup_start(SUPERVISOR(CHILDREN(ab)));
	a = kid_pid(sup, "a");
	b = kid_pid(sup, "b");
	mote_cast(a, KID_UNLINK, &sup, sizeof(sup));
	mote_cast(b, KID_UNLINK, &sup, sizeof(sup));
	EXPECT(kid_answers(a, 'a') && kid_answers(b, 'b'));
	/* One ends, and the supervisor does not know; it counts as what it is, though, and stops as others do. */
	EXPECT(kid_end(a, OOPS));
	EXPECT(mote_pid_equal(kid_pid(sup, "a"), a));
	EXPECT(counts_are(sup, 2, 1, 0, 2));
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "a", PATIENCE), 0);
	EXPECT_EQ(mote_supervisor_restart_child(sup, "a", NULL, PATIENCE), 0);
	sup_stop(sup);
	EXPECT(!mote_alive(b));
	EXPECT(kids_wrote("abAaBA"));
}

static void at_once(void *arg)
{
	(void)arg;
}

static void ends_at_once(void)
{
	const struct mote_child_spec some[] = {
		{ .id = "p", .fn = at_once }, { .id = "t", .fn = at_once, .restart = MOTE_TEMPORARY }, KID("a"),
	};
	mote_pid sup;

	kids_reset();
	mote_trap_exit(true);
	/* A permanent one that always ends takes the supervisor along, after it was started in full. */
	EXPECT_EQ(mote_supervisor_start_link(SUPERVISOR(CHILDREN(some)), &sup), 0);
	EXPECT(got_exit(sup, MOTE_SHUTDOWN));
	EXPECT(kids_wrote("aA"));
	EXPECT_EQ(mote_supervisor_start_link(SUPERVISOR(.children = some + 1, .nr_children = 2), &sup), 0);
	for (int i = 0; i < 1000 && kid_pid(sup, "t").serial; i++)
		mote_sleep(mote_in_ms(1));
	EXPECT(counts_are(sup, 1, 1, 0, 1));
	sup_stop(sup);
}

static int start_crash(void *arg, mote_pid *pid)
{
	(void)pid;
	*(volatile int *)arg = 1;
	return 0;
}

static void start_crashes(void)
{
	static const struct mote_child_spec a[] = { KID("a") }, crash = { .id = "c", .start = start_crash };
	mote_pid sup, pid;

	if (SANITIZED) {
		selftest_skip("a sanitizer ends the program at a crash");
		return;
	}
	kids_reset();
	sup = sup_start(SUPERVISOR(CHILDREN(a)));
	/* It ran in the supervisor, which ends with it, and stops the others. */
	EXPECT_EQ(mote_supervisor_start_child(sup, &crash, &pid, PATIENCE), -EPIPE);
	EXPECT(got_exit(sup, MOTE_SIGNAL));
	EXPECT(kids_wrote("aA"));
}

/* --- parents */

static void parent(void *arg)
{
	static const struct mote_child_spec ab[] = { KID("a"), KID("b") };
	mote_pid sup;

	EXPECT_EQ(mote_supervisor_start_link(SUPERVISOR(.name = "its", CHILDREN(ab)), &sup), 0);
	mote_send_name("test", 5, &sup, sizeof(sup));
	mote_sleep(MOTE_FOREVER);
	(void)arg;
}

static void parent_ends(uint32_t kind)
{
	struct mote_reason why = { .kind = kind };
	struct mote_msg *m;
	mote_pid pid, sup;
	mote_ref ref;

	kids_reset();
	pid = mote_spawn(parent, NULL);
	m = mote_receive_type(5, PATIENCE);
	sup = *(mote_pid *)m->data;
	mote_msg_free(m);
	ref = mote_monitor(sup);
	mote_exit_pid(pid, why);
	EXPECT(got_down(ref, sup, kind == MOTE_KILL ? MOTE_KILLED : kind));
	EXPECT(kids_wrote("abBA"));
}

static void parents_end(void)
{
	mote_register("test", mote_self());
	parent_ends(MOTE_SHUTDOWN);
	parent_ends(MOTE_CUSTOM);
	parent_ends(MOTE_KILL);
}

static void killed(void)
{
	static const struct mote_child_spec traps[] = { KID("a"), KID("b") };
	static const struct mote_supervisor_opts below = { .size = sizeof(below), .name = "below", CHILDREN(traps) };
	static const struct mote_child_spec top[] = {
		{ .id = "below", .supervisor = &below }, { .id = "p", .fn = sink },
	};
	mote_pid sup, p, a, inner;
	mote_ref refs[3];

	kids_reset();
	sup = sup_start(SUPERVISOR(CHILDREN(top)));
	inner = kid_pid(sup, "below");
	p = kid_pid(sup, "p");
	a = kid_pid(inner, "a");
	refs[0] = mote_monitor(inner);
	refs[1] = mote_monitor(p);
	refs[2] = mote_monitor(a);
	mote_exit_pid(sup, MOTE_REASON_KILL);
	EXPECT(got_exit(sup, MOTE_KILLED));
	/* By their links: one that does not trap at once, one that does by way of its last words. */
	EXPECT(got_down(refs[0], inner, MOTE_KILLED));
	EXPECT(got_down(refs[1], p, MOTE_KILLED));
	EXPECT(got_down(refs[2], a, MOTE_SHUTDOWN));
	EXPECT(kids_wrote("abBA"));
}

/* A parent that has no patience with a supervisor that waits for a child's start. */
static void ask_for_stuck(void *arg)
{
	static const struct mote_child_spec s = { .id = "s", .server = &kid.ops, .arg = "s" };
	mote_pid sup = mote_whereis(arg), pid;

	mote_supervisor_start_child(sup, &s, &pid, PATIENCE);
}

static void stopped_in_a_start(void)
{
	static const struct mote_child_spec a[] = { KID("a") };
	static const struct mote_supervisor_opts below = { .size = sizeof(below), .name = "below", CHILDREN(a) };
	static const struct mote_child_spec top[] = { { .id = "below", .supervisor = &below, .shutdown_ms = 50 } };
	mote_pid sup, asks, inner, before, stuck;
	mote_ref ref, a_ref, stuck_ref;

	kids_reset();
	sup = sup_start(SUPERVISOR(CHILDREN(top)));
	inner = mote_whereis("below");
	kid_plan('s')->stuck = true;
	a_ref = mote_monitor(kid_pid(inner, "a"));
	before = kid_pid(inner, "a");
	asks = mote_spawn_monitor(ask_for_stuck, "below", &ref);
	while (!mote_pid_valid(stuck = mote_whereis("stuck")))
		mote_sleep(mote_in_ms(1));
	stuck_ref = mote_monitor(stuck);
	EXPECT_EQ(mote_supervisor_terminate_child(sup, "below", PATIENCE), 0);
	EXPECT(!mote_alive(inner));
	EXPECT(got_down(ref, asks, MOTE_NORMAL));
	EXPECT(got_down(a_ref, before, MOTE_KILLED));
	mote_msg_free(mote_receive_ref(stuck_ref, PATIENCE));
	EXPECT(!mote_alive(stuck));
	sup_stop(sup);
}

/* --- strangers */

static void pretends(void *arg)
{
	mote_exit_pid(*(mote_pid *)arg, OOPS);
}

static void strangers(void)
{
	static const struct mote_child_spec a[] = { KID("a") };
	mote_pid sup, pid, stranger;
	mote_ref ref;

	kids_reset();
	sup = sup_start(SUPERVISOR(.max_restarts = MOTE_RESTARTS_NONE, CHILDREN(a)));
	pid = kid_pid(sup, "a");
	stranger = mote_spawn_monitor(pretends, &sup, &ref);
	EXPECT(got_down(ref, stranger, MOTE_NORMAL));
	/* Neither what looks like its own messages, nor what is none of its business. */
	mote_send(sup, MOTE_MSG_SYSTEM + 0x20c, &pid, sizeof(pid));
	mote_send(sup, 1, "x", 1);
	mote_cast(sup, 1, "x", 1);
	mote_send(sup, MOTE_MSG_SYSTEM + 0x20d, NULL, 0);
	EXPECT_EQ(mote_call(sup, 1, NULL, 0, NULL, PATIENCE), 0);
	for (uint32_t type = 0x200; type < 0x210; type++) {
		EXPECT_EQ(mote_call(sup, MOTE_MSG_SYSTEM + type, "?", 1, NULL, PATIENCE), 0);
		EXPECT_EQ(mote_call(sup, MOTE_MSG_SYSTEM + type, NULL, 0, NULL, PATIENCE), 0);
	}
	EXPECT(mote_pid_equal(kid_pid(sup, "a"), pid));
	EXPECT(kid_answers(pid, 'a'));
	sup_stop(sup);
	EXPECT(kids_wrote("aA"));
}

/* --- reports */

static char reported[8192];
static pthread_mutex_t reported_lock = PTHREAD_MUTEX_INITIALIZER;

static void note_report(int level, const char *text, void *arg)
{
	size_t length;

	(void)arg;
	pthread_mutex_lock(&reported_lock);
	length = strlen(reported);
	snprintf(reported + length, sizeof(reported) - length, "%d %s\n", level, text);
	pthread_mutex_unlock(&reported_lock);
}

static bool was_reported(const char *a, const char *b)
{
	bool found = false;
	char *line, *end;

	pthread_mutex_lock(&reported_lock);
	for (line = reported; !found && (end = strchr(line, '\n')); line = end + 1) {
		*end = 0;
		found = strstr(line, a) && strstr(line, b);
		*end = '\n';
	}
	pthread_mutex_unlock(&reported_lock);
	return found;
}

static void reports(void)
{
	static const struct mote_server_opts traps = { .size = sizeof(traps), .flags = MOTE_TRAP_EXIT };
	const struct mote_child_spec some[] = {
		KID("a"), KID("b"), { .id = "deaf", .fn = sink, .opts = &traps, .shutdown_ms = 10 },
	};
	mote_pid sup;

	kids_reset();
	EXPECT_EQ(mote_log_set_level(MOTE_LOG_INFO), 0);
	sup = sup_start(SUPERVISOR(.name = "boss", .max_restarts = 2, CHILDREN(some)));
	kid_plan('b')->fail = 5;
	EXPECT(kid_end(kid_pid(sup, "a"), OOPS));
	EXPECT(kid_end(kid_pid(sup, "b"), OOPS));
	EXPECT(got_exit(sup, MOTE_SHUTDOWN));
	EXPECT(was_reported("Supervisor: boss. Started", "id=deaf"));
	EXPECT(was_reported("Supervisor: boss. Context: child_terminated. Reason: custom 7", "id=a"));
	EXPECT(was_reported("Supervisor: boss. Context: start_error. Reason: error 25", "id=b"));
	EXPECT(was_reported("Supervisor: boss. Context: shutdown. ", "id=b"));
	EXPECT(was_reported("Supervisor: boss. Context: shutdown_error. Reason: killed", "id=deaf"));
	/* Those that stopped as told are no news. */
	EXPECT(!was_reported("Context: shutdown_error", "id=a"));
	mote_log_set_level(MOTE_LOG_NOTICE);
}

int main(void)
{
	struct mote_opts opts = { .size = sizeof(opts), .log = note_report };

	selftest_process("a child that is not linked", not_linked);
	selftest_process("starts that start nothing", no_child_at_all);
	selftest_process("a child that unlinks itself", unlinks_itself);
	selftest_process("children that end at once", ends_at_once);
	selftest_process("a start that crashes", start_crashes);
	selftest_process("its parent ends", parents_end);
	selftest_process("it is killed", killed);
	selftest_process("it is stopped while a child's start hangs", stopped_in_a_start);
	selftest_process("strangers", strangers);
	selftest_process_opts("reports", reports, &opts);
	return selftest_done();
}
