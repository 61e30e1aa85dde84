// SPDX-License-Identifier: MIT OR GPL-2.0
/* Servers: callbacks on a lent stack, state in the heap, and the same law as for every process. */
#include "proc.h"

#define SERVER(ops_, arg_, ref_, ...) \
	mote_spawn_opts(&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts), .handler = (ops_), \
						   .arg = (arg_), .flags = MOTE_MONITOR, .ref = (ref_), __VA_ARGS__ })

enum { ADD = 1, GET, REPLY, SLEEP, ASK, STOP, KEEP, KEPT, LATER, NOW, NOTE, STACK };

struct state {
	int64_t n;
	mote_pid boss;
	char zeroes[1000];
	struct mote_msg *kept;
	struct mote_from waiting;
};

/* What happened, in order, written by callbacks and cleanups: init i, terminate t, defer d. */
static char trace[64];
static _Atomic int traced;

static void trace_clear(void)
{
	memset(trace, 0, sizeof(trace));
	atomic_store(&traced, 0);
}

static void trace_add(char c)
{
	trace[(unsigned int)atomic_fetch_add(&traced, 1) % (sizeof(trace) - 1)] = c;
}

static void cleanup(void *arg)
{
	trace_add(*(char *)arg);
}

static int init(void *state, void *arg)
{
	struct state *s = state;

	for (size_t i = 0; i < sizeof(*s); i++)
		EXPECT_EQ(((char *)state)[i], 0);
	s->boss = *(mote_pid *)arg;
	s->n = 100;
	trace_add('i');
	return 0;
}

static void call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct state *s = state;
	struct mote_msg *reply = NULL;
	uint64_t bytes;

	switch (m->type) {
	case ADD:
		s->n += *(int *)m->data;
		mote_reply(from, REPLY, &s->n, sizeof(s->n));
		break;
	case GET:
		mote_reply(from, REPLY, &s->n, sizeof(s->n));
		break;
	case SLEEP:
		mote_sleep(mote_in_ms(*(int *)m->data));
		mote_reply(from, REPLY, &s->n, sizeof(s->n));
		break;
	case ASK:	/* a call within a call */
		EXPECT_EQ(mote_call(*(mote_pid *)m->data, GET, NULL, 0, &reply, PATIENCE), 0);
		mote_reply_msg(from, reply);
		break;
	case LATER:
		s->waiting = from;
		break;
	case NOW:
		mote_reply(s->waiting, REPLY, &s->n, sizeof(s->n));
		mote_reply(from, REPLY, &s->n, sizeof(s->n));
		break;
	case STACK:
		bytes = test_info(mote_self()).stack;
		mote_reply(from, REPLY, &bytes, sizeof(bytes));
		break;
	case STOP:
		mote_exit(mote_reason_error(EPIPE, "stop"));
	}
}

static void info(void *state, const struct mote_msg *m)
{
	struct state *s = state;

	if (m->type == KEEP) {
		s->kept = mote_msg_keep(m);
		EXPECT(s->kept);
		EXPECT(!mote_msg_keep(m));
		EXPECT(!memcmp(s->kept->data, "keep", 5));
	} else if (m->type == KEPT) {
		if (EXPECT(s->kept)) {
			EXPECT(!memcmp(s->kept->data, "keep", 5));
			mote_send_msg(s->boss, s->kept);
		}
	} else if (m->type == STOP) {
		mote_exit(mote_reason_error(EPIPE, "stop"));
	} else if (m->type == MOTE_MSG_EXIT) {
		EXPECT(mote_msg_exit(m));
		mote_send(s->boss, NOTE, &mote_msg_exit(m)->reason.kind, sizeof(uint32_t));
	} else if (m->type == MOTE_MSG_DOWN) {
		EXPECT(mote_msg_down(m));
		mote_send(s->boss, NOTE, &mote_msg_down(m)->reason.kind, sizeof(uint32_t));
	} else if (m->type == ADD) {
		s->n += *(int *)m->data;
	} else if (m->type == SLEEP) {
		mote_sleep(mote_in_ms(*(int *)m->data));
	} else if (m->type == ASK) {
		mote_monitor(*(mote_pid *)m->data);
	} else if (m->type == PING) {
		mote_send(m->from, PING, NULL, 0);
	}
}

static void terminate(void *state, const struct mote_reason *why)
{
	struct state *s = state;
	uint32_t kind = why->kind;

	trace_add('t');
	mote_send(s->boss, REPLY, &kind, sizeof(kind));
}

