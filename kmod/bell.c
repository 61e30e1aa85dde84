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
	bool dozes;
};

static struct waiters bell_take(struct mote_bell_slot *bell)
{
	struct waiters w = { bell->sleeper, bell->cmd, bell->dozes };

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
	/* Who dozes is runnable, and will find itself gone. */
	if (w->sleeper && !w->dozes) {
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

bool mote_bell_ring(struct mote_bell_slot *bell, bool handoff)
{
	bool local = false;
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
	/* Before it is completed, and nobody's: the task may be dead, and its last reference. */
	if (handoff && w.cmd)
		local = mote_uring_is_local(w.cmd);
	waiters_wake(&w, handoff, 0);
	/* A full barrier: pairs with poll_wait()'s. */
	if (wq_has_sleeper(&bell->poll))
		wake_up_poll(&bell->poll, EPOLLIN | EPOLLRDNORM);
	return local || (handoff && w.sleeper && task_cpu(w.sleeper) == raw_smp_processor_id());
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

/* Those that somebody else takes the place of, or that are called off. */
static void waiters_cancel(struct waiters *w)
{
	if (w->sleeper || w->cmd)
		waiters_wake(w, false, -ECANCELED);
}

int mote_bell_arm(struct mote_node *node, struct mote_bell_slot *bell, struct io_uring_cmd *cmd,
		  u32 seq, bool doze)
{
	struct waiters older;
	int err = 1;

	rcu_read_lock();
	spin_lock(&bell->lock);
	/* Dying takes the waiters out under the lock, after it has changed the state. */
	if (bell->seq != seq) {
		err = 0;
	} else if (READ_ONCE(node->state) != MOTE_LIVE) {
		err = -ESHUTDOWN;
	} else {
		older = bell_take(bell);
		bell->cmd = cmd;
		bell->dozes = doze;
		if (!cmd)
			bell->sleeper = current;
		/* Who takes the caller out of the bell, under the lock, wakes it. */
		if (!cmd && !doze)
			__set_current_state(TASK_INTERRUPTIBLE);
	}
	spin_unlock(&bell->lock);
	if (err > 0)
		waiters_cancel(&older);
	rcu_read_unlock();
	return err;
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

/* From dozing to sleeping. False: the caller was taken out of the bell meanwhile. */
static bool sleep_deepen(struct mote_bell_slot *bell)
{
	bool waiting;

	spin_lock(&bell->lock);
	waiting = bell->sleeper == current;
	if (waiting) {
		bell->dozes = false;
		__set_current_state(TASK_INTERRUPTIBLE);
	}
	spin_unlock(&bell->lock);
	return waiting;
}

/* Not rung: leaves the bell. False, likewise. */
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

/* The caller is in the bell; its state is set. */
static int sleep_sound(struct mote_bell_slot *bell, s64 deadline)
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
	return err;
}

void mote_bell_doze(struct mote_node *node, struct mote_bell_slot *bell, u32 seq)
{
	bool dozes;

	spin_lock(&bell->lock);
	/* It is not a wait, and ends none. */
	dozes = bell->seq == seq && !bell->sleeper && !bell->cmd &&
		READ_ONCE(node->state) == MOTE_LIVE;
	if (dozes) {
		bell->dozes = true;
		bell->sleeper = current;
	}
	spin_unlock(&bell->lock);
	if (!dozes)
		return;
	schedule();
	/* acquire: as in sleep_sound() */
	if (smp_load_acquire(&bell->sleeper) == current)
		sleep_abort(bell);
}

static int sleep_wait(struct mote_node *node, struct mote_bell_slot *bell, u32 seq, s64 deadline,
		      bool doze)
{
	int err = 0;

	if (doze)
		schedule();
	/* acquire: as in sleep_sound() */
	if (!doze || (smp_load_acquire(&bell->sleeper) == current && sleep_deepen(bell)))
		err = sleep_sound(bell, deadline);
	if (err || READ_ONCE(bell->seq) != seq)
		return err;
	return READ_ONCE(node->state) == MOTE_LIVE ? -ECANCELED : -ESHUTDOWN;
}

/* All are checked before the first one rings. Under RCU. */
static int rings_ring(struct mote_node *node, const struct mote_ring *rings, u32 nr)
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
			mote_bell_ring(bell, false);
	}
	return 0;
}

/* The usual case, without a loop or a copy. As mote_bell_ring(), or -errno. */
static int enter_ring(struct mote_node *node, const struct mote_enter *e, bool handoff)
{
	struct mote_bell_slot *bell;
	int ret;

	rcu_read_lock();
	bell = mote_bell_find(node, e->ring.node, e->ring.slot);
	ret = IS_ERR(bell) ? PTR_ERR(bell) : mote_bell_ring(bell, handoff);
	rcu_read_unlock();
	return ret;
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
	err = rings_ring(node, rings, nr + e->nr_rings);
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
	int err, local = 0;

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
	if (unlikely(e.nr_rings))
		local = enter_ring_many(node, &e);
	else if (e.flags & MOTE_ENTER_RING)
		/* Only who will sleep gives its CPU away. */
		local = enter_ring(node, &e, bell && READ_ONCE(bell->seq) == e.seq);
	if (unlikely(local < 0) || !bell)
		return local;
	trace_mote_park(node->id, e.slot, e.seq);
	err = mote_bell_arm(node, bell, NULL, e.seq, local);
	return err > 0 ? sleep_wait(node, bell, e.seq, e.deadline, local) : err;
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
