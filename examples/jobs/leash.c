/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * A program that is run for a server must not outlive it: the next server would run the job beside it. So the server
 * starts this one, which starts the program, in a process group of its own, and kills all of the group when the
 * server is gone, however that ended. It passes SIGTERM on; SIGQUIT it turns into SIGKILL for all. Its end is that of
 * the program.
 */
#include "jobs.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static _Noreturn void run(char **argv, pid_t leash)
{
	sigset_t none;

	/* Should the leash be killed: at least the program itself goes with it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	if (getppid() != leash)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp(argv[0], argv);
	fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

static _Noreturn void end_as(int status)
{
	sigset_t none;

	if (WIFSIGNALED(status)) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		signal(WTERMSIG(status), SIG_DFL);
		raise(WTERMSIG(status));
	}
	_exit(WEXITSTATUS(status));
}

/* argv: the server's OS process, the job's number, the attempt's, the command. */
int leash_main(char **argv)
{
	int server = syscall(SYS_pidfd_open, atoi(argv[0]), 0), signals, status;
	struct pollfd fds[2];
	sigset_t set;
	pid_t self = getpid(), pid;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	fcntl(server, F_SETFD, FD_CLOEXEC);
	if (server < 0 || signals < 0 || getppid() != atoi(argv[0]))
		return 126;
	setenv("JOB_ID", argv[1], 1);
	setenv("JOB_ATTEMPT", argv[2], 1);
	pid = fork();
	if (!pid)
		run(argv + 3, self);
	if (pid < 0)
		return 126;
	setpgid(pid, pid);
	fds[0] = (struct pollfd){ .fd = server, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = signals, .events = POLLIN };
	for (;;) {
		struct signalfd_siginfo si;

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents) {
			kill(-pid, SIGKILL);
			fds[0].fd = -1;
		}
		if (!fds[1].revents || read(signals, &si, sizeof(si)) != sizeof(si))
			continue;
		if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGQUIT)
			kill(-pid, si.ssi_signo == SIGTERM ? SIGTERM : SIGKILL);
		if (waitpid(pid, &status, WNOHANG) == pid)
			break;
	}
	/* What it left running goes, too: the job is over. */
	kill(-pid, SIGKILL);
	end_as(status);
}
