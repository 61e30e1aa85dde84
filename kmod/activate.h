/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Activations: when a worker, a thread that runs a scheduler, blocks in the kernel outside the
 * runtime while there is something else to run, a spare thread that sleeps in ACTIVATE_WAIT is
 * told so. What the spare does about it is user space's: it may be too late.
 */
#ifndef _MOTE_ACTIVATE_H
#define _MOTE_ACTIVATE_H

#include <linux/list.h>
#include <linux/spinlock.h>

struct mote_node;

struct mote_activation {
	raw_spinlock_t lock;		/* taken in hard interrupts */
	struct list_head posts;		/* what spares have to be told */
	unsigned int nr_own;		/* of these, not by the kernel */
	struct list_head spares;	/* who slept last is woken first */
	bool shut;
	struct list_head workers;	/* all; protected by mote_mutex */
	unsigned int nr_workers;
};

static inline void mote_activation_init(struct mote_activation *activation)
{
	raw_spin_lock_init(&activation->lock);
	INIT_LIST_HEAD(&activation->posts);
	INIT_LIST_HEAD(&activation->spares);
	INIT_LIST_HEAD(&activation->workers);
}

#ifdef CONFIG_PREEMPT_NOTIFIERS
int mote_activate_start(void);
void mote_activate_exit(void);
long mote_worker(struct mote_node *node, void __user *arg);
long mote_activate_wait(struct mote_node *node, void __user *arg);
/* Under mote_mutex: node is dead. */
void mote_activation_shut(struct mote_node *node);
/* The calling thread, which may be a worker, closes node. */
void mote_worker_leave(struct mote_node *node);
#else
static inline int mote_activate_start(void)
{
	return 0;
}

static inline void mote_activate_exit(void)
{
}

static inline long mote_worker(struct mote_node *node, void __user *arg)
{
	return -EOPNOTSUPP;
}

static inline long mote_activate_wait(struct mote_node *node, void __user *arg)
{
	return -EOPNOTSUPP;
}

static inline void mote_activation_shut(struct mote_node *node)
{
}

static inline void mote_worker_leave(struct mote_node *node)
{
}
#endif

#endif
