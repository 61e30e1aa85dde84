/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* Nodes: names and ids, connecting, by name and by pid, watching, the end of a connection; a name's next tenant. */
#include "nodes.h"

static void no_node(void)
{
	struct mote_node_info info = { .size = sizeof(info) };
	mote_pid far = { 77, 1, 77 }, pid;
	mote_ref ref;

	EXPECT_EQ(mote_node_self().id, 0);
	EXPECT(!strcmp(mote_node_name(), ""));
	EXPECT_EQ(mote_self().node, 0);
	EXPECT_EQ(mote_node_connect("b", MOTE_NOW).id, 0);
	EXPECT_EQ(mote_errno(), -ENETDOWN);
	EXPECT_EQ(mote_node_watch(true), -ENETDOWN);
	EXPECT_EQ(mote_node_info((mote_node){ 77 }, &info), -ESRCH);
	/* a pid from elsewhere is one whose connection is gone */
	EXPECT_EQ(mote_send(far, 1, NULL, 0), 0);
	ref = mote_monitor(far);
	EXPECT(got_down(ref, far, MOTE_NOCONNECTION));
	mote_trap_exit(true);
	EXPECT_EQ(mote_link(far), 0);
	EXPECT(got_exit(far, MOTE_NOCONNECTION));
	EXPECT(mote_call(far, 1, NULL, 0, NULL, PATIENCE) < 0);
	pid = mote_spawn_on((mote_node){ 77 }, &(struct mote_spawn_on_opts){
		.size = sizeof(struct mote_spawn_on_opts), .entry = "nothing" }, PATIENCE);
	EXPECT(!mote_pid_valid(pid));
	EXPECT_EQ(mote_errno(), -ENETUNREACH);
	EXPECT(mailbox_is_empty());
}

static void without_a_name(void)
{
	unsetenv("MOTE_NODE");
	EXPECT_EQ(mote_run(selftest_main, &(void (*)(void)){ no_node }, NULL), 0);
	setenv("MOTE_NODE", nodes_name, 1);
}

static void unused(void *arg)
{
	EXPECT(arg);		/* NULL: it runs, and should not */
}

static void bad_names(void)
{
	static const char *const bad[] = {
		"a b", "../x", "a/b", "h\xc3\xa4", "a\n",
		"0123456789012345678901234567890123456789012345678901234567890123",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		setenv("MOTE_NODE", bad[i], 1);
		EXPECT_EQ(mote_run(unused, NULL, NULL), -EINVAL);
	}
	setenv("MOTE_NODE", nodes_name, 1);
	setenv("MOTE_PORT", "pigeon", 1);
	EXPECT_EQ(mote_run(unused, NULL, NULL), -EINVAL);
	unsetenv("MOTE_PORT");
}

static void oneself(void)
{
	struct mote_node_info info = { .size = sizeof(info) };
	struct mote_runtime_info runtime = { .size = sizeof(runtime) };

	EXPECT(mote_node_self().id);
	EXPECT(!strcmp(mote_node_name(), "a"));
	EXPECT_EQ(mote_self().node, mote_node_self().id);
	EXPECT_EQ(mote_pid_node(mote_self()).id, mote_node_self().id);
	EXPECT_EQ(mote_node_info(mote_node_self(), &info), 0);
	EXPECT_EQ(info.state, MOTE_NODE_SELF);
	EXPECT_EQ(info.node.id, mote_node_self().id);
	EXPECT(!strcmp(info.name, "a"));
	info.size = 4;
	EXPECT_EQ(mote_node_info(mote_node_self(), &info), -EINVAL);
	EXPECT_EQ(mote_runtime_info(&runtime), 0);
	EXPECT(strcmp(runtime.port, "none"));
	test_note("port %s", runtime.port);
}

static uint32_t id_before;

static void take_id(void)
{
	EXPECT(mote_node_self().id && mote_node_self().id != id_before);
	id_before = mote_node_self().id;
}

static void ids_are_never_reused(void)
{
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(mote_run(selftest_main, &(void (*)(void)){ take_id }, NULL), 0);
}

static void nobody_there(void)
{
	EXPECT_EQ(mote_node_connect("nobody", PATIENCE).id, 0);
	EXPECT_EQ(mote_errno(), -ESRCH);
	EXPECT_EQ(mote_node_connect("no body", PATIENCE).id, 0);
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT_EQ(mote_node_connect("", PATIENCE).id, 0);
	EXPECT_EQ(mote_errno(), -EINVAL);
	EXPECT_EQ(mote_node_disconnect((mote_node){ UINT32_MAX }), -ESRCH);
}

