/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/net.h: sockets. Only the calling process waits. Each direction of a socket is for one process at a time:
 * a second one that reads while another does gets -EBUSY, likewise writes.
 */
#ifndef MOTE_NET_H
#define MOTE_NET_H

#include <mote/base.h>
#include <mote/message.h>
#include <sys/socket.h>
#include <sys/uio.h>

MOTE_BEGIN_DECLS

struct mote_addr {
	socklen_t len;			/* bytes of sa that are valid */
	struct sockaddr_storage sa;
};

/*
 * Parses "127.0.0.1:6379", "[::1]:6379", ":6379" (any address), "unix:/path", "unix:@abstract". No name is
 * resolved. 0 or -EINVAL. Any thread.
 */
MOTE_API int mote_addr_parse(struct mote_addr *addr, const char *text);

/* Writes it in the same form. Returns the length like snprintf, or -EINVAL. Any thread. */
MOTE_API int mote_addr_format(const struct mote_addr *addr, char *buf, size_t size);

/*
 * Resolves a host name (getaddrinfo on a thread of its own): fills up to max addresses with the given port;
 * returns how many, -ENOENT (no such host), -EAGAIN (try again), -EIO.
 */
MOTE_API int mote_resolve(const char *host, unsigned short port, struct mote_addr *addrs, int max,
			  mote_deadline deadline);

/*
 * A listening stream socket (SO_REUSEADDR; a stale Unix path is replaced); the caller owns it. backlog 0: 4096.
 * Returns fd or -errno. Waits up to a quarter of a second for an address that is in use: the listening socket of a
 * program that was killed outlives it by some milliseconds.
 */
MOTE_API int mote_net_listen(const struct mote_addr *addr, int backlog);

/* The next connection, TCP_NODELAY set; the caller owns it. peer may be NULL. Any number of processes may
 * accept on one socket. Returns fd; -EMFILE and -ENFILE when descriptors ran out (the connection waits). */
MOTE_API int mote_net_accept(int fd, struct mote_addr *peer, mote_deadline deadline);

/* A connected stream socket (TCP_NODELAY); the caller owns it. Returns fd or -errno. */
MOTE_API int mote_net_connect(const struct mote_addr *addr, mote_deadline deadline);

/* Receives what there is, at least one byte. Returns bytes, 0 at the end of the stream, -errno. */
MOTE_API ssize_t mote_net_recv(int fd, void *buf, size_t size, mote_deadline deadline);

/*
 * Sends all of it. Returns the number of bytes, or -errno; after an error or -ETIMEDOUT part of it may have
 * gone out: the stream is of no more use. Never raises SIGPIPE. _v: at most 1,024 pieces, borrowed.
 */
MOTE_API ssize_t mote_net_send(int fd, const void *buf, size_t size, mote_deadline deadline);
MOTE_API ssize_t mote_net_sendv(int fd, const struct iovec *iov, int n, mote_deadline deadline);

/*
 * Sends a message's data and frees it: takes m, returns at once. Several go out in order, and before anything that
 * mote_net_send() is given later. Up to 1 MiB may be under way per descriptor; beyond that it waits. An error of
 * an earlier one is returned by the next call on fd.
 */
MOTE_API int mote_net_send_msg(int fd, struct mote_msg *m, mote_deadline deadline);

/* Datagrams. addr NULL: any port, of the family given. Returns fd. */
MOTE_API int mote_net_udp(int family, const struct mote_addr *addr);
MOTE_API ssize_t mote_net_recvfrom(int fd, void *buf, size_t size, struct mote_addr *from, mote_deadline deadline);
MOTE_API ssize_t mote_net_sendto(int fd, const void *buf, size_t size, const struct mote_addr *to,
				 mote_deadline deadline);

/* shutdown(2): how is SHUT_RD, SHUT_WR or SHUT_RDWR. */
MOTE_API int mote_net_shutdown(int fd, int how);

/* The address of this end, of the other end. 0 or -errno. */
MOTE_API int mote_net_local(int fd, struct mote_addr *addr);
MOTE_API int mote_net_peer(int fd, struct mote_addr *addr);

MOTE_END_DECLS

#endif
