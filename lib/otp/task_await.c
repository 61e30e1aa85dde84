// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * The owner's side of tasks: waiting for one, giving it up, ending it.
 */
#include "otp/task.h"

#include <errno.h>
#include <string.h>

static int down_error(const struct mote_down_info *down)
{
	return down->reason.kind == MOTE_NOCONNECTION ? -ECONNRESET : -EPIPE;
}

int task_settle(struct scheduler *s, struct process *p, struct mote_task_result *result, struct mote_msg *m)
{
	struct signal *sig;

	result->m = NULL;
	if (unlikely(!m)) {
		result->err = p->err;
	} else if (likely(m->type == MOTE_MSG_TASK_VALUE && m->size == sizeof(result->value))) {
		result->err = 0;
		memcpy(&result->value, m->data, sizeof(result->value));
		sig = container_of(m, struct signal, msg);
		held_remove(p, sig);
		signal_free(s, sig);
	} else {
		result->m = m;
		result->err = mote_msg_down(m) ? down_error(mote_msg_down(m)) : 0;
	}
	return result->err;
}

/* After it no EXIT of the task's end can come any more; what has come as a message stays. */
static void separate(mote_task task)
{
	if (mote_pid_valid(task.pid))
		mote_unlink(task.pid);
}

void task_give_up(mote_task task)
{
	static const struct mote_reason timeout = { .kind = MOTE_TIMEOUT };

	if (mote_pid_valid(task.pid))
		link_dismiss(task.pid, &timeout);
	mote_demonitor(task.ref, MOTE_FLUSH);
}

/* Then no timer has to be set for the wait. */
void task_give_way(struct scheduler *s, struct process *p, mote_ref ref, int64_t deadline)
{
	struct ref_slot *slot = ref_find(p, ref.id, ref.slot);

	if (slot && !slot->message && deadline > 0 && !p->task.dying)
		task_yield(s);
}

/* -ETIMEDOUT, -EPERM, or the answer's. */
static int await(const char *name, struct mote_task_result *result, int64_t deadline)
{
	struct scheduler *s = runtime_enter(name);
	struct process *self = process_self(s);
	mote_ref ref = result->task.ref;
	struct mote_msg *m;

	if (unlikely(!task_owned(self, result->task))) {
		runtime_leave_on(s);
		return result->err = -EPERM;
	}
	task_give_way(s, self, ref, deadline);
	m = mailbox_receive_ref(scheduler_self(), self, ref, deadline);
	s = scheduler_self();
	task_settle(s, self, result, m);
	task_spend_and_leave(s);
	return result->err;
}

int mote_task_await(mote_task task, int64_t *value, mote_deadline deadline)
{
	struct mote_task_result result = { .task = task };
	int err = await("mote_task_await", &result, deadline.ns);

	if (likely(!err && !result.m)) {
		if (value)
			*value = result.value;
		return 0;
	}
	if (err == -ETIMEDOUT)
		task_give_up(task);
	mote_msg_free(result.m);
	return err ? err : -EBADMSG;
}

int mote_task_await_msg(mote_task task, struct mote_msg **m, mote_deadline deadline)
{
	const struct mote_down_info *down;
	int err = -EPERM;

	*m = mote_pid_equal(task.owner, mote_self()) ? mote_receive_ref(task.ref, deadline) : NULL;
	if (*m) {
		down = mote_msg_down(*m);
		return down ? down_error(down) : 0;
	}
	if (mote_pid_equal(task.owner, mote_self()))
		err = mote_errno();
	if (err == -ETIMEDOUT)
		task_give_up(task);
	return err;
}

int mote_task_yield(mote_task task, struct mote_task_result *result, mote_deadline deadline)
{
	*result = (struct mote_task_result){ .task = task };
	if (await("mote_task_yield", result, deadline.ns) == -ETIMEDOUT)
		result->err = -EAGAIN;
	return result->err;
}

/*
 * What is told of a task comes when all of it is gone, so to wait for that is to wait for its end. `told`: the reason
 * with which it ends if it does as it is told.
 */
static int end(struct mote_task_result *result, uint32_t told, mote_deadline deadline)
{
	const struct mote_down_info *down;
	int err = mote_task_yield(result->task, result, deadline);

	down = err == -EPIPE ? mote_msg_down(result->m) : NULL;
	if (err == -EINVAL) {
		err = -ESRCH;
	} else if (down && down->reason.kind == told) {
		mote_msg_free(result->m);
		result->m = NULL;
		err = -ESHUTDOWN;
	}
	result->err = err;
	return err;
}

static int shut_down(struct mote_task_result *result, mote_deadline deadline)
{
	static const struct mote_reason shutdown = { .kind = MOTE_SHUTDOWN }, kill = { .kind = MOTE_KILL };
	mote_pid pid = result->task.pid;
	bool brutal = deadline.ns <= 0;

	if (!mote_pid_valid(pid))
		return end(result, MOTE_SHUTDOWN, MOTE_NOW);
	link_dismiss(pid, brutal ? &kill : &shutdown);
	if (!brutal) {
		if (end(result, MOTE_SHUTDOWN, deadline) != -EAGAIN)
			return result->err;
	}
	mote_exit_pid(pid, MOTE_REASON_KILL);
	/* In a cleanup nothing is waited for without end. */
	if (end(result, brutal ? MOTE_KILLED : MOTE_SHUTDOWN, MOTE_FOREVER) == -ECANCELED)
		result->err = -EAGAIN;
	return result->err;
}

int mote_task_shutdown(mote_task task, struct mote_task_result *result, mote_deadline deadline)
{
	struct mote_task_result own;

	if (!result)
		result = &own;
	*result = (struct mote_task_result){ .task = task, .err = -EPERM };
	if (mote_pid_equal(task.owner, mote_self()))
		shut_down(result, deadline);
	if (result == &own)
		mote_msg_free(own.m);
	return result->err;
}

int mote_task_ignore(mote_task task, struct mote_task_result *result)
{
	struct mote_task_result own;

	if (!result)
		result = &own;
	if (mote_task_yield(task, result, MOTE_NOW) != -EPERM)
		separate(task);
	if (result->err == -EAGAIN)
		mote_demonitor(task.ref, MOTE_FLUSH);
	if (result == &own)
		mote_msg_free(own.m);
	return result->err;
}

int mote_task_find(const mote_task *tasks, size_t n, const struct mote_msg *m)
{
	mote_ref ref = mote_msg_ref(m);

	for (size_t i = 0; ref.id && i < n; i++) {
		if (mote_ref_equal(tasks[i].ref, ref))
			return (int)i;
	}
	return -ENOENT;
}
