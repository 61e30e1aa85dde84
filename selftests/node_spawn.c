/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Entry points, spawns on other nodes, and names there. */
#include "nodes.h"

enum { HELLO = 1, HERE };

#define SPAWN_OPTS(...) (&(struct mote_spawn_on_opts){ .size = sizeof(struct mote_spawn_on_opts), __VA_ARGS__ })

struct args {
	mote_pid boss;
	uint32_t n;
	uint8_t bytes[];
};

/* Looks at what it was given, and says how much that was. */
static void looker(const void *args, size_t size)
{
	const struct args *a = args;
	uint64_t got = size;

	EXPECT_EQ((uintptr_t)args % 16, 0);
	if (!EXPECT(size >= sizeof(*a)))
		return;
	EXPECT_EQ(size, sizeof(*a) + a->n);
	for (size_t i = 0; i < a->n; i++) {
		if (!EXPECT(a->bytes[i] == (uint8_t)(i * 7 + a->n)))
			return;
	}
	mote_send(a->boss, HERE, &got, sizeof(got));
}

static void arguments(void)
{
	static const uint32_t sizes[] = { 0, 1, 15, 100, 4000, 5000, 65536, 1 << 20, 3 << 20 };
	struct peer b;

	peer_start(&b, "b");
	for (int round = 0; round < 2; round++) {
		mote_node node = round ? mote_node_self() : b.node;

		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			struct args *a = malloc(sizeof(*a) + sizes[i]);
			struct mote_msg *m;
			mote_ref ref;
			mote_pid p;

			a->boss = mote_self();
			a->n = sizes[i];
			for (uint32_t j = 0; j < a->n; j++)
				a->bytes[j] = (uint8_t)(j * 7 + a->n);
			p = mote_spawn_on(node, SPAWN_OPTS(.entry = "looker", .args = a, .flags = MOTE_MONITOR,
							   .args_size = sizeof(*a) + a->n, .ref = &ref), PATIENCE);
			free(a);
			if (!EXPECT(mote_pid_valid(p))) {
				test_note("%u bytes: %d", sizes[i], mote_errno());
				continue;
			}
			EXPECT_EQ(p.node, node.id);
			m = mote_receive(PATIENCE);
			EXPECT(m && m->type == HERE && mote_pid_equal(m->from, p) &&
			       *(uint64_t *)m->data == sizeof(*a) + sizes[i]);
			mote_msg_free(m);
			EXPECT(got_down(ref, p, MOTE_NORMAL));
		}
	}
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

static void no_args(const void *args, size_t size)
{
	(void)args;
	EXPECT_EQ(size, 0);
}

static void errors(void)
{
	struct mote_spawn_on_opts good = { .size = sizeof(good), .entry = "no_args" }, opts;
	struct { struct mote_spawn_on_opts opts; char more[8]; } longer = { .opts = good };
	char name[300];
	struct peer b;
	mote_ref ref;
	mote_pid p;

	peer_start(&b, "b");
#define FAILS(node, err) \
	do { \
		EXPECT(!mote_pid_valid(mote_spawn_on(node, &opts, PATIENCE))); \
		EXPECT_EQ(mote_errno(), err); \
	} while (0)
	for (int i = 0; i < 2; i++) {
		mote_node node = i ? mote_node_self() : b.node;

		opts = good;
		opts.entry = "never heard of it";
		FAILS(node, -ENOENT);
		opts.entry = NULL;
		FAILS(node, -EINVAL);
		opts.entry = "";
		FAILS(node, -EINVAL);
		memset(name, 'x', sizeof(name));
		name[256] = 0;
		opts.entry = name;
		FAILS(node, -EINVAL);
		opts = good;
		opts.flags = MOTE_ASYNC_KILL;
		FAILS(node, -EINVAL);
		opts = good;
		opts.reserved = 1;
		FAILS(node, -EINVAL);
		opts = good;
		opts.name = name;
		FAILS(node, -EINVAL);
		opts = good;
		opts.size = 4;
		FAILS(node, -EINVAL);
		longer.opts.size = sizeof(longer);
		longer.more[3] = 1;
		EXPECT(!mote_pid_valid(mote_spawn_on(node, &longer.opts, PATIENCE)));
		EXPECT_EQ(mote_errno(), -E2BIG);
		longer.more[3] = 0;
		EXPECT(mote_pid_valid(mote_spawn_on(node, &longer.opts, PATIENCE)));
	}
	opts = good;
	FAILS(((mote_node){ UINT32_MAX }), -ENETUNREACH);
	p = peer_spawn(&b, "puppet", MOTE_MONITOR, &ref);
	EXPECT(ping(p));
	peer_kill(&b);
	FAILS(b.node, -ENETUNREACH);
	EXPECT(got_down(ref, p, MOTE_NOCONNECTION));
	EXPECT(mailbox_is_empty());
}

