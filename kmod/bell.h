/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Bells: one per scheduler slot of a node. A ring counts seq up and ends the wait of whoever
 * waits, in ENTER or in io_uring: the newest waiter only, an older one was told -ECANCELED.
 *
 * No wake is lost. The owner loads seq, stores PARKED, runs a full barrier, looks at its lanes,
 * and waits for seq to change. A ringer publishes, runs a full barrier, loads state, and rings if
 * that is PARKED. Of the two one sees the other's store. If the ringer rings, seq differs from
 * what the owner has loaded, or the owner waits already and is woken: both are decided under
 * lock. The ring stores RUNNING before it counts: a ring that is late for an earlier sleep
 * either is counted after the owner loaded seq, and then the owner does not sleep, or it has
 * stored RUNNING before, and the owner's PARKED stands.
 *
 * Dozing: who rings a waiter that will run on this CPU, and would sleep next, first lets it run,
 * and stays runnable. If the answer comes at once, neither has slept: sleeping and being woken
 * are most of what a round trip costs. If not, it sleeps when its turn comes again. It only dozes
 * for somebody on its own CPU: with a CPU-bound stranger there instead it would wait for that
 * one's time slice, while a sleeper that is woken may preempt it.
 */
#ifndef _MOTE_BELL_H
#define _MOTE_BELL_H

#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/wait.h>
#include <linux/mote.h>

struct io_uring_cmd;
struct mote_node;

struct mote_bell_slot {
	spinlock_t lock;		/* of what follows; process context only */
	u32 seq;			/* protected by lock; never read from the shared page */
	struct task_struct *sleeper;	/* protected by lock; itself looks without */
	struct io_uring_cmd *cmd;	/* protected by lock */
	bool dozes;			/* the sleeper does; protected by lock */
	struct mote_bell *shared;
	wait_queue_head_t poll;		/* of descriptors from BELL_FD */
} ____cacheline_aligned;

struct mote_bell_slot *mote_bells_new(u32 nr, struct mote_bells *shared);

/* The bell that node may ring, or ERR_PTR. Under RCU. */
struct mote_bell_slot *mote_bell_find(struct mote_node *node, u32 id, u32 slot);

/*
 * Process context, under RCU. handoff: the caller is about to sleep. True: somebody waited, is
 * awake now, and will run on this CPU.
 */
bool mote_bell_ring(struct mote_bell_slot *bell, bool handoff);

/*
 * Makes cmd, or, if that is NULL, the calling task the bell's waiter; the task's state is set
 * then, unless it will doze. 1; 0: it has rung since seq; -ESHUTDOWN.
 */
int mote_bell_arm(struct mote_node *node, struct mote_bell_slot *bell, struct io_uring_cmd *cmd,
		  u32 seq, bool doze);

/* Lets others run once, unless it has rung since seq: who answers need not wake anybody. */
void mote_bell_doze(struct mote_node *node, struct mote_bell_slot *bell, u32 seq);

/* Ends the wait with -ECANCELED; false: there is none. */
bool mote_bell_cancel(struct mote_bell_slot *bell);

/* Ends waits for good: the node is dead. */
void mote_bells_shut(struct mote_node *node);

long mote_enter(struct mote_node *node, void __user *arg);
long mote_bell_fd(struct mote_node *node, void __user *arg);

/* uring.c */
#ifdef CONFIG_IO_URING
int mote_uring(struct io_uring_cmd *cmd, unsigned int issue_flags);
void mote_uring_complete(struct io_uring_cmd *cmd, int result);
/* Who waits for it was on this CPU when it went to sleep. Before it is completed. */
bool mote_uring_is_local(struct io_uring_cmd *cmd);
#else
#define mote_uring NULL
static inline void mote_uring_complete(struct io_uring_cmd *cmd, int result)
{
}

static inline bool mote_uring_is_local(struct io_uring_cmd *cmd)
{
	return false;
}
#endif

#endif
