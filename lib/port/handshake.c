// SPDX-License-Identifier: MIT OR GPL-2.0
#include "port/handshake.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAGIC		0x6d6f7432u		/* "mot2": changes with the meaning of anything shared */

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD	77			/* Linux 6.5 */
#endif

union control {
	char room[CMSG_SPACE(MESSAGE_FDS * sizeof(int))];
	struct cmsghdr align;
};

int message_send(int sock, struct message *m, const int *fds)
{
	struct iovec v = { m, sizeof(*m) };
	struct msghdr h = { .msg_iov = &v, .msg_iovlen = 1 };
	union control control;
	ssize_t n;

	m->magic = MAGIC;
	if (fds) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		h.msg_control = control.room;
		h.msg_controllen = sizeof(control.room);
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(MESSAGE_FDS * sizeof(int));
		memcpy(CMSG_DATA(c), fds, MESSAGE_FDS * sizeof(int));
	}
	n = sendmsg(sock, &h, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return n == sizeof(*m) ? 0 : -EPROTO;
}

/* Takes descriptors out of what came. False: not as many as they should be; those are closed. */
static bool fds_take(struct msghdr *h, int fds[MESSAGE_FDS])
{
	int got[MESSAGE_FDS];
	size_t n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		/* No more than there was room for: the kernel sees to that. */
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(got, CMSG_DATA(c), n * sizeof(int));
	}
	if (!(h->msg_flags & MSG_CTRUNC) && n == MESSAGE_FDS) {
		memcpy(fds, got, sizeof(got));
		return true;
	}
	for (size_t i = 0; i < n; i++)
		close(got[i]);
	return !n && !(h->msg_flags & MSG_CTRUNC);
}

int message_receive(int sock, struct message *m, int fds[MESSAGE_FDS])
{
	struct iovec v = { m, sizeof(*m) };
	union control control;
	struct msghdr h;
	ssize_t n;

	for (int i = 0; i < MESSAGE_FDS; i++)
		fds[i] = -1;
	for (int tries = 0; ; tries++) {
		h = (struct msghdr){ .msg_iov = &v, .msg_iovlen = 1,
				     .msg_control = control.room, .msg_controllen = sizeof(control.room) };
		n = recvmsg(sock, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (n >= 0)
			break;
		/* Said once, if it went without having read all of ours; what it said before comes after that. */
		if (errno == EINTR || (errno == ECONNRESET && tries < 2))
			continue;
		return errno == ECONNRESET ? -EPIPE : -errno;
	}
	if (!n)
		return -EPIPE;
	if (!fds_take(&h, fds))
		return -EPROTO;
	if (n != sizeof(*m) || h.msg_flags & MSG_TRUNC || m->magic != MAGIC)
		return -EPROTO;
	m->name[sizeof(m->name) - 1] = 0;
	m->text[sizeof(m->text) - 1] = 0;
	return 0;
}

int peer_watch(int sock)
{
	struct ucred cred;
	socklen_t n = sizeof(cred);
	int fd;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &n))
		return -errno;
	if (cred.uid != geteuid())
		return -EACCES;
	n = sizeof(fd);
	if (!getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &n))
		return fd;
	if (errno != ENOPROTOOPT)
		return errno == ESRCH || errno == EINVAL ? -EPIPE : -errno;
	/* By number: another one by now, if it has died meanwhile. Then its socket hangs up. */
	fd = (int)syscall(SYS_pidfd_open, cred.pid, 0);
	if (fd < 0)
		return errno == ESRCH ? -EPIPE : -errno;
	return fd;
}

bool is_eventfd(int fd)
{
	char path[32], target[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = 0;
	return !strcmp(target, "anon_inode:[eventfd]");
}
