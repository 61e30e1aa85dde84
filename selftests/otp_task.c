// SPDX-License-Identifier: MIT OR GPL-2.0
/* Tasks: async, await, yield, shutdown, ignore, and many of them. A row of features.md C5 each. */
#include "proc.h"

static int64_t answer(void *arg)
{
	return (int64_t)(intptr_t)arg;
}

#define ANSWER(n) mote_task_async(answer, (void *)(intptr_t)(n))

static int64_t for_ever(void *arg)
{
	(void)arg;
	mote_receive(MOTE_FOREVER);
	return 0;
}

static int64_t boom(void *arg)
{
	mote_exit((struct mote_reason){ .kind = MOTE_CUSTOM, .code = arg ? *(int *)arg : 7 });
}

/* Answers when it is told to, with the number that it is sent. */
static int64_t when_told(void *arg)
{
	struct mote_msg *m = mote_receive_type(1, MOTE_FOREVER);
	int64_t value = *(int *)m->data;

	(void)arg;
	mote_msg_free(m);
	return value;
}

static void tell(mote_task task, int value)
{
	mote_send(task.pid, 1, &value, sizeof(value));
}

/* Waits until the process is no more, without a trace. */
static void until_gone(mote_pid pid)
{
	mote_ref ref = mote_monitor(pid);

	mote_msg_free(mote_receive_ref(ref, PATIENCE));
}

/* Until there is a message: that a process is gone is known a moment before. */
static void until_answered(void)
{
	while (!test_info(mote_self()).mailbox)
		mote_sleep(mote_in_ms(1));
}

static void await_value(void)
{
	mote_task t = ANSWER(42);
	int64_t value = 0;

	EXPECT(mote_pid_valid(t.pid) && t.ref.id && mote_pid_equal(t.owner, mote_self()));
	EXPECT_EQ(mote_task_await(t, &value, PATIENCE), 0);
	EXPECT_EQ(value, 42);
	EXPECT_EQ(mote_task_await(ANSWER(1), NULL, PATIENCE), 0);
	/* It answers once. */
	EXPECT_EQ(mote_task_await(t, &value, PATIENCE), -EINVAL);
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).links, 0);
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
}

static int64_t named(void *arg)
{
	(void)arg;
	return mote_register("worker", mote_self());
}

/* What the task had is released when its answer is there. */
static void answer_is_last(void)
{
	for (int i = 0; i < 200; i++) {
		mote_task t = mote_task_async(named, NULL);
		int64_t err = -1;

		EXPECT_EQ(mote_task_await(t, &err, PATIENCE), 0);
		EXPECT_EQ(err, 0);
	}
}

static int64_t bytes(void *arg)
{
	char text[1000];

	memset(text, 'x', sizeof(text));
	EXPECT_EQ(mote_task_reply("first", 6), 0);
	return mote_task_reply(text, *(size_t *)arg);
}

static void await_bytes(void)
{
	for (size_t n = 0; n <= 1000; n += 250) {
		struct mote_msg *m;
		mote_task t = mote_task_async(bytes, &n);

		EXPECT_EQ(mote_task_await_msg(t, &m, PATIENCE), 0);
		EXPECT(m && m->type == MOTE_MSG_TASK_DATA && m->size == n && (!n || ((char *)m->data)[n - 1] == 'x'));
		EXPECT(m && mote_pid_equal(m->from, t.pid));
		mote_msg_free(m);
		t = mote_task_async(bytes, &n);
		EXPECT_EQ(mote_task_await(t, &(int64_t){ 0 }, PATIENCE), -EBADMSG);
	}
	EXPECT_EQ(mote_task_reply("x", 1), -EPERM);
}

/* A value as a message. */
static void await_msg_value(void)
{
	struct mote_msg *m;

	EXPECT_EQ(mote_task_await_msg(ANSWER(5), &m, PATIENCE), 0);
	EXPECT(m && m->type == MOTE_MSG_TASK_VALUE && m->size == 8 && *(int64_t *)m->data == 5);
	mote_msg_free(m);
}

static int64_t sum(void *arg)
{
	int *n = arg;

	EXPECT_EQ((uintptr_t)n % 16, 0);
	return n[0] + n[1] + n[2];
}

static void copied_argument(void)
{
	int n[3] = { 1, 2, 3 };
	struct mote_task_opts opts = { .size = sizeof(opts), .fn = sum, .arg = n, .arg_size = sizeof(n),
				       .label = "sum" };
	mote_task t = mote_task_async_opts(&opts);
	int64_t value;

	memset(n, 0, sizeof(n));
	EXPECT_EQ(mote_task_await(t, &value, PATIENCE), 0);
	EXPECT_EQ(value, 6);
}

