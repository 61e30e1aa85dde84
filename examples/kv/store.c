/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A store is a file's writer, the shards whose keys are in that file, and their supervisor. A shard that died is
 * started anew, however often. The store ends when the writer does: nobody would know what is in the file.
 */
#include "kv.h"

#include <stdio.h>

/* A handler, not a server, for speed; and not waited for: all shards read their keys at once. */
static int start_shard(void *arg, mote_pid *pid)
{
	struct mote_spawn_opts opts = { .size = sizeof(opts), .handler = &shard_ops, .arg = arg, .flags = MOTE_LINK,
					.label = "shard" };

	*pid = mote_spawn_opts(&opts);
	return mote_pid_valid(*pid) ? 0 : mote_errno();
}

int store_start(void *arg, mote_pid *pid)
{
	struct mote_child_spec writer = { .name = "writer", .fn = writer_main, .restart = MOTE_TEMPORARY,
					  .significant = true, .shutdown_ms = MOTE_SHUTDOWN_INFINITY };
	struct mote_supervisor_opts opts = { .size = sizeof(opts), .name = "store", .children = &writer,
					     .nr_children = kv.append_only, .max_restarts = RESTARTS_ANY,
					     .auto_shutdown = MOTE_AUTO_ANY_SIGNIFICANT };
	int err;

	kv.first = (intptr_t)arg * kv.shards;
	err = mote_supervisor_start_link(&opts, pid);
	for (int i = kv.first; !err && i < kv.first + kv.shards; i++) {
		char id[24];
		struct mote_child_spec shard = { .id = id, .start = start_shard, .arg = (void *)(intptr_t)i };

		snprintf(id, sizeof(id), "shard %d", i);
		err = mote_supervisor_start_child(*pid, &shard, NULL, MOTE_FOREVER);
	}
	return err;
}
