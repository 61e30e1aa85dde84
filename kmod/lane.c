// SPDX-License-Identifier: GPL-2.0
/* Opening, mapping and closing lanes. */
#include "lane.h"
#include "compat.h"
#include "node.h"
#include "trace.h"

#include <linux/log2.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* By id; protected by mote_mutex. */
static DEFINE_XARRAY_ALLOC1(lanes);
static u32 last_lane;

static u64 lane_bytes(unsigned long nr_data)
{
	return (u64)(nr_data + 2) << PAGE_SHIFT;	/* two more for the indexes */
}

static void lane_free_pages(struct mote_lane *lane)
{
	unsigned long i;

	/* What is mapped has references of its own. */
	for (i = 0; i <= lane->nr_data; i++)
		if (lane->pages[i])
			__free_page(lane->pages[i]);
	if (lane->consumer)
		__free_page(lane->consumer);
	kvfree(lane);
}

/* With its memory, which the caller has been charged for. NULL: none. */
static struct mote_lane *lane_new(unsigned long nr_data)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO;
	struct mote_lane *lane;
	unsigned long i;

	lane = kvzalloc(struct_size(lane, pages, nr_data + 1), GFP_KERNEL_ACCOUNT);
	if (!lane)
		return NULL;
	lane->nr_data = nr_data;
	lane->consumer = alloc_page(gfp);
	if (!lane->consumer)
		goto fail;
	for (i = 0; i <= nr_data; i++) {
		lane->pages[i] = alloc_page(gfp);
		if (!lane->pages[i] || fatal_signal_pending(current))
			goto fail;
	}
	lane->refs = 1;
	INIT_LIST_HEAD(&lane->writer_link);
	INIT_LIST_HEAD(&lane->reader_link);
	mote_notice_init(&lane->opened);
	mote_notice_init(&lane->closed);
	return lane;
fail:
	lane_free_pages(lane);
	return NULL;
}

/* Under mote_mutex; lane_bury() follows without it: that can take long. */
static void lane_unref(struct mote_lane *lane, struct list_head *graves)
{
	lockdep_assert_held(&mote_mutex);
	if (--lane->refs)
		return;
	mote_user_uncharge(lane->user, lane_bytes(lane->nr_data));
	mote_user_put(lane->user);
	list_add(&lane->writer_link, graves);
}

void mote_lanes_bury(struct list_head *graves)
{
	struct mote_lane *lane, *next;

	list_for_each_entry_safe(lane, next, graves, writer_link) {
		mote_node_put(lane->writer);
		mote_node_put(lane->reader);
		lane_free_pages(lane);
		cond_resched();
	}
}

/* One end; tell: the other one learns it, if it is there. */
static void lane_close_end(struct mote_lane *lane, bool writes, bool tell,
			   struct list_head *graves)
{
	struct mote_node *self = writes ? lane->writer : lane->reader;
	struct mote_node *other = writes ? lane->reader : lane->writer;
	struct mote_tie *tie = mote_tie_find(self, other);

	trace_mote_lane_close(lane->id, lane->writer->id, lane->reader->id);
	WRITE_ONCE(tie->lanes, tie->lanes - 1);
	if (writes) {
		lane->writer_closed = true;
		list_del_init(&lane->writer_link);
		tie->opened--;
		self->nr_written--;
	} else {
		lane->reader_closed = true;
		list_del_init(&lane->reader_link);
		mote_notice_drop(self, &lane->opened);
	}
	mote_tie_tidy(tie);
	if (lane->writer_closed && lane->reader_closed) {
		mote_notice_drop(self, &lane->closed);
		xa_erase(&lanes, lane->id);
		lane_unref(lane, graves);
	} else if (tell) {
		lane->closed.event.node = self->id;
		mote_notice_post(other, &lane->closed, MOTE_EVENT_LANE_CLOSED);
	}
}

void mote_lanes_shut(struct mote_node *node, struct list_head *graves)
{
	struct mote_lane *lane, *next;

	lockdep_assert_held(&mote_mutex);
	/* The others learn that the node is dead. */
	list_for_each_entry_safe(lane, next, &node->written, writer_link)
		lane_close_end(lane, true, false, graves);
	list_for_each_entry_safe(lane, next, &node->read, reader_link)
		lane_close_end(lane, false, false, graves);
}