static void bad_options(void)
{
	struct mote_task_opts opts = { .size = sizeof(opts) };
	char large[sizeof(opts) + 8] = "";

	EXPECT(!mote_task_async_opts(&opts).ref.id);
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT(!mote_task_async_opts(NULL).ref.id);
	opts.fn = answer;
	opts.size = sizeof(large);
	memcpy(large, &opts, sizeof(opts));
	large[sizeof(large) - 1] = 1;
	EXPECT(!mote_task_async_opts((void *)large).ref.id);
	EXPECT_EQ(mote_errno(), -E2BIG);
	opts.size = sizeof(opts);
	opts.arg_size = 1;
	EXPECT(!mote_task_async_opts(&opts).ref.id);
	opts.arg_size = 0;
	opts.stack_size = (size_t)1 << 40;
	EXPECT(!mote_task_async_opts(&opts).ref.id);
	opts.stack_size = 0;
	EXPECT(!mote_pid_valid(mote_task_start_opts(&opts, MOTE_MONITOR)));
	EXPECT_EQ(mote_errno(), -EINVAL);
}

/* Elixir: the caller exits; here it learns. The task ends, and nothing of it is left. */
static void await_timeout(void)
{
	mote_task t = mote_task_async(for_ever, NULL);
	mote_ref ref = mote_monitor(t.pid);

	EXPECT_EQ(mote_task_await(t, NULL, mote_in_ms(5)), -ETIMEDOUT);
	EXPECT(got_down(ref, t.pid, MOTE_TIMEOUT));
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), -EINVAL);
	t = mote_task_async(for_ever, NULL);
	EXPECT_EQ(mote_task_await_msg(t, &(struct mote_msg *){ NULL }, MOTE_NOW), -ETIMEDOUT);
	until_gone(t.pid);
	EXPECT(mailbox_is_empty());
}

static void await_crash(void)
{
	struct mote_msg *m;
	mote_task t;
	int code = 9;

	mote_trap_exit(true);
	t = mote_task_async(boom, &code);
	EXPECT_EQ(mote_task_await_msg(t, &m, PATIENCE), -EPIPE);
	EXPECT(is_down(m, t.ref, t.pid, MOTE_CUSTOM) && mote_msg_down(m)->reason.code == 9);
	mote_msg_free(m);
	EXPECT(got_exit(t.pid, MOTE_CUSTOM));
	t = mote_task_async(boom, &code);
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), -EPIPE);
	EXPECT(got_exit(t.pid, MOTE_CUSTOM));
	EXPECT(mailbox_is_empty());
}

static int64_t leave(void *arg)
{
	(void)arg;
	mote_exit(MOTE_REASON_NORMAL);
}

/* No answer is a failure, also if its end is normal; the link is not touched by that. */
static void await_exit_normal(void)
{
	struct mote_msg *m;
	mote_task t = mote_task_async(leave, NULL);

	EXPECT_EQ(mote_task_await_msg(t, &m, PATIENCE), -EPIPE);
	EXPECT(is_down(m, t.ref, t.pid, MOTE_NORMAL));
	mote_msg_free(m);
}

/* One who traps exits gets one of each task, after the answer. */
static void trapping_owner(void)
{
	mote_task t;

	mote_trap_exit(true);
	t = ANSWER(1);
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), 0);
	EXPECT(got_exit(t.pid, MOTE_NORMAL));
	t = mote_task_async(leave, NULL);
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), -EPIPE);
	EXPECT(got_exit(t.pid, MOTE_NORMAL));
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).links, 0);
}

static void crashing_owner(void *arg)
{
	mote_task t = mote_task_async(boom, arg);

	mote_task_await(t, NULL, PATIENCE);
	mote_exit(MOTE_REASON_SHUTDOWN);
}

/* Linked: one that does not trap exits dies of its task, with its reason. */
static void crash_takes_owner(void)
{
	mote_ref ref;
	mote_pid pid = mote_spawn_monitor(crashing_owner, NULL, &ref);

	EXPECT(got_down(ref, pid, MOTE_CUSTOM));
}

static mote_task of_another;

static void dying_owner(void *arg)
{
	of_another = mote_task_async(for_ever, NULL);
	mote_send(*(mote_pid *)arg, 1, NULL, 0);
	mote_receive(MOTE_FOREVER);
}

static void owner_takes_task(void)
{
	mote_pid self = mote_self(), owner = mote_spawn(dying_owner, &self);
	mote_ref ref;

	EXPECT(got_type(1));
	ref = mote_monitor(of_another.pid);
	mote_exit_pid(owner, (struct mote_reason){ .kind = MOTE_CUSTOM });
	EXPECT(got_down(ref, of_another.pid, MOTE_CUSTOM));
}

