// SPDX-License-Identifier: GPL-2.0
/* /dev/mote: what it is made of, its limits, and its calls. docs/abi.md describes them. */
#include "node.h"
#include "compat.h"
#include "lane.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

unsigned int mote_nodes_max = 4096;
unsigned int mote_nodes_per_user = 256;
unsigned int mote_lanes_per_node = 1024;
unsigned int mote_lanes_per_peer = 8;
unsigned int mote_mbytes_per_user = 512;
unsigned int mote_activate_delay_us;

/* Never 0, never without an end. */
static int limit_set(const char *value, const struct kernel_param *kp)
{
	return param_set_uint_minmax(value, kp, 1, 1 << 20);
}

static int delay_set(const char *value, const struct kernel_param *kp)
{
	return param_set_uint_minmax(value, kp, 0, 100000);
}

static const struct kernel_param_ops limit_ops = {
	.set = limit_set,
	.get = param_get_uint,
};

static const struct kernel_param_ops delay_ops = {
	.set = delay_set,
	.get = param_get_uint,
};

module_param_cb(nodes_max, &limit_ops, &mote_nodes_max, 0644);
MODULE_PARM_DESC(nodes_max, "nodes of all users together");
module_param_cb(nodes_per_user, &limit_ops, &mote_nodes_per_user, 0644);
MODULE_PARM_DESC(nodes_per_user, "nodes of one user");
module_param_cb(lanes_per_node, &limit_ops, &mote_lanes_per_node, 0644);
MODULE_PARM_DESC(lanes_per_node, "lanes that one node writes");
module_param_cb(lanes_per_peer, &limit_ops, &mote_lanes_per_peer, 0644);
MODULE_PARM_DESC(lanes_per_peer, "of these, to one reader");
module_param_cb(mbytes_per_user, &limit_ops, &mote_mbytes_per_user, 0644);
MODULE_PARM_DESC(mbytes_per_user, "memory of one user's nodes and lanes, in MiB");
module_param_cb(activate_delay_us, &delay_ops, &mote_activate_delay_us, 0644);
MODULE_PARM_DESC(activate_delay_us, "how long a worker has to be blocked to be replaced");

int mote_copy_in(void *to, size_t size, size_t least, const void __user *from)
{
	u32 given;
	int err;

	if (get_user(given, (const u32 __user *)from))
		return -EFAULT;
	if (given < least || given > PAGE_SIZE)
		return given < least ? -EINVAL : -E2BIG;
	err = copy_struct_from_user(to, size, from, given);
	/* Somebody may have changed it since; the first look counts. */
	*(u32 *)to = given;
	return err;
}

int mote_copy_out(void __user *to, const void *from, size_t size, u32 caller_size)
{
	return copy_to_user(to, from, min_t(size_t, size, caller_size)) ? -EFAULT : 0;
}

static long mote_query(void __user *arg)
{
	struct mote_query q;
	u32 size;
	int err = mote_copy_in(&q, sizeof(q), sizeof(q), arg);

	if (err)
		return err;
	if (q.flags)
		return -EINVAL;
	size = q.size;
	q = (struct mote_query) {
		.size = sizeof(q),
		.version = MOTE_ABI_VERSION,
		.nodes_per_user = READ_ONCE(mote_nodes_per_user),
		.lanes_per_node = READ_ONCE(mote_lanes_per_node),
		.lanes_per_peer = READ_ONCE(mote_lanes_per_peer),
		.bytes_per_user = (u64)READ_ONCE(mote_mbytes_per_user) << 20,
	};
	if (IS_ENABLED(CONFIG_PREEMPT_NOTIFIERS))
		q.features |= MOTE_FEATURE_ACTIVATE;
	if (IS_ENABLED(CONFIG_IO_URING))
		q.features |= MOTE_FEATURE_URING;
	if (IS_ENABLED(CONFIG_IO_URING) && MOTE_URING_CANCELABLE)
		q.features |= MOTE_FEATURE_URING_CANCEL;
	if (MOTE_WAKE_CURRENT_CPU)
		q.features |= MOTE_FEATURE_HANDOFF;
	return mote_copy_out(arg, &q, sizeof(q), size);
}

