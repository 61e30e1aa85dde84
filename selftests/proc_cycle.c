// SPDX-License-Identifier: MIT OR GPL-2.0
/* Calls that wait for each other in a circle: told at once, with the circle; and nothing else is told. */
#include "proc.h"

enum { CALL_NEXT = 1, WORD, READY, PASSED, GO };

/* What a call came to, and the circle if it was one. */
struct result {
	int err;
	unsigned int nr;
	mote_pid path[8];
};

static struct result result_of(int err)
{
	struct result r = { .err = err };

	if (err == -EDEADLK)
		r.nr = (unsigned int)mote_call_cycle(r.path, 8);
	return r;
}

/* Calls whom it was told to, and answers with what came of it: its own result, or what the other one says. */
struct link_state {
	mote_pid next;
};

static void link_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct link_state *l = state;
	struct mote_msg *reply = NULL;
	struct result r = { .err = 0 };
	int err = 0;

	if (m->type == WORD)
		l->next = *(mote_pid *)m->data;
	else if (mote_pid_valid(l->next))
		err = mote_call(l->next, CALL_NEXT, NULL, 0, &reply, PATIENCE);
	if (reply)
		r = *(struct result *)reply->data;
	else
		r = result_of(err);
	mote_msg_free(reply);
	mote_reply(from, m->type, &r, sizeof(r));
}

static const struct mote_handler_ops link_ops = {
	.size = sizeof(link_ops), .state_size = sizeof(struct link_state), .call = link_call };

static mote_pid link_new(const char *label)
{
	return mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .handler = &link_ops, .label = label });
}

static void link_to(mote_pid l, mote_pid next)
{
	EXPECT_EQ(mote_call(l, WORD, &next, sizeof(next), NULL, PATIENCE), 0);
}

static struct result ask(mote_pid l)
{
	struct mote_msg *reply = NULL;
	int err = mote_call(l, CALL_NEXT, NULL, 0, &reply, PATIENCE);
	struct result r = reply ? *(struct result *)reply->data : result_of(err);

	mote_msg_free(reply);
	return r;
}

/* Most often the one that closes it is told; it may be another, who was slow to look whether whom it calls waits. */
static bool is_round(const struct result *r, const mote_pid *l, unsigned int n)
{
	unsigned int first = 0;

	if (r->err != -EDEADLK || r->nr != n)
		return false;
	while (first < n && !mote_pid_equal(r->path[0], l[first]))
		first++;
	for (unsigned int i = 0; i < n && i < 8; i++)
		if (!mote_pid_equal(r->path[i], l[(first + i) % n]))
			return false;
	return first < n;
}

static void circle_of(unsigned int n)
{
	mote_pid *l = mote_alloc(n * sizeof(*l));
	struct result r;

	for (unsigned int i = 0; i < n; i++)
		l[i] = link_new(NULL);
	for (unsigned int i = 0; i < n; i++)
		link_to(l[i], l[(i + 1) % n]);
	r = ask(l[0]);
	EXPECT(is_round(&r, l, n));
	/* Nothing is left of it: the same again, from another one, and then without. */
	r = ask(l[n / 2]);
	EXPECT(is_round(&r, l, n));
	link_to(l[n - 1], MOTE_NOBODY);
	EXPECT_EQ(ask(l[0]).err, 0);
	EXPECT_EQ(ask(l[n / 2]).err, 0);
	for (unsigned int i = 0; i < n; i++)
		put_down(l[i]);
	mote_free(l);
	EXPECT(mailbox_is_empty());
}

static void of_two(void)
{
	circle_of(2);
}

static void of_many(void)
{
	circle_of(3);
	circle_of(9);
	circle_of((unsigned int)test_crowd(1000));
}

/* The caller is not part of it: it waits, and gets the answer. */
static void from_outside(void)
{
	mote_pid tail[3], ring[3];
	struct result r;

	for (int i = 0; i < 3; i++) {
		tail[i] = link_new(NULL);
		ring[i] = link_new(NULL);
	}
	for (int i = 0; i < 3; i++) {
		link_to(tail[i], i < 2 ? tail[i + 1] : ring[0]);
		link_to(ring[i], ring[(i + 1) % 3]);
	}
	r = ask(tail[0]);
	EXPECT(is_round(&r, ring, 3));
	for (int i = 0; i < 3; i++) {
		put_down(tail[i]);
		put_down(ring[i]);
	}
}

