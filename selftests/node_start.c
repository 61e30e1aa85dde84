/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* mote_node_start(): OS processes as linked nodes; what their keeper says of their end, and that none is left behind. */
#include "nodes.h"

enum { TOLD = 1, STARTED };

struct told {
	pid_t pid;
	char variable[16], node[16];
};

/* Tells its boss about the OS process. */
static void teller(const void *args, size_t size)
{
	const char *variable = getenv("NODE_TEST"), *node = getenv("MOTE_NODE");
	struct told t = { .pid = getpid() };

	snprintf(t.variable, sizeof(t.variable), "%s", variable ? variable : "");
	snprintf(t.node, sizeof(t.node), "%s", node ? node : "");
	if (EXPECT(size == sizeof(mote_pid)))
		mote_send(*(const mote_pid *)args, TOLD, &t, sizeof(t));
}

static void quitter(const void *args, size_t size)
{
	(void)size;
	_exit(*(const int *)args);
}

static void stubborn(const void *args, size_t size)
{
	signal(SIGTERM, SIG_IGN);
	teller(args, size);
}

struct started {
	mote_pid keeper;
	struct peer peer;
};

static const char *const argv[] = { "/proc/self/exe", "--node", "-", NULL };

/* mote_node_start() of this program, which ends when we close `in`. */
static mote_pid start_opts(struct started *s, struct mote_node_start_opts opts)
{
	int ends[2];

	*s = (struct started){ 0 };
	if (!EXPECT(pipe2(ends, O_CLOEXEC) == 0))
		return MOTE_NOBODY;
	opts.size = sizeof(opts);
	opts.argv = opts.argv ? opts.argv : argv;
	opts.fds = (int[]){ ends[0], STDOUT_FILENO, STDERR_FILENO };
	s->keeper = mote_node_start(&opts, &s->peer.node, PATIENCE);
	close(ends[0]);
	s->peer.in = ends[1];
	return s->keeper;
}

static bool start(struct started *s, const char *name)
{
	mote_pid keeper = start_opts(s, (struct mote_node_start_opts){ .name = name });

	if (!mote_pid_valid(keeper))
		test_note("mote_node_start: %d", mote_errno());
	return EXPECT(mote_pid_valid(keeper)) && EXPECT(s->peer.node.id);
}

static struct told told(struct started *s, const char *entry)
{
	struct told t = { 0 };
	struct mote_msg *m;

	peer_spawn(&s->peer, entry, 0, NULL);
	m = mote_receive_type(TOLD, PATIENCE);
	if (EXPECT(m && m->size == sizeof(t)))
		memcpy(&t, m->data, sizeof(t));
	mote_msg_free(m);
	return t;
}

static bool is_gone(pid_t pid)
{
	mote_deadline until = PATIENCE;

	while (kill(pid, 0) == 0) {
		if (mote_now().ns > until.ns)
			return false;
		mote_sleep(mote_in_ms(1));
	}
	return errno == ESRCH;
}

/* EXIT of the keeper, an error, with that code and text. */
static bool ended(mote_pid keeper, int code, const char *text)
{
	struct mote_msg *m = mote_receive_type(MOTE_MSG_EXIT, PATIENCE);
	const struct mote_exit_info *e = m ? mote_msg_exit(m) : NULL;
	bool ok = e && mote_pid_equal(e->pid, keeper) && e->reason.kind == MOTE_ERROR && e->reason.code == code &&
		  e->reason.size == strlen(text) && !memcmp(e->reason.data, text, e->reason.size);

	if (!ok)
		test_describe(m);
	mote_msg_free(m);
	return ok;
}

