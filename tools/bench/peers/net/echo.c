/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* The least an echo server can be: one thread, epoll, level-triggered. Prints its port. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void take(int ep, int listener)
{
	int fd = accept(listener, NULL, NULL), one = 1;
	struct epoll_event e = { .events = EPOLLIN, .data.fd = fd };

	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e))
		close(fd);
}

static void echo(int fd)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n <= 0 || write(fd, buf, n) != n)
		close(fd);
}

int main(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), ep = epoll_create1(0);
	struct epoll_event e = { .events = EPOLLIN, .data.fd = listener }, ev[64];
	socklen_t len = sizeof(a);

	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) || listen(listener, 1024) ||
	    getsockname(listener, (struct sockaddr *)&a, &len) || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e)) {
		perror("echo");
		return 1;
	}
	printf("port %d\n", ntohs(a.sin_port));
	fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, ev, 64, -1);

		for (int i = 0; i < n; i++) {
			if (ev[i].data.fd == listener)
				take(ep, listener);
			else
				echo(ev[i].data.fd);
		}
	}
}
