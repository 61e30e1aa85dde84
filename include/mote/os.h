/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/os.h: OS processes and POSIX signals.
 */
#ifndef MOTE_OS_H
#define MOTE_OS_H

#include <mote/base.h>
#include <sys/types.h>

MOTE_BEGIN_DECLS

struct mote_child {
	pid_t pid;
	int pidfd;		/* the caller's, closed by mote_child_wait or at exit */
};

/*
 * Starts a program: argv[0] is looked up in PATH; envp NULL: ours. fds, if not NULL, become its 0, 1 and 2 (-1:
 * /dev/null); they stay the caller's. Signals and mask are reset to their defaults. 0 or -errno, with *child
 * filled. The calling process should wait for it: one that ends first leaves its child running, to be reaped
 * by the runtime.
 */
MOTE_API int mote_child_start(struct mote_child *child, const char *const argv[], const char *const envp[],
			      const int fds[3]);

/* Waits for its end. 0, with *status as wait(2) has it, or -errno. */
MOTE_API int mote_child_wait(struct mote_child *child, int *status, mote_deadline deadline);

/* Sends it a signal, by its pidfd: never to a stranger. 0 or -errno. */
MOTE_API int mote_child_kill(struct mote_child *child, int sig);

struct mote_os_signal {
	int signo;
	pid_t sender;
	uid_t uid;
	int value;
};

/*
 * Has POSIX signals of this number delivered to the caller as MOTE_MSG_OS_SIGNAL messages until it ends or
 * passes false. Several processes may ask for one signal: all get it. While anybody asks, its default action does
 * not happen. 0; -EINVAL (SIGKILL, SIGSTOP, or a fault: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT; the library's own:
 * SIGURG), -ENOMEM.
 */
MOTE_API int mote_os_signal(int signo, bool deliver);

MOTE_END_DECLS

#endif