static void registering(void)
{
	mote_ref ref;
	mote_pid p;

	EXPECT_EQ(mote_entry_register("", no_args), -EINVAL);
	EXPECT_EQ(mote_entry_register(NULL, no_args), -EINVAL);
	EXPECT_EQ(mote_entry_register("passing", no_args), 0);
	p = mote_spawn_on(mote_node_self(), SPAWN_OPTS(.entry = "passing", .flags = MOTE_MONITOR, .ref = &ref), PATIENCE);
	EXPECT(got_down(ref, p, MOTE_NORMAL));
	EXPECT_EQ(mote_entry_register("passing", NULL), 0);
	EXPECT(!mote_pid_valid(mote_spawn_on(mote_node_self(), SPAWN_OPTS(.entry = "passing"), PATIENCE)));
	EXPECT_EQ(mote_errno(), -ENOENT);
}

/* Ends with an error at once: link and monitor must have been there before. */
static void stillborn(const void *args, size_t size)
{
	(void)args;
	(void)size;
	mote_exit(mote_reason_error(EIO, "stillborn"));
}

static void atomic_link_and_monitor(void)
{
	struct peer b;

	mote_trap_exit(true);
	peer_start(&b, "b");
	for (unsigned long i = 0; i < test_rounds(2000); i++) {
		mote_ref ref;
		mote_pid p = peer_spawn(&b, "stillborn", MOTE_LINK | MOTE_MONITOR, &ref);

		if (!EXPECT(got_exit(p, MOTE_ERROR)) || !EXPECT(got_down(ref, p, MOTE_ERROR)))
			return;
	}
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(test_info(mote_self()).links, 0);
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
	peer_stop(&b);
}

/* A spawner that does not trap is taken along. */
static void spawner(void *arg)
{
	peer_spawn(arg, "stillborn", MOTE_LINK, NULL);
	mote_sleep(PATIENCE);
}

static void taken_along(void)
{
	struct peer b;
	mote_ref ref;
	mote_pid p;

	peer_start(&b, "b");
	p = mote_spawn_monitor(spawner, &b, &ref);
	EXPECT(got_down(ref, p, MOTE_ERROR));
	peer_stop(&b);
}

static void trapping(void)
{
	struct peer b;
	mote_pid p;

	peer_start(&b, "b");
	p = peer_spawn(&b, "puppet", MOTE_TRAP_EXIT, NULL);
	EXPECT_EQ(mote_exit_pid(p, mote_reason_error(EIO, NULL)), 0);
	EXPECT(got(GOT_EXIT, mote_self(), MOTE_ERROR));
	EXPECT(ping(p));
	peer_stop(&b);
}

