/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * limits.h: what the tests of limits share. A limit is set for the OS process, so most cases run in a child of their
 * own, which reports by its exit status and by the lines that it prints.
 */
#ifndef LIMITS_H
#define LIMITS_H

#include "proc.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define CHILD_SECONDS 60

/* Runs fn in a forked child: what fails, or is skipped, there is the case's. Returns the status of waitpid(). */
static inline int limits_child_status(void (*fn)(void))
{
	int why[2], status = 0;
	ssize_t n;
	pid_t pid;

	fflush(stdout);
	if (!EXPECT(pipe2(why, O_CLOEXEC) == 0))
		return 0;
	pid = fork();
	if (!pid) {
		close(why[0]);
		alarm(CHILD_SECONDS);
		fn();
		fflush(stdout);
		if (selftest_why[0] && write(why[1], selftest_why, strlen(selftest_why)) < 0)
			_exit(2);
		_exit(atomic_load(&selftest_failed) ? 1 : 0);
	}
	close(why[1]);
	n = read(why[0], selftest_why, sizeof(selftest_why) - 1);
	selftest_why[n > 0 ? n : 0] = 0;
	close(why[0]);
	EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid);
	return status;
}

static inline void limits_child(void (*fn)(void))
{
	int status = limits_child_status(fn);

	EXPECT(WIFEXITED(status));
	if (WIFSIGNALED(status))
		test_note("the child was ended by signal %d", WTERMSIG(status));
	else
		EXPECT_EQ(WEXITSTATUS(status), 0);
}

/* As the first process of a runtime, in a child: which mote_run() has to end well. */
static void (*limits_main)(void);
static const struct mote_opts *limits_opts;

static inline void limits_run(void)
{
	int err = mote_run(selftest_main, &limits_main, limits_opts);

	EXPECT_EQ(err, 0);
}

static inline void limits_child_process(void (*fn)(void), const struct mote_opts *opts)
{
	limits_main = fn;
	limits_opts = opts;
	limits_child(limits_run);
}

/* Sets the soft limit; RLIM_INFINITY: as high as it goes. */
static inline void limit_set(int resource, rlim_t soft)
{
	struct rlimit limit;

	getrlimit(resource, &limit);
	limit.rlim_cur = soft < limit.rlim_max ? soft : limit.rlim_max;
	EXPECT_EQ(setrlimit(resource, &limit), 0);
}

/* A figure in kB of /proc/self/status, in bytes. */
static inline size_t status_bytes(const char *name)
{
	char line[256];
	size_t kb = 0;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ':')
			kb = strtoull(line + strlen(name) + 1, NULL, 10);
	}
	if (f)
		fclose(f);
	return kb << 10;
}

static inline uint64_t processes_alive(void)
{
	struct mote_runtime_info info = { .size = sizeof(info) };

	mote_runtime_info(&info);
	return info.processes;
}

/* Waits until so many are left; a crowd that was killed takes its time. */
static inline bool processes_come_to(uint64_t n)
{
	mote_deadline late = PATIENCE;

	while (processes_alive() != n) {
		if (mote_now().ns > late.ns)
			return false;
		mote_sleep(mote_in_ms(1));
	}
	return true;
}

/* The text of an error reason holds this. */
static inline bool reason_says(const struct mote_reason *reason, const char *text)
{
	char all[512];

	mote_reason_format(reason, all, sizeof(all));
	if (strstr(all, text))
		return true;
	test_note("the reason is \"%s\"", all);
	return false;
}

#endif
