// SPDX-License-Identifier: MIT OR GPL-2.0
/*
 * Files. With io_uring each call is one operation in the ring. Without, what can be waited for by epoll (pipes,
 * terminals) is, and what can't goes to a thread.
 */
#include "io/backend.h"
#include "io/fd.h"
#include "io/net.h"
#include "io/request.h"

#include <errno.h>
#include <liburing.h>
#include <limits.h>
#include <mote/file.h>
#include <mote/net.h>
#include <stdio.h>
#include <unistd.h>

#define PIECES_MAX	1024
#define TRANSFER_MAX	0x7ffff000	/* what the kernel moves in one call */

enum job_kind { JOB_OPEN, JOB_READ, JOB_WRITE, JOB_SYNC, JOB_STAT, JOB_TRUNCATE, JOB_RENAME, JOB_UNLINK, JOB_MKDIR };

/* One file operation: what the ring is told, or a thread does. */
struct job {
	enum job_kind kind;
	int fd;
	const char *path, *to;
	void *buf;			/* struct iovec if there are several, struct statx */
	size_t size;			/* bytes, or pieces */
	int64_t offset;
	int flags;
	mode_t mode;
	struct task *owner;
};

static bool job_vectored(const struct job *j)
{
	return j->kind == JOB_WRITE && j->flags;
}

static int64_t job_transfer(const struct job *j)
{
	if (j->kind == JOB_READ)
		return j->offset < 0 ? read(j->fd, j->buf, j->size) : pread(j->fd, j->buf, j->size, j->offset);
	if (job_vectored(j))
		return j->offset < 0 ? writev(j->fd, j->buf, (int)j->size) :
				       pwritev(j->fd, j->buf, (int)j->size, j->offset);
	return j->offset < 0 ? write(j->fd, j->buf, j->size) : pwrite(j->fd, j->buf, j->size, j->offset);
}

static int64_t job_run(void *arg)
{
	struct job *j = arg;
	int64_t n = -1;

	switch (j->kind) {
	case JOB_OPEN:
		n = open(j->path, j->flags, j->mode);
		break;
	case JOB_READ:
	case JOB_WRITE:
		n = job_transfer(j);
		break;
	case JOB_SYNC:
		n = j->flags ? fdatasync(j->fd) : fsync(j->fd);
		break;
	case JOB_STAT:
		n = statx(j->fd, j->path, j->flags, STATX_BASIC_STATS | STATX_BTIME, j->buf);
		break;
	case JOB_TRUNCATE:
		n = ftruncate(j->fd, j->offset);
		break;
	case JOB_RENAME:
		n = rename(j->path, j->to);
		break;
	case JOB_UNLINK:
		n = unlink(j->path);
		break;
	case JOB_MKDIR:
		n = mkdir(j->path, j->mode);
		break;
	}
	if (n < 0)
		return -errno;
	/* Before the owner can be told to end: what it has opened must be known to be its. */
	return j->kind == JOB_OPEN ? fd_open((int)n, j->owner, 0) : n;
}

static int64_t job_thread(struct call *c, struct job *j)
{
	int64_t result = 0;
	int err = call_blocking(c, job_run, j, &result);

	return err ? err : result;
}

