// SPDX-License-Identifier: GPL-2.0
/*
 * The bells through io_uring: a wait that completes, a ring, and a cancel, because io_uring's own
 * does not reach commands.
 */
#include "node.h"
#include "compat.h"

#include <linux/sched/task.h>

/* A waiting command belongs to the bell; who takes it out under the lock completes it. */
struct mote_pdu {
	struct mote_bell_slot *bell;
	struct task_struct *task;	/* who will sleep for it: a reference; or NULL */
	int result;
};

static struct mote_pdu *cmd_pdu(struct io_uring_cmd *cmd)
{
	BUILD_BUG_ON(sizeof(struct mote_pdu) > sizeof(cmd->pdu));
	return (struct mote_pdu *)cmd->pdu;
}

/* It was marked, and is in no bell any more. */
static void cmd_finish(struct io_uring_cmd *cmd, int result, unsigned int issue_flags)
{
	struct task_struct *task = cmd_pdu(cmd)->task;

	mote_uring_done(cmd, result, issue_flags);
	if (task)
		put_task_struct(task);
}

static void cmd_complete(MOTE_URING_WORK_ARGS)
{
	struct io_uring_cmd *cmd = MOTE_URING_WORK_CMD;

	cmd_finish(cmd, cmd_pdu(cmd)->result, MOTE_URING_WORK_FLAGS);
}

bool mote_uring_is_local(struct io_uring_cmd *cmd)
{
	struct task_struct *task = cmd_pdu(cmd)->task;

	return task && task_cpu(task) == raw_smp_processor_id();
}

/* io_uring's own threads are not the ones that will sleep. */
static bool cmd_is_callers(unsigned int issue_flags)
{
	return !(issue_flags & IO_URING_F_UNLOCKED) && !(current->flags & PF_IO_WORKER);
}

void mote_uring_complete(struct io_uring_cmd *cmd, int result)
{
	cmd_pdu(cmd)->result = result;
	io_uring_cmd_complete_in_task(cmd, cmd_complete);
}

/* By io_uring itself, whose ring or task ends. If it is too late, the completion is on its way. */
static int cmd_abandon(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	struct mote_bell_slot *bell = cmd_pdu(cmd)->bell;
	bool mine;

	spin_lock(&bell->lock);
	mine = bell->cmd == cmd;
	if (mine)
		bell->cmd = NULL;
	spin_unlock(&bell->lock);
	if (mine)
		cmd_finish(cmd, -ECANCELED, issue_flags);
	return 0;
}

static int cmd_wait(struct mote_node *node, struct io_uring_cmd *cmd, u32 slot, u32 seq,
		    unsigned int issue_flags)
{
	struct mote_bell_slot *bell = &node->bells[slot];
	int err;

	/* Before it is marked, it can be completed simply by returning. */
	if (READ_ONCE(bell->seq) != seq)
		return 0;
	cmd_pdu(cmd)->bell = bell;
	cmd_pdu(cmd)->task = cmd_is_callers(issue_flags) ? get_task_struct(current) : NULL;
	/* Before it is in the bell: once it is there, it may be completed, and gone, any time. */
	io_uring_cmd_mark_cancelable(cmd, issue_flags);
	err = mote_bell_arm(node, bell, cmd, seq, false);
	if (err <= 0)
		cmd_finish(cmd, err, issue_flags);
	return -EIOCBQUEUED;
}

static int cmd_ring(struct mote_node *node, const struct mote_uring_cmd *u,
		    unsigned int issue_flags)
{
	u32 own = u->flags >> MOTE_RING_OWN_SHIFT;
	bool handoff = u->flags & MOTE_RING_HANDOFF;
	struct mote_bell_slot *bell;
	int ret;

	if (handoff ? own >= node->nr_slots : u->flags || u->seq)
		return -EINVAL;
	if (u->flags & ((1U << MOTE_RING_OWN_SHIFT) - 1) & ~MOTE_RING_HANDOFF)
		return -EINVAL;
	handoff &= cmd_is_callers(issue_flags);
	rcu_read_lock();
	bell = mote_bell_find(node, u->node, u->slot);
	ret = IS_ERR(bell) ? PTR_ERR(bell) : mote_bell_ring(bell, handoff);
	rcu_read_unlock();
	if (ret <= 0)
		return ret;
	mote_bell_doze(node, &node->bells[own], u->seq);
	return 0;
}

int mote_uring(struct io_uring_cmd *cmd, unsigned int issue_flags)
{
	struct mote_node *node = cmd->file->private_data;
	const struct mote_uring_cmd *from = mote_uring_payload(cmd);
	struct mote_uring_cmd u;
	int err;

	if (issue_flags & IO_URING_F_CANCEL)
		return cmd_abandon(cmd, issue_flags);
	err = mote_node_check(node);
	if (err)
		return err;
	/* It may lie in memory that user space can still write. */
	u.node = READ_ONCE(from->node);
	u.slot = READ_ONCE(from->slot);
	u.seq = READ_ONCE(from->seq);
	u.flags = READ_ONCE(from->flags);
	switch (cmd->cmd_op) {
	case MOTE_URING_WAIT:
		if (u.node || u.flags || u.slot >= node->nr_slots)
			return -EINVAL;
		return cmd_wait(node, cmd, u.slot, u.seq, issue_flags);
	case MOTE_URING_RING:
		return cmd_ring(node, &u, issue_flags);
	case MOTE_URING_CANCEL:
		if (u.node || u.seq || u.flags || u.slot >= node->nr_slots)
			return -EINVAL;
		return mote_bell_cancel(&node->bells[u.slot]) ? 0 : -ENOENT;
	}
	return -ENOTTY;
}