/* Under mote_mutex: makes node the writer of lane, and target, if that may be, its reader. */
static int lane_attach(struct mote_lane *lane, struct mote_node *node, u32 target_id,
		       u64 cookie)
{
	struct mote_node *target;
	struct mote_tie *there, *back;
	int err = mote_node_check(node);

	if (err)
		return err;
	if (target_id == node->id)
		return -EINVAL;
	target = mote_node_by_id(target_id);
	if (!target)
		return -ESRCH;
	if (!mote_node_may_reach(node, target))
		return -EACCES;
	if (node->nr_written >= mote_lanes_per_node)
		return -EMFILE;
	there = mote_tie_get(node, target);
	if (IS_ERR(there))
		return PTR_ERR(there);
	back = mote_tie_get(target, node);
	if (IS_ERR(back))
		err = PTR_ERR(back);
	else if (there->opened >= mote_lanes_per_peer)
		err = -EMLINK;
	else
		err = xa_alloc_cyclic(&lanes, &lane->id, lane, XA_LIMIT(1, MOTE_ID_MAX),
				      &last_lane, GFP_KERNEL_ACCOUNT);
	if (err < 0) {
		mote_tie_tidy(there);
		if (!IS_ERR(back))
			mote_tie_tidy(back);
		return err;
	}
	there->opened++;
	WRITE_ONCE(there->lanes, there->lanes + 1);
	WRITE_ONCE(back->lanes, back->lanes + 1);
	node->nr_written++;
	lane->writer = mote_node_get(node);
	lane->reader = mote_node_get(target);
	list_add(&lane->writer_link, &node->written);
	list_add(&lane->reader_link, &target->read);
	lane->closed.event.lane = lane->id;
	lane->opened.event = (struct mote_event) {
		.node = node->id,
		.lane = lane->id,
		.value = (u64)lane->nr_data << PAGE_SHIFT,
		.cookie = cookie,
	};
	mote_notice_post(target, &lane->opened, MOTE_EVENT_LANE_OPENED);
	trace_mote_lane_open(lane->id, node->id, target->id);
	return 0;
}

/* The memory, and who pays for it. ERR_PTR. */
static struct mote_lane *lane_pay(struct mote_node *node, unsigned long nr_data)
{
	struct mote_user *user;
	struct mote_lane *lane;
	int err;

	mutex_lock(&mote_mutex);
	user = mote_user_get(node->cred->euid);
	err = user ? mote_user_charge(user, lane_bytes(nr_data)) : -ENOMEM;
	if (user && err)
		mote_user_put(user);
	mutex_unlock(&mote_mutex);
	if (err)
		return ERR_PTR(err);
	lane = lane_new(nr_data);
	if (lane) {
		lane->user = user;
		return lane;
	}
	mutex_lock(&mote_mutex);
	mote_user_uncharge(user, lane_bytes(nr_data));
	mote_user_put(user);
	mutex_unlock(&mote_mutex);
	return ERR_PTR(-ENOMEM);
}

/* node's end of lane id, or NULL. *writes: which end. */
static struct mote_lane *lane_find(struct mote_node *node, u32 id, bool *writes)
{
	struct mote_lane *lane = xa_load(&lanes, id);

	lockdep_assert_held(&mote_mutex);
	if (!lane)
		return NULL;
	*writes = lane->writer == node;
	if (*writes ? lane->writer_closed : lane->reader != node || lane->reader_closed)
		return NULL;
	return lane;
}

static int lane_close(struct mote_node *node, u32 id)
{
	struct mote_lane *lane;
	LIST_HEAD(graves);
	bool writes;

	mutex_lock(&mote_mutex);
	lane = lane_find(node, id, &writes);
	if (lane)
		lane_close_end(lane, writes, true, &graves);
	mutex_unlock(&mote_mutex);
	mote_lanes_bury(&graves);
	return lane ? 0 : -ENOENT;
}

long mote_lane_open(struct mote_node *node, void __user *arg)
{
	struct mote_lane_open open;
	struct mote_lane *lane;
	int err = mote_copy_in(&open, sizeof(open), sizeof(open), arg);

	if (!err)
		err = mote_node_check(node);
	if (err)
		return err;
	if (open.flags || open.data_size < MOTE_DATA_MIN || open.data_size > MOTE_DATA_MAX ||
	    !is_power_of_2(open.data_size) || open.data_size & ~PAGE_MASK)
		return -EINVAL;
	lane = lane_pay(node, open.data_size >> PAGE_SHIFT);
	if (IS_ERR(lane))
		return PTR_ERR(lane);
	mutex_lock(&mote_mutex);
	err = lane_attach(lane, node, open.node, open.cookie);
	if (err) {
		mote_user_uncharge(lane->user, lane_bytes(lane->nr_data));
		mote_user_put(lane->user);
	} else {
		open.lane = lane->id;
	}
	mutex_unlock(&mote_mutex);
	if (err) {
		lane_free_pages(lane);
		return err;
	}
	err = mote_copy_out(arg, &open, sizeof(open), open.size);
	if (err)
		lane_close(node, open.lane);
	return err;
}

