/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/handshake.h: what two nodes of the user port say to each other over a socket (SOCK_SEQPACKET, one message a
 * packet), until records take over, and at the end. Nothing here waits.
 *
 *	caller				callee
 *	HELLO, descriptors ->
 *					<- WELCOME, descriptors; or AGAIN: later; or BYE
 *	READY ->
 *	...				...
 *	BYE ->				<- BYE
 *
 * The caller counts on the connection from READY on, the callee from then: so both do, or neither, or one has died.
 *
 * Which node, and of what name, a process of the same user says it is, is believed: it could as well debug the real one.
 */
#ifndef PORT_HANDSHAKE_H
#define PORT_HANDSHAKE_H

#include "port/port.h"

enum message_kind { MESSAGE_HELLO = 1, MESSAGE_WELCOME, MESSAGE_READY, MESSAGE_AGAIN, MESSAGE_BYE };

/* Of one shape, and always whole: there are few of them. */
struct message {
	uint32_t magic;				/* set by message_send() */
	uint32_t kind;
	uint32_t node;				/* HELLO, WELCOME: who speaks */
	uint32_t slots;				/* how many bells it has */
	uint32_t home;				/* which of them to ring */
	uint32_t why;				/* BYE: enum port_end, as the receiver is to see it */
	uint64_t data;				/* bytes of either lane */
	char name[PORT_NAME_MAX + 1];
	char text[128];				/* BYE: for people */
};

/* What goes along with HELLO and WELCOME. */
enum message_fd {
	FD_WRITER,				/* segment: producer page and data of the lane from here to there */
	FD_READER,				/* segment: consumer page of the lane from there to here */
	FD_BELLS,				/* segment: all bells of the speaker */
	FD_RING,				/* eventfd, made for the other one alone: wakes home */
	MESSAGE_FDS
};

/* fds: NULL, or MESSAGE_FDS of them, which stay the caller's. 0 or -errno. */
int message_send(int sock, struct message *m, const int *fds);

/*
 * 0: fds[] are new descriptors, or all -1. -EAGAIN: nothing there; -EPIPE: the other side is gone, and all that it said
 * has been read; -EPROTO: what came is no message of ours.
 */
int message_receive(int sock, struct message *m, int fds[MESSAGE_FDS]);

/* An OS process of this user's is at the other end of sock: a pidfd of it, or -errno. -EACCES: of another user's. */
int peer_watch(int sock);

/* Whether fd is an eventfd: writing to it waits for nobody's file system. */
bool is_eventfd(int fd);

#endif
