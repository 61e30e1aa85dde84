/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A producer takes the jobs of its queue: never more than there are workers free, so that what waits, waits in the
 * database, where all servers see it.
 */
#include "jobs.h"

struct producer {
	const struct queue *queue;
	char workers[QUEUE_MAX + 16];
	int running;
};

void workers_name(char *name, const struct queue *q)
{
	snprintf(name, QUEUE_MAX + 16, "workers of %s", q->name);
}

static void start(struct producer *p, const struct job *job)
{
	struct finish back = { .id = job->id, .token = job->token, .how = JOB_RETURNED, .note = "no worker could be started" };
	mote_pid pid;

	if (mote_dynamic_start_arg(mote_whereis(p->workers), job, job_space(job->size), &pid, mote_in_ms(5000))) {
		store_call(JOBS_FINISH, &back, sizeof(back), NULL, mote_in_ms(2 * BUSY_MS));
		return;
	}
	mote_monitor(pid);
	p->running++;
}

static void demand(struct producer *p)
{
	struct take take = { .lease_ms = settings.lease_ms, .demand = p->queue->workers - p->running };
	struct mote_msg *reply;

	snprintf(take.queue, sizeof(take.queue), "%s", p->queue->name);
	snprintf(take.owner, sizeof(take.owner), "%s", settings.owner);
	if (take.demand && !store_call(JOBS_TAKE, &take, sizeof(take), &reply, mote_in_ms(2 * BUSY_MS))) {
		for (size_t at = 0; at < reply->size; ) {
			const struct job *job = (struct job *)((char *)reply->data + at);

			start(p, job);
			at += job_space(job->size);
		}
		mote_msg_free(reply);
	}
	mote_server_timeout(mote_in_ms(settings.poll_ms), JOBS_TICK);
}

static int producer_init(struct producer *p, void *arg)
{
	p->queue = arg;
	workers_name(p->workers, p->queue);
	return mote_server_continue(JOBS_TICK, NULL, 0);
}

/* The time has come to look, or a worker has ended. */
static void producer_info(struct producer *p, const struct mote_msg *m)
{
	p->running -= m->type == MOTE_MSG_DOWN;
	demand(p);
}

MOTE_SERVER(producer, struct producer, .init = producer_init, .handle_continue = producer_info,
	    .handle_info = producer_info);
const struct mote_server_ops *const producer_ops = &producer.ops;
