// SPDX-License-Identifier: MIT OR GPL-2.0
/* Servers: starts that wait, callbacks and what they ask for, the ways to an end. The rows of gen_server. */
#include "proc.h"

#include <mote/server.h>
#include <mote/sys.h>
#include <pthread.h>

enum { INCR = 1, GET, LATER, ANSWER_NOW, EXIT_WITH, RETURN_EXIT, CRASH, CONTINUE, IDLE, IDLE_LONG, TOLD, WAIT, KEEP };

enum how { FINE, IGNORE, FAIL, CRASH_IN_INIT, EXIT_IN_INIT, HANG, STOP_IN_INIT, CONTINUE_IN_INIT, IDLE_IN_INIT };

static _Atomic int terminated, began;
static _Atomic uint32_t terminated_kind;

struct counter {
	long n;
	struct mote_from later;
	int idle;
	char log[64];		/* one letter per callback */
};

static void letter(struct counter *c, char what)
{
	size_t n = strlen(c->log);

	if (n + 1 < sizeof(c->log))
		c->log[n] = what;
}

static int counter_init(struct counter *c, void *arg)
{
	enum how how = arg ? *(enum how *)arg : FINE;

	EXPECT_EQ(c->n, 0);
	atomic_fetch_add(&began, 1);
	letter(c, 'i');
	switch (how) {
	case IGNORE:
		return MOTE_IGNORE;
	case FAIL:
		return -ENOTTY;
	case CRASH_IN_INIT:
		abort();
	case EXIT_IN_INIT:
		mote_exit(mote_reason_error(EDOM, "no domain"));
	case HANG:
		mote_sleep(MOTE_FOREVER);
		return 0;
	case STOP_IN_INIT:
		mote_server_exit(mote_reason_error(ERANGE, NULL));
		return 0;
	case CONTINUE_IN_INIT:
		EXPECT_EQ(mote_server_continue(CONTINUE, "x", 2), 0);
		return 0;
	case IDLE_IN_INIT:
		EXPECT_EQ(mote_server_timeout(mote_in_ms(1), IDLE), 0);
		return 0;
	case FINE:
		break;
	}
	return 0;
}

static void counter_call(struct counter *c, struct mote_from from, const struct mote_msg *m)
{
	struct mote_from later;

	letter(c, 'c');
	switch (m->type) {
	case INCR:
		c->n += m->size == sizeof(long) ? *(long *)m->data : 1;
		mote_reply(from, INCR, &c->n, sizeof(c->n));
		break;
	case GET:
		mote_reply(from, GET, c->log, strlen(c->log) + 1);
		break;
	case LATER:
		c->later = from;
		break;
	case ANSWER_NOW:
		later = c->later;
		mote_reply(from, ANSWER_NOW, NULL, 0);
		mote_reply(later, LATER, "late", 5);
		break;
	case EXIT_WITH:
		mote_exit(mote_reason_error(EIO, NULL));
	case RETURN_EXIT:
		mote_reply(from, RETURN_EXIT, NULL, 0);
		mote_server_exit(mote_reason_error(EXDEV, "through"));
		letter(c, '!');
		break;
	case CRASH:
		__builtin_trap();
	case CONTINUE:
		EXPECT_EQ(mote_server_continue(CONTINUE, "y", 2), 0);
		mote_reply(from, CONTINUE, NULL, 0);
		break;
	case IDLE:
	case IDLE_LONG:
		EXPECT_EQ(mote_server_timeout(mote_in_ms(m->type == IDLE ? 20 : 60000), IDLE), 0);
		mote_reply(from, IDLE, NULL, 0);
		break;
	}
}

static void counter_cast(struct counter *c, const struct mote_msg *m)
{
	letter(c, 's');
	if (m->type == INCR)
		c->n++;
	if (m->type == WAIT)
		mote_sleep(mote_in_ms(30));
	if (m->type == KEEP) {
		mote_msg_free(mote_msg_keep(m));
		return;
	}
	if (m->type == CRASH)
		abort();
	if (m->type == RETURN_EXIT)
		mote_server_exit(MOTE_REASON_NORMAL);
}

static void counter_info(struct counter *c, const struct mote_msg *m)
{
	letter(c, m->type == IDLE ? 't' : m->type == MOTE_MSG_EXIT ? 'x' : 'o');
	if (m->type == IDLE) {
		EXPECT_EQ(m->size, 0);
		c->idle++;
	}
}

