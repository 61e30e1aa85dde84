// SPDX-License-Identifier: MIT OR GPL-2.0
/* Tasks under a supervisor: Task.Supervisor. A row of features.md C6 each. */
#include "proc.h"

static mote_pid supervisor(size_t max_children)
{
	struct mote_dynamic_opts opts = { .size = sizeof(opts), .max_children = max_children, .max_restarts = 3 };
	mote_pid pid = MOTE_NOBODY;

	EXPECT_EQ(mote_dynamic_start(&opts, &pid), 0);
	return pid;
}

static void supervisor_stop(mote_pid pid)
{
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), 0);
}

#define TASK(function, argument) \
	(&(const struct mote_task_opts){ .size = sizeof(struct mote_task_opts), .fn = (function), .arg = (argument) })

static int64_t answer(void *arg)
{
	return (int64_t)(intptr_t)arg;
}

static int64_t for_ever(void *arg)
{
	(void)arg;
	mote_receive(MOTE_FOREVER);
	return 0;
}

static int64_t boom(void *arg)
{
	if (arg)
		mote_send(*(mote_pid *)arg, 6, NULL, 0);
	mote_exit((struct mote_reason){ .kind = MOTE_CUSTOM, .code = 7 });
}

static void until_gone(mote_pid pid)
{
	mote_ref ref = mote_monitor(pid);

	mote_msg_free(mote_receive_ref(ref, PATIENCE));
}

static void async(void)
{
	mote_pid sup = supervisor(0);
	int64_t value = 0;
	mote_task t;

	for (intptr_t i = 0; i < 50; i++) {
		t = mote_task_supervisor_async(sup, TASK(answer, (void *)i), PATIENCE);
		EXPECT(t.ref.id && mote_pid_equal(t.owner, mote_self()));
		EXPECT_EQ(mote_task_await(t, &value, PATIENCE), 0);
		EXPECT_EQ(value, i);
		EXPECT_EQ(mote_task_await(t, &value, PATIENCE), -EINVAL);
	}
	EXPECT(mailbox_is_empty());
	/* Nothing is left of links. */
	EXPECT_EQ(test_info(mote_self()).links, 0);
	t = mote_task_supervisor_async(sup, TASK(for_ever, NULL), PATIENCE);
	EXPECT_EQ(test_info(mote_self()).links, 1);
	EXPECT(mote_alive(t.pid));
	EXPECT(mote_pid_equal(test_info(t.pid).parent, sup));
	EXPECT_EQ(mote_task_shutdown(t, NULL, PATIENCE), -ESHUTDOWN);
	/* The supervisor's end is its children's, and with the link the owner's. */
	mote_trap_exit(true);
	t = mote_task_supervisor_async(sup, TASK(for_ever, NULL), PATIENCE);
	supervisor_stop(sup);
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), -EPIPE);
	EXPECT(got_exit(t.pid, MOTE_SHUTDOWN));
	EXPECT(mailbox_is_empty());
}

struct errand {
	mote_pid sup, first;
};

static void linked_owner(void *arg)
{
	struct errand *e = arg;
	mote_task t = mote_task_supervisor_async(e->sup, TASK(for_ever, NULL), PATIENCE);

	mote_send(e->first, 8, &t, sizeof(t));
	mote_task_await(t, NULL, MOTE_FOREVER);
}

static void nolink_owner(void *arg)
{
	struct errand *e = arg;
	mote_task t = mote_task_supervisor_async_nolink(e->sup, TASK(for_ever, NULL), PATIENCE);

	mote_send(e->first, 8, &t, sizeof(t));
	mote_task_await(t, NULL, MOTE_FOREVER);
}

static mote_task owned(mote_fn owner, mote_pid sup, mote_pid *pid, mote_ref *ref)
{
	struct errand errand = { sup, mote_self() };
	struct mote_msg *m;
	mote_task task = { .pid = MOTE_NOBODY };

	*pid = mote_spawn_monitor(owner, &errand, ref);
	m = mote_receive_type(8, PATIENCE);
	if (EXPECT(m && m->size == sizeof(task)))
		memcpy(&task, m->data, sizeof(task));
	mote_msg_free(m);
	return task;
}

