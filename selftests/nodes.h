/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * nodes.h: what the tests of other nodes share. A test program runs as node "a", in a directory of its own; it starts
 * itself anew for every other node, and spawns there what its table of entries names:
 *
 *	static void case_of(void)
 *	{
 *		struct peer b;
 *
 *		peer_start(&b, "b");
 *		pid = peer_spawn(&b, "puppet", MOTE_LINK, NULL);
 *		...
 *		peer_stop(&b);
 *	}
 *
 *	int main(int argc, char **argv)
 *	{
 *		static const struct entry entries[] = { ENTRY(mine), { 0 } };
 *
 *		if (nodes_begin(argc, argv, entries))
 *			return nodes_other();
 *		nodes_case("...", case_of);
 *		return nodes_done();
 *	}
 *
 * Such a node lives as long as its standard input is open: it never outlives the test. What fails there makes its
 * exit status, and so peer_stop(), fail.
 */
#ifndef SELFTESTS_NODES_H
#define SELFTESTS_NODES_H

#include "proc.h"
#include <dirent.h>
#include <fcntl.h>
#include <mote/node.h>
#include <signal.h>
#include <sys/wait.h>

struct entry {
	const char *name;
	mote_entry_fn fn;
};

#define ENTRY(function) { #function, function }

struct peer {
	mote_node node;
	struct mote_child child;
	int in;				/* open: it is to live */
};

static const char *nodes_name = "a";
static char nodes_dir[] = "/tmp/mote-nodes-XXXXXX";

/* --- a process that does what it is told by messages, and tells its boss what befalls it */

enum {
	DO_LINK = 0x7ffe0000, DO_UNLINK, DO_MONITOR, DO_TRAP, DO_DIE, DO_EXIT_PID, DO_INFO, DO_SEND, DO_STOP_NODE,
	GOT_EXIT, GOT_DOWN, GOT_INFO,
};

/* With each order; pid MOTE_NOBODY: whoever gives it. */
struct order {
	mote_pid pid;
	uint32_t kind;			/* of a reason, or how many messages */
	int32_t code;
	char text[32];			/* of the reason, "": none */
};

struct got {
	mote_pid pid;
	uint32_t kind;
	int32_t code;
	uint32_t size;
	char text[32];
};

static inline struct mote_reason order_reason(const struct order *o)
{
	struct mote_reason why = { .kind = o->kind, .code = o->code };

	if (o->text[0]) {
		why.data = o->text;
		why.size = strlen(o->text);
	}
	return why;
}

static inline void puppet_tell(mote_pid boss, uint32_t type, mote_pid pid, const struct mote_reason *why)
{
	struct got g = { .pid = pid, .kind = why->kind, .code = why->code, .size = (uint32_t)why->size };

	if (why->size)
		memcpy(g.text, why->data, why->size < sizeof(g.text) ? why->size : sizeof(g.text));
	mote_send(boss, type, &g, sizeof(g));
}

static inline void puppet_do(const struct mote_msg *m)
{
	const struct order *o = m->data;
	mote_pid pid = m->size == sizeof(*o) && mote_pid_valid(o->pid) ? o->pid : m->from;
	struct mote_process_info info;

	switch (m->type) {
	case PING:
		mote_send(m->from, PING, NULL, 0);
		break;
	case DO_LINK:
		EXPECT_EQ(mote_link(pid), 0);
		break;
	case DO_UNLINK:
		EXPECT_EQ(mote_unlink(pid), 0);
		break;
	case DO_MONITOR:
		EXPECT(mote_monitor(pid).id);
		break;
	case DO_TRAP:
		mote_trap_exit(o->kind);
		break;
	case DO_DIE:
		mote_exit(order_reason(o));
	case DO_EXIT_PID:
		EXPECT_EQ(mote_exit_pid(pid, order_reason(o)), 0);
		break;
	case DO_INFO:
		info = test_info(mote_self());
		mote_send(m->from, GOT_INFO, &info, sizeof(info));
		break;
	case DO_SEND:
		for (uint32_t i = 0; i < o->kind; i++)
			mote_send(pid, 1, &i, sizeof(i));
		break;
	case DO_STOP_NODE:
		kill(getpid(), SIGKILL);
		break;
	}
}