static void counter_continue(struct counter *c, const struct mote_msg *m)
{
	EXPECT_EQ(m->type, CONTINUE);
	EXPECT_EQ(m->size, 2);
	letter(c, *(char *)m->data);
	if (*(char *)m->data == 'x')
		EXPECT_EQ(mote_server_continue(CONTINUE, "z", 2), 0);
}

static void counter_terminate(struct counter *c, const struct mote_reason *why)
{
	EXPECT_EQ(c->log[0], 'i');
	atomic_store(&terminated_kind, why->kind);
	atomic_fetch_add(&terminated, 1);
}

MOTE_SERVER(counter, struct counter,
	.init = counter_init,
	.handle_call = counter_call,
	.handle_cast = counter_cast,
	.handle_info = counter_info,
	.handle_continue = counter_continue,
	.terminate = counter_terminate);

static mote_pid start(void)
{
	mote_pid pid;

	EXPECT_EQ(mote_server_start(&counter.ops, NULL, NULL, &pid), 0);
	return pid;
}

static bool log_is(mote_pid pid, const char *expected)
{
	struct mote_msg *m = NULL;
	bool ok;

	if (mote_call(pid, GET, NULL, 0, &m, PATIENCE))
		return false;
	ok = !strcmp(m->data, expected);
	if (!ok)
		test_note("the callbacks were %s, not %s", (char *)m->data, expected);
	mote_msg_free(m);
	return ok;
}

static void callbacks(void)
{
	mote_pid pid = start();
	struct mote_msg *m = NULL;
	long by = 5;

	EXPECT_EQ(mote_call(pid, INCR, &by, sizeof(by), &m, PATIENCE), 0);
	EXPECT(m && *(long *)m->data == 5);
	mote_msg_free(m);
	EXPECT_EQ(mote_cast(pid, INCR, NULL, 0), 0);
	EXPECT_EQ(mote_cast(pid, KEEP, NULL, 0), 0);
	EXPECT_EQ(mote_send(pid, TOLD, NULL, 0), 0);
	EXPECT_EQ(mote_cast(pid, MOTE_MSG_SYSTEM, NULL, 0), -EINVAL);
	EXPECT(log_is(pid, "icssoc"));
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), 0);
	EXPECT(!mote_alive(pid));
}

static void later(void)
{
	mote_pid pid = start();
	mote_ref ref = mote_request(pid, LATER, NULL, 0);
	struct mote_msg *m;

	EXPECT(!mote_receive_ref(ref, mote_in_ms(10)));
	EXPECT_EQ(mote_call(pid, ANSWER_NOW, NULL, 0, NULL, PATIENCE), 0);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(m && m->type == LATER && !strcmp(m->data, "late"));
	mote_msg_free(m);
	put_down(pid);
}

/* Starts that fail. */
static void fail_with(enum how how, int err, uint32_t kind, bool link)
{
	struct mote_msg *why = NULL;
	struct mote_server_opts opts = { .size = sizeof(opts), .name = "failing", .why = &why,
					 .timeout_ms = how == HANG ? 20 : 0 };
	mote_pid pid = mote_self();
	int got;

	mote_trap_exit(true);
	got = link ? mote_server_start_link(&counter.ops, &how, &opts, &pid) :
		     mote_server_start(&counter.ops, &how, &opts, &pid);
	EXPECT_EQ(got, err);
	EXPECT(!mote_pid_valid(pid));
	EXPECT(!mote_pid_valid(mote_whereis("failing")));
	EXPECT(mailbox_is_empty());
	EXPECT(err == -EPIPE ? why && mote_msg_down(why)->reason.kind == kind : !why);
	mote_msg_free(why);
	EXPECT_EQ(atomic_load(&terminated), 0);
}

static void failing(void)
{
	atomic_store(&terminated, 0);
	for (int link = 0; link < 2; link++) {
		fail_with(IGNORE, MOTE_IGNORE, 0, link);
		fail_with(FAIL, -ENOTTY, 0, link);
		fail_with(CRASH_IN_INIT, -EPIPE, MOTE_SIGNAL, link);
		fail_with(EXIT_IN_INIT, -EPIPE, MOTE_ERROR, link);
		fail_with(STOP_IN_INIT, -EPIPE, MOTE_ERROR, link);
		fail_with(HANG, -ETIMEDOUT, 0, link);
	}
}

