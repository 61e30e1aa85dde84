/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/pubsub.h: messages to all who subscribe to a topic, on this node and on those that are connected. It is
 * Phoenix.PubSub, made of a registry (mote/registry.h) and a group of processes (mote/pg.h): what is broadcast
 * arrives at most once per subscription, and in order from one broadcaster to one subscriber.
 *
 * A pubsub is known by its name, the same on all nodes; a handle stays good while it is started again. When it does not
 * run here, functions say -ESRCH. A topic is any text.
 */
#ifndef MOTE_PUBSUB_H
#define MOTE_PUBSUB_H

#include <mote/base.h>
#include <mote/node.h>
#include <mote/supervisor.h>

MOTE_BEGIN_DECLS

struct mote_pubsub;

/*
 * The pubsub of that name (up to 240 bytes), whether it runs or not: always the same pointer, good until the program
 * ends. NULL with mote_errno(): -EINVAL, -ENOMEM. Any thread.
 */
MOTE_API struct mote_pubsub *mote_pubsub_named(const char *name);

/*
 * Starts one, linked to the caller. 0, with *pid (may be NULL); -EEXIST: the name is taken, *pid is its holder;
 * -EINVAL,
 * -EAGAIN, -ENOMEM. Follows Phoenix.PubSub's start_link/1.
 */
MOTE_API int mote_pubsub_start_link(const char *name, mote_pid *pid);

/* For a supervisor; the name must outlive it. */
MOTE_API struct mote_child_spec mote_pubsub_child(const char *name);

/*
 * Subscribes the caller: until it ends, unsubscribes, or the pubsub ends, and it with that, unless it traps exits.
 * Twice subscribed gets all twice. 0; -ESRCH, -EINVAL, -ENOMEM. Follows subscribe/2.
 */
MOTE_API int mote_pubsub_subscribe(struct mote_pubsub *p, const char *topic);

/* Ends all of the caller's subscriptions to the topic. How many they were; -ESRCH, -EINVAL. Follows unsubscribe/2. */
MOTE_API int64_t mote_pubsub_unsubscribe(struct mote_pubsub *p, const char *topic);

/*
 * Send a copy of a message to all subscribers: on all nodes; _from: but for one process; _local: on this node; _on:
 * on one node. To those of this node it comes as by mote_send(), and waits likewise for room in a mailbox with a
 * limit; on others m->from is a process of the pubsub there, and who has no room goes without, as does everywhere
 * whose mailbox refuses it. 0; -ESRCH, -EINVAL (a type that is not below MOTE_MSG_SYSTEM), -EMSGSIZE, -ENOMEM; _on:
 * -ENETUNREACH: it does not run there, as far as is known. Follow broadcast/3, broadcast_from/4, local_broadcast/3,
 * local_broadcast_from/4, direct_broadcast/4.
 */
MOTE_API int mote_pubsub_broadcast(struct mote_pubsub *p, const char *topic, uint32_t type, const void *data,
				   size_t size);
MOTE_API int mote_pubsub_broadcast_from(struct mote_pubsub *p, mote_pid from, const char *topic, uint32_t type,
					const void *data, size_t size);
MOTE_API int mote_pubsub_local(struct mote_pubsub *p, const char *topic, uint32_t type, const void *data, size_t size);
MOTE_API int mote_pubsub_local_from(struct mote_pubsub *p, mote_pid from, const char *topic, uint32_t type,
				    const void *data, size_t size);
MOTE_API int mote_pubsub_on(struct mote_pubsub *p, mote_node node, const char *topic, uint32_t type, const void *data,
			    size_t size);

MOTE_END_DECLS

#endif