static void links(void)
{
	mote_pid sup = supervisor(0), pid;
	mote_ref ref, task_ref;
	mote_task t;

	t = owned(linked_owner, sup, &pid, &ref);
	task_ref = mote_monitor(t.pid);
	mote_exit_pid(t.pid, (struct mote_reason){ .kind = MOTE_CUSTOM });
	EXPECT(got_down(ref, pid, MOTE_CUSTOM));
	EXPECT(got_down(task_ref, t.pid, MOTE_CUSTOM));
	t = owned(linked_owner, sup, &pid, &ref);
	task_ref = mote_monitor(t.pid);
	mote_exit_pid(pid, (struct mote_reason){ .kind = MOTE_CUSTOM });
	EXPECT(got_down(task_ref, t.pid, MOTE_CUSTOM));
	EXPECT(got_down(ref, pid, MOTE_CUSTOM));
	/* Not linked: neither takes the other along. */
	t = owned(nolink_owner, sup, &pid, &ref);
	task_ref = mote_monitor(t.pid);
	mote_exit_pid(pid, (struct mote_reason){ .kind = MOTE_CUSTOM });
	EXPECT(got_down(ref, pid, MOTE_CUSTOM));
	EXPECT_EQ(mote_demonitor(task_ref, MOTE_FLUSH), 1);
	put_down(t.pid);
	supervisor_stop(sup);
}

static void nolink(void)
{
	mote_pid sup = supervisor(0);
	struct mote_task_result r;
	struct mote_msg *m;
	int64_t value;
	mote_task t;

	t = mote_task_supervisor_async_nolink(sup, TASK(answer, (void *)3), PATIENCE);
	EXPECT_EQ(mote_task_await(t, &value, PATIENCE), 0);
	EXPECT_EQ(value, 3);
	t = mote_task_supervisor_async_nolink(sup, TASK(boom, NULL), PATIENCE);
	EXPECT_EQ(mote_task_await_msg(t, &m, PATIENCE), -EPIPE);
	EXPECT(is_down(m, t.ref, t.pid, MOTE_CUSTOM));
	mote_msg_free(m);
	EXPECT_EQ(test_info(mote_self()).links, 0);
	/* terminate_child */
	t = mote_task_supervisor_async_nolink(sup, TASK(for_ever, NULL), PATIENCE);
	EXPECT_EQ(mote_dynamic_terminate_child(sup, t.pid, PATIENCE), 0);
	EXPECT_EQ(mote_task_yield(t, &r, PATIENCE), -EPIPE);
	EXPECT(is_down(r.m, t.ref, t.pid, MOTE_SHUTDOWN));
	mote_msg_free(r.m);
	EXPECT_EQ(mote_dynamic_terminate_child(sup, t.pid, PATIENCE), -ENOENT);
	EXPECT(mailbox_is_empty());
	supervisor_stop(sup);
}

static int64_t stubborn(void *arg)
{
	mote_trap_exit(true);
	mote_send(*(mote_pid *)arg, 2, NULL, 0);
	for (;;) {
		mote_msg_free(mote_receive_type(MOTE_MSG_EXIT, MOTE_FOREVER));
		mote_send(*(mote_pid *)arg, 3, NULL, 0);
	}
	return 0;
}

/* shutdown: how long the supervisor waits for it. */
static void shutdown_option(void)
{
	mote_pid sup = supervisor(0), self = mote_self();
	struct mote_task_opts opts = { .size = sizeof(opts), .fn = stubborn, .arg = &self, .shutdown_ms = 5 };
	struct mote_msg *m;
	mote_task t;

	t = mote_task_supervisor_async_nolink(sup, &opts, PATIENCE);
	EXPECT(got_type(2));
	EXPECT_EQ(mote_dynamic_terminate_child(sup, t.pid, PATIENCE), 0);
	EXPECT_EQ(mote_task_await_msg(t, &m, PATIENCE), -EPIPE);
	EXPECT(is_down(m, t.ref, t.pid, MOTE_KILLED));
	mote_msg_free(m);
	EXPECT(got_type(3));
	/* At once: it is not asked. */
	opts.shutdown_ms = MOTE_SHUTDOWN_BRUTAL;
	t = mote_task_supervisor_async_nolink(sup, &opts, PATIENCE);
	EXPECT(got_type(2));
	EXPECT_EQ(mote_dynamic_terminate_child(sup, t.pid, PATIENCE), 0);
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), -EPIPE);
	EXPECT(mailbox_is_empty());
	supervisor_stop(sup);
}

static void max_children(void)
{
	mote_pid sup = supervisor(1), pid = MOTE_NOBODY;
	mote_task t = mote_task_supervisor_async_nolink(sup, TASK(for_ever, NULL), PATIENCE);

	EXPECT(t.ref.id);
	EXPECT(!mote_task_supervisor_async(sup, TASK(answer, NULL), PATIENCE).ref.id);
	EXPECT_EQ(mote_errno(), -ENOSPC);
	EXPECT_EQ(mote_task_supervisor_start_child(sup, TASK(answer, NULL), &pid, PATIENCE), -ENOSPC);
	EXPECT_EQ(test_info(mote_self()).monitors, 1);
	supervisor_stop(sup);
	EXPECT_EQ(mote_task_await(t, NULL, PATIENCE), -EPIPE);
	EXPECT(!mote_task_supervisor_async(sup, TASK(answer, NULL), PATIENCE).ref.id);
	EXPECT_EQ(mote_errno(), -ESRCH);
	EXPECT(!mote_task_supervisor_async((mote_pid){ 1, 1, 77 }, TASK(answer, NULL), PATIENCE).ref.id);
	EXPECT_EQ(mote_errno(), -EREMOTE);
	EXPECT(mailbox_is_empty());
}