static void failing_skipped(void)
{
	if (SANITIZED)
		selftest_skip("sanitizers report crashes themselves");
	else
		failing();
}

static void linked_starter(void *arg)
{
	mote_pid pid;
	enum how how = *(enum how *)arg;

	EXPECT_EQ(mote_server_start_link(&counter.ops, &how, NULL, &pid), how == FAIL ? -ENOTTY : -EPIPE);
	mote_exit(MOTE_REASON_SHUTDOWN);
}

/* As in OTP: an error that init returns is quiet, any other end of a linked server takes the starter along. */
static void untrapped(void)
{
	enum how how = FAIL;
	mote_ref ref;
	mote_pid pid = mote_spawn_monitor(linked_starter, &how, &ref);

	EXPECT(got_down(ref, pid, MOTE_SHUTDOWN));
	how = EXIT_IN_INIT;
	pid = mote_spawn_monitor(linked_starter, &how, &ref);
	EXPECT(got_down(ref, pid, MOTE_ERROR));
}

static void names(void)
{
	struct mote_server_opts opts = { .size = sizeof(opts), .name = "the counter" };
	mote_pid pid, other = MOTE_NOBODY;

	atomic_store(&began, 0);
	EXPECT_EQ(mote_server_start(&counter.ops, NULL, &opts, &pid), 0);
	EXPECT(mote_pid_equal(mote_whereis("the counter"), pid));
	EXPECT_EQ(mote_server_start(&counter.ops, NULL, &opts, &other), -EEXIST);
	EXPECT(mote_pid_equal(pid, other));
	EXPECT_EQ(atomic_load(&began), 1);
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_SHUTDOWN, PATIENCE), 0);
	EXPECT_EQ(mote_server_start(&counter.ops, NULL, &opts, &pid), 0);
	put_down(pid);
	opts.name = "";
	EXPECT_EQ(mote_server_start(&counter.ops, NULL, &opts, &pid), -EINVAL);
}

static mote_pid via_holder;

static int via_register(const struct mote_via *via, mote_pid *holder)
{
	EXPECT_EQ(via->key_size, 4);
	EXPECT(!memcmp(via->key, "key", 4));
	if (mote_alive(via_holder)) {
		*holder = via_holder;
		return -EEXIST;
	}
	via_holder = mote_self();
	return 0;
}

static mote_pid via_find(const struct mote_via *via)
{
	(void)via;
	return via_holder;
}

static void via_names(void)
{
	struct mote_via via = { .register_self = via_register, .whereis = via_find, .key = "key", .key_size = 4 };
	struct mote_server_opts opts = { .size = sizeof(opts), .via = &via };
	mote_pid pid, other;

	via_holder = MOTE_NOBODY;
	EXPECT_EQ(mote_server_start(&counter.ops, NULL, &opts, &pid), 0);
	EXPECT(mote_pid_equal(mote_via_whereis(&via), pid));
	EXPECT_EQ(mote_server_start(&counter.ops, NULL, &opts, &other), -EEXIST);
	EXPECT(mote_pid_equal(other, pid));
	put_down(pid);
	opts.name = "both";
	EXPECT_EQ(mote_server_start(&counter.ops, NULL, &opts, &other), -EINVAL);
}

static void continues(void)
{
	enum how how = CONTINUE_IN_INIT;
	mote_pid pid;

	EXPECT_EQ(mote_server_start(&counter.ops, &how, NULL, &pid), 0);
	mote_send(pid, TOLD, NULL, 0);
	EXPECT(log_is(pid, "ixzoc"));
	/* Two messages that wait already: the continuation goes before the second. */
	mote_cast(pid, WAIT, NULL, 0);
	mote_msg_free(mote_receive_ref(mote_request(pid, CONTINUE, NULL, 0), MOTE_NOW));
	mote_send(pid, TOLD, NULL, 0);
	EXPECT(log_is(pid, "ixzocscyoc"));
	put_down(pid);
}

