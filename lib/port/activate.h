/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/activate.h: the module's news that a thread has blocked in the kernel. A thread registers itself with
 * two words: where it is, and whether anybody wants to know; another one sleeps until a registered thread
 * blocks while the words say so. Only a hint: by the time somebody acts on it the thread may run again.
 */
#ifndef PORT_ACTIVATE_H
#define PORT_ACTIVATE_H

#include <stdbool.h>
#include <stdint.h>

#define ACTIVATE_NOBODY	UINT32_MAX

/* False: no module, one that can not do it, or $MOTE_PORT forbids it. After port_start(). */
bool activate_open(void);
void activate_close(void);		/* nobody sleeps in activate_wait() */
void activate_forget(void);		/* in a forked child */

/*
 * The calling thread is `id` from now on, until it ends or calls activate_unregister(). News of it come when
 * it blocks while *mode is mode_user and *want is not 0. 0 or -errno.
 */
int activate_register(uint32_t id, const _Atomic uint32_t *mode, uint32_t mode_user, const _Atomic uint32_t *want);
void activate_unregister(void);

/* Sleeps. 0: *id blocks, or ACTIVATE_NOBODY: activate_wake(). -ETIMEDOUT. Other -errno: there will be no more news. */
int activate_wait(int64_t deadline_ns, uint32_t *id);

/* One thread's activate_wait() returns, perhaps the next. */
void activate_wake(void);

#endif