static void lives_and_ends(void)
{
	struct started s;
	struct told t;
	mote_pid p;

	mote_trap_exit(true);
	if (!start(&s, "b"))
		return;
	EXPECT_EQ(s.keeper.node, mote_node_self().id);
	EXPECT_EQ(test_info(mote_self()).links, 1);
	EXPECT(mailbox_is_empty());
	EXPECT_EQ(mote_node_connect("b", PATIENCE).id, s.peer.node.id);
	t = told(&s, "teller");
	EXPECT(!strcmp(t.node, "b"));
	p = peer_spawn(&s.peer, "far_mirror", 0, NULL);
	EXPECT(ping(p));
	close(s.peer.in);
	EXPECT(got_exit(s.keeper, MOTE_NORMAL));
	EXPECT(is_gone(t.pid));
	EXPECT(mailbox_is_empty());
}

static void what_its_end_was(void)
{
	struct started s;
	int status = 3;

	mote_trap_exit(true);
	if (!start(&s, "b"))
		return;
	peer_spawn_args(&s.peer, "quitter", &status, sizeof(status), 0, NULL);
	EXPECT(ended(s.keeper, 3, "exit status 3"));
	close(s.peer.in);
	if (!start(&s, "b"))
		return;
	EXPECT_EQ(mote_send(peer_spawn(&s.peer, "puppet", 0, NULL), DO_STOP_NODE, NULL, 0), 0);
	EXPECT(ended(s.keeper, 128 + SIGKILL, "signal 9 (SIGKILL)"));
	close(s.peer.in);
	EXPECT(mailbox_is_empty());
}

static void untrapped(void *arg)
{
	struct started s;
	int status = 1;

	(void)arg;
	if (!start(&s, "b"))
		return;
	peer_spawn_args(&s.peer, "quitter", &status, sizeof(status), 0, NULL);
	mote_sleep(PATIENCE);
}

static void takes_its_caller_along(void)
{
	mote_ref ref;
	mote_pid p = mote_spawn_monitor(untrapped, NULL, &ref);

	EXPECT(got_down(ref, p, MOTE_ERROR));
}

static void told_to_exit(void)
{
	struct started s;
	struct told t;

	mote_trap_exit(true);
	if (!start(&s, "b"))
		return;
	t = told(&s, "teller");
	EXPECT_EQ(mote_exit_pid(s.keeper, MOTE_REASON_SHUTDOWN), 0);
	EXPECT(got_exit(s.keeper, MOTE_SHUTDOWN));
	EXPECT(kill(t.pid, 0) < 0 && errno == ESRCH);
	close(s.peer.in);

	/* one that does not listen */
	if (!EXPECT(mote_pid_valid(start_opts(&s, (struct mote_node_start_opts){ .name = "b", .stop_ms = 30 }))))
		return;
	t = told(&s, "stubborn");
	EXPECT_EQ(mote_exit_pid(s.keeper, mote_reason_error(EIO, "enough")), 0);
	EXPECT(ended(s.keeper, EIO, "enough"));
	EXPECT(kill(t.pid, 0) < 0 && errno == ESRCH);
	close(s.peer.in);

	/* no time for anything */
	if (!start(&s, "b"))
		return;
	t = told(&s, "stubborn");
	EXPECT_EQ(mote_exit_pid(s.keeper, MOTE_REASON_KILL), 0);
	EXPECT(got_exit(s.keeper, MOTE_KILLED));
	EXPECT(is_gone(t.pid));
	close(s.peer.in);
	EXPECT(mailbox_is_empty());
}

/* Starts a node, says where it is, and ends as it is told. */
static void short_caller(void *arg)
{
	struct started s;
	struct mote_msg *m;
	struct told t;

	if (!start(&s, "b"))
		return;
	t = told(&s, "teller");
	mote_send(*(mote_pid *)arg, STARTED, &t, sizeof(t));
	m = mote_receive(PATIENCE);
	mote_msg_free(m);
	close(s.peer.in);
}

static void the_caller_ends(void)
{
	mote_pid self = mote_self();

	for (int how = 0; how < 2; how++) {
		struct mote_msg *m;
		struct told t;
		mote_ref ref;
		mote_pid p;

		p = mote_spawn_monitor(short_caller, &self, &ref);
		m = mote_receive_type(STARTED, PATIENCE);
		if (!EXPECT(m))
			return;
		t = *(struct told *)m->data;
		mote_msg_free(m);
		if (how)
			mote_exit_pid(p, MOTE_REASON_KILL);
		else
			mote_send(p, 1, NULL, 0);
		EXPECT(got_down(ref, p, how ? MOTE_KILLED : MOTE_NORMAL));
		EXPECT(is_gone(t.pid));
	}
}

