// SPDX-License-Identifier: MIT OR GPL-2.0
/* Where io_uring is forbidden, epoll does the work; who insists on io_uring is told. */
#include "io_helpers.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define INSIST	100			/* exit statuses of the child */
#define NO_FILTER 101

static bool is(const char *name)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	return EXPECT(mote_runtime_info(&info) == 0) && !strcmp(info.io, name);
}

static void uses_epoll(void)
{
	int ends[2];
	char c;

	EXPECT(is("epoll"));
	if (!io_pair(ends))
		return;
	EXPECT_EQ(mote_net_send(ends[0], "x", 1, MOTE_FOREVER), 1);
	EXPECT_EQ(mote_net_recv(ends[1], &c, 1, mote_in_ms(10000)), 1);
}

static void uses_io_uring(void)
{
	EXPECT(is("io_uring"));
}

static bool forbid_io_uring(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) && !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static void uses_epoll_main(void *arg)
{
	(void)arg;
	uses_epoll();
}

static void nothing(void *arg)
{
	(void)arg;
}

/* In a child, since a filter is for good. */
static void forbidden(void)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		if (!forbid_io_uring())
			_exit(NO_FILTER);
		setenv("MOTE_IO", "io_uring", 1);
		if (mote_run(nothing, NULL, NULL) != -EPERM)
			_exit(INSIST);
		unsetenv("MOTE_IO");
		_exit(mote_run(uses_epoll_main, NULL, NULL) || atomic_load(&selftest_failed));
	}
	EXPECT_EQ(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == NO_FILTER)
		selftest_skip("no seccomp here");
	else
		EXPECT_EQ(status, 0);
}

int main(void)
{
	io_watchdog(60);
	setenv("MOTE_IO", "epoll", 1);
	selftest_process("MOTE_IO=epoll", uses_epoll);
	selftest_case("io_uring forbidden by a filter", forbidden);
	if (!syscall(SYS_io_uring_setup, 0, NULL) || errno != EPERM) {
		setenv("MOTE_IO", "io_uring", 1);
		selftest_process("MOTE_IO=io_uring", uses_io_uring);
	}
	return selftest_done();
}
