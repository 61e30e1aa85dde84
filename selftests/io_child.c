// SPDX-License-Identifier: MIT OR GPL-2.0
/* Children: their output, their end, and that nobody stays a zombie. */
#include "io_helpers.h"

#include <fcntl.h>
#include <sys/wait.h>

static void statuses(void)
{
	static const char *const ok[] = { "true", NULL }, *const seven[] = { "sh", "-c", "exit 7", NULL };
	static const char *const missing[] = { "mote-no-such-program", NULL };
	static const char *const forever[] = { "sleep", "1000", NULL };
	struct mote_child child;
	int status = -1, before = io_count_fds();

	EXPECT_EQ(mote_child_start(&child, ok, NULL, NULL), 0);
	EXPECT(child.pid > 0 && child.pidfd >= 0);
	EXPECT(mote_pid_equal(mote_fd_owner(child.pidfd), mote_self()));
	EXPECT_EQ(mote_child_wait(&child, &status, mote_in_ms(10000)), 0);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);

	EXPECT_EQ(mote_child_start(&child, seven, NULL, NULL), 0);
	EXPECT_EQ(mote_child_wait(&child, &status, MOTE_FOREVER), 0);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 7);

	EXPECT_EQ(mote_child_start(&child, missing, NULL, NULL), -ENOENT);

	EXPECT_EQ(mote_child_start(&child, forever, NULL, NULL), 0);
	EXPECT_EQ(mote_child_wait(&child, &status, mote_in_ms(20)), -ETIMEDOUT);
	EXPECT_EQ(mote_child_wait(&child, &status, MOTE_NOW), -ETIMEDOUT);
	EXPECT_EQ(mote_child_kill(&child, SIGKILL), 0);
	EXPECT_EQ(mote_child_wait(&child, &status, mote_in_ms(10000)), 0);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	EXPECT_EQ(mote_child_kill(&child, SIGKILL), -EBADF);
	EXPECT_EQ(io_count_fds(), before);
}

/* Standard streams, crossed over; environment; nothing else inherited. */
static void streams(void)
{
	static const char *const argv[] = { "sh", "-c", "cat; echo \"$WORD\" >&2; ls /proc/self/fd | wc -l", NULL };
	static const char *const envp[] = { "WORD=said", "PATH=/usr/bin:/bin", NULL };
	int in[2], out[2], err[2], status;
	struct mote_child child;
	char buf[100] = "";
	ssize_t n, got = 0;

	EXPECT_EQ(pipe2(in, O_CLOEXEC), 0);
	EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
	EXPECT_EQ(pipe2(err, O_CLOEXEC), 0);
	EXPECT_EQ(mote_file_write(in[1], "heard\n", 6, -1, MOTE_FOREVER), 6);
	EXPECT_EQ(mote_child_start(&child, argv, envp, (int[]){ in[0], out[1], err[1] }), 0);
	close(in[0]);
	close(in[1]);
	close(out[1]);
	close(err[1]);
	while ((n = mote_file_read(out[0], buf + got, sizeof(buf) - 1 - got, -1, mote_in_ms(10000))) > 0)
		got += n;
	EXPECT(!strcmp(buf, "heard\n4\n"));	/* 0, 1, 2, and ls's own */
	n = mote_file_read(err[0], buf, sizeof(buf), -1, mote_in_ms(10000));
	EXPECT(n == 5 && !memcmp(buf, "said\n", 5));
	EXPECT_EQ(mote_child_wait(&child, &status, MOTE_FOREVER), 0);
	EXPECT_EQ(status, 0);
	close(out[0]);
	close(err[0]);
}