static const struct mote_handler_ops full = {
	.size = sizeof(full), .state_size = sizeof(struct state),
	.init = init, .call = call, .info = info, .terminate = terminate,
};

static int64_t ask(mote_pid p, uint32_t type, int n)
{
	struct mote_msg *m = NULL;
	int64_t v;
	int err = mote_call(p, type, &n, sizeof(n), &m, PATIENCE);

	if (err)
		return err;
	v = *(int64_t *)m->data;
	mote_msg_free(m);
	return v;
}

static bool said(uint32_t type, uint32_t kind)
{
	struct mote_msg *m = mote_receive_type(type, PATIENCE);
	bool ok = m && *(uint32_t *)m->data == kind;

	mote_msg_free(m);
	return ok;
}

static void calls_and_infos(void)
{
	mote_pid me = mote_self();
	mote_ref ref;
	mote_pid p = SERVER(&full, &me, &ref, .name = "server", .label = "adder");
	int two = 2;

	EXPECT(mote_pid_equal(mote_whereis("server"), p));
	EXPECT(test_info(p).server);
	EXPECT_EQ(ask(p, ADD, 5), 105);
	EXPECT_EQ(ask(p, ADD, -5), 100);
	for (int i = 0; i < 100; i++)
		mote_send(p, ADD, &two, sizeof(two));
	EXPECT_EQ(ask(p, GET, 0), 300);
	put_down(p);
	EXPECT(got_down(ref, p, MOTE_KILLED));
	EXPECT(mailbox_is_empty());
}

static int refuse(void *state, void *arg)
{
	(void)state;
	mote_defer(cleanup, "d");
	return *(int *)arg;
}

static void init_fails(void)
{
	static const struct mote_handler_ops ops = {
		.size = sizeof(ops), .state_size = sizeof(struct state), .init = refuse, .terminate = terminate };
	int err = -ENOENT;
	mote_ref ref;
	mote_pid p;
	struct mote_msg *m;

	trace_clear();
	p = SERVER(&ops, &err, &ref, .name = "refused");
	m = mote_receive_ref(ref, PATIENCE);
	if (EXPECT(is_down(m, ref, p, MOTE_ERROR)))
		EXPECT_EQ(mote_msg_down(m)->reason.code, ENOENT);
	mote_msg_free(m);
	EXPECT(!mote_pid_valid(mote_whereis("refused")));
	/* as in OTP: nothing was begun, so nothing is terminated */
	EXPECT(!strcmp(trace, "d"));
	EXPECT_EQ(ask(p, GET, 0), -ESRCH);
	EXPECT(mailbox_is_empty());
}

static int exits(void *state, void *arg)
{
	(void)state;
	(void)arg;
	mote_exit(MOTE_REASON_SHUTDOWN);
}

static void exit_in_init(void)
{
	static const struct mote_handler_ops ops = { .size = sizeof(ops), .state_size = 8, .init = exits };
	mote_ref ref;
	mote_pid p = SERVER(&ops, NULL, &ref);

	EXPECT(got_down(ref, p, MOTE_SHUTDOWN));
}

static int slow_init(void *state, void *arg)
{
	(void)arg;
	mote_sleep(mote_in_ms(5));
	((struct state *)state)->n = 7;
	return 0;
}

static void init_comes_first(void)
{
	static const struct mote_handler_ops ops = {
		.size = sizeof(ops), .state_size = sizeof(struct state), .init = slow_init, .call = call };
	mote_ref ref;
	mote_pid p = SERVER(&ops, NULL, &ref);

	EXPECT_EQ(ask(p, ADD, 1), 8);
	put_down(p);
}

static void count_infos(void *state, const struct mote_msg *m)
{
	int *n = state;

	++*n;
	if (m->type == GET) {
		EXPECT(mote_msg_from(m).ref.id);
		mote_reply(mote_msg_from(m), REPLY, &(int64_t){ *n }, sizeof(int64_t));
	}
}

