// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Tasks as children of a supervisor. The supervisor spawns the task, with the request that the owner would have made:
 * so the answer, or DOWN, goes to the owner without the supervisor's doing. A link to the owner, too, is the spawn's:
 * it is there when the owner hears of the task.
 */
#include "otp/task.h"

#include <errno.h>
#include <string.h>

/* What the supervisor keeps of the task, and starts it from. The request's payload follows. */
struct plan {
	mote_pid owner;
	mote_ref ref;			/* id 0: nobody waits */
	const char *label;
	size_t stack_size;
	int priority;
	uint32_t size;			/* of the payload */
	bool link;			/* to the owner */
} __attribute__((aligned(16)));

static int plan_start(void *arg, mote_pid *pid)
{
	const struct plan *plan = arg;
	struct mote_task_opts o = { .label = plan->label, .stack_size = plan->stack_size, .priority = plan->priority };
	struct scheduler *s = runtime_enter("mote_task_supervisor_start_child");
	struct signal *request = signal_new(s, SIGNAL_REQUEST, plan->size);
	int err = -ENOMEM;

	if (request) {
		memcpy(request->payload, plan + 1, plan->size);
		request->msg.from = plan->owner;
		request->msg.type = 0;
		request->ref = plan->ref.id;
		request->ref_slot = plan->ref.slot;
		err = task_spawn(s, &o, request, MOTE_LINK, plan->link,
				 (void *)((struct ask *)request->payload)->fn, pid);
	}
	process_leave(s);
	return err;
}

/* Given; NULL: -ENOMEM. */
static struct plan *plan_new(const struct mote_task_opts *o, mote_ref ref, bool link)
{
	struct scheduler *s = runtime_enter("mote_task_supervisor_async");
	struct signal *request = task_ask(s, o);
	uint32_t size = request ? request->msg.size : 0;
	struct plan *plan;

	runtime_leave_on(s);
	plan = request ? mote_alloc(sizeof(*plan) + size) : NULL;
	if (plan) {
		*plan = (struct plan){ .owner = mote_self(), .ref = ref, .label = o->label, .stack_size = o->stack_size,
				       .priority = o->priority, .size = size, .link = link };
		memcpy(plan + 1, request->payload, size);
	}
	s = runtime_enter("mote_task_supervisor_async");
	if (request)
		signal_free(s, request);
	runtime_leave_on(s);
	return plan;
}

int task_supervised(mote_pid supervisor, const struct mote_task_opts *o, mote_ref ref, bool link, mote_pid *pid,
		    mote_deadline deadline)
{
	static const int restarts[] = { MOTE_TEMPORARY, MOTE_TRANSIENT, MOTE_PERMANENT };
	struct mote_child_spec spec = { .start = plan_start, .restart = restarts[o->restart],
					.shutdown_ms = o->shutdown_ms };
	struct plan *plan;
	int err;

	if (mote_pid_valid(supervisor) && !port_is_here(supervisor.node))
		return -EREMOTE;
	plan = plan_new(o, ref, link);
	if (!plan)
		return -ENOMEM;
	spec.arg = plan;
	spec.arg_size = sizeof(*plan) + plan->size;
	err = mote_dynamic_start_child(supervisor, &spec, pid, deadline);
	mote_free(plan);
	return err;
}

static int ref_open(mote_ref *ref)
{
	struct scheduler *s = runtime_enter("mote_task_supervisor_async");
	int err = ref_new(s, process_self(s), REF_MONITOR | REF_ALIAS | REF_REPLY, ref) ? 0 : -ENOMEM;

	process_leave(s);
	return err;
}

static mote_task async(mote_pid supervisor, const struct mote_task_opts *opts, bool link, mote_deadline deadline)
{
	mote_task task = { .owner = mote_self() };
	struct mote_task_opts known;
	int err = task_opts(&known, opts);

	if (!err && known.restart)
		err = -EINVAL;
	if (!err)
		err = ref_open(&task.ref);
	if (!err) {
		err = task_supervised(supervisor, &known, task.ref, link, &task.pid, deadline);
		if (err)
			mote_demonitor(task.ref, MOTE_FLUSH);
	}
	if (!err)
		return task;
	process_fail(process_caller(), err);
	return (mote_task){ .owner = task.owner };
}

mote_task mote_task_supervisor_async(mote_pid supervisor, const struct mote_task_opts *opts, mote_deadline deadline)
{
	return async(supervisor, opts, true, deadline);
}

mote_task mote_task_supervisor_async_nolink(mote_pid supervisor, const struct mote_task_opts *opts,
					    mote_deadline deadline)
{
	return async(supervisor, opts, false, deadline);
}

int mote_task_supervisor_start_child(mote_pid supervisor, const struct mote_task_opts *opts, mote_pid *pid,
				     mote_deadline deadline)
{
	struct mote_task_opts known;
	int err = task_opts(&known, opts);

	return err ? err : task_supervised(supervisor, &known, (mote_ref){ 0 }, false, pid, deadline);
}
