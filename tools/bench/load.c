/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * Load from outside: measures how much CPU time a server, in another OS process on another CPU, spends per message.
 * The figure is that OS process's own CPU clock, so it does not matter how fast the load comes.
 */
#include "bench.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 64
#define MAX_DEPTH 16

struct connection {
	int fd;
	uint64_t seed;
	size_t got;
	struct bench_payload reply[MAX_DEPTH];
};

static int64_t clock_of(clockid_t id)
{
	struct timespec t;

	bench_check(clock_gettime(id, &t) == 0, "the server lives");
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int connect_to(unsigned short port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1;

	for (int tries = 0; tries < 100; tries++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (!connect(fd, (struct sockaddr *)&a, sizeof(a))) {
			setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
			return fd;
		}
		close(fd);
		usleep(50000);
	}
	return -1;
}

static void send_batch(struct connection *c, int depth)
{
	struct bench_payload out[MAX_DEPTH];
	size_t size = depth * sizeof(out[0]);

	for (int i = 0; i < depth; i++)
		out[i] = bench_payload(c->seed + 8 * i);
	c->got = 0;
	bench_check(write(c->fd, out, size) == (ssize_t)size, "a batch can be written");
}

/* True when all replies of a batch are there; they are checked. */
static bool take_replies(struct connection *c, int depth)
{
	size_t size = depth * sizeof(c->reply[0]);
	ssize_t n = read(c->fd, (char *)c->reply + c->got, size - c->got);

	bench_check(n > 0, "the server answers");
	c->got += n;
	if (c->got < size)
		return false;
	for (int i = 0; i < depth; i++)
		bench_check(bench_payload_is(&c->reply[i], c->seed + 8 * i), "the reply is what was sent");
	c->seed += 8 * depth;
	return true;
}

static uint64_t drive(int ep, struct connection *c, int depth, int64_t until)
{
	struct epoll_event ev[CONNECTIONS];
	uint64_t messages = 0;

	while (bench_now() < until) {
		int n = epoll_wait(ep, ev, CONNECTIONS, 1000);

		for (int i = 0; i < n; i++) {
			struct connection *one = &c[ev[i].data.u32];

			if (!take_replies(one, depth))
				continue;
			messages += depth;
			send_batch(one, depth);
		}
	}
	return messages;
}

void bench_load_echo(pid_t server, unsigned short port, int depth)
{
	static struct connection c[CONNECTIONS];
	int ep = epoll_create1(EPOLL_CLOEXEC);
	int64_t wall, cpu, span = 2 * bench_seconds() * 1e9;
	uint64_t messages;
	clockid_t id;

	bench_check(clock_getcpuclockid(server, &id) == 0, "the server has a CPU clock");
	for (uint32_t i = 0; i < CONNECTIONS; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.u32 = i };

		c[i].fd = connect_to(port);
		bench_check(c[i].fd >= 0, "the server takes connections");
		c[i].seed = (uint64_t)i << 32;
		epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &e);
		send_batch(&c[i], depth);
	}
	drive(ep, c, depth, bench_now() + 50000000);
	cpu = clock_of(id);
	wall = bench_now();
	messages = drive(ep, c, depth, wall + span);
	cpu = clock_of(id) - cpu;
	wall = bench_now() - wall;
	for (int i = 0; i < CONNECTIONS; i++)
		close(c[i].fd);
	close(ep);
	bench_figure(depth > 1 ? "echo_16" : "echo", (double)cpu / messages, "ns", (double)cpu / messages);
	bench_figure(depth > 1 ? "echo_16_rate" : "echo_rate", messages * 1e9 / wall, "/s", 0);
}

/* One run of redis-benchmark; returns requests per second, and the server's CPU time per request. */
static double redis_benchmark(unsigned short port, int depth, const char *test, long requests, clockid_t id, double *cpu)
{
	char command[256], line[256], name[32] = "";
	int64_t before = clock_of(id);
	double rate = 0, r;
	FILE *f;

	snprintf(command, sizeof(command), "exec redis-benchmark -h 127.0.0.1 -p %u -c 50 -P %d -n %ld -d 64 -r 10000 "
		 "-t %s --csv 2>/dev/null", port, depth, requests, test);
	f = popen(command, "re");
	bench_check(f, "redis-benchmark can be started");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "\"%31[^\"]\",\"%lf\"", name, &r) == 2 && !strcasecmp(name, test))
			rate = r;
	}
	bench_check(pclose(f) == 0 && rate > 0, "redis-benchmark gives a figure");
	*cpu = (double)(clock_of(id) - before) / requests;
	return rate;
}

void bench_load_kv(pid_t server, unsigned short port, int depth)
{
	static const char *const tests[] = { "set", "get" };
	clockid_t id;
	int fd;

	bench_check(clock_getcpuclockid(server, &id) == 0, "the server has a CPU clock");
	fd = connect_to(port);
	bench_check(fd >= 0, "the server takes connections");
	close(fd);
	for (int i = 0; i < 2; i++) {
		double cpu, rate = redis_benchmark(port, depth, tests[i], 2000 * depth, id, &cpu);
		char name[32];

		/* As many as take the time a run should last. */
		rate = redis_benchmark(port, depth, tests[i], rate * bench_seconds() * 2 + 1000, id, &cpu);
		snprintf(name, sizeof(name), "kv_%s%s", tests[i], depth > 1 ? "_16" : "");
		bench_figure(name, cpu, "ns", cpu);
		snprintf(name, sizeof(name), "kv_%s%s_rate", tests[i], depth > 1 ? "_16" : "");
		bench_figure(name, rate, "/s", 0);
	}
}

unsigned short bench_free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(a);

	bench_check(!bind(fd, (struct sockaddr *)&a, sizeof(a)) && !getsockname(fd, (struct sockaddr *)&a, &len),
		    "there is a free port");
	close(fd);
	return ntohs(a.sin_port);
}
