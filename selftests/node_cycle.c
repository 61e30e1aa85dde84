// SPDX-License-Identifier: MIT OR GPL-2.0
/* Calls in a circle that goes through several nodes: told at once, and nothing else is told. */
#include "nodes.h"
#include <pthread.h>

#include <sys/mman.h>

enum { CALL_NEXT = 1, NEXT, ALL, GO, SERVER, PASSED, DONE };

#define SERVERS 9

/* What a call came to, and the circle if it was one. */
struct result {
	int err;
	unsigned int nr;
	mote_pid path[SERVERS];
};

/* Seen by all nodes: a file. */
static struct shared {
	_Atomic int waits_for[SERVERS];		/* index of a server, or -1 */
	_Atomic unsigned int told[SERVERS];	/* how often */
	_Atomic unsigned long circles, unsure, wrong;
	_Atomic bool ending;			/* servers are put down, some before others */
} *shared;

static void shared_map(void)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/shared", getenv("MOTE_DIR"));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(*shared)))
		test_bail_out();
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (shared == MAP_FAILED)
		test_bail_out();
}

/* By several processes of a node at once, perhaps. */
static void shared_open(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, shared_map);
}

struct server {
	int index;
	mote_pid next, helper;
	mote_pid all[SERVERS];
	uint64_t seed;
	int64_t patience;		/* ms */
};

struct plan {
	int index;
	mote_pid boss, helper;
	uint64_t seed;
};

static int index_of(const struct server *s, mote_pid pid)
{
	for (int i = 0; i < SERVERS; i++)
		if (mote_pid_equal(s->all[i], pid))
			return i;
	return -1;
}

/* As in proc_cycle.c: all of them wait where they did, unless several were told. */
static void circle_check(const struct server *s, const unsigned int *before)
{
	mote_pid path[SERVERS];
	size_t n = mote_call_cycle(path, SERVERS);
	bool ok = n >= 2 && n <= SERVERS && index_of(s, path[0]) == s->index, sure = true;

	for (size_t i = 0; ok && i < n; i++) {
		int a = index_of(s, path[i]), b = index_of(s, path[(i + 1) % n]);

		ok = a >= 0 && b >= 0;
		if (ok && atomic_load(&shared->waits_for[a]) != b)
			sure = false;
	}
	for (size_t i = 1; ok && !sure && i < n; i++) {
		int a = index_of(s, path[i]);

		sure = atomic_load(&shared->told[a]) != before[a];
		if (sure)
			atomic_fetch_add(&shared->unsure, 1);
	}
	atomic_fetch_add(&shared->circles, 1);
	if (!ok || !sure)
		atomic_fetch_add(&shared->wrong, 1);
}

static void call_anybody(struct server *s, int depth)
{
	int other = (s->index + 1 + (int)(test_random(&s->seed) % (SERVERS - 1))) % SERVERS, err;
	unsigned int before[SERVERS];

	for (int i = 0; i < SERVERS; i++)
		before[i] = atomic_load(&shared->told[i]);
	atomic_store(&shared->waits_for[s->index], other);
	err = mote_call(s->all[other], GO, &depth, sizeof(depth), NULL, PATIENCE);
	if (err == -EDEADLK) {
		atomic_fetch_add(&shared->told[s->index], 1);
		circle_check(s, before);
	}
	atomic_store(&shared->waits_for[s->index], -1);
	if (!EXPECT(!err || err == -EDEADLK || atomic_load(&shared->ending)))
		test_note("call: %d", err);
}

static void at_random(struct server *s, struct mote_from from, const struct mote_msg *m)
{
	int depth = *(int *)m->data - 1;

	switch (depth > 0 ? test_random(&s->seed) % 6 : 0) {
	case 0:
		mote_reply(from, GO, NULL, 0);
		break;
	case 1:
		mote_reply(from, GO, NULL, 0);
		call_anybody(s, depth);
		break;
	case 2:
		mote_send(s->helper, PASSED, &from, sizeof(from));
		mote_msg_free(mote_msg_keep(m));
		call_anybody(s, depth);
		break;
	case 3:
		mote_from_pass(from);
		mote_send(s->helper, PASSED, &from, sizeof(from));
		call_anybody(s, depth);
		break;
	default:
		call_anybody(s, depth);
		mote_reply(from, GO, NULL, 0);
		break;
	}
}

static void server_call(void *state, struct mote_from from, const struct mote_msg *m)
{
	struct server *s = state;
	struct mote_msg *reply = NULL;
	struct result r = { .err = 0 };

	if (m->type == GO) {
		at_random(s, from, m);
		return;
	}
	if (m->type == NEXT)
		s->next = *(mote_pid *)m->data;
	else if (m->type == ALL)
		memcpy(s->all, m->data, sizeof(s->all));
	else if (mote_pid_valid(s->next))
		r.err = mote_call(s->next, CALL_NEXT, NULL, 0, &reply, mote_in_ms(s->patience));
	if (reply)
		r = *(struct result *)reply->data;
	else if (r.err == -EDEADLK)
		r.nr = (unsigned int)mote_call_cycle(r.path, SERVERS);
	mote_msg_free(reply);
	mote_reply(from, m->type, &r, sizeof(r));
}