/* dup2() of 1 to 0 and 0 to 1: neither may overwrite the other. */
static void swapped(void)
{
	static const char *const argv[] = { "sh", "-c", "echo to-zero >&0; echo to-one", NULL };
	int a[2], b[2], saved[2], status;
	struct mote_child child;
	char buf[32] = "";

	EXPECT_EQ(pipe2(a, O_CLOEXEC), 0);
	EXPECT_EQ(pipe2(b, O_CLOEXEC), 0);
	fflush(stdout);
	saved[0] = fcntl(0, F_DUPFD_CLOEXEC, 3);
	saved[1] = fcntl(1, F_DUPFD_CLOEXEC, 3);
	dup3(a[1], 0, O_CLOEXEC);
	dup3(b[1], 1, O_CLOEXEC);
	status = mote_child_start(&child, argv, NULL, (int[]){ 1, 0, -1 });
	dup2(saved[0], 0);
	dup2(saved[1], 1);
	close(saved[0]);
	close(saved[1]);
	EXPECT_EQ(status, 0);
	EXPECT_EQ(mote_child_wait(&child, &status, mote_in_ms(10000)), 0);
	EXPECT_EQ(mote_file_read(b[0], buf, sizeof(buf), -1, mote_in_ms(5000)), 8);
	EXPECT(!memcmp(buf, "to-zero\n", 8));
	EXPECT_EQ(mote_file_read(a[0], buf, sizeof(buf), -1, mote_in_ms(5000)), 7);
	EXPECT(!memcmp(buf, "to-one\n", 7));
	for (int i = 0; i < 2; i++) {
		close(a[i]);
		close(b[i]);
	}
}

static void blocked_signals(void)
{
	static const char *const argv[] = { "sh", "-c", "grep -E 'SigBlk|SigIgn' /proc/self/status", NULL };
	struct mote_child child;
	unsigned long long blocked = 1, ignored = 1;
	char buf[200] = "";
	int out[2], status;

	EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
	signal(SIGUSR1, SIG_IGN);
	EXPECT_EQ(mote_child_start(&child, argv, NULL, (int[]){ -1, out[1], -1 }), 0);
	signal(SIGUSR1, SIG_DFL);
	EXPECT_EQ(mote_child_wait(&child, &status, mote_in_ms(10000)), 0);
	EXPECT(mote_file_read(out[0], buf, sizeof(buf) - 1, -1, mote_in_ms(5000)) > 0);
	EXPECT_EQ(sscanf(buf, "SigBlk: %llx SigIgn: %llx", &blocked, &ignored), 2);
	EXPECT_EQ(blocked, 0);
	EXPECT_EQ(ignored & ~0x180000000, 0);	/* 32 and 33 are the C library's own */
	close(out[0]);
	close(out[1]);
}

static _Atomic pid_t orphan;

static void leaves_its_child(void *arg)
{
	static const char *const argv[] = { "sleep", "0.1", NULL };
	struct mote_child child;

	(void)arg;
	EXPECT_EQ(mote_child_start(&child, argv, NULL, NULL), 0);
	atomic_store(&orphan, child.pid);
}

static void orphans(void)
{
	int before = io_count_fds();
	char path[64], state;
	mote_ref mon;

	mote_spawn_monitor(leaves_its_child, NULL, &mon);
	io_await_down(mon);
	snprintf(path, sizeof(path), "/proc/%d/stat", atomic_load(&orphan));
	EXPECT_EQ(access(path, F_OK), 0);	/* it goes on */
	for (int i = 0; i < 500 && !access(path, F_OK); i++)
		mote_sleep(mote_in_ms(10));
	if (access(path, F_OK) == 0) {
		FILE *f = fopen(path, "r");

		if (f && fscanf(f, "%*d %*s %c", &state) == 1)
			printf("# still there, in state %c\n", state);
		IO_FAIL("the runtime reaps an orphan");
	}
	EXPECT_EQ(io_count_fds(), before);
}

int main(void)
{
	io_watchdog(60);
	io_close_inherited();
	selftest_process("exit statuses, kill, deadlines", statuses);
	selftest_process("standard streams and environment", streams);
	selftest_process("standard streams swapped", swapped);
	selftest_process("signals are as a program expects them", blocked_signals);
	selftest_process("a child whose owner ends first is reaped", orphans);
	return selftest_done();
}
