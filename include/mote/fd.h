/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/fd.h: descriptors have an owner. What mote opens belongs to the process that opened it and is closed at
 * its exit, after every request on it was cancelled and awaited, before links and monitors are told.
 * Any process may use a descriptor; only the owner's end closes it. All are O_CLOEXEC.
 * A descriptor is known by its number, and the kernel gives the number of a closed one to the next: a process that uses
 * what another owns has to have ended, or to have stopped using it, before the owner closes it.
 *
 * Errors common to all I/O: -EBADF, -ETIMEDOUT, -ECANCELED (closed meanwhile; or in a cleanup), -ENOMEM, and
 * what the kernel says.
 */
#ifndef MOTE_FD_H
#define MOTE_FD_H

#include <mote/base.h>

MOTE_BEGIN_DECLS

/*
 * Closes. Requests of other processes on it end with -ECANCELED first; returns when the descriptor is really
 * gone. 0 or -EBADF.
 */
MOTE_API int mote_fd_close(int fd);

/*
 * Hands the caller's fd to another process; if that one is dead, or dies before it knows, fd is closed. Data that
 * was received but not read goes along. The receiver learns of it by a message of its own, sent after.
 * 0; -EPERM (not the caller's), -EBADF, -EREMOTE (a process of another node), -ENOMEM.
 */
MOTE_API int mote_fd_give(int fd, mote_pid to);

/* Makes a descriptor from elsewhere (dup, pipe, systemd) the caller's. 0; -EBADF, -EBUSY (has an owner). */
MOTE_API int mote_fd_adopt(int fd);

/* Takes fd out of mote's hands: it is not closed at exit. Nothing may be under way on it, nothing received and
 * unread: else -EBUSY. 0; -EPERM, -EBADF. */
MOTE_API int mote_fd_release(int fd);

/* The owner, or MOTE_NOBODY. Any thread. */
MOTE_API mote_pid mote_fd_owner(int fd);

enum mote_fd_events { MOTE_FD_IN = 1, MOTE_FD_OUT = 4 };	/* POLLIN, POLLOUT */

/* Waits until fd is readable or writable, for descriptors that other libraries read. Returns events, -errno. */
MOTE_API int mote_fd_wait(int fd, int events, mote_deadline deadline);

MOTE_END_DECLS

#endif