struct seen {
	mote_node a, b;
	int state;
};

static bool see(mote_node node, const char *name, int state, void *arg)
{
	struct seen *s = arg;

	if (!strcmp(name, "a"))
		s->a = node;
	if (!strcmp(name, "b")) {
		s->b = node;
		s->state = state;
	}
	return true;
}

static bool stop_at_once(mote_node node, const char *name, int state, void *arg)
{
	(void)node;
	(void)name;
	(void)state;
	++*(int *)arg;
	return false;
}

static void by_name(void)
{
	struct mote_node_info info = { .size = sizeof(info) };
	struct seen seen = { 0 };
	struct peer b;
	int calls = 0;
	mote_pid p;

	peer_launch(&b, "b");
	while (!seen.b.id) {
		EXPECT_EQ(mote_node_each(see, &seen), 0);
		mote_sleep(mote_in_ms(2));
	}
	EXPECT_EQ(seen.a.id, mote_node_self().id);
	EXPECT_EQ(seen.state, MOTE_NODE_STRANGER);
	b.node = peer_connect("b");
	EXPECT_EQ(b.node.id, seen.b.id);
	EXPECT(b.node.id != mote_node_self().id);
	EXPECT_EQ(mote_node_connect("b", MOTE_NOW).id, b.node.id);
	EXPECT_EQ(mote_node_each(see, &seen), 0);
	EXPECT_EQ(seen.state, MOTE_NODE_UP);
	EXPECT_EQ(mote_node_each(stop_at_once, &calls), 0);
	EXPECT_EQ(calls, 1);

	p = peer_spawn(&b, "puppet", 0, NULL);
	EXPECT_EQ(p.node, b.node.id);
	EXPECT(ping(p));
	EXPECT_EQ(mote_node_info(b.node, &info), 0);
	EXPECT_EQ(info.state, MOTE_NODE_UP);
	EXPECT_EQ(info.node.id, b.node.id);
	EXPECT(!strcmp(info.name, "b"));
	EXPECT(info.records_out >= 2 && info.records_in >= 2);
	EXPECT(info.bytes_out && info.bytes_in);
	EXPECT_EQ(info.queued, 0);
	peer_stop(&b);
}

static void name_taken(void)
{
	struct peer b, twin;
	int status = 0;

	peer_start(&b, "b");
	peer_launch(&twin, "b");
	EXPECT_EQ(mote_child_wait(&twin.child, &status, PATIENCE), 0);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	close(twin.in);
	EXPECT_EQ(mote_node_connect("b", PATIENCE).id, b.node.id);
	peer_stop(&b);
}

static bool got_node(uint32_t type, mote_node node, const char *name)
{
	struct mote_msg *m = mote_receive(PATIENCE);
	const struct mote_node_event *e = m ? m->data : NULL;
	bool ok = m && m->type == type && m->size == sizeof(*e) && e->node.id == node.id && !strcmp(e->name, name);

	if (!ok)
		test_describe(m);
	mote_msg_free(m);
	return ok;
}

static void watching(void)
{
	mote_ref ref;
	struct peer b, c;
	mote_pid p;

	EXPECT_EQ(mote_node_watch(true), 0);
	peer_start(&b, "b");
	EXPECT(got_node(MOTE_MSG_NODE_UP, b.node, "b"));
	p = peer_spawn(&b, "puppet", MOTE_MONITOR, &ref);
	peer_kill(&b);
	/* the news of the process, then of the node */
	EXPECT(got_type(MOTE_MSG_DOWN));
	EXPECT(got_node(MOTE_MSG_NODE_DOWN, b.node, "b"));

	/* whoever connects, of two that stay: one UP; and its end in order is DOWN, too */
	peer_start(&c, "c");
	EXPECT(got_node(MOTE_MSG_NODE_UP, c.node, "c"));
	p = peer_spawn(&c, "puppet", 0, NULL);
	EXPECT(ping(p));
	peer_stop(&c);
	EXPECT(got_node(MOTE_MSG_NODE_DOWN, c.node, "c"));
	EXPECT(mailbox_is_empty());

	EXPECT_EQ(mote_node_watch(false), 0);
	peer_start(&b, "b");
	p = peer_spawn(&b, "puppet", 0, NULL);
	EXPECT(ping(p));
	peer_stop(&b);
	quiet(mote_spawn(mirror, NULL));
	EXPECT(mailbox_is_empty());
}

