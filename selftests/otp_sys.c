// SPDX-License-Identifier: MIT OR GPL-2.0
/* Looking into servers while they run: the rows of Erlang's sys. */
#include "proc.h"

#include <mote/server.h>
#include <mote/sys.h>

enum { SET = 1, GET, TOLD, SLEEP };

struct box {
	long value;
	long sets;
};

static void box_call(struct box *b, struct mote_from from, const struct mote_msg *m)
{
	if (m->type == SET) {
		memcpy(&b->value, m->data, sizeof(b->value));
		b->sets++;
	}
	mote_reply(from, m->type, &b->value, sizeof(b->value));
}

static void box_cast(struct box *b, const struct mote_msg *m)
{
	if (m->type == SLEEP)
		mote_sleep(mote_in_ms(50));
	b->sets++;
}

static _Atomic int last_words;

static void box_terminate(struct box *b, const struct mote_reason *why)
{
	(void)b;
	(void)why;
	atomic_fetch_add(&last_words, 1);
}

static int box_format(const struct box *b, char *buf, size_t size)
{
	return snprintf(buf, size, "the value is %ld", b->value);
}

MOTE_SERVER(box, struct box,
	.handle_call = box_call,
	.handle_cast = box_cast,
	.terminate = box_terminate,
	.format_status = box_format,
	.version = 1);

static mote_pid start(unsigned int flags, bool link)
{
	struct mote_server_opts opts = { .size = sizeof(opts), .flags = flags };
	mote_pid pid;

	EXPECT_EQ(link ? mote_server_start_link(&box.ops, NULL, &opts, &pid) :
			 mote_server_start(&box.ops, NULL, &opts, &pid), 0);
	return pid;
}

static long ask(mote_pid pid, uint32_t type, long value)
{
	struct mote_msg *m = NULL;
	long answer = -1;

	EXPECT_EQ(mote_call(pid, type, &value, sizeof(value), &m, PATIENCE), 0);
	if (m && m->size >= sizeof(answer))
		memcpy(&answer, m->data, sizeof(answer));
	mote_msg_free(m);
	return answer;
}

static void states(void)
{
	mote_pid pid = start(0, false);
	struct box b = { 0 };
	size_t size = sizeof(b);

	ask(pid, SET, 17);
	EXPECT_EQ(mote_sys_get_state(pid, &b, &size, PATIENCE), 0);
	EXPECT_EQ(size, sizeof(b));
	EXPECT_EQ(b.value, 17);
	EXPECT_EQ(b.sets, 1);
	b.value = 0;
	size = 4;
	EXPECT_EQ(mote_sys_get_state(pid, &b, &size, PATIENCE), 0);
	EXPECT_EQ(size, sizeof(b));
	EXPECT_EQ(b.value, 17);
	b.value = 23;
	EXPECT_EQ(mote_sys_replace_state(pid, &b, sizeof(b) - 1, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_sys_replace_state(pid, &b, sizeof(b), PATIENCE), 0);
	EXPECT_EQ(ask(pid, GET, 0), 23);
	put_down(pid);
	EXPECT_EQ(mote_sys_get_state(pid, &b, &size, PATIENCE), -ESRCH);
}

static bool status_says(mote_pid pid, const char *what)
{
	struct mote_msg *m = NULL;
	bool ok = !mote_sys_get_status(pid, &m, PATIENCE) && strstr(m->data, what);

	if (!ok && m)
		test_note("%s", (char *)m->data);
	mote_msg_free(m);
	return ok;
}

static void statuses(void)
{
	mote_pid pid = start(0, true);
	char parent[64];

	snprintf(parent, sizeof(parent), "parent " MOTE_PID_FMT, MOTE_PID_ARG(mote_self()));
	ask(pid, SET, 99);
	EXPECT(status_says(pid, "the value is 99"));
	EXPECT(status_says(pid, parent));
	EXPECT(status_says(pid, "running"));
	EXPECT_EQ(mote_sys_suspend(pid, PATIENCE), 0);
	EXPECT(status_says(pid, "suspended"));
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), 0);
}