static void only_the_owner(void)
{
	mote_pid self = mote_self(), owner = mote_spawn(dying_owner, &self);
	struct mote_task_result r = { .task = { .owner = owner } };
	struct mote_msg *m = NULL;

	EXPECT(got_type(1));
	r.task = of_another;
	EXPECT_EQ(mote_task_await(of_another, NULL, PATIENCE), -EPERM);
	EXPECT_EQ(mote_task_await_msg(of_another, &m, PATIENCE), -EPERM);
	EXPECT_EQ(mote_task_yield(of_another, &r, PATIENCE), -EPERM);
	EXPECT_EQ(mote_task_shutdown(of_another, NULL, PATIENCE), -EPERM);
	EXPECT_EQ(mote_task_ignore(of_another, NULL), -EPERM);
	r.task = of_another;
	EXPECT_EQ(mote_task_await_many(&r, 1, PATIENCE), -EPERM);
	EXPECT_EQ(mote_task_yield_many(&r, 1, 0, MOTE_TASK_NOTHING, PATIENCE), -EPERM);
	EXPECT(mote_pid_equal(test_info(of_another.pid).pid, of_another.pid));
	put_down(owner);
	until_gone(of_another.pid);
}

static void yield_twice(void)
{
	struct mote_task_result r;
	mote_task t = mote_task_async(when_told, NULL);

	EXPECT_EQ(mote_task_yield(t, &r, mote_in_ms(2)), -EAGAIN);
	EXPECT_EQ(mote_task_yield(t, &r, MOTE_NOW), -EAGAIN);
	EXPECT(!r.m && r.err == -EAGAIN);
	tell(t, 3);
	EXPECT_EQ(mote_task_yield(t, &r, PATIENCE), 0);
	EXPECT(r.value == 3 && !r.m && mote_ref_equal(r.task.ref, t.ref));
	EXPECT_EQ(mote_task_yield(t, &r, PATIENCE), -EINVAL);
	mote_trap_exit(true);
	t = mote_task_async(boom, NULL);
	EXPECT_EQ(mote_task_yield(t, &r, PATIENCE), -EPIPE);
	EXPECT(is_down(r.m, t.ref, t.pid, MOTE_CUSTOM));
	mote_msg_free(r.m);
	EXPECT(got_exit(t.pid, MOTE_CUSTOM));
}

static void shutdown_running(void)
{
	struct mote_task_result r;
	mote_task t = mote_task_async(for_ever, NULL);

	EXPECT_EQ(mote_task_shutdown(t, &r, PATIENCE), -ESHUTDOWN);
	EXPECT(!r.m);
	/* It is gone, and linked no more: no EXIT. */
	EXPECT(!mote_alive(t.pid));
	EXPECT_EQ(mote_task_shutdown(t, &r, PATIENCE), -ESRCH);
	mote_trap_exit(true);
	t = mote_task_async(for_ever, NULL);
	EXPECT_EQ(mote_task_shutdown(t, NULL, MOTE_NOW), -ESHUTDOWN);
	t = mote_task_async(for_ever, NULL);
	EXPECT_EQ(mote_task_shutdown(t, NULL, MOTE_FOREVER), -ESHUTDOWN);
	EXPECT(mailbox_is_empty());
}

/* The answer that had arrived is given. */
static void shutdown_answered(void)
{
	struct mote_task_result r;
	mote_task t = ANSWER(5);

	until_gone(t.pid);
	EXPECT_EQ(mote_task_shutdown(t, &r, PATIENCE), 0);
	EXPECT_EQ(r.value, 5);
	t = ANSWER(5);
	until_gone(t.pid);
	EXPECT_EQ(mote_task_shutdown(t, &r, MOTE_NOW), 0);
	t = ANSWER(5);
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), 0);
	EXPECT_EQ(mote_task_shutdown(t, &r, PATIENCE), -ESRCH);
}

static int64_t stubborn(void *arg)
{
	mote_trap_exit(true);
	mote_send(*(mote_pid *)arg, 2, NULL, 0);
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		bool answers = m->type == 1;

		mote_msg_free(m);
		if (answers)
			break;
	}
	return 0;
}

/* Asked to stop it does what it likes. */
static int64_t polite(void *arg)
{
	struct mote_msg *m;
	int64_t kind;

	mote_trap_exit(true);
	mote_send(*(mote_pid *)arg, 2, NULL, 0);
	m = mote_receive_type(MOTE_MSG_EXIT, MOTE_FOREVER);
	kind = mote_msg_exit(m)->reason.kind;
	mote_msg_free(m);
	return kind;
}

static int64_t rude(void *arg)
{
	polite(arg);
	return boom(NULL);
}