/* args: the boss's pid. */
static inline void puppet(const void *args, size_t size)
{
	mote_pid boss;

	if (!EXPECT(size == sizeof(boss)))
		return;
	memcpy(&boss, args, sizeof(boss));
	for (;;) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);
		const struct mote_exit_info *e = mote_msg_exit(m);
		const struct mote_down_info *d = mote_msg_down(m);

		if (e && !mote_pid_valid(e->pid))	/* the runtime stops */
			return;
		if (e)
			puppet_tell(boss, GOT_EXIT, e->pid, &e->reason);
		else if (d)
			puppet_tell(boss, GOT_DOWN, d->pid, &d->reason);
		else
			puppet_do(m);
		mote_msg_free(m);
	}
}

static inline void far_sink(const void *args, size_t size)
{
	(void)args;
	(void)size;
	sink(NULL);
}

static inline void far_mirror(const void *args, size_t size)
{
	(void)args;
	(void)size;
	mirror(NULL);
}

/* Ends at once, normally. */
static inline void nothing(const void *args, size_t size)
{
	(void)args;
	(void)size;
}

static inline void tell(mote_pid pid, uint32_t what, struct order o)
{
	EXPECT_EQ(mote_send(pid, what, &o, sizeof(o)), 0);
}

#define TELL(pid, what, ...) tell(pid, what, (struct order){ __VA_ARGS__ })

/* The next report of a puppet's is this. */
static inline bool got(uint32_t type, mote_pid pid, uint32_t kind)
{
	struct mote_msg *m = mote_receive(PATIENCE);
	const struct got *g = m ? m->data : NULL;
	bool ok = m && m->type == type && m->size == sizeof(*g) && mote_pid_equal(g->pid, pid) && g->kind == kind;

	if (!ok)
		test_describe(m);
	if (!ok && m && m->size == sizeof(*g))
		test_note("of " MOTE_PID_FMT ", kind %u, code %d", MOTE_PID_ARG(g->pid), g->kind, g->code);
	mote_msg_free(m);
	return ok;
}

static inline struct mote_process_info far_info(mote_pid puppet)
{
	struct mote_process_info info = { 0 };
	struct mote_msg *m;

	mote_send(puppet, DO_INFO, NULL, 0);
	m = mote_receive_type(GOT_INFO, PATIENCE);
	if (EXPECT(m && m->size == sizeof(info)))
		memcpy(&info, m->data, sizeof(info));
	mote_msg_free(m);
	return info;
}

/* Connections that were cut, and why; not the processes that end in errors, as they should. */
static void nodes_log(int level, const char *text, void *arg)
{
	(void)arg;
	if (level == MOTE_LOG_ERROR && !strncmp(text, "node ", 5))
		test_note("node %s: %s", nodes_name, text);
}

static const struct mote_opts nodes_opts = { .size = sizeof(nodes_opts), .log = nodes_log };

static inline void nodes_case(const char *name, void (*fn)(void))
{
	selftest_process_opts(name, fn, &nodes_opts);
}

/* --- the other node's side */

static const struct entry *nodes_entries;

static int64_t wait_for_end(void *arg)
{
	char c;

	(void)arg;
	while (read(STDIN_FILENO, &c, 1) > 0 || errno == EINTR)
		;
	return 0;
}

static inline void other_main(void *arg)
{
	(void)arg;
	mote_blocking(wait_for_end, NULL, NULL, MOTE_FOREVER);
}