static void named(void)
{
	struct mote_msg *m;
	struct peer b;
	mote_ref ref;
	mote_pid p, q, self = mote_self();

	peer_start(&b, "b");
	EXPECT(!mote_pid_valid(mote_whereis_on(b.node, "far.away", PATIENCE)));
	EXPECT_EQ(mote_errno(), -ESRCH);
	p = mote_spawn_on(b.node, SPAWN_OPTS(.entry = "puppet", .args = &self, .args_size = sizeof(self),
					     .name = "far.away", .flags = MOTE_MONITOR, .ref = &ref), PATIENCE);
	EXPECT(mote_pid_valid(p));
	EXPECT(mote_pid_equal(mote_whereis_on(b.node, "far.away", PATIENCE), p));
	EXPECT(!mote_pid_valid(mote_whereis("far.away")));
	q = mote_spawn_on(b.node, SPAWN_OPTS(.entry = "puppet", .args = &self, .args_size = sizeof(self),
					     .name = "far.away"), PATIENCE);
	EXPECT(!mote_pid_valid(q));
	EXPECT_EQ(mote_errno(), -EEXIST);

	EXPECT_EQ(mote_send_name_on(b.node, "far.away", PING, NULL, 0), 0);
	EXPECT(got_type(PING));
	EXPECT_EQ(mote_send_name_on(b.node, "nobody.there", PING, NULL, 0), 0);
	EXPECT_EQ(mote_send_name_on(b.node, "far.away", MOTE_MSG_RESERVED, NULL, 0), -EINVAL);
	EXPECT(ping(p));
	EXPECT(mailbox_is_empty());

	/* a monitor by name: DOWN says which process it was */
	EXPECT_EQ(far_info(p).monitored_by, 1);
	q = MOTE_NOBODY;
	for (int i = 0; i < 2; i++) {
		mote_ref by_name = mote_monitor_name_on(b.node, i ? "nobody.there" : "far.away");

		EXPECT(by_name.id);
		if (i) {
			m = mote_receive_ref(by_name, PATIENCE);
			EXPECT(m && mote_msg_down(m) && mote_msg_down(m)->reason.kind == MOTE_NOPROC);
		} else {
			EXPECT_EQ(far_info(p).monitored_by, 2);
			TELL(p, DO_DIE, .kind = MOTE_CUSTOM, .code = 3);
			m = mote_receive_ref(by_name, PATIENCE);
			EXPECT(is_down(m, by_name, p, MOTE_CUSTOM));
			EXPECT(got_down(ref, p, MOTE_CUSTOM));
		}
		mote_msg_free(m);
	}
	/* the name is free again */
	EXPECT(!mote_pid_valid(mote_whereis_on(b.node, "far.away", PATIENCE)));
	q = mote_spawn_on(b.node, SPAWN_OPTS(.entry = "puppet", .args = &self, .args_size = sizeof(self),
					     .name = "far.away"), PATIENCE);
	EXPECT(mote_pid_valid(q) && ping(q));
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

static void names_here(void)
{
	mote_node self = mote_node_self();
	mote_ref ref;
	mote_pid p;

	EXPECT_EQ(mote_register("near", mote_self()), 0);
	EXPECT(mote_pid_equal(mote_whereis_on(self, "near", PATIENCE), mote_self()));
	EXPECT(!mote_pid_valid(mote_whereis_on(self, "far", PATIENCE)));
	EXPECT_EQ(mote_errno(), -ESRCH);
	EXPECT_EQ(mote_send_name_on(self, "near", HELLO, NULL, 0), 0);
	EXPECT(got_type(HELLO));
	p = mote_spawn_opts(&(struct mote_spawn_opts){ .size = sizeof(struct mote_spawn_opts), .fn = mirror,
						       .name = "mirror" });
	ref = mote_monitor_name_on(self, "mirror");
	mote_exit_pid(p, MOTE_REASON_KILL);
	EXPECT(got_down(ref, p, MOTE_KILLED));
}

static void names_nowhere(void)
{
	mote_node nowhere = { UINT32_MAX };
	struct mote_msg *m;
	mote_ref ref;

	EXPECT(!mote_pid_valid(mote_whereis_on(nowhere, "x", PATIENCE)));
	EXPECT_EQ(mote_errno(), -ENETUNREACH);
	EXPECT(!mote_pid_valid(mote_whereis_on(mote_node_self(), "", PATIENCE)));
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT_EQ(mote_send_name_on(nowhere, "x", HELLO, NULL, 0), 0);
	ref = mote_monitor_name_on(nowhere, "x");
	m = mote_receive_ref(ref, PATIENCE);
	EXPECT(m && mote_msg_down(m) && mote_msg_down(m)->reason.kind == MOTE_NOCONNECTION);
	mote_msg_free(m);
}

/* A name of ours is no process of theirs: a far pid can't be registered here. */
static void names_of_others(void)
{
	struct peer b;
	mote_pid p;

	peer_start(&b, "b");
	p = peer_spawn(&b, "far_mirror", 0, NULL);
	EXPECT_EQ(mote_register("stranger", p), -ESRCH);
	EXPECT(!mote_alive(p));
	EXPECT(ping(p));
	peer_stop(&b);
}

/* A node that was stopped does not answer: the deadline; and what it begins when it goes on is killed. */
static void stopped(void)
{
	mote_deadline until = PATIENCE;
	siginfo_t stop = { .si_pid = 0 };
	struct mote_msg *m = NULL;
	struct peer b;
	mote_pid p, self = mote_self();

	peer_start(&b, "b");
	p = peer_spawn(&b, "puppet", 0, NULL);
	EXPECT(ping(p));
	EXPECT_EQ(mote_child_kill(&b.child, SIGSTOP), 0);
	/* all its threads, not just about to */
	while (waitid(P_PID, (id_t)b.child.pid, &stop, WSTOPPED | WNOHANG) == 0 && !stop.si_pid)
		mote_sleep(mote_in_us(100));
	EXPECT(!mote_pid_valid(mote_spawn_on(b.node, SPAWN_OPTS(.entry = "puppet", .args = &self,
		.args_size = sizeof(self), .name = "latecomer", .flags = MOTE_LINK | MOTE_MONITOR,
		.ref = &(mote_ref){ 0 }), mote_in_ms(20))));
	EXPECT_EQ(mote_errno(), -ETIMEDOUT);
	EXPECT(!mote_pid_valid(mote_whereis_on(b.node, "x", mote_in_ms(5))));
	EXPECT_EQ(mote_errno(), -ETIMEDOUT);
	EXPECT_EQ(mote_call(p, 1, NULL, 0, NULL, mote_in_ms(5)), -ETIMEDOUT);
	EXPECT_EQ(mote_child_kill(&b.child, SIGCONT), 0);
	EXPECT(ping(p));
	/* it may have been begun, and then is about to be killed */
	while (mote_pid_valid(mote_whereis_on(b.node, "latecomer", PATIENCE)) && mote_now().ns < until.ns)
		mote_sleep(mote_in_ms(1));
	EXPECT(!mote_pid_valid(mote_whereis_on(b.node, "latecomer", PATIENCE)));
	EXPECT_EQ(mote_errno(), -ESRCH);
	EXPECT_EQ(test_info(mote_self()).links, 0);
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
	m = mote_receive(mote_in_ms(5));
	if (!EXPECT(!m))
		test_describe(m);
	mote_msg_free(m);
	peer_stop(&b);
}

static void crowd(void)
{
	unsigned long n = test_crowd(2000);
	struct peer b;
	mote_pid *p = calloc(n, sizeof(*p));

	peer_start(&b, "b");
	for (unsigned long i = 0; i < n; i++)
		p[i] = peer_spawn(&b, "far_mirror", 0, NULL);
	for (unsigned long i = 0; i < n; i++)
		mote_send(p[i], HELLO, &i, sizeof(i));
	for (unsigned long i = 0; i < n; i++)
		EXPECT(got_type(HELLO));
	EXPECT(mailbox_is_empty());
	free(p);
	peer_stop(&b);
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = {
		ENTRY(looker), ENTRY(no_args), ENTRY(stillborn), { 0 }
	};

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	for (const struct entry *e = entries; e->name; e++)
		EXPECT_EQ(mote_entry_register(e->name, e->fn), 0);
	nodes_case("arguments of all sizes, there and here", arguments);
	nodes_case("errors", errors);
	nodes_case("entry points come and go", registering);
	nodes_case("link and monitor are atomic with the spawn", atomic_link_and_monitor);
	nodes_case("a spawner that is linked is taken along", taken_along);
	nodes_case("born trapping exits", trapping);
	nodes_case("names there: spawn, whereis, send, monitor", named);
	nodes_case("names here, by way of one's own node", names_here);
	nodes_case("names on no node", names_nowhere);
	nodes_case("a far process is not to be registered here", names_of_others);
	nodes_case("a node that does not answer: -ETIMEDOUT, nothing is left behind", stopped);
	nodes_case("a crowd there", crowd);
	return nodes_done();
}