static void sparse_ops(void)
{
	static const struct mote_handler_ops no_call = {
		.size = sizeof(no_call), .state_size = sizeof(int), .info = count_infos };
	static const struct mote_handler_ops no_info = {
		.size = sizeof(no_info), .state_size = sizeof(struct state), .call = call };
	static const struct mote_handler_ops bare = { .size = sizeof(bare) };
	mote_ref ref;
	mote_pid p = SERVER(&no_call, NULL, &ref);
	struct mote_process_info pi;

	/* no call: requests go to info; no info: dropped, EXIT and DOWN too; neither: all is dropped */
	mote_send(p, NOTE, NULL, 0);
	EXPECT_EQ(ask(p, GET, 0), 2);
	put_down(p);
	p = SERVER(&no_info, NULL, &ref);
	mote_send(p, STOP, NULL, 0);
	EXPECT_EQ(ask(p, GET, 0), 0);
	pi = test_info(p);
	EXPECT_EQ(pi.mailbox, 0);
	put_down(p);
	p = SERVER(&bare, NULL, &ref);
	mote_send(p, NOTE, NULL, 0);
	EXPECT_EQ(mote_call(p, GET, NULL, 0, NULL, mote_in_ms(5)), -ETIMEDOUT);
	EXPECT(mote_alive(p));
	while (test_info(p).mailbox)
		mote_yield();
	mote_exit_pid(p, MOTE_REASON_SHUTDOWN);
	EXPECT(mote_pid_valid(p));
}

static void signals_to_info(void)
{
	mote_pid me = mote_self(), other = mote_spawn(sink, NULL);
	mote_ref ref;
	mote_pid p = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .handler = &full, .arg = &me, .ref = &ref,
		.flags = MOTE_MONITOR | MOTE_TRAP_EXIT });

	mote_exit_pid(p, MOTE_REASON_SHUTDOWN);
	EXPECT(said(NOTE, MOTE_SHUTDOWN));
	mote_send(p, ASK, &other, sizeof(other));
	EXPECT_EQ(ask(p, GET, 0), 100);
	put_down(other);
	EXPECT(said(NOTE, MOTE_KILLED));
	EXPECT_EQ(ask(p, GET, 0), 100);
	put_down(p);
	EXPECT(got_down(ref, p, MOTE_KILLED));
}

static void blocking_in_a_callback(void)
{
	mote_pid me = mote_self();
	mote_ref ref, ref2, slow, quick;
	mote_pid p = SERVER(&full, &me, &ref), q = SERVER(&full, &me, &ref2);
	struct mote_msg *m;
	int ms = 20, one = 1;

	/* while p is in its callback the messages for it wait, and others go on */
	slow = mote_request(p, SLEEP, &ms, sizeof(ms));
	mote_send(p, ADD, &one, sizeof(one));
	quick = mote_request(p, GET, NULL, 0);
	EXPECT_EQ(ask(q, ADD, 1), 101);
	m = mote_receive(PATIENCE);
	EXPECT(m && mote_ref_equal(mote_msg_ref(m), slow) && *(int64_t *)m->data == 100);
	mote_msg_free(m);
	m = mote_receive(PATIENCE);
	EXPECT(m && mote_ref_equal(mote_msg_ref(m), quick) && *(int64_t *)m->data == 101);
	mote_msg_free(m);
	/* a call in a callback, to a server that is in a callback */
	mote_send(q, SLEEP, &ms, sizeof(ms));
	for (int i = 0; i < 10; i++) {
		m = NULL;
		EXPECT_EQ(mote_call(p, ASK, &q, sizeof(q), &m, PATIENCE), 0);
		EXPECT(m && *(int64_t *)m->data == 101);
		mote_msg_free(m);
	}
	/* an exit signal acts in the middle of a callback */
	mote_send(p, SLEEP, &(int){ 1000000 }, sizeof(int));
	mote_yield();
	mote_exit_pid(p, MOTE_REASON_KILL);
	EXPECT(got_down(ref, p, MOTE_KILLED));
	put_down(q);
	EXPECT(got_down(ref2, q, MOTE_KILLED));
	EXPECT(mailbox_is_empty());
}

static void no_stack_while_idle(void)
{
	mote_pid me = mote_self();
	mote_ref ref;
	mote_pid p = SERVER(&full, &me, &ref);
	int ms = 30;

	for (int i = 0; i < 10; i++) {
		EXPECT(ask(p, STACK, 0) >= 16384);
		/* the answer comes before the callback is over, and before its stack is back */
		for (mote_deadline d = PATIENCE; test_info(p).stack && mote_now().ns < d.ns;)
			mote_yield();
		EXPECT_EQ(test_info(p).stack, 0);
		EXPECT_EQ(test_info(p).state, MOTE_WAITING);
		EXPECT_EQ(test_info(p).wait, MOTE_WAIT_MESSAGE);
	}
	mote_send(p, SLEEP, &ms, sizeof(ms));
	while (test_info(p).wait != MOTE_WAIT_SLEEP)
		mote_yield();
	EXPECT(test_info(p).stack >= 16384);
	EXPECT_EQ(ask(p, GET, 0), 100);
	put_down(p);
	EXPECT(got_down(ref, p, MOTE_KILLED));
}

