// SPDX-License-Identifier: GPL-2.0
/* Nodes: birth, death, names, and who may reach whom. */
#include "node.h"
#include "compat.h"
#include "lane.h"
#include "trace.h"

#include <linux/ctype.h>
#include <linux/pid_namespace.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* Of everything below, and of what node.h says. */
DEFINE_MUTEX(mote_mutex);

static DEFINE_XARRAY(nodes);		/* LIVE ones, by id */
static unsigned int nr_nodes;
static u32 last_id;
static LIST_HEAD(users);
static LIST_HEAD(watchers);		/* of all that they may reach */

struct mote_user *mote_user_get(kuid_t uid)
{
	struct mote_user *user;

	lockdep_assert_held(&mote_mutex);
	list_for_each_entry(user, &users, link) {
		if (uid_eq(user->uid, uid)) {
			user->refs++;
			return user;
		}
	}
	user = kzalloc(sizeof(*user), GFP_KERNEL);
	if (!user)
		return NULL;
	user->uid = uid;
	user->refs = 1;
	list_add(&user->link, &users);
	return user;
}

void mote_user_put(struct mote_user *user)
{
	lockdep_assert_held(&mote_mutex);
	if (--user->refs)
		return;
	list_del(&user->link);
	kfree(user);
}

int mote_user_charge(struct mote_user *user, u64 bytes)
{
	lockdep_assert_held(&mote_mutex);
	if (user->bytes + bytes > (u64)mote_mbytes_per_user << 20)
		return -EDQUOT;
	user->bytes += bytes;
	return 0;
}

void mote_user_uncharge(struct mote_user *user, u64 bytes)
{
	lockdep_assert_held(&mote_mutex);
	user->bytes -= bytes;
}

struct mote_node *mote_node_new(void)
{
	struct mote_node *node = kzalloc(sizeof(*node), GFP_KERNEL_ACCOUNT);

	if (!node)
		return NULL;
	refcount_set(&node->refs, 1);
	xa_init(&node->ties);
	INIT_LIST_HEAD(&node->tied);
	INIT_LIST_HEAD(&node->written);
	INIT_LIST_HEAD(&node->read);
	INIT_LIST_HEAD(&node->watchers_link);
	mote_events_init(&node->events);
	mote_activation_init(&node->activation);
	return node;
}

static void node_free(struct rcu_head *rcu)
{
	struct mote_node *node = container_of(rcu, struct mote_node, rcu);

	/* What is mapped stays until it is unmapped: page by page, by reference. */
	if (node->shared)
		free_pages_exact(node->shared, node->shared_size);
	kfree(node->bells);
	kfree(node);
}

void mote_node_put(struct mote_node *node)
{
	if (!refcount_dec_and_test(&node->refs))
		return;
	if (node->mm)
		mmdrop(node->mm);
	put_cred(node->cred);
	put_pid(node->pid);
	/* Who rings may have found it a moment ago. */
	call_rcu(&node->rcu, node_free);
}

/* groups_search() is not exported. */
static bool cred_has_group(const struct cred *cred, kgid_t gid)
{
	int i;

	if (gid_eq(cred->egid, gid))
		return true;
	for (i = 0; i < cred->group_info->ngroups; i++)
		if (gid_eq(cred->group_info->gid[i], gid))
			return true;
	return false;
}

bool mote_node_may_reach(struct mote_node *from, struct mote_node *to)
{
	const struct cred *owner = to->cred, *cred = from->cred;
	struct mote_tie *tie = mote_tie_find(to, from);

	/* It is being answered. */
	if (tie && tie->opened)
		return true;
	if (uid_eq(cred->euid, owner->euid) && cred->user_ns == owner->user_ns)
		return true;
	if (cred_has_group(cred, owner->egid))
		return to->mode & 0060;
	return to->mode & 0006;
}

struct mote_node *mote_node_by_id(u32 id)
{
	lockdep_assert_held(&mote_mutex);
	return xa_load(&nodes, id);
}