long mote_lane_close(struct mote_node *node, void __user *arg)
{
	struct mote_object o;
	int err = mote_copy_in(&o, sizeof(o), sizeof(o), arg);

	if (!err)
		err = mote_node_check(node);
	if (err)
		return err;
	if (o.flags || o.reserved)
		return -EINVAL;
	return lane_close(node, o.id);
}

/* What an area allows, before anything is put into it. */
static int area_begin(struct vm_area_struct *vma, unsigned long nr, bool writable)
{
	if (vma_pages(vma) != nr || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC || (!writable && vma->vm_flags & VM_WRITE))
		return -EPERM;
	mote_vma_flags(vma, VM_DONTCOPY | VM_DONTEXPAND,
		       VM_MAYEXEC | (writable ? 0 : VM_MAYWRITE));
	return 0;
}

static int area_lane(struct vm_area_struct *vma, struct mote_lane *lane, bool writes)
{
	unsigned long nr, addr = vma->vm_start;
	int err = area_begin(vma, 1 + 2 * lane->nr_data, writes);

	if (err)
		return err;
	nr = 1 + lane->nr_data;
	err = vm_insert_pages(vma, addr, lane->pages, &nr);
	if (err)
		return err;
	addr += (1 + lane->nr_data) << PAGE_SHIFT;
	/* Once more: what begins at the end of the ring goes on after it. */
	nr = lane->nr_data;
	return vm_insert_pages(vma, addr, lane->pages + 1, &nr);
}

static int area_consumer(struct vm_area_struct *vma, struct mote_lane *lane, bool writes)
{
	int err = area_begin(vma, 1, !writes);

	return err ? err : vm_insert_page(vma, vma->vm_start, lane->consumer);
}

static int map_lane(struct mote_node *node, struct vm_area_struct *vma, u32 area, u32 id)
{
	struct mote_lane *lane;
	LIST_HEAD(graves);
	bool writes;
	int err;

	mutex_lock(&mote_mutex);
	lane = lane_find(node, id, &writes);
	if (lane)
		lane->refs++;
	mutex_unlock(&mote_mutex);
	if (!lane)
		return -ENOENT;
	err = area == MOTE_AREA_WRITER ? area_lane(vma, lane, writes) :
					 area_consumer(vma, lane, writes);
	mutex_lock(&mote_mutex);
	lane_unref(lane, &graves);
	mutex_unlock(&mote_mutex);
	mote_lanes_bury(&graves);
	return err;
}

static int map_bells(struct mote_node *node, struct vm_area_struct *vma, u32 id)
{
	struct mote_node *target = NULL;
	struct mote_tie *tie;
	unsigned long i, nr;
	void *page;
	int err;

	if (id == node->id) {
		target = mote_node_get(node);
	} else {
		mutex_lock(&mote_mutex);
		tie = xa_load(&node->ties, id);
		if (tie && tie->lanes)
			target = mote_node_get(tie->target);
		mutex_unlock(&mote_mutex);
	}
	if (!target)
		return -EPERM;
	nr = target->shared_size >> PAGE_SHIFT;
	err = area_begin(vma, nr, target == node);
	for (i = 0; !err && i < nr; i++) {
		page = (void *)target->shared + (i << PAGE_SHIFT);
		err = vm_insert_page(vma, vma->vm_start + (i << PAGE_SHIFT), virt_to_page(page));
	}
	mote_node_put(target);
	return err;
}

int mote_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct mote_node *node = file->private_data;
	u64 offset = (u64)vma->vm_pgoff << PAGE_SHIFT;
	u32 area = offset >> 28 & 0xf;
	u32 id = offset >> 32;
	int err = mote_node_check(node);

	if (err)
		return err;
	if (offset != MOTE_MAP(area, id))
		return -EINVAL;
	switch (area) {
	case MOTE_AREA_BELLS:
		return map_bells(node, vma, id);
	case MOTE_AREA_WRITER:
	case MOTE_AREA_READER:
		return map_lane(node, vma, area, id);
	}
	return -EINVAL;
}
