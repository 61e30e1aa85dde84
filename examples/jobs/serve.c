/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * The tree of a server.
 */
#include "jobs.h"

#include <signal.h>

/* A queue: its workers, and who takes jobs for them. Who knows how many are under way ends with those. */
static int start_queue(void *arg, mote_pid *pid)
{
	char name[QUEUE_MAX + 16];
	/* A producer stops between two messages: no job is taken, and not given to a worker, just then. */
	struct mote_server_opts trap = { .size = sizeof(trap), .flags = MOTE_TRAP_EXIT };
	struct mote_child_spec worker = { .id = "worker", .fn = worker_main, .opts = &trap, .restart = MOTE_TEMPORARY };
	struct mote_dynamic_opts workers = { .size = sizeof(workers), .name = name, .child = &worker };
	struct mote_child_spec children[] = {
		{ .id = "workers", .dynamic = &workers },
		{ .id = "producer", .server = producer_ops, .arg = arg, .opts = &trap },
	};
	struct mote_supervisor_opts opts = {
		.size = sizeof(opts), .strategy = MOTE_ONE_FOR_ALL, .children = children, .nr_children = 2,
	};

	workers_name(name, arg);
	return mote_supervisor_start_link(&opts, pid);
}

static int start_root(mote_pid *root)
{
	struct mote_child_spec children[3 + QUEUES_MAX] = {
		{ .name = "store", .server = store_ops },
		{ .id = "reaper", .server = chore_ops, .arg = (void *)&reaper },
		{ .id = "cron", .server = chore_ops, .arg = (void *)&cron },
	};
	struct mote_supervisor_opts opts = {
		.size = sizeof(opts), .strategy = MOTE_REST_FOR_ONE, .children = children, .nr_children = 3,
	};

	for (int i = 0; i < settings.nr_queues; i++)
		children[opts.nr_children++] = (struct mote_child_spec){
			.id = settings.queues[i].name, .start = start_queue, .arg = &settings.queues[i],
			.type = MOTE_SUPERVISOR, .shutdown_ms = MOTE_SHUTDOWN_INFINITY,
		};
	return mote_supervisor_start_link(&opts, root);
}

void serve_main(void *arg)
{
	struct mote_msg *m;
	mote_pid root;

	(void)arg;
	mote_trap_exit(true);
	mote_os_signal(SIGTERM, true);
	mote_os_signal(SIGINT, true);
	settings.status = 1;
	if (start_root(&root))
		return;
	for (int i = 0; i < settings.nr_queues; i++)
		jobs_log("queue %s: %d workers", settings.queues[i].name, settings.queues[i].workers);
	m = mote_receive(MOTE_FOREVER);
	if (m->type == MOTE_MSG_OS_SIGNAL) {
		jobs_log("stopping");
		settings.status = mote_server_stop(root, MOTE_REASON_SHUTDOWN, MOTE_FOREVER) != 0;
	} else {
		char why[200];

		mote_reason_format(&mote_msg_exit(m)->reason, why, sizeof(why));
		jobs_log("given up: %s", why);
	}
}