static void shutdown_trapping(void)
{
	mote_pid self = mote_self();
	struct mote_task_result r;
	mote_task t;

	t = mote_task_async(stubborn, &self);
	EXPECT(got_type(2));
	EXPECT_EQ(mote_task_shutdown(t, &r, mote_in_ms(5)), -EPIPE);
	EXPECT(is_down(r.m, t.ref, t.pid, MOTE_KILLED));
	mote_msg_free(r.m);
	t = mote_task_async(polite, &self);
	EXPECT(got_type(2));
	EXPECT_EQ(mote_task_shutdown(t, &r, PATIENCE), 0);
	EXPECT_EQ(r.value, MOTE_SHUTDOWN);
	t = mote_task_async(rude, &self);
	EXPECT(got_type(2));
	EXPECT_EQ(mote_task_shutdown(t, &r, PATIENCE), -EPIPE);
	EXPECT(is_down(r.m, t.ref, t.pid, MOTE_CUSTOM));
	mote_msg_free(r.m);
	EXPECT(mailbox_is_empty());
}

static void shutdown_crashed(void)
{
	struct mote_task_result r;
	mote_task t;

	mote_trap_exit(true);
	t = mote_task_async(boom, NULL);
	until_gone(t.pid);
	EXPECT_EQ(mote_task_shutdown(t, &r, PATIENCE), -EPIPE);
	EXPECT(is_down(r.m, t.ref, t.pid, MOTE_CUSTOM));
	mote_msg_free(r.m);
	EXPECT(got_exit(t.pid, MOTE_CUSTOM));
}

static void ignored(void)
{
	struct mote_task_result r;
	mote_task t = mote_task_async(when_told, NULL);
	mote_ref ref = mote_monitor(t.pid);

	EXPECT_EQ(mote_task_ignore(t, &r), -EAGAIN);
	/* It goes on alone: its crash is nobody's, its answer vanishes. */
	mote_exit_pid(t.pid, (struct mote_reason){ .kind = MOTE_CUSTOM });
	EXPECT(got_down(ref, t.pid, MOTE_CUSTOM));
	EXPECT_EQ(mote_task_yield(t, &r, MOTE_NOW), -EINVAL);
	t = mote_task_async(when_told, NULL);
	ref = mote_monitor(t.pid);
	EXPECT_EQ(mote_task_ignore(t, NULL), -EAGAIN);
	tell(t, 1);
	EXPECT(got_down(ref, t.pid, MOTE_NORMAL));
	t = ANSWER(8);
	until_answered();
	EXPECT_EQ(mote_task_ignore(t, &r), 0);
	EXPECT_EQ(r.value, 8);
	mote_trap_exit(true);
	t = mote_task_async(boom, NULL);
	EXPECT(got_exit(t.pid, MOTE_CUSTOM));
	until_answered();
	EXPECT_EQ(mote_task_ignore(t, NULL), -EPIPE);
	EXPECT(mailbox_is_empty());
}

static void completed(void)
{
	struct mote_task_result r;
	mote_task t = mote_task_completed(9);
	int64_t value;

	EXPECT(!mote_pid_valid(t.pid) && t.ref.id);
	EXPECT_EQ(mote_task_await(t, &value, MOTE_NOW), 0);
	EXPECT_EQ(value, 9);
	EXPECT_EQ(mote_task_yield(mote_task_completed(3), &r, MOTE_NOW), 0);
	EXPECT_EQ(r.value, 3);
	EXPECT_EQ(mote_task_shutdown(mote_task_completed(4), &r, MOTE_NOW), 0);
	EXPECT_EQ(mote_task_ignore(mote_task_completed(4), &r), 0);
	EXPECT(mailbox_is_empty());
}

/* Whoever receives everything knows whose answer it is. */
static void found(void)
{
	mote_task t[3] = { ANSWER(0), ANSWER(1), mote_task_completed(2) };
	bool seen[3] = { false };

	for (int i = 0; i < 3; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);
		int at = m ? mote_task_find(t, 3, m) : -1;

		if (!EXPECT(at >= 0 && at < 3 && !seen[at] && m->type == MOTE_MSG_TASK_VALUE &&
			    *(int64_t *)m->data == at))
			test_describe(m);
		else
			seen[at] = true;
		if (m)
			EXPECT_EQ(mote_task_find(t, 0, m), -ENOENT);
		mote_msg_free(m);
	}
	EXPECT_EQ(mote_task_await(t[0], NULL, PATIENCE), -EINVAL);
	mote_trap_exit(true);
	t[1] = mote_task_async(boom, NULL);
	for (int i = 0; i < 2; i++) {
		struct mote_msg *m = mote_receive(PATIENCE);

		EXPECT_EQ(mote_task_find(t, 3, m), mote_msg_down(m) ? 1 : -ENOENT);
		mote_msg_free(m);
	}
}

/* A server gets them in handle_info. */
struct boss {
	mote_task task;
	struct mote_from from;
};

static int boss_init(struct boss *b, void *arg)
{
	(void)b;
	(void)arg;
	return 0;
}

