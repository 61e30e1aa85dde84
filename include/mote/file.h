/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/file.h: files. Only the calling process waits.
 */
#ifndef MOTE_FILE_H
#define MOTE_FILE_H

#include <mote/base.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

MOTE_BEGIN_DECLS

struct statx;	/* <sys/stat.h> with _GNU_SOURCE */

/* openat(AT_FDCWD) with O_CLOEXEC; the caller owns the result. Returns fd or -errno. */
MOTE_API int mote_file_open(const char *path, int flags, mode_t mode);

/*
 * pread and pwrite; offset -1: at the file's own position. Read returns bytes, 0 at the end, -errno; write all
 * of it or -errno (part may be written). Also for pipes and terminals, with offset -1. Cancelled by an exit signal
 * or the deadline only as far as the kernel can (a disk write under way is awaited).
 */
MOTE_API ssize_t mote_file_read(int fd, void *buf, size_t size, int64_t offset, mote_deadline deadline);
MOTE_API ssize_t mote_file_write(int fd, const void *buf, size_t size, int64_t offset, mote_deadline deadline);
MOTE_API ssize_t mote_file_writev(int fd, const struct iovec *iov, int n, int64_t offset, mote_deadline deadline);

/* fsync, or fdatasync with data_only. */
MOTE_API int mote_file_sync(int fd, bool data_only);

/* statx by path (links followed), or of fd when path is NULL. */
MOTE_API int mote_file_stat(int fd, const char *path, struct statx *st);

MOTE_API int mote_file_truncate(int fd, int64_t size);
MOTE_API int mote_file_rename(const char *from, const char *to);
MOTE_API int mote_file_unlink(const char *path);
MOTE_API int mote_file_mkdir(const char *path, mode_t mode);

MOTE_END_DECLS

#endif