static char logged[8][1024];
static _Atomic unsigned int lines;

static void keep_line(int level, const char *text, void *arg)
{
	(void)arg;
	if (level == MOTE_LOG_ERROR && !strncmp(text, "deadlock", 8))
		snprintf(logged[atomic_fetch_add(&lines, 1) % 8], sizeof(logged[0]), "%s", text);
}

static void logs_it(void)
{
	mote_pid a, b, c;
	char expected[256];

	/* Who is told, and whether one alone. */
	if (test_left_to_chance())
		return;
	a = link_new("alpha");
	b = link_new("beta");
	c = link_new(NULL);
	mote_register("gamma", c);
	atomic_store(&lines, 0);
	link_to(a, b);
	link_to(b, c);
	link_to(c, a);
	EXPECT_EQ(ask(a).err, -EDEADLK);
	EXPECT_EQ(atomic_load(&lines), 1);
	snprintf(expected, sizeof(expected), "deadlock: " MOTE_PID_FMT " gamma calls " MOTE_PID_FMT " alpha calls "
		 MOTE_PID_FMT " beta calls " MOTE_PID_FMT " gamma", MOTE_PID_ARG(c), MOTE_PID_ARG(a), MOTE_PID_ARG(b),
		 MOTE_PID_ARG(c));
	if (!EXPECT(!strcmp(logged[0], expected)))
		test_note("%s", logged[0]);
	put_down(a);
	put_down(b);
	put_down(c);
}

static void logs_long_ones_in_part(void)
{
	unsigned int n = 60;
	mote_pid l[60];

	if (test_left_to_chance())
		return;
	atomic_store(&lines, 0);
	for (unsigned int i = 0; i < n; i++)
		l[i] = link_new("with a label of some length");
	for (unsigned int i = 0; i < n; i++)
		link_to(l[i], l[(i + 1) % n]);
	EXPECT_EQ(ask(l[0]).nr, n);
	EXPECT_EQ(atomic_load(&lines), 1);
	EXPECT(strstr(logged[0], "calls ... calls <"));
	for (unsigned int i = 0; i < n; i++)
		put_down(l[i]);
}

static void tells_the_path(void)
{
	mote_pid a = link_new(NULL), path[4] = { MOTE_NOBODY };

	EXPECT_EQ(mote_call_cycle(path, 4), 0);
	EXPECT_EQ(mote_call(mote_self(), GO, NULL, 0, NULL, PATIENCE), -EDEADLK);
	EXPECT_EQ(mote_call_cycle(path, 4), 1);
	EXPECT(mote_pid_equal(path[0], mote_self()));
	EXPECT_EQ(mote_call_cycle(NULL, 0), 1);
	/* It is of the latest; a call that goes well leaves it. */
	EXPECT_EQ(mote_call(a, CALL_NEXT, NULL, 0, NULL, PATIENCE), 0);
	EXPECT_EQ(mote_call_cycle(path, 4), 1);
	put_down(a);
}

/* --- plain processes that call each other --- */

/* Has taken a request of the boss's, without an answer; what it does then is the case. */
struct holder {
	mote_pid boss;
	mote_pid other;			/* answers what is passed to it */
	enum { KEEPS, FREES, PASSES, ANSWERS, ANSWERS_OLD } how;
};

/* Gets a `struct mote_from` in a message, and answers it when the one who passed it waits. */
static void answerer(void *arg)
{
	struct mote_msg *m;

	(void)arg;
	while ((m = mote_receive(MOTE_FOREVER))) {
		struct mote_from from = *(struct mote_from *)m->data;

		while (test_info(m->from).wait != MOTE_WAIT_REF)
			mote_sleep(mote_in_us(100));
		mote_sleep(mote_in_ms(5));
		mote_reply(from, PASSED, NULL, 0);
		mote_msg_free(m);
	}
}

