/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Events that wait to be read. Each has its place in the object that it is about, taken when that
 * was made: none is ever lost for want of memory, and a queue is no longer than what it is about.
 */
#ifndef _MOTE_EVENT_H
#define _MOTE_EVENT_H

#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/spinlock.h>
#include <linux/mote.h>

struct mote_node;

struct mote_notice {
	struct list_head link;		/* protected by mote_events.lock */
	u64 serial;
	struct mote_event event;
};

struct mote_events {
	spinlock_t lock;		/* of the queue; process context only */
	struct list_head queue;
	u32 nr;
	u64 serial;
	struct mutex reader;		/* who copies the first event out */
	wait_queue_head_t wait;
};

void mote_events_init(struct mote_events *events);

static inline void mote_notice_init(struct mote_notice *notice)
{
	INIT_LIST_HEAD(&notice->link);
}

/* Queues it and tells node. Nothing if it is queued, or node is dead. */
void mote_notice_post(struct mote_node *node, struct mote_notice *notice, u32 type);

/* Before what it lies in is freed, or because it has become pointless. */
void mote_notice_drop(struct mote_node *node, struct mote_notice *notice);

/* node is dead: nobody will read them. */
void mote_events_shut(struct mote_node *node);

ssize_t mote_read_iter(struct kiocb *kiocb, struct iov_iter *to);
__poll_t mote_poll(struct file *file, poll_table *table);

#endif
