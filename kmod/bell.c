// SPDX-License-Identifier: GPL-2.0
/* Ringing, and waiting in ENTER. bell.h says why no wake is lost. */
#include "node.h"
#include "compat.h"
#include "trace.h"

#include <linux/anon_inodes.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

struct mote_bell_slot *mote_bells_new(u32 nr, struct mote_bells *shared)
{
	struct mote_bell_slot *bells = kcalloc(nr, sizeof(*bells), GFP_KERNEL_ACCOUNT);
	u32 i;

	if (!bells)
		return NULL;
	for (i = 0; i < nr; i++) {
		spin_lock_init(&bells[i].lock);
		init_waitqueue_head(&bells[i].poll);
		bells[i].shared = &shared->bell[i];
	}
	return bells;
}

struct mote_bell_slot *mote_bell_find(struct mote_node *node, u32 id, u32 slot)
{
	struct mote_node *target = node;

	if (id != node->id) {
		struct mote_tie *tie = xa_load(&node->ties, id);

		if (!tie || !READ_ONCE(tie->lanes))
			return ERR_PTR(-EPERM);
		target = tie->target;
	}
	if (slot >= target->nr_slots)
		return ERR_PTR(-EINVAL);
	return &target->bells[slot];
}

/*
 * The waiters, taken out of the bell. RCU keeps a task's structure valid after lock is dropped; a
 * command is its taker's.
 */
struct waiters {
	struct task_struct *sleeper;
	struct io_uring_cmd *cmd;
};

static struct waiters bell_take(struct mote_bell_slot *bell)
{
	struct waiters w = { bell->sleeper, bell->cmd };

	lockdep_assert_held(&bell->lock);
	bell->cmd = NULL;
	if (w.sleeper) {
		/* release: who finds itself gone sees seq as it was counted */
		smp_store_release(&bell->sleeper, NULL);
	}
	return w;
}

static void waiters_wake(struct waiters *w, bool handoff, int result)
{
	if (w->sleeper) {
		/*
		 * No queue is needed for one waiter. default_wake_function() is the only way for
		 * a module to wake somebody on this CPU, which the caller is about to leave.
		 */
		wait_queue_entry_t entry = { .private = w->sleeper };

		default_wake_function(&entry, TASK_NORMAL,
				      handoff ? MOTE_WAKE_SYNC | MOTE_WAKE_CURRENT_CPU : 0, NULL);
	}
	if (w->cmd)
		mote_uring_complete(w->cmd, result);
}

void mote_bell_ring(struct mote_bell_slot *bell, bool handoff)
{
	struct waiters w;
	u32 seq;

	spin_lock(&bell->lock);
	/* Spares later ringers the call. A full barrier, so before seq for whoever reads both. */
	cmpxchg(&bell->shared->state, MOTE_BELL_PARKED, MOTE_BELL_RUNNING);
	seq = bell->seq + 1;
	WRITE_ONCE(bell->seq, seq);
	/* release: pairs with the owner's acquire */
	smp_store_release(&bell->shared->seq, seq);
	w = bell_take(bell);
	spin_unlock(&bell->lock);
	trace_mote_ring(seq, w.sleeper || w.cmd, handoff);
	waiters_wake(&w, handoff, 0);
	/* A full barrier: pairs with poll_wait()'s. */
	if (wq_has_sleeper(&bell->poll))
		wake_up_poll(&bell->poll, EPOLLIN | EPOLLRDNORM);
}

void mote_bells_shut(struct mote_node *node)
{
	u32 i;

	for (i = 0; i < node->nr_slots; i++) {
		struct mote_bell_slot *bell = &node->bells[i];
		struct waiters w;

		rcu_read_lock();
		spin_lock(&bell->lock);
		w = bell_take(bell);
		spin_unlock(&bell->lock);
		waiters_wake(&w, false, -ESHUTDOWN);
		rcu_read_unlock();
		wake_up_poll(&bell->poll, EPOLLHUP);
	}
}

static void waiters_cancel(struct waiters *w)
{
	if (likely(!w->sleeper && !w->cmd))
		return;
	waiters_wake(w, false, -ECANCELED);
}

int mote_bell_arm(struct mote_node *node, struct mote_bell_slot *bell, struct io_uring_cmd *cmd,
		  u32 seq)
{
	struct waiters older;

	rcu_read_lock();
	spin_lock(&bell->lock);
	/* Dying takes the waiters out under the lock, after it has changed the state. */
	if (bell->seq != seq || READ_ONCE(node->state) != MOTE_LIVE) {
		int err = bell->seq != seq ? 0 : -ESHUTDOWN;

		spin_unlock(&bell->lock);
		rcu_read_unlock();
		return err;
	}
	older = bell_take(bell);
	bell->cmd = cmd;
	if (!cmd) {
		/* Who takes the caller out of the bell, under the lock, wakes it. */
		bell->sleeper = current;
		__set_current_state(TASK_INTERRUPTIBLE);
	}
	spin_unlock(&bell->lock);
	waiters_cancel(&older);
	rcu_read_unlock();
	return 1;
}