static void kept(void)
{
	mote_pid me = mote_self();
	mote_ref ref;
	mote_pid p = SERVER(&full, &me, &ref);
	struct mote_msg *m;

	mote_send(p, KEEP, "keep", 5);
	for (int i = 0; i < 100; i++)
		EXPECT_EQ(ask(p, GET, 0), 100);
	mote_send(p, KEPT, NULL, 0);
	m = mote_receive(PATIENCE);
	EXPECT(m && m->type == KEEP && m->size == 5 && !memcmp(m->data, "keep", 5));
	mote_msg_free(m);
	put_down(p);
	EXPECT(got_down(ref, p, MOTE_KILLED));
}

static void answer_later(void)
{
	mote_pid me = mote_self();
	mote_ref ref, later;
	mote_pid p = SERVER(&full, &me, &ref);
	struct mote_msg *m;

	later = mote_request(p, LATER, NULL, 0);
	EXPECT_EQ(ask(p, ADD, 11), 111);
	EXPECT(!mote_receive_ref(later, mote_in_ms(2)));
	EXPECT_EQ(ask(p, NOW, 0), 111);
	m = mote_receive_ref(later, PATIENCE);
	EXPECT(m && m->type == REPLY && *(int64_t *)m->data == 111);
	mote_msg_free(m);
	put_down(p);
	EXPECT(got_down(ref, p, MOTE_KILLED));
}

static int init_and_defer(void *state, void *arg)
{
	mote_defer(cleanup, "1");
	mote_defer(cleanup, "2");
	return init(state, arg);
}

static void last_words(void)
{
	static const struct mote_handler_ops ops = {
		.size = sizeof(ops), .state_size = sizeof(struct state),
		.init = init_and_defer, .call = call, .info = info, .terminate = terminate };
	mote_pid me = mote_self();
	mote_ref ref;
	mote_pid p;

	/* it ended itself, in info and in call */
	trace_clear();
	p = SERVER(&ops, &me, &ref);
	mote_send(p, STOP, NULL, 0);
	EXPECT(said(REPLY, MOTE_ERROR));
	EXPECT(got_down(ref, p, MOTE_ERROR));
	EXPECT(!strcmp(trace, "it21"));
	trace_clear();
	p = SERVER(&ops, &me, &ref);
	EXPECT_EQ(mote_call(p, STOP, NULL, 0, NULL, PATIENCE), -EPIPE);
	EXPECT(said(REPLY, MOTE_ERROR));
	EXPECT(got_down(ref, p, MOTE_ERROR));
	EXPECT(!strcmp(trace, "it21"));
	/* an exit signal while it is idle, and in a callback */
	for (int busy = 0; busy < 2; busy++) {
		trace_clear();
		p = SERVER(&ops, &me, &ref);
		EXPECT_EQ(ask(p, GET, 0), 100);
		if (busy) {
			mote_send(p, SLEEP, &(int){ 1000000 }, sizeof(int));
			while (test_info(p).wait != MOTE_WAIT_SLEEP)
				mote_yield();
		}
		mote_exit_pid(p, MOTE_REASON_SHUTDOWN);
		EXPECT(said(REPLY, MOTE_SHUTDOWN));
		EXPECT(got_down(ref, p, MOTE_SHUTDOWN));
		EXPECT(!strcmp(trace, "it21"));
	}
	/* not when killed; cleanups all the same */
	for (int busy = 0; busy < 2; busy++) {
		trace_clear();
		p = SERVER(&ops, &me, &ref);
		EXPECT_EQ(ask(p, GET, 0), 100);
		if (busy) {
			mote_send(p, SLEEP, &(int){ 1000000 }, sizeof(int));
			while (test_info(p).wait != MOTE_WAIT_SLEEP)
				mote_yield();
		}
		mote_exit_pid(p, MOTE_REASON_KILL);
		EXPECT(got_down(ref, p, MOTE_KILLED));
		EXPECT(!strcmp(trace, "i21"));
	}
	EXPECT(mailbox_is_empty());
}