static inline int nodes_other(void)
{
	static const struct entry common[] = {
		ENTRY(puppet), ENTRY(far_sink), ENTRY(far_mirror), ENTRY(nothing), { 0 }
	};
	int err;

	alarm(300);
	if (strcmp(nodes_name, "-"))		/* else whoever started it has said */
		setenv("MOTE_NODE", nodes_name, 1);
	for (const struct entry *e = common; e->name; e++)
		EXPECT_EQ(mote_entry_register(e->name, e->fn), 0);
	for (const struct entry *e = nodes_entries; e->name; e++)
		EXPECT_EQ(mote_entry_register(e->name, e->fn), 0);
	err = mote_run(other_main, NULL, &nodes_opts);
	if (err)
		test_note("node %s: mote_run: %d", nodes_name, err);
	return err || atomic_load(&selftest_failed) ? 1 : 0;
}

/* --- the test's side */

/* True: this is another node. */
static inline bool nodes_begin(int argc, char **argv, const struct entry *entries)
{
	nodes_entries = entries;
	if (argc == 3 && !strcmp(argv[1], "--node")) {
		nodes_name = argv[2];
		return true;
	}
	if (!mkdtemp(nodes_dir) || setenv("MOTE_DIR", nodes_dir, 1) || setenv("MOTE_NODE", nodes_name, 1))
		test_bail_out();
	return false;
}

static inline int nodes_done(void)
{
	DIR *d = opendir(nodes_dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
	rmdir(nodes_dir);
	return selftest_done();
}

/* Starts the OS process, and no more. */
static inline void peer_launch(struct peer *p, const char *name)
{
	const char *argv[] = { "/proc/self/exe", "--node", name, NULL };
	int ends[2], err;

	*p = (struct peer){ 0 };
	if (pipe2(ends, O_CLOEXEC))
		test_bail_out();
	err = mote_child_start(&p->child, argv, NULL, (int[]){ ends[0], STDOUT_FILENO, STDERR_FILENO });
	close(ends[0]);
	p->in = ends[1];
	if (err) {
		test_note("node %s: mote_child_start: %d", name, err);
		test_bail_out();
	}
}

/* Connects to a node that is just starting. */
static inline mote_node peer_connect(const char *name)
{
	mote_deadline until = PATIENCE;
	mote_node node;

	for (;;) {
		node = mote_node_connect(name, until);
		if (node.id)
			return node;
		if (mote_errno() != -ESRCH || mote_now().ns > until.ns) {
			test_note("node %s: mote_node_connect: %d", name, mote_errno());
			test_bail_out();
		}
		mote_sleep(mote_in_ms(2));
	}
}

static inline void peer_start(struct peer *p, const char *name)
{
	peer_launch(p, name);
	p->node = peer_connect(name);
}

/* In order: it ends by itself, and nothing failed there. */
static inline void peer_stop(struct peer *p)
{
	int status = -1;

	close(p->in);
	if (EXPECT(mote_child_wait(&p->child, &status, PATIENCE) == 0))
		EXPECT_EQ(status, 0);
}

static inline void peer_kill(struct peer *p)
{
	int status = -1;

	EXPECT_EQ(mote_child_kill(&p->child, SIGKILL), 0);
	EXPECT_EQ(mote_child_wait(&p->child, &status, PATIENCE), 0);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(p->in);
}

static inline mote_pid peer_spawn_args(struct peer *p, const char *entry, const void *args, size_t size,
				       unsigned int flags, mote_ref *ref)
{
	mote_pid pid = mote_spawn_on(p->node, &(struct mote_spawn_on_opts){
		.size = sizeof(struct mote_spawn_on_opts), .entry = entry, .args = args, .args_size = size,
		.flags = flags, .ref = ref }, PATIENCE);

	if (!mote_pid_valid(pid)) {
		test_note("mote_spawn_on %s: %d", entry, mote_errno());
		test_bail_out();
	}
	return pid;
}

/* What it gets as args is the caller's pid. */
static inline mote_pid peer_spawn(struct peer *p, const char *entry, unsigned int flags, mote_ref *ref)
{
	mote_pid self = mote_self();

	return peer_spawn_args(p, entry, &self, sizeof(self), flags, ref);
}

/* Without end, but no wait for nothing: what is on its way between the two nodes has arrived. */
static inline void quiet(mote_pid puppet)
{
	EXPECT(ping(puppet));
	mote_sleep(mote_in_ms(1));
}

#endif