static void holder(void *arg)
{
	struct holder h = *(struct holder *)arg;
	struct mote_msg *m, *others[12];
	struct mote_from from;
	struct result r;

	m = mote_receive_type(GO, PATIENCE);
	from = mote_msg_from(m);
	switch (h.how) {
	case KEEPS:
		break;
	case FREES:
		mote_send(h.other, PASSED, &from, sizeof(from));
		mote_msg_free(m);
		m = NULL;
		break;
	case PASSES:
		mote_from_pass(from);
		mote_send(h.other, PASSED, &from, sizeof(from));
		break;
	case ANSWERS_OLD:
		/* So many others in its hands that it does not look for the request when it answers. */
		for (int i = 0; i < 12; i++)
			others[i] = mote_receive_type(WORD, PATIENCE);
		mote_reply(from, GO, NULL, 0);
		break;
	case ANSWERS:
		mote_reply(from, GO, NULL, 0);
		break;
	}
	r = result_of(mote_call(h.boss, GO, NULL, 0, NULL, PATIENCE));
	if (h.how == KEEPS)
		mote_reply(from, GO, NULL, 0);
	mote_msg_free(m);
	for (int i = 0; i < 12 && h.how == ANSWERS_OLD; i++)
		mote_msg_free(others[i]);
	mote_send(h.boss, READY, &r, sizeof(r));
}

/* Calls a holder, then answers its call. Gives the holder's result. */
static struct result holder_meets(int how)
{
	struct holder h = { mote_self(), mote_spawn_link(answerer, NULL), how };
	struct result r = { .err = 1 };
	mote_ref words[12];
	struct mote_msg *m;
	mote_pid pid;

	pid = mote_spawn_link(holder, &h);
	for (int i = 0; i < 12 && how == ANSWERS_OLD; i++)
		words[i] = mote_request(pid, WORD, NULL, 0);
	EXPECT_EQ(mote_call(pid, GO, NULL, 0, NULL, PATIENCE), 0);
	m = mote_receive_type(GO, PATIENCE);
	mote_reply(mote_msg_from(m), GO, NULL, 0);
	mote_msg_free(m);
	m = mote_receive_type(READY, PATIENCE);
	if (EXPECT(m))
		r = *(struct result *)m->data;
	mote_msg_free(m);
	for (int i = 0; i < 12 && how == ANSWERS_OLD; i++)
		mote_demonitor(words[i], MOTE_FLUSH);
	mote_unlink(h.other);
	put_down(h.other);
	return r;
}

/* A callee that has the request in its hands, and nobody else can answer. */
static void held_is_waited_for(void)
{
	struct result r;

	/* Which of the two is told. */
	if (test_left_to_chance())
		return;
	r = holder_meets(KEEPS);
	EXPECT_EQ(r.err, -EDEADLK);
	EXPECT_EQ(r.nr, 2);
	EXPECT(mote_pid_equal(r.path[1], mote_self()));
}

static void freed_is_open(void)
{
	EXPECT_EQ(holder_meets(FREES).err, 0);
}

static void passed_is_open(void)
{
	EXPECT_EQ(holder_meets(PASSES).err, 0);
}

/* The answer is there, and whom it is for has not run since. */
static void answered_is_open(void)
{
	for (unsigned long i = test_rounds(2000); i; i--) {
		EXPECT_EQ(holder_meets(ANSWERS).err, 0);
		EXPECT_EQ(holder_meets(ANSWERS_OLD).err, 0);
	}
}

static struct mote_from passed;

/* Takes a call, lets somebody else answer it, and calls the caller. */
static void passer(void *arg)
{
	struct mote_msg *m = mote_receive_type(GO, PATIENCE);

	(void)arg;
	passed = mote_msg_from(m);
	mote_from_pass(passed);
	EXPECT_EQ(mote_call(m->from, GO, NULL, 0, NULL, PATIENCE), 0);
	mote_msg_free(m);
}

/* Calls the passer, and answers it when it is answered itself; likewise whoever else has called. */
static void passed_on(void *arg)
{
	struct mote_msg *m;

	EXPECT_EQ(mote_call(*(mote_pid *)arg, GO, NULL, 0, NULL, PATIENCE), 0);
	for (int i = 0; i < 2; i++) {
		m = mote_receive_type(GO, PATIENCE);
		mote_reply(mote_msg_from(m), GO, NULL, 0);
		mote_msg_free(m);
	}
}

