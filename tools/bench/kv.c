/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/* kv: redis-benchmark against examples/kv, without persistence: server CPU time per request. */
#include "bench.h"

#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define SKIP 4

/* The server that was built beside us: build/tools/mote-bench, build/examples/kv. */
static void find_kv(char *path, size_t size)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	bench_check(n > 0, "/proc/self/exe can be read");
	self[n] = '\0';
	snprintf(path, size, "%s/../examples/kv", dirname(self));
}

static void skip(const char *why)
{
	fprintf(stderr, "mote-bench: kv skipped: %s\n", why);
	_exit(SKIP);
}

static void kv(void)
{
	unsigned short port = bench_free_port();
	char path[4200], text[16];
	pid_t server;

	find_kv(path, sizeof(path));
	if (access(path, X_OK))
		skip("examples/kv is not built");
	if (system("redis-benchmark --version >/dev/null 2>&1"))
		skip("redis-benchmark is not installed");
	snprintf(text, sizeof(text), "%u", port);
	server = fork();
	bench_check(server >= 0, "fork");
	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		bench_pin(bench_server_cpu(), bench_server_cpu());
		if (!freopen("/dev/null", "w", stdout))
			_exit(1);
		execl(path, "kv", "--port", text, "--bind", "127.0.0.1", "--appendonly", "no", (char *)NULL);
		_exit(127);
	}
	bench_pin(bench_load_cpu(), bench_load_cpu());
	bench_load_kv(server, port, 1);
	bench_load_kv(server, port, 16);
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
}

const struct bench bench_kv[] = {
	{ .name = "kv", .host = kv },
	{ 0 },
};