static void suspends(void)
{
	mote_pid pid = start(0, false);
	mote_ref ref;
	struct mote_msg *m;
	struct box b;
	size_t size = sizeof(b);

	EXPECT_EQ(mote_sys_suspend(pid, PATIENCE), 0);
	EXPECT_EQ(mote_sys_suspend(pid, PATIENCE), 0);
	mote_cast(pid, TOLD, NULL, 0);
	ref = mote_request(pid, GET, NULL, 0);
	EXPECT(!mote_receive_ref(ref, mote_in_ms(20)));
	EXPECT_EQ(mote_sys_get_state(pid, &b, &size, PATIENCE), 0);
	EXPECT_EQ(b.sets, 0);
	EXPECT_EQ(mote_sys_resume(pid, PATIENCE), 0);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(m && m->type == GET);
	mote_msg_free(m);
	EXPECT_EQ(mote_sys_get_state(pid, &b, &size, PATIENCE), 0);
	EXPECT_EQ(b.sets, 1);
	EXPECT_EQ(mote_sys_resume(pid, PATIENCE), 0);
	atomic_store(&last_words, 0);
	EXPECT_EQ(mote_sys_suspend(pid, PATIENCE), 0);
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_SHUTDOWN, PATIENCE), 0);
	EXPECT_EQ(atomic_load(&last_words), 1);
}

static void orphan_parent(void *arg)
{
	*(mote_pid *)arg = start(MOTE_TRAP_EXIT, true);
	mote_sys_suspend(*(mote_pid *)arg, PATIENCE);
	mote_exit(MOTE_REASON_SHUTDOWN);
}

/* A suspended server still follows its parent. */
static void suspended_orphan(void)
{
	mote_pid pid = MOTE_NOBODY, boss;
	mote_ref ref;

	atomic_store(&last_words, 0);
	boss = mote_spawn_monitor(orphan_parent, &pid, &ref);
	EXPECT(got_down(ref, boss, MOTE_SHUTDOWN));
	ref = mote_monitor(pid);
	mote_msg_free(mote_receive_ref(ref, PATIENCE));
	EXPECT(!mote_alive(pid));
	EXPECT_EQ(atomic_load(&last_words), 1);
}

static void statistics(void)
{
	struct mote_sys_statistics s = { .size = sizeof(s) };
	mote_pid pid = start(0, false);

	EXPECT_EQ(mote_sys_get_statistics(pid, &s, PATIENCE), -ENOENT);
	ask(pid, GET, 0);
	EXPECT_EQ(mote_sys_statistics(pid, true, PATIENCE), 0);
	ask(pid, GET, 0);
	mote_cast(pid, TOLD, NULL, 0);
	mote_cast(pid, TOLD, NULL, 0);
	EXPECT_EQ(mote_sys_get_statistics(pid, &s, PATIENCE), 0);
	EXPECT_EQ(s.calls, 1);
	EXPECT_EQ(s.casts, 2);
	EXPECT_EQ(s.infos, 0);
	EXPECT_EQ(s.messages_in, 3);
	EXPECT(s.since_ns <= s.now_ns);
	EXPECT_EQ(mote_sys_statistics(pid, false, PATIENCE), 0);
	EXPECT_EQ(mote_sys_get_statistics(pid, &s, PATIENCE), -ENOENT);
	s.size = 1;
	EXPECT_EQ(mote_sys_get_statistics(pid, &s, PATIENCE), -EINVAL);
	put_down(pid);
}

struct seen {
	mote_pid pid;
	int events, kinds[4];
};

static void see(const struct mote_sys_event *e, void *arg)
{
	struct seen *seen = arg;

	EXPECT(mote_pid_equal(e->pid, mote_self()));
	seen->pid = e->pid;
	seen->kinds[e->kind]++;
	seen->events++;
}

static void traces(void)
{
	struct seen seen = { 0 };
	mote_pid pid = start(0, false);

	EXPECT_EQ(mote_sys_trace(pid, see, &seen, PATIENCE), 0);
	ask(pid, GET, 0);
	mote_cast(pid, TOLD, NULL, 0);
	EXPECT_EQ(mote_sys_trace(pid, NULL, NULL, PATIENCE), 0);
	ask(pid, GET, 0);
	EXPECT_EQ(seen.events, 2);
	EXPECT_EQ(seen.kinds[MOTE_SYS_CALL], 1);
	EXPECT_EQ(seen.kinds[MOTE_SYS_CAST], 1);
	EXPECT(mote_pid_equal(seen.pid, pid));
	put_down(pid);
}

struct box2 {
	char name[100];
	long doubled;
};

static int box2_change(struct box2 *b, const void *old_state, unsigned int old_version, void *arg)
{
	const struct box *old = old_state;

	if (old_version != 1)
		return -EPROTO;
	if (arg)
		return -ENOTTY;
	EXPECT_EQ(b->name[99], 0);
	strcpy(b->name, "second");
	b->doubled = old->value * 2;
	return 0;
}

