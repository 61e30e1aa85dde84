/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Lanes: memory that one node writes and another reads. What lies in it is the two's own affair:
 * the module never looks. A lane is there until both ends are closed; a dead node's are.
 */
#ifndef _MOTE_LANE_H
#define _MOTE_LANE_H

#include <linux/mm_types.h>

#include "event.h"

struct mote_user;

/* Protected by mote_mutex, but for what never changes. */
struct mote_lane {
	u32 id;
	unsigned int refs;		/* being listed is one, being mapped right now another */
	struct mote_node *writer, *reader;	/* references */
	bool writer_closed, reader_closed;
	struct list_head writer_link, reader_link;
	struct mote_notice opened, closed;
	struct mote_user *user;		/* is charged */
	unsigned long nr_data;
	struct page *consumer;
	struct page *pages[];		/* producer page, then the data */
};

long mote_lane_open(struct mote_node *node, void __user *arg);
long mote_lane_close(struct mote_node *node, void __user *arg);

/* Under mote_mutex: closes all ends of a node that has died. Then, without it: frees lanes. */
void mote_lanes_shut(struct mote_node *node, struct list_head *graves);
void mote_lanes_bury(struct list_head *graves);

int mote_mmap(struct file *file, struct vm_area_struct *vma);

#endif