/* Told to exit in the middle of the start. */
static void hasty_caller(void *arg)
{
	struct started s;

	start_opts(&s, (struct mote_node_start_opts){ .name = arg });
	close(s.peer.in);
}

static bool count_nodes(mote_node node, const char *name, int state, void *arg)
{
	(void)node;
	(void)name;
	(void)state;
	++*(int *)arg;
	return true;
}

static void killed_meanwhile(void)
{
	unsigned long n = test_rounds(40);
	mote_deadline until = PATIENCE;
	uint64_t seed = test_seed();
	int nodes;

	for (unsigned long i = 0; i < n; i++) {
		char name[32];
		struct mote_msg *m;
		mote_ref ref;
		mote_pid p;

		snprintf(name, sizeof(name), "b%lu", i);
		p = mote_spawn_monitor(hasty_caller, name, &ref);
		mote_sleep(mote_in_us(test_random(&seed) % 20000));
		mote_exit_pid(p, MOTE_REASON_KILL);
		m = mote_receive_ref(ref, PATIENCE);
		EXPECT(m && mote_msg_down(m));
		mote_msg_free(m);
	}
	/* nothing is left: no node but this, no process but this */
	do {
		mote_sleep(mote_in_ms(2));
		nodes = 0;
		EXPECT_EQ(mote_node_each(count_nodes, &nodes), 0);
	} while ((nodes > 1 || mote_pid_valid(mote_process_next(mote_process_next(MOTE_NOBODY)))) &&
		 mote_now().ns < until.ns);
	EXPECT_EQ(nodes, 1);
	EXPECT(!mote_pid_valid(mote_process_next(mote_process_next(MOTE_NOBODY))));
}

static void fails(struct mote_node_start_opts opts, mote_deadline deadline, int err)
{
	mote_node node = { 0 };

	if (!opts.size)
		opts.size = sizeof(opts);
	EXPECT(!mote_pid_valid(mote_node_start(&opts, &node, deadline)));
	EXPECT_EQ(mote_errno(), err);
	EXPECT_EQ(node.id, 0);
	EXPECT_EQ(test_info(mote_self()).links, 0);
	EXPECT_EQ(test_info(mote_self()).monitors, 0);
}

#define FAILS(deadline, err, ...) fails((struct mote_node_start_opts){ __VA_ARGS__ }, deadline, err)

static void failures(void)
{
	const char *const no_program[] = { "/nowhere/at/all", NULL }, *const nothing_at_all[] = { NULL };
	const char *const ends[] = { "false", NULL }, *const sleeps[] = { "sleep", "1000", NULL };
	char name[MOTE_NODE_NAME_MAX + 2];
	struct started s;

	mote_trap_exit(true);
	FAILS(PATIENCE, -ENOENT, .argv = no_program, .name = "b");
	FAILS(PATIENCE, -ECHILD, .argv = ends, .name = "b");
	FAILS(mote_in_ms(30), -ETIMEDOUT, .argv = sleeps, .name = "b");
	FAILS(MOTE_NOW, -ETIMEDOUT, .argv = sleeps, .name = "b");
	FAILS(PATIENCE, -EINVAL, .argv = nothing_at_all, .name = "b");
	FAILS(PATIENCE, -EINVAL, .name = "b");
	FAILS(PATIENCE, -EINVAL, .argv = argv);
	FAILS(PATIENCE, -EINVAL, .argv = argv, .name = "");
	FAILS(PATIENCE, -EINVAL, .argv = argv, .name = "a b");
	FAILS(PATIENCE, -EINVAL, .argv = argv, .name = "b", .stop_ms = -1);
	FAILS(PATIENCE, -EINVAL, .argv = argv, .name = "b", .size = 4);
	memset(name, 'x', sizeof(name));
	name[sizeof(name) - 1] = 0;
	FAILS(PATIENCE, -EINVAL, .argv = argv, .name = name);
	FAILS(PATIENCE, -EEXIST, .argv = argv, .name = "a");
	if (!start(&s, "b"))
		return;
	{
		mote_node node;

		EXPECT(!mote_pid_valid(mote_node_start(&(struct mote_node_start_opts){
			.size = sizeof(struct mote_node_start_opts), .argv = argv, .name = "b" }, &node, PATIENCE)));
		EXPECT_EQ(mote_errno(), -EEXIST);
	}
	close(s.peer.in);
	EXPECT(got_exit(s.keeper, MOTE_NORMAL));
	EXPECT(mailbox_is_empty());
}