static void boss_call(struct boss *b, struct mote_from from, const struct mote_msg *m)
{
	b->from = from;
	b->task = mote_task_async(m->type == 1 ? answer : leave, (void *)77);
}

static void boss_info(struct boss *b, const struct mote_msg *m)
{
	if (mote_task_find(&b->task, 1, m) == 0)
		mote_reply(b->from, mote_msg_down(m) ? 9 : m->type, m->data, mote_msg_down(m) ? 0 : m->size);
}

MOTE_SERVER(boss, struct boss, .init = boss_init, .handle_call = boss_call, .handle_info = boss_info);

static void in_a_server(void)
{
	struct mote_msg *m = NULL;
	mote_pid pid = MOTE_NOBODY;

	EXPECT_EQ(mote_server_start(&boss.ops, NULL, NULL, &pid), 0);
	EXPECT_EQ(mote_call(pid, 1, NULL, 0, &m, PATIENCE), 0);
	EXPECT(m && m->type == MOTE_MSG_TASK_VALUE && *(int64_t *)m->data == 77);
	mote_msg_free(m);
	m = NULL;
	EXPECT_EQ(mote_call(pid, 2, NULL, 0, &m, PATIENCE), 0);
	EXPECT(m && m->type == 9);
	mote_msg_free(m);
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), 0);
}

static void start_results(struct mote_task_result *r, size_t n)
{
	for (size_t i = 0; i < n; i++)
		r[i] = (struct mote_task_result){ .task = ANSWER(i) };
}

static void await_many(void)
{
	enum { N = 300 };
	static struct mote_task_result r[N];
	mote_task t;

	/* Others' messages stay. */
	mote_send(mote_self(), 5, NULL, 0);
	start_results(r, N);
	EXPECT_EQ(mote_task_await_many(r, N, PATIENCE), 0);
	for (int i = 0; i < N; i++)
		EXPECT(r[i].err == 0 && r[i].value == i && !r[i].m);
	EXPECT(got_type(5));
	EXPECT_EQ(mote_task_await_many(r, 0, PATIENCE), 0);
	/* One was awaited before. */
	r[0].task = ANSWER(1);
	r[1].task = t = mote_task_async(for_ever, NULL);
	EXPECT_EQ(mote_task_await(r[0].task, NULL, PATIENCE), 0);
	EXPECT_EQ(mote_task_await_many(r, 2, PATIENCE), -EINVAL);
	until_gone(t.pid);
	EXPECT(mailbox_is_empty());
}

static void await_many_timeout(void)
{
	size_t large = 100;
	struct mote_task_result r[3] = { { .task = ANSWER(1) }, { .task = mote_task_async(for_ever, NULL) },
					 { .task = mote_task_async(bytes, &large) } };

	EXPECT_EQ(mote_task_await_many(r, 3, mote_in_ms(20)), -ETIMEDOUT);
	EXPECT(!r[2].m);
	until_gone(r[1].task.pid);
	until_gone(r[2].task.pid);
	EXPECT(mailbox_is_empty());
}

static void await_many_crash(void)
{
	struct mote_task_result r[2];

	mote_trap_exit(true);
	r[0].task = mote_task_async(for_ever, NULL);
	r[1].task = mote_task_async(boom, NULL);
	/* The first does not end by itself: it is not waited for in turn. */
	EXPECT_EQ(mote_task_await_many(r, 2, MOTE_FOREVER), -EPIPE);
	EXPECT(r[1].err == -EPIPE && !r[1].m);
	EXPECT(got_exit(r[1].task.pid, MOTE_CUSTOM));
	until_gone(r[0].task.pid);
	EXPECT(mailbox_is_empty());
}

static void three(struct mote_task_result *r)
{
	mote_trap_exit(true);
	memset(r, 0, 3 * sizeof(*r));
	r[0].task = ANSWER(1);
	r[1].task = mote_task_async(boom, NULL);
	r[2].task = mote_task_async(when_told, NULL);
	for (int i = 0; i < 2; i++) {
		struct mote_msg *m = mote_receive_type(MOTE_MSG_EXIT, PATIENCE);

		EXPECT(is_exit(m, r[0].task.pid, MOTE_NORMAL) || is_exit(m, r[1].task.pid, MOTE_CUSTOM));
		mote_msg_free(m);
	}
}