static void disconnecting(void)
{
	struct mote_node_info info = { .size = sizeof(info) };
	struct peer b;
	mote_ref ref, again;
	mote_pid p;

	peer_start(&b, "b");
	mote_trap_exit(true);
	p = peer_spawn(&b, "puppet", MOTE_LINK | MOTE_MONITOR, &ref);
	EXPECT(ping(p));
	EXPECT_EQ(mote_node_disconnect(b.node), 0);
	EXPECT(got_down(ref, p, MOTE_NOCONNECTION));
	EXPECT(got_exit(p, MOTE_NOCONNECTION));
	EXPECT_EQ(mote_node_disconnect(b.node), -ESRCH);
	EXPECT_EQ(mote_node_info(b.node, &info), 0);
	EXPECT_EQ(info.state, MOTE_NODE_DOWN);
	EXPECT(!strcmp(info.name, "b"));
	/* what was lost stays lost */
	again = mote_monitor(p);
	EXPECT(got_down(again, p, MOTE_NOCONNECTION));
	EXPECT_EQ(mote_link(p), 0);
	EXPECT(got_exit(p, MOTE_NOCONNECTION));
	EXPECT_EQ(mote_send(p, 1, NULL, 0), 0);
	EXPECT(!mote_pid_valid(mote_whereis_on(b.node, "x", PATIENCE)));
	EXPECT_EQ(mote_errno(), -ENETUNREACH);
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
}

/* On b: is linked to its boss and watches it, and tells its heir on c when it has mourned, once. */
static void mourner(const void *args, size_t size)
{
	mote_pid boss, heir;
	struct mote_msg *m;
	mote_ref ref;

	if (!EXPECT(size == 2 * sizeof(mote_pid)))
		return;
	memcpy(&boss, args, sizeof(boss));
	memcpy(&heir, (const mote_pid *)args + 1, sizeof(heir));
	mote_trap_exit(true);
	ref = mote_monitor(boss);
	mote_link(boss);
	mote_send(boss, 1, NULL, 0);
	EXPECT(got_down(ref, boss, MOTE_NOCONNECTION));
	EXPECT(got_exit(boss, MOTE_NOCONNECTION));
	mote_sleep(mote_in_ms(2));
	m = mote_receive(MOTE_NOW);
	EXPECT(!m);
	/* c is still there, and takes the news */
	mote_send(heir, 2, NULL, 0);
}

/* On c: passes on to its boss what comes. */
static void relay(const void *args, size_t size)
{
	mote_pid boss;

	if (!EXPECT(size == sizeof(boss)))
		return;
	memcpy(&boss, args, sizeof(boss));
	for (;;)
		mote_send_msg(boss, mote_receive(MOTE_FOREVER));
}

static void both_sides_see_it(void)
{
	struct peer b, c;
	mote_pid p, heir, pids[2];

	mote_trap_exit(true);
	peer_start(&b, "b");
	peer_start(&c, "c");
	heir = peer_spawn(&c, "relay", 0, NULL);
	pids[0] = mote_self();
	pids[1] = heir;
	p = peer_spawn_args(&b, "mourner", pids, sizeof(pids), 0, NULL);
	EXPECT(got_type(1));
	EXPECT_EQ(mote_node_disconnect(b.node), 0);
	EXPECT(got_exit(p, MOTE_NOCONNECTION));
	EXPECT(got_type(2));
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
	peer_stop(&c);
}

/* b has never heard of c: a pid is enough. */
static void by_pid(void)
{
	struct peer b, c;
	mote_pid on_b, on_c;
	mote_ref ref;

	peer_start(&b, "b");
	peer_start(&c, "c");
	on_b = peer_spawn(&b, "puppet", 0, NULL);
	on_c = peer_spawn(&c, "puppet", MOTE_MONITOR, &ref);
	TELL(on_b, DO_TRAP, .kind = 1);
	TELL(on_b, DO_MONITOR, .pid = on_c);
	TELL(on_c, DO_LINK, .pid = on_b);
	/* our own way to each is shorter than theirs to each other */
	while (far_info(on_c).monitored_by < 2 || far_info(on_b).links < 1)
		mote_yield();
	TELL(on_b, DO_SEND, .pid = on_c, .kind = 5);	/* noise that a puppet ignores */
	TELL(on_c, DO_SEND, .pid = on_b, .kind = 5);
	EXPECT(ping(on_b));
	EXPECT(ping(on_c));
	TELL(on_c, DO_DIE, .kind = MOTE_ERROR, .code = EPIPE);
	EXPECT(got_down(ref, on_c, MOTE_ERROR));
	/* links are told before monitors; one sender, so one order */
	EXPECT(got(GOT_EXIT, on_c, MOTE_ERROR));
	EXPECT(got(GOT_DOWN, on_c, MOTE_ERROR));
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
	peer_stop(&c);
}

