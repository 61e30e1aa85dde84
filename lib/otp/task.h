/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * otp/task.h: the inside of a task.
 *
 * A task is a process that is born with its owner's request in its hands. So the request is argument, answer and
 * monitor in one block: the task answers with it, and if it ends without, the block becomes the DOWN.
 */
#ifndef OTP_TASK_H
#define OTP_TASK_H

#include "core/process.h"

#include <mote/task.h>

/* The payload of the request. The callers beyond the owner follow, then, at arg_offset, the copied argument. */
struct ask {
	mote_task_fn fn;
	void *arg;
	struct mote_msg *result;	/* of mote_task_reply() */
	uint16_t arg_offset;		/* 0: arg */
	uint8_t nr_callers;
	uint32_t tag;			/* of a stream's task: which; it comes back behind the value */
	mote_pid callers[];
};

_Static_assert(MOTE_TASK_CALLERS_MAX < 256, "nr_callers");
_Static_assert(sizeof(struct ask) + 2 * sizeof(mote_pid) <= 64, "with two callers more it is as large as the DOWN");

/* A request of the calling process for what o says, to be answered to nobody. NULL: -ENOMEM. */
struct signal *task_ask(struct scheduler *s, const struct mote_task_opts *o);

/*
 * Spawns its process. flags as of mote_spawn_opts(); link_owner: when the caller is not the owner. Takes request,
 * also on failure; 0, or -errno.
 */
int task_spawn(struct scheduler *s, const struct mote_task_opts *o, struct signal *request, unsigned int flags,
	       bool link_owner, const void *caller, mote_pid *pid);

/* Refuses what no task can be. */
int task_opts(struct mote_task_opts *known, const struct mote_task_opts *opts);

/* Takes a reply or DOWN that p has received, or NULL if there was none: fills in err, value and m. Returns err. */
int task_settle(struct scheduler *s, struct process *p, struct mote_task_result *result, struct mote_msg *m);

static inline bool task_owned(const struct process *p, mote_task task)
{
	return mote_pid_equal(task.owner, process_pid(p));
}

/* What a MOTE_MSG_TASK_VALUE holds. */
struct task_value {
	int64_t value;
	uint32_t tag;			/* beyond msg.size */
};

/* Before p, the caller, waits for ref: lets others run first, for most tasks need no more than a turn. */
void task_give_way(struct scheduler *s, struct process *p, mote_ref ref, int64_t deadline);

/* It is not waited for any more, and shall end. */
void task_give_up(mote_task task);

/* task_supervisor.c: a task as a supervisor's child, for the caller's ref; id 0: nobody waits for it. */
int task_supervised(mote_pid supervisor, const struct mote_task_opts *o, mote_ref ref, bool link, mote_pid *pid,
		    mote_deadline deadline);

/*
 * task_gather.c: waits for answers of the results whose err is -EAGAIN, until `limit` have come, or the first
 * failure.
 */
int task_gather(struct mote_task_result *results, size_t n, size_t limit, bool all_well, int64_t deadline);

#endif