static void yield_many(void)
{
	struct mote_task_result r[3];
	mote_ref ref;

	three(r);
	EXPECT_EQ(mote_task_yield_many(r, 3, 0, MOTE_TASK_NOTHING, mote_in_ms(5)), 2);
	EXPECT(r[0].err == 0 && r[0].value == 1 && r[1].err == -EPIPE && r[2].err == -EAGAIN && !r[2].m);
	EXPECT(is_down(r[1].m, r[1].task.ref, r[1].task.pid, MOTE_CUSTOM));
	mote_msg_free(r[1].m);
	/* It may be asked again. */
	tell(r[2].task, 4);
	EXPECT_EQ(mote_task_yield_many(r + 2, 1, 0, MOTE_TASK_NOTHING, PATIENCE), 1);
	EXPECT_EQ(r[2].value, 4);
	EXPECT(got_exit(r[2].task.pid, MOTE_NORMAL));

	three(r);
	EXPECT_EQ(mote_task_yield_many(r, 3, 0, MOTE_TASK_KILL, mote_in_ms(5)), 3);
	EXPECT(r[2].err == -ESHUTDOWN && !r[2].m);
	mote_msg_free(r[1].m);
	EXPECT_EQ(mote_task_yield(r[2].task, r, MOTE_NOW), -EINVAL);

	three(r);
	ref = mote_monitor(r[2].task.pid);
	EXPECT_EQ(mote_task_yield_many(r, 3, 0, MOTE_TASK_IGNORE, mote_in_ms(5)), 2);
	EXPECT_EQ(r[2].err, -EAGAIN);
	mote_msg_free(r[1].m);
	tell(r[2].task, 1);
	EXPECT(got_down(ref, r[2].task.pid, MOTE_NORMAL));
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(mote_task_yield_many(r, 0, 0, 9, PATIENCE), -EINVAL);
}

/* Enough have answered: on_timeout is not for that. */
static void yield_many_limit(void)
{
	struct mote_task_result r[3] = { { .task = mote_task_async(when_told, NULL) }, { .task = ANSWER(1) },
					 { .task = mote_task_async(when_told, NULL) } };

	EXPECT_EQ(mote_task_yield_many(r, 3, 1, MOTE_TASK_KILL, MOTE_FOREVER), 1);
	EXPECT(r[0].err == -EAGAIN && r[1].err == 0 && r[2].err == -EAGAIN);
	tell(r[2].task, 2);
	EXPECT_EQ(mote_task_await(r[2].task, NULL, PATIENCE), 0);
	tell(r[0].task, 2);
	EXPECT_EQ(mote_task_await(r[0].task, NULL, PATIENCE), 0);
}

static int64_t says(void *arg)
{
	return mote_send(*(mote_pid *)arg, 3, NULL, 0);
}

static void started(void)
{
	mote_pid self = mote_self(), pid;

	pid = mote_task_start(says, &self);
	EXPECT(mote_pid_valid(pid) && got_type(3));
	/* Nobody's: its end is not told. */
	until_gone(mote_task_start(boom, NULL));
	mote_trap_exit(true);
	pid = mote_task_start_link(boom, NULL);
	EXPECT(got_exit(pid, MOTE_CUSTOM));
	pid = mote_task_start_opts(&(struct mote_task_opts){ .size = sizeof(struct mote_task_opts), .fn = answer },
				   MOTE_LINK);
	EXPECT(got_exit(pid, MOTE_NORMAL));
	EXPECT(mailbox_is_empty());
}

static mote_pid first;

static int64_t depth(void *arg)
{
	mote_pid callers[MOTE_TASK_CALLERS_MAX + 1];
	size_t n = mote_task_callers(callers, MOTE_TASK_CALLERS_MAX + 1), left = (size_t)(uintptr_t)arg;
	int64_t value = 0;

	EXPECT(n >= 1 && n <= MOTE_TASK_CALLERS_MAX);
	if (n < MOTE_TASK_CALLERS_MAX)
		EXPECT(mote_pid_equal(callers[n - 1], first));
	if (!left)
		return (int64_t)n;
	EXPECT_EQ(mote_task_await(mote_task_async(depth, (void *)(uintptr_t)(left - 1)), &value, PATIENCE), 0);
	return value;
}

static int64_t grandchild(void *arg)
{
	mote_pid callers[3], *expected = arg;

	EXPECT_EQ(mote_task_callers(callers, 3), 2);
	EXPECT(mote_pid_equal(callers[0], expected[0]) && mote_pid_equal(callers[1], expected[1]));
	EXPECT_EQ(mote_task_callers(NULL, 0), 2);
	return 0;
}

static int64_t child(void *arg)
{
	mote_pid chain[2] = { mote_self(), *(mote_pid *)arg }, caller = MOTE_NOBODY;

	EXPECT_EQ(mote_task_callers(&caller, 1), 1);
	EXPECT(mote_pid_equal(caller, chain[1]));
	return mote_task_await(mote_task_async(grandchild, chain), NULL, PATIENCE);
}