static struct mote_node *node_by_name(kuid_t uid, const struct user_namespace *ns,
				      const char *name)
{
	struct mote_node *node;
	unsigned long id;

	xa_for_each(&nodes, id, node)
		if (uid_eq(node->cred->euid, uid) && node->cred->user_ns == ns &&
		    !strcmp(node->name, name))
			return node;
	return NULL;
}

/* 0, or -EINVAL. The rest of the array must be zero, so that it can mean something one day. */
static int name_check(const char name[MOTE_NAME_SIZE])
{
	size_t length = strnlen(name, MOTE_NAME_SIZE), i;

	if (length == MOTE_NAME_SIZE || memchr_inv(name + length, 0, MOTE_NAME_SIZE - length))
		return -EINVAL;
	for (i = 0; i < length; i++)
		if (!isascii(name[i]) || (!isalnum(name[i]) && !strchr("_.-", name[i])))
			return -EINVAL;
	return 0;
}

struct mote_tie *mote_tie_find(struct mote_node *watcher, const struct mote_node *target)
{
	lockdep_assert_held(&mote_mutex);
	return xa_load(&watcher->ties, target->id);
}

struct mote_tie *mote_tie_get(struct mote_node *watcher, struct mote_node *target)
{
	struct mote_tie *tie = mote_tie_find(watcher, target);
	int err;

	if (tie)
		return tie;
	tie = kzalloc(sizeof(*tie), GFP_KERNEL_ACCOUNT);
	if (!tie)
		return ERR_PTR(-ENOMEM);
	tie->watcher = watcher;
	tie->target = mote_node_get(target);
	tie->up.event.node = target->id;
	tie->down.event.node = target->id;
	mote_notice_init(&tie->up);
	mote_notice_init(&tie->down);
	err = xa_insert(&watcher->ties, target->id, tie, GFP_KERNEL_ACCOUNT);
	if (err) {
		mote_node_put(target);
		kfree(tie);
		return ERR_PTR(err);
	}
	list_add(&tie->target_link, &target->tied);
	return tie;
}

static void tie_free(struct mote_tie *tie)
{
	mote_notice_drop(tie->watcher, &tie->up);
	mote_notice_drop(tie->watcher, &tie->down);
	xa_erase(&tie->watcher->ties, tie->target->id);
	list_del(&tie->target_link);
	mote_node_put(tie->target);
	kfree_rcu(tie, rcu);
}

void mote_tie_tidy(struct mote_tie *tie)
{
	lockdep_assert_held(&mote_mutex);
	/* Who reads the event at this moment comes here again afterwards. */
	if (!tie->lanes && !tie->watched && !tie->watched_all &&
	    list_empty_careful(&tie->down.link))
		tie_free(tie);
}

void mote_tie_read_down(struct mote_node *watcher, u32 id)
{
	struct mote_tie *tie;

	mutex_lock(&mote_mutex);
	tie = xa_load(&watcher->ties, id);
	if (tie)
		mote_tie_tidy(tie);
	mutex_unlock(&mote_mutex);
}

/* Has watcher, who watches all, know of target. */
static void tie_tell_up(struct mote_tie *tie)
{
	tie->watched_all = true;
	if (tie->up_told)
		return;
	tie->up_told = true;
	mote_notice_post(tie->watcher, &tie->up, MOTE_EVENT_NODE_UP);
}

/* It will not be born. */
static void node_detach(struct mote_node *node)
{
	struct mote_tie *tie, *next;

	list_for_each_entry_safe(tie, next, &node->tied, target_link)
		tie_free(tie);
}

/* Ties to a node that is being born, for those who watch all. 0 or -errno, with none left. */
static int node_attach(struct mote_node *node)
{
	struct mote_node *watcher;
	struct mote_tie *tie;

	list_for_each_entry(watcher, &watchers, watchers_link) {
		if (!mote_node_may_reach(watcher, node))
			continue;
		tie = mote_tie_get(watcher, node);
		if (IS_ERR(tie)) {
			node_detach(node);
			return PTR_ERR(tie);
		}
	}
	return 0;
}

