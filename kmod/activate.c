// SPDX-License-Identifier: GPL-2.0
/*
 * Workers are watched by preempt notifiers. One outlives the file that it was armed through: it
 * can only be taken off by its own thread, so it is taken off by WORKER_STOP, by the thread's own
 * closing of the file, or is over when the thread is. Each holds the module.
 *
 * sched_out runs under the run queue's lock: it wakes nobody, and takes no lock. An irq_work does.
 */
#include "node.h"
#include "compat.h"
#include "trace.h"

#include <linux/irq_work.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

/* What a spare is told. In a worker; or on its own, and then worker is MOTE_WORKERS_MAX or more. */
struct post {
	struct list_head link;		/* in activation.posts; empty: not queued */
	u32 worker;
	u64 since;
};

struct worker {
	struct preempt_notifier notifier;
	struct irq_work irq;
	struct irq_work gone;		/* queued once: nothing else has the worker freed */
	struct hrtimer timer;		/* of activate_delay_us */
	struct work_struct free;
	struct mote_node *node;		/* a reference */
	struct task_struct *task;	/* compared only */
	const u32 __user *mode, *want;	/* these three: its own thread's, no lock */
	u32 mode_user;
	bool detached;			/* the node is dead, */
	bool dead;			/* the thread is: its task_struct may be another's soon */
	bool away;			/* blocked, and wants a spare; its own thread writes */
	struct post post;
	struct list_head link;		/* in activation.workers */
};

struct spare {
	struct list_head link;
	struct task_struct *task;
};

static struct workqueue_struct *workqueue;

/* Takes one spare, who slept last, and wakes it: it will look at the list. */
static bool spare_wake(struct mote_activation *activation)
{
	struct spare *spare;

	lockdep_assert_held(&activation->lock);
	spare = list_first_entry_or_null(&activation->spares, struct spare, link);
	if (!spare)
		return false;
	list_del_init(&spare->link);
	wake_up_process(spare->task);
	return true;
}

static void worker_post(struct worker *w)
{
	struct mote_activation *activation = &w->node->activation;
	unsigned long flags;
	bool woke = false;

	raw_spin_lock_irqsave(&activation->lock, flags);
	/* It may run again already. */
	if (READ_ONCE(w->away) && list_empty(&w->post.link) && !activation->shut) {
		list_add_tail(&w->post.link, &activation->posts);
		woke = spare_wake(activation);
	}
	raw_spin_unlock_irqrestore(&activation->lock, flags);
	trace_mote_activate(w->node->id, w->post.worker, woke);
}

static void worker_irq(struct irq_work *irq)
{
	struct worker *w = container_of(irq, struct worker, irq);
	u32 delay = READ_ONCE(mote_activate_delay_us);

	if (!delay)
		worker_post(w);
	else if (!hrtimer_active(&w->timer))
		hrtimer_start(&w->timer, ns_to_ktime((u64)delay * NSEC_PER_USEC),
			      HRTIMER_MODE_REL_HARD);
}

static void worker_gone(struct irq_work *irq)
{
	struct worker *w = container_of(irq, struct worker, gone);

	queue_work(workqueue, &w->free);
}

/* One timer serves all of a worker's short sleeps, one after the other. */
static enum hrtimer_restart worker_timer(struct hrtimer *timer)
{
	struct worker *w = container_of(timer, struct worker, timer);
	u64 delay = (u64)READ_ONCE(mote_activate_delay_us) * NSEC_PER_USEC;
	u64 age = ktime_get_mono_fast_ns() - READ_ONCE(w->post.since);

	if (!READ_ONCE(w->away))
		return HRTIMER_NORESTART;
	if (age < delay) {
		hrtimer_forward_now(timer, ns_to_ktime(delay - age));
		return HRTIMER_RESTART;
	}
	worker_post(w);
	return HRTIMER_NORESTART;
}

static void worker_sched_in(struct preempt_notifier *notifier, int cpu)
{
	struct worker *w = container_of(notifier, struct worker, notifier);

	WRITE_ONCE(w->away, false);
}

static void worker_sched_out(struct preempt_notifier *notifier, struct task_struct *next)
{
	struct worker *w = container_of(notifier, struct worker, notifier);
	unsigned int state = READ_ONCE(current->__state);
	u32 mode, want;
	int err;

	if (unlikely(state & TASK_DEAD)) {
		WRITE_ONCE(w->dead, true);
		irq_work_queue(&w->gone);
		return;
	}
	if (!mote_task_blocked(current) || state & (__TASK_STOPPED | __TASK_TRACED | TASK_PARKED))
		return;
	if (READ_ONCE(w->detached) || current->mm != w->node->mm)
		return;
	/* A word that is not there says nothing: no page is ever brought in from here. */
	pagefault_disable();
	err = __get_user(mode, w->mode) | __get_user(want, w->want);
	pagefault_enable();
	if (err || mode != w->mode_user || !want)
		return;
	WRITE_ONCE(w->post.since, ktime_get_mono_fast_ns());
	WRITE_ONCE(w->away, true);
	irq_work_queue(&w->irq);
}