static _Atomic int runs;

/* Fails the first two times. */
static int64_t third_time(void *arg)
{
	if (atomic_fetch_add(&runs, 1) < 2)
		boom(arg);
	mote_send(*(mote_pid *)arg, 7, NULL, 0);
	return 0;
}

static void start_child(void)
{
	mote_pid sup = supervisor(0), self = mote_self(), pid = MOTE_NOBODY;
	struct mote_task_opts opts = { .size = sizeof(opts), .fn = boom, .arg = &self };
	struct mote_child_counts counts = { .size = sizeof(counts) };
	struct mote_child_info *children = NULL;

	/* temporary: once */
	EXPECT_EQ(mote_task_supervisor_start_child(sup, &opts, &pid, PATIENCE), 0);
	EXPECT(got_type(6));
	until_gone(pid);
	/* transient: until it does not fail */
	opts.fn = third_time;
	opts.restart = MOTE_TASK_TRANSIENT;
	EXPECT_EQ(mote_task_supervisor_start_child(sup, &opts, NULL, PATIENCE), 0);
	EXPECT(got_type(6));
	EXPECT(got_type(6));
	EXPECT(got_type(7));
	EXPECT_EQ(atomic_load(&runs), 3);
	/* children */
	opts.fn = for_ever;
	EXPECT_EQ(mote_task_supervisor_start_child(sup, &opts, &pid, PATIENCE), 0);
	do {
		mote_free(children);
		mote_yield();
		EXPECT(mote_supervisor_which_children(sup, &children, PATIENCE) >= 1);
		EXPECT_EQ(mote_supervisor_count_children(sup, &counts, PATIENCE), 0);
	} while (counts.active > 1);
	EXPECT(mote_pid_equal(children[0].pid, pid));
	mote_free(children);
	EXPECT(mailbox_is_empty());
	supervisor_stop(sup);
	/* permanent: always, until that is too often */
	sup = supervisor(0);
	atomic_store(&runs, 2);
	opts.fn = third_time;
	opts.restart = MOTE_TASK_PERMANENT;
	EXPECT_EQ(mote_task_supervisor_start_child(sup, &opts, NULL, PATIENCE), 0);
	for (int i = 0; i < 4; i++)
		EXPECT(got_type(7));
	until_gone(sup);
	EXPECT(mailbox_is_empty());
	opts.restart = 9;
	EXPECT_EQ(mote_task_supervisor_start_child(sup, &opts, NULL, PATIENCE), -EINVAL);
	opts.restart = MOTE_TASK_TRANSIENT;
	EXPECT(!mote_task_supervisor_async(sup, &opts, PATIENCE).ref.id && mote_errno() == -EINVAL);
}

static int64_t callers_of(void *arg)
{
	mote_pid *expected = arg, callers[3];

	EXPECT_EQ(mote_task_callers(callers, 3), 2);
	return mote_pid_equal(callers[0], expected[0]) && mote_pid_equal(callers[1], expected[1]);
}

struct family {
	mote_pid sup, first;
};

static int64_t parent(void *arg)
{
	struct family *family = arg;
	mote_pid expected[2] = { mote_self(), family->first };
	struct mote_task_opts opts = { .size = sizeof(opts), .fn = callers_of, .arg = expected,
				       .arg_size = sizeof(expected) };
	int64_t right = 0;
	mote_task t = mote_task_supervisor_async(family->sup, &opts, PATIENCE);

	/* Its ancestor is the supervisor, its caller this one. */
	memset(expected, 0, sizeof(expected));
	EXPECT_EQ(mote_task_await(t, &right, PATIENCE), 0);
	return right;
}

static void callers(void)
{
	struct family family = { supervisor(0), mote_self() };
	int64_t right = 0;

	EXPECT_EQ(mote_task_await(mote_task_async(parent, &family), &right, PATIENCE), 0);
	EXPECT_EQ(right, 1);
	supervisor_stop(family.sup);
}

struct numbers {
	uintptr_t next, n;
};

static bool next_number(void *it, void **item)
{
	struct numbers *numbers = it;

	if (numbers->next == numbers->n)
		return false;
	*item = (void *)numbers->next++;
	return true;
}

static int64_t second_fails(void *item)
{
	if (item == (void *)1)
		boom(NULL);
	return (int64_t)(intptr_t)item;
}