static void calls_in(void *arg)
{
	EXPECT_EQ(mote_call(*(mote_pid *)arg, GO, NULL, 0, NULL, PATIENCE), 0);
}

static uint64_t switches(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	EXPECT_EQ(mote_runtime_info(&info), 0);
	return info.switches;
}

/* What looks for a circle must not run for ever round one that is open, and that its sender is not part of. */
static void probes_end(void)
{
	mote_ref refs[3];
	mote_pid p = mote_spawn_monitor(passer, NULL, &refs[0]), a = mote_spawn_monitor(passed_on, &p, &refs[1]), c;
	uint64_t before;

	while (test_info(a).wait != MOTE_WAIT_REF || test_info(p).wait != MOTE_WAIT_REF)
		mote_sleep(mote_in_us(100));
	before = switches();
	c = mote_spawn_monitor(calls_in, &a, &refs[2]);
	while (test_info(c).wait != MOTE_WAIT_REF)
		mote_sleep(mote_in_us(100));
	for (int i = 0; i < 50; i++)
		mote_yield();
	EXPECT(switches() - before < 1000);
	mote_reply(passed, GO, NULL, 0);
	EXPECT(got_down(refs[0], p, MOTE_NORMAL));
	EXPECT(got_down(refs[1], a, MOTE_NORMAL));
	EXPECT(got_down(refs[2], c, MOTE_NORMAL));
}

/* Not mote_call(): it may look after other things, or give up. */
static void requester(void *arg)
{
	mote_pid boss = *(mote_pid *)arg;
	mote_ref ref = mote_request(boss, GO, NULL, 0);
	struct mote_msg *m = mote_receive_type(WORD, PATIENCE);

	mote_reply(mote_msg_from(m), WORD, NULL, 0);
	mote_msg_free(m);
	mote_msg_free(mote_receive_ref(ref, PATIENCE));
}

static void requests_are_open(void)
{
	mote_pid self = mote_self(), pid;
	struct mote_msg *m;
	mote_ref ref;

	pid = mote_spawn_monitor(requester, &self, &ref);
	m = mote_receive_type(GO, PATIENCE);
	EXPECT_EQ(mote_call(pid, WORD, NULL, 0, NULL, PATIENCE), 0);
	mote_reply(mote_msg_from(m), GO, NULL, 0);
	mote_msg_free(m);
	EXPECT(got_down(ref, pid, MOTE_NORMAL));
	EXPECT(mailbox_is_empty());
}

static void limited_mailbox(void)
{
	mote_pid a = mote_spawn_opts(&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts),
		.handler = &link_ops, .mailbox_limit = 4 });
	mote_pid b = mote_spawn_opts(&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts),
		.handler = &link_ops, .mailbox_limit = 4 });
	struct result r;

	link_to(a, b);
	link_to(b, a);
	r = ask(a);
	EXPECT_EQ(r.err, -EDEADLK);
	EXPECT_EQ(r.nr, 2);
	put_down(a);
	put_down(b);
}

/* --- at the same moment --- */

struct racer {
	mote_pid boss, next;
	unsigned int wait;
	int err;
};

/* Calls the next one, then answers whoever calls. */
static void racer(void *arg)
{
	struct mote_msg *m = mote_receive_type(GO, PATIENCE);
	struct racer *r = *(struct racer **)m->data;

	(void)arg;
	mote_msg_free(m);
	test_spin(r->wait);
	r->err = mote_call(r->next, WORD, NULL, 0, NULL, PATIENCE);
	m = mote_receive_type(WORD, PATIENCE);
	mote_reply(mote_msg_from(m), WORD, NULL, 0);
	mote_msg_free(m);
	mote_send(r->boss, READY, NULL, 0);
}

