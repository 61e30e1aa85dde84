/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * mote/name.h: names of processes. A name is 1 to 255 bytes of UTF-8. One process per name, and any number of
 * names per process (Erlang: one). A dying process loses its names before anybody learns of its death.
 */
#ifndef MOTE_NAME_H
#define MOTE_NAME_H

#include <mote/base.h>

MOTE_BEGIN_DECLS

/* Registers pid. 0; -EEXIST (taken), -ESRCH (no such process), -EINVAL (the name), -ENOMEM. Any thread. */
MOTE_API int mote_register(const char *name, mote_pid pid);

/* 0, or -ENOENT. Any thread. */
MOTE_API int mote_unregister(const char *name);

/* Whose name it is; MOTE_NOBODY: nobody's. Any thread. */
MOTE_API mote_pid mote_whereis(const char *name);

/*
 * Calls visit with each name, in no order, until it returns false. Names that come or go meanwhile may be
 * missed. visit must not call mote. Any thread.
 */
MOTE_API void mote_name_each(bool (*visit)(const char *name, mote_pid pid, void *arg), void *arg);

MOTE_END_DECLS

#endif
