// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * A child is started on a thread, since posix_spawn() waits for the exec. Its pidfd is in the table of descriptors
 * like any other; when that is closed before the child was waited for, it becomes an orphan of the runtime's.
 */
#include "io/child.h"
#include "io/backend.h"
#include "io/fd.h"
#include "io/request.h"

#include <errno.h>
#include <fcntl.h>
#include <mote/os.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

extern char **environ;

static struct lock orphans_lock;
static int orphans;			/* descriptor + 1, linked by next and previous; 0: none */

struct start {
	struct task *owner;
	struct mote_child *child;
	const char *const *argv, *const *envp;
	const int *fds;
	const char *cwd;
};

static int start_actions(posix_spawn_file_actions_t *actions, const int *fds, int copies[3])
{
	int err;

	for (int i = 0; fds && i < 3; i++) {
		if (fds[i] < 0) {
			err = posix_spawn_file_actions_addopen(actions, i, "/dev/null", O_RDWR, 0);
		} else {
			/* A copy above 2: what one dup2() overwrites may be what the next one needs. */
			copies[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
			if (copies[i] < 0)
				return -errno;
			err = posix_spawn_file_actions_adddup2(actions, copies[i], i);
		}
		if (err)
			return -err;
	}
	return 0;
}

static int start_attributes(posix_spawnattr_t *attr)
{
	sigset_t all, none;

	sigfillset(&all);
	sigemptyset(&none);
	posix_spawnattr_setsigdefault(attr, &all);
	posix_spawnattr_setsigmask(attr, &none);
	return -posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

static int64_t start_child(void *arg)
{
	struct start *st = arg;
	posix_spawn_file_actions_t actions;
	int copies[3] = { -1, -1, -1 };
	posix_spawnattr_t attr;
	int err, pidfd;
	pid_t pid;

	if (posix_spawnattr_init(&attr))
		return -ENOMEM;
	if (posix_spawn_file_actions_init(&actions)) {
		posix_spawnattr_destroy(&attr);
		return -ENOMEM;
	}
	err = start_attributes(&attr);
	if (!err)
		err = start_actions(&actions, st->fds, copies);
	if (!err && st->cwd)
		err = -posix_spawn_file_actions_addchdir_np(&actions, st->cwd);
	if (!err)
		err = -posix_spawnp(&pid, st->argv[0], &actions, &attr, (char *const *)st->argv,
				    st->envp ? (char *const *)st->envp : environ);
	for (int i = 0; i < 3; i++)
		if (copies[i] >= 0)
			close(copies[i]);
	posix_spawn_file_actions_destroy(&actions);
	posix_spawnattr_destroy(&attr);
	if (err)
		return err;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);	/* always O_CLOEXEC; the zombie keeps pid ours */
	err = pidfd < 0 ? -errno : fd_open(pidfd, st->owner, FD_CHILD);
	if (err < 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return err;
	}
	st->child->pid = pid;
	st->child->pidfd = pidfd;
	return 0;
}

int child_start_in(struct mote_child *child, const char *const argv[], const char *const envp[], const int fds[3],
		   const char *cwd)
{
	struct start st = { .child = child, .argv = argv, .envp = envp, .fds = fds, .cwd = cwd };
	int64_t result = 0;
	struct call c;
	int err;

	err = call_begin(&c, "mote_child_start", CALL_UNLIMITED);
	st.owner = c.task;
	if (!err)
		err = call_blocking(&c, start_child, &st, &result);
	return (int)call_end(&c, err ? err : result);
}

int mote_child_start(struct mote_child *child, const char *const argv[], const char *const envp[], const int fds[3])
{
	return child_start_in(child, argv, envp, fds, NULL);
}

/* True: the child has ended, and *status is what wait(2) would give. */
static int child_status(int pidfd, int *status)
{
	siginfo_t si = { .si_pid = 0 };

	if (waitid((idtype_t)P_PIDFD, pidfd, &si, WEXITED | WNOHANG) < 0)
		return -errno;
	if (!si.si_pid)
		return -EAGAIN;
	if (si.si_code == CLD_EXITED)
		*status = (si.si_status & 0xff) << 8;
	else
		*status = si.si_status | (si.si_code == CLD_DUMPED ? 0x80 : 0);
	return 0;
}

int mote_child_wait(struct mote_child *child, int *status, mote_deadline deadline)
{
	int ignored, fd = child->pidfd;
	struct call c;
	int err;

	err = call_begin_fd(&c, "mote_child_wait", fd, FD_READ, deadline);
	while (!err) {
		err = child_status(fd, status ? status : &ignored);
		if (err != -EAGAIN)
			break;
		err = call_poll(&c, POLLIN);
		if (err > 0)
			err = 0;
	}
	if (!err) {
		lock_take(&c.f->lock);
		c.f->flags &= ~FD_CHILD;
		fd_shut(c.f);
		lock_drop(&c.f->lock);
		child->pidfd = -1;
	}
	return (int)call_end(&c, err);
}

int mote_child_kill(struct mote_child *child, int sig)
{
	struct call c;
	int err;

	err = call_begin_fd(&c, "mote_child_kill", child->pidfd, FD_SHARED, MOTE_NOW);
	if (!err && syscall(SYS_pidfd_send_signal, child->pidfd, sig, NULL, 0) < 0)
		err = -errno;
	return (int)call_end(&c, err);
}

static void orphan_work(struct scheduler *s, struct work *w)
{
	struct fd *f = container_of(w, struct fd, work);

	(void)s;
	lock_take(&f->lock);
	f->posted = false;
	lock_drop(&f->lock);
	child_reap(f);
}

void child_orphan(struct fd *f)
{
	int fd = fd_number(f);

	lock_take(&orphans_lock);
	f->previous = 0;
	f->next = orphans;
	if (f->next)
		fd_entry(f->next - 1)->previous = fd + 1;
	orphans = fd + 1;
	lock_drop(&orphans_lock);

	/* A ring is needed, and the caller may be a foreign thread. */
	f->work.run = orphan_work;
	scheduler_post_work(scheduler_at(0), &f->work);
}

static void orphan_unlink(struct fd *f)
{
	lock_take(&orphans_lock);
	if (f->previous)
		fd_entry(f->previous - 1)->next = f->next;
	else
		orphans = f->next;
	if (f->next)
		fd_entry(f->next - 1)->previous = f->previous;
	lock_drop(&orphans_lock);
}

static void orphan_close(struct fd *f)
{
	orphan_unlink(f);
	lock_take(&f->lock);
	if (io_backend->forget_fd)
		io_backend->forget_fd(f);
	lock_drop(&f->lock);
	fd_finish(f);
}

void child_reap(struct fd *f)
{
	int status, err;

	do {
		if (child_status(fd_number(f), &status) != -EAGAIN) {
			orphan_close(f);
			return;
		}
		lock_take(&f->lock);
		err = fd_watch(f, POLLIN);
		lock_drop(&f->lock);
	} while (err > 0);
	if (err)		/* no memory to wait with: its zombie stays until this OS process ends */
		orphan_close(f);
}

void children_forget(void)
{
	lock_drop(&orphans_lock);
	orphans = 0;
}

void children_stop(void)
{
	while (orphans) {
		struct fd *f = fd_entry(orphans - 1);

		orphan_unlink(f);
		fd_finish(f);
	}
}