static void callers(void)
{
	mote_pid self = mote_self();
	int64_t value;

	EXPECT_EQ(mote_task_callers(NULL, 0), 0);
	EXPECT_EQ(mote_task_await(mote_task_async(child, &self), &value, PATIENCE), 0);
	EXPECT_EQ(value, 0);
	first = self;
	EXPECT_EQ(mote_task_await(mote_task_async(depth, (void *)10), &value, PATIENCE), 0);
	EXPECT_EQ(value, 11);
	EXPECT_EQ(mote_task_await(mote_task_async(depth, (void *)30), &value, PATIENCE), 0);
	EXPECT_EQ(value, MOTE_TASK_CALLERS_MAX);
}

static mote_pid reported_pid, reported_caller;
static char reported_callers[200];
static _Atomic int reported;

static int keep_report(const struct mote_log_event *e, void *arg)
{
	(void)arg;
	if (e->report != MOTE_LOG_SERVER || strncmp(e->text, "task ", 5))
		return 0;
	reported_pid = e->pid;
	for (const struct mote_field *f = e->fields; f->key; f++) {
		if (!strcmp(f->key, "caller"))
			reported_caller = f->value.pid;
		if (!strcmp(f->key, "callers"))
			snprintf(reported_callers, sizeof(reported_callers), "%s", f->value.text);
	}
	atomic_fetch_add(&reported, 1);
	return 0;
}

static int64_t has_child(void *arg)
{
	mote_trap_exit(true);
	return mote_task_await(mote_task_async(boom, arg), NULL, PATIENCE);
}

static volatile uintptr_t nowhere = 8;

static int64_t faults(void *arg)
{
	(void)arg;
	return *(volatile int *)nowhere;
}

/* The log may be a process of its own. */
static void until_reported(int n)
{
	mote_deadline patience = PATIENCE;

	while (atomic_load(&reported) < n && mote_now().ns < patience.ns)
		mote_sleep(mote_in_ms(1));
	EXPECT_EQ(atomic_load(&reported), n);
}

/* A crash report says for whom the task works; there is none for one that was told to exit. */
static void reports(void)
{
	static const struct mote_log_handler handler = { .size = sizeof(handler), .id = "keep", .log = keep_report };
	char pids[200];
	mote_task t;

	EXPECT_EQ(mote_log_handler_add(&handler), 0);
	mote_trap_exit(true);
	t = mote_task_async(for_ever, NULL);
	mote_exit_pid(t.pid, (struct mote_reason){ .kind = MOTE_CUSTOM });
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), -EPIPE);
	EXPECT_EQ(atomic_load(&reported), 0);
	t = mote_task_async(boom, NULL);
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), -EPIPE);
	until_reported(1);
	EXPECT(mote_pid_equal(reported_pid, t.pid) && mote_pid_equal(reported_caller, mote_self()));
	EXPECT_EQ(strlen(reported_callers), 0);
	t = mote_task_async(has_child, NULL);
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), 0);
	until_reported(2);
	EXPECT(mote_pid_equal(reported_caller, t.pid));
	snprintf(pids, sizeof(pids), MOTE_PID_FMT " " MOTE_PID_FMT, MOTE_PID_ARG(t.pid), MOTE_PID_ARG(mote_self()));
	if (!EXPECT(!strcmp(reported_callers, pids)))
		test_note("%s, not %s", reported_callers, pids);
	EXPECT_EQ(mote_log_handler_remove("keep"), 0);
}

static void faulting(void)
{
	struct mote_msg *m;
	mote_task t;

	if (SANITIZED) {
		selftest_skip("a sanitizer reports a fault before it is contained");
		return;
	}
	mote_trap_exit(true);
	t = mote_task_async(faults, NULL);
	EXPECT_EQ(mote_task_await_msg(t, &m, PATIENCE), -EPIPE);
	EXPECT(is_down(m, t.ref, t.pid, MOTE_SIGNAL));
	mote_msg_free(m);
}

static void in_cleanup(void *arg)
{
	mote_task t = mote_task_async(for_ever, NULL);
	int64_t value = 0;
	int err;

	/* Without a deadline there is no wait; one is cut to what time there is. */
	*(int *)arg = mote_task_await(t, &value, MOTE_FOREVER);
	err = mote_task_shutdown(t, NULL, MOTE_NOW);
	EXPECT(err == -EAGAIN || err == -ESHUTDOWN);
	EXPECT_EQ(mote_task_await(ANSWER(1), &value, PATIENCE), 0);
	EXPECT_EQ(value, 1);
}

static void with_cleanup(void *arg)
{
	mote_defer(in_cleanup, arg);
}

static void awaited_in_cleanup(void)
{
	int result = 0;
	mote_ref ref;
	mote_pid pid = mote_spawn_monitor(with_cleanup, &result, &ref);

	EXPECT(got_down(ref, pid, MOTE_NORMAL));
	EXPECT_EQ(result, -ECANCELED);
}

/* Many at once on all schedulers, some given up, some killed: nothing is lost, nothing is left. */
static int64_t some_time(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg;

	test_jitter(&random);
	return (int64_t)(intptr_t)arg;
}