static void timeouts(void)
{
	enum how how = IDLE_IN_INIT;
	mote_pid pid;

	EXPECT_EQ(mote_server_start(&counter.ops, &how, NULL, &pid), 0);
	mote_sleep(mote_in_ms(20));
	EXPECT(log_is(pid, "itc"));
	/* Ended by whatever comes before it. */
	EXPECT_EQ(mote_call(pid, IDLE, NULL, 0, NULL, PATIENCE), 0);
	EXPECT_EQ(mote_send(pid, TOLD, NULL, 0), 0);
	mote_sleep(mote_in_ms(60));
	EXPECT(log_is(pid, "itccoc"));
	/* One that has come, and waits behind another message, is too late. */
	EXPECT_EQ(mote_call(pid, IDLE, NULL, 0, NULL, PATIENCE), 0);
	mote_sys_suspend(pid, PATIENCE);
	mote_send(pid, TOLD, NULL, 0);
	mote_sleep(mote_in_ms(60));
	mote_sys_resume(pid, PATIENCE);
	EXPECT(log_is(pid, "itccoccoc"));
	/* A system message does not end it. */
	EXPECT_EQ(mote_call(pid, IDLE, NULL, 0, NULL, PATIENCE), 0);
	mote_sys_statistics(pid, true, PATIENCE);
	mote_sleep(mote_in_ms(60));
	EXPECT(log_is(pid, "itccoccocctc"));
	/* One that has come is not taken for the next, either. */
	EXPECT_EQ(mote_call(pid, IDLE, NULL, 0, NULL, PATIENCE), 0);
	mote_sys_suspend(pid, PATIENCE);
	mote_msg_free(mote_receive_ref(mote_request(pid, IDLE_LONG, NULL, 0), mote_in_ms(60)));
	mote_sys_resume(pid, PATIENCE);
	EXPECT(log_is(pid, "itccoccocctcccc"));
	put_down(pid);
}

/* Ends the server, and says how: terminate was called, with that reason, or was not. */
static void ends(mote_pid pid, mote_ref ref, bool last_words, uint32_t kind)
{
	EXPECT(got_down(ref, pid, kind));
	EXPECT_EQ(atomic_load(&terminated), last_words);
	if (last_words)
		EXPECT_EQ(atomic_load(&terminated_kind), kind);
	atomic_store(&terminated, 0);
}

static mote_pid start_watched(unsigned int flags, mote_ref *ref)
{
	struct mote_server_opts opts = { .size = sizeof(opts), .flags = flags };
	mote_pid pid;

	atomic_store(&terminated, 0);
	EXPECT_EQ(mote_server_start_monitor(&counter.ops, NULL, &opts, &pid, ref), 0);
	return pid;
}

static void last_words(void)
{
	struct mote_msg *m;
	mote_ref ref;
	mote_pid pid;

	pid = start_watched(0, &ref);
	EXPECT_EQ(mote_call(pid, EXIT_WITH, NULL, 0, NULL, PATIENCE), -EPIPE);
	ends(pid, ref, true, MOTE_ERROR);

	pid = start_watched(0, &ref);
	EXPECT_EQ(mote_call(pid, RETURN_EXIT, NULL, 0, NULL, PATIENCE), 0);
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(is_down(m, ref, pid, MOTE_ERROR));
	EXPECT(m && mote_msg_down(m)->reason.code == EXDEV && !memcmp(mote_msg_down(m)->reason.data, "through", 7));
	mote_msg_free(m);
	EXPECT_EQ(atomic_load(&terminated), 1);

	pid = start_watched(0, &ref);
	mote_cast(pid, RETURN_EXIT, NULL, 0);
	ends(pid, ref, true, MOTE_NORMAL);

	pid = start_watched(0, &ref);
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_SHUTDOWN, PATIENCE), 0);
	ends(pid, ref, true, MOTE_SHUTDOWN);

	/* Exit signals: not, unless they are trapped and the parent's. */
	pid = start_watched(0, &ref);
	mote_exit_pid(pid, MOTE_REASON_SHUTDOWN);
	ends(pid, ref, false, MOTE_SHUTDOWN);

	pid = start_watched(MOTE_TRAP_EXIT, &ref);
	mote_exit_pid(pid, MOTE_REASON_SHUTDOWN);
	EXPECT(log_is(pid, "ixc"));
	mote_exit_pid(pid, MOTE_REASON_KILL);
	ends(pid, ref, false, MOTE_KILLED);
}