/* Each of three nodes has a process of each other's linked to it. */
static void triangle(void)
{
	struct peer b, c;
	mote_pid on_b, on_c;

	mote_trap_exit(true);
	peer_start(&b, "b");
	peer_start(&c, "c");
	on_b = peer_spawn(&b, "puppet", MOTE_LINK, NULL);
	on_c = peer_spawn(&c, "puppet", MOTE_LINK, NULL);
	TELL(on_b, DO_TRAP, .kind = 1);
	TELL(on_b, DO_LINK, .pid = on_c);
	EXPECT(ping(on_b));
	EXPECT_EQ(far_info(on_b).links, 2);
	peer_kill(&c);
	EXPECT(got_exit(on_c, MOTE_NOCONNECTION));
	EXPECT(got(GOT_EXIT, on_c, MOTE_NOCONNECTION));
	EXPECT_EQ(far_info(on_b).links, 1);
	EXPECT_EQ(test_info(mote_self()).links, 1);
	EXPECT(mailbox_is_empty());
	mote_exit_pid(on_b, MOTE_REASON_KILL);
	EXPECT(got_exit(on_b, MOTE_KILLED));
	peer_stop(&b);
}

static void next_tenant(void)
{
	struct peer b, heir;
	mote_pid old, new;
	mote_ref ref;

	peer_start(&b, "b");
	old = peer_spawn(&b, "puppet", MOTE_MONITOR, &ref);
	peer_kill(&b);
	EXPECT(got_down(ref, old, MOTE_NOCONNECTION));

	peer_start(&heir, "b");
	EXPECT(heir.node.id != b.node.id);
	new = peer_spawn(&heir, "puppet", MOTE_MONITOR, &ref);
	EXPECT(!mote_pid_equal(old, new));
	/* slot and serial may be the same: the node is not */
	EXPECT_EQ(mote_exit_pid(old, MOTE_REASON_KILL), 0);
	EXPECT_EQ(mote_send(old, DO_STOP_NODE, NULL, 0), 0);
	EXPECT_EQ(mote_call(old, 1, NULL, 0, NULL, PATIENCE), -ECONNRESET);
	EXPECT(ping(new));
	EXPECT(got_down(mote_monitor(old), old, MOTE_NOCONNECTION));
	EXPECT(mailbox_is_empty());
	peer_stop(&heir);
	mote_msg_free(mote_receive_ref(ref, PATIENCE));
}

static void connector(void *arg)
{
	mote_node node = peer_connect("b");

	mote_send(*(mote_pid *)arg, 1, &node, sizeof(node));
}

static void many_at_once(void)
{
	mote_pid self = mote_self();
	struct peer b;
	mote_node node;

	EXPECT_EQ(mote_node_watch(true), 0);
	peer_launch(&b, "b");
	for (int i = 0; i < 20; i++)
		mote_spawn(connector, &self);
	for (int i = 0; i < 20; i++) {
		struct mote_msg *m = mote_receive_type(1, PATIENCE);

		if (!EXPECT(m && m->size == sizeof(node)))
			return;
		if (i)
			EXPECT_EQ(((mote_node *)m->data)->id, node.id);
		memcpy(&node, m->data, sizeof(node));
		mote_msg_free(m);
	}
	EXPECT(got_node(MOTE_MSG_NODE_UP, node, "b"));
	EXPECT(mailbox_is_empty());
	peer_stop(&b);
	EXPECT(got_node(MOTE_MSG_NODE_DOWN, node, "b"));
}

int main(int argc, char **argv)
{
	static const struct entry entries[] = { ENTRY(mourner), ENTRY(relay), { 0 } };

	if (nodes_begin(argc, argv, entries))
		return nodes_other();
	selftest_case("a runtime without a name is no node", without_a_name);
	selftest_case("bad names, bad ports: -EINVAL", bad_names);
	nodes_case("a node knows itself", oneself);
	selftest_case("ids are never used again", ids_are_never_reused);
	nodes_case("no such node", nobody_there);
	nodes_case("connect by name; info, each", by_name);
	nodes_case("a living node's name is taken", name_taken);
	nodes_case("NODE_UP and NODE_DOWN to who watches, once, in their places", watching);
	nodes_case("disconnect: noconnection, for good", disconnecting);
	nodes_case("disconnect: the other side sees it, too, and others don't", both_sides_see_it);
	nodes_case("a pid is enough to connect: three nodes", by_pid);
	nodes_case("three nodes, one dies", triangle);
	nodes_case("the next node of a name is another: old pids stay dead", next_tenant);
	nodes_case("many connect at once: one connection", many_at_once);
	return nodes_done();
}