static void stream(void)
{
	mote_pid sup = supervisor(0);
	struct numbers numbers = { .n = 20 };
	struct mote_task_stream_opts opts = { .size = sizeof(opts), .fn = answer, .next = next_number, .it = &numbers,
					      .max_concurrency = 4, .supervisor = sup };
	struct mote_task_stream *stream = mote_task_stream(&opts);
	struct mote_child_counts counts = { .size = sizeof(counts) };
	struct mote_task_result r;

	for (int i = 0; i < 20; i++) {
		EXPECT_EQ(mote_task_stream_next(stream, &r, PATIENCE), 0);
		EXPECT(!r.err && r.value == i);
	}
	EXPECT_EQ(mote_task_stream_next(stream, &r, PATIENCE), -ENOENT);
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	numbers = (struct numbers){ .n = 3 };
	opts.fn = second_fails;
	opts.nolink = true;
	stream = mote_task_stream(&opts);
	for (int i = 0; i < 3; i++) {
		EXPECT_EQ(mote_task_stream_next(stream, &r, PATIENCE), 0);
		EXPECT_EQ(r.err, i == 1 ? -EPIPE : 0);
		mote_msg_free(r.m);
	}
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	/* Left early. */
	numbers = (struct numbers){ .n = 3 };
	opts.fn = for_ever;
	stream = mote_task_stream(&opts);
	EXPECT_EQ(mote_task_stream_next(stream, &r, mote_in_ms(20)), -EAGAIN);
	EXPECT_EQ(mote_supervisor_count_children(sup, &counts, PATIENCE), 0);
	EXPECT_EQ(counts.active, 3);
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	/* A supervisor that is gone: each item says so. */
	supervisor_stop(sup);
	numbers = (struct numbers){ .n = 2 };
	stream = mote_task_stream(&opts);
	for (uintptr_t i = 0; i < 2; i++) {
		EXPECT_EQ(mote_task_stream_next(stream, &r, PATIENCE), -ESRCH);
		EXPECT(r.item == (void *)i);
	}
	EXPECT_EQ(mote_task_stream_next(stream, &r, PATIENCE), -ENOENT);
	EXPECT_EQ(mote_task_stream_stop(stream, PATIENCE), 0);
	EXPECT(mailbox_is_empty());
}

static int64_t some_time(void *arg)
{
	uint64_t random = (uint64_t)(uintptr_t)arg * 2 + 1;

	test_jitter(&random);
	if (!((uintptr_t)arg % 7))
		mote_exit(MOTE_REASON_SHUTDOWN);
	return (int64_t)(intptr_t)arg;
}

static void storm_owner(void *arg)
{
	mote_pid sup = *(mote_pid *)arg;
	uint64_t random = test_seed() ^ mote_self().serial << 20 ^ mote_self().slot;
	unsigned long rounds = test_rounds(300);

	mote_trap_exit(true);
	for (unsigned long i = 1; i <= rounds; i++) {
		bool link = test_random(&random) & 1;
		mote_task t = (link ? mote_task_supervisor_async : mote_task_supervisor_async_nolink)(
			sup, TASK(some_time, (void *)i), PATIENCE);
		int64_t value;

		if (test_random(&random) & 1) {
			EXPECT_EQ(mote_task_await(t, &value, PATIENCE), i % 7 ? 0 : -EPIPE);
			if (link)
				EXPECT(got_exit(t.pid, i % 7 ? MOTE_NORMAL : MOTE_SHUTDOWN));
		} else {
			int err = mote_task_shutdown(t, NULL, PATIENCE);
			struct mote_msg *m;

			EXPECT(err == -ESHUTDOWN || (err == 0 && i % 7));
			m = mote_receive_type(MOTE_MSG_EXIT, MOTE_NOW);
			EXPECT(!m || (link && mote_pid_equal(m->from, t.pid)));
			mote_msg_free(m);
		}
	}
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).links, 0);
}

static void storm(void)
{
	mote_pid sup = supervisor(0);
	mote_ref ref[4];

	for (int i = 0; i < 4; i++)
		mote_spawn_monitor(storm_owner, &sup, &ref[i]);
	for (int i = 0; i < 4; i++)
		mote_msg_free(mote_receive_ref(ref[i], MOTE_FOREVER));
	supervisor_stop(sup);
}

int main(void)
{
	selftest_process("async: linked, and a child", async);
	selftest_process("links of supervised tasks", links);
	selftest_process("async_nolink; terminate_child", nolink);
	selftest_process("the option shutdown", shutdown_option);
	selftest_process("max_children, and no supervisor", max_children);
	selftest_process("start_child and restart; children", start_child);
	selftest_process("callers", callers);
	selftest_process("async_stream under a supervisor", stream);
	selftest_process("supervised tasks in a storm", storm);
	return selftest_done();
}