/* Under mote_mutex: everything but its own memory. 0 or -errno, with nothing changed. */
static int node_admit(struct mote_node *node)
{
	const struct cred *cred = node->cred;
	int err;

	if (nr_nodes >= mote_nodes_max || node->user->nodes >= mote_nodes_per_user)
		return -EUSERS;
	if (node->name[0] && node_by_name(cred->euid, cred->user_ns, node->name))
		return -EEXIST;
	if (last_id == MOTE_ID_MAX)
		return -EOVERFLOW;
	err = mote_user_charge(node->user, node->shared_size);
	if (err)
		return err;
	node->id = last_id + 1;
	err = node_attach(node);
	if (!err) {
		err = xa_insert(&nodes, node->id, node, GFP_KERNEL_ACCOUNT);
		if (err)
			node_detach(node);
	}
	if (err) {
		mote_user_uncharge(node->user, node->shared_size);
		return err;
	}
	last_id = node->id;
	nr_nodes++;
	node->user->nodes++;
	return 0;
}

/* Undoes node_prepare(); the file is as good as new. */
static void node_strip(struct mote_node *node)
{
	free_pages_exact(node->shared, node->shared_size);
	kfree(node->bells);
	mmdrop(node->mm);
	put_cred(node->cred);
	put_pid(node->pid);
	node->shared = NULL;
	node->bells = NULL;
	node->mm = NULL;
	node->cred = NULL;
	node->pid = NULL;
}

