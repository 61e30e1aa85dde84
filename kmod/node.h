/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A node is an open file that was set up: one OS process's runtime. Its life goes NEW, LIVE, DEAD,
 * never back. It is dead as soon as the process that set it up closes the file, exits or execs;
 * the structure stays for as long as somebody refers to it.
 *
 * mote_mutex protects everything that is rare: births and deaths, ties, lanes, workers, users'
 * counts. It is taken under mmap_lock, so user memory is never touched under it. Ringing takes
 * RCU and the bell's lock only; events have a lock of their own.
 */
#ifndef _MOTE_NODE_H
#define _MOTE_NODE_H

#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/xarray.h>

#include "activate.h"
#include "bell.h"
#include "event.h"

extern struct mutex mote_mutex;

#define MOTE_ID_MAX	0x7fffffff	/* of nodes and lanes: MOTE_MAP() has 31 bits for it */

enum mote_state { MOTE_NEW, MOTE_LIVE, MOTE_DEAD };

/* What a user has, over all of its nodes; protected by mote_mutex. */
struct mote_user {
	struct list_head link;
	kuid_t uid;
	unsigned int refs;
	unsigned int nodes;
	u64 bytes;
};

struct mote_node {
	/* What ringing and waiting look at; constant from LIVE on, but for state. */
	enum mote_state state;
	u32 id;
	u32 nr_slots;
	u32 event_slot;
	struct mm_struct *mm;		/* a reference, so that no other mm has its address */
	struct mote_bell_slot *bells;
	struct xarray ties;		/* by the target's id */

	struct mote_bells *shared;	/* MOTE_AREA_BELLS */
	size_t shared_size;
	fl_owner_t owner;		/* the descriptor table that set it up; compared only */
	const struct cred *cred;
	struct pid *pid;
	struct mote_user *user;
	u32 mode;
	char name[MOTE_NAME_SIZE];
	refcount_t refs;
	struct rcu_head rcu;

	/* protected by mote_mutex */
	struct list_head tied;		/* ties whose target it is */
	struct list_head written, read;	/* lanes, as long as its end is open */
	unsigned int nr_written;
	struct list_head watchers_link;
	u32 why;			/* it is dead, */
	u64 code;

	struct mote_events events;
	struct mote_activation activation;
};

/*
 * What one node has to do with another: shares lanes, or watches it. Exists as long as one of
 * these holds, or its death is still to be read. Fields are protected by mote_mutex; ringing
 * reads target and lanes under RCU.
 */
struct mote_tie {
	struct mote_node *target;	/* a reference */
	unsigned int lanes;		/* open ends that the watcher has, of lanes between them */
	unsigned int opened;		/* those that it writes */
	bool watched, watched_all;
	bool up_told, down_told;
	struct mote_node *watcher;
	struct list_head target_link;
	struct mote_notice up, down;
	struct rcu_head rcu;
};

struct mote_node *mote_node_new(void);
void mote_node_put(struct mote_node *node);

static inline struct mote_node *mote_node_get(struct mote_node *node)
{
	refcount_inc(&node->refs);
	return node;
}

/* 0, if the calling process may use node: it has set it up, and it lives. */
static inline int mote_node_check(const struct mote_node *node)
{
	/* acquire: pairs with the release in node_publish(): everything else is set */
	enum mote_state state = smp_load_acquire(&node->state);

	if (unlikely(state != MOTE_LIVE))
		return state == MOTE_NEW ? -ENXIO : -ESHUTDOWN;
	return likely(node->mm == current->mm) ? 0 : -EPERM;
}

long mote_node_setup(struct mote_node *node, void __user *arg);
long mote_node_find(struct mote_node *node, void __user *arg);
long mote_node_list(struct mote_node *node, void __user *arg);
long mote_node_watch(struct mote_node *node, void __user *arg);

/* The owner has let go of it: tells everybody. Nothing if it was not LIVE. */
void mote_node_die(struct mote_node *node);

/* Under mote_mutex: the live node of that id, or NULL. */
struct mote_node *mote_node_by_id(u32 id);
bool mote_node_may_reach(struct mote_node *from, struct mote_node *to);

/* Under mote_mutex. get: makes one if need be; ERR_PTR. tidy: frees it if it serves no purpose. */
struct mote_tie *mote_tie_get(struct mote_node *watcher, struct mote_node *target);
struct mote_tie *mote_tie_find(struct mote_node *watcher, const struct mote_node *target);
void mote_tie_tidy(struct mote_tie *tie);

/* After the watcher has read that node id is dead. */
void mote_tie_read_down(struct mote_node *watcher, u32 id);

/* 0 or -EDQUOT. */
int mote_user_charge(struct mote_user *user, u64 bytes);
void mote_user_uncharge(struct mote_user *user, u64 bytes);
/* Under mote_mutex. */
struct mote_user *mote_user_get(kuid_t uid);
void mote_user_put(struct mote_user *user);

/* main.c: the limits, and what all calls share. */
extern unsigned int mote_nodes_max, mote_nodes_per_user, mote_lanes_per_node, mote_lanes_per_peer;
extern unsigned int mote_mbytes_per_user, mote_activate_delay_us;

/*
 * Copies a structure in that begins with its size: least is what version 1 had of it. What is
 * missing at the end is zero; what is beyond must be.
 */
int mote_copy_in(void *to, size_t size, size_t least, const void __user *from);
/* Copies it back, as much as the caller has. */
int mote_copy_out(void __user *to, const void *from, size_t size, u32 caller_size);

#endif