static int64_t job_ring(struct call *c, struct job *j)
{
	struct io_uring_sqe sqe;
	int64_t n;

	switch (j->kind) {
	case JOB_OPEN:
		io_uring_prep_openat(&sqe, AT_FDCWD, j->path, j->flags, j->mode);
		break;
	case JOB_READ:
		io_uring_prep_read(&sqe, j->fd, j->buf, j->size, j->offset);
		break;
	case JOB_WRITE:
		if (job_vectored(j))
			io_uring_prep_writev(&sqe, j->fd, j->buf, j->size, j->offset);
		else
			io_uring_prep_write(&sqe, j->fd, j->buf, j->size, j->offset);
		break;
	case JOB_SYNC:
		io_uring_prep_fsync(&sqe, j->fd, j->flags ? IORING_FSYNC_DATASYNC : 0);
		break;
	case JOB_STAT:
		io_uring_prep_statx(&sqe, j->fd, j->path, j->flags, STATX_BASIC_STATS | STATX_BTIME, j->buf);
		break;
	case JOB_TRUNCATE:		/* the ring has it only since Linux 6.9 */
		return job_thread(c, j);
	case JOB_RENAME:
		io_uring_prep_rename(&sqe, j->path, j->to);
		break;
	case JOB_UNLINK:
		io_uring_prep_unlink(&sqe, j->path, 0);
		break;
	case JOB_MKDIR:
		io_uring_prep_mkdir(&sqe, j->path, j->mode);
		break;
	}
	n = call_submit(c, &sqe);
	return n >= 0 && j->kind == JOB_OPEN ? fd_open((int)n, c->task, 0) : n;
}

static int64_t job_do(struct call *c, struct job *j)
{
	j->owner = c->task;
	return io_backend->submit ? job_ring(c, j) : job_thread(c, j);
}

/* Without a ring: a transfer on what epoll can wait for. Somebody may have set O_NONBLOCK, or not. */
static int64_t transfer_pollable(struct call *c, struct job *j)
{
	int events = j->kind == JOB_READ ? POLLIN : POLLOUT;
	int flags = fcntl(j->fd, F_GETFL), err;
	struct job piece = *j;

	if (flags < 0)
		return -errno;
	/* Room for PIPE_BUF bytes is what POLLOUT promises: more would block the thread. */
	if (j->kind == JOB_WRITE && !(flags & O_NONBLOCK)) {
		if (job_vectored(j)) {
			const struct iovec *iov = j->buf;

			piece.buf = iov->iov_base;
			piece.size = iov->iov_len;
			piece.flags = 0;
		}
		if (piece.size > PIPE_BUF)
			piece.size = PIPE_BUF;
	}
	for (;;) {
		struct pollfd p = { .fd = j->fd, .events = events };
		int64_t n;

		if (poll(&p, 1, 0) > 0) {
			n = job_transfer(&piece);
			if (n >= 0)
				return n;
			if (errno != EAGAIN && errno != EINTR)
				return -errno;
			if (errno == EINTR)
				continue;
		}
		err = call_poll(c, events);
		if (err < 0)
			return err;
	}
}