static int node_prepare(struct mote_node *node, const struct mote_setup *setup)
{
	node->nr_slots = setup->nr_slots;
	node->event_slot = setup->event_slot;
	node->mode = setup->mode;
	memcpy(node->name, setup->name, MOTE_NAME_SIZE);
	node->shared_size = PAGE_ALIGN(struct_size(node->shared, bell, setup->nr_slots));
	node->shared = alloc_pages_exact(node->shared_size, GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	if (!node->shared)
		return -ENOMEM;
	node->bells = mote_bells_new(setup->nr_slots, node->shared);
	if (!node->bells) {
		free_pages_exact(node->shared, node->shared_size);
		node->shared = NULL;
		return -ENOMEM;
	}
	node->owner = current->files;
	node->mm = current->mm;
	mmgrab(node->mm);
	node->cred = get_current_cred();
	node->pid = get_pid(task_tgid(current));
	return 0;
}

/* From here on it can be seen. */
static void node_publish(struct mote_node *node)
{
	struct mote_tie *tie;

	node->shared->node = node->id;
	node->shared->nr_slots = node->nr_slots;
	/* release: pairs with the acquire in mote_node_check() */
	smp_store_release(&node->state, MOTE_LIVE);
	list_for_each_entry(tie, &node->tied, target_link)
		tie_tell_up(tie);
	trace_mote_node_up(node->id, node->nr_slots);
}

static int node_setup(struct mote_node *node, const struct mote_setup *setup)
{
	int err;

	lockdep_assert_held(&mote_mutex);
	if (node->state != MOTE_NEW)
		return node->state == MOTE_LIVE ? -EBUSY : -ESHUTDOWN;
	err = node_prepare(node, setup);
	if (err)
		return err;
	node->user = mote_user_get(node->cred->euid);
	if (node->user) {
		err = node_admit(node);
		if (!err) {
			node_publish(node);
			return 0;
		}
		mote_user_put(node->user);
	} else {
		err = -ENOMEM;
	}
	node_strip(node);
	return err;
}

long mote_node_setup(struct mote_node *node, void __user *arg)
{
	struct mote_setup setup;
	int err = mote_copy_in(&setup, sizeof(setup), sizeof(setup), arg);

	if (err)
		return err;
	if (setup.flags || !setup.nr_slots || setup.nr_slots > MOTE_SLOTS_MAX ||
	    (setup.mode & ~0066) != 0600 || (setup.mode & 0060) % 0060 ||
	    (setup.mode & 0006) % 0006 || name_check(setup.name) ||
	    (setup.event_slot >= setup.nr_slots && setup.event_slot != MOTE_NO_SLOT))
		return -EINVAL;
	mutex_lock(&mote_mutex);
	err = node_setup(node, &setup);
	mutex_unlock(&mote_mutex);
	if (err)
		return err;
	setup.node = node->id;
	err = mote_copy_out(arg, &setup, sizeof(setup), setup.size);
	if (err)
		mote_node_die(node);
	return err;
}

void mote_node_die(struct mote_node *node)
{
	struct mote_tie *tie, *next;
	unsigned long id;
	LIST_HEAD(graves);

	mutex_lock(&mote_mutex);
	if (node->state != MOTE_LIVE) {
		mutex_unlock(&mote_mutex);
		return;
	}
	/* Before what follows: who waits or posts looks at it under the locks taken below. */
	WRITE_ONCE(node->state, MOTE_DEAD);
	if (current->flags & PF_EXITING) {
		node->why = MOTE_DOWN_EXIT;
		node->code = current->signal->flags & SIGNAL_GROUP_EXIT ?
			     current->signal->group_exit_code : current->exit_code;
	} else {
		node->why = current->in_execve ? MOTE_DOWN_EXEC : MOTE_DOWN_CLOSED;
	}
	WRITE_ONCE(node->shared->down, node->why);
	xa_erase(&nodes, node->id);
	nr_nodes--;
	list_del_init(&node->watchers_link);
	list_for_each_entry_safe(tie, next, &node->tied, target_link) {
		tie->watched = false;
		tie->watched_all = false;
		tie->down.event.why = node->why;
		tie->down.event.value = node->code;
		mote_notice_post(tie->watcher, &tie->down, MOTE_EVENT_NODE_DOWN);
		mote_tie_tidy(tie);
	}
	mote_lanes_shut(node, &graves);
	xa_for_each(&node->ties, id, tie)
		tie_free(tie);
	mote_activation_shut(node);
	mote_events_shut(node);
	mote_bells_shut(node);
	node->user->nodes--;
	mote_user_uncharge(node->user, node->shared_size);
	mote_user_put(node->user);
	trace_mote_node_down(node->id, node->why);
	mutex_unlock(&mote_mutex);
	mote_lanes_bury(&graves);
}

static void node_describe(const struct mote_node *node, struct mote_node_desc *desc)
{
	lockdep_assert_held(&mote_mutex);
	memset(desc, 0, sizeof(*desc));
	desc->size = sizeof(*desc);
	desc->node = node->id;
	desc->uid = from_kuid_munged(current_user_ns(), node->cred->euid);
	desc->pid = pid_nr_ns(node->pid, task_active_pid_ns(current));
	desc->mode = node->mode;
	desc->nr_slots = node->nr_slots;
	memcpy(desc->name, node->name, MOTE_NAME_SIZE);
}

static bool node_sees(struct mote_node *node, struct mote_node *other)
{
	return node == other || mote_node_may_reach(node, other);
}

long mote_node_find(struct mote_node *node, void __user *arg)
{
	struct mote_node_desc desc;
	struct mote_node *found = NULL;
	kuid_t uid;
	u32 size;
	int err = mote_copy_in(&desc, sizeof(desc), sizeof(desc), arg);

	if (!err)
		err = mote_node_check(node);
	if (err)
		return err;
	if (desc.flags || desc.reserved || name_check(desc.name) ||
	    (!desc.node && !desc.name[0]))
		return -EINVAL;
	size = desc.size;
	uid = desc.uid == MOTE_OWN_UID ? node->cred->euid :
	      make_kuid(current_user_ns(), desc.uid);
	mutex_lock(&mote_mutex);
	if (desc.node)
		found = mote_node_by_id(desc.node);
	else if (uid_valid(uid))
		found = node_by_name(uid, node->cred->user_ns, desc.name);
	if (!found)
		err = -ESRCH;
	else if (!node_sees(node, found))
		err = -EACCES;
	else
		node_describe(found, &desc);
	mutex_unlock(&mote_mutex);
	return err ? err : mote_copy_out(arg, &desc, sizeof(desc), size);
}

/* The first that node sees after *id. */
static bool node_next(struct mote_node *node, unsigned long *id, struct mote_node_desc *desc)
{
	struct mote_node *other;

	mutex_lock(&mote_mutex);
	do {
		other = xa_find_after(&nodes, id, ULONG_MAX, XA_PRESENT);
	} while (other && !node_sees(node, other));
	if (other)
		node_describe(other, desc);
	mutex_unlock(&mote_mutex);
	return other;
}

long mote_node_list(struct mote_node *node, void __user *arg)
{
	struct mote_node_desc __user *to;
	struct mote_node_desc desc;
	struct mote_node_list list;
	unsigned long id;
	u32 nr;
	int err = mote_copy_in(&list, sizeof(list), sizeof(list), arg);

	if (!err)
		err = mote_node_check(node);
	if (err)
		return err;
	if (list.flags)
		return -EINVAL;
	to = u64_to_user_ptr(list.nodes);
	id = list.after;
	for (nr = 0; nr < list.nr && node_next(node, &id, &desc); nr++) {
		if (copy_to_user(&to[nr], &desc, sizeof(desc)))
			return -EFAULT;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	list.nr = nr;
	return mote_copy_out(arg, &list, sizeof(list), list.size);
}

static int watch_one(struct mote_node *node, u32 id, bool stop)
{
	struct mote_node *target = mote_node_by_id(id);
	struct mote_tie *tie;

	if (stop) {
		tie = xa_load(&node->ties, id);
		if (!tie || !tie->watched)
			return -ENOENT;
		tie->watched = false;
		mote_tie_tidy(tie);
		return 0;
	}
	if (!target)
		return -ESRCH;
	if (target == node)
		return -EINVAL;
	if (!mote_node_may_reach(node, target))
		return -EACCES;
	tie = mote_tie_get(node, target);
	if (IS_ERR(tie))
		return PTR_ERR(tie);
	tie->watched = true;
	return 0;
}

static int watch_all(struct mote_node *node, bool stop)
{
	struct mote_node *target;
	struct mote_tie *tie;
	unsigned long id;

	if (stop) {
		if (list_empty(&node->watchers_link))
			return -ENOENT;
		list_del_init(&node->watchers_link);
		xa_for_each(&node->ties, id, tie) {
			tie->watched_all = false;
			tie->up_told = false;
			mote_notice_drop(node, &tie->up);
			mote_tie_tidy(tie);
		}
		return 0;
	}
	if (!list_empty(&node->watchers_link))
		return 0;
	xa_for_each(&nodes, id, target) {
		if (target == node || !mote_node_may_reach(node, target))
			continue;
		tie = mote_tie_get(node, target);
		if (IS_ERR(tie)) {
			list_add(&node->watchers_link, &watchers);
			watch_all(node, true);
			return PTR_ERR(tie);
		}
		tie_tell_up(tie);
	}
	list_add(&node->watchers_link, &watchers);
	return 0;
}

long mote_node_watch(struct mote_node *node, void __user *arg)
{
	struct mote_object o;
	int err = mote_copy_in(&o, sizeof(o), sizeof(o), arg);

	if (!err)
		err = mote_node_check(node);
	if (err)
		return err;
	if (o.flags & ~MOTE_WATCH_STOP || o.reserved)
		return -EINVAL;
	mutex_lock(&mote_mutex);
	/* It may have died before the lock was had. */
	err = mote_node_check(node);
	if (!err)
		err = o.id ? watch_one(node, o.id, o.flags & MOTE_WATCH_STOP) :
			     watch_all(node, o.flags & MOTE_WATCH_STOP);
	mutex_unlock(&mote_mutex);
	return err;
}