static void environments(void)
{
	char dir[64], first[] = "NODE_TEST=mine", second[] = "MOTE_NODE=not.this.one";
	const char *envp[] = { first, second, dir, NULL };
	struct started s;
	struct told t;

	mote_trap_exit(true);
	snprintf(dir, sizeof(dir), "MOTE_DIR=%s", nodes_dir);
	if (!EXPECT(mote_pid_valid(start_opts(&s, (struct mote_node_start_opts){ .name = "b", .envp = envp }))))
		return;
	t = told(&s, "teller");
	EXPECT(!strcmp(t.variable, "mine"));
	EXPECT(!strcmp(t.node, "b"));
	close(s.peer.in);
	EXPECT(got_exit(s.keeper, MOTE_NORMAL));
}

static void several(void)
{
	struct started s[5];

	mote_trap_exit(true);
	for (int i = 0; i < 5; i++) {
		char name[8];

		snprintf(name, sizeof(name), "n%d", i);
		if (!start(&s[i], name))
			return;
	}
	for (int i = 0; i < 5; i++)
		EXPECT(ping(peer_spawn(&s[i].peer, "far_mirror", 0, NULL)));
	for (int i = 4; i >= 0; i--) {
		close(s[i].peer.in);
		EXPECT(got_exit(s[i].keeper, MOTE_NORMAL));
	}
	EXPECT(mailbox_is_empty());
}

static pid_t left_behind;

static void leaves(void)
{
	struct started s;

	if (start(&s, "b"))
		left_behind = told(&s, "teller").pid;
}

static void the_runtime_stops(void)
{
	EXPECT_EQ(mote_run(selftest_main, &(void (*)(void)){ leaves }, NULL), 0);
	EXPECT(left_behind && kill(left_behind, 0) < 0 && errno == ESRCH);
}

static void no_node(void)
{
	FAILS(PATIENCE, -ENETDOWN, .argv = argv, .name = "b");
}

static void without_a_name(void)
{
	unsetenv("MOTE_NODE");
	EXPECT_EQ(mote_run(selftest_main, &(void (*)(void)){ no_node }, NULL), 0);
	setenv("MOTE_NODE", nodes_name, 1);
}

int main(int argc, char **args)
{
	static const struct entry entries[] = { ENTRY(teller), ENTRY(quitter), ENTRY(stubborn), { 0 } };

	if (nodes_begin(argc, args, entries))
		return nodes_other();
	nodes_case("a node is started, lives, and ends", lives_and_ends);
	nodes_case("the keeper says what the end was", what_its_end_was);
	nodes_case("a caller that does not trap is taken along", takes_its_caller_along);
	nodes_case("the keeper is told to exit: SIGTERM, then SIGKILL", told_to_exit);
	nodes_case("the caller ends: so does the node", the_caller_ends);
	nodes_case("the caller is killed in the middle of it", killed_meanwhile);
	nodes_case("failures", failures);
	nodes_case("the environment; MOTE_NODE in any case", environments);
	nodes_case("several", several);
	selftest_case("the runtime stops: so does the node", the_runtime_stops);
	selftest_case("no node without a name", without_a_name);
	return nodes_done();
}