/* Of processes that close a circle at the same moment at least one is told, and then all can go on. */
static void race(unsigned int n, unsigned long rounds)
{
	uint64_t seed = test_seed();
	unsigned long told[8] = { 0 };
	struct racer r[4];
	mote_pid pids[4];

	for (unsigned long i = 0; i < rounds; i++) {
		unsigned int found = 0;

		for (unsigned int j = 0; j < n; j++)
			pids[j] = spawn_pinned(racer, NULL, j, MOTE_LINK, NULL);
		for (unsigned int j = 0; j < n; j++)
			r[j] = (struct racer){ mote_self(), pids[(j + 1) % n], test_random(&seed) % 2000, 0 };
		for (unsigned int j = 0; j < n; j++) {
			struct racer *p = &r[j];

			mote_send(pids[j], GO, &p, sizeof(p));
		}
		for (unsigned int j = 0; j < n; j++)
			EXPECT(got_type(READY));
		for (unsigned int j = 0; j < n; j++) {
			EXPECT(r[j].err == 0 || r[j].err == -EDEADLK);
			found += r[j].err == -EDEADLK;
		}
		if (!EXPECT(found >= 1))
			return;
		told[found]++;
	}
	test_note("%u at a time: one was told %lu times, two %lu, three %lu, four %lu", n, told[1], told[2], told[3],
		  told[4]);
}

static void race_of_two(void)
{
	race(2, test_rounds(3000));
}

static void race_of_four(void)
{
	race(4, test_rounds(1500));
}

/* --- anything at once: servers that call each other at random, and answer before, after, later, or by another --- */

#define SERVERS 8

static mote_pid servers[SERVERS], helper;
static _Atomic int waits_for[SERVERS];		/* index of a server, or -1 */
static _Atomic unsigned int told[SERVERS];	/* how often */
static _Atomic unsigned long circles, unsure, wrong;
static uint64_t seeds[SERVERS];
static bool hasty;				/* calls give up after a moment */
static _Atomic bool ending;			/* the runtime stops, servers end one after the other */

static int index_of(mote_pid pid)
{
	for (int i = 0; i < SERVERS; i++)
		if (mote_pid_equal(servers[i], pid))
			return i;
	return -1;
}

/*
 * No call ends by itself: until who was told goes on, all the others still wait where they did. Unless several were
 * told; before: what was known before the call.
 */
static void circle_check(int self, const unsigned int *before)
{
	mote_pid path[SERVERS];
	size_t n = mote_call_cycle(path, SERVERS);
	bool ok = n >= 2 && n <= SERVERS && index_of(path[0]) == self, sure = true;

	for (size_t i = 0; ok && i < n; i++) {
		int a = index_of(path[i]), b = index_of(path[(i + 1) % n]);

		ok = a >= 0 && b >= 0;
		if (ok && atomic_load(&waits_for[a]) != b)
			sure = false;
	}
	for (size_t i = 1; ok && !sure && i < n; i++) {
		int a = index_of(path[i]);

		sure = atomic_load(&told[a]) != before[a];
		if (sure)
			atomic_fetch_add(&unsure, 1);
	}
	atomic_fetch_add(&circles, 1);
	if (!ok || !sure)
		atomic_fetch_add(&wrong, 1);
}

static void call_anybody(int self, int depth)
{
	int other = (self + 1 + (int)(test_random(&seeds[self]) % (SERVERS - 1))) % SERVERS, err;
	mote_deadline deadline = hasty ? mote_in_us(test_random(&seeds[self]) % 300) : PATIENCE;
	unsigned int before[SERVERS];

	for (int i = 0; i < SERVERS; i++)
		before[i] = atomic_load(&told[i]);
	atomic_store(&waits_for[self], other);
	err = mote_call(servers[other], GO, &depth, sizeof(depth), NULL, deadline);
	if (err == -EDEADLK) {
		atomic_fetch_add(&told[self], 1);
		if (!hasty)
			circle_check(self, before);
	}
	atomic_store(&waits_for[self], -1);
	if (!EXPECT(!err || err == -EDEADLK || (hasty && err == -ETIMEDOUT) || atomic_load(&ending)))
		test_note("call: %d", err);
}

static void helper_info(void *state, const struct mote_msg *m)
{
	(void)state;
	mote_reply(*(struct mote_from *)m->data, GO, NULL, 0);
}