static struct preempt_ops worker_ops = {
	.sched_in = worker_sched_in,
	.sched_out = worker_sched_out,
};

/* Its notifier is off, and has queued nothing that has not begun. */
static void worker_free(struct worker *w)
{
	struct mote_activation *activation = &w->node->activation;

	irq_work_sync(&w->irq);
	irq_work_sync(&w->gone);
	hrtimer_cancel(&w->timer);
	raw_spin_lock_irq(&activation->lock);
	list_del_init(&w->post.link);
	raw_spin_unlock_irq(&activation->lock);
	mote_node_put(w->node);
	kfree(w);
	module_put(THIS_MODULE);
}

static void worker_unlist(struct worker *w)
{
	lockdep_assert_held(&mote_mutex);
	list_del(&w->link);
	w->node->activation.nr_workers--;
}

static void worker_free_work(struct work_struct *work)
{
	struct worker *w = container_of(work, struct worker, free);

	mutex_lock(&mote_mutex);
	worker_unlist(w);
	mutex_unlock(&mote_mutex);
	worker_free(w);
}

static struct worker *worker_of_current(struct mote_node *node)
{
	struct worker *w;

	lockdep_assert_held(&mote_mutex);
	list_for_each_entry(w, &node->activation.workers, link)
		if (w->task == current && !READ_ONCE(w->dead))
			return w;
	return NULL;
}

static struct worker *worker_new(struct mote_node *node)
{
	struct worker *w = kzalloc(sizeof(*w), GFP_KERNEL_ACCOUNT);

	if (!w)
		return NULL;
	__module_get(THIS_MODULE);
	w->node = mote_node_get(node);
	w->task = current;
	INIT_LIST_HEAD(&w->post.link);
	INIT_WORK(&w->free, worker_free_work);
	w->irq = IRQ_WORK_INIT_HARD(worker_irq);
	w->gone = IRQ_WORK_INIT_HARD(worker_gone);
	mote_hrtimer_setup(&w->timer, worker_timer);
	preempt_notifier_init(&w->notifier, &worker_ops);
	return w;
}

static int worker_stop(struct mote_node *node)
{
	struct worker *w;

	mutex_lock(&mote_mutex);
	w = worker_of_current(node);
	if (w)
		worker_unlist(w);
	mutex_unlock(&mote_mutex);
	if (!w)
		return -ENOENT;
	preempt_notifier_unregister(&w->notifier);
	worker_free(w);
	return 0;
}

static int worker_start(struct mote_node *node, const struct mote_worker *arg)
{
	struct worker *w, *new = worker_new(node);
	int err;

	if (!new)
		return -ENOMEM;
	mutex_lock(&mote_mutex);
	err = mote_node_check(node);
	w = worker_of_current(node);
	if (!err && !w && node->activation.nr_workers >= MOTE_WORKERS_MAX)
		err = -EMFILE;
	if (!err) {
		if (!w) {
			w = new;
			list_add(&w->link, &node->activation.workers);
			node->activation.nr_workers++;
		}
		/* If it is armed: in between the old address goes with the new value. Harmless. */
		preempt_disable();
		w->mode = u64_to_user_ptr(arg->mode);
		w->want = u64_to_user_ptr(arg->want);
		w->mode_user = arg->mode_user;
		w->post.worker = arg->worker;
		preempt_enable();
		if (w == new)
			preempt_notifier_register(&w->notifier);
	}
	mutex_unlock(&mote_mutex);
	if (err || w != new)
		worker_free(new);
	return err;
}

long mote_worker(struct mote_node *node, void __user *arg)
{
	struct mote_worker w;
	int err = mote_copy_in(&w, sizeof(w), sizeof(w), arg);

	if (!err)
		err = mote_node_check(node);
	if (err)
		return err;
	if (w.flags & ~MOTE_WORKER_STOP || w.worker >= MOTE_WORKERS_MAX)
		return -EINVAL;
	if (w.flags & MOTE_WORKER_STOP)
		return worker_stop(node);
	if (w.mode % sizeof(u32) || w.want % sizeof(u32))
		return -EINVAL;
	if (!access_ok(u64_to_user_ptr(w.mode), sizeof(u32)) ||
	    !access_ok(u64_to_user_ptr(w.want), sizeof(u32)))
		return -EFAULT;
	return worker_start(node, &w);
}