static long mote_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct mote_node *node = file->private_data;
	void __user *p = (void __user *)arg;

	if (likely(cmd == MOTE_IOC_ENTER))
		return mote_enter(node, p);
	switch (cmd) {
	case MOTE_IOC_QUERY:
		return mote_query(p);
	case MOTE_IOC_SETUP:
		return mote_node_setup(node, p);
	case MOTE_IOC_NODE_FIND:
		return mote_node_find(node, p);
	case MOTE_IOC_NODE_LIST:
		return mote_node_list(node, p);
	case MOTE_IOC_NODE_WATCH:
		return mote_node_watch(node, p);
	case MOTE_IOC_LANE_OPEN:
		return mote_lane_open(node, p);
	case MOTE_IOC_LANE_CLOSE:
		return mote_lane_close(node, p);
	case MOTE_IOC_BELL_FD:
		return mote_bell_fd(node, p);
	case MOTE_IOC_WORKER:
		return mote_worker(node, p);
	case MOTE_IOC_ACTIVATE_WAIT:
		return mote_activate_wait(node, p);
	}
	return -ENOTTY;
}

static int mote_open(struct inode *inode, struct file *file)
{
	struct mote_node *node = mote_node_new();

	if (!node)
		return -ENOMEM;
	file->private_data = node;
	/* Reads can be asked not to wait. */
	file->f_mode |= FMODE_NOWAIT;
	return stream_open(inode, file);
}

/*
 * A descriptor is closed. If it was one of the table that set the node up, also because the
 * process exits or execs, the node is dead: release() would come too late, or not at all, as long
 * as a forked child has the file open, or, before Linux 6.7, a command is pending.
 */
static int mote_flush(struct file *file, fl_owner_t id)
{
	struct mote_node *node = file->private_data;

	/* acquire: see mote_node_check() */
	if (smp_load_acquire(&node->state) == MOTE_NEW || id != node->owner)
		return 0;
	mote_worker_leave(node);
	mote_node_die(node);
	return 0;
}

static int mote_release(struct inode *inode, struct file *file)
{
	struct mote_node *node = file->private_data;

	/* Set up by a table that never had it: one that was given the file by io_uring, say. */
	mote_node_die(node);
	mote_node_put(node);
	return 0;
}

static void mote_show_fdinfo(struct seq_file *m, struct file *file)
{
	static const char *const states[] = { "new", "live", "dead" };
	struct mote_node *node = file->private_data;
	struct mote_tie *tie;
	unsigned long id;

	mutex_lock(&mote_mutex);
	seq_printf(m, "mote-state:\t%s\n", states[node->state]);
	if (node->state == MOTE_LIVE) {
		seq_printf(m, "mote-node:\t%u\nmote-name:\t%s\nmote-slots:\t%u\n", node->id,
			   node->name, node->nr_slots);
		seq_printf(m, "mote-events:\t%u\nmote-workers:\t%u\nmote-written:\t%u\n",
			   READ_ONCE(node->events.nr), node->activation.nr_workers,
			   node->nr_written);
		xa_for_each(&node->ties, id, tie)
			seq_printf(m, "mote-tie:\tnode %lu lanes %u watched %d\n", id, tie->lanes,
				   tie->watched || tie->watched_all);
	}
	mutex_unlock(&mote_mutex);
}

static const struct file_operations mote_operations = {
	.owner = THIS_MODULE,
	.open = mote_open,
	.flush = mote_flush,
	.release = mote_release,
	.unlocked_ioctl = mote_ioctl,
	.read_iter = mote_read_iter,
	.poll = mote_poll,
	.mmap = mote_mmap,
	.uring_cmd = mote_uring,
	.show_fdinfo = mote_show_fdinfo,
};

static struct miscdevice mote_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "mote",
	.mode = 0666,
	.fops = &mote_operations,
};

static int __init mote_init(void)
{
	int err = mote_activate_start();

	if (err)
		return err;
	err = misc_register(&mote_device);
	if (err)
		mote_activate_exit();
	return err;
}

static void __exit mote_exit(void)
{
	misc_deregister(&mote_device);
	mote_activate_exit();
	/* Nodes are freed by RCU. */
	rcu_barrier();
}

module_init(mote_init);
module_exit(mote_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Lanes, bells and death notices between runtimes of lightweight processes");