static int big_init(void *state, void *arg)
{
	(void)arg;
	memset(state, 1, 100000);
	memset(mote_alloc(100000), 1, 100000);
	return 0;
}

static void state_is_released(void)
{
	static const struct mote_handler_ops ops = { .size = sizeof(ops), .state_size = 100000, .init = big_init,
						    .call = call };
	uint64_t before = 0;
	int n = SANITIZED ? 200 : 3000;

	for (int i = 0; i < n; i++) {
		mote_ref ref;
		mote_pid p = SERVER(&ops, NULL, &ref);

		while (test_info(p).state != MOTE_WAITING)
			mote_yield();
		EXPECT(test_info(p).memory >= 200000);
		put_down(p);
		EXPECT(got_down(ref, p, MOTE_KILLED));
		if (i == n / 10)
			before = test_resident();
	}
	/* all of it together would be 540 MB (ASan keeps what is freed for a while) */
	if (!SANITIZED)
		EXPECT(test_resident() < before + (100u << 20));
}

static void race_of_callers(void)
{
	enum { CALLS = 200 };
	mote_pid me = mote_self();
	mote_ref ref;
	mote_pid p = SERVER(&full, &me, &ref);
	mote_ref reqs[CALLS];
	unsigned long rounds = test_rounds(200);

	for (unsigned long r = 0; r < rounds; r++) {
		for (int i = 0; i < CALLS; i++)
			reqs[i] = mote_request(p, ADD, &(int){ 1 }, sizeof(int));
		for (int i = 0; i < CALLS; i++) {
			struct mote_msg *m = mote_receive_ref(reqs[i], PATIENCE);

			if (!EXPECT(m && *(int64_t *)m->data == (int64_t)(100 + r * CALLS + (unsigned long)i + 1)))
				return;
			mote_msg_free(m);
		}
	}
	put_down(p);
	EXPECT(got_down(ref, p, MOTE_KILLED));
	EXPECT(mailbox_is_empty());
}

/* A server is killed while requests stream to it, resting, starting, or in a callback. */
static void killed_at_any_time(void *arg)
{
	unsigned long n = test_rounds(20000);
	uint64_t seed = test_seed();
	mote_pid me = mote_self();

	(void)arg;
	for (unsigned long i = 0; i < n; i++) {
		mote_ref ref, reqs[3];
		mote_pid p;
		struct mote_msg *m;

		trace_clear();
		p = mote_spawn_opts(&(struct mote_spawn_opts){
			.size = sizeof(struct mote_spawn_opts), .handler = &full, .arg = &me, .ref = &ref,
			.scheduler = 1, .flags = MOTE_MONITOR | MOTE_PINNED });
		for (int j = 0; j < 3; j++) {
			reqs[j] = mote_request(p, ADD, &(int){ 1 }, sizeof(int));
			test_jitter(&seed);
		}
		mote_exit_pid(p, MOTE_REASON_KILL);
		for (int j = 0; j < 3; j++) {
			m = mote_receive_ref(reqs[j], PATIENCE);
			EXPECT(m && (m->type == REPLY || is_down(m, reqs[j], p, MOTE_KILLED) ||
				     is_down(m, reqs[j], p, MOTE_NOPROC)));
			mote_msg_free(m);
		}
		if (!EXPECT(got_down(ref, p, MOTE_KILLED)) || !EXPECT(mailbox_is_empty()))
			return;
	}
}

static void race_kill(void)
{
	on_first_scheduler(killed_at_any_time, NULL);
}

int main(void)
{
	selftest_process("requests go to call, the rest to info, in order", calls_and_infos);
	selftest_process("init fails: the server ends with that error", init_fails);
	selftest_process("init may exit", exit_in_init);
	selftest_process("init comes before any message", init_comes_first);
	selftest_process("callbacks may be left out", sparse_ops);
	selftest_process("EXIT and DOWN go to info", signals_to_info);
	selftest_process("a callback may block: only its server waits", blocking_in_a_callback);
	selftest_process("an idle server holds no stack", no_stack_while_idle);
	selftest_process("mote_msg_keep takes over a message", kept);
	selftest_process("an answer may come later", answer_later);
	selftest_process("terminate: at every end but a kill, before deferred cleanups", last_words);
	selftest_process("state and heap are released", state_is_released);
	selftest_process_opts("streams of calls", race_of_callers, SCHEDULERS(2));
	selftest_process_opts("race: kill against callbacks", race_kill, SCHEDULERS(2));
	return selftest_done();
}
