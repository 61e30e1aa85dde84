/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Stores in OS processes of their own: kv --nodes N. The server that clients see starts this program N times more, each
 * as a node that runs one store, with a file of its own, and starts it again when it ends, in whatever way. Such a node
 * ends when the server does: its store is linked to the process here that started it.
 *
 * Which node a key belongs to follows from the key and from N alone (key_shard), so each file is right for one N. A
 * shard passes over what is another's when it reads a file. So all files in a row are a file for a server without nodes,
 * and that one, copied for each of them, is right for any number of nodes.
 */
#include "kv.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATIENCE mote_in_ms(20000)

#define STORE_ENTRY	"kv.store"
#define HOST_NAME	"kv.host"

struct store_args {			/* what a store in another OS process has to know */
	mote_pid main;
	uint64_t secret[2];
	int store, stores, shards, append_only, fsync;
	char file[sizeof(kv.file)];
};

void node_name(void)
{
	char name[32];

	snprintf(name, sizeof(name), "kv-%d", getpid());
	setenv("MOTE_NODE", name, 0);
}

static void store_file(char *name, size_t size, int store)
{
	snprintf(name, size, "%.*s.%d-of-%d", FILE_NAME_MAX - 1, kv.file, store + 1, kv.stores);
}

/* APPENDFILENAME, or that and .K-of-N */
bool node_files_fit(void)
{
	size_t len = strlen(kv.file);
	DIR *dir = opendir(".");
	struct dirent *entry;
	bool fit = true;

	while (dir && (entry = readdir(dir))) {
		int store, stores = 0, end = 0;

		if (strncmp(entry->d_name, kv.file, len))
			continue;
		sscanf(entry->d_name + len, ".%d-of-%d%n", &store, &stores, &end);
		if (entry->d_name[len + end] || stores == kv.nodes)
			continue;
		kv_log("'%s' is not a file for --nodes %d (docs/kv.md says how to make it one): not loaded",
		       entry->d_name, kv.nodes);
		fit = false;
	}
	if (dir)
		closedir(dir);
	return fit;
}

/* The store's process; *keeper gets the one that stands for the node's OS process. MOTE_NOBODY: it did not start. */
static mote_pid start(int store, mote_pid *keeper)
{
	static const char *const argv[] = { "/proc/self/exe", NODE_ARGUMENT, NULL };
	struct store_args args = { kv.main, { kv.secret[0], kv.secret[1] }, store, kv.stores, kv.shards, kv.append_only,
				   kv.fsync, "" };
	struct mote_spawn_on_opts spawn = { .size = sizeof(spawn), .entry = STORE_ENTRY, .args = &args,
					    .args_size = sizeof(args), .flags = MOTE_LINK };
	struct mote_node_start_opts opts = { .size = sizeof(opts), .argv = argv };
	char name[MOTE_NODE_NAME_MAX + 1];
	mote_node node = { 0 };
	mote_pid pid = MOTE_NOBODY;

	snprintf(name, sizeof(name), "%s.%d.%d", mote_node_name(), store, ++kv.node[store].starts);
	opts.name = name;
	store_file(args.file, sizeof(args.file), store);
	*keeper = mote_node_start(&opts, &node, PATIENCE);
	if (mote_pid_valid(*keeper))
		pid = mote_spawn_on(node, &spawn, PATIENCE);
	if (!mote_pid_valid(pid))
		kv_log("node %d could not be started: %s", store, strerror(-mote_errno()));
	return pid;
}

/* Until one of them ends, or the supervisor wants an end: false. Others have ended before. */
static bool watch(mote_pid pid, mote_pid keeper)
{
	bool mine = false, going_on = true;

	while (!mine && going_on) {
		struct mote_msg *m = mote_receive_type(MOTE_MSG_EXIT, MOTE_FOREVER);
		const struct mote_exit_info *exit = mote_msg_exit(m);

		going_on = !mote_pid_equal(exit->pid, kv.main);
		mine = mote_pid_equal(exit->pid, pid) || mote_pid_equal(exit->pid, keeper);
		mote_msg_free(m);
	}
	return going_on;
}

/*
 * Not two at once: the file has one writer. So this waits until the OS process is gone. One whose store has ended ends by
 * itself, and can say why.
 */
static void end(int store, mote_pid keeper, mote_ref ended, mote_deadline patience)
{
	struct mote_msg *m = mote_receive_ref(ended, patience);
	char why[160];

	if (!m) {
		mote_exit_pid(keeper, MOTE_REASON_SHUTDOWN);
		m = mote_receive_ref(ended, MOTE_FOREVER);
	}
	mote_reason_format(&mote_msg_down(m)->reason, why, sizeof(why));
	kv_log("node %d ended: %s", store, why);
	mote_msg_free(m);
}

void node_main(void *arg)
{
	int store = (intptr_t)arg;
	bool going_on = true;

	mote_trap_exit(true);
	while (going_on) {
		mote_pid keeper, pid = start(store, &keeper);
		mote_ref ended = mote_pid_valid(keeper) ? mote_monitor(keeper) : (mote_ref){ 0 };

		if (mote_pid_valid(pid))
			going_on = watch(pid, keeper);
		if (mote_pid_valid(keeper))
			end(store, keeper, ended, going_on ? mote_in_ms(1000) : MOTE_NOW);
		if (going_on && ++kv.node[store].failures > FAILURES_MAX) {
			kv_log("node %d could not be started again, %d times in a row: giving up", store, FAILURES_MAX);
			mote_exit(mote_reason_error(EPIPE, "incomplete"));
		}
	}
}

static void store_entry(const void *data, size_t size)
{
	const struct store_args *args = data;

	if (size != sizeof(*args))
		mote_exit(mote_reason_error(EINVAL, "another version of kv"));
	kv.main = args->main;
	kv.secret[0] = args->secret[0];
	kv.secret[1] = args->secret[1];
	kv.stores = args->stores;
	kv.shards = args->shards;
	kv.append_only = args->append_only;
	kv.fsync = args->fsync;
	memcpy(kv.file, args->file, sizeof(kv.file));
	while (mote_send_name(HOST_NAME, KV_STORE, NULL, 0) == -ESRCH)
		mote_sleep(mote_in_ms(1));
	mote_os_signal(SIGTERM, true);
	store_main((void *)(intptr_t)args->store);
}

/* The first process of a node lives as long as the store. */
static void host_main(void *arg)
{
	struct mote_msg *m;

	(void)arg;
	mote_register(HOST_NAME, mote_self());
	m = mote_receive_type(KV_STORE, PATIENCE);
	if (!m)
		mote_exit(mote_reason_error(ETIMEDOUT, "nobody wants a store of this node"));
	m = mote_receive_ref(mote_monitor(m->from), MOTE_FOREVER);
	mote_exit(mote_msg_down(m)->reason);
}

/* Whoever interrupts a server at its terminal interrupts its nodes, too: they wait for what it says. */
int node_host(const struct mote_opts *opts)
{
	signal(SIGINT, SIG_IGN);
	mote_entry_register(STORE_ENTRY, store_entry);
	return mote_run(host_main, NULL, opts) != 0;
}