static int server_init(void *state, void *arg)
{
	struct server *s = state;
	struct plan *plan = arg;

	shared_open();
	s->index = plan->index;
	s->helper = plan->helper;
	s->seed = plan->seed;
	s->patience = plan->index < 0 ? 200 : 60000;
	free(plan);
	return 0;
}

static const struct mote_handler_ops server_ops = {
	.size = sizeof(server_ops), .state_size = sizeof(struct server), .init = server_init, .call = server_call };

static void starter(const void *args, size_t size)
{
	struct plan *plan = malloc(sizeof(*plan));
	mote_pid boss, p;

	if (!EXPECT(plan && size == sizeof(*plan)))
		return;
	memcpy(plan, args, size);
	boss = plan->boss;
	p = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .handler = &server_ops, .arg = plan });
	mote_send(boss, SERVER, &p, sizeof(p));
}

static mote_pid helper;

static mote_pid server_on(struct peer *where, int index)
{
	struct plan plan = { index, mote_self(), helper, test_seed() + 1000 * (unsigned int)(index + 2) };
	struct mote_msg *m;
	mote_pid p = MOTE_NOBODY;

	if (where)
		peer_spawn_args(where, "starter", &plan, sizeof(plan), 0, NULL);
	else
		starter(&plan, sizeof(plan));
	m = mote_receive_type(SERVER, PATIENCE);
	if (EXPECT(m))
		memcpy(&p, m->data, sizeof(p));
	mote_msg_free(m);
	return p;
}

static void next_is(mote_pid server, mote_pid next)
{
	EXPECT_EQ(mote_call(server, NEXT, &next, sizeof(next), NULL, PATIENCE), 0);
}

static struct result ask(mote_pid server)
{
	struct mote_msg *reply = NULL;
	struct result r = { .err = mote_call(server, CALL_NEXT, NULL, 0, &reply, PATIENCE) };

	if (reply)
		r = *(struct result *)reply->data;
	mote_msg_free(reply);
	return r;
}

static bool is_round(const struct result *r, const mote_pid *l, unsigned int n)
{
	unsigned int first = 0;

	if (r->err != -EDEADLK || r->nr != n) {
		test_note("%d, %u of %u", r->err, r->nr, n);
		return false;
	}
	while (first < n && !mote_pid_equal(r->path[0], l[first]))
		first++;
	for (unsigned int i = 0; i < n && i < SERVERS; i++)
		if (!mote_pid_equal(r->path[i], l[(first + i) % n]))
			return false;
	return first < n;
}

/* n servers, one after the other on each of these. */
static void round_through(struct peer **where, unsigned int nodes, unsigned int n)
{
	mote_pid l[SERVERS];
	struct result r;

	for (unsigned int i = 0; i < n; i++)
		l[i] = server_on(where[i % nodes], 0);
	for (unsigned int i = 0; i < n; i++)
		next_is(l[i], l[(i + 1) % n]);
	for (unsigned int i = 0; i < 3; i++) {
		r = ask(l[i % n]);
		EXPECT(is_round(&r, l, n));
	}
	next_is(l[n - 1], MOTE_NOBODY);
	EXPECT_EQ(ask(l[0]).err, 0);
	for (unsigned int i = 0; i < n; i++)
		put_down(l[i]);
	EXPECT(mailbox_is_empty());
}

static void through_two(void)
{
	struct peer b;

	peer_start(&b, "b");
	round_through((struct peer *[]){ NULL, &b }, 2, 2);
	round_through((struct peer *[]){ NULL, &b, &b }, 3, 6);
	/* Both on the same node, and not on the asker's. */
	round_through((struct peer *[]){ &b }, 1, 2);
	peer_stop(&b);
}

static void through_three(void)
{
	struct peer b, c;

	peer_start(&b, "b");
	peer_start(&c, "c");
	round_through((struct peer *[]){ NULL, &b, &c }, 3, 3);
	round_through((struct peer *[]){ NULL, &c, &b }, 3, 9);
	round_through((struct peer *[]){ &b, &c }, 2, 2);
	peer_stop(&b);
	peer_stop(&c);
}