static void server_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	int self = *(int *)state, depth = *(int *)m->data - 1;
	struct mote_msg *mine = NULL;

	switch (depth > 0 ? test_random(&seeds[self]) % 8 : 0) {
	case 0:
		mote_reply(from, GO, NULL, 0);
		break;
	case 1:
		mote_reply(from, GO, NULL, 0);
		call_anybody(self, depth);
		break;
	case 2:
		mote_send(helper, PASSED, &from, sizeof(from));
		mote_msg_free(mote_msg_keep(m));
		call_anybody(self, depth);
		break;
	case 3:
		mote_from_pass(from);
		mote_send(helper, PASSED, &from, sizeof(from));
		call_anybody(self, depth);
		break;
	case 4:
		mine = mote_msg_keep(m);
		call_anybody(self, depth);
		mote_reply(from, GO, NULL, 0);
		call_anybody(self, depth);
		mote_msg_free(mine);
		break;
	default:
		call_anybody(self, depth);
		mote_reply(from, GO, NULL, 0);
		break;
	}
}

static int server_init(void *state, void *arg)
{
	*(int *)state = (int)(intptr_t)arg;
	return 0;
}

static const struct mote_handler_ops helper_ops = { .size = sizeof(helper_ops), .info = helper_info };
static const struct mote_handler_ops server_ops = {
	.size = sizeof(server_ops), .state_size = sizeof(int), .init = server_init, .call = server_call };

static void client(void *arg)
{
	unsigned long n = test_rounds(4000);
	uint64_t seed = test_seed() + (uintptr_t)arg;
	int depth = 6;

	while (n-- && !atomic_load(&wrong)) {
		int err = mote_call(servers[test_random(&seed) % SERVERS], GO, &depth, sizeof(depth), NULL, PATIENCE);

		if (!EXPECT(!err))
			break;
	}
}

static void at_random(void)
{
	mote_ref refs[4];
	mote_pid pids[4];

	atomic_store(&circles, 0);
	atomic_store(&unsure, 0);
	atomic_store(&wrong, 0);
	atomic_store(&ending, false);
	helper = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .handler = &helper_ops });
	for (int i = 0; i < SERVERS; i++) {
		atomic_store(&waits_for[i], -1);
		seeds[i] = test_seed() + 1000 * (unsigned int)(i + 1);
		servers[i] = mote_spawn_opts(&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts),
			.handler = &server_ops, .arg = (void *)(intptr_t)i, .flags = MOTE_LINK });
	}
	for (int i = 0; i < 4; i++)
		pids[i] = mote_spawn_monitor(client, (void *)(intptr_t)i, &refs[i]);
	for (int i = 0; i < 4; i++)
		EXPECT(got_down(refs[i], pids[i], MOTE_NORMAL));
	atomic_store(&ending, true);
	EXPECT_EQ(atomic_load(&wrong), 0);
}

static void anything_at_once(void)
{
	hasty = false;
	at_random();
	EXPECT(atomic_load(&circles) > atomic_load(&unsure));
	test_note("%lu circles, %lu of which were told to several", atomic_load(&circles), atomic_load(&unsure));
}

/* Circles open by themselves all the time. */
static void in_haste(void)
{
	hasty = true;
	at_random();
}

/* --- deaths --- */

static void mortal(void *arg)
{
	mote_pid next;
	struct mote_msg *m = mote_receive_type(GO, PATIENCE);

	(void)arg;
	next = *(mote_pid *)m->data;
	mote_msg_free(m);
	mote_call(next, WORD, NULL, 0, NULL, PATIENCE);
	while ((m = mote_receive_type(WORD, PATIENCE))) {
		mote_reply(mote_msg_from(m), WORD, NULL, 0);
		mote_msg_free(m);
	}
}

static mote_pid to_kill;

static void kills(void *arg)
{
	uint64_t seed = (uintptr_t)arg;

	for (uint32_t j = test_random(&seed) % 12; j; j--)
		test_jitter(&seed);
	mote_exit_pid(to_kill, MOTE_REASON_KILL);
}

