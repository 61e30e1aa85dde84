/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * jobs_run.h: databases, servers and command lines of the example jobs, to be tested from outside. What a job's program
 * does shows in files that it appends to.
 */
#ifndef JOBS_RUN_H
#define JOBS_RUN_H

#include "kv_client.h"

struct jobs {
	char dir[200];
	const char *program;		/* built with the steps, or not */
	char environment[300];		/* of commands and servers that are started: NAME=VALUE ... */
	int status;			/* of the last command */
	char said[65536];
};

static inline const char *jobs_program(void)
{
	return build_path("examples/jobs");
}

static inline const char *jobs_steps_program(void)
{
	return build_path("selftests/jobs/steps");
}

static inline void jobs_init(struct jobs *j, const char *name, const char *program)
{
	memset(j, 0, sizeof(*j));
	snprintf(j->dir, sizeof(j->dir), "%s", temp_subdir(name));
	j->program = program;
}

/* Runs "jobs FORMAT" by a shell, in which $D is the directory and $D/db the database; gives what it said. */
static inline const char *jobs_vrun(struct jobs *j, const char *format, va_list ap)
{
	char command[4096];
	int n = snprintf(command, sizeof(command), "exec 2>&1; D=%s; %s %s ", j->dir, j->environment, j->program);
	FILE *file;
	size_t size;

	vsnprintf(command + n, sizeof(command) - n, format, ap);
	file = popen(command, "re");
	size = fread(j->said, 1, sizeof(j->said) - 1, file);
	j->said[size] = 0;
	j->status = pclose(file);
	j->status = WIFEXITED(j->status) ? WEXITSTATUS(j->status) : 1000;
	return j->said;
}

__attribute__((format(printf, 2, 3)))
static inline const char *jobs_run(struct jobs *j, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	jobs_vrun(j, format, ap);
	va_end(ap);
	return j->said;
}

/* The number of the job that was made; 0: none was. */
__attribute__((format(printf, 2, 3)))
static inline long jobs_enqueue(struct jobs *j, const char *format, ...)
{
	char all[2048] = "enqueue $D/db ";
	va_list ap;

	va_start(ap, format);
	vsnprintf(all + strlen(all), sizeof(all) - strlen(all), format, ap);
	va_end(ap);
	jobs_run(j, "%s", all);
	return j->status ? 0 : atol(j->said);
}

/* Asks it to stop, and waits; its exit status. */
static inline int jobs_stop(pid_t pid)
{
	int status;

	kill(pid, SIGTERM);
	if (!child_ended(pid, &status, 20000)) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		return -1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline void jobs_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static inline int count_lines(const char *text, const char *with)
{
	int n = 0;

	for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
		n += memmem(line, end - line, with, strlen(with)) != NULL;
	return n;
}

/* What the jobs' programs have written to a file; "" if there is none. */
static inline const char *jobs_file(struct jobs *j, const char *name)
{
	char path[256];
	size_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", j->dir, name);
	file = fopen(path, "r");
	if (file) {
		size = fread(j->said, 1, sizeof(j->said) - 1, file);
		fclose(file);
	}
	j->said[size] = 0;
	return j->said;
}

/* Returns when it takes jobs, and signals; or has ended. */
static inline pid_t jobs_serve(struct jobs *j, const char *options)
{
	char command[1024], log[256];
	char *argv[] = { "/bin/sh", "-c", command, NULL };
	int before = count_lines(jobs_file(j, "log"), ": queue ");
	siginfo_t si = { .si_pid = 0 };
	pid_t pid;

	snprintf(command, sizeof(command), "%s exec %s serve %s/db --poll 20ms %s", j->environment, j->program,
		 j->dir, options);
	snprintf(log, sizeof(log), "%s/log", j->dir);
	pid = child_start(argv, log);
	for (int tries = 0; tries < 2000 && !si.si_pid && count_lines(jobs_file(j, "log"), ": queue ") == before; tries++) {
		sleep_ms(10);
		waitid(P_PID, pid, &si, WEXITED | WNOHANG | WNOWAIT);
	}
	return pid;
}

static inline int jobs_lines(struct jobs *j, const char *name)
{
	return count_lines(jobs_file(j, name), "");
}

static inline int jobs_in(struct jobs *j, const char *state)
{
	jobs_run(j, "list $D/db %s", state);
	return j->status ? 0 : count_lines(j->said, "");
}

/* Waits, for 20 s at most. */
#define WAIT_FOR(condition) ({									\
	double limit_ = seconds_now() + 20;							\
	while (!(condition) && seconds_now() < limit_)						\
		sleep_ms(20);									\
	seconds_now() < limit_ || (condition);							\
})

/* Shows what the server said, if this was wrong. */
#define EXPECT_LOG(j, condition) do {								\
	if (!EXPECT(condition)) {								\
		char path_[256];								\
		snprintf(path_, sizeof(path_), "%s/log", (j)->dir);				\
		file_show(path_);								\
	}											\
} while (0)

#endif
