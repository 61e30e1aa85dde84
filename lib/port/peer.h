/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/peer.h: a peer of the user port: its carrier, and the descriptors and memory behind it. Made, changed and freed by
 * the port's thread alone; others read what does not change while the carrier is up, and ring.
 */
#ifndef PORT_PEER_H
#define PORT_PEER_H

#include "port/bell.h"
#include "port/carrier.h"
#include "port/handshake.h"
#include "port/segment.h"

enum peer_state {
	CALLING,			/* we do, from time to time */
	GREETED,			/* we have, and it is to answer */
	ACCEPTED,			/* it has connected, and is to greet */
	WELCOMED,			/* it was, and is to be ready */
	STANDING,
	OVER,				/* until core releases it */
	DEAD,				/* to be freed when the thread has looked at all events */
};

struct peer {
	struct carrier c;		/* first */
	_Atomic(struct peer *) next;	/* atomic: a forked child walks the list, in whatever state that was */
	enum peer_state state;
	int sock, pidfd;		/* or -1 */
	int bell_fd;			/* that the peer rings */
	int peer_bell_fd;		/* stays open until nobody can ring any more */
	const struct bell *peer_bell;
	_Atomic uint64_t rung;		/* its word when we last rang */
	struct segment writer, reader;	/* ours */
	struct segment peer_writer, peer_reader, peer_bells;
	int64_t deadline, again;	/* of the handshake: ms of CLOCK_MONOTONIC */
	struct request *requests;	/* answered by how that ends */
};

int peers_start(void);			/* 0 or -errno */
void peers_stop(void);			/* frees all, without an answer */
void peers_forget(void);		/* in a forked child: closes what they have */

/*
 * The epoll of the port's thread. An event's data is what it was watched with; of a peer its address, with the lowest bit
 * set if it is its pidfd. None comes of a peer that has been hung up on, but those that were taken out before.
 */
int peers_epoll(void);
int peers_watch(int fd, uint64_t data);
int peer_watch_both(struct peer *p);

struct peer *peer_first(void);
struct peer *peer_next(struct peer *p);
struct peer *peer_find(uint32_t node, const struct peer *but);	/* not a dead one */

struct peer *peer_new(enum peer_state state, int64_t deadline);	/* NULL: no memory, or too many */
void peer_hang_up(struct peer *p);	/* nothing is heard of it any more, and it cannot ring */
void peer_strip(struct peer *p);	/* back to how it was made */
void peer_drop(struct peer *p);		/* DEAD */
void peer_fail(struct peer *p, int err);	/* answers its requests, and drops it */
void peers_bury(void);			/* frees the dead. Nobody looks at them any more */

void requests_move(struct peer *to, struct peer *from);

/*
 * Our part of a connection, and the message that offers it. Two of the descriptors are new, FD_WRITER and FD_READER, and
 * to be closed when it was sent. 0 or -errno.
 */
int peer_equip(struct peer *p, struct message *m, int fds[MESSAGE_FDS]);

/* The peer's part of it. Takes what it needs of fds. -EPROTO: what it offers is no connection. */
int peer_adopt(struct peer *p, const struct message *m, int fds[MESSAGE_FDS]);

/* Both sides count on it from now on: answers the requests. */
void peer_stand(struct peer *p);

/* port_ops.ring */
void peer_ring(struct carrier *c);

#endif