/* What other nodes may have one copy is bounded: a circle of so many is not seen, and the deadlines hold. */
static void too_long(void)
{
	mote_pid l[70];
	struct peer b;

	peer_start(&b, "b");
	for (unsigned int i = 0; i < 70; i++)
		l[i] = server_on(i % 2 ? &b : NULL, -1);
	for (unsigned int i = 0; i < 70; i++)
		next_is(l[i], l[(i + 1) % 70]);
	EXPECT_EQ(ask(l[0]).err, -ETIMEDOUT);
	for (unsigned int i = 0; i < 70; i++)
		put_down(l[i]);
	peer_stop(&b);
}

static void helper_info(void *state, const struct mote_msg *m)
{
	(void)state;
	mote_reply(*(struct mote_from *)m->data, GO, NULL, 0);
}

static const struct mote_handler_ops helper_ops = { .size = sizeof(helper_ops), .info = helper_info };

struct client {
	mote_pid boss;
	mote_pid all[SERVERS];
	uint64_t seed, rounds;
};

static void client(const void *args, size_t size)
{
	struct client c;
	int depth = 6;

	if (!EXPECT(size == sizeof(c)))
		return;
	memcpy(&c, args, sizeof(c));
	shared_open();
	while (c.rounds-- && !atomic_load(&shared->wrong))
		if (!EXPECT(!mote_call(c.all[test_random(&c.seed) % SERVERS], GO, &depth, sizeof(depth), NULL, PATIENCE)))
			break;
	mote_send(c.boss, DONE, NULL, 0);
}

/* Servers and callers on three nodes; answers before, after, later, or by another. */
static void anything_at_once(void)
{
	struct client c = { .boss = mote_self(), .rounds = test_rounds(400) };
	struct peer b, d, *where[] = { NULL, &b, &d };

	shared_open();
	memset(shared, 0, sizeof(*shared));
	for (int i = 0; i < SERVERS; i++)
		atomic_store(&shared->waits_for[i], -1);
	peer_start(&b, "b");
	peer_start(&d, "c");
	helper = mote_spawn_opts(&(struct mote_spawn_opts){
		.size = sizeof(struct mote_spawn_opts), .handler = &helper_ops });
	for (int i = 0; i < SERVERS; i++)
		c.all[i] = server_on(where[i % 3], i);
	for (int i = 0; i < SERVERS; i++)
		EXPECT_EQ(mote_call(c.all[i], ALL, c.all, sizeof(c.all), NULL, PATIENCE), 0);
	for (unsigned int i = 0; i < 6; i++) {
		c.seed = test_seed() + i;
		if (i % 3)
			peer_spawn_args(where[i % 3], "client", &c, sizeof(c), 0, NULL);
		else
			mote_spawn_on(mote_node_self(), &(struct mote_spawn_on_opts){
				.size = sizeof(struct mote_spawn_on_opts), .entry = "client", .args = &c,
				.args_size = sizeof(c) }, PATIENCE);
	}
	for (unsigned int i = 0; i < 6; i++)
		EXPECT(got_type(DONE));
	atomic_store(&shared->ending, true);
	EXPECT_EQ(atomic_load(&shared->wrong), 0);
	EXPECT(atomic_load(&shared->circles) > atomic_load(&shared->unsure));
	test_note("%lu circles, %lu of which were told to several", atomic_load(&shared->circles),
		  atomic_load(&shared->unsure));
	for (int i = 0; i < SERVERS; i++)
		put_down(c.all[i]);
	put_down(helper);
	peer_stop(&b);
	peer_stop(&d);
}

/* A circle that a node leaves. */
static void a_node_goes(void)
{
	struct peer b, c;
	mote_pid l[3];

	for (int i = 0; i < 4; i++) {
		mote_ref ref;
		struct mote_msg *m;
		int err;

		peer_start(&b, "b");
		peer_start(&c, "c");
		l[0] = server_on(NULL, 0);
		l[1] = server_on(&b, 0);
		l[2] = server_on(&c, 0);
		for (int j = 0; j < 3; j++)
			next_is(l[j], l[(j + 1) % 3]);
		ref = mote_request(l[i % 2], CALL_NEXT, NULL, 0);
		peer_kill(&c);
		m = mote_receive_ref(ref, PATIENCE);
		err = m && !mote_msg_down(m) ? ((struct result *)m->data)->err : 1;
		/* The circle was quicker, or it was not. */
		if (!EXPECT(err == -EDEADLK || err == -ECONNRESET))
			test_note("%d", err);
		mote_msg_free(m);
		put_down(l[0]);
		peer_stop(&b);
	}
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(starter), ENTRY(client), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	EXPECT_EQ(mote_entry_register("client", client), 0);
	nodes_case("through two nodes", through_two);
	nodes_case("through three nodes", through_three);
	nodes_case("one that is too long for probes: the deadlines hold", too_long);
	nodes_case("random calls between three nodes: none is missed, and each is one", anything_at_once);
	nodes_case("a node goes while the circle closes", a_node_goes);
	return nodes_done();
}
