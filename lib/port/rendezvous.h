/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/rendezvous.h: where the nodes of a user find each other without the module: a directory that is only his.
 *
 *	counter		the last id that was given out, and the lock of all that start
 *	NAME.node	"ID\n"; a living node holds a lock on it
 *	ID.sock		where that node listens
 *
 * The locks are the old ones of fcntl(), which belong to the OS process: it has them no longer once it is dead or has
 * exec'ed, whatever its children hold. So no descriptor of NAME.node is closed while the node lives.
 */
#ifndef PORT_RENDEZVOUS_H
#define PORT_RENDEZVOUS_H

#include "port/port.h"

struct rendezvous {
	int dir, lock;				/* -1: none */
	uint32_t id;
	char path[96], name[PORT_NAME_MAX + 1];
};

#define RENDEZVOUS_NONE	{ .dir = -1, .lock = -1 }

/* Takes the name and an id. -EEXIST; -EACCES: the directory is not ours alone; ... */
int rendezvous_take(struct rendezvous *z, const char *name);

/* A socket that listens, with the name leading to it. Or -errno. */
int rendezvous_listen(struct rendezvous *z);

/* Gives name and socket up. */
void rendezvous_leave(struct rendezvous *z);

/* In a forked child: closes what it has of it. */
void rendezvous_forget(struct rendezvous *z);

/* Which living node has the name: its id, or 0. */
uint32_t rendezvous_find(const struct rendezvous *z, const char *name);

/* Begins to connect to a node: a socket, or -errno: -ENOENT, -ECONNREFUSED: it is gone, -EAGAIN: many are before us. */
int rendezvous_call(const struct rendezvous *z, uint32_t node);

/* Any thread. */
int rendezvous_list(const struct rendezvous *z, bool (*visit)(uint32_t node, const char *name, void *arg), void *arg);

#endif
