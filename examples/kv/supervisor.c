/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The first process. It starts the others, and is linked to them. A shard that dies is started anew; who wants to ask it
 * something waits here for the successor's pid. Without any other of them the server can't go on, and ends.
 */
#include "kv.h"

#include <signal.h>

#define FAILURES_MAX 5

static struct seat {
	mote_pid pid;
	bool serves;
	int failures;			/* since it last served: one is a crash, more mean that it can't start */
	mote_deadline since;
} seats[SHARDS_MAX];

static mote_pid start(const char *name, mote_fn fn, const struct mote_server_ops *server, void *arg)
{
	struct mote_spawn_opts opts = { .size = sizeof(opts), .fn = fn, .server = server, .arg = arg,
					.flags = MOTE_LINK, .label = name };
	mote_pid pid = mote_spawn_opts(&opts);

	if (!mote_pid_valid(pid))
		mote_exit(mote_reason_error(-mote_errno(), name));
	return pid;
}

static void start_shard(intptr_t shard)
{
	seats[shard].serves = false;
	seats[shard].since = mote_now();
	seats[shard].pid = start("shard", NULL, &shard_ops, (void *)shard);
}

static void ended(const struct mote_exit_info *exit)
{
	char why[160];
	int shard = 0;

	mote_reason_format(&exit->reason, why, sizeof(why));
	while (shard < kv.shards && !mote_pid_equal(seats[shard].pid, exit->pid))
		shard++;
	if (shard == kv.shards) {
		kv_log("a process that the server can't do without has ended: %s", why);
		mote_exit(mote_reason_error(EPIPE, "incomplete"));
	}
	if (exit->reason.kind == MOTE_SHUTDOWN)
		return;		/* for want of the writer, of whose end the next message tells */
	kv_log("shard %d ended: %s", shard, why);
	if (++seats[shard].failures > FAILURES_MAX) {
		kv_log("shard %d could not be started again, %d times in a row: giving up", shard, FAILURES_MAX);
		mote_exit(mote_reason_error(EPIPE, "incomplete"));
	}
	start_shard(shard);
}

static void serves(struct seat *seat)
{
	static int started;

	seat->serves = true;
	if (seat->failures)
		kv_log("shard %d serves again after %.1f ms%s", (int)(seat - seats),
		       (mote_now().ns - seat->since.ns) / 1e6, kv.append_only ? "" : ", without its keys: there is no file");
	seat->failures = 0;
	if (started < kv.shards && ++started == kv.shards)
		start("listener", listener_main, NULL, NULL);
}

/* Who asks for a shard that is being started stays in the mailbox until it serves. */
static bool is_ready(const struct mote_msg *m, void *arg)
{
	const struct find *find = m->data;

	(void)arg;
	return m->type != KV_FIND || (seats[find->shard].serves && !mote_pid_equal(seats[find->shard].pid, find->not));
}

void supervisor_main(void *arg)
{
	struct mote_runtime_info runtime = { .size = sizeof(runtime) };
	bool going_on = true;

	(void)arg;
	mote_trap_exit(true);
	mote_os_signal(SIGTERM, true);
	mote_os_signal(SIGINT, true);
	mote_runtime_info(&runtime);
	kv.main = mote_self();
	kv.started = mote_now();
	if (!kv.shards)
		kv.shards = runtime.schedulers;
	kv.broker = start("broker", NULL, &broker_ops, NULL);
	if (kv.append_only)
		kv.writer = start("writer", writer_main, NULL, NULL);
	for (int shard = 0; shard < kv.shards; shard++)
		start_shard(shard);
	while (going_on) {
		struct mote_msg *m = mote_receive_match(is_ready, NULL, MOTE_FOREVER);

		if (m->type == MOTE_MSG_EXIT)
			ended(mote_msg_exit(m));
		else if (m->type == KV_SERVES)
			serves(&seats[*(uint32_t *)m->data]);
		else if (m->type == KV_FIND)
			mote_reply(mote_msg_from(m), KV_FIND, &seats[((struct find *)m->data)->shard].pid, sizeof(mote_pid));
		else
			going_on = m->type != KV_STOP && m->type != MOTE_MSG_OS_SIGNAL;
		mote_msg_free(m);
	}
	/* What is acknowledged is written; now it is also made to last. */
	if (kv.append_only)
		mote_call(kv.writer, KV_STOP, NULL, 0, NULL, MOTE_FOREVER);
	kv_log("bye");
}
