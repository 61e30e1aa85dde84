/* SPDX-License-Identifier: MIT OR GPL-2.0 */
/*
 * port/errand.h: how a port's thread, which may wait for files and peers, is asked to do something by those
 * that may not. One thread at a time.
 */
#ifndef PORT_ERRAND_H
#define PORT_ERRAND_H

#include "port/carrier.h"

int errands_start(void);			/* 0 or -errno */
void errands_stop(void);			/* after the thread; connects that are left are freed */
void errands_forget(void);			/* in a forked child */

/* port_ops.errand and .held. Any thread. */
void errand_give(struct errand *e);
void errands_hold(void);

/* By the thread, which waits until the descriptor is readable. */
int errands_fd(void);
struct errand *errands_take(void);		/* oldest first, by next */
bool errands_held(void);			/* since the last call */

/* Has the thread look around. */
void errands_poke(void);

#endif