bool mote_bell_cancel(struct mote_bell_slot *bell)
{
	struct waiters w;

	rcu_read_lock();
	spin_lock(&bell->lock);
	w = bell_take(bell);
	spin_unlock(&bell->lock);
	waiters_cancel(&w);
	rcu_read_unlock();
	return w.sleeper || w.cmd;
}

/* Not rung: leaves the bell. False: it was taken out of it meanwhile. */
static bool sleep_abort(struct mote_bell_slot *bell)
{
	bool waiting;

	spin_lock(&bell->lock);
	waiting = bell->sleeper == current;
	if (waiting)
		bell->sleeper = NULL;
	spin_unlock(&bell->lock);
	return waiting;
}

static int sleep_end(struct mote_node *node, struct mote_bell_slot *bell, u32 seq, s64 deadline)
{
	ktime_t expires = deadline;
	int err = 0;

	/* acquire: pairs with the release in bell_take() */
	while (smp_load_acquire(&bell->sleeper) == current) {
		if (unlikely(signal_pending(current)))
			err = -ERESTARTNOHAND;
		else if (deadline == MOTE_FOREVER)
			schedule();
		else if (!schedule_hrtimeout_range(&expires, current->timer_slack_ns,
						   HRTIMER_MODE_ABS))
			err = -ETIMEDOUT;
		if (unlikely(err) && sleep_abort(bell))
			break;
		err = 0;
		set_current_state(TASK_INTERRUPTIBLE);
	}
	__set_current_state(TASK_RUNNING);
	if (err || READ_ONCE(bell->seq) != seq)
		return err;
	return READ_ONCE(node->state) == MOTE_LIVE ? -ECANCELED : -ESHUTDOWN;
}

/*
 * Rings *ring, if it is not NULL, and the nr that follow. All are checked before the first one
 * rings. Under RCU. Only the first can be handed this CPU.
 */
static int rings_ring(struct mote_node *node, const struct mote_ring *rings, u32 nr, bool handoff)
{
	struct mote_bell_slot *bell;
	u32 i;

	for (i = 0; i < nr; i++) {
		bell = mote_bell_find(node, rings[i].node, rings[i].slot);
		if (IS_ERR(bell))
			return PTR_ERR(bell);
	}
	for (i = 0; i < nr; i++) {
		/* A tie cannot change its target; that it may be gone by now does no harm. */
		bell = mote_bell_find(node, rings[i].node, rings[i].slot);
		if (!IS_ERR(bell))
			mote_bell_ring(bell, handoff && !i);
	}
	return 0;
}

/* The usual case, without a loop or a copy; and the other one. */
static int enter_ring(struct mote_node *node, const struct mote_enter *e, bool handoff)
{
	struct mote_bell_slot *bell;
	int err = 0;

	rcu_read_lock();
	bell = mote_bell_find(node, e->ring.node, e->ring.slot);
	if (IS_ERR(bell))
		err = PTR_ERR(bell);
	else
		mote_bell_ring(bell, handoff);
	rcu_read_unlock();
	return err;
}

static noinline int enter_ring_many(struct mote_node *node, const struct mote_enter *e)
{
	struct mote_ring rings[MOTE_RINGS_MAX + 1];
	u32 nr = 0;
	int err;

	if (e->nr_rings > MOTE_RINGS_MAX)
		return -EINVAL;
	if (e->flags & MOTE_ENTER_RING)
		rings[nr++] = e->ring;
	if (copy_from_user(&rings[nr], u64_to_user_ptr(e->rings),
			   e->nr_rings * sizeof(rings[0])))
		return -EFAULT;
	rcu_read_lock();
	err = rings_ring(node, rings, nr + e->nr_rings, false);
	rcu_read_unlock();
	return err;
}

/* A call of this costs about what a copy of any structure would. */
static __always_inline int enter_copy(struct mote_enter *e, const struct mote_enter __user *from)
{
	if (!user_read_access_begin(from, sizeof(*e)))
		return -EFAULT;
	unsafe_get_user(e->size, &from->size, fault);
	unsafe_get_user(e->flags, &from->flags, fault);
	unsafe_get_user(e->ring.node, &from->ring.node, fault);
	unsafe_get_user(e->ring.slot, &from->ring.slot, fault);
	unsafe_get_user(e->slot, &from->slot, fault);
	unsafe_get_user(e->seq, &from->seq, fault);
	unsafe_get_user(e->deadline, &from->deadline, fault);
	unsafe_get_user(e->rings, &from->rings, fault);
	unsafe_get_user(e->nr_rings, &from->nr_rings, fault);
	unsafe_get_user(e->reserved, &from->reserved, fault);
	user_read_access_end();
	return 0;
fault:
	user_read_access_end();
	return -EFAULT;
}