static void box2_call(struct box2 *b, struct mote_from from, const struct mote_msg *m)
{
	mote_reply(from, m->type, &b->doubled, sizeof(b->doubled));
}

MOTE_SERVER(box2, struct box2, .handle_call = box2_call, .code_change = box2_change, .version = 2);

static void code_changes(void)
{
	mote_pid pid = start(0, false);
	struct box2 b = { .name = "" };
	size_t size = sizeof(b);

	ask(pid, SET, 21);
	EXPECT_EQ(mote_sys_change_code(pid, &box2.ops, NULL, PATIENCE), -EBUSY);
	EXPECT_EQ(mote_sys_change_code(pid, &box.ops, NULL, PATIENCE), -EINVAL);
	EXPECT_EQ(mote_sys_suspend(pid, PATIENCE), 0);
	EXPECT_EQ(mote_sys_change_code(pid, &box2.ops, pid.serial ? &pid : NULL, PATIENCE), -ENOTTY);
	EXPECT_EQ(mote_sys_change_code(pid, &box2.ops, NULL, PATIENCE), 0);
	EXPECT_EQ(mote_sys_change_code(pid, &box2.ops, NULL, PATIENCE), -EPROTO);
	EXPECT_EQ(mote_sys_resume(pid, PATIENCE), 0);
	EXPECT_EQ(ask(pid, GET, 0), 42);
	EXPECT_EQ(mote_sys_get_state(pid, &b, &size, PATIENCE), 0);
	EXPECT_EQ(size, sizeof(b));
	EXPECT(!strcmp(b.name, "second"));
	put_down(pid);
}

static void opaque(void)
{
	static const struct mote_server_ops ops = { .size = sizeof(ops), .state_size = 8, .flags = MOTE_SERVER_OPAQUE };
	mote_pid pid;
	char state[8];
	size_t size = sizeof(state);

	EXPECT_EQ(mote_server_start(&ops, NULL, NULL, &pid), 0);
	EXPECT_EQ(mote_sys_get_state(pid, state, &size, PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_sys_replace_state(pid, "12345678", 8, PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_sys_suspend(pid, PATIENCE), 0);
	EXPECT_EQ(mote_sys_change_code(pid, &box2.ops, NULL, PATIENCE), -EOPNOTSUPP);
	EXPECT_EQ(mote_sys_resume(pid, PATIENCE), 0);
	mote_cast(pid, TOLD, NULL, 0);
	EXPECT_EQ(mote_call(pid, GET, NULL, 0, NULL, mote_in_ms(5)), -ETIMEDOUT);
	EXPECT(mote_alive(pid));
	put_down(pid);
}

/* Wrong sizes, unknown questions: an answer, and the server goes on. */
static void odd_messages(void)
{
	mote_pid pid = start(0, false);

	for (uint32_t what = 0; what < 0x100; what++) {
		struct mote_msg *m = NULL;

		if (what == 2 || what == 6)	/* TERMINATE, SUSPEND */
			continue;
		if (what)	/* a second START is not answered */
			EXPECT_EQ(mote_call(pid, MOTE_MSG_SYSTEM + what, "odd", 3, &m, PATIENCE), 0);
		else
			EXPECT_EQ(mote_call(pid, MOTE_MSG_SYSTEM, "odd", 3, &m, mote_in_ms(1)), -ETIMEDOUT);
		mote_msg_free(m);
		mote_send(pid, MOTE_MSG_SYSTEM + what, "odd", 3);
	}
	EXPECT_EQ(ask(pid, SET, 3), 3);
	put_down(pid);
}

static void deadlines(void)
{
	mote_pid pid = start(0, false);

	mote_cast(pid, SLEEP, NULL, 0);
	EXPECT_EQ(mote_sys_suspend(pid, mote_in_ms(1)), -ETIMEDOUT);
	EXPECT_EQ(mote_sys_resume(pid, PATIENCE), 0);
	EXPECT_EQ(ask(pid, GET, 0), 0);
	EXPECT(mailbox_is_empty());
	put_down(pid);
}

int main(void)
{
	selftest_process("get_state, replace_state", states);
	selftest_process("a state that is not shown", opaque);
	selftest_process("get_status", statuses);
	selftest_process_opts("suspend, resume: what comes meanwhile waits, in order", suspends, SCHEDULERS(2));
	selftest_process("a suspended server follows its parent", suspended_orphan);
	selftest_process("statistics", statistics);
	selftest_process("trace", traces);
	selftest_process("change_code", code_changes);
	selftest_process("odd system messages", odd_messages);
	selftest_process("who asks waits no longer than told", deadlines);
	return selftest_done();
}