static void crashes(void)
{
	mote_ref ref;
	mote_pid pid;

	if (SANITIZED) {
		selftest_skip("sanitizers report crashes themselves");
		return;
	}
	pid = start_watched(0, &ref);
	EXPECT_EQ(mote_call(pid, CRASH, NULL, 0, NULL, PATIENCE), -EPIPE);
	ends(pid, ref, true, MOTE_SIGNAL);
	pid = start_watched(0, &ref);
	mote_cast(pid, CRASH, NULL, 0);
	ends(pid, ref, true, MOTE_SIGNAL);
}

struct child {
	mote_pid pid, boss;
	unsigned int flags;
};

static void parent(void *arg)
{
	struct child *child = arg;
	struct mote_server_opts opts = { .size = sizeof(opts), .flags = child->flags };

	EXPECT_EQ(mote_server_start_link(&counter.ops, NULL, &opts, &child->pid), 0);
	mote_send(child->boss, TOLD, NULL, 0);
	mote_receive_type(TOLD, MOTE_FOREVER);
	mote_exit(mote_reason_error(ENXIO, NULL));
}

static void orphan(unsigned int flags, bool words)
{
	struct child child = { .boss = mote_self(), .flags = flags };
	mote_pid pid = mote_spawn(parent, &child);
	mote_ref ref;

	atomic_store(&terminated, 0);
	EXPECT(got_type(TOLD));
	ref = mote_monitor(child.pid);
	mote_send(pid, TOLD, NULL, 0);
	ends(child.pid, ref, words, MOTE_ERROR);
}

static void orphans(void)
{
	orphan(0, false);
	orphan(MOTE_TRAP_EXIT, true);
}

static void *foreign_exit(void *pid)
{
	mote_exit_pid(*(mote_pid *)pid, MOTE_REASON_NORMAL);
	return NULL;
}

/* A server without a parent has none among foreign threads, either. */
static void nobodys_child(void)
{
	mote_ref ref;
	mote_pid pid = start_watched(MOTE_TRAP_EXIT, &ref);
	pthread_t thread;

	EXPECT_EQ(pthread_create(&thread, NULL, foreign_exit, &pid), 0);
	EXPECT_EQ(pthread_join(thread, NULL), 0);
	EXPECT(log_is(pid, "ixc"));
	EXPECT_EQ(mote_sys_suspend(pid, PATIENCE), 0);
	EXPECT_EQ(pthread_create(&thread, NULL, foreign_exit, &pid), 0);
	EXPECT_EQ(pthread_join(thread, NULL), 0);
	EXPECT_EQ(mote_sys_resume(pid, PATIENCE), 0);
	EXPECT(log_is(pid, "ixcxc"));
	put_down(pid);
	EXPECT(got_down(ref, pid, MOTE_KILLED));
}

static void left_alive(void)
{
	struct mote_server_opts opts = { .size = sizeof(opts), .flags = MOTE_TRAP_EXIT };
	mote_pid pid;

	atomic_store(&terminated, 0);
	EXPECT_EQ(mote_server_start(&counter.ops, NULL, &opts, &pid), 0);
}

static void after_the_stop(void)
{
	EXPECT_EQ(atomic_load(&terminated), 1);
	EXPECT_EQ(atomic_load(&terminated_kind), MOTE_SHUTDOWN);
}

static void stops(void)
{
	mote_ref ref;
	mote_pid pid = start_watched(0, &ref);

	EXPECT_EQ(mote_server_stop(mote_self(), MOTE_REASON_NORMAL, PATIENCE), -EDEADLK);
	mote_cast(pid, WAIT, NULL, 0);
	mote_cast(pid, WAIT, NULL, 0);
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, mote_in_ms(1)), -ETIMEDOUT);
	EXPECT(got_down(ref, pid, MOTE_NORMAL));
	EXPECT_EQ(mote_server_stop(pid, MOTE_REASON_NORMAL, PATIENCE), -ESRCH);
	pid = start();
	mote_cast(pid, WAIT, NULL, 0);
	mote_cast(pid, RETURN_EXIT, NULL, 0);
	EXPECT_EQ(mote_server_stop(pid, mote_reason_error(EIO, "a text"), PATIENCE), -EPIPE);
	pid = start();
	EXPECT_EQ(mote_server_stop(pid, mote_reason_error(EIO, "a text"), PATIENCE), 0);
	EXPECT(mailbox_is_empty());
}

