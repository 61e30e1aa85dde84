/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The root of all others, and the first process, which waits for its end: without any of those below it the server
 * can't go on. Shards are their stores' business: they say here when they serve, and who wants to ask one waits here
 * for its pid.
 */
#include "kv.h"

#include <signal.h>
#include <stdio.h>

static struct seat {
	mote_pid pid;			/* MOTE_NOBODY: its next one has not come yet */
	mote_pid writer;
	bool known;			/* it has served */
} seats[SHARDS_MAX];

static mote_pid root;

static const struct mote_child_spec broker = { .name = "broker", .server = &broker_ops };
static const struct mote_child_spec listener = { .id = "listener", .fn = listener_main };

static void serves(const struct serves *serves)
{
	struct seat *seat = &seats[serves->shard];
	struct node *node = &kv.node[serves->shard / kv.shards];
	static uint32_t known;

	seat->pid = serves->pid;
	seat->writer = serves->writer;
	mote_monitor(seat->pid);
	node->pid = serves->os_pid;
	node->failures = 0;
	known += !seat->known;
	if (!seat->known && known == shards_all())
		mote_supervisor_start_child(root, &listener, NULL, MOTE_FOREVER);
	seat->known = true;
}

static void ended(const struct mote_down_info *down)
{
	for (uint32_t s = 0; s < shards_all(); s++)
		if (mote_pid_equal(seats[s].pid, down->pid))
			seats[s].pid = MOTE_NOBODY;
}

/* Who asks for a shard that is being started stays in the mailbox until it serves. */
static bool is_ready(const struct mote_msg *m, void *arg)
{
	const struct find *find = m->data;

	(void)arg;
	return m->type != KV_FIND || (mote_pid_valid(seats[find->shard].pid) &&
				      !mote_pid_equal(seats[find->shard].pid, find->not));
}

static void answer(const struct mote_msg *m)
{
	const struct find *find = m->data;
	const struct seat *seat = &seats[find->shard];
	struct serves found = { .shard = find->shard, .pid = seat->pid, .writer = seat->writer };

	mote_reply(mote_msg_from(m), KV_FIND, &found, sizeof(found));
}

static _Noreturn void incomplete(const struct mote_reason *reason)
{
	char why[160];

	mote_reason_format(reason, why, sizeof(why));
	kv_log("a process that the server can't do without has ended: %s", why);
	mote_exit(mote_reason_error(EPIPE, "incomplete"));
}

/* The broker, and the store, or those of other nodes. */
static void start(void)
{
	struct mote_supervisor_opts opts = { .size = sizeof(opts), .name = "root", .children = &broker, .nr_children = 1,
					     .max_restarts = MOTE_RESTARTS_NONE };
	int err = mote_supervisor_start_link(&opts, &root);

	kv.broker = mote_whereis(broker.name);
	for (int i = 0; !err && i < kv.stores; i++) {
		char id[24];
		struct mote_child_spec store = { .id = id, .start = kv.nodes ? node_start : store_start,
						 .arg = (void *)(intptr_t)i, .type = MOTE_SUPERVISOR };

		snprintf(id, sizeof(id), "store %d", i);
		err = mote_supervisor_start_child(root, &store, NULL, MOTE_FOREVER);
	}
	if (err)
		mote_exit(mote_reason_error(-err, "start"));
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
	kv.stores = kv.nodes ? kv.nodes : 1;
	if (!kv.shards)
		kv.shards = runtime.schedulers;
	if (shards_all() > SHARDS_MAX)
		kv.shards = SHARDS_MAX / kv.stores;
	if (kv.append_only && !node_files_fit())
		mote_exit(mote_reason_error(EINVAL, "files of another number of nodes"));
	start();
	while (going_on) {
		struct mote_msg *m = mote_receive_match(is_ready, NULL, MOTE_FOREVER);

		if (m->type == MOTE_MSG_EXIT)
			incomplete(&mote_msg_exit(m)->reason);
		else if (m->type == MOTE_MSG_DOWN)
			ended(mote_msg_down(m));
		else if (m->type == KV_SERVES)
			serves(m->data);
		else if (m->type == KV_FIND)
			answer(m);
		else
			going_on = m->type != KV_STOP && m->type != MOTE_MSG_OS_SIGNAL;
		mote_msg_free(m);
	}
	/* What is acknowledged is written; now it is also made to last. */
	mote_server_stop(root, MOTE_REASON_SHUTDOWN, MOTE_FOREVER);
	kv_log("bye");
}
