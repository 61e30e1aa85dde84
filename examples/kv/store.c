/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A store is a file's writer, the shards whose keys are in that file, and the process here, linked to them, which starts
 * a shard anew that died. It ends when the writer does, when a shard can't start, and when it is told to: by who
 * started it, or (on a node of its own) by SIGTERM.
 */
#include "kv.h"

#include <signal.h>

static struct seat {
	mote_pid pid;
	int failures;			/* since it last served: one is a crash, more mean that it can't start */
	mote_deadline since;
} seats[SHARDS_MAX];

mote_pid kv_start(const char *name, mote_fn fn, const struct mote_handler_ops *server, intptr_t arg)
{
	struct mote_spawn_opts opts = { .size = sizeof(opts), .fn = fn, .handler = server, .arg = (void *)arg,
					.flags = MOTE_LINK, .label = name };
	mote_pid pid = mote_spawn_opts(&opts);

	if (!mote_pid_valid(pid))
		mote_exit(mote_reason_error(-mote_errno(), name));
	return pid;
}

static void start_shard(int i)
{
	seats[i].since = mote_now();
	seats[i].pid = kv_start("shard", NULL, &shard_ops, kv.first + i);
}

static void restart(int i, const struct mote_reason *reason)
{
	char why[160];

	mote_reason_format(reason, why, sizeof(why));
	kv_log("shard %d ended: %s", kv.first + i, why);
	if (++seats[i].failures > FAILURES_MAX) {
		kv_log("shard %d could not be started again, %d times in a row: giving up", kv.first + i, FAILURES_MAX);
		mote_exit(mote_reason_error(EPIPE, "incomplete"));
	}
	start_shard(i);
}

static void serves(int i)
{
	if (seats[i].failures)
		kv_log("shard %d serves again after %.1f ms%s", kv.first + i, (mote_now().ns - seats[i].since.ns) / 1e6,
		       kv.append_only ? "" : ", without its keys: there is no file");
	seats[i].failures = 0;
}

/* False: somebody has ended, or has said that this one is to end. */
static bool go_on(const struct mote_exit_info *exit)
{
	for (int i = 0; i < kv.shards; i++) {
		if (!mote_pid_equal(seats[i].pid, exit->pid))
			continue;
		/* For want of the writer, of whose end the next message tells. */
		if (exit->reason.kind != MOTE_SHUTDOWN)
			restart(i, &exit->reason);
		return true;
	}
	if (mote_pid_equal(kv.writer, exit->pid))
		mote_exit(exit->reason);
	return false;
}

void store_main(void *arg)
{
	bool going_on = true;

	mote_trap_exit(true);
	kv.store = mote_self();
	kv.first = (intptr_t)arg * kv.shards;
	if (kv.append_only)
		kv.writer = kv_start("writer", writer_main, NULL, 0);
	for (int i = 0; i < kv.shards; i++)
		start_shard(i);
	while (going_on) {
		struct mote_msg *m = mote_receive(MOTE_FOREVER);

		if (m->type == MOTE_MSG_EXIT)
			going_on = go_on(mote_msg_exit(m));
		else if (m->type == KV_SERVES)
			serves(((struct serves *)m->data)->shard - kv.first);
		else
			going_on = m->type != MOTE_MSG_OS_SIGNAL;
		mote_msg_free(m);
	}
	if (kv.append_only)
		mote_call(kv.writer, KV_STOP, NULL, 0, NULL, MOTE_FOREVER);
}
