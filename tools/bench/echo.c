/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* echo: a TCP echo server, one process per connection, under load from another OS process on another CPU. */
#include "bench.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int port_pipe[2];

static void connection(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char buf[4096];
	ssize_t n;

	while ((n = mote_net_recv(fd, buf, sizeof(buf), MOTE_FOREVER)) > 0) {
		if (mote_net_send(fd, buf, n, MOTE_FOREVER) != n)
			break;
	}
}

static void acceptor(void *arg)
{
	struct mote_addr addr;
	unsigned short port;
	int listener;

	(void)arg;
	mote_addr_parse(&addr, "127.0.0.1:0");
	listener = mote_net_listen(&addr, 0);
	bench_check(listener >= 0 && !mote_net_local(listener, &addr), "the server listens");
	port = ntohs(((struct sockaddr_in *)&addr.sa)->sin_port);
	bench_check(write(port_pipe[1], &port, sizeof(port)) == sizeof(port), "the port is told");
	for (;;) {
		int fd = mote_net_accept(listener, NULL, MOTE_FOREVER);
		mote_pid pid;

		bench_check(fd >= 0, "a connection is accepted");
		pid = mote_spawn(connection, (void *)(intptr_t)fd);
		bench_check(mote_fd_give(fd, pid) == 0, "a connection is handed on");
	}
}

static void echo_depth(int depth)
{
	unsigned short port;
	pid_t server;

	bench_check(pipe(port_pipe) == 0, "a pipe");
	server = fork();
	bench_check(server >= 0, "fork");
	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bench_pin(bench_server_cpu(), bench_server_cpu());
		_exit(mote_run(acceptor, NULL, NULL) != 0);
	}
	bench_pin(bench_load_cpu(), bench_load_cpu());
	close(port_pipe[1]);
	bench_check(read(port_pipe[0], &port, sizeof(port)) == sizeof(port), "the server starts");
	close(port_pipe[0]);
	bench_load_echo(server, port, depth);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
}

static void echo(void)
{
	echo_depth(1);
	echo_depth(16);
}

const struct bench bench_echo[] = {
	{ .name = "echo", .host = echo },
	{ 0 },
};
