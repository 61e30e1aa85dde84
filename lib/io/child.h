/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * io/child.h: children whose owner ended without waiting: the runtime does.
 */
#ifndef IO_CHILD_H
#define IO_CHILD_H

struct fd;
struct mote_child;

/* f is a pidfd, closed but for that (FD_REAPING): on any thread. */
void child_orphan(struct fd *f);

/* Reaps and closes f if its child has ended, or waits on. */
void child_reap(struct fd *f);

/* Lets go of those that still run when the runtime stops. */
void children_stop(void);
void children_forget(void);		/* in a forked child */

/* mote_child_start() in another directory; NULL: ours. A relative argv[0] with a slash is looked up there. */
int child_start_in(struct mote_child *child, const char *const argv[], const char *const envp[], const int fds[3],
		   const char *cwd);

#endif