static const struct mote_server_ops deaf = { .size = sizeof(deaf) };

static void no_callbacks(void)
{
	mote_pid pid;
	mote_ref ref;

	EXPECT_EQ(mote_server_start_monitor(&deaf, NULL, NULL, &pid, &ref), 0);
	mote_send(pid, TOLD, NULL, 0);
	EXPECT_EQ(mote_call(pid, GET, NULL, 0, NULL, PATIENCE), -EPIPE);
	EXPECT(got_down(ref, pid, MOTE_ERROR));
	EXPECT_EQ(mote_server_start_monitor(&deaf, NULL, NULL, &pid, &ref), 0);
	mote_cast(pid, TOLD, NULL, 0);
	EXPECT(got_down(ref, pid, MOTE_ERROR));
	EXPECT_EQ(mote_server_start(NULL, NULL, NULL, &pid), -EINVAL);
	EXPECT_EQ(mote_server_start_monitor(&deaf, NULL, NULL, &pid, NULL), -EINVAL);
}

static void idle(void)
{
	mote_pid pid = start();
	struct mote_process_info info;

	mote_call(pid, INCR, NULL, 0, NULL, PATIENCE);
	/* It waits before its stack is given back, on another scheduler. */
	for (int i = 0; i < 1000; i++) {
		info = test_info(pid);
		if (info.state == MOTE_WAITING && !info.stack)
			break;
		mote_sleep(mote_in_ms(1));
	}
	EXPECT_EQ(info.state, MOTE_WAITING);
	EXPECT_EQ(info.stack, 0);
	EXPECT(info.server);
	put_down(pid);
}

static void collection(void)
{
	enum { N = 300 };
	struct mote_requests *r = mote_requests_new();
	mote_pid pids[3] = { start(), start(), start() };
	unsigned int answered = 0, seen[N] = { 0 };
	struct mote_msg *m;
	void *label;

	EXPECT_EQ(mote_requests_receive(r, NULL, NULL, MOTE_NOW), -ENOENT);
	for (uintptr_t i = 0; i < N; i++)
		EXPECT_EQ(mote_requests_send(r, pids[i % 3], i % 10 == 9 ? LATER : INCR, NULL, 0, (void *)(i + 1)), 0);
	EXPECT_EQ(mote_requests_count(r), N);
	while (answered < N / 10 * 9) {
		if (!EXPECT(!mote_requests_receive(r, &m, &label, PATIENCE)))
			break;
		seen[(uintptr_t)label - 1]++;
		answered++;
		mote_msg_free(m);
	}
	for (unsigned int i = 0; i < N; i++)
		EXPECT_EQ(seen[i], i % 10 != 9);
	EXPECT_EQ(mote_requests_receive(r, &m, &label, mote_in_ms(1)), -ETIMEDOUT);
	put_down(pids[0]);
	EXPECT_EQ(mote_requests_receive(r, &m, &label, PATIENCE), -EPIPE);
	EXPECT_EQ(((uintptr_t)label - 1) % 3, 0);
	mote_requests_free(r);
	EXPECT_EQ(mote_call(pids[1], ANSWER_NOW, NULL, 0, NULL, PATIENCE), 0);
	EXPECT(mailbox_is_empty());
	put_down(pids[1]);
	put_down(pids[2]);
}

static void multi(void)
{
	struct mote_multi_result r[4] = { { .pid = start() }, { .pid = start() }, { .pid = mote_self() }, { .pid = start() } };
	long by = 7;

	put_down(r[1].pid);
	mote_cast(r[3].pid, CRASH + 100, NULL, 0);
	EXPECT_EQ(mote_multi_call(r, 4, INCR, &by, sizeof(by), mote_in_ms(100)), 2);
	EXPECT_EQ(r[0].err, 0);
	EXPECT(r[0].reply && *(long *)r[0].reply->data == 7);
	EXPECT_EQ(r[1].err, -ESRCH);
	EXPECT_EQ(r[2].err, -ETIMEDOUT);
	EXPECT(!r[1].reply && !r[2].reply);
	EXPECT_EQ(r[3].err, 0);
	mote_msg_free(r[0].reply);
	mote_msg_free(r[3].reply);
	mote_msg_free(mote_receive_type(INCR, MOTE_NOW));
	put_down(r[0].pid);
	put_down(r[3].pid);
}