/* One of three ends while the circle closes: whatever comes of it, nobody is left waiting. */
static void killed_members(void *arg)
{
	unsigned long rounds = test_rounds(3000);
	mote_pid self = mote_self();
	uint64_t seed = test_seed();
	int kinds[3] = { 0 };

	(void)arg;
	for (unsigned long i = 0; i < rounds; i++) {
		mote_pid a = spawn_pinned(mortal, NULL, 0, 0, NULL), b = spawn_pinned(mortal, NULL, 0, 0, NULL), killer;
		struct mote_msg *m;
		mote_ref ref;
		int err;

		mote_send(a, GO, &b, sizeof(b));
		mote_send(b, GO, &self, sizeof(self));
		to_kill = test_random(&seed) & 1 ? a : b;
		killer = spawn_pinned(kills, (void *)(uintptr_t)(test_random(&seed) | 1), 1, MOTE_MONITOR, &ref);
		err = mote_call(a, WORD, NULL, 0, NULL, PATIENCE);
		if (!EXPECT(err == 0 || err == -EDEADLK || err == -EPIPE || err == -ESRCH))
			test_note("%d", err);
		kinds[err == 0 ? 0 : err == -EDEADLK ? 1 : 2]++;
		EXPECT(got_down(ref, killer, MOTE_NORMAL));
		put_down(a);
		put_down(b);
		/* b's request, which was not answered */
		while ((m = mote_receive(MOTE_NOW)))
			mote_msg_free(m);
	}
	test_note("answered %d, circle %d, died %d", kinds[0], kinds[1], kinds[2]);
}

static void race_kill(void)
{
	on_first_scheduler(killed_members, NULL);
}

static struct result cleanup_result;

static void calls_in_cleanup(void *arg)
{
	cleanup_result = result_of(mote_call(*(mote_pid *)arg, GO, NULL, 0, NULL, mote_in_ms(20)));
}

static void dies_calling(void *arg)
{
	mote_defer(calls_in_cleanup, arg);
	mote_send(*(mote_pid *)arg, READY, NULL, 0);
	mote_msg_free(mote_receive(PATIENCE));
}

/* Who ends waits for 5 s at most: it is not waited for for ever, and is told nothing. */
static void the_dying_are_no_part(void)
{
	mote_pid self = mote_self(), pid;
	mote_ref ref;

	pid = mote_spawn_monitor(dies_calling, &self, &ref);
	EXPECT(got_type(READY));
	mote_exit_pid(pid, MOTE_REASON_SHUTDOWN);
	EXPECT_EQ(mote_call(pid, GO, NULL, 0, NULL, PATIENCE), -EPIPE);
	EXPECT_EQ(cleanup_result.err, -ETIMEDOUT);
	EXPECT(got_down(ref, pid, MOTE_SHUTDOWN));
	EXPECT(got_type(GO));
}

int main(void)
{
	static const struct mote_opts logging = {
		.size = sizeof(logging), .schedulers = 1, .log = keep_line };

	selftest_process("two: told at once, who, and nothing is left of it", of_two);
	selftest_process_opts("of any length", of_many, SCHEDULERS(2));
	selftest_process("who calls into a circle waits for its end", from_outside);
	selftest_process_opts("the log has it with names and labels", logs_it, &logging);
	selftest_process_opts("the log has the beginning of a long one", logs_long_ones_in_part, &logging);
	selftest_process("mote_call_cycle: none, oneself, the latest", tells_the_path);
	selftest_process_opts("a request in its receiver's hands is waited for", held_is_waited_for, SCHEDULERS(1));
	selftest_process_opts("one that was freed, with its from passed on, is not", freed_is_open, SCHEDULERS(2));
	selftest_process_opts("nor is one of which mote_from_pass() says so", passed_is_open, SCHEDULERS(2));
	selftest_process_opts("nor is one that was answered", answered_is_open, SCHEDULERS(2));
	selftest_process("nor is mote_request()", requests_are_open);
	selftest_process_opts("what looks for one does not run round an open one", probes_end, SCHEDULERS(1));
	selftest_process("of processes with limited mailboxes", limited_mailbox);
	selftest_process("the dying are no part of one", the_dying_are_no_part);
	selftest_process_opts("race: two close one at the same moment", race_of_two, SCHEDULERS(2));
	selftest_process_opts("race: four close one at the same moment", race_of_four, SCHEDULERS(4));
	selftest_process_opts("race: a member is killed meanwhile", race_kill, SCHEDULERS(2));
	selftest_process_opts("random calls: none is missed, and each is one", anything_at_once, SCHEDULERS(2));
	selftest_process_opts("random calls with short deadlines: nobody waits for ever", in_haste, SCHEDULERS(2));
	return selftest_done();
}
