// SPDX-License-Identifier: GPL-2.0
/* Posting and reading events. */
#include "node.h"

#include <linux/sched/signal.h>
#include <linux/uio.h>

void mote_events_init(struct mote_events *events)
{
	spin_lock_init(&events->lock);
	INIT_LIST_HEAD(&events->queue);
	mutex_init(&events->reader);
	init_waitqueue_head(&events->wait);
}

/* What user space sees of the queue's length. */
static void events_publish(struct mote_node *node)
{
	lockdep_assert_held(&node->events.lock);
	WRITE_ONCE(node->shared->events, node->events.nr);
}

void mote_notice_post(struct mote_node *node, struct mote_notice *notice, u32 type)
{
	struct mote_events *events = &node->events;

	spin_lock(&events->lock);
	if (READ_ONCE(node->state) != MOTE_LIVE || !list_empty(&notice->link)) {
		spin_unlock(&events->lock);
		return;
	}
	notice->event.type = type;
	notice->serial = ++events->serial;
	list_add_tail(&notice->link, &events->queue);
	events->nr++;
	events_publish(node);
	spin_unlock(&events->lock);
	wake_up_interruptible_poll(&events->wait, EPOLLIN | EPOLLRDNORM);
	if (node->event_slot == MOTE_NO_SLOT)
		return;
	rcu_read_lock();
	mote_bell_ring(&node->bells[node->event_slot], false);
	rcu_read_unlock();
}

static void notice_unlink(struct mote_node *node, struct mote_notice *notice)
{
	list_del_init(&notice->link);
	node->events.nr--;
	events_publish(node);
}

void mote_notice_drop(struct mote_node *node, struct mote_notice *notice)
{
	spin_lock(&node->events.lock);
	if (!list_empty(&notice->link))
		notice_unlink(node, notice);
	spin_unlock(&node->events.lock);
}

void mote_events_shut(struct mote_node *node)
{
	struct mote_notice *notice, *next;

	spin_lock(&node->events.lock);
	list_for_each_entry_safe(notice, next, &node->events.queue, link)
		notice_unlink(node, notice);
	spin_unlock(&node->events.lock);
	wake_up_interruptible_poll(&node->events.wait, EPOLLHUP);
}

static bool events_ready(struct mote_node *node)
{
	return READ_ONCE(node->events.nr) || READ_ONCE(node->state) != MOTE_LIVE;
}

/* The first event, which stays; its serial, or 0. */
static u64 event_peek(struct mote_node *node, struct mote_event *event)
{
	struct mote_notice *notice;
	u64 serial = 0;

	spin_lock(&node->events.lock);
	notice = list_first_entry_or_null(&node->events.queue, struct mote_notice, link);
	if (notice) {
		*event = notice->event;
		serial = notice->serial;
	}
	spin_unlock(&node->events.lock);
	return serial;
}

/* It has been delivered. Its object may have gone meanwhile, and the event with it. */
static void event_pop(struct mote_node *node, u64 serial)
{
	struct mote_notice *notice;

	spin_lock(&node->events.lock);
	notice = list_first_entry_or_null(&node->events.queue, struct mote_notice, link);
	if (notice && notice->serial == serial)
		notice_unlink(node, notice);
	spin_unlock(&node->events.lock);
}

static ssize_t events_copy(struct mote_node *node, struct iov_iter *to)
{
	struct mote_event event;
	ssize_t copied = 0;
	u64 serial;

	while (iov_iter_count(to) >= sizeof(event)) {
		serial = event_peek(node, &event);
		if (!serial)
			break;
		if (copy_to_iter(&event, sizeof(event), to) != sizeof(event))
			return copied ? copied : -EFAULT;
		event_pop(node, serial);
		copied += sizeof(event);
		if (event.type == MOTE_EVENT_NODE_DOWN)
			mote_tie_read_down(node, event.node);
	}
	return copied;
}

ssize_t mote_read_iter(struct kiocb *kiocb, struct iov_iter *to)
{
	struct file *file = kiocb->ki_filp;
	struct mote_node *node = file->private_data;
	bool nowait = kiocb->ki_flags & IOCB_NOWAIT;
	ssize_t ret;

	if (iov_iter_count(to) < sizeof(struct mote_event))
		return -EINVAL;
	for (;;) {
		ret = mote_node_check(node);
		if (ret)
			return ret;
		if (nowait) {
			if (!mutex_trylock(&node->events.reader))
				return -EAGAIN;
		} else if (mutex_lock_interruptible(&node->events.reader)) {
			return -ERESTARTSYS;
		}
		ret = events_copy(node, to);
		mutex_unlock(&node->events.reader);
		if (ret)
			return ret;
		if (nowait || file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(node->events.wait, events_ready(node)))
			return -ERESTARTSYS;
	}
}

__poll_t mote_poll(struct file *file, poll_table *table)
{
	struct mote_node *node = file->private_data;
	enum mote_state state;

	poll_wait(file, &node->events.wait, table);
	state = READ_ONCE(node->state);
	if (state == MOTE_DEAD)
		return EPOLLHUP;
	return state == MOTE_LIVE && READ_ONCE(node->events.nr) ? EPOLLIN | EPOLLRDNORM : 0;
}