static void special(void *arg)
{
	enum how how = *(enum how *)arg;

	if (how == FAIL)
		mote_start_fail(-ENOTTY);
	if (how == EXIT_IN_INIT)
		mote_exit(mote_reason_error(EDOM, NULL));
	if (how == HANG)
		mote_sleep(MOTE_FOREVER);
	EXPECT_EQ(mote_start_ack(), 0);
	EXPECT_EQ(mote_start_ack(), -EINVAL);
	mote_receive_type(TOLD, MOTE_FOREVER);
}

static void acknowledged(void)
{
	struct mote_server_opts opts = { .size = sizeof(opts), .name = "special", .timeout_ms = 50 };
	enum how how = FINE;
	mote_pid pid, other;

	mote_trap_exit(true);
	EXPECT_EQ(mote_proc_start(special, &how, &opts, &pid), 0);
	EXPECT(mote_pid_equal(mote_whereis("special"), pid));
	EXPECT_EQ(mote_proc_start(special, &how, &opts, &other), -EEXIST);
	EXPECT(mote_pid_equal(other, pid));
	mote_send(pid, TOLD, NULL, 0);
	EXPECT(got_exit(pid, MOTE_NORMAL));
	how = FAIL;
	EXPECT_EQ(mote_proc_start(special, &how, &opts, &pid), -ENOTTY);
	how = EXIT_IN_INIT;
	EXPECT_EQ(mote_proc_start(special, &how, &opts, &pid), -EPIPE);
	how = HANG;
	EXPECT_EQ(mote_proc_start(special, &how, &opts, &pid), -ETIMEDOUT);
	EXPECT(mailbox_is_empty());
}

static void killed_starter(void *arg)
{
	enum how how = HANG;
	mote_pid pid;

	(void)arg;
	mote_server_start_link(&counter.ops, &how, NULL, &pid);
}

/* Whoever starts may be killed at any moment: what it was about to start goes with it. */
static void race_start(void)
{
	uint64_t random = test_seed();
	mote_pid pid;
	mote_ref ref;

	for (unsigned long i = 0; i < test_rounds(3000); i++) {
		pid = mote_spawn_monitor(killed_starter, NULL, &ref);
		test_jitter(&random);
		mote_exit_pid(pid, MOTE_REASON_KILL);
		mote_msg_free(mote_receive_ref(ref, PATIENCE));
	}
	/* Only this process is left. */
	while (!mote_pid_equal(mote_process_next(MOTE_NOBODY), mote_self()) || mote_pid_valid(mote_process_next(mote_self())))
		mote_sleep(mote_in_ms(1));
}

int main(void)
{
	selftest_process_opts("calls, casts and infos each go to their callback", callbacks, SCHEDULERS(2));
	selftest_process("an answer may come later", later);
	selftest_process_opts("a start that fails says how, and leaves nothing", failing_skipped, SCHEDULERS(2));
	selftest_process("a linked start that fails: what the starter gets", untrapped);
	selftest_process("a name is had before init; already started", names);
	selftest_process("a name by way of somebody else", via_names);
	selftest_process("what is to be continued goes before all else", continues);
	selftest_process("a timeout is ended by what comes first", timeouts);
	selftest_process_opts("terminate runs when it should, and only then", last_words, SCHEDULERS(2));
	selftest_process("a crash ends in terminate, too", crashes);
	selftest_process_opts("a parent's end", orphans, SCHEDULERS(2));
	selftest_process("an exit signal from nobody is not a parent's", nobodys_child);
	selftest_process("stop waits for the end", stops);
	selftest_process("the runtime stops with a server alive that has no parent", left_alive);
	selftest_case("it has ended by way of terminate", after_the_stop);
	selftest_process("callbacks that are missing", no_callbacks);
	selftest_process("an idle server has no stack", idle);
	selftest_process_opts("a collection of requests", collection, SCHEDULERS(2));
	selftest_process("a call to many", multi);
	selftest_process("a process that acknowledges its start", acknowledged);
	selftest_process_opts("race: kill against start", race_start, SCHEDULERS(2));
	return selftest_done();
}
