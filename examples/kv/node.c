/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Stores in OS processes of their own: kv --nodes N. The server that clients see starts this program N times more, each
 * as a node that runs one store, with a file of its own, and starts it again when it ends, in whatever way. Such a node
 * ends when the server does.
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

/* Returns when the node's OS process is there and has a store. Its keeper ends when it does: then the file is free. */
static int start_node(void *arg, mote_pid *keeper)
{
	static const char *const argv[] = { "/proc/self/exe", NODE_ARGUMENT, NULL };
	int store = (intptr_t)arg, err = 0;
	struct store_args args = { kv.main, { kv.secret[0], kv.secret[1] }, store, kv.stores, kv.shards, kv.append_only,
				   kv.fsync, "" };
	struct mote_spawn_on_opts spawn = { .size = sizeof(spawn), .entry = STORE_ENTRY, .args = &args,
					    .args_size = sizeof(args) };
	char name[MOTE_NODE_NAME_MAX + 1];
	struct mote_node_start_opts opts = { .size = sizeof(opts), .argv = argv, .name = name };
	mote_node node;

	if (kv.node[store].failures++ > FAILURES_MAX) {
		kv_log("node %d could not be started again, %d times in a row: giving up", store, FAILURES_MAX);
		mote_exit(mote_reason_error(EPIPE, "incomplete"));
	}
	snprintf(name, sizeof(name), "%s.%d.%d", mote_node_name(), store, ++kv.node[store].starts);
	store_file(args.file, sizeof(args.file), store);
	*keeper = mote_node_start(&opts, &node, PATIENCE);
	if (!mote_pid_valid(*keeper) || !mote_pid_valid(mote_spawn_on(node, &spawn, PATIENCE)))
		err = mote_errno();
	if (err)
		kv_log("node %d could not be started: %s", store, strerror(-err));
	if (err && mote_pid_valid(*keeper)) {
		mote_exit_pid(*keeper, MOTE_REASON_SHUTDOWN);
		mote_msg_free(mote_receive_ref(mote_monitor(*keeper), MOTE_FOREVER));
	}
	return err;
}

/* Each has a supervisor of its own: they need not wait for each other. */
int node_start(void *arg, mote_pid *pid)
{
	char name[24];
	struct mote_child_spec child = { .id = "host", .start = start_node, .arg = arg,
					 .shutdown_ms = MOTE_SHUTDOWN_INFINITY };
	struct mote_supervisor_opts opts = { .size = sizeof(opts), .name = name, .children = &child, .nr_children = 1,
					     .max_restarts = RESTARTS_ANY };

	snprintf(name, sizeof(name), "node %d", (int)(intptr_t)arg);
	return mote_supervisor_start_link(&opts, pid);
}

/* Until the store ends, or is to: because the node is, or because the server has ended. */
static void store_entry(const void *data, size_t size)
{
	const struct store_args *args = data;
	struct mote_msg *m;
	mote_pid store;

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
	mote_monitor(kv.main);
	mote_trap_exit(true);
	if (store_start((void *)(intptr_t)args->store, &store))
		mote_exit(mote_reason_error(EPIPE, "the store could not be started"));
	m = mote_receive(MOTE_FOREVER);
	if (m->type == MOTE_MSG_EXIT)
		mote_exit(mote_msg_exit(m)->reason);
	mote_server_stop(store, MOTE_REASON_SHUTDOWN, MOTE_FOREVER);
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