static void storm_owner(void *arg)
{
	uint64_t random = test_seed() ^ (uint64_t)(uintptr_t)arg << 17;
	unsigned long rounds = test_rounds(400);

	for (unsigned long i = 0; i < rounds; i++) {
		struct mote_task_result r[4];
		int64_t value = 0;
		mote_task t;

		for (int j = 0; j < 4; j++)
			r[j].task = mote_task_async(some_time, (void *)(uintptr_t)(test_random(&random) | 1));
		t = mote_task_async(some_time, (void *)(uintptr_t)(i + 1));
		switch (test_random(&random) % 4) {
		case 0:
			EXPECT_EQ(mote_task_await_many(r, 4, PATIENCE), 0);
			break;
		case 1:
			EXPECT(mote_task_yield_many(r, 4, 2, MOTE_TASK_NOTHING, PATIENCE) >= 2);
			for (int j = 0; j < 4; j++)
				if (r[j].err == -EAGAIN)
					EXPECT_EQ(mote_task_await(r[j].task, NULL, PATIENCE), 0);
			break;
		case 2:
			for (int j = 0; j < 4; j++) {
				int err = mote_task_shutdown(r[j].task, NULL, j & 1 ? MOTE_NOW : PATIENCE);

				EXPECT(err == 0 || err == -ESHUTDOWN);
			}
			break;
		default:
			for (int j = 0; j < 4; j++)
				mote_task_ignore(r[j].task, NULL);
		}
		EXPECT_EQ(mote_task_await(t, &value, PATIENCE), 0);
		EXPECT_EQ(value, i + 1);
	}
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
}

static void storm(void)
{
	mote_ref ref[8];

	for (uintptr_t i = 0; i < 8; i++)
		mote_spawn_monitor(storm_owner, (void *)i, &ref[i]);
	for (int i = 0; i < 8; i++)
		mote_msg_free(mote_receive_ref(ref[i], MOTE_FOREVER));
}

/* Owner and task end at the same time: neither hangs, and the runtime ends in order. */
static void racing_owner(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg * 2 + 1;

	for (int i = 0; i < 4; i++)
		mote_task_async(some_time, (void *)(uintptr_t)(test_random(&random) | 1));
	test_jitter(&random);
	if (random & 1)
		mote_exit((struct mote_reason){ .kind = MOTE_CUSTOM });
}

static void race(void)
{
	unsigned long rounds = test_rounds(500);

	for (unsigned long i = 0; i < rounds; i++) {
		mote_ref ref;

		mote_spawn_monitor(racing_owner, (void *)(uintptr_t)(i + test_seed()), &ref);
		mote_msg_free(mote_receive_ref(ref, PATIENCE));
	}
}

int main(void)
{
	selftest_process("await gives the value, once", await_value);
	selftest_process("the answer comes when the task's names are gone", answer_is_last);
	selftest_process("await gives bytes", await_bytes);
	selftest_process("a value as a message", await_msg_value);
	selftest_process("the argument may be copied", copied_argument);
	selftest_process("options that cannot be", bad_options);
	selftest_process("await that times out ends the task", await_timeout);
	selftest_process("await says that the task failed, and why", await_crash);
	selftest_process("a normal exit is no answer", await_exit_normal);
	selftest_process("an owner that traps exits gets one of each", trapping_owner);
	selftest_process("a crash takes the owner along", crash_takes_owner);
	selftest_process("the owner's end takes the task along", owner_takes_task);
	selftest_process("only the owner may wait", only_the_owner);
	selftest_process("yield may be called again", yield_twice);
	selftest_process("shutdown ends a task, and its link first", shutdown_running);
	selftest_process("shutdown gives the answer that had arrived", shutdown_answered);
	selftest_process("shutdown of tasks that trap exits", shutdown_trapping);
	selftest_process("shutdown says how it had ended", shutdown_crashed);
	selftest_process("an ignored task goes on alone", ignored);
	selftest_process("completed", completed);
	selftest_process("find", found);
	selftest_process("servers get answers as info", in_a_server);
	selftest_process("await_many", await_many);
	selftest_process("await_many that times out", await_many_timeout);
	selftest_process("await_many learns of any failure at once", await_many_crash);
	selftest_process("yield_many and on_timeout", yield_many);
	selftest_process("yield_many up to a limit", yield_many_limit);
	selftest_process("start and start_link", started);
	selftest_process("callers", callers);
	selftest_process("crash reports name the callers", reports);
	selftest_process("a fault is the task's end", faulting);
	selftest_process("await in a cleanup", awaited_in_cleanup);
	selftest_process("tasks in a storm", storm);
	selftest_process("owner and tasks end at once", race);
	return selftest_done();
}