static int64_t transfer(struct call *c, struct job *j)
{
	struct stat st;

	if (io_backend->submit) {
		for (;;) {
			int64_t n = job_do(c, j);

			/* O_NONBLOCK: the ring does not wait. */
			if (n != -EAGAIN || !(fcntl(j->fd, F_GETFL) & O_NONBLOCK))
				return n;
			n = call_poll(c, j->kind == JOB_READ ? POLLIN : POLLOUT);
			if (n < 0)
				return n;
		}
	}
	if (fstat(j->fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
		return job_do(c, j);
	return transfer_pollable(c, j);
}

int mote_file_open(const char *path, int flags, mode_t mode)
{
	struct job j = { .kind = JOB_OPEN, .path = path, .flags = flags | O_CLOEXEC, .mode = mode };
	struct call c;
	int64_t n = call_begin(&c, "mote_file_open", CALL_UNLIMITED);

	if (!n)
		n = job_do(&c, &j);
	return (int)call_end(&c, n);
}

ssize_t mote_file_read(int fd, void *buf, size_t size, int64_t offset, mote_deadline deadline)
{
	struct job j = { .kind = JOB_READ, .fd = fd, .buf = buf, .offset = offset };
	struct call c;
	int64_t n;

	if (fd_is(fd_entry(fd), FD_STREAM))	/* part of it may have been received ahead */
		return offset == -1 ? mote_net_recv(fd, buf, size, deadline) : -ESPIPE;
	j.size = size < TRANSFER_MAX ? size : TRANSFER_MAX;
	n = call_begin_fd(&c, "mote_file_read", fd, FD_SHARED, deadline);
	if (!n)
		n = transfer(&c, &j);
	return call_end(&c, n);
}

static int64_t write_all(struct call *c, const struct iovec *iov, int n, int64_t offset)
{
	struct vector v = { iov, n, 0 };
	int64_t total = 0, done;

	for (vector_skip(&v); v.n;) {
		struct job j = { .kind = JOB_WRITE, .fd = c->fd, .offset = offset < 0 ? -1 : offset + total };

		if (v.n == 1 || v.offset) {
			j.buf = (char *)v.iov->iov_base + v.offset;
			j.size = v.iov->iov_len - v.offset;
			if (j.size > TRANSFER_MAX)
				j.size = TRANSFER_MAX;
		} else {
			j.buf = (void *)v.iov;
			j.size = v.n;
			j.flags = 1;
		}
		done = transfer(c, &j);
		if (done < 0)
			return done;
		total += done;
		vector_advance(&v, done);
	}
	return total;
}

ssize_t mote_file_write(int fd, const void *buf, size_t size, int64_t offset, mote_deadline deadline)
{
	struct iovec iov = { .iov_base = (void *)buf, .iov_len = size };

	return mote_file_writev(fd, &iov, 1, offset, deadline);
}

ssize_t mote_file_writev(int fd, const struct iovec *iov, int n, int64_t offset, mote_deadline deadline)
{
	struct call c;
	int64_t done;

	if (fd_is(fd_entry(fd), FD_STREAM))
		return offset == -1 ? mote_net_sendv(fd, iov, n, deadline) : -ESPIPE;
	done = call_begin_fd(&c, "mote_file_write", fd, FD_SHARED, deadline);
	if (!done)
		done = n < 0 || n > PIECES_MAX ? -EINVAL : write_all(&c, iov, n, offset);
	return call_end(&c, done);
}

static int fd_job(const char *name, struct job *j)
{
	struct call c;
	int64_t n = call_begin_fd(&c, name, j->fd, FD_SHARED, CALL_UNLIMITED);

	if (!n)
		n = job_do(&c, j);
	return (int)call_end(&c, n);
}

static int path_job(const char *name, struct job *j)
{
	struct call c;
	int64_t n = call_begin(&c, name, CALL_UNLIMITED);

	if (!n)
		n = job_do(&c, j);
	return (int)call_end(&c, n);
}

int mote_file_sync(int fd, bool data_only)
{
	struct job j = { .kind = JOB_SYNC, .fd = fd, .flags = data_only };

	return fd_job("mote_file_sync", &j);
}

int mote_file_stat(int fd, const char *path, struct statx *st)
{
	struct job j = { .kind = JOB_STAT, .fd = AT_FDCWD, .path = path, .buf = st };

	if (path)
		return path_job("mote_file_stat", &j);
	j.fd = fd;
	j.path = "";
	j.flags = AT_EMPTY_PATH;
	return fd_job("mote_file_stat", &j);
}

int mote_file_truncate(int fd, int64_t size)
{
	struct job j = { .kind = JOB_TRUNCATE, .fd = fd, .offset = size };

	return fd_job("mote_file_truncate", &j);
}

int mote_file_rename(const char *from, const char *to)
{
	struct job j = { .kind = JOB_RENAME, .path = from, .to = to };

	return path_job("mote_file_rename", &j);
}

int mote_file_unlink(const char *path)
{
	struct job j = { .kind = JOB_UNLINK, .path = path };

	return path_job("mote_file_unlink", &j);
}

int mote_file_mkdir(const char *path, mode_t mode)
{
	struct job j = { .kind = JOB_MKDIR, .path = path, .mode = mode };

	return path_job("mote_file_mkdir", &j);
}