void mote_activation_shut(struct mote_node *node)
{
	struct mote_activation *activation = &node->activation;
	struct post *post, *next;
	struct worker *w;
	LIST_HEAD(own);

	lockdep_assert_held(&mote_mutex);
	list_for_each_entry(w, &activation->workers, link)
		WRITE_ONCE(w->detached, true);
	raw_spin_lock_irq(&activation->lock);
	activation->shut = true;
	list_for_each_entry_safe(post, next, &activation->posts, link) {
		list_del_init(&post->link);
		if (post->worker >= MOTE_WORKERS_MAX)
			list_add(&post->link, &own);
	}
	while (spare_wake(activation))
		;
	raw_spin_unlock_irq(&activation->lock);
	list_for_each_entry_safe(post, next, &own, link)
		kfree(post);
}

void mote_worker_leave(struct mote_node *node)
{
	worker_stop(node);
}

/* The first that is still true: most blocks are short, and over. */
static struct post *post_take(struct mote_activation *activation)
{
	struct post *post, *next;

	lockdep_assert_held(&activation->lock);
	list_for_each_entry_safe(post, next, &activation->posts, link) {
		list_del_init(&post->link);
		if (post->worker >= MOTE_WORKERS_MAX ||
		    READ_ONCE(container_of(post, struct worker, post)->away))
			return post;
	}
	return NULL;
}

/* By the program itself, to have a spare back. */
static long activate_post(struct mote_node *node, u32 worker)
{
	struct mote_activation *activation = &node->activation;
	struct post *post;
	int err = 0;

	if (worker < MOTE_WORKERS_MAX)
		return -EINVAL;
	post = kmalloc(sizeof(*post), GFP_KERNEL_ACCOUNT);
	if (!post)
		return -ENOMEM;
	post->worker = worker;
	post->since = ktime_get_ns();
	raw_spin_lock_irq(&activation->lock);
	if (activation->shut)
		err = -ESHUTDOWN;
	else if (activation->nr_own >= MOTE_WORKERS_MAX)
		err = -EAGAIN;
	if (!err) {
		activation->nr_own++;
		list_add_tail(&post->link, &activation->posts);
		spare_wake(activation);
	}
	raw_spin_unlock_irq(&activation->lock);
	if (err)
		kfree(post);
	return err;
}

/* Sleeps, as one of the spares. Under activation->lock, which is dropped meanwhile. */
static int spare_sleep(struct mote_activation *activation, s64 deadline)
{
	struct spare spare = { .task = current };
	ktime_t expires = deadline;
	int err = 0;

	list_add(&spare.link, &activation->spares);
	/* Under the lock: who takes the spare off its list wakes it afterwards. */
	__set_current_state(TASK_INTERRUPTIBLE);
	raw_spin_unlock_irq(&activation->lock);
	if (deadline == MOTE_FOREVER)
		schedule();
	else if (!schedule_hrtimeout_range(&expires, current->timer_slack_ns, HRTIMER_MODE_ABS))
		err = -ETIMEDOUT;
	__set_current_state(TASK_RUNNING);
	raw_spin_lock_irq(&activation->lock);
	list_del(&spare.link);
	return err;
}

long mote_activate_wait(struct mote_node *node, void __user *arg)
{
	struct mote_activation *activation = &node->activation;
	struct mote_activate_wait wait;
	struct post *post, *own = NULL;
	int err = mote_copy_in(&wait, sizeof(wait), sizeof(wait), arg);

	if (!err)
		err = mote_node_check(node);
	if (err)
		return err;
	if (wait.flags & ~MOTE_ACTIVATE_POST || wait.reserved || wait.deadline < 0)
		return -EINVAL;
	if (wait.flags & MOTE_ACTIVATE_POST)
		return activate_post(node, wait.worker);
	raw_spin_lock_irq(&activation->lock);
	while (!(post = post_take(activation)) && !err) {
		if (activation->shut)
			err = -ESHUTDOWN;
		else if (signal_pending(current))
			err = -ERESTARTNOHAND;
		else
			err = spare_sleep(activation, wait.deadline);
	}
	if (post) {
		wait.worker = post->worker;
		wait.since = post->since;
		if (post->worker >= MOTE_WORKERS_MAX) {
			own = post;
			activation->nr_own--;
		}
	}
	/* There may be more; and whoever woke this spare, which goes, woke no other one. */
	if (!list_empty(&activation->posts))
		spare_wake(activation);
	raw_spin_unlock_irq(&activation->lock);
	kfree(own);
	return post ? mote_copy_out(arg, &wait, sizeof(wait), wait.size) : err;
}

int mote_activate_start(void)
{
	workqueue = alloc_workqueue("mote", WQ_UNBOUND, 0);
	if (!workqueue)
		return -ENOMEM;
	preempt_notifier_inc();
	return 0;
}

void mote_activate_exit(void)
{
	preempt_notifier_dec();
	destroy_workqueue(workqueue);
}