long mote_enter(struct mote_node *node, void __user *arg)
{
	struct mote_enter e;
	struct mote_bell_slot *bell = NULL;
	bool sleeps = false;
	int err;

	if (unlikely(enter_copy(&e, arg) || e.size != sizeof(e))) {
		err = mote_copy_in(&e, sizeof(e), sizeof(e), arg);
		if (err)
			return err;
	}
	err = mote_node_check(node);
	if (unlikely(err))
		return err;
	if (unlikely(e.flags & ~(MOTE_ENTER_RING | MOTE_ENTER_WAIT) || e.reserved))
		return -EINVAL;
	if (e.flags & MOTE_ENTER_WAIT) {
		if (unlikely(e.slot >= node->nr_slots || e.deadline < 0))
			return -EINVAL;
		bell = &node->bells[e.slot];
	}
	/* Many at once: who sleeps then gains nothing by waking one of them here. */
	if (unlikely(e.nr_rings)) {
		err = enter_ring_many(node, &e);
		if (err)
			return err;
		e.flags &= ~MOTE_ENTER_RING;
	}
	if (bell) {
		/* Before ringing: only who will indeed sleep gives its CPU away. */
		err = mote_bell_arm(node, bell, NULL, e.seq);
		if (unlikely(err < 0))
			return err;
		sleeps = err;
		trace_mote_park(node->id, e.slot, e.seq);
	}
	if (e.flags & MOTE_ENTER_RING) {
		err = enter_ring(node, &e, sleeps);
		if (unlikely(err)) {
			if (sleeps)
				sleep_abort(bell);
			__set_current_state(TASK_RUNNING);
			return err;
		}
	}
	return sleeps ? sleep_end(node, bell, e.seq, e.deadline) : 0;
}

/* A descriptor that can be polled for one bell. */
struct bell_file {
	struct mote_node *node;
	struct mote_bell_slot *bell;
	u32 seen;
};

static __poll_t bell_file_poll(struct file *file, poll_table *table)
{
	struct bell_file *f = file->private_data;
	__poll_t events = 0;

	poll_wait(file, &f->bell->poll, table);
	if (READ_ONCE(f->bell->seq) != READ_ONCE(f->seen))
		events |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(f->node->state) != MOTE_LIVE)
		events |= EPOLLHUP;
	return events;
}

static ssize_t bell_file_read(struct file *file, char __user *to, size_t size, loff_t *pos)
{
	struct bell_file *f = file->private_data;
	u64 count;
	u32 seq;
	int err;

	if (size < sizeof(count))
		return -EINVAL;
	err = mote_node_check(f->node);
	if (err)
		return err;
	seq = READ_ONCE(f->bell->seq);
	count = seq - READ_ONCE(f->seen);
	if (!count)
		return -EAGAIN;
	if (put_user(count, (u64 __user *)to))
		return -EFAULT;
	WRITE_ONCE(f->seen, seq);
	return sizeof(count);
}

static int bell_file_release(struct inode *inode, struct file *file)
{
	struct bell_file *f = file->private_data;

	mote_node_put(f->node);
	kfree(f);
	return 0;
}

static const struct file_operations bell_file_operations = {
	.owner = THIS_MODULE,
	.poll = bell_file_poll,
	.read = bell_file_read,
	.release = bell_file_release,
	.llseek = noop_llseek,
};

long mote_bell_fd(struct mote_node *node, void __user *arg)
{
	struct mote_object o;
	struct bell_file *f;
	int fd;

	fd = mote_copy_in(&o, sizeof(o), sizeof(o), arg);
	if (!fd)
		fd = mote_node_check(node);
	if (fd)
		return fd;
	if (o.flags || o.reserved || o.id >= node->nr_slots)
		return -EINVAL;
	f = kmalloc(sizeof(*f), GFP_KERNEL_ACCOUNT);
	if (!f)
		return -ENOMEM;
	f->node = mote_node_get(node);
	f->bell = &node->bells[o.id];
	f->seen = READ_ONCE(f->bell->seq);
	fd = anon_inode_getfd("[mote-bell]", &bell_file_operations, f, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		mote_node_put(node);
		kfree(f);
	}
	return fd;
}
